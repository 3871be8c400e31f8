"""The AVIC unit by itself: the ICR algorithm and its reasons, recognition, TPR, EOI, VMRUN's checks, open points.

AMD APM volume 2, 15.29; each docstring says which mistake its test catches.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmmodel.events import AvicClearIsr, AvicLookup, AvicRing, AvicSetIrr, AvicTake
from kvmmodel.silicon import avic
from kvmmodel.silicon.avic_tables import LOGICAL_VALID, PHYSICAL_IS_RUNNING, PHYSICAL_VALID, physical_entry
from kvmmodel.silicon.vmcb import Vmcb
from tests.silicon.avic_bench import CLUSTER, DFR, FLAT, PPR, SVR, TPR, bench, bits

V = 0x40
LOGICAL, LEVEL, SELF, ALL, ALLBUT = 0x800, 0x8000, 0x40000, 0x80000, 0xC0000
NOT_FIXED = {"LowestPrio": 0x100, "SMI": 0x200, "reserved": 0x300, "NMI": 0x400, "INIT": 0x500, "SIPI": 0x600}
ID0, ID1, ID2, ID3, ID4 = range(5)


def send(made, low=V, dest=0, high=None):
    """An ICR write that is in the page already; ``dest`` as the mode encodes it."""
    wide = made.unit.vmcb.x2apic_mode
    return avic.write_icr(made.unit, low, (dest if wide else dest << 24) if high is None else high)


# ---- the ICR: who is meant, and what they get ----


@pytest.mark.parametrize("x2apic", [True, False])
def test_a_running_target_gets_the_bit_and_a_doorbell(x2apic):
    """Catches the doorbell to the APIC ID, not to the core that the table names."""
    made = bench(x2apic=x2apic)
    assert send(made, dest=1) is None
    assert made.irr() == {1: bits(V)}
    assert made.rung == [0x41]
    assert made.events == [AvicSetIrr(1, V), AvicLookup(1, True), AvicRing(1, 0x41)]


@pytest.mark.parametrize("x2apic", [True, False])
def test_id1_the_bit_is_set_before_the_exit(x2apic):
    """The ICR's last two steps. Catches an exit instead of the IRR bit, and a doorbell to who does not run."""
    made = bench(x2apic=x2apic)
    made.stop(2)
    assert send(made, dest=2) == (ID1, 2)
    assert made.irr() == {2: bits(V)}
    assert made.rung == []


def test_id1_comes_behind_every_bit_and_every_doorbell():
    """Catches the loop that leaves at the first target that does not run."""
    made = bench(4)
    made.stop(1)
    assert send(made, V | ALLBUT) == (ID1, 1)
    assert made.irr() == {1: bits(V), 2: bits(V), 3: bits(V)}
    assert made.rung == [0x42, 0x43]
    kinds = [type(event) for event in made.events]
    assert kinds.index(AvicLookup) == 3  # all IRR bits first


@pytest.mark.parametrize("x2apic", [True, False])
@pytest.mark.parametrize("running", [True, False])
def test_id2_a_directed_target_without_a_valid_entry(x2apic, running):
    """Nothing is set. Catches IsRunning looked at before Valid."""
    made = bench(x2apic=x2apic)
    made.table()[1] = physical_entry(0x5000, 1, running, valid=False)
    assert send(made, dest=1) == (ID2, 1)
    assert send(made, dest=9) == (ID2, 9)
    assert made.irr() == {}
    assert made.rung == []


@pytest.mark.parametrize("dest", [0b111, 0b1100])
def test_id2_one_invalid_target_of_a_logical_destination_stops_all(dest):
    """KVM's comment: hardware falls over if any target is invalid. Catches the valid ones sent to all the same."""
    made = bench(2, x2apic=False)
    made.logical().update({0: LOGICAL_VALID | 0, 1: LOGICAL_VALID | 1, 2: 1})
    assert send(made, V | LOGICAL, dest)[0] == ID2
    assert made.irr() == {}


def test_id2_a_logical_entry_that_names_an_invalid_physical_one():
    made = bench(2, x2apic=False)
    made.logical()[0] = LOGICAL_VALID | 7
    assert send(made, V | LOGICAL, 1) == (ID2, 0)


@pytest.mark.parametrize("low", [V, V | ALLBUT])
def test_id3_an_entry_whose_backing_page_is_none(low):
    """Catches Valid taken for enough."""
    made = bench()
    made.table()[1] = physical_entry(0x7000, 1, True)
    assert send(made, low, dest=1) == (ID3, 1)
    assert made.irr() == {}


@pytest.mark.parametrize("vector", range(16))
@pytest.mark.parametrize("low", [0, SELF, ALL])
def test_id4_vectors_below_16(vector, low):
    """Also to oneself: type and vector come first (a default). Catches `<=` and 15."""
    made = bench()
    assert send(made, vector | low, dest=1) == (ID4, 0)
    assert made.irr() == {}
    assert send(made, 16 | low, dest=1) is None


@pytest.mark.parametrize("mode", NOT_FIXED.values(), ids=NOT_FIXED)
@pytest.mark.parametrize("low", [0, SELF, ALL, ALLBUT, LOGICAL])
def test_id0_everything_but_fixed(mode, low):
    """Catches lowest priority accelerated as if it were Fixed, and an NMI to oneself sent."""
    made = bench()
    assert send(made, V | mode | low, dest=1) == (ID0, 0)
    assert made.irr() == {}
    assert made.rung == []


def test_id0_level_triggered():
    assert send(bench(), V | LEVEL, dest=1) == (ID0, 0)
    assert send(bench(), V | LEVEL | SELF) == (ID0, 0)


def test_the_assert_bit_does_not_matter():
    """Bit 14. Catches it taken for the trigger mode, bit 15."""
    assert send(bench(), V | 0x4000, dest=1) is None


def test_a_self_ipi_looks_at_no_table():
    """The ICR's first step. Catches a self-IPI that exits with ID 1 where IsRunning is kept clear (Zen 2)."""
    made = bench()
    made.table().clear()
    made.unit.vmcb.avic_max_index = 0
    assert send(made, V | SELF) is None
    assert made.irr() == {0: bits(V)}
    assert made.rung == []
    assert made.unit.request


def test_a_physical_ipi_to_oneself_is_no_self_ipi():
    """It does look at the table. Catches dest == own ID taken for the shorthand."""
    made = bench()
    made.stop(0)
    assert send(made, dest=0) == (ID1, 0)
    made.table()[0] |= PHYSICAL_IS_RUNNING
    assert send(made, dest=0) is None
    assert made.rung == []  # it is on this core, and looks at once
    assert made.unit.request


@pytest.mark.parametrize("x2apic", [True, False])
@pytest.mark.parametrize(("low", "meant"), [(ALL, {0, 1, 2}), (ALLBUT, {1, 2})])
def test_shorthands_skip_invalid_entries_without_a_word(x2apic, low, meant):
    """Catches ID 2 for a vCPU that is not there, and the sender in all but self."""
    made = bench(x2apic=x2apic)
    made.table()[5] = physical_entry(0x5000, 5, True, valid=False)
    assert send(made, V | low) is None
    assert set(made.irr()) == meant
    assert made.rung == [0x40 + ident for ident in sorted(meant - {0})]


@pytest.mark.parametrize("mode", [0, LOGICAL])
def test_xapic_destination_ff_is_a_broadcast_in_both_modes(mode):
    """Also to the sender. Catches FFh looked up as an ID, or as eight logical ones."""
    made = bench(x2apic=False)
    assert send(made, V | mode, 0xFF) is None
    assert set(made.irr()) == {0, 1, 2}


def test_x2apic_destination_ff_is_one_vcpu():
    """Catches xAPIC's broadcast in x2APIC mode."""
    made = bench([0, 255])
    assert send(made, dest=0xFF) is None
    assert set(made.irr()) == {255}


def test_a_broadcast_stops_at_max_index():
    made = bench([0, 1, 9], max_index=1)
    assert send(made, V | ALL) is None
    assert set(made.irr()) == {0, 1}


# ---- logical destinations ----


@pytest.mark.parametrize("dest", [0b001, 0b010, 0b011, 0b111])
def test_flat_each_bit_is_a_slot_of_the_logical_table(dest):
    """The table, not the APIC ID, says who is behind a bit. Catches the bit's number taken for the ID."""
    made = bench(3, x2apic=False)
    made.logical().update({0: LOGICAL_VALID | 2, 1: LOGICAL_VALID | 0, 2: LOGICAL_VALID | 1})
    assert send(made, V | LOGICAL, dest) is None
    assert set(made.irr()) == {who for bit, who in ((0, 2), (1, 0), (2, 1)) if dest >> bit & 1}


@pytest.mark.parametrize("cluster", [0, 1, 14])
def test_cluster_four_bits_in_one_of_fifteen_clusters(cluster):
    """The sender's DFR decides. Catches flat's eight bits in cluster mode."""
    made = bench(2, x2apic=False)
    made.pages[0].regs[DFR] = CLUSTER
    made.logical().update({4 * cluster + 1: LOGICAL_VALID | 0, 4 * cluster + 3: LOGICAL_VALID | 1})
    assert send(made, V | LOGICAL, cluster << 4 | 0b1010) is None
    assert set(made.irr()) == {0, 1}
    assert send(made, V | LOGICAL, cluster << 4 | 0b0100)[0] == ID2


def test_cluster_15_has_no_entries():
    made = bench(2, x2apic=False)
    made.pages[0].regs[DFR] = CLUSTER
    assert send(made, V | LOGICAL, 0xF1) == (ID2, 0)


def test_the_model_of_the_sender_counts():
    made = bench(1, x2apic=False)
    made.logical().update({4: LOGICAL_VALID | 0})
    assert send(made, V | LOGICAL, 0x11)[0] == ID2  # flat: bit 0 has no entry
    made.pages[0].regs[DFR] = CLUSTER
    assert send(made, V | LOGICAL, 0x11) is None
    made.pages[0].regs[DFR] = FLAT
    assert send(made, V | LOGICAL, 0x10) is None  # flat: bit 4


@pytest.mark.parametrize("ident", [0, 15, 16, 17, 255, 256, 511])
def test_x2avic_derives_logical_ids(ident):
    """(id[19:4] << 16) | 1 << id[3:0]; no table. Catches the upper half for the members, and a cluster of 8."""
    made = bench(sorted({0, ident}))
    made.unit.memory.tables.pop(made.unit.vmcb.avic_logical_id)
    assert send(made, V | LOGICAL, (ident >> 4) << 16 | 1 << (ident & 15)) is None
    assert set(made.irr()) == {ident}


def test_x2avic_several_members_of_a_cluster():
    made = bench([0, 16, 17, 31])
    assert send(made, V | LOGICAL, 1 << 16 | 0x8003) is None
    assert set(made.irr()) == {16, 17, 31}


# ---- open points of the ICR ----


@pytest.mark.parametrize(("order", "first"), [("type", ID0), ("target", ID2), ("vector", ID4)])
def test_open_point_which_reason_comes_first(order, first):
    """An NMI with vector 2 to nobody: all three apply. Catches an order fixed in the code."""
    assert send(bench(avic_icr_check_order=order), 0x402, dest=9)[0] == first


@pytest.mark.parametrize("order", ["type", "target", "vector"])
def test_open_point_behind_the_first_reason_type_comes_before_vector_or_the_rest(order):
    second = {"type": ID4, "target": ID0, "vector": ID0}[order]
    low, dest = {"type": (0x02, 9), "target": (0x402, 1), "vector": (0x440, 9)}[order]
    assert send(bench(avic_icr_check_order=order), low, dest=dest)[0] == second


def test_id2_a_destination_above_max_index():
    """Table 15-27: not covered by the table. Entry or not. Catches MAX_INDEX not looked at."""
    made = bench([0, 9], max_index=5)
    assert send(made, dest=9) == (ID2, 9)
    assert made.irr() == {}
    assert send(bench([0, 9], max_index=9), dest=9) is None  # inclusive


@pytest.mark.parametrize(("x2apic", "dest"), [(True, 0), (True, 3 << 16), (False, 0)])
def test_open_point_a_logical_destination_that_names_nobody(x2apic, dest):
    assert send(bench(x2apic=x2apic), V | LOGICAL, dest) == (ID2, 0)
    assert send(bench(x2apic=x2apic, avic_logical_empty="none"), V | LOGICAL, dest) is None


def test_a_broadcast_to_nobody_is_no_error():
    """Catches an empty table taken for an empty logical mask."""
    assert send(bench(1), V | ALLBUT) is None


@pytest.mark.parametrize(("choice", "index"), [("logical", 5), ("physical", 1)])
def test_open_point_of_which_table_the_index_is_for_a_logical_destination(choice, index):
    """Slot 5 names APIC ID 1. Slot 6 names nobody, and has no other index. Catches the ID taken for the slot."""
    made = bench(2, x2apic=False, avic_index_reported=choice)
    made.logical().update({0: LOGICAL_VALID | 0, 5: LOGICAL_VALID | 1})
    made.stop(1)
    assert send(made, V | LOGICAL, 1 << 5) == send(made, V | LOGICAL, 1 << 5 | 1) == (ID1, index)
    assert send(made, V | LOGICAL, 1 << 6) == (ID2, 6)
    assert send(made, dest=1) == send(made, V | ALLBUT) == (ID1, 1)
    made.table()[1] = physical_entry(0x5000, 1, valid=False)
    assert send(made, V | LOGICAL, 1 << 5) == (ID2, index)


@pytest.mark.parametrize("choice", ["logical", "physical"])
def test_the_index_of_id3_goes_by_the_destination_mode(choice):
    """Table 15-27. Catches the open choice taken here, too."""
    made = bench(2, x2apic=False, avic_index_reported=choice)
    made.logical()[5] = LOGICAL_VALID | 1
    made.table()[1] = physical_entry(0x7000, 1, True)
    assert send(made, V | LOGICAL, 1 << 5) == (ID3, 5)
    assert send(made, dest=1) == send(made, V | ALLBUT) == (ID3, 1)


@pytest.mark.parametrize("choice", ["logical", "physical"])
def test_x2avic_has_no_logical_table_to_report_from(choice):
    made = bench(avic_index_reported=choice)
    made.stop(1)
    assert send(made, V | LOGICAL, 0b10) == (ID1, 1)


def test_open_point_x2avic_broadcast():
    made = bench()
    assert send(made, dest=0xFFFFFFFF) is None
    assert set(made.irr()) == {0, 1, 2}
    other = bench(x2avic_broadcast="ID2")
    assert send(other, dest=0xFFFFFFFF)[0] == ID2
    assert other.irr() == {}


def test_open_point_entry_255_in_x2avic():
    assert send(bench([0, 255]), dest=255) is None
    assert send(bench([0, 255], entry_255_x2avic="reserved"), dest=255) == (ID2, 255)
    assert send(bench([0, 255], entry_255_x2avic="reserved"), V | LOGICAL, 15 << 16 | 1 << 15)[0] == ID2


def test_open_point_a_self_ipi_of_a_disabled_apic():
    for choice, found in (("accepted", {0: bits(V)}), ("dropped", {})):
        made = bench(avic_self_ipi_sw_disabled=choice)
        made.pages[0].regs[SVR] = 0xFF
        assert send(made, V | SELF) is None
        assert made.irr() == found
        made.pages[0].regs[SVR] = 0x1FF
        assert send(made, V | SELF) is None
        assert made.irr() == {0: bits(V)}


# ---- the ICR as a whole ----


@st.composite
def populations(draw):
    """A table: APIC ID -> (valid, running)."""
    idents = draw(st.sets(st.integers(1, 40), max_size=6)) | {0}
    return {ident: (draw(st.booleans()) or ident == 0, draw(st.booleans())) for ident in sorted(idents)}


def prepare(population, **options):
    made = bench(sorted(population), **options)
    for ident, (valid, running) in population.items():
        if not running:
            made.stop(ident)
        if not valid:
            made.table()[ident] &= ~PHYSICAL_VALID
    return made


@given(populations(), st.sampled_from([0, ALL, ALLBUT, LOGICAL]), st.integers(0, 0x3FFFF), st.integers(16, 255))
def test_an_accelerated_ipi_reaches_exactly_those_meant(population, kind, dest, vector):
    """The ICR restated for x2AVIC: all who are meant have valid entries, or nothing; ID 1 iff one does not."""
    made = prepare(population)
    if kind in (ALL, ALLBUT):
        meant = {ident for ident, (valid, _) in population.items() if valid and (kind == ALL or ident != 0)}
    elif kind == LOGICAL:
        meant = {ident for ident in range(64) if ident >> 4 == dest >> 16 and dest >> (ident & 15) & 1}
    else:
        meant = {dest}
    good = all(population.get(ident, (False, False))[0] for ident in meant) and bool(meant or kind in (ALL, ALLBUT))
    found = send(made, vector | kind, dest)
    if not good:
        assert found is not None
        assert found[0] == ID2
        assert (made.irr(), made.rung) == ({}, [])
        return
    running = {ident for ident in meant if population[ident][1]}
    assert made.irr() == dict.fromkeys(meant, bits(vector))
    assert made.rung == [0x40 + ident for ident in sorted(running - {0})]
    assert (found is None) == (running == meant)
    assert found is None or found[0] == ID1


@given(populations(), st.integers(0, 0xFFFFF), st.integers(0, 255))
def test_no_icr_write_changes_the_tables(population, low, dest):
    made = prepare(population)
    before = dict(made.table())
    send(made, low, dest)
    assert made.table() == before


@given(st.integers(0, 0xFFFFF), st.integers(0, 3))
def test_a_reason_other_than_id1_means_that_nothing_was_done(low, dest):
    made = bench()
    made.stop(2)
    found = send(made, low, dest)
    if found is not None and found[0] != ID1:
        assert (made.irr(), made.rung, made.events) == ({}, [], [])


# ---- recognition: IRR to ISR ----


@pytest.mark.parametrize(
    ("irr", "isr", "tpr", "taken"),
    [
        (0, 0, 0, None),
        (bits(0x10), 0, 0x00, 0x10),
        (bits(0x1F), 0, 0x10, None),  # the same class is not enough
        (bits(0x20), 0, 0x1F, 0x20),
        (bits(0x4F), bits(0x41), 0, None),
        (bits(0x50), bits(0x4F), 0, 0x50),
        (bits(0x41, 0x62), 0, 0, 0x62),
        (bits(0xFF), bits(0xEF), 0xE0, 0xFF),
    ],
)
def test_what_is_taken(irr, isr, tpr, taken):
    """R8: the highest, if its class is above PPR's. Catches `>=`, and vectors compared instead of classes."""
    made = bench(1)
    page = made.pages[0]
    page.irr, page.isr, page.regs[TPR] = irr, isr, tpr
    avic.update_ppr(made.unit)
    assert avic.take(made.unit) == taken
    if taken is not None:
        assert made.events == [AvicTake(0, taken)]
        assert page.irr == irr & ~bits(taken)
        assert page.isr == isr | bits(taken)
        assert page.regs[PPR] == taken & 0xF0


VECTORS = st.sets(st.integers(16, 255), max_size=5)


@given(VECTORS, VECTORS, st.integers(0, 255))
def test_taking_moves_one_bit_or_none(pending, serviced, tpr):
    made = bench(1)
    page = made.pages[0]
    page.irr, page.isr, page.regs[TPR] = bits(*pending), bits(*serviced), tpr
    avic.update_ppr(made.unit)
    ppr = max([tpr & 0xF0, *(v & 0xF0 for v in serviced)])
    due = max(pending, default=0)
    avic.evaluate(made.unit)
    assert made.unit.request == (due & 0xF0 > ppr)
    assert avic.take(made.unit) == (due if due & 0xF0 > ppr else None)
    assert not made.unit.request  # what is left has a class that is not above the one in service
    both = page.irr.bit_count() + page.isr.bit_count()
    assert both == len(pending) + len(serviced | ({due} if due & 0xF0 > ppr else set())) - (due & 0xF0 > ppr)


@given(VECTORS, st.integers(0, 255))
def test_eois_take_everything_in_order_of_priority(pending, tpr):
    """Catches a request that is not renewed at EOI, and a lower vector taken first."""
    made = bench(1)
    made.pages[0].irr = bits(*pending)
    avic.write_tpr(made.unit, tpr)
    order = []
    while made.unit.request:
        order.append(avic.take(made.unit))
        assert avic.write_eoi(made.unit) is None
    assert order == sorted((v for v in pending if v >> 4 > tpr >> 4), reverse=True)


# ---- TPR, CR8, PPR ----


@given(st.integers(0, 0xFF), VECTORS)
def test_a_tpr_write_changes_cr8_and_ppr(tpr, serviced):
    """CR8 is TPR's upper half. Catches V_TPR left behind, and PPR below the vector in service."""
    made = bench(1)
    made.pages[0].isr = bits(*serviced)
    avic.write_tpr(made.unit, tpr)
    regs = made.pages[0].regs
    assert regs[TPR] == tpr
    assert made.unit.vmcb.v_tpr == tpr >> 4
    isrv = max(serviced, default=0)
    assert regs[PPR] == (tpr if tpr >> 4 >= isrv >> 4 else isrv & 0xF0)


@given(st.integers(0, 0xFF), VECTORS)
def test_open_point_ppr_without_the_low_nibble(tpr, serviced):
    made = bench(1, avic_ppr_low_nibble="dropped")
    made.pages[0].isr = bits(*serviced)
    avic.write_tpr(made.unit, tpr)
    assert made.pages[0].regs[PPR] == max(tpr & 0xF0, max(serviced, default=0) & 0xF0)


def test_a_lower_tpr_lets_what_waits_through():
    """Recognition at a TPR change. Catches an interrupt that waits for the next doorbell."""
    made = bench(1)
    avic.write_tpr(made.unit, 0x50)
    made.pages[0].irr = bits(0x55)
    avic.evaluate(made.unit)
    assert not made.unit.request
    avic.write_tpr(made.unit, 0x4F)
    assert made.unit.request


def test_a_higher_tpr_takes_a_request_back():
    made = bench(1)
    made.pages[0].irr = bits(0x55)
    avic.evaluate(made.unit)
    assert made.unit.request
    avic.write_tpr(made.unit, 0x50)
    assert not made.unit.request


# ---- EOI ----


def test_eoi_of_an_edge_vector_needs_no_exit():
    """R9. Catches the lowest cleared, or all."""
    made = bench(1)
    page = made.pages[0]
    page.isr, page.irr = bits(0x41, 0x61), bits(0x55)
    avic.update_ppr(made.unit)
    assert avic.write_eoi(made.unit) is None
    assert page.isr == bits(0x41)
    assert page.regs[PPR] == 0x40
    assert made.unit.request  # 0x55 is above now
    assert made.events == [AvicClearIsr(0, 0x61)]


def test_eoi_of_a_level_vector_exits_with_its_bit_set():
    """R9: KVM clears it. Catches a bit cleared in both places, which would end 0x41 too."""
    made = bench(1)
    page = made.pages[0]
    page.isr, page.tmr = bits(0x41, 0x61), bits(0x61)
    assert avic.write_eoi(made.unit) == 0x61
    assert page.isr == bits(0x41, 0x61)
    assert page.tmr == bits(0x61)
    assert made.events == []


def test_only_the_highest_vectors_tmr_bit_counts():
    """Catches any TMR bit taken for a reason to exit."""
    made = bench(1)
    made.pages[0].isr, made.pages[0].tmr = bits(0x41, 0x61), bits(0x41, 0xFF)
    assert avic.write_eoi(made.unit) is None
    assert made.pages[0].isr == bits(0x41)


def test_open_point_isr_cleared_at_the_exit_of_a_level_eoi():
    made = bench(1, avic_isr_at_level_eoi="cleared")
    page = made.pages[0]
    page.isr, page.tmr, page.regs[PPR] = bits(0x41, 0x61), bits(0x61), 0x60
    assert avic.write_eoi(made.unit) == 0x61
    assert page.isr == bits(0x41)
    assert page.regs[PPR] == 0x40


def test_open_point_eoi_with_nothing_in_service():
    made = bench(1)
    assert avic.write_eoi(made.unit) is None
    assert avic.write_eoi(bench(1, avic_eoi_empty_isr="trap").unit) == 0
    assert made.events == []


@given(VECTORS.filter(bool), VECTORS)
def test_eoi_ends_the_highest_unless_it_is_level(serviced, level):
    made = bench(1)
    page = made.pages[0]
    page.isr, page.tmr = bits(*serviced), bits(*level)
    top = max(serviced)
    assert avic.write_eoi(made.unit) == (top if top in level else None)
    assert page.isr == bits(*(serviced if top in level else serviced - {top}))


# ---- VMRUN's checks ----


@pytest.mark.parametrize(
    ("fields", "ext", "refused"),
    [
        ({}, False, False),
        ({"avic_max_index": 4095}, False, False),  # without AVIC nobody looks
        ({"x2apic_mode": True}, False, True),
        ({"avic_enable": True, "avic_max_index": 255}, False, False),
        ({"avic_enable": True, "avic_max_index": 256}, False, True),
        ({"avic_enable": True, "avic_max_index": 256}, True, True),
        ({"avic_enable": True, "x2apic_mode": True, "avic_max_index": 511}, False, False),
        ({"avic_enable": True, "x2apic_mode": True, "avic_max_index": 512}, False, True),
        ({"avic_enable": True, "x2apic_mode": True, "avic_max_index": 512}, True, False),
        ({"avic_enable": True, "x2apic_mode": True, "avic_max_index": 4095}, True, False),
    ],
)
def test_vmrun_checks(fields, ext, refused):
    """Catches bit 30 without bit 31 let through, limits off by one, and x2AVIC_EXT that raises xAVIC's."""
    assert avic.vmrun_refuses(Vmcb(**fields), ext) is refused


# ---- what an IPI leaves behind, and who takes it ----


@pytest.mark.parametrize("low", [SELF, 0])
def test_open_point_whether_an_ipi_changes_tmr(low):
    """KVM clears it when it delivers; one that a level interrupt left makes the EOI exit. Catches TMR set."""
    for choice, left in (("kept", bits(V, 0x50)), ("cleared", bits(0x50))):
        made = bench(avic_ipi_tmr=choice)
        made.pages[0].tmr = bits(V, 0x50)
        assert send(made, V | low, dest=0) is None
        assert made.pages[0].tmr == left


def test_open_point_a_target_that_is_software_disabled():
    """Catches an exit for it: nothing is wrong with its entry."""
    for choice, found in (("accepted", {1, 2}), ("dropped", {2})):
        made = bench(avic_ipi_sw_disabled=choice)
        made.pages[1].regs[SVR] = 0xFF
        assert send(made, V | ALLBUT) is None
        assert set(made.irr()) == found
        assert len(made.rung) == len(found)
