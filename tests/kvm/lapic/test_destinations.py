"""Who gets a message: the table of live vectors, the maps, lowest priority, broadcasts, and what the ioctl returns."""

import pytest

from kvmmodel import Host
from tests.machines import (
    DFR,
    ICR,
    ID,
    LDR,
    MSI,
    SERIES,
    SVR,
    TPR,
    X2APIC_ON,
    address,
    irr,
    load,
    msr,
    vm,
    word,
    x2apic,
    xapic,
)

LOWEST, EDGE, LOGICAL = 0x100, 0, True


def to(made):
    """The vCPUs whose IRR is not empty."""
    return [i for i, vectors in enumerate(irr(made)) if vectors]


@pytest.mark.parametrize(
    ("where", "data", "returned", "got"),
    [
        (MSI, 0x41, 1, [0]),
        (address(7), 0x41, 0, []),
        (address(0xFF), 0x41, 3, [0, 1, 2]),
        (address(0x5, logical=True), 0x41, 2, [0, 2]),
        (address(0x7, logical=True), LOWEST | 0x50, 1, [2]),
        (address(0x7, logical=True), LOWEST | 0x51, 1, [0]),
        (address(0x7, logical=True), LOWEST | 0x52, 1, [1]),
        (address(0x6, logical=True, hint=True), 0x53, 1, [2]),
        (address(0x6, logical=True, hint=True), 0x54, 1, [1]),
        (address(0x0F, logical=True), LOWEST | 0x40, 1, [0]),
        (address(0x0F, logical=True), LOWEST | 0x41, 1, [1]),
        (address(0x0F, logical=True), LOWEST | 0x42, 1, [2]),
        (address(0x0F, logical=True), LOWEST | 0x43, 0, []),
        (address(0x0F, logical=True), LOWEST | 0x47, 0, []),
        (address(0xFF), LOWEST | 0x41, 3, [0, 1, 2]),
        (MSI, 0x200, 0, []),
        (MSI, 0x300, 1, []),
        (MSI, 0x400, 1, []),
        (MSI, 0x500, 1, []),
        (MSI, 0x600, 1, []),
        (MSI, 0x700, 0, []),
    ],
)
def test_three_flat_xapics(where, data, returned, got):
    """live 6.18.44: lowest priority takes the (vector mod n)-th of the *requested* bits; an empty slot drops it."""
    made = xapic(1, 2, 4, smm=False)  # as that kernel was built
    assert (made.signal_msi(where, data), to(made)) == (returned, got)


@pytest.mark.parametrize(("dest", "returned"), [(0x11, 1), (0x33, 0), (0xFF, 2), (0x22, 1), (0x13, 1)])
def test_clusters(dest, returned):
    """live 6.18.44: LDR 0x11 and 0x22, cluster mode."""
    assert xapic(0x11, 0x22, dfr=0x0FFFFFFF).signal_msi(address(dest, logical=True), 0x41) == returned


@pytest.mark.parametrize(("dest", "returned"), [(0x01, 1), (0x11, 2), (0x80, -1)])
def test_a_flat_and_a_cluster_vcpu_make_the_logical_map_unusable(dest, returned):
    """live 6.18.44: slow path; where nobody matches it says -1 (EPERM), the fast path would say 0."""
    made = xapic(0x01, 0x11, avic=True)
    load(made.vcpus[1], {DFR: 0x0FFFFFFF})
    assert made.signal_msi(address(dest, logical=True), 0x41) == returned
    assert "LOGICAL_ID_ALIASED" in made.inhibits


@pytest.mark.parametrize("vector", range(0x40, 0x48))
def test_the_slow_path_hashes_over_those_that_match(vector):
    """live 6.18.44: with a mixed map and four matches vector mod 4 selects, nothing is dropped."""
    made = xapic(0x11, 0x12, 0x14, 0x18)
    load(made.vcpus[3], {DFR: 0x0FFFFFFF})
    assert made.signal_msi(address(0x1F, logical=True), LOWEST | vector) == 1
    assert to(made) == [vector % 4]


def test_two_flat_vcpus_with_one_logical_id():
    """live 6.18.44: aliased, so both get it."""
    assert xapic(1, 1).signal_msi(address(1, logical=True), 0x41) == 2


def test_a_disabled_vcpu_leaves_a_hole_in_the_hash():
    """live 6.18.44: vCPU 1 software-disabled, dest 7: vectors with v mod 3 == 1 are dropped."""
    made = xapic(1, 2, 4)
    load(made.vcpus[1], {SVR: 0xFF})
    returned = [made.signal_msi(address(7, logical=True), LOWEST | v) for v in (0x51, 0x52, 0x53)]
    assert returned == [0 if v % 3 == 1 else 1 for v in (0x51, 0x52, 0x53)]


@pytest.mark.parametrize(("data", "returned"), [(0x41, 0), (LOWEST | 0x41, 0), (0x400, 1), (0x500, 1), (0x600, 1)])
def test_a_software_disabled_apic(data, returned):
    """live 6.18.44: refuses fixed vectors, takes NMI, INIT and SIPI."""
    made = vm()
    load(made.vcpus[0], {})  # after this the vCPU is in the map
    assert (made.signal_msi(MSI, data), irr(made)) == (returned, [set()])


def test_a_new_vcpu_is_not_in_the_map_before_the_next_one_is_made():
    """Reset makes the map while the vCPU is not in the VM's array yet. Live 6.18.44, found by make fuzz."""
    made = vm(2)
    assert [made.signal_msi(address(dest), 0x400) for dest in (0, 1)] == [1, 0]
    load(made.vcpus[0], {})
    assert made.signal_msi(address(1), 0x400) == 1


def test_a_hardware_disabled_apic_takes_nothing():
    """live 6.18.44."""
    made = xapic(1)
    made.vcpus[0].set_msr(0x1B, 0xFEE00000)
    assert made.signal_msi(MSI, 0x41) == 0


def test_a_second_message_is_accepted_too():
    """live 6.18.44: 1 even when the IRR bit was set already."""
    made = xapic(1)
    assert [made.signal_msi(MSI, 0x41) for _ in range(2)] == [1, 1]


def test_the_trigger_mode_is_noted_when_the_message_is_accepted():
    """live 6.18.44: level sets TMR, an edge message for the same vector clears it."""
    made = xapic(1)
    made.signal_msi(MSI, 0xC041)
    assert made.vcpus[0].lapic.tmr == 1 << 0x41
    made.signal_msi(MSI, 0x41)
    assert made.vcpus[0].lapic.tmr == 0


@pytest.mark.parametrize(("vector", "target"), [(0x70, 1), (0x71, 2), (0x72, 0)])
def test_lowest_priority_by_x2apic_icr(vector, target):
    """live 6.18.44: logical, cluster 0, mask 7."""
    made = x2apic(3)
    made.vcpus[0].set_msr(msr(ICR), 7 << 32 | 0x900 | vector)
    assert to(made) == [target]


@pytest.mark.parametrize(
    ("icr", "got"),
    [(0x80061, [0, 1, 2]), (0xC0061, [0, 2]), (0x40061, [1]), (2 << 32 | 0x61, [2]), (9 << 32 | 0x61, [])],
)
def test_shorthands_and_physical_destinations_by_x2apic_icr(icr, got):
    """live 6.18.44: sent by vCPU 1; all, all but self, self, one, nobody."""
    made = x2apic(3)
    made.vcpus[1].set_msr(msr(ICR), icr)
    assert to(made) == got


def test_the_icr_keeps_the_destination():
    """live 6.18.44: ICR reads 0x200080061."""
    vcpu = x2apic(3).vcpus[0]
    vcpu.set_msr(msr(ICR), 0x2_0008_0061)
    assert vcpu.get_msr(msr(ICR)) == 0x2_0008_0061


@pytest.mark.parametrize(("flags", "dest", "returned"), [(0, 0xFF, 3), (3, 0xFF, 0), (3, 0xFFFFFFFF, 3), (1, 0xFF, 3)])
def test_the_broadcast_quirk(flags, dest, returned):
    """live 6.18.44: by default a device's 0xff reaches every x2APIC; without the quirk only 0xffffffff does."""
    made = x2apic(3)
    if flags:
        made.enable_x2apic_api(flags)
    assert made.signal_msi(address(dest), 0x41) == returned


def test_an_x2apic_ipi_to_0xff_is_no_broadcast():
    """source 6.18.35: in an IPI of an x2APIC only 0xffffffff is."""
    made = x2apic(3)
    made.vcpus[0].set_msr(msr(ICR), 0xFF << 32 | 0x61)
    assert to(made) == []
    made.vcpus[0].set_msr(msr(ICR), 0xFFFFFFFF << 32 | 0x61)
    assert to(made) == [0, 1, 2]


@pytest.mark.parametrize(("flags", "returned", "got"), [(0, 2, [0, 1]), (1, 1, [0])])
def test_two_xapics_with_one_id(flags, returned, got):
    """live 6.18.44: both get it; with 32-bit IDs the first owns the slot."""
    made = xapic(1, 2)
    if flags:
        made.enable_x2apic_api(flags)
    for vcpu in made.vcpus:
        load(vcpu, {ID: 5 << 24})
    assert (made.signal_msi(address(5), 0x41), to(made)) == (returned, got)


def test_an_id_that_nobody_has_while_ids_are_aliased():
    """live 6.18.44: without a map nobody matches: -1."""
    made = xapic(1, 2, avic=True)
    for vcpu in made.vcpus:
        load(vcpu, {ID: 5 << 24})
    assert made.signal_msi(MSI, 0x41) == -1
    assert {"PHYSICAL_ID_ALIASED", "LOGICAL_ID_ALIASED", "APIC_ID_MODIFIED"} <= made.inhibits


def test_a_physical_lowest_priority_broadcast_becomes_fixed():
    """live 6.18.44: returns 2 of 2 and prints a line."""
    made = xapic(1, 2)
    assert made.signal_msi(address(0xFF), LOWEST | 0x41) == 2
    assert made.dmesg == ["kvm: apic: phys broadcast and lowest prio"]


def test_the_high_address_without_32_bit_ids_is_ignored_and_checked_with_them():
    """live 6.18.44: EINVAL where its low byte is not 0."""
    made = xapic(1)
    assert made.signal_msi(1 << 32 | MSI, 0x41) == 1
    made.enable_x2apic_api(1)
    assert made.signal_msi(1 << 32 | MSI, 0x41) == -22


def test_without_hashing_the_least_used_gets_it():
    """source 6.18.35: arb_prio counts lowest-priority messages; ties go to the lowest index."""
    made = Host("zen4", "6.18", avic=False, vector_hashing=False).create_vm(3)
    for i, vcpu in enumerate(made.vcpus):
        load(vcpu, {SVR: 0x1FF, LDR: 1 << (24 + i)})
    for vector in range(0x50, 0x56):
        made.signal_msi(address(7, logical=True), LOWEST | vector)
    assert irr(made) == [{0x50, 0x53}, {0x51, 0x54}, {0x52, 0x55}]


def test_lowest_priority_ignores_the_priorities():
    """source 6.18.35: TPR plays no part in the choice."""
    made = xapic(1, 2, 4)
    load(made.vcpus[2], {TPR: 0xFF})
    assert made.signal_msi(address(7, logical=True), LOWEST | 0x50) == 1
    assert to(made) == [2]


def test_an_ldr_from_x2apic_times_is_skipped_in_xapic_mode():
    """source 6.18.35: its top byte is 0, so no logical destination reaches it."""
    made = x2apic(1)
    made.vcpus[0].set_msr(0x1B, 0xFEE00900)
    assert word(made.vcpus[0].get_lapic(), LDR) == 1
    assert made.signal_msi(address(1, logical=True), 0x41) == 0


@pytest.mark.parametrize("kernel", SERIES)
def test_mixed_modes_match_each_by_its_own(kernel):
    """source 5.10 to 7.3: an x2APIC and an xAPIC vCPU by physical ID."""
    made = xapic(1, 2, kernel=kernel)
    made.vcpus[1].set_msr(0x1B, X2APIC_ON)
    assert [made.signal_msi(address(i), 0x41) for i in range(3)] == [1, 1, 0]


def test_a_logical_id_that_two_share_in_old_releases():
    """source 5.10.13 (kvm_recalculate_apic_map: cluster[ffs(mask) - 1] = apic) and 6.18.35: the last one, or both."""
    assert to(sent(xapic(1, 1, kernel="6.1"))) == [1]
    assert to(sent(xapic(1, 1, kernel="6.6"))) == [0, 1]


def sent(made, dest=1):
    made.signal_msi(address(dest, logical=True), 0x41)
    return made


def test_several_logical_ids_of_one_vcpu_in_old_releases():
    """source 5.10.13: only the lowest bit is in the map, so a message to the other is dropped; later, slow path."""
    assert [xapic(3, kernel=kernel).signal_msi(address(2, logical=True), 0x41) for kernel in ("5.10", "6.6")] == [0, 1]


def test_a_physical_id_that_two_share_in_old_releases():
    """source 5.10.13: an xAPIC gets an ID only if it is free, so the first vCPU. 6.18.35: no map, so both."""
    for kernel, got in (("5.15", [0]), ("6.6", [0, 1])):
        made = xapic(1, 2, kernel=kernel)
        for vcpu in made.vcpus:
            load(vcpu, {ID: 5 << 24})
        made.signal_msi(address(5), 0x41)
        assert to(made) == got


def test_a_logical_nmi_while_no_apic_is_enabled():
    """source 5.10.13 (mode 0: not optimized, so the slow path) and 6.18.35 (SW_DISABLED: an empty mask)."""
    for kernel, returned in (("6.1", 1), ("6.6", 0)):
        made = vm(1, kernel)
        load(made.vcpus[0], {LDR: 1 << 24})
        assert made.signal_msi(address(1, logical=True), 0x400) == returned


def test_the_hash_counts_no_bits_above_the_highest_id():
    """source 6.18.35 kvm_apic_map_get_logical_dest: of the last cluster, only the IDs up to max_apic_id."""
    made = vm(2, ids=(0, 290))
    made.enable_x2apic_api(1)
    for vcpu in made.vcpus:
        vcpu.set_msr(0x1B, vcpu.get_msr(0x1B) | X2APIC_ON)
        vcpu.set_msr(msr(SVR), 0x1FF)
    # cluster 18 has the IDs from 288 on, and 290 is the last: of the bits 2 and 15 only one counts
    made.vcpus[0].set_msr(msr(ICR), (18 << 16 | 1 << 15 | 1 << 2) << 32 | 0x800 | LOWEST | 0x41)
    assert irr(made) == [set(), {0x41}]
