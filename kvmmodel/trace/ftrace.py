"""Tracepoints as lines of tracefs' trace file."""

from __future__ import annotations

from collections.abc import Iterable

from kvmmodel.facts.releases import Kernel
from kvmmodel.machine.record import Record
from kvmmodel.trace.text import tracepoint

HEADER = """# tracer: nop
#
#                                _-----=> irqs-off/BH-disabled
#                               / _----=> need-resched
#                              | / _---=> hardirq/softirq
#                              || / _--=> preempt-depth
#                              ||| / _-=> migrate-disable
#                              |||| /     delay
#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION
#              | |         |   |||||     |         |
"""
FIRST_PID = 1000
IRQS_OFF = {"svm_vcpu_run", "svm_exit_handlers_fastpath", "hrtimer_interrupt"}


def render(records: Iterable[Record], kernel: Kernel) -> str:
    """The whole file, in order of time. Times are the model's, in seconds; they order events and measure nothing."""
    ordered = sorted(records, key=lambda record: record.t)  # stable: one CPU's events stay in their order
    return HEADER + "".join(row + "\n" for record in ordered if (row := line(record, kernel)) is not None)


def line(record: Record, kernel: Kernel) -> str | None:
    """One line, None if the event is no tracepoint."""
    name, fields = record.event.tracepoint, tracepoint(record.event, kernel)
    if name is None or fields is None:
        return None
    pid = 0 if record.vcpu is None and record.task == "<idle>" else FIRST_PID + (record.vcpu or 0)
    flags = "d..1." if any(f.name in IRQS_OFF for f in record.stack) else "....."
    seconds, ns = divmod(record.t, 1_000_000_000)
    return f"{record.task:>16}-{pid:<7} [{record.cpu:03}] {flags} {seconds:>5}.{ns // 1000:06}: {name}: {fields}"
