"""What pages call: text and evidence made from runs."""

import pytest

from kvmmodel.explain import find
from kvmmodel.explain.text import Graph
from kvmmodel.widgets.cells import evidence, function_graph, model_stack, tracepoints

TIMER = """@[
    svm_complete_interrupt_delivery+5
    __apic_accept_irq+298
    kvm_apic_local_deliver+127
    kvm_inject_apic_timer_irqs+43
    kvm_arch_vcpu_ioctl_run+2349
    kvm_vcpu_ioctl+587
]: 1168"""


def test_tracepoints_keeps_only_the_events_asked_for():
    lines = str(tracepoints("ipi-halted", "7.3", only=("kvm_inj_virq",))).splitlines()
    assert len(lines) == 1
    assert lines[0].endswith("kvm_inj_virq: IRQ 0x43")


def test_tracepoints_are_those_of_the_cpu_asked_for():
    """One without vNMI has the IRET of an NMI handler exit."""
    exits = {cpu: str(tracepoints("nmi", "7.3", ("kvm_exit",), cpu)) for cpu in ("zen3", "zen4")}
    assert {cpu: "reason iret" in text for cpu, text in exits.items()} == {"zen3": True, "zen4": False}


def test_the_function_graph_is_one_that_the_explain_tool_reads():
    (graph,) = find(str(function_graph("ipi-halted", "6.12")))
    assert isinstance(graph, Graph)
    assert [root.name for root in graph.roots] == ["svm_complete_interrupt_delivery"]


def test_the_function_graph_shows_only_calls_that_a_recording_shows():
    """kvm_vcpu_wake_up is inlined in the recorded 6.12.95."""
    assert "kvm_vcpu_wake_up" not in function_graph("ipi-halted", "6.12")


def test_evidence_matches_every_recorded_frame():
    assert "6 of 6 recorded frames matched" in evidence(TIMER, "timer-halted", "6.12", caption="a host")


def test_evidence_refuses_a_stack_that_the_run_never_has():
    with pytest.raises(ValueError, match="no stack of ipi-halted"):
        evidence(TIMER, "ipi-halted", "6.12", caption="a host")


def test_evidence_refuses_text_without_a_stack():
    with pytest.raises(ValueError, match="no call stack"):
        evidence("what are interrupts?", "ipi-halted", caption="a host")


def test_a_stack_of_the_model_with_a_function_innermost():
    frames = str(model_stack("pit-late", "kvm_pic_set_irq", "6.12", under="pit_do_work")).splitlines()
    assert frames[:4] == ["kvm_pic_set_irq", "kvm_set_pic_irq", "kvm_set_irq", "pit_do_work"]
    with pytest.raises(ValueError, match=r"no stack of pit-late on 6\.12 has svm_smi_allowed innermost"):
        model_stack("pit-late", "svm_smi_allowed", "6.12")
