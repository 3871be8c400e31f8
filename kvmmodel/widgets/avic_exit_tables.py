"""The tables and small runs of the page on AVIC's exits, beside its two explorers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from kvmmodel import events as ev
from kvmmodel.facts.releases import series
from kvmmodel.machine.host import Host
from kvmmodel.machine.vm import Vm
from kvmmodel.silicon import apic as hw
from kvmmodel.silicon.avic_access import FAULT, GP, TRAP
from kvmmodel.trace.text import tracepoint
from kvmmodel.widgets.avic_accesses import CPU, MSR, NO_EXIT, REGISTERS, accessed, outcome, prepared
from kvmmodel.widgets.avic_ipis import send
from kvmmodel.widgets.cells import Text
from kvmmodel.widgets.ipi_costs import ranges
from kvmmodel.widgets.page import Html
from kvmmodel.widgets.svg import el

HIGH, LOW = 0x61, 0x41  # a level vector, taken while an edge vector is in service
ACCESS_POINTS = ("kvm_exit", "kvm_avic_unaccelerated_access", "kvm_apic", "kvm_eoi", "kvm_msr", "kvm_mmio", "kvm_entry")
IPI_POINTS = (
    "kvm_exit", "kvm_avic_incomplete_ipi", "kvm_avic_kick_vcpu_slowpath", "kvm_apic_ipi", "kvm_apicv_accept_irq",
    "kvm_avic_doorbell",
)  # fmt: skip


def counts(kernel: str, x2apic: bool, write: bool) -> tuple[int, int, int, int, int]:
    """Rows of the board that are done without an exit, with a trap, a fault, with KVM's intercept, and with #GP."""
    found = Counter(outcome(kernel, x2apic, register, write) for register in REGISTERS.values())
    done = sum(found[how] for how in NO_EXIT if how != GP)
    return done, found[TRAP], found[FAULT], found[MSR], found[GP]


def counts_table() -> Html:
    """How many rows of the board go which way, by mode and release."""
    heads = ("access", "kernels", "no exit", "402h, trap", "402h, fault", "7Ch", "#GP")
    bodies = []
    for mode, x2apic in (("xAPIC", False), ("x2APIC", True)):
        over = el("th", mode, scope="rowgroup", colspan=str(len(heads)), class_="km-over")
        rows = []
        for word, write in (("read", False), ("write", True)):
            by: dict[tuple[int, ...], list[str]] = {}
            for kernel in series()[2 if x2apic else 0 :]:
                by.setdefault(counts(kernel, x2apic, write), []).append(kernel)
            rows += [
                el("tr", el("th", word, scope="row"), *(el("td", str(text)) for text in (ranges(kernels), *numbers)))
                for numbers, kernels in by.items()
            ]
        bodies.append(el("tbody", el("tr", over), *rows))
    head = el("tr", *(el("th", text, scope="col") for text in heads))
    return Html(el("table", el("thead", head), *bodies, class_="km-table km-six"))


def level_eoi(isr_bit: str, kernel: str = "7.3") -> list[str]:
    """The vectors in service after one EOI, where a level vector was taken on top of an edge vector. ``isr_bit``: what
    the processor has made of it at the exit, set or cleared."""
    host = Host(CPU, kernel, avic=True, open_points={"avic_isr_at_level_eoi": isr_bit})
    vm = host.create_vm(1, boot=True)
    vm.run()
    vm.world.bodies["later"] = ()
    vm.world.idt[0] = {HIGH: "later", LOW: "later"}
    for vector, data in ((LOW, LOW), (HIGH, 0xC000 | HIGH)):
        vm.signal_msi(hw.APIC_DEFAULT_PHYS_BASE, data)
        vm.run()
        if vector == LOW and not vm.vcpus[0].lapic.isr:
            raise ValueError("the vector was not taken")
    vm.vcpus[0].guest.wrmsr(hw.APIC_BASE_MSR + (hw.APIC_EOI >> 4), 0)
    vm.run()
    isr = vm.vcpus[0].lapic.isr
    return [hex(vector) for vector in range(256) if isr >> vector & 1]


def access_trace(register: str, does: str = "write", apic: str = "x", kernel: str = "7.3") -> Text:
    """The tracepoints of one access, in the kernel's words, up to the entry after it."""
    row, x2apic = REGISTERS[register], apic == "x2"
    vm = prepared(kernel, x2apic, row)
    begin = len(vm.trace)
    accessed(vm, x2apic, row, does == "write")
    return _lines(vm, begin, ACCESS_POINTS, {0}, "kvm_entry")


def ipi_trace(ipi: str, state: str = "asleep", apic: str = "x", kernel: str = "7.3") -> Text:
    """The tracepoints of the sender's thread that tell of an IPI."""
    sent = send(ipi, state, kernel, apic)
    return _lines(sent.vm, len(sent.vm.trace) - len(sent.records), IPI_POINTS, {0}, "")


def _lines(vm: Vm, begin: int, only: Sequence[str], vcpus: set[int], last: str) -> Text:
    lines = []
    for record in sorted(vm.trace.records[begin:], key=lambda record: record.t):
        event: ev.Event = record.event
        if record.vcpu in vcpus and event.tracepoint in only:
            lines.append(f"{event.tracepoint}: {tracepoint(event, vm.host.kernel)}")
            if event.tracepoint == last:
                break
    return Text("\n".join(lines))
