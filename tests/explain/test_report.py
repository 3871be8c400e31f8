"""From a text to its report: stories, findings, counts, errors, and how they are shown."""

import io
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from kvmmodel.explain import ExplainError, explain, kernel_of, read, to_json, to_text
from kvmmodel.explain.story import paths, tell
from kvmmodel.facts.functions import FUNCTIONS

Corpus = Mapping[str, frozenset[tuple[str, ...]]]
TAIL = " kvm_arch_vcpu_ioctl_run kvm_vcpu_ioctl"


def story(frames: str) -> str:
    return " ".join(tell(tuple(frames.split())).sentences)


@pytest.mark.parametrize(
    ("frames", "says"),
    [
        (
            "svm_complete_interrupt_delivery __apic_accept_irq kvm_irq_delivery_to_apic_fast kvm_irq_delivery_to_apic "
            "kvm_apic_send_ipi kvm_x2apic_icr_write handle_fastpath_set_msr_irqoff",
            ["x2APIC ICR", "fast path", "map of APIC IDs", "IRR"],
        ),
        (
            "__apic_accept_irq __kvm_irq_delivery_to_apic_fast __kvm_x2apic_icr_write __handle_fastpath_wrmsr",
            ["x2APIC ICR", "fast path", "map of APIC IDs"],
        ),
        (
            "kvm_vcpu_kick svm_complete_interrupt_delivery __apic_accept_irq kvm_irq_delivery_to_apic "
            "kvm_apic_send_ipi kvm_x2apic_icr_write kvm_emulate_wrmsr",
            ["slow path", "asks every vCPU", "AVIC isn't active", "KVM_REQ_EVENT"],
        ),
        (
            "__apic_accept_irq kvm_irq_delivery_to_apic_fast kvm_irq_delivery_to_apic kvm_apic_send_ipi "
            "kvm_lapic_reg_write kvm_set_msr_ignored_check kvm_emulate_wrmsr",
            ["SELF_IPI"],
        ),
        ("__apic_accept_irq kvm_apic_local_deliver kvm_inject_apic_timer_irqs", ["timer", "own thread", "LVT"]),
        ("kvm_vcpu_kick apic_timer_fn __hrtimer_run_queues hrtimer_interrupt do_idle", ["idle CPU", "pending"]),
        ("apic_update_ppr apic_set_eoi kvm_lapic_sync_from_vapic", ["PV EOI", "without an exit", "clears the highest"]),
        ("apic_update_ppr apic_set_eoi kvm_lapic_reg_write kvm_emulate_wrmsr", ["0x80b", "exits"]),
        ("apic_update_ppr kvm_set_cr8 svm_vcpu_run", ["every #VMEXIT", "V_TPR", "bookkeeping"]),
        ("kvm_set_cr8 em_cr_write x86_emulate_insn cr8_write_interception", ["intercepts CR8", "bits 7:4 of the TPR"]),
        ("svm_inject_irq kvm_check_and_inject_events", ["KVM_REQ_EVENT", "EVENTINJ", "IRR to ISR"]),
        ("kvm_pic_set_irq kvm_set_irq pit_do_work kthread_worker_fn", ["PIT ticks", "GSI 0"]),
        ("pit_timer_fn __hrtimer_run_queues hrtimer_interrupt", ["PIT fired", "one more tick"]),
        ("kvm_pic_read_irq kvm_cpu_get_extint kvm_cpu_get_interrupt", ["ExtINT", "acknowledges the 8259"]),
        ("kvm_pit_ack_irq kvm_notify_acked_irq pic_clear_isr pic_ioport_write picdev_write", ["port of the 8259"]),
        ("__apic_accept_irq kvm_irq_delivery_to_apic kvm_set_msi kvm_send_userspace_msi", ["KVM_SIGNAL_MSI"]),
        ("kvm_vcpu_wake_up svm_complete_interrupt_delivery __apic_accept_irq", ["AVIC is active", "no injection"]),
        ("native_smp_send_reschedule kvm_vcpu_kick svm_complete_interrupt_delivery", ["reschedule IPI"]),
        ("avic_vcpu_put svm_vcpu_put kvm_arch_vcpu_put kvm_sched_out schedule kvm_vcpu_block", ["HLT", "IsRunning"]),
    ],
)
def test_the_story_of_a_path(frames: str, says: list[str]) -> None:
    told = story(frames)
    for words in says:
        assert words in told


def test_an_innermost_delivery_function_does_not_yet_mean_the_slow_path() -> None:
    frames = "kvm_irq_delivery_to_apic kvm_apic_send_ipi kvm_x2apic_icr_write handle_fastpath_set_msr_irqoff"
    assert "asks every vCPU" not in story(frames)


def test_any_known_function_has_a_story() -> None:
    for name in FUNCTIONS:
        for frames in ((name,), (name, "kvm_vcpu_ioctl"), ("schedule", name)):
            told = tell(frames)
            assert 1 <= len(told.sentences) <= 3, frames
            assert all(one.endswith((".", "?")) for one in told.sentences), frames
            assert told.page.startswith("book/"), frames


def test_rules_name_only_functions_that_the_facts_know() -> None:
    known = paths()
    rules = [*(rule for part in known.rules.values() for rule in part), *(one.rule for one in known.findings)]
    for rule in rules:
        for name in frozenset().union(*rule.frames, rule.absent):
            assert name in FUNCTIONS, (name, rule.text)
        assert rule.topic in ("", *known.pages)


def block(frames: str, count: int = 1) -> str:
    return "@[\n" + "".join(f"    {name}+1\n" for name in frames.split()) + f"]: {count}\n"


def claims(text: str) -> str:
    return " ".join(one.claim for one in explain(text, {}).findings)


def test_what_a_text_tells_about_avic() -> None:
    pv_eoi = block("apic_update_ppr apic_set_eoi kvm_lapic_sync_from_vapic" + TAIL, 124)
    report = explain(pv_eoi, {})
    assert "PV EOI was used, so AVIC was not active" in report.findings[0].claim
    assert "irr_pending" in report.findings[0].because
    assert "124 in all" in report.findings[0].because
    kick = block("kvm_vcpu_kick svm_complete_interrupt_delivery __apic_accept_irq" + TAIL)
    assert "not active on the target" in claims(kick)
    wake = block("rcuwait_wake_up kvm_vcpu_wake_up svm_complete_interrupt_delivery __apic_accept_irq" + TAIL)
    assert "active on the target vCPU, which wasn't in the guest" in claims(wake)
    assert "not active" not in claims(wake)
    nested = block("kvm_vcpu_wake_up kvm_vcpu_kick svm_complete_interrupt_delivery" + TAIL)
    assert "which wasn't in the guest" not in claims(nested), "a kick wakes too; that is not AVIC's wake-up"


def test_findings_about_the_release_need_a_text_that_does_not_name_it() -> None:
    text = block("kvm_x2apic_icr_write handle_fastpath_set_msr_irqoff" + TAIL)
    assert "older than 6.18" in claims(text)
    assert "older than 6.18" not in claims("Linux host 6.12.95 #1 SMP\n" + text)


def test_equal_stacks_share_a_number_and_are_compared_once(corpus: Corpus) -> None:
    twice = block("apic_update_ppr kvm_set_cr8 svm_vcpu_run" + TAIL, 3)
    text = twice + block("bpf_prog_1234 apic_update_ppr.part.0 kvm_set_cr8 svm_vcpu_run" + TAIL, 4)
    report = explain(text + block("avic_frobnicate svm_vcpu_run" + TAIL), corpus)
    assert [one.number for one in report.stacks] == [1, 1, 2]
    assert report.verdicts() == {"matched": 1, "known": 0, "unknown": 1}
    shown = to_text(report)
    assert shown.startswith("3 stacks (2 distinct), 0 function graphs: 1 matched, 0 known")
    assert "Stack 1: 7 times, lines 1, 8" in shown
    assert "unknown: avic_frobnicate" in shown


def test_json_has_what_the_contract_names(corpus: Corpus) -> None:
    text = block("apic_update_ppr kvm_set_cr8 svm_vcpu_run" + TAIL, 467)
    data = json.loads(json.dumps(to_json(explain(text, corpus))))
    (stack,) = data["stacks"]
    assert stack["count"] == 467
    assert stack["frames"][0] == "apic_update_ppr"
    assert stack["page"].startswith("book/")
    assert (stack["unknown"], stack["verdict"], stack["kernels"]) == ([], "matched", ["6.12"])
    assert stack["path"]
    assert {"claim", "because"} <= set(data["findings"][0])


def test_text_output_fits_a_terminal(corpus: Corpus) -> None:
    text = block("apic_update_ppr kvm_set_cr8 svm_vcpu_run do_syscall_64" + TAIL)
    graph = " 1)            |  kvm_vcpu_kick [kvm]() {\n 1)   0.2 us |    rcuwait_wake_up();\n 1)   1.2 us |  }\n"
    assert max(map(len, to_text(explain(text + graph, corpus)).splitlines())) <= 100


def test_a_graph_is_told_by_the_path_that_says_most(corpus: Corpus) -> None:
    graph = (
        " 1)               |  svm_complete_interrupt_delivery [kvm_amd]() {\n"
        " 1)               |    kvm_vcpu_kick [kvm]() {\n"
        " 1)               |      rcuwait_wake_up() {\n"
        " 1)   0.1 us    |        __rcu_read_lock();\n"
        " 1)               |        wake_up_process() {\n"
        " 1)   0.1 us    |          try_to_wake_up();\n"
        " 1)   0.1 us    |        }\n"
        " 1)   0.1 us    |      }\n"
        " 1)   0.1 us    |    }\n"
        " 1)   0.1 us    |  }\n"
    )
    (one,) = explain(graph, corpus).graphs
    assert one.verdicts == {"matched": 2, "known": 0, "unknown": 0}
    assert "thread was asleep" in " ".join(one.paths[0].story.sentences)


@pytest.mark.parametrize("text", ["", "  \n\n", "nothing but prose\n", "int main(void) { return kvm_run(); }\n"])
def test_a_text_without_stacks_gets_one_clear_line(text: str) -> None:
    with pytest.raises(ExplainError) as error:
        explain(text, {})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("data", [b"\x7fELF\x02\x01\x00\x00", bytes(range(128, 256)) * 8])
def test_binary_input_gets_one_clear_line(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "garbage"
    file.write_bytes(data)
    with pytest.raises(ExplainError, match="not a text"):
        read(file)
    with pytest.raises(ExplainError, match="nothing-here"):
        read(tmp_path / "nothing-here")
    with pytest.raises(ExplainError, match="no file in this folder"):
        read(tmp_path)


def test_a_recordings_folder(tmp_path: Path) -> None:
    (tmp_path / "00-system.txt").write_text("Linux (none) 6.1.187-amd64 #1 SMP Debian 6.1.187-1 x86_64 GNU/Linux\n")
    (tmp_path / "10-kvm-tracepoints.txt").write_text("a-1 [000] 1.0: kvm_exit: vcpu 0\n")
    (tmp_path / "20-hist-stacks.txt").write_text("{ stacktrace:\n   svm_vcpu_run+0x1/0x2 [kvm_amd]\n} hitcount: 3\n")
    text, kernel = read(tmp_path)
    assert kernel == "6.1.187"
    assert "kvm_exit" not in text
    assert [one.stack.count for one in explain(text, {}, kernel).stacks] == [3]


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("﻿@[\n    svm_vcpu_run+1\n]: 2\n".encode())))
    text, kernel = read(None)
    assert (kernel, explain(text, {}).stacks[0].stack.count) == (None, 2)


@pytest.mark.parametrize(
    ("text", "kernel"),
    [
        ("Linux (none) 7.3.4+deb13-cloud-amd64 #1 SMP PREEMPT_DYNAMIC Debian", "7.3.4"),
        ("[    0.000000] Linux version 6.12.95 (gcc) #1 SMP", "6.12.95"),
        ("CPU: 1 PID: 7 Comm: qemu Not tainted 6.1.0-53-amd64 #1", "6.1.0"),
        ("$ uname -r\n6.6.9-custom\n", "6.6.9"),
        ("the 6.12.95 kernel does it, 7.3.4 doesn't", None),
        ("Linux a 6.1.2 #1\nLinux b 6.1.3 #1\n", None),
    ],
)
def test_the_kernel_that_a_text_names(text: str, kernel: str | None) -> None:
    assert kernel_of(text) == kernel


@pytest.mark.parametrize(
    ("frames", "page"),
    [
        ("apic_update_ppr kvm_set_cr8 svm_vcpu_run", "book/ppr.html"),
        ("apic_update_ppr apic_set_eoi kvm_lapic_sync_from_vapic", "book/pv-eoi.html"),
    ],
)
def test_the_stacks_of_the_notes_lead_to_their_pages(frames: str, page: str) -> None:
    assert tell(tuple((frames + TAIL).split())).page == page


BOOK = Path(__file__).parents[2] / "book"


def test_every_page_that_a_story_names_is_in_the_book_and_has_its_heading() -> None:
    known = paths()
    assert set(known.pages.values()) == set(known.titles)
    for page, title in known.titles.items():
        source = (BOOK.parent / page).with_suffix(".md").read_text(encoding="utf-8")
        assert f"\n# {title}\n" in source, page
