"""The model's own run, printed as a recording, is equal on every series: no spelling is known for some only."""

import pytest

from kvmmodel import Host
from kvmmodel.conform import compare, read
from kvmmodel.events import KvmPio, KvmUserspaceExit
from kvmmodel.facts.params import Processor
from kvmmodel.facts.releases import series
from kvmmodel.guest.program import PORT_MARK
from kvmmodel.scenarios.run import built_in, run
from kvmmodel.trace import ftrace

FEATURES = ("npt", "vgif", "nrips")


def _trace(vm):
    """What tracefs would show, the runner's marks among it."""
    rows, marks, due = [ftrace.HEADER], iter(vm.world.marks), False
    for record in vm.trace.records:
        row = ftrace.line(record, vm.host.kernel)
        rows += [f"{row}\n"] if row else []
        if isinstance(record.event, KvmPio):
            due = record.event.port == PORT_MARK
        elif isinstance(record.event, KvmUserspaceExit) and due:
            due = False
            rows.append(f" vcpu0-1000 [000] ..... 0.0: tracing_mark_write: L2 {next(marks)}\n")
    return "".join(rows)


@pytest.mark.parametrize("nrips", [False, True], ids=["without NRIPS", "NRIPS"])
@pytest.mark.parametrize("kernel", series())
def test_the_models_own_run_is_equal(tmp_path, kernel, nrips):
    features = FEATURES if nrips else FEATURES[:-1]
    cpu = Processor("the recorded CPU", "QEMU TCG CPU version 2.5+", frozenset((*features, "virq_at_equal_priority")))
    vm = run(built_in("lab"), Host(cpu, kernel, avic=False), stacks=False)
    on = {name: "Y" if name in features else "N" for name in (*FEATURES, "avic")}
    (tmp_path / "00-system.txt").write_text(
        f"Linux (none) {vm.host.kernel.release} #1 SMP x86_64\nmodel name\t: {cpu.title}\n"
        + "".join(f"/sys/module/kvm_amd/parameters/{name} = {value}\n" for name, value in on.items())
    )
    (tmp_path / "10-kvm-tracepoints.txt").write_text(_trace(vm))
    recording = read(tmp_path)
    assert (recording.kernel, recording.processor) == (vm.host.kernel.release, cpu)
    phases = compare(recording)
    assert len(phases) == len(vm.world.marks) == 26
    assert [(p.name, p.differences) for p in phases if p.differences] == []


@pytest.mark.parametrize("kernel", series())
def test_the_fast_path_needs_nrips_where_the_release_says_so(kernel):
    """recorded 5.10.262, 6.1.176, 6.12.95, 7.2.13, 7.3.4 without NRIPS; source 6.6.9, which does not ask."""
    vm = run(built_in("ipi-in-guest"), Host("tcg", kernel, avic=False))
    (sent,) = [r for r in vm.trace.records if r.event.tracepoint == "kvm_apic_ipi"]
    fast = any(f.name == "handle_fastpath_wrmsr" for f in sent.stack)
    assert fast != vm.host.kernel.has("fastpath_needs_nrips")
