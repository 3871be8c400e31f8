"""One pin of the IOAPIC as a field bar: its line, and what its redirection entry says, from the highest bit down."""

from __future__ import annotations

from kvmmodel.kvm.ioapic import RTE_LEVEL, RTE_MASKED, RTE_REMOTE_IRR
from kvmmodel.trace.story import PinState, Story
from kvmmodel.widgets.svg import el, esc


def fields(pin: PinState) -> tuple[tuple[str, str, str], ...]:
    """Name, bits and value of each field shown. The line is not in the entry: it has no bits."""
    entry = pin.entry
    line = f"up: {', '.join(map(str, pin.sources))}" if pin.sources else "down"
    return (
        ("line, by source", "", line),
        ("destination", "63:56", f"{entry >> 56 & 0xFF}"),
        ("mask", "16", "1" if entry & RTE_MASKED else "0"),
        ("trigger", "15", "level" if entry & RTE_LEVEL else "edge"),
        ("remote IRR", "14", "1" if entry & RTE_REMOTE_IRR else "0"),
        ("vector", "7:0", f"{entry & 0xFF:#04x}"),
    )


def draw(story: Story, index: int) -> str:
    """The bar after step ``index`` (from 0), with a mark on what that step changed. Empty in a story of no pin."""
    pin = story.steps[index].pin
    if pin is None:
        return ""
    before = (story.steps[index - 1].pin if index > 0 else story.pin) or pin
    cells = []
    for (name, bits, value), (_, _, old) in zip(fields(pin), fields(before), strict=True):
        text = f"<mark>{esc(value)}</mark>" if value != old else esc(value)
        number = f" <small>{bits}</small>" if bits else ""
        cells.append(f"<div><dt>{name}{number}</dt><dd>{text}</dd></div>")
    head = el("h4", f"Pin {pin.pin} of the I/O APIC: its line, and its redirection entry")
    return el("div", head, el("dl", *cells, class_="km-fields"), class_="km-pin")
