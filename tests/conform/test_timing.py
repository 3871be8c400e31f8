"""What the host's timing did to a recording is no difference of the model's; what KVM did otherwise still is one."""

from importlib import import_module
from pathlib import Path

import pytest

from kvmmodel import Host
from kvmmodel.conform import compare, read
from kvmmodel.conform.recording import runs
from kvmmodel.events import KvmExit, KvmInjVirq, VmRun
from kvmmodel.kvm.host_irqs import post_irq
from kvmmodel.machine.loop import run_others
from kvmmodel.scenarios.run import built_in, run
from tests.conform.lab_trace import processor, write

DATA = Path(__file__).parents[1] / "evidence" / "data"
RECORDINGS = sorted(path.parent for path in DATA.glob("*-avic0*/10-kvm-tracepoints.txt"))  # of the whole lab
SERIES = ["5.10", "6.1", "6.12", "7.3"]
comparison = import_module("kvmmodel.conform.compare")


def _current(vm):
    task = vm.machine.host.current.current
    return task.vcpu.vcpu_id if task is not None and task.vcpu is not None else None


def tick_before_the_eoi(vm):
    """A host interrupt between an injection and the handler's PV EOI: KVM takes PV EOI back."""
    due = []

    def listen(event):
        if isinstance(event, KvmInjVirq) and event.vector == 0x81:
            due.append(event)
        elif isinstance(event, VmRun) and len(due) == 2:
            due.append(event)
            post_irq(vm.machine.host, vm.machine.host.current, "reschedule", vm.machine.host.current.now)

    vm.trace.listeners.append(listen)


def reschedule_before_the_entry(vm):
    """The host wants the CPU between an injection and the entry: the event is injected again."""
    seen = []

    def listen(event):
        if isinstance(event, KvmInjVirq) and event.vector == 0xE1:
            seen.append(event)
            vm.machine.host.current.need_resched |= len(seen) == 2

    vm.trace.listeners.append(listen)


def held_up_before_it_sleeps(vm):
    """A halted vCPU's thread does not get to its last look before the next IPI is there."""
    halts = []

    def listen(event):
        if isinstance(event, KvmExit) and event.reason == "hlt" and _current(vm) == 1 and len(vm.world.marks) >= 22:
            halts.append(event)
            if len(halts) == 2:  # the first is that after S20
                run_others(vm.machine, vm.machine.host.current.now + 300_000)

    vm.trace.listeners.append(listen)


CASES = [(tick_before_the_eoi, "S16"), (reschedule_before_the_entry, "S07"), (held_up_before_it_sleeps, "S22")]


@pytest.mark.parametrize("kernel", SERIES)
@pytest.mark.parametrize(("host_does", "phase"), CASES, ids=[case[0].__name__ for case in CASES])
def test_what_the_hosts_timing_does_is_no_difference(tmp_path, host_does, phase, kernel):
    """recorded 5.10.262 and 6.1: each of them differed in some runs, on a busy machine."""
    host = Host(processor(False), kernel, avic=False)
    write(run(built_in("lab"), host, prepare=host_does, stacks=False), tmp_path)
    recording = read(tmp_path)
    own = comparison._compare_with(recording.lines, run(built_in("lab"), host, stacks=False))
    assert {p.name[:3] for p in own if p.differences} >= {phase}
    phases = compare(recording)
    assert [(p.name[:3], p.differences) for p in phases if p.differences] == []
    assert phase in {p.name[:3] for p in phases if p.timed}


def test_a_wrong_event_is_a_difference_under_any_timing(tmp_path):
    """Among them one in the very phase that needs the recorded times, of another host than this one."""
    host = Host(processor(False), "6.1", avic=False)
    write(run(built_in("lab"), host, prepare=tick_before_the_eoi, stacks=False), tmp_path)
    path = tmp_path / "10-kvm-tracepoints.txt"
    text = path.read_text()
    at = text.rindex("kvm_eoi: apicid 0 vector 129")
    path.write_text(text[:at] + text[at:].replace("vector 129", "vector 130", 1))
    (phase,) = [p for p in compare(read(tmp_path)) if p.differences]
    assert phase.name.startswith("S16 ")
    assert "- vCPU 0 kvm_eoi: apicid 0 vector 130" in phase.differences
    assert "+ vCPU 0 kvm_eoi: apicid 0 vector 129" in phase.differences


@pytest.mark.parametrize("folder", RECORDINGS, ids=lambda folder: folder.name)
def test_a_recordings_own_times_do_no_harm(folder):
    """Equal without them, it is equal with them."""
    recording = read(folder)
    host = recording.system.host()
    vm = run(built_in("lab"), host, stacks=False)
    (lines,) = runs(recording.lines, vm.world.marks[0])
    timed = [run(built_in("lab"), host, prepare=how, stacks=False) for how in comparison._recorded_timings(lines, vm)]
    assert len(timed) == 3
    assert min(comparison._different(comparison._compare_with(lines, made)) for made in timed) == 0
