"""How a VM's AVIC goes off and on: who is asked, who lags behind, the xAPIC's page, and what a trace shows."""

import pytest

from kvmmodel import Host
from kvmmodel.events import (
    AvicMode,
    HandlerEnter,
    KvmApicvAcceptIrq,
    KvmApicvUpdateRequest,
    KvmEntry,
    KvmInjVirq,
    KvmPvEoi,
    MakeRequest,
    PvEoiArm,
)
from kvmmodel.kvm.apicv import kvm_apic_update_apicv
from kvmmodel.kvm.lapic.priority import apic_find_highest_isr
from kvmmodel.kvm.requests import KVM_REQ_APICV_UPDATE, KVM_REQ_EVENT
from kvmmodel.trace.ftrace import line
from tests.kvm.inhibited import OLD, active, avic, changes, has
from tests.machines import MSI, PV_EOI_EN, SERIES, SVR, events, frames

RECORDED = [
    "set reason=2, inhibits=0x4 ABSENT",
    "cleared reason=2, inhibits=0x0",
    "cleared reason=8, inhibits=0x0",
    *(f"cleared reason={reason}, inhibits=0x0" for reason in (4, 8, 11, 8, 5, 8)),
]
FIXED_TO_1 = 0x41
BACK_AND_FORTH = {"x2apic": False, "pit": "discard"}


def asked(made, request="APICV_UPDATE"):
    """Whose request was made, in order."""
    return [event.vcpu_id for event in events(made, MakeRequest) if event.request == request]


def halted(made, vcpu):
    """That vCPU's guest executes HLT, and sleeps."""
    made.vcpus[vcpu].guest.hlt()
    made.run()
    made.trace.clear(made.machine.now)


# Whom a change concerns


@pytest.mark.parametrize("series", SERIES)
def test_only_the_first_reason_and_the_last_one_concern_the_vcpus(series):
    """source: __kvm_set_or_clear_apicv_inhibit."""
    made = avic(series, pit="discard")
    kvm = made.machine.kvm
    counts = []
    for call in (lambda: made.reinject_control(True), lambda: set_debug(made, True), lambda: set_debug(made, False)):
        made.trace.clear(made.machine.now)
        call()
        counts.append(len(asked(made)))
    assert counts == [2, 0, 0]
    assert kvm.inhibits == {"PIT_REINJ"}


def set_debug(made, on):
    if any(one == made.host.kernel.series for one in OLD):
        return
    made.vcpus[0].set_guest_debug(blockirq=on)


@pytest.mark.parametrize("series", SERIES)
def test_who_sets_it_is_asked_like_the_others_except_in_5_10(series):
    """5.10 updates the vCPU that calls on the spot; later it finds its own request."""
    made = avic(series, irqchip="split")
    made.vcpus[0].guest.cli()
    made.trace.clear(made.machine.now)
    made.vcpus[0].interrupt(0x20)
    made.run()
    assert asked(made) == ([1] if series == "5.10" else [0, 1])


@pytest.mark.parametrize("series", SERIES)
def test_going_off_makes_an_event_pass_except_in_5_10(series):
    made = avic(series, pit="discard")
    made.trace.clear(made.machine.now)
    made.reinject_control(True)
    made.run()
    assert asked(made, "EVENT") == ([] if series == "5.10" else [0, 1])


@pytest.mark.parametrize("series", SERIES)
def test_the_bitmap_is_written_before_the_kick_only_in_5_10(series):
    made = avic(series, pit="discard")
    seen = []
    made.trace.listeners.append(
        lambda event: seen.append(set(made.inhibits)) if getattr(event, "request", "") == "APICV_UPDATE" else None
    )
    made.reinject_control(True)
    assert seen == [{"PIT_REINJ"} if series == "5.10" else set()] * 2


def test_activation_takes_a_second_pass():
    """inferred in avic.md 15.1: its TLB_FLUSH_CURRENT comes after this pass has looked for such requests."""
    made = avic("7.3", pit="reinject")
    made.trace.clear(made.machine.now)
    made.reinject_control(False)
    made.run()
    found = [type(event) for event in events(made, AvicMode, KvmEntry)]
    assert found.count(KvmEntry) == 2  # one each, though each found a request on its way in
    assert active(made) == [True, True]


# Who lags behind


@pytest.mark.parametrize("series", SERIES)
def test_a_vcpu_that_sleeps_is_not_woken_for_it(series):
    made = avic(series, pit="discard")
    halted(made, 1)
    made.reinject_control(True)
    made.run()
    assert made.inhibits == {"PIT_REINJ"}
    assert active(made) == [False, True]
    assert made.vcpus[1].kvm_vcpu.task.state == "blocked"
    assert made.vcpus[1].kvm_vcpu.requests >> KVM_REQ_APICV_UPDATE & 1


@pytest.mark.parametrize("series", [series for series in SERIES if series not in OLD])
def test_an_ipi_to_it_goes_by_the_stale_copy_and_is_injected_all_the_same(series):
    """T19: the sender's AVIC is off; apicv_accept_irq and a wake-up, no request; on entry off, EVENT, EVENTINJ."""
    made = avic(series, pit="discard")
    halted(made, 1)
    made.reinject_control(True)
    made.run()
    made.trace.clear(made.machine.now)
    made.vcpus[0].guest.wrmsr(0x830, 1 << 32 | FIXED_TO_1)
    made.run()
    accepted = events(made, KvmApicvAcceptIrq)
    assert [(event.apicid, event.vector) for event in accepted] == [(1, FIXED_TO_1)]
    assert made.vcpus[1].guest.handled == {FIXED_TO_1: 1}
    assert [event.vector for event in events(made, KvmInjVirq)] == [FIXED_TO_1]
    order = [
        (type(event).__name__, getattr(event, "request", ""))
        for event in events(made, KvmApicvAcceptIrq, AvicMode, MakeRequest, KvmInjVirq)
        if getattr(event, "vcpu_id", 1) == 1
    ]
    assert order == [
        ("KvmApicvAcceptIrq", ""),
        ("AvicMode", ""),
        ("MakeRequest", "EVENT"),
        ("KvmInjVirq", ""),
        ("MakeRequest", "EVENT"),
    ]
    assert active(made) == [False, False]


@pytest.mark.parametrize("series", OLD)
def test_up_to_5_15_waking_up_handles_it(series):
    """source: svm_vcpu_unblocking. inferred: 5.10 makes no event pass then, so the vector waits for the next one."""
    made = avic(series, pit="discard")
    halted(made, 1)
    made.reinject_control(True)
    made.run()
    made.trace.clear(made.machine.now)
    made.vcpus[0].guest.mmio_write(0xFEE00310, 1 << 24)
    made.vcpus[0].guest.mmio_write(0xFEE00300, FIXED_TO_1)
    made.run()
    assert active(made) == [False, False]
    assert made.vcpus[1].guest.handled == ({} if series == "5.10" else {FIXED_TO_1: 1})
    made.signal_msi(MSI | 1 << 12, 0x31)
    made.run()
    assert made.vcpus[1].guest.handled == {FIXED_TO_1: 1, 0x31: 1}


def test_an_interrupt_that_avic_took_is_not_lost_when_it_goes_off():
    """The IRR bit has no KVM_REQ_EVENT of its own: deactivation makes one."""
    made = avic("7.3", pit="discard")
    vcpu = made.vcpus[0]
    vcpu.guest.cli()
    made.signal_msi(MSI, 0x41)
    made.run()
    assert not vcpu.kvm_vcpu.requests >> KVM_REQ_EVENT & 1
    made.reinject_control(True)
    made.run()
    vcpu.guest.sti()
    made.run()
    assert vcpu.guest.handled == {0x41: 1}
    assert [event.vector for event in events(made, KvmInjVirq)] == [0x41]


@pytest.mark.parametrize("series", [series for series in SERIES if series != "5.10"])
def test_a_handler_may_begin_with_avic_and_end_without(series):
    """The EOI is KVM's then; and the other way round it is the processor's."""
    made = avic(series, **BACK_AND_FORTH)
    guest = made.vcpus[0].guest
    made.world.idt[0] = {0x41: "none", 0x42: "none"}
    guest.mmio_write(0xFEE000F0, 0x1FF)
    for vector, reinject in ((0x41, True), (0x52, False)):
        made.world.idt[0][vector] = "none"
        made.signal_msi(MSI, vector)
        made.run()
        made.reinject_control(reinject)
        made.run()
        guest.eoi()
        assert made.vcpus[0].lapic.isr == 0
    assert guest.handled == {0x41: 1, 0x52: 1}


# The xAPIC's page


@pytest.mark.parametrize("series", SERIES)
def test_the_page_goes_with_the_first_reason_and_comes_back_by_a_fault(series):
    """5.10 deletes the memory slot and makes it again; later only the translation goes."""
    made = avic(series, **BACK_AND_FORTH)
    kvm, guest = made.machine.kvm, made.vcpus[0].guest
    guest.mmio_read(0xFEE00080)
    assert (kvm.apic_access_memslot_enabled, kvm.apic_page_mapped) == (True, True)
    made.reinject_control(True)
    assert (kvm.apic_access_memslot_enabled, kvm.apic_page_mapped) == (series != "5.10", False)
    guest.mmio_read(0xFEE00080)
    assert kvm.apic_page_mapped is False
    made.reinject_control(False)
    guest.mmio_read(0xFEE00080)
    assert (kvm.apic_access_memslot_enabled, kvm.apic_page_mapped) == (True, True)


def test_a_guest_that_begins_inhibited_has_no_slot_and_its_page_stays_emulated():
    """avic_init_backing_page asks kvm_apicv_activated: with a PIT from the start nobody makes the slot afterwards."""
    made = avic("7.3", x2apic=False, pit="reinject")
    made.reinject_control(False)
    made.run()
    made.vcpus[0].guest.mmio_read(0xFEE00080)
    assert active(made) == [True, True]
    assert made.machine.kvm.apic_page_mapped is False


def test_an_apic_of_the_guest_that_came_back_has_the_registers_it_wrote_meanwhile():
    made = avic("7.3", **BACK_AND_FORTH)
    made.reinject_control(True)
    made.run()
    made.vcpus[0].guest.mmio_write(0xFEE000D0, 4 << 24)
    made.reinject_control(False)
    made.run()
    table = made.machine.kvm.host.memory.tables[made.machine.kvm.avic_logical_id_table]
    assert table[2] == 1 << 31


# PV EOI: the host arms it only without AVIC


def ticks(made, vector=0x41, times=3):
    made.world.pv_eoi[0] = 0x1000
    made.world.idt[0] = {vector: "pv_eoi"}
    made.vcpus[0].set_msr(PV_EOI_EN, 0x1001)
    for _ in range(times):
        made.signal_msi(MSI, vector)
        made.run()
        made.vcpus[0].guest.rdmsr(0x1B)


@pytest.mark.parametrize("series", SERIES)
@pytest.mark.parametrize("pit", [None, "reinject"])
def test_pv_eoi_is_armed_only_while_avic_is_off(series, pit):
    """source: kvm_apic_update_apicv pins irr_pending, and highest_isr_cache is -1 as long as AVIC is active."""
    made = avic(series, pit=pit)
    ticks(made)
    armed, by_host = events(made, PvEoiArm), frames(made, KvmPvEoi)
    assert (len(armed), len(by_host)) == ((3, 3) if pit else (0, 0))
    assert made.vcpus[0].guest.handled == {0x41: 3}


# What a trace shows


def test_the_recorded_pattern_of_7_3():
    """recorded: 7.3.4 with avic=1 force_avic=1. These are its first lines, but for two more of the six."""
    made = Host("tcg", "7.3.4", avic=True, force_avic=True).create_vm(2)
    lines = [line(record, made.host.kernel) for record in made.trace.records]
    own = [one.split("kvm_apicv_inhibit_changed: ")[1] for one in lines if one and "apicv_inhibit_changed" in one]
    assert own[:3] == RECORDED[:3]
    assert [own[i : i + 6] for i in range(3, len(own), 6)] == [RECORDED[3:]] * 2


@pytest.mark.parametrize(
    ("series", "reasons"),
    [("6.1", []), ("6.6", [4, 11, 5]), ("6.12", [4, 11, 5]), ("6.18", [4, 11, 5]), ("7.2", [4, 8, 11, 8, 5, 8])],
)
def test_what_a_new_map_prints_where_nothing_changes(series, reasons):
    made = avic(series, 1, x2apic=False)
    made.vcpus[0].set_msr(0x1B, made.vcpus[0].get_msr(0x1B) & ~0x800)
    made.trace.clear(made.machine.now)
    made.vcpus[0].set_msr(0x1B, made.vcpus[0].get_msr(0x1B) | 0x800)
    assert [(change.set, change.reason) for change in changes(made)] == [(False, reason) for reason in reasons]


@pytest.mark.parametrize("series", OLD)
def test_before_6_1_only_a_change_between_none_and_some_is_traced(series):
    made = avic(series, pit="discard")
    made.trace.clear(made.machine.now)
    for on in (True, True, False):
        made.reinject_control(on)
    found = [(event.activate, event.bit) for event in events(made, KvmApicvUpdateRequest)]
    assert found == [(False, 4), (True, 4)]
    rows = [line(record, made.host.kernel) or "" for record in made.trace.records]
    shown = [row.split(": ", 1)[1] for row in rows if "apicv_update" in row]
    assert shown == ["kvm_apicv_update_request: deactivate bit=4", "kvm_apicv_update_request: activate bit=4"]


@pytest.mark.parametrize("series", SERIES)
def test_the_names_are_printed_from_6_12_on(series):
    made = avic(series, pit="discard")
    made.trace.clear(made.machine.now)
    made.reinject_control(True)
    rows = [row for record in made.trace.records if (row := line(record, made.host.kernel)) and "apicv" in row]
    assert any(row.endswith(" PIT_REINJ") for row in rows) == (series not in OLD and series not in ("6.1", "6.6"))


def test_a_software_disabled_apic_is_no_reason():
    made = avic("7.3")
    made.vcpus[0].guest.wrmsr(0x80F, 0xFF)
    assert (made.inhibits, active(made)) == (set(), [True, True])
    assert events(made, HandlerEnter) == []
    assert made.vcpus[0].lapic.regs[SVR] == 0xFF
    assert has("7.3", "apicv_apic_disabled")


@pytest.mark.parametrize(
    ("series", "kept"),
    [("5.10", True), ("5.15", True), ("6.1.15", True), ("6.1.16", False), ("6.12", False), ("7.3", False)],
)
def test_activating_it_forgets_the_highest_vector_in_service(series, kept):
    """source kvm_apic_update_apicv: 5.15.100 leaves the cache. Then KVM never hears that the processor ended it."""
    made = Host("zen4", series, avic=True).create_vm(1, series not in OLD, boot=True)
    apic = made.vcpus[0].lapic
    apic.apicv_active, apic.isr, apic.isr_count, apic.highest_isr_cache = False, 1 << 0x61, 1, 0x61
    apic.apicv_active = True
    kvm_apic_update_apicv(apic)
    apic.isr = 0  # an EOI without an exit
    assert apic_find_highest_isr(apic) == (0x61 if kept else -1)
