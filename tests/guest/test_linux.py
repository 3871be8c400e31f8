"""What a Linux guest's APIC driver executes, seen as exits and handlers."""

import pytest

from kvmmodel.events import HandlerEnter, Instruction, KvmHypercall, VmExit
from tests.machines import SERIES, booted, events

SENDS = {  # the target, and what sending costs the sender in exits: x2APIC, xAPIC
    "send_ipi 1 0x41": (1, 1, 3),
    "send_ipi_self 0x41": (0, 1, 2),
    "send_ipi_allbutself 0x41": (1, 1, 2),
    "send_ipi 1 2": (1, 1, 3),
}


@pytest.mark.parametrize("kernel", SERIES)
@pytest.mark.parametrize("x2apic", [True, False], ids=["x2APIC", "xAPIC"])
@pytest.mark.parametrize("line", SENDS)
def test_an_ipi_arrives_where_it_should_and_an_xapic_is_asked_first_whether_it_is_idle(line, x2apic, kernel):
    """source 6.18: __default_send_IPI_dest_field, __default_send_IPI_shortcut, x2apic_send_IPI."""
    made = booted(2, kernel, x2apic=x2apic)
    made.execute(0, (line,))
    made.run()
    target, *costs = SENDS[line]
    handled = [(e.vcpu_id, e.vector) for e in events(made, HandlerEnter)]
    assert handled == [(target, int(line.split()[-1], 0))]
    exits = [e.reason for e in events(made, VmExit) if e.vcpu_id == 0 and e.reason in ("msr", "npf")]
    assert len(exits) == costs[not x2apic] + (target == 0)  # the EOI is one more


def test_an_nmi_is_sent_for_vector_2():
    made = booted(2)
    made.execute(0, ("send_ipi 1 2",))
    made.run()
    assert made.vcpus[1].guest.handled == {2: 1}
    assert made.vcpus[1].lapic.irr == 0


@pytest.mark.parametrize("x2apic", [True, False], ids=["x2APIC", "xAPIC"])
def test_the_pv_eoi_hook_saves_the_exit_in_both_modes(x2apic):
    """recorded 6.12.95, 7.3.4 (S16): it tests and clears the bit, and only if it was clear comes the native EOI."""
    made = booted(1, x2apic=x2apic)
    made.world.idt[0] = {0x41: "pv_eoi", 0x42: "eoi"}
    guest = made.vcpus[0].guest
    guest.wrmsr(0x4B564D04, 0x5001)
    made.world.pv_eoi[0] = 0x5000
    exits = []
    for vector in (0x41, 0x42):
        made.trace.clear(made.machine.now)
        made.execute(0, (f"send_ipi_self {vector:#x}",))
        made.run()
        exits.append(sum(e.reason in ("msr", "npf") for e in events(made, VmExit)))
    assert guest.handled == {0x41: 1, 0x42: 1}
    assert exits[1] == exits[0] + 1


TO_MANY = {  # the exits of sending to vCPUs 1, 2 and 3: x2APIC, xAPIC
    "send_ipi_mask": (["msr"] * 3, ["npf"] * 9),
    "pv_send_ipi": (["hypercall"], ["hypercall"]),
}


@pytest.mark.parametrize("kernel", SERIES)
@pytest.mark.parametrize("x2apic", [True, False], ids=["x2APIC", "xAPIC"])
@pytest.mark.parametrize("command", TO_MANY)
def test_a_mask_is_sent_one_by_one_or_by_one_hypercall(command, x2apic, kernel):
    """source 6.18: __x2apic_send_IPI_mask, default_send_IPI_mask_sequence_phys, __send_ipi_mask."""
    made = booted(4, kernel, x2apic=x2apic)
    made.execute(0, (f"{command} 0b1110 0x41",))
    made.run()
    assert [vcpu.guest.handled for vcpu in made.vcpus] == [{}, {0x41: 1}, {0x41: 1}, {0x41: 1}]
    assert [e.reason for e in events(made, VmExit) if e.vcpu_id == 0] == TO_MANY[command][not x2apic]


def test_the_cluster_driver_writes_the_icr_once_for_16_ids():
    """source 6.18: x2apic_cluster.c."""
    made = booted(3, ids=[0, 1, 20])
    made.execute(0, ("send_ipi_mask_cluster 0x100002 0x41",))
    made.run()
    written = [e.text for e in events(made, Instruction) if e.vcpu_id == 0]
    assert written == ["WRMSR 0x830 = 0x200000841", "WRMSR 0x830 = 0x1001000000841"]
    assert [vcpu.guest.handled for vcpu in made.vcpus] == [{}, {0x41: 1}, {0x41: 1}]


def test_pv_ipi_needs_a_hypercall_more_for_ids_that_are_128_apart():
    """source 6.1.176 to 7.3.4: __send_ipi_mask, KVM_IPI_CLUSTER_SIZE."""
    made = booted(4, ids=[0, 3, 130, 131])
    made.execute(0, (f"pv_send_ipi {1 << 3 | 1 << 130 | 1 << 131:#x} 2",))
    made.run()
    called = [(e.a0, e.a1, e.a2, e.a3) for e in events(made, KvmHypercall)]
    assert called == [(1, 1 << 63, 3, 0x400), (1, 0, 131, 0x400)]
    assert [vcpu.guest.handled for vcpu in made.vcpus] == [{}, {2: 1}, {2: 1}, {2: 1}]


@pytest.mark.parametrize("flag", ["cli", "sti"])
def test_if_is_afterwards_as_it_was_before(flag):
    made = booted(2)
    made.execute(0, (flag, "send_ipi_mask 2 0x41", "pv_send_ipi 2 0x42", "nop"))
    made.run()
    assert made.vcpus[0].inside.vmcb.rflags_if is (flag == "sti")


@pytest.mark.parametrize("flag", ["cli", "sti"])
def test_a_lock_s_waiter_halts_with_if_as_it_is_until_the_cell_changes(flag):
    """source 6.1.176 to 7.3.4: kvm_wait. With IF set an interrupt ends the halt, and the waiter halts again."""
    made = booted(2)
    made.execute(1, (flag, "pv_wait lock 0"))
    made.execute(0, ("spin 20000", "send_ipi 1 0x41", "spin 100000", "set lock 1", "pv_kick 1"))
    made.run()
    assert made.vcpus[1].guest.handled == ({0x41: 1} if flag == "sti" else {})
    halts = [e.text for e in events(made, Instruction) if e.vcpu_id == 1].count("HLT")
    assert halts == (2 if flag == "sti" else 1)
    assert made.world.waits == {}
