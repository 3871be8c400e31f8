"""The host that a recording was made on, as far as its 00-system.txt tells: release, processor, module parameters."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvmmodel.explain.source import kernel_of
from kvmmodel.facts import load, params
from kvmmodel.facts.cpus import Processor
from kvmmodel.facts.releases import kernel as release_of
from kvmmodel.machine.host import Host

PARAMETER = re.compile(r"^/sys/module/(kvm\w*)/parameters/(\w+) = (\S+)\s*$", re.MULTILINE)
# Parameters that are on only if the processor has the feature, so they tell it.
FEATURES = ("npt", "nrips", "vgif", "vnmi", "avic")
# What Linux prints in /proc/cpuinfo where it is not the feature's own name in small letters.
FLAGS = {"NRIPS": "nrip_save", "TSCRATEMSR": "tsc_scale"}
# Parameters that decide what AVIC does; a run has them as they were.
ASKED = ("avic", "force_avic", "enable_ipiv")


@dataclass(frozen=True, slots=True)
class System:
    """``kernel`` None: the text names none. ``params``: of ASKED, those that the text has."""

    kernel: str | None
    processor: Processor
    params: dict[str, bool]

    @property
    def avic(self) -> bool:
        return self.params.get("avic", False)

    def host(self, kernel: str | None = None) -> Host:
        """The same host, or one with another release; parameters that it does not have are left out.

        ValueError, in one line, for a release that is not modelled.
        """
        name = kernel or self.kernel or ""
        has = release_of(name)
        known: dict[str, Any] = {p: v for p, v in self.params.items() if params.kind_of(p, has) is not None}
        return Host(self.processor, name, **known)


def system_of(text: str) -> System | None:
    """None: the text has no parameter of kvm_amd."""
    found = {name: value for module, name, value in PARAMETER.findall(text) if module == "kvm_amd"}
    if not found:
        return None
    on = {name for name, value in found.items() if value in ("Y", "1")}
    return System(_kernel(text), _processor(text, on, set(found) - on), {n: n in on for n in ASKED if n in found})


def system_at(path: str | Path | None, text: str) -> System | None:
    """Of a recording's folder by its 00-system.txt, else by the text itself."""
    file = Path(path) / "00-system.txt" if path is not None else None
    told = file.read_text(encoding="utf-8-sig", errors="replace") if file is not None and file.is_file() else text
    return system_of(told)


def _kernel(text: str) -> str | None:
    """The release. A distribution's X.Y.0-ABI without its point release is taken for the series."""
    kernel = kernel_of(text)
    if kernel is not None and kernel.endswith(".0") and re.search(rf"\b{re.escape(kernel)}-\d+-", text):
        return kernel.removesuffix(".0")
    return kernel


def _processor(text: str, on: set[str], off: set[str]) -> Processor:
    """By the parameters that are on, and by the flags of /proc/cpuinfo, but not of those that are off.

    A forced AVIC is no AVIC, unless a flag says so. An emulated processor has the emulator's ways.
    """
    model = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
    title = model[1] if model else "not recorded"
    features = {name for name in FEATURES if name in on}
    if "force_avic" in on:
        features.discard("avic")
    line = re.search(r"^flags\s*: (.*)$", text, re.MULTILINE)
    flags = set(line[1].split()) if line else set()
    rows = load("cpus")["feature"].items()
    shown = {name for name, row in rows if FLAGS.get(row["kernel"], row["kernel"].lower()) in flags}
    features |= shown - (off - {"avic"})
    if "TCG" in title:
        features.add("virq_at_equal_priority")
    return Processor("the recorded CPU", title, frozenset(features))
