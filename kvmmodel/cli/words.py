"""What commands share: reading a text, module parameters, progress."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kvmmodel.facts import load
from kvmmodel.facts.params import AUTO, asked
from kvmmodel.machine.host import Host

AVIC = {"on": True, "off": False, "auto": None}


def add_host_options(parser: argparse.ArgumentParser, avic: str = "auto") -> None:
    """``avic``: what it is without the option."""
    words = f"kvm_amd's parameter (default {avic}); auto: the release's default"
    parser.add_argument("--avic", choices=AVIC, help=words)
    parser.set_defaults(default_avic=avic)
    parser.add_argument("--iommu", choices=sorted(load("iommu")), help="amd_iommu_intr of the host (default: no IOMMU)")
    parser.add_argument("--param", action="append", default=[], metavar="NAME=VALUE", help="another module parameter")


def host_of(cpu: str, kernel: str, options: argparse.Namespace, *, quiet: bool = False) -> Host:
    """The host that --avic, --iommu and --param describe. ValueError, in one line, for what its kernel would not take.

    The kernel says little or nothing when it cannot have AVIC; whoever asked for it is told on standard error, unless
    ``quiet``.
    """
    wanted = params(options.param)
    if "avic" in wanted and options.avic is not None:
        raise ValueError("--avic and --param avic say the same: give one of them")
    if "avic" not in wanted:
        wanted["avic"] = AVIC[options.avic or options.default_avic]
    avic = wanted.pop("avic")
    host = Host(cpu, kernel, avic, iommu=options.iommu, **wanted)
    on = avic is not None and asked(host.kernel, {"avic": avic})["avic"] not in (False, AUTO)
    if on and not host.params["avic"] and not quiet:
        said = "".join(f"; its log: {line}" for line in host.dmesg if "AVIC" in line)
        option = "--avic on" if avic is True else f"--param avic={avic}"
        name, release = host.processor.name, host.kernel.release
        print(f"kvmmodel: {option}: avic resolves to N on {name} with kernel {release}{said}", file=sys.stderr)
    return host


def host_without_avic(cpu: str, kernel: str, options: argparse.Namespace) -> Host:
    """The same host with AVIC off."""
    wanted = params(options.param)
    return Host(cpu, kernel, **{**wanted, "avic": False})


def param(text: str) -> tuple[str, str]:
    """NAME=VALUE. What a value may be is the kernel's to say, see facts/params.py."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ValueError(f"--param takes NAME=VALUE, got {text!r}")
    return name, value


def params(texts: Sequence[str]) -> dict[str, Any]:
    """Those of all --param. ValueError for one that is given twice."""
    found: dict[str, Any] = {}
    for name, value in map(param, texts):
        if name in found:
            raise ValueError(f"--param {name} is given twice")
        found[name] = value
    return found


def tell_unfinished(name: str, steps: dict[int, str]) -> int:
    """The exit status of a run: 1 if a guest waits for what never came."""
    for vcpu, step in steps.items():
        print(f"kvmmodel: {name}: vCPU {vcpu} did not finish: it is still at {step!r}", file=sys.stderr)
    return 1 if steps else 0


def text_of(name: str, expected: str) -> str:
    """A file's text. ValueError if it is none."""
    try:
        return Path(name).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{name}: not a text, expected {expected}") from None


def progress(text: str, due: bool) -> None:
    """A line on standard error that the next one replaces, if somebody watches."""
    if due and sys.stderr.isatty():
        print(f"\r{text:40}\r", end="", file=sys.stderr, flush=True)
