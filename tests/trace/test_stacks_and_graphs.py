"""Stacks and function graphs: names by release, marks, and the way back through explain."""

import pytest

from kvmmodel import Host
from kvmmodel.events import PicAck, SetIrr
from kvmmodel.explain import find
from kvmmodel.explain.text import Graph, Stack
from kvmmodel.scenarios.run import built_in, names, run
from kvmmodel.trace import graph, stacks
from kvmmodel.trace.probe import probe
from tests.machines import SERIES


def play(name, kernel="6.12"):
    return run(built_in(name), Host("zen4", kernel, avic=False))


@pytest.mark.parametrize(
    ("kernel", "inner"),
    [
        ("6.12", "kvm_lapic_set_irr svm_deliver_interrupt __apic_accept_irq kvm_apic_set_irq "
                 "kvm_irq_delivery_to_apic_fast kvm_irq_delivery_to_apic kvm_apic_send_ipi kvm_x2apic_icr_write "
                 "handle_fastpath_set_x2apic_icr_irqoff handle_fastpath_set_msr_irqoff "
                 "svm_exit_handlers_fastpath svm_vcpu_run vcpu_enter_guest vcpu_run"),
        ("7.3", "kvm_lapic_set_irr svm_deliver_interrupt __apic_accept_irq kvm_apic_set_irq "
                "__kvm_irq_delivery_to_apic_fast kvm_irq_delivery_to_apic_fast __kvm_x2apic_icr_write "
                "kvm_x2apic_icr_write_fast __handle_fastpath_wrmsr handle_fastpath_wrmsr "
                "svm_exit_handlers_fastpath svm_vcpu_run vcpu_enter_guest vcpu_run"),
    ],
)  # fmt: skip
def test_the_stack_of_a_fast_ipi(kernel, inner):
    """recorded 6.12.95, 7.3.4 (nrips): these frames, less what the compiler folded."""
    made = play("ipi-halted", kernel)
    record = next(r for r in made.trace.records if isinstance(r.event, SetIrr))
    found = stacks.names(record.stack, made.host.kernel)
    assert found[: len(inner.split())] == tuple(inner.split())
    assert found[-3:] == ("__x64_sys_ioctl", "do_syscall_64", "entry_SYSCALL_64_after_hwframe")


def test_frames_say_what_no_recording_shows():
    """recorded: vcpu_run is seen on 6.12.95 and folded into its caller on 7.3.4."""
    folded = {}
    for kernel in ("6.12.95", "7.3.4"):
        made = play("ipi-halted", kernel)
        record = next(r for r in made.trace.records if isinstance(r.event, SetIrr))
        folded[kernel] = {f.name: f.folded for f in stacks.frames(record.stack, made.host.kernel)}
    assert (folded["6.12.95"]["vcpu_run"], folded["7.3.4"]["vcpu_run"]) == (False, True)
    assert all(not found["svm_vcpu_run"] for found in folded.values())


@pytest.mark.parametrize("kernel", SERIES)
@pytest.mark.parametrize("name", ["ipi-halted", "timer-halted", "pv-eoi", "xapic"])
def test_a_histogram_comes_back_through_explain(name, kernel):
    made = play(name, kernel)
    text = stacks.histogram(made.trace.records, made.host.kernel)
    found = find(text)
    assert all(isinstance(one, Stack) for one in found)
    counts = {}
    for record in made.trace.records:
        if record.stack:
            key = stacks.names(record.stack, made.host.kernel)
            counts[key] = counts.get(key, 0) + 1
    assert {tuple(frame.name for frame in one.frames): one.count for one in found} == counts


@pytest.mark.parametrize("kernel", SERIES)
@pytest.mark.parametrize("root", ["svm_complete_interrupt_delivery", "apic_set_eoi", "vcpu_enter_guest"])
def test_a_function_graph_comes_back_through_explain(root, kernel):
    host = Host("zen4", kernel, avic=False)
    with probe(root) as seen:
        run(built_in("ipi-halted"), host, trace=False)
    text = graph.render(seen.graphs, host.kernel)
    found = [one for one in find(text) if isinstance(one, Graph)]
    calls = [line for line in text.splitlines() if line.rstrip().endswith(("();", "() {"))]
    roots = [call for one in found for call in one.roots]
    if root == "svm_complete_interrupt_delivery" and kernel in ("5.10", "5.15"):
        assert calls == []  # that function came with 6.1
    else:
        assert {call.name for call in roots} == {root}
        assert sum(map(size, roots)) == len(calls)
    assert len(roots) == len(seen.graphs)


def size(call):
    return 1 + sum(map(size, call.children))


@pytest.mark.parametrize("name", names())
def test_no_frame_is_named_for_a_function_of_the_model(name):
    """What ends a stack is a system call, an interrupt, an idle CPU, a kernel thread, or a thread's own wake-up."""
    made = play(name)
    outer = {stacks.names(r.stack, made.host.kernel)[-1] for r in made.trace.records if r.stack}
    assert outer <= {"entry_SYSCALL_64_after_hwframe", "cpu_startup_entry", "asm_sysvec_reschedule_ipi",
                     "asm_sysvec_apic_timer_interrupt", "asm_sysvec_call_function_single", "native_smp_send_reschedule",
                     "resched_curr", "ret_from_fork_asm"}  # fmt: skip


def test_nothing_is_said_of_files_that_no_recording_comes_to():
    """They were called folded: no recording has an 8259."""
    made = play("pic-spurious", "7.3")
    stacks_ = [stacks.frames(r.stack, made.host.kernel) for r in made.trace.records if isinstance(r.event, PicAck)]
    frames = {frame.name: frame.folded for frame in stacks_[0]}
    assert (frames["kvm_pic_read_irq"], frames["kvm_cpu_get_extint"], frames["vcpu_run"]) == (False, True, True)
