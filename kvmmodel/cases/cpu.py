"""The ops on AVIC: its set-up by a processor's CPUID, and the entries of its tables."""

from __future__ import annotations

from typing import Any

from kvmmodel.cases.bench import Bench
from kvmmodel.facts.cpus import from_cpuid
from kvmmodel.kvm.svm.avic.tables import avic_get_logical_id_entry
from kvmmodel.machine.host import Host
from kvmmodel.silicon.avic_tables import LOGICAL_GUEST_ID, LOGICAL_VALID, physical_entry


def avic_setup(bench: Bench, args: dict[str, Any]) -> bool:
    """Whether kvm_amd, loaded with these parameters on a processor with this EDX of CPUID 8000_000A, has AVIC on."""
    wanted = {"force_avic": args["force_avic"]} if args["force_avic"] else {}
    host = Host(from_cpuid(args["edx"]), bench.vm.host.kernel.name, bool(args["avic"]), **wanted)
    return bool(host.params["avic"])


def avic_logical_index(bench: Bench, args: dict[str, Any]) -> int:
    """-1: no slot."""
    slot = avic_get_logical_id_entry(bench.vm.vcpus[0].kvm_vcpu, args["ldr"], args["flat"])
    return -1 if slot is None else slot


def avic_logical_entry(bench: Bench, args: dict[str, Any]) -> int:
    ident: int = args["id"]
    return ident & LOGICAL_GUEST_ID | (LOGICAL_VALID if args["valid"] else 0)


def avic_physical_entry(bench: Bench, args: dict[str, Any]) -> int:
    return physical_entry(args["backing"], args["host_id"], args["running"], args["valid"])


OPS = {
    "avic.setup": avic_setup,
    "avic.logical_index": avic_logical_index,
    "avic.logical_entry": avic_logical_entry,
    "avic.physical_entry": avic_physical_entry,
}
