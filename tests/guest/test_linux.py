"""What a Linux guest's APIC driver executes, seen as exits and handlers."""

import pytest

from kvmmodel.events import HandlerEnter, VmExit
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
