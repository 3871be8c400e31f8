"""The physical and the logical APIC ID table, by their bits. APM volume 2, 15.29."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmmodel.silicon.avic_tables import (
    PHYSICAL_BACKING_PAGE,
    PHYSICAL_HOST_ID,
    PHYSICAL_IS_RUNNING,
    PHYSICAL_VALID,
    HostMemory,
    logical_index,
    physical_entry,
)

PAGES = st.integers(0, (1 << 40) - 1).map(lambda n: n << 12)


def test_the_bits_of_a_physical_entry():
    """63 Valid, 62 IsRunning, 51:12 the page, 11:0 the core. Catches bits 63 and 62 exchanged, and an 8-bit core."""
    assert PHYSICAL_VALID == 0x8000_0000_0000_0000
    assert PHYSICAL_IS_RUNNING == 0x4000_0000_0000_0000
    assert PHYSICAL_BACKING_PAGE == 0x000F_FFFF_FFFF_F000
    assert PHYSICAL_HOST_ID == 0xFFF
    assert physical_entry(0x1_2345_6000, 0x5, running=True) == 0xC000_0001_2345_6005


@given(PAGES, st.integers(0, 0xFFF), st.booleans(), st.booleans())
def test_an_entry_gives_back_its_fields(page, core, running, valid):
    entry = physical_entry(page, core, running, valid)
    assert (entry & PHYSICAL_BACKING_PAGE, entry & PHYSICAL_HOST_ID) == (page, core)
    assert (bool(entry & PHYSICAL_IS_RUNNING), bool(entry & PHYSICAL_VALID)) == (running, valid)
    assert entry & (0x3FF << 52) == 0  # 61:52, reserved


@given(st.integers(0, (1 << 64) - 1), st.integers(0, 0xFFFF))
def test_what_does_not_belong_into_a_field_is_cut_off(page, core):
    """Catches an address, or a core, that runs into Valid or IsRunning."""
    entry = physical_entry(page, core)
    assert entry >> 52 == 1 << 11
    assert entry & 0xFFF == core & 0xFFF


@pytest.mark.parametrize("bit", range(8))
def test_flat_a_bit_is_its_own_slot(bit):
    assert logical_index(1 << bit, flat=True) == bit


@pytest.mark.parametrize("cluster", range(15))
@pytest.mark.parametrize("bit", range(4))
def test_cluster_four_slots_each(cluster, bit):
    """Catches `&&` for `&`: every cluster at slot 0 or 1; and a stride of 16."""
    assert logical_index(cluster << 4 | 1 << bit, flat=False) == 4 * cluster + bit


@pytest.mark.parametrize("bits", range(16))
def test_cluster_15_is_reserved(bits):
    assert logical_index(0xF0 | bits, flat=False) is None


@given(st.integers(0, 0xFF), st.booleans())
def test_only_an_id_with_one_bit_has_a_slot(logical, flat):
    """Of the whole byte flat, of the low nibble in a cluster. Catches the lowest of several bits taken."""
    bits = logical if flat else logical & 0xF
    slot = logical_index(logical, flat)
    if bits.bit_count() != 1 or (not flat and logical >> 4 == 15):
        assert slot is None
    else:
        assert slot is not None


def test_no_two_ids_share_a_slot():
    for flat, size in ((True, 8), (False, 60)):
        slots = [slot for slot in (logical_index(i, flat) for i in range(256)) if slot is not None]
        assert sorted(slots) == list(range(size))


def test_memory_gives_each_page_once():
    """Catches two vCPUs with one backing page."""
    memory = HostMemory()
    pages = [memory.alloc() for _ in range(8)]
    assert len(set(pages)) == 8
    assert all(page & 0xFFF == 0 and page == page & PHYSICAL_BACKING_PAGE for page in pages)
