"""The page Names: what its rows say."""

from kvmbook.tables import MAKERS


def lines(kind: str, name: str) -> list[str]:
    return next(said for _, shown, said in MAKERS[kind]("") if shown == name)


def test_a_parameter_has_its_type_and_default_as_each_release_spells_it():
    assert lines("parameter", "avic") == [
        "Let the processor deliver interrupts (AVIC, x2AVIC).",
        "kvm_amd; from 5.10 on",
        "type: int in 5.10; bool from 5.15 to 6.12; bool or auto from 6.18 on",
        "default: 0 in 5.10; N from 5.15 to 6.12; auto from 6.18 on",
    ]


def test_a_parameter_that_went_says_so_and_one_that_never_changed_has_one_value():
    said = lines("parameter", "lapic_timer_advance_ns")
    assert said[1:] == ["kvm; from 5.10 on, gone in 6.12", "type: int", "default: -1"]


def test_an_inhibit_says_who_sets_it_and_what_avoids_it():
    said = "\n".join(lines("inhibit", "PIT_REINJ"))
    assert "set by: kvm_pit_set_reinject(true)" in said
    assert "-machine pit=off" in said


def test_a_release_says_what_it_stands_for_and_what_was_recorded_of_it():
    said = lines("release", "6.12")
    assert said[0] == "stands for 6.12.117, whose source was read"
    assert any("6.12.95" in line for line in said[1:])
