"""APICv's inhibits: what a bit of a traced bitmap means depends on the release."""

import pytest

from kvmmodel.facts import inhibits, load
from kvmmodel.facts.releases import kernel, series


def test_a_name_stands_at_its_bit():
    assert inhibits.names(kernel("5.10")) == ("DISABLE", "HYPERV", "NESTED", "IRQWIN", "PIT_REINJ", "X2APIC")
    assert inhibits.names(kernel("6.1"))[6:] == ("NESTED", "IRQWIN", "PIT_REINJ", "SEV")
    assert inhibits.names(kernel("7.3"))[11:] == ("LOGICAL_ID_ALIASED", "PHYSICAL_ID_TOO_BIG")


@pytest.mark.parametrize("name", series())
def test_the_bits_of_a_release_have_no_gap(name):
    """Else names() would not be in bit order by index, and decode() would shift."""
    reasons = inhibits.reasons(kernel(name))
    assert [reason.bit for reason in reasons] == list(range(len(reasons)))


@pytest.mark.parametrize(
    ("name", "count"),
    [("5.10", 6), ("5.15", 6), ("6.1", 10), ("6.6", 12), ("6.12", 12), ("6.18", 13), ("7.2", 13), ("7.3", 13)],
)
def test_how_many_there_are(name, count):
    assert len(inhibits.names(kernel(name))) == count


@pytest.mark.parametrize(
    ("name", "mask", "meaning"),
    [
        ("5.15", 0x28, ("IRQWIN", "X2APIC")),
        ("6.1", 0x5, ("DISABLE", "ABSENT")),
        ("6.1.187", 0x80, ("IRQWIN",)),
        ("6.12", 0x100, ("IRQWIN",)),
        ("6.12", 0x1, ("DISABLED",)),
        ("7.3", 0x1200, ("PIT_REINJ", "PHYSICAL_ID_TOO_BIG")),
        ("7.3", 0, ()),
    ],
)
def test_a_bitmap_is_decoded(name, mask, meaning):
    assert inhibits.decode(kernel(name), mask) == meaning


@pytest.mark.parametrize(("name", "mask"), [("6.12", 0x1000), ("5.10", 0x40), ("7.3", -1)])
def test_a_bit_that_the_release_has_not_is_refused(name, mask):
    with pytest.raises(ValueError, match=f"kernel {kernel(name).release} has the APICv inhibits of bits 0 to"):
        inhibits.decode(kernel(name), mask)


def test_a_reason_is_found_by_its_id_and_by_what_the_release_calls_it():
    assert inhibits.bit(kernel("6.6"), "DISABLED") == inhibits.bit(kernel("6.6"), "DISABLE") == 0
    assert inhibits.bit(kernel("6.1"), "NESTED") == 6
    with pytest.raises(ValueError, match=r"kernel 6\.1\.192 has no APICv inhibit 'X2APIC': expected one of DISABLE, "):
        inhibits.bit(kernel("6.1"), "X2APIC")
    with pytest.raises(ValueError, match="has no APICv inhibit 'DISABLE'"):
        inhibits.bit(kernel("6.12"), "DISABLE")


def test_what_a_reason_covers_changes_with_the_release():
    assert [inhibits.reason(kernel(name), "NESTED").scope for name in ("5.15", "6.1")] == ["VM", "vCPU"]
    assert [inhibits.reason(kernel(name), "APIC_ID_MODIFIED").cleared_by for name in ("6.1", "6.6")] == [
        "never",
        "kvm_recalculate_apic_map",
    ]


def test_avic_asks_for_every_reason_and_intel_for_seven():
    of = inhibits.reasons(kernel("7.3"))
    assert all(reason.avic for reason in of)
    assert [reason.id for reason in of if reason.vmx] == [
        "DISABLED", "HYPERV", "ABSENT", "BLOCKIRQ", "PHYSICAL_ID_ALIASED", "APIC_ID_MODIFIED", "APIC_BASE_MODIFIED",
    ]  # fmt: skip


def test_values_begin_at_modelled_series():
    for name, row in load("inhibits").items():
        for field in ("bit", "name", "scope", "set_by", "cleared_by"):
            assert set(row.get(field, ())) <= set(series()), (name, field)
        first = next(iter(row["bit"]))
        assert all(next(iter(row[field])) == first for field in ("scope", "set_by", "cleared_by")), name


def test_what_to_change_depends_on_the_release():
    """hv-avic is of no use where a SynIC alone inhibits, nor hiding SVM where only running a guest does."""
    old, new = (inhibits.reason(kernel(series), "HYPERV") for series in ("5.10", "5.15"))
    assert (old.options, new.options) == ((), ("-cpu ...,hv-avic",))
    assert old.avoid == "leave hv-synic and hv-stimer out"
    old, new = (inhibits.reason(kernel(series), "NESTED") for series in ("5.15", "6.1"))
    assert (old.short, new.short) == ("SVM is in the guest's CPUID", "L2 runs, on that vCPU only")
    assert (old.options[0], new.options) == ("-cpu ...,-svm", ())
