"""The explorer and tables of the page "Without AVIC": what exits, what KVM answers, and two hosts side by side."""

from __future__ import annotations

from kvmmodel import events as ev
from kvmmodel.machine.host import Host
from kvmmodel.trace.access import FAST
from kvmmodel.trace.steps import access_story
from kvmmodel.trace.story import Badge, Story
from kvmmodel.trace.telling import REASONS
from kvmmodel.widgets.accesses import MODES, REGISTERS, Answer, run_access
from kvmmodel.widgets.comparison import Comparison, comparison
from kvmmodel.widgets.glyphs import icon
from kvmmodel.widgets.page import Html
from kvmmodel.widgets.parts import Choice
from kvmmodel.widgets.svg import el, rich
from kvmmodel.widgets.versus import Pair

KERNELS = (("6.12", "6.12"), ("7.3", "7.3"))
BARE = "zen4"
HOSTS = (("under KVM", "zen4-nested"), ("emulated, no NRIPS", "tcg"))
ACCESSES = (
    ("CR8", "cr8"), ("TPR", "tpr"), ("EOI", "eoi"), ("PV EOI", "pv-eoi"), ("ICR", "icr"), ("SELF_IPI", "self-ipi"),
    ("deadline", "deadline"), ("LDR", "ldr"),
)  # fmt: skip
NOTE = (
    "Both columns are what the host's own KVM does. What the hypervisor beneath the nested host does for each of these "
    "exits is not in the model."
)
INTERRUPTS = 4  # of each kind in the table of costs
APART = "spin 50000"  # so that one EOI is done before the next interrupt is sent


def _host(cpu: str, kernel: str) -> Host:
    return Host(cpu=cpu, kernel=kernel, avic=False)


def host_pair(access: str, mode: str, kernel: str, host: str) -> Pair:
    """The same access on a bare host with avic=0, and on a nested or emulated one."""
    register, beside = REGISTERS[access], _host(host, kernel)
    left = _story(run_access(access, mode, _host(BARE, kernel)), register.label)
    right = _story(run_access(access, mode, beside), register.label)
    mode_name = next(label for label, value in MODES if value == mode)
    setup = f"Kernel {kernel}, `avic=0`, guest in {mode_name} mode. One instruction, up to the entry after it"
    names = ("bare Zen 4", next(label for label, value in HOSTS if value == host))
    known = [Badge("source", "5.10 to 7.3")]
    if mode in register.recorded:
        known.insert(0, Badge("recorded", "under emulated SVM, 6.12.95 and 7.3.4"))
    return Pair(register.label, setup, left, right, names, NOTE, tuple(known))


def _story(answer: Answer, title: str) -> Story:
    return access_story(answer.access.records, answer.kernel, title=title, setup="")


def host_explorer() -> Comparison:
    """The widget."""
    choices = (
        Choice("access", "Access", ACCESSES, "icr"),
        Choice("mode", "Guest's APIC", MODES),
        Choice("kernel", "Kernel", KERNELS, "7.3"),
        Choice("host", "Nested host", HOSTS, "tcg"),
    )
    return comparison(host_pair, choices)


def access_table(kernel: str = "7.3", cpu: str = BARE) -> Html:
    """Every access in both modes: the exit and the path on the first line of a cell, KVM's answer on the second."""
    host = Host(cpu=cpu, kernel=kernel, avic=False)
    head = el("tr", *(el("th", name, scope="col") for name in ("register", "xAPIC", "x2APIC")))
    rows = []
    for key, register in REGISTERS.items():
        cells = [_cell(run_access(key, mode, host), mode in register.recorded) for mode in ("xapic", "x2apic")]
        rows.append(el("tr", el("th", rich(register.label), scope="row"), *cells))
    return Html(el("table", el("thead", head), el("tbody", *rows), class_="km-table km-accesses"))


def _cell(answer: Answer, recorded: bool) -> str:
    found = answer.access
    path = " · fast path" if found.path == FAST else ""
    first = "no exit" if found.exit is None else f"<b>{REASONS.get(found.exit, found.exit)}</b>{path}"
    mark = " " + icon("how-recorded", size=12) + '<span class="km-vh">recorded</span>' if recorded else ""
    return el("td", first + mark, el("small", rich(answer.words)))


def eoi_costs(kernel: str = "7.3") -> Html:
    """All exits, of sender and receiver, by reason, and how many there are for each interrupt that is handled."""
    reasons = ("npf", "msr", "interrupt")
    names = ("IPI to", "APIC", "EOI by", *(REASONS[reason] for reason in reasons), "each")
    rows = []
    for to, target in (("itself", 0), ("another", 1)):
        for label, mode in reversed(MODES):
            for word, eoi in (("register", "eoi"), ("PV bit", "pv_eoi")):
                exits, handled = _count(mode, target, eoi, kernel)
                cells = [word, *(str(exits.count(reason)) for reason in reasons), f"{len(exits) / handled:g}"]
                rows.append(el("tr", el("th", to, scope="row"), *(el("td", text) for text in (label, *cells))))
    head = el("tr", *(el("th", name, scope="col") for name in names))
    return Html(el("table", el("thead", head), el("tbody", *rows), class_="km-table km-tight"))


def _count(mode: str, target: int, eoi: str, kernel: str) -> tuple[list[str], int]:
    """vCPU 0 sends interrupts one after the other. The reasons of all exits, and how many interrupts were handled."""
    vm = _host(BARE, kernel).create_vm(vcpus=2, x2apic=mode == "x2apic", boot=True)
    for vcpu in (0, 1):
        vm.execute(vcpu, (f"pv_eoi_on {0x5000 + 0x1000 * vcpu:#x}",))
    vm.run()
    vm.trace.clear(vm.machine.now)
    vm.world.idt[target] = {0x51: eoi}
    if mode == "x2apic":
        send: tuple[str, ...] = (f"wrmsr ICR {target << 32 | 0x51:#x}",)
    elif target == 0:
        send = ("mmio_write 0xfee00300 0x40051",)
    else:
        send = (f"mmio_write 0xfee00310 {target << 24:#x}", "mmio_write 0xfee00300 0x51")
    vm.execute(0, tuple(line for n in range(INTERRUPTS) for line in (*send, f"seen 0x51 {n + 1}", APART)))
    vm.run()
    exits = [event.reason for event in vm.trace.events if isinstance(event, ev.VmExit)]
    return exits, vm.vcpus[target].guest.handled[0x51]


def nested_params() -> Html:
    """What each host's kvm_amd makes of the release's defaults. Y and N are sysfs' words."""
    shown = ("avic", "nrips", "vgif", "vnmi")
    head = el("tr", *(el("th", text, scope="col") for text in ("processor", "kernel", *shown)))
    rows = []
    for name, cpu in (("bare Zen 4", BARE), *HOSTS):
        for _, kernel in KERNELS:
            host = Host(cpu=cpu, kernel=kernel)
            values = ["Y" if host.params[name] else "N" for name in shown]
            cells = [el("td", text) for text in (kernel, *values)]
            rows.append(el("tr", el("th", name, scope="row"), *cells))
    return Html(el("table", el("thead", head), el("tbody", *rows), class_="km-table km-tight"))
