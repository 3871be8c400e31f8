"""The options board: QEMU's options for a Windows guest, what inhibits AVIC then, and what a little work costs."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import ipywidgets

from kvmmodel.facts.releases import series
from kvmmodel.kvm.hv_cpuid import HV_DEPRECATING_AEOI_RECOMMENDED, HV_X64_APIC_ACCESS_RECOMMENDED
from kvmmodel.trace.story import Badge
from kvmmodel.widgets import figure, parts
from kvmmodel.widgets.glyphs import icon
from kvmmodel.widgets.inhibit_board import answer, mask, moments, opened
from kvmmodel.widgets.page import badges
from kvmmodel.widgets.parts import Choice
from kvmmodel.widgets.svg import el, esc, rich
from kvmmodel.widgets.windows_run import COUNT, TICK, Cost, Options, Result, run

TITLE = "A Windows guest's options, and AVIC"
ON_OFF = (("off", False), ("on", True))
SHOWN = (("shown", True), ("hidden", False))
FIRST = Options()
CHOICES = (
    Choice("kernel", "Kernel", tuple((name, name) for name in series()), FIRST.kernel),
    Choice("synic", "hv-synic", ON_OFF, FIRST.synic),
    Choice("stimer", "hv-stimer", (("off", "off"), ("on", "message"), ("on, direct", "direct")), FIRST.stimer),
    Choice("avic", "hv-avic", ON_OFF, FIRST.avic),
    Choice("vapic", "hv-vapic", ON_OFF, FIRST.vapic),
    Choice("pit", "PIT policy", (("delay", "delay"), ("discard", "discard")), FIRST.pit),
    Choice("x2apic", "X2APIC in CPUID", SHOWN, FIRST.x2apic),
    Choice("svm", "SVM in CPUID", SHOWN, FIRST.svm),
    Choice("obeys", "The guest", (("does as told", True), ("uses AutoEOI anyway", False)), FIRST.obeys),
)
BREAK = "leave AVIC on though a source has AutoEOI"
DONE_BY = {"message": "a Hyper-V timer", "direct": "a Hyper-V timer", "off": "the RTC"}
KNOWN = (
    Badge("source", "KVM 5.10 to 7.3, QEMU"),
    Badge("mail", "what Windows makes of the two recommendations"),
    Badge("inferred", "the rest of the guest"),
)
ROWS = (
    ("exits, by reason", "exits"),
    ("of these, to userspace", "userspace"),
    ("host IPIs", "host_ipis"),
    ("doorbells", "doorbells"),
    ("injected by KVM", "injected"),
    ("delivered by AVIC", "taken"),
)


def draw(made: Result) -> str:
    """Answer, the command, what the guest is told and does, the bill, the reasons, and how they came about."""
    board = made.board
    on = [one for one in board.reasons if one.id in board.inhibits]
    body = [
        _broken() if made.broken else "",
        _answer(made),
        *(el("p", rich(f"QEMU refuses this: {words}. Shown without it."), class_="km-note") for words in made.refused),
        el("div", esc(command(made.given)), class_="km-cmd"),
        el("h4", "What the guest is told, and what it does", class_="km-part"),
        _told(made),
        el("h4", "What a little work costs", class_="km-part"),
        bill(made),
        _verdict(made) if made.broken else "",
        el("h4", "The reasons against AVIC", class_="km-part"),
        mask(board.reasons, board.mask, board.host.kernel.has("inhibit_trace_names")),
        *(opened(one) for one in on),
        el("h4", "How it came about", class_="km-part"),
        moments(board),
        el("div", badges(KNOWN), class_="km-foot"),
    ]
    return el("div", *body, class_="km km-run km-board")


def heading(made: Result) -> str:
    host = made.board.host
    setup = f"Kernel {host.kernel.release}, {host.processor.title}, `avic={host.sysfs['avic']}`, 2 vCPUs"
    title = el("h3", TITLE, class_="km-title")
    return el("div", title, el("p", rich(setup), class_="km-sub"), class_="km-rule")


def static(made: Result) -> str:
    return el("section", heading(made), draw(made), class_="km km-static", aria_label=TITLE)


def command(options: Options) -> str:
    """Those of QEMU's options that are chosen here, and what they require."""
    flags = ["host", "hv-relaxed"]
    flags += ["hv-vpindex", "hv-synic"] if options.synic else []
    flags += ["hv-time", "hv-stimer"] if options.stimer != "off" else []
    flags += ["hv-stimer-direct"] if options.stimer == "direct" else []
    flags += ["hv-vapic"] if options.vapic else []
    flags += ["hv-avic"] if options.avic else []
    flags += [] if options.x2apic else ["-x2apic"]
    flags += [] if options.svm else ["-svm"]
    pit = " -global kvm-pit.lost_tick_policy=discard" if options.pit == "discard" else ""
    return f"qemu-system-x86_64 -accel kvm -cpu {','.join(flags)}{pit} ..."


def _answer(made: Result) -> str:
    first, second = answer(made.board)
    mark = icon("eoi" if first.startswith("Yes") else "no", size=26)
    return el("p", mark, el("b", rich(first)), el("span", rich(second)), class_="km-answer", aria_live="polite")


def _broken() -> str:
    words = (
        "<b>Broken on purpose.</b> KVM leaves AVIC on though a source of the SynIC has AutoEOI. And if the guest uses "
        "AutoEOI, the source of its timers has it here, so that something comes that way."
    )
    return el("p", icon("no", css="km-bad"), el("span", words), class_="km-broken")


def _verdict(made: Result) -> str:
    first, rest = verdict(made)
    mark = icon("no", css="km-bad", size=20)
    return el("div", mark, el("b", esc(first)), el("span", rich(rest)), class_="km-verdict broken")


def verdict(made: Result) -> tuple[str, str]:
    """What came of the rule that is left out."""
    if made.stuck:
        vector = f"`{TICK[made.given.stimer]:#x}`"
        return (
            "Stuck.",
            f"{made.ticks.handled} of {COUNT} ticks arrived. AVIC put {vector} into service, the guest gave no EOI, "
            "as AutoEOI has it, and nothing of its class or below comes any more.",
        )
    if not made.auto_eoi:
        return "Nothing changes.", "No source has AutoEOI, so there was nothing to inhibit AVIC for."
    if made.board.inhibits:
        return "Nothing lost.", "AVIC is inhibited all the same, so KVM injects, and gives the implied EOI."
    return "Nothing lost.", "A source has AutoEOI, but no tick comes through it: the timer is off, or in direct mode."


def told(made: Result) -> tuple[str, ...]:
    """What CPUID recommends to the guest."""
    words = []
    if made.recommended & HV_X64_APIC_ACCESS_RECOMMENDED:
        words.append("use Hyper-V's MSRs for EOI, ICR and TPR (bit 3)")
    if made.recommended & HV_DEPRECATING_AEOI_RECOMMENDED:
        words.append("do not use AutoEOI (bit 9)")
    return tuple(words) or ("nothing that matters here",)


def done(made: Result) -> tuple[str, ...]:
    """What the guest does."""
    words = ["ends an interrupt by the assist page's bit or `HV_X64_MSR_EOI`, and sends IPIs by `HV_X64_MSR_ICR`"]
    if not made.by_msr:
        words = [f"uses its own {'x2APIC' if made.given.x2apic else 'xAPIC'} for EOIs and IPIs"]
    if made.given.synic:
        words.append(f"has a source in its SynIC {'with' if made.auto_eoi else 'and none with'} AutoEOI")
    return tuple(words)


def _told(made: Result) -> str:
    rows = (
        (f"CPUID `0x40000004` EAX, `{made.recommended:#x}`", "; ".join(told(made))),
        ("so the guest", "; ".join(done(made))),
    )
    lines = [el("tr", el("th", rich(name), scope="row"), el("td", rich(words))) for name, words in rows]
    return el("table", el("tbody", *lines), class_="km-table km-tight")


def exits(counts: Counter[str]) -> str:
    """ "20: msr 10, interrupt 10", the most frequent first."""
    total = sum(counts.values())
    each = ", ".join(f"`{name}` {count}" for name, count in counts.most_common())
    return f"{total}: {each}" if total else "0"


def bill(made: Result) -> str:
    """A real table: what each piece of work took."""
    kinds = (f"{COUNT} IPIs to a busy vCPU", f"{COUNT} ticks of {DONE_BY[made.given.stimer]}, idle vCPU")
    head = el("tr", el("td"), *(el("th", kind, scope="col") for kind in kinds))
    lines = [el("tr", el("th", "arrived", scope="row"), *(el("td", str(c.handled)) for c in (made.ipis, made.ticks)))]
    for label, key in ROWS:
        texts = (_cell(one, key) for one in (made.ipis, made.ticks))
        cells = (el("td", rich(text), class_="z" if text == "0" else None) for text in texts)
        lines.append(el("tr", el("th", label, scope="row"), *cells))
    return el("table", el("thead", head), el("tbody", *lines), class_="km-table km-tight km-work")


def _cell(one: Cost, key: str) -> str:
    value = getattr(one, key)
    return exits(value) if isinstance(value, Counter) else str(value)


def windows_board(css: bool = True) -> WindowsBoard:
    """The widget."""
    return WindowsBoard(css=css)


class WindowsBoard(ipywidgets.VBox):  # type: ignore[misc]
    """The widget: options over what becomes of them. ``result`` is what it shows; ``choose`` moves the controls."""

    def __init__(self, *, css: bool = True):
        self._with_css, self._quiet = css, False
        self._kept: dict[tuple[Options, bool], Result] = {}
        self.result: Result | None = None
        self.error: str | None = None
        self._choices = {choice.key: parts.control(choice) for choice in CHOICES}
        self._break = parts.switch(BREAK)
        self._head, self._figure = parts.html("head"), parts.html("figure")
        style = [parts.html("css", f"<style>{parts.css()}</style>")] if css else []
        controls = parts.box("ctl", *self._choices.values(), self._break)
        super().__init__([*style, self._head, controls, self._figure])
        for css_class in ("km", "km-stepper", "km-windows"):
            self.add_class(css_class)
        for widget in (*self._choices.values(), self._break):
            widget.observe(lambda _: self._rebuild(), "value")
        self._rebuild()
        self._first = figure.failed(self.error or "") if self.result is None else static(self.result)

    def choose(self, broken: bool | None = None, **values: Any) -> None:
        """Set controls by key. Errors: KeyError for an unknown key, TraitError for a value that is no option."""
        self._quiet = True
        try:
            if broken is not None:
                self._break.value = broken
            for key, value in values.items():
                self._choices[key].value = value
        finally:
            self._quiet = False
            self._rebuild()

    def _rebuild(self) -> None:
        if self._quiet:
            return
        options = replace(FIRST, **{key: widget.value for key, widget in self._choices.items()})
        key = (options, self._break.value)
        try:
            if key not in self._kept:
                self._kept[key] = run(*key)
            self.result, self.error = self._kept[key], None
        except Exception as problem:  # a page's own code: its reader gets one line, and the controls go on working
            self.result, self.error = None, parts.in_one_line("This VM", problem)
            self._figure.value = figure.failed(self.error)
            return
        self._head.value, self._figure.value = heading(self.result), draw(self.result)

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        """The widget, and beside it the static picture of its first state for places that cannot run it."""
        own = super()._repr_mimebundle_(**kwargs) if hasattr(super(), "_repr_mimebundle_") else {}
        return parts.beside_picture(own, "WindowsBoard", self._first, self._with_css)
