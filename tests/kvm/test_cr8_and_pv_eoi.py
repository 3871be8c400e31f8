"""CR8 and its intercept; PV EOI."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvmmodel import MsrError
from kvmmodel.events import Cr8Intercept, HandlerEnter, KvmEoi, KvmPvEoi, PvEoiArm, PvEoiByGuest, PvEoiDisarm, VmExit
from kvmmodel.guest.program import parse
from kvmmodel.silicon.vmcb import SVM_EXIT_WRITE_CR8
from tests.machines import MSI, PV_EOI_EN, RELEASES, SERIES, TPR, booted, events, irr, msr

CELL = 0x5000


def intercepted(made):
    return SVM_EXIT_WRITE_CR8 in made.vcpus[0].kvm_vcpu.vmcb.intercepts


@pytest.mark.parametrize("kernel", RELEASES)
@pytest.mark.parametrize("cr8", [0, 4, 5, 15])
def test_cr8_is_intercepted_only_while_it_masks_the_highest_request(kernel, cr8):
    """recorded 6.12.95, 7.3.4 (S10): tpr >= irr, as classes."""
    made = booted(kernel=kernel)
    guest = made.vcpus[0].guest
    guest.cli()
    guest.write_cr8(cr8)
    guest.wrmsr(0x83F, 0x51)
    made.run()
    assert intercepted(made) is (cr8 >= 5)
    guest.write_cr8(0)
    assert ("write_cr8" in [e.reason for e in events(made, VmExit)]) is (cr8 >= 5)
    guest.sti()
    made.run()
    assert [e.vector for e in events(made, HandlerEnter)] == [0x51]
    assert not intercepted(made)


def test_ppr_plays_no_part_in_the_intercept():
    """source 6.18.35: a vector held back by one in service, not by TPR, needs no intercept."""
    made = booted()
    made.world.idt[0] = {0x61: "none"}
    guest = made.vcpus[0].guest
    guest.wrmsr(0x83F, 0x61)
    guest.wrmsr(0x83F, 0x51)
    made.run()
    assert (irr(made), made.vcpus[0].lapic.isr, intercepted(made)) == ([{0x51}], 1 << 0x61, False)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 255), st.sampled_from((*SERIES, "5.10.13")))
def test_the_low_nibble_of_tpr_is_gone_after_an_exit(tpr, kernel):
    """recorded 5.10.262 to 7.3.4 (scripts): the exit that writes it keeps it, the next one syncs CR8 << 4.

    source 5.10.13 kvm_lapic_set_tpr: there bit 2 stays.
    """
    made = booted(kernel=kernel, trace=False)
    vcpu = made.vcpus[0]
    vcpu.guest.wrmsr(msr(TPR), tpr)
    assert vcpu.lapic.tpr == tpr
    vcpu.guest.rdmsr(0x802)
    assert vcpu.lapic.tpr == tpr & (0xF4 if kernel == "5.10.13" else 0xF0)
    assert vcpu.guest.read_cr8() == tpr >> 4


@pytest.mark.parametrize(
    ("kernel", "tpr"), [("6.1.187", 0x35), ("6.12.95", 0x35), ("6.12", 0x30), ("7.3", 0x30), ("6.18", 0x35)]
)
def test_a_needless_intercept_keeps_the_low_nibble(kernel, tpr):
    """recorded: 38 scripts differ between 6.12.95 and 7.3.4 by this; 6.12.114 drops the intercept when PPR is updated.

    An intercept is on, an INIT-like reset left it so: TPR 0x35 is written while nothing waits.
    """
    made = booted(kernel=kernel, trace=False)
    vcpu = made.vcpus[0]
    vcpu.kvm_vcpu.vmcb.intercepts.add(SVM_EXIT_WRITE_CR8)
    vcpu.guest.wrmsr(msr(TPR), 0x35)
    vcpu.guest.rdmsr(0x802)
    assert vcpu.lapic.tpr == tpr


@given(st.integers(0, 15))
def test_cr8_and_tpr_are_one(cr8):
    """A guest's CR8 shows in the page after an exit, a TPR write shows in CR8."""
    made = booted(trace=False)
    vcpu = made.vcpus[0]
    vcpu.guest.write_cr8(cr8)
    assert vcpu.guest.rdmsr(msr(TPR)) == cr8 << 4
    vcpu.guest.wrmsr(msr(TPR), (15 - cr8) << 4)
    assert vcpu.guest.read_cr8() == 15 - cr8


def _page(vcpu, tpr):
    """The vCPU's page with this TPR, the APIC disabled by SVR, and 0x41 in IRR."""
    page = bytearray(vcpu.get_lapic())
    page[0x80], page[0xF0:0xF4] = tpr, (0xFF).to_bytes(4, "little")
    page[0x200:0x280] = bytes(0x80)
    page[0x220] = 1 << 1
    return bytes(page)


@pytest.mark.parametrize(
    ("kernel", "stays"), [("6.1", False), ("6.12.95", False), ("6.12", True), ("6.18", False), ("7.2", True)]
)
def test_set_lapic_computes_the_intercept_itself_until_the_ppr_does(kernel, stays):
    """source 6.1.176, 6.12.117, 7.2.13: apic_update_ppr asks for an event pass; a disabled APIC gets none."""
    made = booted(kernel=kernel)
    vcpu = made.vcpus[0]
    vcpu.guest.cli()
    for tpr in (0x50, 0):
        vcpu.set_lapic(_page(vcpu, tpr))
        vcpu.guest.vmmcall(1, 0, 0, 0, 0)
    assert intercepted(made) is stays


def test_a_linux_guest_never_has_its_cr8_intercepted():
    """source 6.18: TPR stays 0x10, vectors are 0x20 and up."""
    made = booted(2)
    for vector in (0x20, 0x30, 0xEC, 0xFB):
        made.vcpus[0].guest.wrmsr(0x830, 1 << 32 | vector)
        made.run()
    assert [e for e in events(made, Cr8Intercept) if e.on] == []
    assert made.vcpus[1].guest.handled == dict.fromkeys((0x20, 0x30, 0xEC, 0xFB), 1)


def with_pv_eoi(kernel="6.18"):
    made = booted(kernel=kernel)
    made.world.idt[0] = dict.fromkeys(range(0x20, 0x100), "pv_eoi")
    made.world.pv_eoi[0] = CELL
    made.vcpus[0].guest.wrmsr(PV_EOI_EN, CELL | 1)
    return made


@pytest.mark.parametrize("kernel", RELEASES)
def test_pv_eoi_saves_the_exit(kernel):
    """recorded 6.12.95, 7.3.4 (S16): armed on the very first injection; the next exit carries the EOI out."""
    made = with_pv_eoi(kernel)
    guest = made.vcpus[0].guest
    guest.wrmsr(0x83F, 0x81)
    made.run()
    assert (len(events(made, PvEoiArm)), len(events(made, PvEoiByGuest)), events(made, KvmEoi)) == (1, 1, [])
    assert made.vcpus[0].lapic.isr == 1 << 0x81
    guest.rdmsr(0x802)
    assert made.vcpus[0].lapic.isr == 0
    assert [e.kind for e in events(made, KvmEoi, KvmPvEoi)] == ["kvm_eoi", "kvm_pv_eoi"]


def test_pv_eoi_is_not_armed_while_another_vector_waits():
    """source: irr_pending."""
    made = with_pv_eoi()
    guest = made.vcpus[0].guest
    guest.cli()
    guest.wrmsr(0x83F, 0x41)
    guest.wrmsr(0x83F, 0x51)
    guest.sti()
    made.run()
    assert [e.vector for e in events(made, PvEoiArm)] == [0x41]
    assert [e.vector for e in events(made, HandlerEnter)] == [0x51, 0x41]


def test_an_exit_in_the_handler_takes_pv_eoi_back():
    """source: sync_from_vapic at every exit that leaves the loop; the EOI then is the register's."""
    made = with_pv_eoi()
    made.world.bodies["slow"] = (parse("rdmsr 0x802"), parse("pv_eoi"))
    made.world.idt[0][0x81] = "slow"
    made.vcpus[0].guest.wrmsr(0x83F, 0x81)
    made.run()
    assert (len(events(made, PvEoiArm)), len(events(made, PvEoiDisarm)), events(made, PvEoiByGuest)) == (1, 1, [])
    assert (len(events(made, KvmEoi)), events(made, KvmPvEoi), made.vcpus[0].lapic.isr) == (1, [], 0)


def test_pv_eoi_is_not_armed_again_for_the_outer_handler():
    """source: an EOI purges highest_isr_cache, so only an injection arms."""
    made = with_pv_eoi()
    made.world.idt[0][0x41] = "none"
    guest = made.vcpus[0].guest
    guest.wrmsr(0x83F, 0x41)
    guest.wrmsr(0x83F, 0x51)
    guest.rdmsr(0x802)
    made.run()
    assert [e.vector for e in events(made, PvEoiArm)] == [0x41, 0x51]
    assert made.vcpus[0].lapic.isr == 1 << 0x41


def test_after_it_is_switched_off_the_register_is_used():
    made = with_pv_eoi()
    guest = made.vcpus[0].guest
    guest.wrmsr(PV_EOI_EN, 0)
    made.world.pv_eoi.clear()
    made.signal_msi(MSI, 0x81)
    made.run()
    assert (events(made, PvEoiArm), len(events(made, KvmEoi)), made.vcpus[0].lapic.isr) == ([], 1, 0)


@pytest.mark.parametrize("value", [CELL | 3, CELL | 2])
def test_the_cell_is_aligned(value):
    """source 6.18.35: bit 1 is reserved."""
    with pytest.raises(MsrError):
        booted().vcpus[0].set_msr(PV_EOI_EN, value)


@pytest.mark.parametrize(("broken", "arrived"), [((), [0x51]), (("no-cr8-intercept",), [])])
def test_without_the_intercept_a_vector_waits_for_the_next_exit(broken, arrived):
    """It is late, not lost: any exit copies V_TPR back, and the PPR's fall asks for an event pass."""
    made = booted(broken=broken)
    guest = made.vcpus[0].guest
    guest.write_cr8(5)
    guest.wrmsr(0x83F, 0x51)
    guest.write_cr8(0)
    made.run()
    assert [e.vector for e in events(made, HandlerEnter)] == arrived
    guest.rdmsr(0x802)
    made.run()
    assert [e.vector for e in events(made, HandlerEnter)] == [0x51]
