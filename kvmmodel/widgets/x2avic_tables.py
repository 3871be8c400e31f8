"""The tables of the page on x2APIC and x2AVIC: modes, MSRs and indexes by release, from runs and the model's lists."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from kvmmodel.events import VmExit
from kvmmodel.facts.releases import series
from kvmmodel.kvm.svm.avic.mode import passed_msrs
from kvmmodel.machine.host import Host
from kvmmodel.machine.vm import Vm
from kvmmodel.silicon import apic as hw
from kvmmodel.silicon.avic_access import ACCELERATED, ALLOWED, GP, WRITE_ONLY, classify_read, classify_write
from kvmmodel.widgets.ipi_costs import ranges
from kvmmodel.widgets.page import Html
from kvmmodel.widgets.svg import el, rich

HOSTS = (("Zen 2", "zen2"), ("Zen 4", "zen4"))
GUESTS = (("xAPIC", False), ("x2APIC", True))
WORDS = {"off": "off", "xavic": "xAVIC", "x2avic": "x2AVIC", "hybrid": "hybrid"}
REGISTERS = (
    ("ID", hw.APIC_ID), ("TPR", hw.APIC_TASKPRI), ("PPR", hw.APIC_PROCPRI), ("EOI", hw.APIC_EOI), ("LDR", hw.APIC_LDR),
    ("SVR", hw.APIC_SPIV), ("IRR, vectors 31:0", hw.APIC_IRR), ("IRR, the others", hw.APIC_IRR + 0x10),
    ("ESR", hw.APIC_ESR), ("ICR", hw.APIC_ICR), ("LVT timer", hw.APIC_LVTT), ("LVT LINT0", hw.APIC_LVT0),
    ("timer, initial count", hw.APIC_TMICT), ("timer, current count", hw.APIC_TMCCT), ("SELF_IPI", hw.APIC_SELF_IPI),
)  # fmt: skip
NO_EXIT, NONE = "no exit", "—"
SWITCHES = (("Zen 4", "zen4", "7.3"), ("Zen 2", "zen2", "6.1"), ("Zen 2", "zen2", "7.3"))


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], css: str = "km-table") -> Html:
    head = el("tr", *(el("th", rich(name), scope="col") for name in heads))
    body = [el("tr", el("th", rich(row[0]), scope="row"), *(el("td", rich(cell)) for cell in row[1:])) for row in rows]
    return Html(el("table", el("thead", head), el("tbody", *body), class_=css))


def mode_table() -> Html:
    """The mode of a vCPU with ``avic=1`` and nothing that inhibits, by the guest's APIC mode and the processor."""
    rows = []
    for label, x2apic in GUESTS:
        for title, cpu in HOSTS:
            found: dict[str, list[str]] = {}
            for kernel in series():
                found.setdefault(_mode(cpu, kernel, x2apic), []).append(kernel)
            rows += [(label, title, WORDS[mode], ranges(kernels)) for mode, kernels in found.items()]
    return _table(("guest's APIC", "processor", "mode", "kernels"), rows)


def _mode(cpu: str, kernel: str, x2apic: bool) -> str:
    vm = Host(cpu, kernel, avic=True).create_vm(1, x2apic=x2apic, boot=True, trace=False)
    return vm.vcpus[0].avic_mode


def msr_table(kernels: Sequence[str] = ("6.18", "7.3")) -> Html:
    """What an access to each x2APIC register does with x2AVIC: no exit, the exit, or #GP."""
    heads = ("register", *(f"{what}, {kernel}" for what in ("read", "write") for kernel in kernels))
    rows = []
    for name, offset in REGISTERS:
        cells = [access(kernel, offset, write) for write in (False, True) for kernel in kernels]
        rows.append((name, *cells))
    return _table(heads, rows, "km-table km-six")


def access(kernel: str, offset: int, write: bool) -> str:
    """One access of an x2APIC guest on Zen 4; reads of registers that can only be written are left out."""
    if not write and offset in WRITE_ONLY:
        return NONE
    host = Host("zen4", kernel, avic=True).start([0, 1])
    reads, writes = passed_msrs(host)
    if hw.APIC_BASE_MSR + (offset >> 4) not in (writes if write else reads):
        return "MSR"
    classify: Callable[[int, bool, Mapping[str, str]], str] = classify_write if write else classify_read
    how = classify(offset, True, host.open_points)
    if how in (ALLOWED, ACCELERATED):
        return NO_EXIT
    return "`#GP`" if how == GP else "402h"


def index_table() -> Html:
    """AVIC_PHYSICAL_MAX_INDEX as KVM writes it, by mode, and which kernels; the last is for 4096 vCPUs in the VM."""
    kinds = (("xAVIC", "zen4", False), ("hybrid", "zen2", True), ("x2AVIC", "zen4", True),
             ("x2AVIC, x2AVIC_EXT", "zen5,+x2avic_ext", True))  # fmt: skip
    rows = []
    for label, cpu, x2apic in kinds:
        found: dict[str, list[str]] = {}
        for kernel in series():
            vm = Host(cpu, kernel, avic=True).create_vm(1, x2apic=x2apic, boot=True, trace=False)
            if vm.vcpus[0].avic_mode != "off":
                found.setdefault(str(vm.vcpus[0].kvm_vcpu.vmcb01.avic_max_index), []).append(kernel)
        rows += [(label, index, ranges(kernels)) for index, kernels in found.items()]
    return _table(("mode", "MAX_INDEX", "kernels"), rows)


def switch_table(hosts: Sequence[tuple[str, str, str]] = SWITCHES) -> Html:
    """vCPU 0 goes to x2APIC mode, vCPU 1 stays: the modes of both before and after, and a TPR write of vCPU 1."""
    heads = ("processor, kernel", "vCPU 0", "vCPU 1", "vCPU 1 writes its TPR: before", "after")
    return _table(heads, [(f"{title}, {kernel}", *switch(cpu, kernel)) for title, cpu, kernel in hosts])


def switch(cpu: str, kernel: str) -> tuple[str, str, str, str]:
    """ "before to after" for both vCPUs, and what vCPU 1's write costs before and after."""
    vm = Host(cpu, kernel, avic=True).create_vm(2)
    vm.vcpus[1].set_mp_state("runnable")
    vm.run()
    _tpr_write(vm)  # the first access maps the page
    before, cost = [vcpu.avic_mode for vcpu in vm.vcpus], _tpr_write(vm)
    vm.vcpus[0].guest.wrmsr(hw.MSR_IA32_APICBASE, vm.vcpus[0].get_msr(hw.MSR_IA32_APICBASE) | hw.X2APIC_ENABLE)
    vm.vcpus[0].guest.nop()
    words = [f"{WORDS[old]} to {WORDS[vcpu.avic_mode]}" if old != vcpu.avic_mode else f"stays {WORDS[old]}"
             for old, vcpu in zip(before, vm.vcpus, strict=True)]  # fmt: skip
    return words[0], words[1], cost, _tpr_write(vm)


def _tpr_write(vm: Vm) -> str:
    begin = len(vm.trace)
    vm.vcpus[1].guest.mmio_write(hw.APIC_DEFAULT_PHYS_BASE | hw.APIC_TASKPRI, 0)
    exits = [event.reason.upper() for event in vm.trace.events[begin:] if isinstance(event, VmExit)]
    return exits[0] if exits else NO_EXIT
