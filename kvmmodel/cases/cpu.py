"""What a case asks of a processor's CPUID: the set-up of AVIC."""

from __future__ import annotations

from typing import Any

from kvmmodel.cases.bench import Bench
from kvmmodel.facts.cpus import from_cpuid
from kvmmodel.machine.host import Host


def avic_setup(bench: Bench, args: dict[str, Any]) -> bool:
    """Whether kvm_amd, loaded with these parameters on a processor with this EDX of CPUID 8000_000A, has AVIC on."""
    wanted = {"force_avic": args["force_avic"]} if args["force_avic"] else {}
    host = Host(from_cpuid(args["edx"]), bench.vm.host.kernel.name, bool(args["avic"]), **wanted)
    return bool(host.params["avic"])


OPS = {"avic.setup": avic_setup}
