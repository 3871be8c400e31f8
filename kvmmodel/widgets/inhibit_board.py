"""The inhibit board: whether AVIC is in use for a VM, and if not, why, since when, and what to change."""

from __future__ import annotations

from typing import Any

import ipywidgets

from kvmmodel.facts.inhibits import Reason, decode, reasons
from kvmmodel.facts.releases import kernel as release
from kvmmodel.facts.releases import series
from kvmmodel.machine.host import Host
from kvmmodel.trace.story import Badge
from kvmmodel.trace.text import tracepoint
from kvmmodel.widgets import figure, parts
from kvmmodel.widgets.cells import Text
from kvmmodel.widgets.glyphs import icon
from kvmmodel.widgets.inhibit_run import SWITCHES, Board, Moment, board
from kvmmodel.widgets.page import Html, badges
from kvmmodel.widgets.parts import Choice
from kvmmodel.widgets.svg import coded, el, esc, rich

KERNEL = "6.18"
TRACEPOINTS = ("kvm_apicv_inhibit_changed", "kvm_apicv_update_request")
FEW = 4  # moments that fit side by side
COUNT = (
    "No",
    "One",
    "Two",
    "Three",
    "Four",
    "Five",
    "Six",
    "Seven",
    "Eight",
    "Nine",
    "Ten",
    "Eleven",
    "Twelve",
    "Thirteen",
)


def draw(made: Board) -> str:
    """Answer, mask, the set reasons opened, how it came about, and the clear ones."""
    shown = [one for one in made.reasons if one.id in made.inhibits | made.own]
    clear = [one for one in made.reasons if one not in shown]
    body = [
        _answer(made),
        mask(made.reasons, made.mask, made.host.kernel.has("inhibit_trace_names")),
        *(opened(one, own=one.id in made.own) for one in shown),
        el("h4", "How it came about", class_="km-part"),
        moments(made),
        el("h4", f"{'The others' if shown else 'The reasons'}, all clear", class_="km-part"),
        _clear(clear),
    ]
    known = (Badge("source", "5.10 to 7.3"), Badge("inferred", "that QEMU makes the parts in this order"))
    foot = el("div", badges(known), el("span", "Any one set bit turns AVIC off."), class_="km-foot")
    return el("div", *body, foot, class_="km km-run km-board")


def heading(made: Board) -> str:
    host = made.host
    setup = f"Kernel {host.kernel.release}, {host.processor.title}, `avic={host.sysfs['avic']}`, xAPIC guest"
    title = el("h3", "Is AVIC in use for this VM?", class_="km-title")
    return el("div", title, el("p", rich(setup), class_="km-sub"), class_="km-rule")


def static(made: Board) -> str:
    return el("section", heading(made), draw(made), class_="km km-static", aria_label="Is AVIC in use for this VM?")


def answer(made: Board) -> tuple[str, str]:
    """In words: yes or no, and for whom."""
    count = len(made.inhibits)
    if "DISABLED" in made.inhibits:
        return "No. The module has AVIC off, for every VM.", "Nothing that a VM does or leaves undone matters."
    if count:
        first = f"No. {COUNT[count]} reason{'s' * (count > 1)} inhibit{'s' * (count == 1)} it, for all vCPUs."
        said = made.host.sysfs["avic"]
        return first, f"The module says {said}; KVM injects every interrupt of this VM in software."
    if made.own:
        return (
            "Not on vCPU 0, as long as it runs L2.",
            "The mask is 0: no bit tells of it, and the other vCPUs have AVIC.",
        )
    return "Yes. No reason is set.", "The processor delivers what it can, without KVM."


def _answer(made: Board) -> str:
    first, second = answer(made)
    mark = icon("eoi" if first.startswith("Yes") else "no", size=26)
    return el("p", mark, el("b", rich(first)), el("span", rich(second)), class_="km-answer", aria_live="polite")


def mask(known: tuple[Reason, ...], value: int, named: bool) -> str:
    """The bits as cells, the highest first. ``named``: this release's trace prints the names behind the mask."""
    on = [one for one in known if value >> one.bit & 1]
    names = "|".join(one.name for one in on)
    trace = f" {names}" if named and on else ""
    caption = el("p", rich(f"`apicv_inhibit_reasons` = `{value:#x}{trace}`"), class_="km-caption")
    words = f"apicv_inhibit_reasons = {value:#x}: " + (
        ", ".join(f"bit {o.bit}, {o.name}" for o in on) or "no bit is set"
    )
    cells = []
    for one in reversed(known):
        bit = value >> one.bit & 1
        cells.append(el("li", el("b", str(bit)), str(one.bit), class_="set" if bit else None, title=one.name))
    return caption + el("div", el("ol", *cells, class_="km-mask", aria_hidden="true"), role="img", aria_label=words)


def opened(one: Reason, *, own: bool = False, heading: str = "h4") -> str:
    """A reason that is set: why it inhibits, who sets and clears it, and what to change; ``heading`` is its element."""
    place = f"number {one.bit}, in no mask" if own else f"bit {one.bit}"
    title = el(heading, rich(f"`{one.name}`, {place}: {one.short}"))
    why = [f"<b>Why it inhibits.</b> {rich(one.why)}", f"<b>Set by</b> {coded(one.set_by)}"]
    why.append(f"<b>Cleared by</b> {coded(one.cleared_by)}")
    if one.options:
        change = ["<b>Change</b> one of these:", *(el("div", esc(option), class_="km-cmd") for option in one.options)]
    else:
        change = [f"<b>To change it:</b> {coded(one.avoid)}."]
    change.append(f"<b>Comes from</b> {coded(one.trigger)}.")
    left = el("div", *(f"<p>{text}.</p>" if not text.endswith(".") else f"<p>{text}</p>" for text in why))
    right = el("div", *(text if text.startswith("<div") else f"<p>{text}</p>" for text in change))
    return el("div", title, left, right, class_="km-set")


def moments(made: Board) -> str:
    """How it came about: the mask after each step, and who changed it."""
    known = {one.id: one for one in made.reasons}

    def item(moment: Moment) -> str:
        value = sum(1 << known[name].bit for name in moment.inhibits)
        names = " ".join(known[name].name for name in sorted(moment.inhibits, key=lambda name: known[name].bit))
        state = names or "no reason"
        own = el("small", f"{' '.join(sorted(moment.own))} on vCPU 0, in no mask") if moment.own else ""
        by = el("small", f"by {rich(f'`{moment.by}`')}") if moment.by else ""
        css = None if moment.inhibits else "none"
        return el("li", el("b", esc(moment.label)), rich(f"`{value:#x}`"), el("small", esc(state)), own, by, class_=css)

    many = " many" if len(made.moments) > FEW else ""
    return el("ol", *map(item, made.moments), class_=f"km-moments{many}")


def _clear(known: list[Reason]) -> str:
    items = [el("li", el("b", str(one.bit)), rich(f"`{one.name}`"), el("small", esc(one.short))) for one in known]
    return el("ul", *items, class_="km-clear")


def decoded(value: int | str, kernel: str = KERNEL) -> Html:
    """What a mask means that a trace has printed: its cells, and each set bit opened.

    ``value``: a number, or text as in "0x200". ValueError, in one line, for other text and for bits that there are not.
    """
    try:
        number = value if isinstance(value, int) else int(value, 0)
    except ValueError:
        raise ValueError(f"no mask in {value!r}: expected a number as a trace prints it, such as '0x200'") from None
    found = release(kernel)
    names, known = decode(found, number), reasons(found)
    on = [opened(one, heading="h3") for one in known if one.name in names]
    where = el("p", rich(f"Kernel {found.release}"), class_="km-sub")
    cells = mask(known, number, found.has("inhibit_trace_names"))
    return Html(parts.styled(el("section", where, cells, *on, class_="km km-static km-board")))


def reasons_table(kernel: str = KERNEL) -> Html:
    """All reasons of a release, by bit: what leads there, and how to avoid it."""
    rows = []
    for one in reasons(release(kernel)):
        place = "vCPU" if one.scope == "vCPU" else str(one.bit)
        cells = (el("td", rich(f"`{one.name}`")), el("td", coded(one.trigger)), el("td", coded(one.avoid)))
        rows.append(el("tr", el("th", place, scope="row"), *cells))
    head = el("tr", *(el("th", name, scope="col") for name in ("bit", "reason", "comes from", "instead")))
    return Html(el("table", el("thead", head), el("tbody", *rows), class_="km-table km-tight"))


def inhibit_trace(kernel: str = KERNEL, **options: Any) -> Text:
    """The tracepoints of the inhibits while a VM with one vCPU is made, with these options of create_vm."""
    host = Host(kernel=kernel, avic=True)
    events = [event for event in host.create_vm(1, **options).trace.events if event.tracepoint in TRACEPOINTS]
    return Text("\n".join(f"{event.tracepoint}: {tracepoint(event, host.kernel)}" for event in events))


def inhibit_board(kernel: str = KERNEL, css: bool = True) -> InhibitBoard:
    """The widget."""
    return InhibitBoard(kernel, css=css)


class InhibitBoard(ipywidgets.VBox):  # type: ignore[misc]
    """The widget: a kernel and switches over the board. ``board`` is what it shows; ``choose`` moves the controls."""

    def __init__(self, kernel: str = KERNEL, *, css: bool = True):
        self._with_css, self._quiet = css, False
        self._kept: dict[tuple[Any, ...], Board] = {}
        self.board: Board | None = None
        self.error: str | None = None
        names = tuple((name, name) for name in series())
        self._kernel = parts.control(Choice("kernel", "Kernel", names, kernel))
        self._switches = {s.key: self._switch(s.label, s.on) for s in SWITCHES}
        self._head, self._figure = parts.html("head"), parts.html("figure")
        style = [parts.html("css", f"<style>{parts.css()}</style>")] if css else []
        controls = parts.box("ctl", self._kernel, parts.box("switches", *self._switches.values()))
        super().__init__([*style, self._head, controls, self._figure])
        for css_class in ("km", "km-stepper", "km-inhibit-board"):
            self.add_class(css_class)
        for widget in (self._kernel, *self._switches.values()):
            widget.observe(lambda _: self._rebuild(), "value")
        self._rebuild()
        self._first = figure.failed(self.error or "") if self.board is None else static(self.board)

    @staticmethod
    def _switch(label: str, on: bool) -> Any:
        widget = ipywidgets.Checkbox(value=on, description=label, tooltip=label, indent=False)
        widget.add_class("km-switch")
        return widget

    def choose(self, kernel: str | None = None, **on: bool) -> None:
        """Set the kernel and switches by key. Errors: KeyError for an unknown key, TraitError for no such kernel."""
        self._quiet = True
        try:
            if kernel is not None:
                self._kernel.value = kernel
            for key, value in on.items():
                self._switches[key].value = value
        finally:
            self._quiet = False
            self._rebuild()

    def _rebuild(self) -> None:
        if self._quiet:
            return
        on = {key: widget.value for key, widget in self._switches.items()}
        key = (self._kernel.value, *on.values())
        try:
            if key not in self._kept:
                self._kept[key] = board(self._kernel.value, **on)
            self.board, self.error = self._kept[key], None
        except Exception as problem:  # a page's own code: its reader gets one line, and the controls go on working
            self.board, self.error = None, parts.in_one_line("This VM", problem)
            self._figure.value = figure.failed(self.error)
            return
        self._head.value, self._figure.value = heading(self.board), draw(self.board)

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        """The widget, and beside it the static picture of its first state for places that cannot run it."""
        own = super()._repr_mimebundle_(**kwargs) if hasattr(super(), "_repr_mimebundle_") else {}
        return parts.beside_picture(own, "InhibitBoard", self._first, self._with_css)
