"""Whether kvm_amd uses AVIC on a host: each condition in the kernel's order, where it stops, and what shows of it.

What is asked, and what is found, is the model's (machine/hardware_setup.py); here are the words.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import ipywidgets

from kvmmodel.facts.params import kind_of
from kvmmodel.facts.releases import kernel as release
from kvmmodel.facts.releases import series
from kvmmodel.machine.host import Host
from kvmmodel.trace.story import Badge
from kvmmodel.widgets import figure, parts
from kvmmodel.widgets.cells import Text
from kvmmodel.widgets.glyphs import icon
from kvmmodel.widgets.page import Html, badges
from kvmmodel.widgets.parts import Choice
from kvmmodel.widgets.svg import el, esc, rich

CPUS = (
    ("Zen 1", "zen1"),
    ("Zen 2", "zen2"),
    ("Zen 3", "zen3"),
    ("Zen 4", "zen4"),
    ("Zen 4 laptop", "zen4-client"),
    ("Zen 5", "zen5"),
    ("Hygon", "hygon"),
    ("in a VM", "zen4-nested"),
)
ASKED = (("not set", "unset"), ("avic=1", "1"), ("avic=0", "0"))
SWITCHES = (("force_avic", "force_avic=1"), ("no_npt", "npt=0"), ("snp", "host runs SNP guests"))
SHOWN = ("avic", "force_avic", "enable_ipiv", "enable_device_posted_irqs", "npt")
CPU, KERNEL = "zen4", "6.12"


@dataclass(frozen=True, slots=True)
class Words:
    """A condition: the kernel's expression, the question, and what follows from yes and from no."""

    code: str
    question: str
    yes: str
    no: str


CONDITIONS = {
    "avic": Words("avic", "what was the module asked for?", "look further", "AVIC stays off, without a word"),
    "auto_x2avic": Words("X86_FEATURE_X2AVIC", "auto: x2AVIC in CPUID?", "then which Zen", "auto means N"),
    "auto_zen4": Words("X86_FEATURE_ZEN4, or family 0x1a on", "auto: Zen 4 or later?", "auto means Y", "auto means N"),
    "npt": Words("npt_enabled", "nested paging?", "look further", "AVIC stays off, without a word"),
    "avic_cpuid": Words("X86_FEATURE_AVIC", "AVIC in CPUID?", "look further", "only by force"),
    "force_avic": Words("force_avic", "forced?", "on, with a warning", "AVIC stays off"),
    "snp": Words("CC_ATTR_HOST_SEV_SNP", "does the host run SNP guests?", "then one thing more", "AVIC is on"),
    "hv_inuse": Words("X86_FEATURE_HV_INUSE_WR_ALLOWED", "may it write in-use pages?", "it is on", "AVIC stays off"),
    "x2avic_cpuid": Words("X86_FEATURE_X2AVIC", "x2AVIC in CPUID?", "x2APIC guests, too", "half for x2APIC guests"),
    "erratum_1235": Words("family 0x17 or 0x18", "erratum #1235?", "`enable_ipiv` goes off", "IPIs without an exit"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """A condition as it came out. ``value`` None: it was not asked. ``stops``: AVIC is off for this reason."""

    key: str
    value: Any
    effect: str
    stops: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """``command`` loads the module; ``notes`` say what of it this host does not have."""

    host: Host
    command: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    @property
    def on(self) -> bool:
        return bool(self.host.params["avic"])


def decide(cpu: str, kernel: str, avic: str, force_avic: bool, no_npt: bool, snp: bool) -> Decision:
    """Load the modules; ``avic``: 1, 0 or unset. What a release or a processor does not have is left out, and said."""
    found, notes, wanted = release(kernel), list[str](), dict[str, Any]()
    if avic != "unset":
        wanted["avic"] = avic == "1"
    if force_avic and kind_of("force_avic", found) is None:
        notes.append(f"{kernel} has no `force_avic`.")
    elif force_avic:
        wanted["force_avic"] = True
    if no_npt:
        wanted["npt"] = False
    try:
        host = Host(cpu, kernel, snp=snp, **wanted)
    except ValueError as problem:
        if not snp:
            raise
        notes.append(f"Shown without SNP guests: {str(problem).partition(':')[0]}.")
        host = Host(cpu, kernel, **wanted)
    command = " ".join(["modprobe kvm_amd", *(f"{name}={int(value)}" for name, value in wanted.items())])
    return Decision(host, command, _rows(host), tuple(notes))


def _rows(host: Host) -> tuple[Row, ...]:
    """What was asked, then what no longer was: only of a host that got through is everything asked."""
    on, last = bool(host.params["avic"]), len(host.asked) - 1
    rows = [_row(key, value, stops=n == last and not on) for n, (key, value) in enumerate(host.asked)]
    keys = {row.key for row in rows}
    if not on:
        rows += [Row(key, None, "not asked any more") for key in _everything(host.kernel.release) if key not in keys]
    return tuple(rows)


def _row(key: str, value: Any, stops: bool) -> Row:
    words = CONDITIONS[key]
    if value == "auto":
        return Row(key, value, "decide by the processor")
    return Row(key, value, words.yes if value else words.no, stops)


@cache
def _everything(kernel: str) -> tuple[str, ...]:
    """What a release asks at most, where nobody forces anything."""
    return tuple(key for key, _ in Host("zen5", kernel, avic=True).asked)


def answer(made: Decision) -> tuple[str, str]:
    """In words: the verdict, and what it means."""
    if not made.on:
        return "No. No VM on this host has AVIC.", "KVM delivers every interrupt in software."
    host = made.host
    forced = "avic" not in host.processor.features
    if forced and "avic_hidden" not in host.processor.features:
        return (
            "Yes, by force, and it does not work.",
            "The processor has no AVIC: interrupts are accepted and never arrive.",
        )
    parts_on = "x2AVIC" if host.x2avic else "AVIC for xAPIC guests, and a half of it for x2APIC guests"
    sends = host.params.get("enable_ipiv", True)
    ipis = "; IPIs go without an exit" if sends else "; each IPI exits, what arrives does not"
    first = "Yes, by force: CPUID says no." if forced else "Yes, a VM may use AVIC."
    return first, parts_on + ipis + "."


def heading(made: Decision) -> str:
    setup = f"Kernel {made.host.kernel.release}, {made.host.processor.title}, `{made.command}`"
    title = el("h3", "Does the module use AVIC here?", class_="km-title")
    return el("div", title, el("p", rich(setup), class_="km-sub"), class_="km-rule")


def draw(made: Decision) -> str:
    """Answer, the conditions in order, then sysfs and the log."""
    first, second = answer(made)
    mark = icon("eoi" if first.startswith("Yes, a") or "CPUID" in first else "no", size=26)
    said = el("p", mark, el("b", rich(first)), el("span", rich(second)), class_="km-answer", aria_live="polite")
    known = (Badge("source", "5.15 to 7.3"), Badge("recalled", "which older processor has what"))
    body = (
        said,
        *(el("p", rich(note), class_="km-note") for note in made.notes),
        el("h4", "Asked, in this order", class_="km-part"),
        el("ol", *map(_line, made.rows), class_="km-decide"),
        el("h4", "What shows of it", class_="km-part"),
        _shows(made.host),
        el("div", badges(known), class_="km-foot"),
    )
    return el("div", *body, class_="km km-run km-board")


def static(made: Decision) -> str:
    return el("section", heading(made), draw(made), class_="km km-static", aria_label="Does the module use AVIC here?")


def _line(row: Row) -> str:
    words = CONDITIONS[row.key]
    value = "–" if row.value is None else row.value if isinstance(row.value, str) else "yes" if row.value else "no"
    mark = icon("no" if row.stops else "dot", size=14) if row.value is not None else ""
    css = "stop" if row.stops else "idle" if row.value is None else None
    asks = el("span", rich(words.question), el("code", esc(words.code)))
    return el("li", asks, el("b", esc(value)), el("small", mark, rich(row.effect)), class_=css)


def _shows(host: Host) -> str:
    values = [(name, host.sysfs[name]) for name in SHOWN if name in host.sysfs]
    files = "\n".join(f"{name:26}{value}" for name, value in values)
    log = "\n".join(line for line in host.dmesg if "PMU" not in line)
    left = el("div", el("p", rich("`/sys/module/kvm_amd/parameters/`"), class_="km-caption"), el("pre", esc(files)))
    right = el("div", el("p", "The kernel log", class_="km-caption"), el("pre", esc(log or "(nothing)")))
    return el("div", left, right, class_="km-shows")


def avic_default(css: bool = True) -> AvicDefault:
    """The widget."""
    return AvicDefault(css=css)


class AvicDefault(ipywidgets.VBox):  # type: ignore[misc]
    """The widget: a host's choices over the decision. ``decision`` is what it shows; ``choose`` moves the controls."""

    def __init__(self, *, css: bool = True):
        self._with_css, self._quiet = css, False
        self.decision: Decision | None = None
        self.error: str | None = None
        kernels = tuple((name, name) for name in series())
        chosen = (Choice("cpu", "Processor", CPUS, CPU), Choice("kernel", "Kernel", kernels, KERNEL),
                  Choice("avic", "The parameter", ASKED))  # fmt: skip
        self._choices = {choice.key: parts.control(choice) for choice in chosen}
        self._choices |= {key: self._switch(label) for key, label in SWITCHES}
        self._head, self._figure = parts.html("head"), parts.html("figure")
        style = [parts.html("css", f"<style>{parts.css()}</style>")] if css else []
        switches = parts.box("switches", *(self._choices[key] for key, _ in SWITCHES))
        controls = parts.box("ctl", *(self._choices[c.key] for c in chosen), switches)
        super().__init__([*style, self._head, controls, self._figure])
        for css_class in ("km", "km-stepper", "km-avic-default"):
            self.add_class(css_class)
        for widget in self._choices.values():
            widget.observe(lambda _: self._rebuild(), "value")
        self._rebuild()
        self._first = figure.failed(self.error or "") if self.decision is None else static(self.decision)

    @staticmethod
    def _switch(label: str) -> Any:
        widget = ipywidgets.Checkbox(value=False, description=label, tooltip=label, indent=False)
        widget.add_class("km-switch")
        return widget

    def choose(self, **values: Any) -> None:
        """Set controls by key. Errors: KeyError for an unknown key, TraitError for a value that is no option."""
        self._quiet = True
        try:
            for key, value in values.items():
                self._choices[key].value = value
        finally:
            self._quiet = False
            self._rebuild()

    def _rebuild(self) -> None:
        if self._quiet:
            return
        try:
            self.decision, self.error = decide(**{key: w.value for key, w in self._choices.items()}), None
        except Exception as problem:  # a page's own code: its reader gets one line, and the controls go on working
            self.decision, self.error = None, parts.in_one_line("This host", problem)
            self._figure.value = figure.failed(self.error)
            return
        self._head.value, self._figure.value = heading(self.decision), draw(self.decision)

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        """The widget, and beside it the static picture of its first state for places that cannot run it."""
        own = super()._repr_mimebundle_(**kwargs) if hasattr(super(), "_repr_mimebundle_") else {}
        return parts.beside_picture(own, "AvicDefault", self._first, self._with_css)


GROUPS = (
    ("not set, up to 6.12", None, ("5.10", "5.15", "6.1", "6.6", "6.12")),
    ("not set, 6.18 on", None, ("6.18", "7.2", "7.3")),
    ("avic=1, 6.1 to 6.12", True, ("6.1", "6.6", "6.12")),
    ("avic=1, 6.18 on", True, ("6.18", "7.2", "7.3")),
)


def avic_table() -> Html:
    """What /sys/module/kvm_amd/parameters/avic reads on each processor, by releases; where they differ, each."""
    rows = []
    for label, cpu in CPUS:
        cells = [el("td", " / ".join(dict.fromkeys(_reads(cpu, k, avic) for k in ks))) for _, avic, ks in GROUPS]
        rows.append(el("tr", el("th", label, scope="row"), *cells))
    head = el("tr", *(el("th", name, scope="col") for name in ("processor", *(name for name, _, _ in GROUPS))))
    return Html(el("table", el("thead", head), el("tbody", *rows), class_="km-table km-tight"))


def _reads(cpu: str, kernel: str, avic: bool | None) -> str:
    host = Host(cpu, kernel, avic)
    words = [host.sysfs["avic"]]
    words += ["x2AVIC"] if host.x2avic else []
    words += ["IPIs exit"] if host.params["avic"] and not host.params.get("enable_ipiv", True) else []
    return " ".join(words)


def kernel_log(cpu: str, kernel: str, **asked: Any) -> Text:
    """What the kernel log says of AVIC on such a host."""
    return Text("\n".join(line for line in Host(cpu, kernel, **asked).dmesg if _of_avic(line)))


def _of_avic(line: str) -> bool:
    return any(word in line for word in ("AVIC", "force_avic", "crash and burn"))
