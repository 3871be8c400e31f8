"""The recordings and notes in data/, explained: all is found, counts are right, nothing is unknown."""

import re
from pathlib import Path

import pytest

from kvmmodel.explain import explain, find, read
from kvmmodel.explain.text import Graph, Stack

DATA = Path(__file__).parent / "data"
RECORDINGS = sorted(path.name for path in DATA.iterdir() if (path / "00-system.txt").is_file())
NOTES = DATA / "notes" / "interrupts.txt"


def test_the_notes_have_seven_stacks_and_one_graph() -> None:
    found = find(NOTES.read_text(encoding="utf-8"))
    stacks = [one for one in found if isinstance(one, Stack)]
    assert [one.count for one in stacks] == [976, 1168, 448, 659, 2768, 124, 467]
    (graph,) = [one for one in found if isinstance(one, Graph)]
    assert (graph.cpu, graph.cut, len(graph.roots)) == (26, False, 1)
    root = graph.roots[0]
    assert (root.name, root.module, root.duration_us) == ("svm_complete_interrupt_delivery", "kvm_amd", 8.155)
    (kick,) = root.children
    (wait,) = kick.children
    assert [call.name for call in wait.children] == ["__rcu_read_lock", "wake_up_process", "__rcu_read_unlock"]


def test_what_the_notes_tell() -> None:
    report = explain(*_with_no_runs(read(NOTES)[0]))
    claims = " ".join(one.claim for one in report.findings)
    for words in ("PV EOI was used", "AVIC was not active on the target", "nrips is on", "older than 6.18"):
        assert words in claims
    assert len(report.distinct()) == 4, "three of the seven are repeats"


def _with_no_runs(text: str) -> tuple[str, dict[str, frozenset[tuple[str, ...]]]]:
    return text, {"6.12": frozenset()}


@pytest.mark.parametrize("name", RECORDINGS)
def test_counts_of_a_recording_are_those_of_a_plain_search(name: str) -> None:
    text, kernel = read(DATA / name)
    assert kernel == name.split("-", maxsplit=1)[0]
    stacks = [one for one in find(text) if isinstance(one, Stack)]
    assert not any(one.cut for one in stacks)
    blocks = re.findall(r"^\} hitcount: +(\d+)|^\]: (\d+)|(<stack trace>)$", text, re.MULTILINE)
    assert len(stacks) == len(blocks)
    assert sum(one.count for one in stacks) == sum(int(hist or one or 1) for hist, one, _ in blocks)
    frames = re.findall(r"^ => .*$|^ {9}\S+\+0x[^ ]+(?: \[\w+\])?$|^ {9}0x[0-9a-f]+$|^\t\S+\+\d+$", text, re.MULTILINE)
    frames += re.findall(r"^ {8}\S+\+\d+$", text, re.MULTILINE)
    assert sum(len(one.frames) for one in stacks) == len(frames)


@pytest.mark.parametrize("name", [name for name in RECORDINGS if (DATA / name / "40-function-graph.txt").is_file()])
def test_calls_of_a_graph_are_those_of_a_plain_search(name: str) -> None:
    text = (DATA / name / "40-function-graph.txt").read_text(encoding="utf-8")
    calls = re.findall(r"\| +[\w.]+(?: \[\w+\])?\(\)(?:;| \{)$", text, re.MULTILINE)

    def size(graph: Graph) -> int:
        pending, count = list(graph.roots), 0
        while pending:
            call = pending.pop()
            count += 1
            pending.extend(call.children)
        return count

    assert sum(size(one) for one in find(text) if isinstance(one, Graph)) == len(calls)


@pytest.mark.parametrize("name", RECORDINGS)
def test_no_frame_of_a_recording_is_unknown_and_without_runs_nothing_is_matched(name: str) -> None:
    text, kernel = read(DATA / name)
    report = explain(text, {"6.12.95": frozenset(), "7.3.4": frozenset()}, kernel)
    verdicts = report.verdicts()
    assert verdicts["unknown"] == 0
    assert verdicts["matched"] == 0
    for one in report.stacks:
        assert all(part.known for part in one.parts)
        assert 2 <= len(one.story.sentences) <= 3
    for graph in report.graphs:
        assert graph.verdicts["matched"] == graph.verdicts["unknown"] == 0
