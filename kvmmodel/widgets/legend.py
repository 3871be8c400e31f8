"""The legends of the reading guide: lanes, what a bar says, the symbols of the steps, and the grid of an APIC.

They are drawn with the functions that draw the figures, so that a legend cannot differ from what it explains.
"""

from __future__ import annotations

from dataclasses import replace

from kvmmodel.trace.story import ApicState, Column
from kvmmodel.widgets import apic, lanes
from kvmmodel.widgets.glyphs import icon
from kvmmodel.widgets.page import Html
from kvmmodel.widgets.svg import el, rich

WHO = {
    "guest": "the guest's own code",
    "hw": "the processor, with AVIC also beside a running guest",
    "kvm": "its code, in the vCPU's thread or another",
    "sched": "the host's scheduler, and the rest of its kernel",
    "dev": "a device, the IOMMU, or a timer of the host",
}
MODE = "OUTSIDE_GUEST_MODE"
STATES = (("runs", True, "runs here"), ("blocked", True, "blocked: sleeps until woken"), ("runs", False, "not yet"))

# Every symbol that a step may have, in the order in which an interrupt meets them.
KINDS = {
    "write": "guest writes a register",
    "exit": "exit: the guest is left",
    "entry": "entry: `VMRUN`",
    "msi": "message of a device (MSI)",
    "line": "interrupt line, or the host's own interrupt",
    "timer": "timer expires",
    "set_irr": "set a bit in IRR",
    "barrier": "memory barrier",
    "read": "read what another CPU writes",
    "request": "request: `KVM_REQ_…`",
    "kick": "kick: a host IPI",
    "doorbell": "doorbell, to a core with AVIC",
    "wake": "wake a thread",
    "inject": "inject: IRR to ISR",
    "window": "IRQ window",
    "tpr": "task priority",
    "handler": "handler runs",
    "eoi": "end of interrupt",
    "halt": "halt, sleep",
    "preempt": "loses its CPU",
    "resume": "gets a CPU",
    "nmi": "NMI",
    "table": "look-up, or write, in a table",
    "post": "posted by the IOMMU",
    "inhibit": "AVIC goes off or on",
    "userspace": "the VMM",
    "dot": "anything else",
}


def lanes_legend() -> Html:
    """The lanes with icon, texture and who is meant; below, the three states of a bar."""
    who = [
        _item(
            _bar(lane, "runs", past=True, prefix=f"legend-{lane}"),
            icon(f"lane-{lane}", css=f"km-{lane}"),
            lanes.LANE_WORDS[lane],
            text,
        )
        for lane, text in WHO.items()
    ]
    states = [
        _item(_bar("kvm", state, past=past, prefix=f"legend-state-{row}"), "", "", text)
        for row, (state, past, text) in enumerate(STATES)
    ]
    return _box(el("ul", *who, class_="km-legend one"), el("ul", *states, class_="km-legend"))


def glyphs_legend() -> Html:
    """Every symbol of a step, with its meaning."""
    return _box(el("ul", *(_item("", icon(kind), "", text) for kind, text in KINDS.items()), class_="km-legend"))


def grid_legend() -> Html:
    """The grid of a state in which every sign occurs: a vector waits, one is in service, one both, one came now."""
    before = ApicState(0, 2, 1 << 0x31 | 1 << 0x61, 1 << 0x52 | 1 << 0x61, 1 << 0x61, 0x10, 0x60, MODE, (), "running")
    now = replace(before, irr=before.irr | 1 << 0x83)
    signs = (
        ("0x31", "ring: in IRR, it waits"),
        ("0x52", "solid: in ISR, its handler runs or was interrupted"),
        ("0x61", "ring around solid: both; the corner: level-triggered, in TMR"),
        ("0x83", "yellow: changed in this step"),
        ("line", "PPR: what is below it, hatched, is held back"),
        ("rows", "a row is a priority class, the vector's high digit; a column its low digit"),
    )
    listed = [el("li", el("b", name), el("span", text)) for name, text in signs]
    picture = el("div", apic.grid(now, before, prefix="legend"), class_="km-apic")
    return _box(el("div", picture, el("ul", *listed, class_="km-legend signs"), class_="km-legend-grid"))


def _bar(lane: str, state: str, *, past: bool, prefix: str) -> str:
    """A piece of a bar, 34 px high."""
    pattern = el("defs", lanes.texture(lane, f"{prefix}-{lane}")) if lane != "guest" else ""
    drawn = lanes.bar(Column(lane, lane, lane), state, 8, 2, 32, past=past, prefix=prefix)
    return el("svg", pattern, drawn, class_="km-art", viewBox="0 0 16 34", width="16", height="34", aria_hidden="true")


def _item(bar: str, symbol: str, name: str, text: str) -> str:
    head = el("b", name) if name else ""
    return el("li", bar, symbol, el("span", head, " " if head else "", rich(text)))


def _box(*parts: str) -> Html:
    return Html(el("div", *parts, class_="km"))
