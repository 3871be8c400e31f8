"""What is handled before the host takes interrupts again, by release and with or without NRIPS."""

import pytest

from kvmmodel.events import KvmApic, KvmApicAcceptIrq, KvmApicIpi, KvmEntry, SetMode, VmExit
from tests.machines import MSI, SERIES, TSC_DEADLINE, booted, events, frames

FAST = "svm_exit_handlers_fastpath"


def sends(kernel, icr, cpu="zen4"):
    made = booted(2, kernel, cpu=cpu)
    made.vcpus[0].guest.wrmsr(0x830, icr)
    made.run()
    return made


@pytest.mark.parametrize("kernel", SERIES)
@pytest.mark.parametrize("cpu", ["zen4", "tcg"])
def test_the_icr_fastpath_needs_the_next_rip(kernel, cpu):
    """source 6.12.117; 6.6.9 lacks the check. recorded 7.3.4: without NRIPS the ordinary way."""
    made = sends(kernel, 1 << 32 | 0x43, cpu)
    fast = cpu == "zen4" or kernel == "6.6"
    assert [FAST in stack for stack in frames(made, KvmApicAcceptIrq)] == [fast]


@pytest.mark.parametrize(
    ("icr", "old", "new"),
    [
        (1 << 32 | 0x43, True, True),
        (2 << 32 | 0x843, False, True),
        (0x40043, False, True),
        (0xC0043, False, False),
        (0xFFFFFFFF << 32 | 0x43, False, False),
        (1 << 32 | 0x4400, False, True),
        (2 << 32 | 0x943, False, True),
    ],
)
@pytest.mark.parametrize("kernel", SERIES)
def test_destinations_of_the_icr_fastpath(kernel, icr, old, new):
    """source: physical, fixed, no shorthand; since 6.18 all that the map resolves."""
    stacks = frames(sends(kernel, icr), KvmApicAcceptIrq)
    assert stacks
    assert all((FAST in stack) is (new if kernel in ("6.18", "7.2", "7.3") else old) for stack in stacks)


@pytest.mark.parametrize("kernel", SERIES)
@pytest.mark.parametrize("cpu", ["zen4", "tcg"])
def test_order_of_ipi_and_accept(kernel, cpu):
    """recorded: 6.12.95 ipi then accept, 7.3.4 with NRIPS accept then ipi."""
    kinds = [e.kind for e in events(sends(kernel, 1 << 32 | 0x43, cpu), KvmApicIpi, KvmApicAcceptIrq)]
    flipped = cpu == "zen4" and kernel in ("6.18", "7.2", "7.3")
    assert kinds == (["kvm_apic_accept_irq", "kvm_apic_ipi"] if flipped else ["kvm_apic_ipi", "kvm_apic_accept_irq"])


@pytest.mark.parametrize(
    ("kernel", "reenters"),
    [("5.10", False), ("5.15", False), ("6.1", False), ("6.6", False), ("6.12", True), ("6.18", True), ("7.3", True)],
)
def test_after_an_icr_write_the_vcpu_enters_again_at_once(kernel, reenters):
    """source 6.12.117: REENTER_GUEST; before: EXIT_HANDLED, through vcpu_enter_guest again."""
    made = sends(kernel, 1 << 32 | 0x43)
    modes = [e for e in events(made, SetMode) if e.vcpu_id == 0]
    assert (modes == []) is reenters
    assert len([e for e in events(made, KvmEntry) if e.vcpu_id == 0]) == 1


@pytest.mark.parametrize("kernel", SERIES)
def test_a_self_ipi_leaves_the_entry_loop(kernel):
    """source: the loop breaks on KVM_REQ_EVENT, or the interrupt would wait."""
    made = booted(kernel=kernel)
    made.vcpus[0].guest.wrmsr(0x830, 0x43)
    made.run()
    assert made.vcpus[0].guest.handled == {0x43: 1}
    assert [e.mode for e in events(made, SetMode)][-3:] != []


@pytest.mark.parametrize(("kernel", "fast"), [("5.10", False), ("6.12", False), ("6.18", True), ("7.3", True)])
def test_the_tsc_deadline_fastpath(kernel, fast):
    """source 6.18.35: no hypervisor timer needed any more."""
    made = booted(kernel=kernel)
    guest = made.vcpus[0].guest
    guest.wrmsr(0x832, 0x400E1)
    before = len(events(made, SetMode))
    guest.wrmsr(TSC_DEADLINE, made.machine.now + 100_000)
    assert (len(events(made, SetMode)) == before) is fast
    made.run()
    assert guest.handled == {0xE1: 1}


@pytest.mark.parametrize("kernel", SERIES)
def test_hlt_with_an_interrupt_waiting_does_not_sleep(kernel):
    """source: 6.12 and later stay runnable, before vcpu_block found it."""
    made = booted(kernel=kernel)
    made.signal_msi(MSI, 0x41)
    made.vcpus[0].guest.hlt()
    made.run()
    assert made.vcpus[0].guest.handled == {0x41: 1}
    assert "interrupt" in [e.reason for e in events(made, VmExit)]


@pytest.mark.parametrize("kernel", ["5.10", "5.15", "6.1", "6.18"])
def test_an_icr_write_without_the_fast_path_is_two_register_writes_up_to_5_15(kernel):
    """source 5.10.13: ICR2, then ICR, and only then the IPI; later one 64-bit write, traced after the IPI."""
    made = sends(kernel, 1 << 32 | 0x41, "tcg")
    told = [e.reg if isinstance(e, KvmApic) else "ipi" for e in events(made, KvmApic, KvmApicIpi)][:3]
    assert told == ([0x310, 0x300, "ipi"] if kernel in ("5.10", "5.15") else ["ipi", 0x300, 0xB0])
