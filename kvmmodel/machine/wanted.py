"""What userspace may ask of a new VM."""

from __future__ import annotations

from collections.abc import Sequence

from kvmmodel.kvm.x86.hypercall import PV_FEATURES
from kvmmodel.machine.breakable import check_rules


def check(
    vcpus: int,
    irqchip: str | None,
    pit: str | None,
    idents: list[int],
    pins: list[int],
    broken: Sequence[str],
    pv_features: Sequence[str],
) -> None:
    """ValueError, in one line, for what a VM cannot be made of."""
    if irqchip not in ("kernel", "split"):
        raise ValueError(f"irqchip={irqchip!r}: this version models 'kernel' and 'split'")
    if pit not in (None, "reinject", "discard") or (pit and irqchip != "kernel"):
        raise ValueError(f"pit={pit!r}: expected None, or with irqchip='kernel' 'reinject' or 'discard'")
    check_rules(broken)
    if unknown := set(pv_features) - set(PV_FEATURES):
        raise ValueError(f"no hypercall needs {', '.join(sorted(unknown))}: expected {', '.join(PV_FEATURES)}")
    if vcpus < 1 or len(pins) != vcpus:
        raise ValueError(f"{vcpus} vCPUs need {max(vcpus, 1)} entries in pcpus, got {len(pins)}")
    if len(set(idents)) != vcpus:
        raise ValueError(f"{vcpus} vCPUs need as many different ids, got {idents}")
