"""The explorer of the page on GIF: every case told to the end, what each costs, and what KVM must hear of."""

import pytest

from kvmmodel.widgets.gif import EVENTS, FLAGS, MEANS, clgi_exits, gif_costs, gif_exits, gif_explorer, gif_story

EVERY = [(event, flag, means) for _, event in EVENTS for _, flag in FLAGS for _, means in MEANS]
NMIS = {"nmi": 1, "two": 2, "again": 2}


def labels(story):
    return [step.label for step in story.steps]


@pytest.mark.parametrize("kernel", ["6.6", "6.12", "7.3.4"])
@pytest.mark.parametrize(("event", "flag", "means"), EVERY)
def test_what_came_is_handled(event, flag, means, kernel):
    story = gif_story(event, flag, means, kernel)
    end = story.steps[-1].states[0]
    assert (end.gif, end.nmis, end.smm, end.irr, end.isr) == (True, 0, False, 0, 0)
    assert (story.verdict, story.broken) == (None, None)
    assert labels(story).count("NMI handler runs") == NMIS.get(event, 0)
    assert labels(story).count("enter SMM") == labels(story).count("leave SMM") == (event == "smi")
    assert labels(story).count("handler of `0x41` runs") == (event == "irq")


@pytest.mark.parametrize(("event", "flag", "means"), EVERY)
def test_nothing_comes_in_while_gif_is_clear(event, flag, means):
    for step in gif_story(event, flag, means).steps:
        if not step.states[0].gif:
            assert step.kind not in ("handler", "inject")
            assert step.label not in ("enter SMM", "delivers the virtual NMI")


@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize(("event", "flag", "means"), [*EVERY, *(("none", "clear", means) for _, means in MEANS)])
def test_words_are_few(event, flag, means, broken):
    story = gif_story(event, flag, means, broken=broken)
    columns = {column.id for group in story.groups for column in group.columns}
    for step in story.steps:
        assert len(step.sentence.split()) <= 20, step.sentence
        assert len(step.label.split()) <= 6, step.label
        assert len(step.label) <= 38, step.label
        assert {step.at, step.to} - {None} <= columns


COSTS = {
    ("nmi", "set"): ("IRET", "IRET", ""),
    ("two", "set"): ("IRET #DB IRET", "IRET #DB IRET", ""),
    ("again", "set"): ("IRET #DB IRET", "IRET #DB IRET", ""),
    ("smi", "set"): ("RSM", "RSM", "RSM"),
    ("irq", "set"): ("MSR", "MSR", "MSR"),
    ("none", "clear"): ("CLGI STGI", "", ""),
    ("nmi", "clear"): ("CLGI STGI IRET", "STGI IRET", ""),
    ("two", "clear"): ("CLGI STGI IRET #DB IRET", "STGI IRET #DB IRET", "STGI"),
    ("smi", "clear"): ("CLGI STGI RSM", "STGI RSM", "STGI RSM"),
    ("irq", "clear"): ("CLGI STGI MSR", "VINTR MSR", "VINTR MSR"),
}


@pytest.mark.parametrize("kernel", ["6.6", "6.12", "7.3.4"])
@pytest.mark.parametrize(("event", "flag"), COSTS)
def test_what_an_event_costs(event, flag, kernel):
    """source 6.12.117, 7.3.4: svm_inject_nmi, svm_enable_nmi_window, svm_enable_smi_window, svm_enable_irq_window."""
    costs = COSTS[event, flag]
    assert tuple(" ".join(gif_exits(event, flag, means, kernel)) for _, means in MEANS) == costs


@pytest.mark.parametrize("event", [event for _, event in EVENTS])
def test_vgif_changes_nothing_for_a_guest_that_never_clears_gif(event):
    assert gif_exits(event, "set", "neither") == gif_exits(event, "set", "vgif")


STUCK = {("nmi", "clear", "vgif"), ("two", "clear", "vgif"), ("again", "clear", "vgif"), ("two", "clear", "vnmi")} | {
    ("smi", "clear", means) for means in ("vgif", "vnmi")
}
LOST = {(event, "set", means) for event in ("two", "again") for means in ("neither", "vgif")} | {
    (event, "clear", "neither") for event in ("two", "again")
}
NOT_YET = {("nmi", "set", "neither"), ("nmi", "set", "vgif"), ("nmi", "clear", "neither")}


@pytest.mark.parametrize(("event", "flag", "means"), EVERY)
def test_what_is_lost_if_kvm_hears_of_neither(event, flag, means):
    story = gif_story(event, flag, means, broken=True)
    case = (event, flag, means)
    word = "Stuck:" if case in STUCK else "Lost:" if case in LOST else "Nothing lost"
    assert story.verdict.startswith(word)
    assert story.verdict.startswith("Nothing lost yet.") == (case in NOT_YET)
    assert (story.steps[-1].states[0].nmis > 0) == (case in STUCK | LOST and event != "smi")
    assert not {"intercept `IRET`", "intercept `STGI`"} & set(labels(story))


def test_without_vgif_each_clgi_and_each_stgi_exits():
    assert clgi_exits(3, vgif=False) == 1 + 2 * 3
    assert clgi_exits(3, vgif=True) == 1  # the write to EFER


def test_the_cost_table_has_a_row_for_each_event():
    table = gif_costs()
    assert table.count('scope="row"') == 2 * len(EVENTS) + 1
    assert table.count("<td>0</td>") == 7


def test_the_explorer_starts_with_an_nmi_between_clgi_and_stgi():
    widget = gif_explorer()
    assert widget.story == gif_story("nmi", "clear", "vgif")
    widget.set_broken(True)
    assert widget.story == gif_story("nmi", "clear", "vgif", broken=True)


def test_the_state_shows_gif_nmi_and_smm_where_a_run_needs_them():
    widget = gif_explorer()
    assert "<dt>GIF</dt><dd>1</dd>" in widget._figure.value
    widget.go(1)
    assert "<dt>GIF</dt><dd><mark>0</mark></dd>" in widget._figure.value
    assert "<dt>NMI</dt><dd>allowed, none waiting</dd>" in widget._figure.value
    assert "SMM" not in widget._figure.value
    widget.choose(event="irq", flag="set")
    assert "<dt>GIF</dt>" not in widget._figure.value
