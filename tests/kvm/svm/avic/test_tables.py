"""What KVM writes into the tables that processors read, and into MAX_INDEX, by release.

How it is known: read in 6.1.176, 6.12.117, 7.2.13 and 7.3.4; 5.10 and 5.15 as the changes say.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmmodel import Host
from kvmmodel.events import HandlerEnter, KvmAvicUnacceleratedAccess
from kvmmodel.kvm.svm.avic.tables import avic_get_logical_id_entry, logical_table
from kvmmodel.silicon.avic import vmrun_refuses
from kvmmodel.silicon.avic_tables import LOGICAL_VALID, PHYSICAL_BACKING_PAGE, PHYSICAL_VALID
from tests.kvm.svm.avic.avic_vms import DFR, LDR, NO_X2AVIC, NOACCEL, SERIES, X2AVIC, events, exits, table, vm, write

BEFORE = ("5.10", "5.15", "6.1")  # which take an LDR's lowest bit
CLUSTER = 0x0FFFFFFF
FLAT_VM = Host("zen4", "7.3", avic=True).create_vm(1).vcpus[0].kvm_vcpu


def slots(made):
    """Slot -> APIC ID, of the valid entries."""
    found = logical_table(made.machine.kvm)
    return {slot: entry & 0xFF for slot, entry in sorted(found.items()) if entry & LOGICAL_VALID}


@pytest.mark.parametrize("kernel", SERIES)
def test_entries_are_valid_from_creation_and_name_the_registers(kernel):
    """A broadcast has to find them, running or not. Catches Valid set with IsRunning."""
    made = Host("zen4", kernel, avic=True).create_vm(3, kernel in X2AVIC, ids=[0, 3, 7])
    found = table(made)
    assert sorted(found) == [0, 3, 7]
    pages = {found[vcpu.id] & PHYSICAL_BACKING_PAGE: vcpu.lapic for vcpu in made.vcpus}
    assert all(entry & PHYSICAL_VALID for entry in found.values())
    assert len(pages) == 3
    assert {page: made.machine.host.memory.pages[page] for page in pages} == pages


@given(st.integers(0, 0xFF), st.booleans())
def test_the_slot_of_a_logical_id(logical, flat):
    """source avic_get_logical_id_entry, 7.3.4. Catches `&&` for `&`, of the nibble or of the cluster."""
    bits = logical if flat else logical & 0xF
    cluster = 0 if flat else logical >> 4
    slot = None if bits.bit_count() != 1 or cluster == 15 else 4 * cluster + bits.bit_length() - 1
    assert avic_get_logical_id_entry(FLAT_VM, logical << 24 | 0xABCDEF, flat) == slot


@pytest.mark.parametrize("kernel", SERIES)
def test_up_to_6_1_several_bits_count_by_the_lowest(kernel):
    vcpu = Host("zen4", kernel, avic=True).create_vm(1, kernel in X2AVIC).vcpus[0].kvm_vcpu
    old = kernel in BEFORE
    assert avic_get_logical_id_entry(vcpu, 0x06 << 24, True) == (1 if old else None)
    assert avic_get_logical_id_entry(vcpu, 0x2C << 24, False) == (10 if old else None)
    assert avic_get_logical_id_entry(vcpu, 0xF1 << 24, False) is None
    assert avic_get_logical_id_entry(vcpu, 0, True) is None


@pytest.mark.parametrize("kernel", SERIES)
def test_an_ldr_write_exits_and_moves_the_vcpu_to_its_slot(kernel):
    """The old slot goes, others stay. Catches the new slot invalidated on success, and the old one left."""
    made = vm(2, kernel, x2apic=False)
    write(made, 0, LDR, 1 << 24)
    write(made, 1, LDR, 2 << 24)
    assert exits(made) == [NOACCEL] * 2
    assert slots(made) == {0: 0, 1: 1}
    write(made, 1, LDR, 0x80 << 24)
    assert slots(made) == {0: 0, 7: 1}
    write(made, 1, LDR, 0)
    assert slots(made) == {0: 0}


@pytest.mark.parametrize("kernel", SERIES)
def test_the_same_ldr_again_changes_nothing(kernel):
    made = vm(1, kernel, x2apic=False)
    write(made, 0, LDR, 4 << 24)
    write(made, 0, LDR, 4 << 24)
    assert slots(made) == {2: 0}


@pytest.mark.parametrize("kernel", SERIES)
def test_a_dfr_write_takes_the_slot_and_the_next_ldr_gives_one(kernel):
    """source avic_handle_dfr_update: it is bit 0 of cluster 2 then. Catches the old slot in the new model."""
    made = vm(1, kernel, x2apic=False)
    write(made, 0, LDR, 0x20 << 24)
    assert slots(made) == {5: 0}
    write(made, 0, DFR, CLUSTER)
    assert slots(made) == {}
    write(made, 0, LDR, 0x21 << 24)
    assert slots(made) == {8: 0}


@pytest.mark.parametrize("kernel", SERIES)
def test_up_to_6_1_an_ldr_without_a_slot_goes_to_userspace(kernel):
    """The exit's handler returns 0. Not for LDR 0. Later the table has no entry, and that is all."""
    made, left = vm(1, kernel, x2apic=False), []
    write(made, 0, DFR, CLUSTER)
    made.user_exits.append(left.append)
    write(made, 0, LDR, 0xF1 << 24)
    assert len(left) == (1 if kernel in BEFORE else 0)
    write(made, 0, LDR, 0)
    assert len(left) == (1 if kernel in BEFORE else 0)
    assert slots(made) == {}


@pytest.mark.parametrize("kernel", X2AVIC)
def test_x2apic_mode_uses_no_logical_table(kernel):
    made = vm(3, kernel)
    assert slots(made) == {}
    made.vcpus[0].guest.wrmsr(0x830, 0b110 << 32 | 0x840)
    made.run()
    assert sorted(e.vcpu_id for e in events(made, HandlerEnter)) == [1, 2]
    assert exits(made) == []


@pytest.mark.parametrize("kernel", SERIES)
@pytest.mark.parametrize(
    ("cpu", "x2apic"), [("zen4", True), ("zen4", False), (NO_X2AVIC, True), ("zen5,+x2avic_ext", True)]
)
def test_max_index(kernel, cpu, x2apic):
    """255 up to 5.15; then 254, or 511 with x2AVIC, 4095 with x2AVIC_EXT from 6.19 on. VMRUN takes all of them.

    Catches x2AVIC's limit for a vCPU in xAPIC mode or in hybrid AVIC.
    """
    if kernel not in X2AVIC:
        x2apic = False
    vcpu = vm(1, kernel, cpu=cpu, x2apic=x2apic).vcpus[0]
    wide = x2apic and "zen3" not in cpu
    largest = 4095 if "ext" in cpu and kernel in ("7.2", "7.3") else 511
    assert vcpu.kvm_vcpu.vmcb.avic_max_index == (255 if kernel not in X2AVIC else largest if wide else 254)
    assert not vmrun_refuses(vcpu.kvm_vcpu.vmcb, "ext" in cpu)


@pytest.mark.parametrize("kernel", SERIES)
@pytest.mark.parametrize("register", [0x20, 0xF0, 0x280, 0x330, 0x340, 0x350, 0x360, 0x370, 0x380, 0x3E0])
def test_a_trapped_write_is_in_the_page_and_does_what_the_register_does(register, kernel):
    """One exit behind the write, a trap by KVM's list. Catches an offset that KVM would emulate a second time."""
    made = vm(1, kernel, x2apic=False)
    value = {0x20: 0, 0xF0: 0x1FF, 0x280: 0, 0x3E0: 0xB, 0x380: 0}.get(register, 0x10041)
    write(made, 0, register, value)
    assert exits(made) == [NOACCEL]
    found = [(e.offset, e.trap, e.write) for e in events(made, KvmAvicUnacceleratedAccess)]
    assert found == [(register, True, True)]
    assert made.vcpus[0].lapic.regs.get(register, 0) == value


@pytest.mark.parametrize("kernel", SERIES)
@pytest.mark.parametrize("register", [0x30, 0xA0, 0x100, 0x180, 0x200])
def test_a_write_that_faults_is_emulated_and_changes_nothing(register, kernel):
    made = vm(1, kernel, x2apic=False)
    before = made.vcpus[0].get_lapic()
    write(made, 0, register, 0xFFFFFFFF)
    assert exits(made) == [NOACCEL]
    assert [(e.offset, e.trap, e.write) for e in events(made, KvmAvicUnacceleratedAccess)] == [(register, False, True)]
    assert made.vcpus[0].get_lapic() == before


@pytest.mark.parametrize("kernel", SERIES)
def test_reading_the_timers_count_faults_and_is_emulated(kernel):
    """source: TMCCT is in no page. Catches a stale 0 from memory."""
    made = vm(1, kernel, x2apic=False)
    guest = made.vcpus[0].guest
    for register, value in ((0x320, 0x10041), (0x3E0, 0xB), (0x380, 100_000_000)):
        guest.mmio_write(0xFEE00000 + register, value)
    before = len(exits(made))
    assert 0 < guest.mmio_read(0xFEE00390) < 100_000_000
    assert len(exits(made)) == before + 1


@pytest.mark.parametrize("kernel", [k for k in X2AVIC if k not in ("7.2", "7.3")])
@pytest.mark.parametrize("choice", ["table", "gp"])
def test_open_point_a_read_only_msr_that_is_not_intercepted_up_to_7_0(choice, kernel):
    """WRMSR of the APIC ID: by the table a trap, which KVM's list has, too; or #GP. Catches the same write for ever."""
    made = vm(1, kernel, host={"open_points": {"x2avic_readonly_write": choice}})
    made.execute(0, ("wrmsr 0x802 5",))
    made.run()
    assert exits(made) == ([NOACCEL] if choice == "table" else [])
    assert len(made.vcpus[0].inside.faults) == (0 if choice == "table" else 1)
