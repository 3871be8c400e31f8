"""The hosts of the matrix."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from kvmmodel.facts.releases import series
from kvmmodel.machine.host import Host

CPUS = ("zen1", "zen2", "zen3", "zen3,+avic", "zen4", "zen5", "hygon")


def hosts() -> Iterator[tuple[str, str, bool]]:
    """(kernel, processor, whether avic=1 is asked for), oldest kernel first."""
    yield from product(series(), CPUS, (False, True))


def host(kernel: str, cpu: str, avic: bool) -> Host:
    return Host(cpu, kernel, avic=avic)
