"""How a fact is said: from the rows, and with a label where it rests on an inference or on memory."""

import pytest

from kvmmodel.facts import load, told
from kvmmodel.facts.releases import changes, kernel, series
from kvmmodel.facts.told import DOUBTS

TELLERS = (told.since, told.release, told.until)


@pytest.mark.parametrize("id", changes())
def test_what_is_inferred_or_recalled_says_so_in_every_form(id):
    change = changes()[id]
    hows = {change.how, *(change.mainline or ("", ""))[1:]}
    doubts = hows & set(DOUBTS)
    for tell in TELLERS:
        try:
            said = tell(id)
        except ValueError:
            assert tell is told.until, id
            assert " or " in change.mainline[0], id  # two releases: there is no last one without it
            continue
        assert any(doubt in said for doubt in doubts) is bool(doubts), said
        assert not any(doubt in said for doubt in set(DOUBTS) - doubts) or len(doubts) > 1, said
    if change.stable and change.how in DOUBTS:
        assert change.how in told.stable(id)


@pytest.mark.parametrize("id", [*load("params"), *load("inhibits")])
def test_a_parameter_or_inhibit_whose_release_is_inferred_says_so(id):
    """Its release is that of the behaviour that brought it, else its own."""
    row = load("params").get(id) or load("inhibits")[id]
    brought = id if id in changes() else row.get("change")
    doubt = told.doubt_of(changes()[brought]) if brought else next(iter(row.get("mainline", {"": ""}).values()))
    for tell in (told.since, told.release):
        assert [word for word in DOUBTS if word in tell(id)] == ([doubt] if doubt in DOUBTS else [])


@pytest.mark.parametrize(
    ("tell", "words", "said"),
    [
        (told.since, ["avic_auto"], "since 6.18"),
        (told.since, ["irte_tracked_while_inhibited"], "since 6.17 (inferred)"),
        (told.since, ["enable_ipiv"], "since 6.17"),
        (told.since, ["sync_lapic_to_cr8_always"], "since 6.17 (stable: 6.12.49 and 6.1.154)"),
        (told.since, ["cr8_recomputed_on_ppr"], "from 7.2 on (stable: 6.12.114)"),
        (told.since, ["nested_state_inhibits"], "since 7.1 (stable: 6.18.35 or before, 6.12.86, 6.1.175)"),
        (told.since, ["ABSENT"], "since 5.16 or 5.17"),
        (told.release, ["x2avic"], "6.0"),
        (told.until, ["x2avic"], "up to 5.19"),
        (told.until, ["avic_auto"], "up to 6.17"),
        (told.until, ["gif_intercepts_follow_svme"], "up to 6.18"),
        (told.stable, ["cr8_intercept_follows_avic"], "6.18.35 or before, 6.12.78, 6.1.167"),
        (told.default, ["avic", "6.12"], "N"),
        (told.default, ["avic", "5.10"], "0"),
        (told.default, ["avic", "7.3"], "auto"),
        (told.default, ["halt_poll_ns", "6.12"], "200000"),
        (told.bit, ["IRQWIN", "7.3"], "8"),
        (told.mask, ["PIT_REINJ", "6.12"], "0x200"),
        (told.reason, ["0x200", "6.1"], "SEV"),
        (told.bits, ["IRQWIN"], "3 in 5.10 and 5.15, 7 in 6.1, 8 from 6.6 on"),
        (told.bits, ["X2APIC"], "5 in 5.10 and 5.15"),
    ],
)
def test_a_fact_in_words(tell, words, said):
    assert tell(*words) == said


@pytest.mark.parametrize("name", load("inhibits"))
def test_bits_tell_every_release_that_has_the_inhibit(name):
    """Each series falls into one of the spans, and its bit is the span's."""
    row = load("inhibits")[name]
    spans = told.by_span(row["bit"], row.get("until"))
    assert [value for _, value in spans] == list(row["bit"].values())
    assert all(when.startswith(("in ", "from ")) for when, _ in spans)


@pytest.mark.parametrize("name", load("params"))
def test_a_default_is_told_in_each_release_that_has_the_parameter(name):
    for line in series():
        try:
            value = told.default_of(name, kernel(line))
        except ValueError:
            continue
        assert told.default(name, line) in ("auto", "Y", "N") or told.default(name, line) == str(int(value))


@pytest.mark.parametrize(
    ("tell", "words", "message"),
    [
        (told.since, ["gravity"], "no behaviour, parameter or inhibit 'gravity'"),
        (told.stable, ["x2avic"], "no stable release is known"),
        (told.until, ["absent_inhibit"], "which release is before 5.16 or 5.17"),
        (told.default, ["enable_ipiv", "6.12"], "6.12.117 has no parameter 'enable_ipiv'"),
        (told.default, ["avic", "2.6"], "unknown kernel"),
        (told.bit, ["SEV", "5.10"], "has no APICv inhibit 'SEV'"),
        (told.bits, ["PIT"], "no APICv inhibit 'PIT'"),
    ],
)
def test_what_the_facts_do_not_have_is_refused_in_one_line(tell, words, message):
    with pytest.raises(ValueError, match=message) as caught:
        tell(*words)
    assert "\n" not in str(caught.value)
