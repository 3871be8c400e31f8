"""The two exits that AVIC has for a guest's accesses: by which functions KVM takes them, and what if it did not."""

import pytest

from kvmmodel import GuestFault
from kvmmodel.events import KvmApic, KvmAvicUnacceleratedAccess, KvmMsr, TimerArmed
from tests.kvm.svm.avic.avic_vms import MSI, NOACCEL, TMICT, block, clear, exits, handled, icr, vm, write

TMCCT = 0x390


@pytest.mark.parametrize("kernel", ["6.1", "6.6", "6.12", "6.18"])
def test_a_fault_of_an_msr_goes_through_the_instruction_emulator(kernel):
    """Catches a shortcut to the handler of MSR exits, whose stack is another."""
    made = vm(1, kernel)
    made.vcpus[0].guest.rdmsr(0x839)
    assert exits(made) == [NOACCEL]
    found = [r for r in made.trace.records if isinstance(r.event, KvmApic)]
    names = [function.name for function in found[-1].stack]
    assert "emulator_get_msr_with_filter" in names
    assert "kvm_emulate_rdmsr" not in names


@pytest.mark.parametrize("kernel", ["6.1", "6.18"])
def test_a_write_that_kvm_refuses_there_is_a_gp_and_stays_at_the_instruction(kernel):
    """On a processor that exits there. Catches RIP moved behind an instruction that faulted."""
    made = vm(1, kernel, host={"open_points": {"x2avic_readonly_write": "table"}})
    with pytest.raises(GuestFault):
        made.vcpus[0].guest.wrmsr(0x80A, 0x50)
    assert exits(made) == [NOACCEL]
    assert [e.exception for e in made.trace.events if isinstance(e, KvmMsr)] == [True]


def test_ignored_exits_lose_a_wake_up():
    made = vm(2)
    made.leave_out("no-avic-exits")
    block(made, 1)
    icr(made, 0x43, 1)
    assert handled(made) == [{}, {}]
    assert made.vcpus[1].lapic.irr >> 0x43 & 1


def test_an_ignored_trap_leaves_the_value_in_the_page_and_a_fault_comes_again():
    made = vm(1, "6.12")
    made.leave_out("no-avic-exits")
    write(made, 0, TMICT, 500)
    assert int.from_bytes(made.vcpus[0].get_lapic()[TMICT : TMICT + 4], "little") == 500
    assert not [e for e in made.trace.events if isinstance(e, TimerArmed)]
    clear(made)
    made.execute(0, ("rdmsr 0x839",))
    made.run(limit_ns=100_000)
    assert len(exits(made)) > 2
    assert {e.offset for e in made.trace.events if isinstance(e, KvmAvicUnacceleratedAccess)} == {TMCCT}


def test_an_ignored_level_eoi_leaves_the_vector_in_service():
    made = vm(1)
    made.leave_out("no-avic-exits")
    made.signal_msi(MSI, 0xC061)
    made.run()
    assert handled(made) == [{0x61: 1}]
    assert made.vcpus[0].lapic.isr >> 0x61 & 1


def test_a_rule_that_does_not_exist_cannot_be_left_out():
    with pytest.raises(ValueError, match="cannot break no-such-rule"):
        vm(1).leave_out("no-such-rule")
