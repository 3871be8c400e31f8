"""A remapping entry of the IOMMU as a field bar: 128 bits, from the highest field down, in the mode that it is in."""

from __future__ import annotations

from kvmmodel.silicon.iommu import GA_LOG_INTR, GUEST_MODE, IS_RUN
from kvmmodel.trace.story import IrteState, Story
from kvmmodel.widgets.svg import el, esc

NONE = "—"  # the field means nothing in this mode


def fields(irte: IrteState) -> tuple[tuple[str, str, str], ...]:
    """Name, bits and value of each field that matters, the high word first. The valid bit, always 1, is left out."""
    lo, hi = irte.lo, irte.hi
    destination = f"CPU {lo >> 8 & 0xFFFFFF | hi >> 56 << 24}"
    vector = f"{hi & 0xFF:#04x}"
    if not lo & GUEST_MODE:
        return (
            ("page", "115:76", NONE),
            ("vector", "71:64", vector),
            ("GA tag", "63:32", NONE),
            ("destination", "31:8", destination),
            ("guest mode", "7", "0"),
            ("dest mode", "6", "physical"),
            ("type", "4:2", "Fixed"),
        )
    return (
        ("page", "115:76", f"{hi & ((1 << 52) - (1 << 12)):#x}"),
        ("vector", "71:64", vector),
        ("GA tag", "63:32", f"{lo >> 32:#x}"),
        ("destination", "31:8", destination if lo & IS_RUN else f"was {destination}"),
        ("guest mode", "7", "1"),
        ("is_run", "6", "1" if lo & IS_RUN else "0"),
        ("GALogIntr", "2", "1" if lo & GA_LOG_INTR else "0"),
    )


def draw(story: Story, index: int) -> str:
    """The bar after step ``index`` (from 0), with a mark on what that step changed. Empty in a story of no entry."""
    irte = story.steps[index].irte
    if irte is None:
        return ""
    before = (story.steps[index - 1].irte if index > 0 else story.irte) or irte
    cells = []
    for now, old in zip(fields(irte), fields(before), strict=True):
        name, bits, value = now
        text = f"<mark>{esc(value)}</mark>" if now != old else esc(value)
        css = ' class="km-void"' if value == NONE else ""
        cells.append(f"<div{css}><dt>{name} <small>{bits}</small></dt><dd>{text}</dd></div>")
    mode = "posts the guest's vector" if irte.lo & GUEST_MODE else "interrupts the host, with the host's vector"
    head = el("h4", f"The IOMMU's entry of host irq {irte.irq}: {mode}")
    return el("div", head, el("dl", *cells, class_="km-fields km-irte"), class_="km-pin")
