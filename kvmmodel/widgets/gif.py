"""The explorer of the page on GIF: what an NMI, an SMI or an interrupt costs, with and without vGIF and vNMI."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from kvmmodel.kvm.svm.gif import EFER_SVME
from kvmmodel.kvm.x86.msrs import MSR_EFER
from kvmmodel.machine.host import Host
from kvmmodel.scenarios.run import built_in, run
from kvmmodel.trace.steps import program_story
from kvmmodel.trace.story import BROKEN, Badge, Step, Story
from kvmmodel.trace.telling_gif import GIF_TELLERS
from kvmmodel.widgets.page import Html
from kvmmodel.widgets.stepper import Choice, Stepper, stepper
from kvmmodel.widgets.svg import el, rich

EVENTS = (
    ("NMI", "nmi"),
    ("two NMIs at once", "two"),
    ("NMI in the NMI handler", "again"),
    ("SMI", "smi"),
    ("interrupt", "irq"),
)
FLAGS = (("1", "set"), ("0, by CLGI", "clear"))
MEANS = (("neither", "neither"), ("vGIF", "vgif"), ("vGIF and vNMI", "vnmi"))
PARAMS: dict[str, dict[str, Any]] = {"neither": {"vgif": False}, "vgif": {"vnmi": False}, "vnmi": {}}
VECTOR, NMI = 0x41, 2
SINCE = {"nmi": "WRMSR 0x830", "two": "OUT", "again": "WRMSR 0x830", "smi": "OUT", "irq": "WRMSR 0x83f"}
NEEDLESS = {
    "smi": "`RSM` exits in any case, and so does `STGI` without vGIF.",
    "irq": "An interrupt needs neither: its window is the VINTR exit or, without vGIF, the `STGI` that exits anyway.",
}
EARS = ("no-iret-intercept", "no-stgi-intercept")


def gif_story(event: str, flag: str, means: str, kernel: str = "6.12", broken: bool = False) -> Story:
    """One run: ``event`` nmi, two, again (in the handler of the first), smi, irq or, with the flag clear, none.

    ``flag``: GIF clear or set when it comes. ``means``: neither, vgif or vnmi (with vgif). ``broken``: KVM has neither
    IRET nor STGI exit in order to hear of them.
    """
    scenario = built_in(f"gif-{flag}-{event}")
    host = Host("zen4", kernel, avic=False, **PARAMS[means])
    vm = run(scenario, host, broken=EARS if broken else ())
    told = program_story(
        vm.trace.records,
        host.kernel,
        (VECTOR,) if event == "irq" else (NMI,),
        title=scenario.title,
        setup=f"Kernel {host.kernel.release}, {host.processor.title}, `avic=0`, {_params(host)}, x2APIC guest",
        since="CLGI" if flag == "clear" else SINCE[event],
        badges=(BROKEN,) if broken else tuple(Badge(how, what) for how, what in scenario.known.items()),
        broken="KVM has neither `IRET` nor `STGI` exit to hear of them" if broken else None,
        tellers=GIF_TELLERS,
    )
    return replace(told, verdict=_verdict(told, event)) if broken else told


def _params(host: Host) -> str:
    return ", ".join(f"`{name}={int(host.params[name])}`" for name in ("vgif", "vnmi"))


def _verdict(told: Story, event: str) -> str:
    """What became of the events that KVM did not hear the moment of."""
    end = told.steps[-1].states[-1]
    if end.nmis and end.nmi_blocked:
        return (
            "Lost: an NMI waits, though the handler of the one before has returned. "
            "KVM did not hear of its `IRET`, and takes NMIs for blocked for ever."
        )
    if end.nmis or (event == "smi" and not _entered_smm(told)):
        what = "the SMI" if event == "smi" else "an NMI"
        return (
            f"Stuck: GIF is 1 again, and {what} still waits. "
            "KVM did not hear of the `STGI`, and without a request it does not look."
        )
    if end.nmi_blocked:
        return "Nothing lost yet. But KVM takes NMIs for blocked for ever, so the next one will be."
    return f"Nothing lost. {NEEDLESS.get(event, 'The processor itself knows when it may deliver an NMI.')}"


def _entered_smm(told: Story) -> bool:
    return any(step.label == "enter SMM" for step in told.steps)


def gif_explorer(kernel: str = "6.12") -> Stepper:
    """The widget."""

    def build(event: str, flag: str, means: str, broken: bool) -> Story:
        return gif_story(event, flag, means, kernel, broken)

    choices = (
        Choice("event", "What comes", EVENTS),
        Choice("flag", "The guest's GIF", FLAGS, "clear"),
        Choice("means", "In use", MEANS, "vgif"),
    )
    return stepper(build, choices, break_it="have neither IRET nor STGI exit")


def gif_exits(event: str, flag: str, means: str, kernel: str = "6.12") -> list[str]:
    """The exits of a run in order, without those by which the guest asks for the event."""
    steps = gif_story(event, flag, means, kernel).steps
    asked = {i + 1 for i, step in enumerate(steps) if step.kind == "write" and _asks(step)}
    return [_reason(step) for i, step in enumerate(steps) if step.kind == "exit" and i not in asked]


def _asks(step: Step) -> bool:
    return step.label.startswith(tuple(f"`{cause}" for cause in SINCE.values()))


def _reason(step: Step) -> str:
    return step.label.split()[-1]


def clgi_exits(pairs: int, vgif: bool, kernel: str = "6.12") -> int:
    """The exits of a guest that sets EFER.SVME and then executes so many pairs of CLGI and STGI."""
    vm = Host("zen4", kernel, False, vgif=vgif).create_vm(vcpus=1, boot=True)
    guest = vm.vcpus[0].guest
    guest.wrmsr(MSR_EFER, EFER_SVME)
    for _ in range(pairs):
        guest.clgi()
        guest.stgi()
    return sum(event.kind == "exit" for event in vm.trace.events)


def gif_costs(kernel: str = "6.12") -> Html:
    """For each event, with GIF set and clear: the exits that it costs. Zero is printed as 0."""
    names = ("what comes", *(label for label, _ in MEANS))
    bodies = []
    for title, flag, events in (
        ("GIF is 1", "set", EVENTS),
        ("between `CLGI` and `STGI`", "clear", (("nothing", "none"), *EVENTS)),
    ):
        rows = [el("tr", el("th", el("b", rich(title)), scope="rowgroup", colspan=str(len(names))))]
        for label, event in events:
            cells = [el("td", _tally(gif_exits(event, flag, means, kernel))) for _, means in MEANS]
            rows.append(el("tr", el("th", label, scope="row"), *cells))
        bodies.append(el("tbody", *rows))
    head = el("tr", *(el("th", name, scope="col") for name in names))
    return Html(el("table", el("thead", head), *bodies, class_="km-table"))


def _tally(reasons: list[str]) -> str:
    return ", ".join(f"{reasons.count(r)}\N{NO-BREAK SPACE}{r}" for r in dict.fromkeys(reasons)) or "0"
