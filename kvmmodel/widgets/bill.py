"""The bill: what one interrupt costs with AVIC off, inhibited, hybrid and on, counted in runs, side by side.

On a phone the same counts stand as one table for each mode.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kvmmodel.machine.host import Host
from kvmmodel.scenarios.run import built_in, run
from kvmmodel.trace.bill import ROWS, Bill, bill
from kvmmodel.trace.story import Badge
from kvmmodel.widgets.comparison import Comparison, comparison
from kvmmodel.widgets.glyphs import icon
from kvmmodel.widgets.page import Html, badges
from kvmmodel.widgets.parts import Choice
from kvmmodel.widgets.svg import el, esc, plain, rich

GLYPHS = {"exits": ("exit", "kvm"), "host_ipis": ("kick", "sched"), "doorbells": ("doorbell", "hw"),
          "wake_ups": ("wake", "sched")}  # fmt: skip
MODES = ("off", "inhibited", "hybrid", "on")
NO_X2AVIC = "zen3,+avic"  # AVIC, and no erratum of its IPIs, but no x2AVIC
NOTE = (
    "Each glyph is one event; the number is the count, from the cause to the EOI. Counts come from runs of the model, "
    "and nothing here is a time. Functions: the kernel's own that were seen on the stacks of these events."
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One column. ``bill`` None: this kernel cannot do that, and ``note`` says why."""

    mode: str
    note: str
    bill: Bill | None


@dataclass(frozen=True, slots=True)
class Sheet:
    """A title, setup, and for each case, such as where the target is, a heading and its columns."""

    title: str
    setup: str
    cases: tuple[tuple[str, tuple[Entry, ...]], ...]
    note: str = NOTE
    badges: tuple[Badge, ...] = ()


def draw(sheet: Sheet) -> str:
    """All but the heading: what a widget redraws."""
    parts = [el("h4", rich(name), class_="km-at") + _wide(name, entries) + _narrow(name, entries)
             for name, entries in sheet.cases]  # fmt: skip
    foot = el("div", badges(sheet.badges), class_="km-foot")
    return el("div", *parts, f'<p class="km-note">{rich(sheet.note)}</p>', foot, class_="km km-run")


def heading(sheet: Sheet) -> str:
    setup = el("p", rich(sheet.setup), class_="km-sub")
    return el("div", el("h3", rich(sheet.title), class_="km-title"), setup, class_="km-rule")


def static(sheet: Sheet) -> str:
    return el("section", heading(sheet), draw(sheet), class_="km km-static", aria_label=plain(sheet.title))


def _wide(name: str, entries: Sequence[Entry]) -> str:
    heads = [el("th", f"{esc(e.mode)}{el('small', rich(e.note))}", scope="col", class_=_css(e)) for e in entries]
    rows = [
        el("tr", el("th", label, scope="row"), *(el("td", _cell(e, key), class_=_css(e)) for e in entries))
        for label, key in ROWS
    ]
    count = [el("td", _number(len(e.bill.functions) if e.bill else None), class_=_css(e)) for e in entries]
    rows.append(el("tr", el("th", "functions", scope="row"), *count))
    head = el("thead", el("tr", "<td></td>", *heads))
    return el("table", head, el("tbody", *rows), class_="km-bill", aria_label=f"Bill, {plain(name)}")


def _css(entry: Entry) -> str | None:
    return "on" if entry.mode == "on" else None


def _number(count: int | None) -> str:
    return el("b", "—" if count is None else str(count), class_=None if count else "z")


def _cell(entry: Entry, key: str) -> str:
    if entry.bill is None:
        return _number(None)
    words: tuple[str, ...] = getattr(entry.bill, key)
    glyph, lane = GLYPHS[key]
    items = [el("li", icon(glyph, css=f"km-{lane}", size=15), el("span", esc(word))) for word in words]
    return el("div", _number(len(words)), el("ul", *items) if items else "", class_="km-cell")


def _narrow(name: str, entries: Sequence[Entry]) -> str:
    return el("div", *(_block(name, entry) for entry in entries), class_="km-bill-n")


def _block(name: str, entry: Entry) -> str:
    rows = []
    for label, key in ROWS:
        words: tuple[str, ...] = getattr(entry.bill, key) if entry.bill else ()
        glyph, lane = GLYPHS[key]
        said = icon(glyph, css=f"km-{lane}", size=14) * len(words) + f" {esc(', '.join(words))}"
        rows.append((label, len(words), said if words else ""))
    rows.append(("functions", len(entry.bill.functions) if entry.bill else 0, ""))
    lines = [
        el("tr", el("th", label, scope="row"), el("td", _number(n if entry.bill else None)), el("td", said))
        for label, n, said in rows
    ]
    caption = el("caption", f"<b>{esc(entry.mode)}</b> {el('small', rich(entry.note))}")
    return el("table", caption, el("tbody", *lines), class_="km-bp", aria_label=f"{plain(name)}, {entry.mode}")


# -- from runs --------------------------------------------------------------------------------------------------------

SOURCES = (("IPI", "ipi"), ("device MSI", "msi"), ("timer", "timer"))
KERNELS = (("5.15", "5.15"), ("6.1", "6.1"), ("6.12", "6.12"), ("7.3", "7.3"))
VECTORS = {"ipi": (0x43, 1), "msi": (0x63, 0), "timer": (0xE1, 0)}  # and the vCPU that gets it
CAUSES = {
    "ipi": "Fixed IPI, vCPU 0 to vCPU 1, counted from the ICR write to the EOI",
    "msi": "An MSI by `KVM_SIGNAL_MSI`, counted from there to the EOI",
    "timer": "The APIC timer's TSC deadline, counted from the write that arms it to the EOI",
}
KNOWN = (Badge("source", "6.1, 6.12, 7.2, 7.3"), Badge("manual", "AMD APM 15.29"))


def entry(mode: str, scenario: str, kernel: str, vector: int, target: int) -> Entry:
    """The bill of a scenario's interrupt in a mode, or why this kernel has no such mode."""
    host, options, note = _host(mode, kernel)
    vm = run(built_in(scenario), host, **options)
    reached = vm.vcpus[target].avic_mode
    wanted = {"off": "off", "inhibited": "off", "hybrid": "hybrid", "on": "x2avic"}[mode]
    if reached != wanted:
        return Entry(mode, f"not on {kernel}: {'`X2APIC` inhibits' if 'X2APIC' in vm.inhibits else reached}", None)
    return Entry(mode, note, bill(vm.trace.records, host.kernel, vector, target))


def _host(mode: str, kernel: str) -> tuple[Host, dict[str, Any], str]:
    if mode == "off":
        return Host("zen4", kernel, avic=False), {}, "`avic=0`"
    if mode == "inhibited":
        return Host("zen4", kernel, avic=True), {"pit": "reinject"}, "by `PIT_REINJ`"
    if mode == "hybrid":
        return Host(NO_X2AVIC, kernel, avic=True), {}, "no x2AVIC"
    return Host("zen4", kernel, avic=True), {}, "x2AVIC"


def bill_sheet(source: str = "ipi", kernel: str = "7.3") -> Sheet:
    """``source``: ipi, msi or timer."""
    vector, target = VECTORS[source]
    cases = tuple(
        (f"vCPU {target} {words}", tuple(entry(mode, f"{source}-{place}", kernel, vector, target) for mode in MODES))
        for words, place in (("in guest mode", "in-guest"), ("halted", "halted"))
    )
    release = Host(kernel=kernel, avic=False).kernel.release
    return Sheet("What one interrupt costs", f"{CAUSES[source]}. Kernel {release}, x2APIC guest", cases, badges=KNOWN)


def bill_explorer(kernel: str = "7.3") -> Comparison:
    """The widget: source and kernel."""
    choices = (Choice("source", "Source", SOURCES), Choice("kernel", "Kernel", KERNELS, kernel))
    return comparison(bill_sheet, choices, view=sys.modules[__name__])


def bill_table(source: str = "ipi", kernel: str = "7.3") -> Html:
    """The same without choices."""
    return Html(static(bill_sheet(source, kernel)))
