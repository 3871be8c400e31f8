"""Each reason for which AVIC is off: set and cleared by the code that does it, on every release that has it.

ABSENT is seen at a VM's creation only: the model has no VM whose local APICs are userspace's.
"""

import pytest

from kvmmodel import Host
from kvmmodel.events import ClearIsr, KvmAvicUnacceleratedAccess, KvmUserspaceExit
from kvmmodel.facts.inhibits import bit, decode, reason
from kvmmodel.facts.releases import kernel as release
from kvmmodel.silicon.avic_tables import PHYSICAL_VALID
from tests.kvm.inhibited import EFER, OLD, SVME, active, avic, changes, has
from tests.machines import APIC_BASE, DFR, ID, LDR, MSI, SERIES, SVR, X2APIC_ON, events, load

SINT2, AUTO_EOI, MASKED = 0x40000092, 1 << 17, 1 << 16
SINCE_6_1 = [series for series in SERIES if series not in OLD]
SINCE_6_6 = [series for series in SINCE_6_1 if series != "6.1"]


@pytest.mark.parametrize("series", SERIES)
def test_nothing_special_inhibits_nothing(series):
    assert (avic(series).inhibits, active(avic(series))) == (set(), [True, True])


# DISABLED, ABSENT


@pytest.mark.parametrize("series", SERIES)
def test_with_the_module_off_it_is_disabled_and_nothing_else_is_recorded(series):
    """source: kvm_set_or_clear_apicv_inhibit returns at once; recorded in 6.12.95 and 7.3.4."""
    options = {"svm": True, "sev": True, "hyperv_synic": True, "pit": "reinject"}
    made = Host("zen4", series, avic=False).create_vm(2, boot=True, **options)
    made.vcpus[0].guest.wrmsr(SINT2, AUTO_EOI | 0x50)
    made.vcpus[0].set_msr(APIC_BASE, 0xFEF00000)
    two = series in ("6.1", "6.6")
    assert made.inhibits == ({"ABSENT", "DISABLED"} if two else {"DISABLED"})
    assert active(made) == [False, False]


@pytest.mark.parametrize("series", SINCE_6_1)
@pytest.mark.parametrize("irqchip", ["kernel", "split"])
def test_absent_until_there_is_an_irqchip(series, irqchip):
    first, second = changes(Host("zen4", series, avic=True).create_vm(1, irqchip=irqchip))[:2]
    assert (first.set, first.reason, first.inhibits) == (True, bit(release(series), "ABSENT"), 4)
    assert (second.set, second.reason, second.inhibits) == (False, bit(release(series), "ABSENT"), 0)


# HYPERV


@pytest.mark.parametrize("series", SERIES)
def test_a_synic_alone_inhibits_for_good_in_5_10(series):
    made = avic(series, hyperv_synic=True)
    made.vcpus[0].guest.wrmsr(SINT2, 0x50)
    made.vcpus[0].guest.wrmsr(SINT2, MASKED)
    assert made.inhibits == ({"HYPERV"} if series == "5.10" else set())


@pytest.mark.parametrize("series", [series for series in SERIES if series != "5.10"])
def test_autoeoi_inhibits_from_the_first_vcpu_that_has_it_to_the_last(series):
    made = avic(series, hyperv_synic=True)
    one, two = (vcpu.guest for vcpu in made.vcpus)
    seen = []
    for guest, value in ((one, AUTO_EOI | 0x50), (two, AUTO_EOI | 0x50), (one, 0x50), (two, MASKED | AUTO_EOI | 0x50)):
        guest.wrmsr(SINT2, value)
        seen.append("HYPERV" in made.inhibits)
    assert seen == [True, True, True, False]
    made.run()
    assert active(made) == [True, True]


def test_two_sints_with_one_vector_count_once():
    made = avic("7.3", hyperv_synic=True)
    guest = made.vcpus[0].guest
    guest.wrmsr(SINT2, AUTO_EOI | 0x50)
    guest.wrmsr(SINT2 + 1, AUTO_EOI | 0x50)
    guest.wrmsr(SINT2, 0x60)
    assert made.inhibits == {"HYPERV"}
    guest.wrmsr(SINT2 + 1, 0x60)
    assert made.inhibits == set()


def test_a_vector_with_autoeoi_is_never_in_service():
    """source 7.3.4: kvm_apic_ack_interrupt leaves the ISR alone; the next vector of its class needs no EOI."""
    made = avic("7.3", hyperv_synic=True)
    vcpu = made.vcpus[0]
    made.world.idt[0] = {0x50: "none", 0x51: "none"}
    vcpu.guest.wrmsr(SINT2, AUTO_EOI | 0x51)
    for vector in (0x51, 0x50):
        made.signal_msi(MSI, vector)
        made.run()
    assert vcpu.guest.handled == {0x51: 1, 0x50: 1}
    assert vcpu.lapic.isr == 1 << 0x50
    assert events(made, ClearIsr) == []


def test_sint_wants_a_vector_from_16_on_unless_masked():
    guest = avic("7.3", hyperv_synic=True).vcpus[0].guest
    with pytest.raises(Exception, match="exception 13"):
        guest.wrmsr(SINT2, 0x0F)
    guest.wrmsr(SINT2, MASKED)
    assert guest.rdmsr(SINT2) == MASKED


def test_without_a_synic_its_registers_are_not_there():
    with pytest.raises(Exception, match="exception 13"):
        avic("7.3").vcpus[0].guest.wrmsr(SINT2, AUTO_EOI | 0x50)


def test_userspace_hears_of_scontrol():
    made = avic("7.3", hyperv_synic=True)
    made.vcpus[0].guest.wrmsr(0x40000080, 1)
    made.run()
    assert [event.reason for event in events(made, KvmUserspaceExit)] == ["KVM_EXIT_HYPERV"]


# BLOCKIRQ


@pytest.mark.parametrize("series", SINCE_6_1)
def test_blockirq_counts_while_any_vcpu_has_it(series):
    made = avic(series)
    seen = []
    for vcpu, on in ((0, True), (1, True), (0, False), (1, False)):
        made.vcpus[vcpu].set_guest_debug(blockirq=on)
        made.run()
        seen.append((made.inhibits, active(made)))
    blocked = ({"BLOCKIRQ"}, [False, False])
    assert seen == [blocked, blocked, blocked, (set(), [True, True])]


@pytest.mark.parametrize("data", [0x41, 0x400], ids=["interrupt", "NMI"])
def test_blockirq_holds_events_back_and_they_come_afterwards(data):
    """source 7.3.4: kvm_check_and_inject_events returns before SMI, NMI and IRQ; the ioctl makes KVM_REQ_EVENT."""
    made = avic("7.3", host={"vnmi": False})
    vcpu = made.vcpus[0]
    vcpu.set_guest_debug(blockirq=True)
    made.run()
    made.signal_msi(MSI, data)
    made.run()
    assert vcpu.guest.handled == {}
    vcpu.set_guest_debug(blockirq=False)
    made.run()
    assert vcpu.guest.handled == {2 if data == 0x400 else 0x41: 1}


def test_blockirq_does_not_hold_a_virtual_nmi_back():
    """source 7.3.4: process_nmi gives it to the processor before the event pass."""
    made = avic("7.3")
    made.vcpus[0].set_guest_debug(blockirq=True)
    made.run()
    made.signal_msi(MSI, 0x400)
    made.run()
    assert made.vcpus[0].guest.handled == {2: 1}


@pytest.mark.parametrize("series", OLD)
def test_blockirq_is_not_modelled_where_it_was_not_read(series):
    with pytest.raises(ValueError, match=r"from 6\.1 on"):
        avic(series).vcpus[0].set_guest_debug(blockirq=True)


# PHYSICAL_ID_ALIASED, LOGICAL_ID_ALIASED, APIC_ID_MODIFIED


@pytest.mark.parametrize("series", SINCE_6_6)
def test_one_id_twice(series):
    """Without a map nothing can be told apart, so the logical reason comes with it; all go once the IDs are right."""
    made = avic(series, x2apic=False)
    load(made.vcpus[1], {ID: 0})
    assert made.inhibits == {"PHYSICAL_ID_ALIASED", "LOGICAL_ID_ALIASED", "APIC_ID_MODIFIED"}
    load(made.vcpus[1], {ID: 1 << 24})
    assert made.inhibits == set()


@pytest.mark.parametrize("series", SINCE_6_6)
def test_with_32_bit_ids_an_xapic_id_twice_is_passed_over(series):
    """source 7.3.4: kvm_recalculate_phys_map, KVM's hotplug hack."""
    made = avic(series, x2apic=False)
    made.enable_x2apic_api(1)
    load(made.vcpus[1], {ID: 0})
    assert made.inhibits == {"APIC_ID_MODIFIED"}


@pytest.mark.parametrize("series", SINCE_6_6)
def test_an_id_above_255_wraps_in_xapic_mode(series):
    """vCPU 256 answers to 0 like vCPU 0; on a host with x2AVIC its ID is not too big."""
    made = Host("zen4", series, avic=True).create_vm(2, ids=[0, 256])
    load(made.vcpus[1], {SVR: 0x1FF})  # a new vCPU is in the next map only
    assert made.inhibits == {"PHYSICAL_ID_ALIASED", "LOGICAL_ID_ALIASED"}
    for vcpu in made.vcpus:
        vcpu.set_msr(APIC_BASE, X2APIC_ON | vcpu.get_msr(APIC_BASE))
    assert made.inhibits == set()


@pytest.mark.parametrize("series", SINCE_6_6)
@pytest.mark.parametrize(
    "words",
    [{LDR: 1 << 24}, {LDR: 6 << 24}, {LDR: 0x11 << 24, DFR: 0x0FFFFFFF}],
    ids=["one LDR twice", "two bits", "flat and cluster"],
)
def test_logical_ids_that_the_map_cannot_have(series, words):
    made = avic(series, x2apic=False)
    load(made.vcpus[0], {SVR: 0x1FF, LDR: 1 << 24})
    load(made.vcpus[1], {SVR: 0x1FF, LDR: 2 << 24})
    assert made.inhibits == set()
    load(made.vcpus[1], words)
    assert made.inhibits == {"LOGICAL_ID_ALIASED"}
    load(made.vcpus[1], {SVR: 0xFF})
    assert made.inhibits == set()


def test_6_1_sees_no_aliases():
    made = avic("6.1", x2apic=False)
    load(made.vcpus[0], {SVR: 0x1FF, LDR: 1 << 24})
    load(made.vcpus[1], {SVR: 0x1FF, LDR: 1 << 24})
    assert made.inhibits == set()


@pytest.mark.parametrize("series", SINCE_6_1)
def test_the_guest_writes_its_id(series):
    """AVIC traps the write. 6.1 never forgives it, later releases look anew at each change of the map."""
    made = avic(series, x2apic=False)
    guest = made.vcpus[1].guest
    guest.mmio_write(0xFEE00020, 5 << 24)
    assert [event.offset for event in events(made, KvmAvicUnacceleratedAccess)] == [ID]
    assert made.inhibits == {"APIC_ID_MODIFIED"}
    guest.mmio_write(0xFEE00020, 1 << 24)
    made.run()
    assert made.inhibits == ({"APIC_ID_MODIFIED"} if series == "6.1" else set())


@pytest.mark.parametrize("series", OLD)
def test_before_6_1_the_entry_moves(series):
    """source: avic_handle_apic_id_update. It inhibits nothing, and the way back loses the entry's place."""
    made = avic(series, x2apic=False)
    kvm, guest = made.machine.kvm, made.vcpus[1].guest
    table = kvm.host.memory.tables[kvm.avic_physical_id_table]
    guest.mmio_write(0xFEE00020, 5 << 24)
    assert (made.inhibits, made.vcpus[1].apicv_active) == (set(), True)
    assert (table[1], table[5] >> 63) == (0, 1)
    guest.mmio_write(0xFEE00020, 1 << 24)
    assert (table[1], table[5] & PHYSICAL_VALID != 0) == (0, True)


@pytest.mark.parametrize("series", OLD)
def test_before_6_1_the_second_look_at_a_moved_id_loses_it(series):
    """source: the entry is always taken from where the vcpu_id says, and the first move has emptied that."""
    made = avic(series, x2apic=False)
    kvm, guest = made.machine.kvm, made.vcpus[1].guest
    guest.mmio_write(0xFEE00020, 5 << 24)
    guest.mmio_write(0xFEE00020, 5 << 24)
    assert kvm.host.memory.tables[kvm.avic_physical_id_table][5] & PHYSICAL_VALID == 0


@pytest.mark.parametrize("series", OLD)
def test_before_6_1_there_is_no_place_for_id_255(series):
    made = avic(series, x2apic=False)
    exits = []
    made.user_exits.append(lambda vcpu: exits.append(vcpu.vcpu_id))
    made.vcpus[1].guest.mmio_write(0xFEE00020, 0xFF << 24)
    made.run()
    assert exits == [1]


# APIC_BASE_MODIFIED and the APIC that is off


@pytest.mark.parametrize("series", SINCE_6_1)
def test_another_base_stays_on_the_record(series):
    made = avic(series, x2apic=False)
    made.vcpus[0].guest.wrmsr(APIC_BASE, 0xFEF00900)
    made.vcpus[0].guest.wrmsr(APIC_BASE, 0xFEE00900)
    assert made.inhibits == {"APIC_BASE_MODIFIED"}


@pytest.mark.parametrize("series", SINCE_6_1)
def test_a_base_that_moves_while_the_apic_is_off_counts_when_it_comes_on(series):
    made = avic(series, x2apic=False)
    vcpu = made.vcpus[0]
    vcpu.set_msr(APIC_BASE, 0xFEF00100)
    assert made.inhibits == set()
    vcpu.set_msr(APIC_BASE, 0xFEF00900)
    assert made.inhibits == {"APIC_BASE_MODIFIED"}


@pytest.mark.parametrize("series", SERIES)
def test_an_apic_that_is_off_has_no_avic_and_the_vm_has_no_reason(series):
    """No bit of the mask tells it."""
    made = avic(series, x2apic=False)
    made.vcpus[1].set_msr(APIC_BASE, 0xFEE00000)
    made.run()
    made.vcpus[1].guest.nop()
    assert made.inhibits == set()
    assert active(made) == [True, series in OLD]


# NESTED


@pytest.mark.parametrize("series", SINCE_6_1)
def test_nested_is_a_vcpus_own_while_it_runs_l2(series):
    made = avic(series, svm=True)
    l1 = made.vcpus[0]
    l1.guest.wrmsr(EFER, SVME)
    assert active(made) == [True, True]
    l1.guest.vmrun("interrupt")
    made.run()
    assert (made.inhibits, active(made)) == (set(), [False, True])
    made.signal_msi(MSI, 0x41)
    made.run()
    assert active(made) == [True, True]
    l1.guest.stgi()
    made.run()
    assert l1.guest.handled == {0x41: 1}


@pytest.mark.parametrize("series", OLD)
@pytest.mark.parametrize("nested", [True, False])
def test_up_to_5_15_being_able_to_is_enough(series, nested):
    made = avic(series, svm=True, host={"nested": nested})
    assert made.inhibits == ({"NESTED"} if nested else set())


# IRQWIN


@pytest.mark.parametrize("series", SERIES)
def test_an_extint_that_has_to_wait_takes_avic_off_for_so_long(series):
    made = avic(series, irqchip="split")
    vcpu = made.vcpus[0]
    vcpu.guest.cli()
    vcpu.interrupt(0x20)
    made.run()
    assert (made.inhibits, active(made)) == ({"IRQWIN"}, [False, False])
    vcpu.guest.sti()
    made.run()
    assert (made.inhibits, active(made), vcpu.guest.handled) == (set(), [True, True], {0x20: 1})


@pytest.mark.parametrize("series", SERIES)
def test_an_extint_that_can_go_in_at_once_does_not(series):
    made = avic(series, irqchip="split")
    made.vcpus[0].interrupt(0x20)
    made.run()
    assert made.vcpus[0].guest.handled == {0x20: 1}
    assert not any(change.reason == bit(release(series), "IRQWIN") and change.set for change in changes(made))


@pytest.mark.parametrize("series", SERIES)
def test_two_vcpus_that_wait(series):
    """Before 7.1 the first window that opens clears it for both, and the other asks for its own again and again."""
    made = avic(series, irqchip="split")
    for vcpu in made.vcpus:
        vcpu.guest.cli()
        vcpu.guest.wrmsr(0x835, 0x700) if series not in OLD else vcpu.guest.mmio_write(0xFEE00350, 0x700)
        vcpu.interrupt(0x20)
    made.run()
    counted = has(series, "irqwin_counted")
    assert made.machine.kvm.apicv_nr_irq_window_req == (2 if counted else 0)
    made.vcpus[0].guest.sti()
    made.run()
    assert [vcpu.guest.handled for vcpu in made.vcpus] == [{0x20: 1}, {}]
    assert made.inhibits == ({"IRQWIN"} if counted else made.inhibits)
    made.vcpus[1].guest.sti()
    made.run()
    assert (made.inhibits, active(made)) == (set(), [True, True])


@pytest.mark.parametrize(("series", "bit_too"), [("6.18", True), ("7.2", False), ("7.3", False)])
def test_a_window_while_another_reason_is_there(series, bit_too):
    """From 7.1 on only the count changes; the bit follows at the next set or clear of any reason."""
    made = avic(series, irqchip="split", sev=True)
    vcpu = made.vcpus[0]
    vcpu.guest.cli()
    made.signal_msi(MSI, 0x41)
    made.run()
    assert made.inhibits == ({"SEV", "IRQWIN"} if bit_too else {"SEV"})
    assert made.machine.kvm.apicv_nr_irq_window_req == (0 if bit_too else 1)
    made.vcpus[1].set_guest_debug(blockirq=True)
    assert made.inhibits == {"SEV", "IRQWIN", "BLOCKIRQ"}


# PIT_REINJ, SEV, PHYSICAL_ID_TOO_BIG, X2APIC


@pytest.mark.parametrize("series", SERIES)
def test_the_pit_in_reinject_mode(series):
    made = avic(series, pit="reinject")
    assert (made.inhibits, active(made)) == ({"PIT_REINJ"}, [False, False])
    made.reinject_control(False)
    made.run()
    for vcpu in made.vcpus:
        vcpu.guest.nop()
    assert (made.inhibits, active(made)) == (set(), [True, True])


@pytest.mark.parametrize("series", SERIES)
def test_a_pit_that_discards_is_no_reason(series):
    assert avic(series, pit="discard").inhibits == set()


@pytest.mark.parametrize("series", SERIES)
def test_sev(series):
    """5.10 and 5.15 have no such reason."""
    assert avic(series, sev=True).inhibits == (set() if series in OLD else {"SEV"})


@pytest.mark.parametrize("series", SERIES)
@pytest.mark.parametrize(("cpu", "largest"), [("zen2", 254), ("zen4", 511), ("zen5,+x2avic_ext", 4095)])
def test_an_id_that_the_tables_have_no_place_for(series, cpu, largest):
    """Up to 6.12 such a vCPU cannot be made, later it inhibits AVIC for good."""
    if series in OLD:
        largest = 254
    elif not has(series, "avic_4096"):
        largest = min(largest, 511)

    def make(ident):
        return Host(cpu, series, avic=True).create_vm(1, ids=[ident], x2apic=series not in OLD)

    assert "PHYSICAL_ID_TOO_BIG" not in make(largest).inhibits
    if not has(series, "physical_id_too_big"):
        with pytest.raises(ValueError, match="EINVAL"):
            make(largest + 1)
        return
    made = make(largest + 1)
    assert "PHYSICAL_ID_TOO_BIG" in made.inhibits
    assert active(made) == [False]


@pytest.mark.parametrize("series", SERIES)
@pytest.mark.parametrize("x2apic", [True, False])
def test_x2apic_in_cpuid_was_a_reason_up_to_5_19(series, x2apic):
    made = Host("zen4", series, avic=True).create_vm(1, x2apic=x2apic)
    assert made.inhibits == ({"X2APIC"} if x2apic and series in OLD else set())


# The table of facts says the same


@pytest.mark.parametrize("series", SERIES)
def test_a_trace_decodes_to_the_vms_reasons(series):
    made = Host("zen4", series, avic=True).create_vm(1, x2apic=False, pit="reinject", sev=True)
    found = release(series)
    mask = sum(1 << bit(found, name) for name in made.inhibits)
    assert {reason(found, name).id for name in decode(found, mask)} == made.inhibits
    assert [change.inhibits for change in changes(made)][-1:] == ([] if series in OLD else [mask])
