"""VMs with AVIC on, and what changed their inhibits."""

from __future__ import annotations

from typing import Any

from kvmmodel import Host, Vm
from kvmmodel.events import KvmApicvInhibitChanged
from kvmmodel.facts.releases import kernel as release
from tests.machines import events

OLD = ("5.10", "5.15")  # where X2APIC in CPUID inhibits AVIC
EFER, SVME = 0xC0000080, 0x1000


def has(series: str, behaviour: str) -> bool:
    return release(series).has(behaviour)


def avic(series: str, vcpus: int = 2, *, host: dict[str, Any] | None = None, **options: Any) -> Vm:
    """A booted VM on a host with x2AVIC; an xAPIC guest where X2APIC is a reason, or asked for."""
    options.setdefault("x2apic", series not in OLD)
    return Host("zen4", series, avic=True, **(host or {})).create_vm(vcpus, boot=True, **options)


def active(made: Vm) -> list[bool]:
    return [vcpu.apicv_active for vcpu in made.vcpus]


def changes(made: Vm) -> list[Any]:
    """kvm_apicv_inhibit_changed, since the VM was booted, or since its creation if it was not."""
    return events(made, KvmApicvInhibitChanged)
