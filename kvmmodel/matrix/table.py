"""What a guest's APIC is on a host, and what its accesses cost: a row for an x2APIC guest and one for an xAPIC guest.

Exits are counted in runs: of sender and target up to the handler for IPIs, of the EOI alone for EOIs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from kvmmodel import events as ev
from kvmmodel.machine.host import Host
from kvmmodel.machine.vm import Vm
from kvmmodel.matrix.hosts import host, hosts
from kvmmodel.matrix.scenarios import LOSSES
from kvmmodel.silicon import apic as hw

VECTOR = 0x43
SHORT = {"interrupt": "INTR", "avic_incomplete_ipi": "401h", "avic_unaccelerated_access": "402h"}
PARAMS = ("avic", "enable_ipiv", "vgif", "vnmi")
COLUMNS = (
    ("kernel", 8), ("cpu", 10), ("params", 41), ("guest", 6), ("mode", 6), ("IPI in guest", 13), ("IPI halted", 12),
    ("EOI edge", 8), ("EOI level", 9), ("TPR", 5), ("SELF_IPI", 8), ("TMICT", 6), ("inhibits at boot; with a PIT", 0),
)  # fmt: skip
LEGEND = """\
What a guest's APIC is on each host, and the exits that it costs. Counted in runs of kvmmodel; `make matrix` renews it.
  IPI        exits of sender and target, from the write of ICR2 or ICR to the handler
  EOI        exits of the EOI itself: of an edge-triggered vector, of a level-triggered one
  TPR, SELF_IPI, TMICT   exits of the write; -: an xAPIC has no such register
  exits      MSR, NPF, INTR (a kick's host IPI), 401h AVIC_INCOMPLETE_IPI, 402h AVIC_UNACCELERATED_ACCESS
  avic=1 is asked for in every second pair of rows; params is what the modules made of it, - where a release has none
"""


LOST = (
    "\nWhat releases lose with avic=1: scenarios that do not come to their end there, because of a bug since mended.\n"
)


def losses(kernel: str, cpu: str, scenario: str) -> str:
    """One line of what follows the table."""
    return f"{host(kernel, cpu, True).kernel.release:8}  {cpu:10}  {scenario}: {LOSSES[scenario].why}\n"


def table(rows: Iterable[tuple[str, str, bool]] | None = None) -> str:
    """The whole text, or what it has of these hosts."""
    lines = [LEGEND, _line(tuple(name for name, _ in COLUMNS))]
    for kernel, cpu, avic in hosts() if rows is None else rows:
        lines.append(block(kernel, cpu, avic))
    return "".join(lines)


def block(kernel: str, cpu: str, avic: bool) -> str:
    """The two rows of one host."""
    made = host(kernel, cpu, avic)
    params = " ".join(f"{name}={made.sysfs.get(name, '-')}" for name in PARAMS)
    head = (made.kernel.release, cpu, params)
    return "".join(_line((*head, name, *_cells(made, name == "x2APIC"))) for name in ("x2APIC", "xAPIC"))


def _line(cells: tuple[str, ...]) -> str:
    padded = (f"{cell:{width}}" for cell, (_, width) in zip(cells, COLUMNS, strict=True))
    return "  ".join(padded).rstrip() + "\n"


def _cells(made: Host, x2apic: bool) -> tuple[str, ...]:
    """mode, the costs, and the inhibits."""
    vm = made.create_vm(2, x2apic=x2apic, boot=True, stacks=False)
    mode = vm.vcpus[0].avic_mode
    with_pit = made.create_vm(2, x2apic=x2apic, boot=True, pit="reinject", trace=False)
    inhibits = f"{_words(vm.inhibits)}; {_words(with_pit.inhibits)}"
    running, _ = _interrupt(vm, lambda: _ipi(vm, x2apic))
    vm.vcpus[1].guest.hlt()
    halted, edge = _interrupt(vm, lambda: _ipi(vm, x2apic))
    _, level = _interrupt(vm, lambda: vm.signal_msi(0xFEE01000, 0xC000 | VECTOR))
    tpr, tmict = (_exits(vm, lambda o=o: _write(vm, x2apic, o, 0x10)) for o in (hw.APIC_TASKPRI, hw.APIC_TMICT))  # type: ignore[misc]
    self_ipi = _told(_exits(vm, lambda: vm.vcpus[0].guest.wrmsr(0x83F, 0x51))) if x2apic else "-"
    counts = (_told(found) for found in (running, halted, edge, level, tpr))
    return mode, *counts, self_ipi, _told(tmict), inhibits


def _words(inhibits: frozenset[str]) -> str:
    return "|".join(sorted(inhibits)) or "none"


def _write(vm: Vm, x2apic: bool, offset: int, value: int) -> None:
    guest = vm.vcpus[0].guest
    if x2apic:
        guest.wrmsr(hw.APIC_BASE_MSR + (offset >> 4), value)
    else:
        guest.mmio_write(hw.APIC_DEFAULT_PHYS_BASE | offset, value)


def _ipi(vm: Vm, x2apic: bool) -> None:
    """Fixed, edge, to vCPU 1."""
    if x2apic:
        _write(vm, x2apic, hw.APIC_ICR, 1 << 32 | VECTOR)
        return
    _write(vm, x2apic, hw.APIC_ICR2, 1 << 24)
    _write(vm, x2apic, hw.APIC_ICR, VECTOR)


def _record(vm: Vm, act: Callable[[], object]) -> list[ev.Event]:
    """Everything that comes of it."""
    begin = len(vm.trace)
    act()
    vm.run()
    return [record.event for record in sorted(vm.trace.records[begin:], key=lambda record: record.t)]


def _interrupt(vm: Vm, act: Callable[[], object]) -> tuple[list[str], list[str]]:
    """The exits before vCPU 1's handler of VECTOR runs, and those of its EOI. ValueError if it does not run."""
    events = _record(vm, act)
    entered = [i for i, event in enumerate(events) if isinstance(event, ev.HandlerEnter) and event.vector == VECTOR]
    if len(entered) != 1:
        raise ValueError(f"{len(entered)} handlers of {VECTOR:#x} ran, expected one")
    return _reasons(events[: entered[0]]), _reasons(e for e in events[entered[0] :] if getattr(e, "vcpu_id", 1) == 1)


def _exits(vm: Vm, act: Callable[[], object]) -> list[str]:
    """The exits of one access; what the timer or a handler does later is not counted."""
    events = _record(vm, act)
    wrote = next(i for i, event in enumerate(events) if isinstance(event, ev.Instruction))
    ends = (i for i, e in enumerate(events) if i > wrote and isinstance(e, ev.VmRun | ev.HandlerEnter | ev.HostIrq))
    return _reasons(events[wrote : next(ends, None)])


def _reasons(events: Iterable[ev.Event]) -> list[str]:
    return [SHORT.get(e.reason, e.reason.upper()) for e in events if isinstance(e, ev.VmExit)]


def _told(reasons: list[str]) -> str:
    """ "2 NPF, INTR" for three exits: a number where a reason is there more than once; 0 for none."""
    counts = Counter(reasons)
    return ",".join(f"{count}*{name}" if count > 1 else name for name, count in counts.items()) or "0"
