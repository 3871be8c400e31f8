"""The model's own run, printed as a recording, is equal on every series: no spelling is known for some only."""

import pytest

from kvmmodel import Host
from kvmmodel.conform import compare, read
from kvmmodel.facts.releases import series
from kvmmodel.scenarios.run import built_in, run
from tests.conform.lab_trace import processor, write


@pytest.mark.parametrize("nrips", [False, True], ids=["without NRIPS", "NRIPS"])
@pytest.mark.parametrize("kernel", series())
def test_the_models_own_run_is_equal(tmp_path, kernel, nrips):
    vm = run(built_in("lab"), Host(processor(nrips), kernel, avic=False), stacks=False)
    write(vm, tmp_path)
    recording = read(tmp_path)
    assert (recording.kernel, recording.processor) == (vm.host.kernel.release, vm.host.processor)
    phases = compare(recording)
    assert len(phases) == len(vm.world.marks) == 26
    assert [(p.name, p.differences) for p in phases if p.differences or p.timed] == []


@pytest.mark.parametrize("kernel", series())
def test_the_fast_path_needs_nrips_where_the_release_says_so(kernel):
    """recorded 5.10.262, 6.1.176, 6.12.95, 7.2.13, 7.3.4 without NRIPS; source 6.6.9, which does not ask."""
    vm = run(built_in("ipi-in-guest"), Host("tcg", kernel, avic=False))
    (sent,) = [r for r in vm.trace.records if r.event.tracepoint == "kvm_apic_ipi"]
    fast = any(f.name == "handle_fastpath_wrmsr" for f in sent.stack)
    assert fast != vm.host.kernel.has("fastpath_needs_nrips")
