"""One vCPU's local APIC as a grid of its 256 vectors, and the same state as text beneath it."""

from __future__ import annotations

from functools import lru_cache

from kvmmodel.trace.story import ApicState, Story
from kvmmodel.widgets.svg import breakable, el, esc, num, per_story

CELL, LEFT, TOP = 9.0, 20.0, 6.0  # px; 16 cells each way
OPTIONAL = ("TPR", "TMR", "GIF", "NMI", "SMM", "requests")  # rows that a run shows only if it needs them
SHOWN = 6  # vectors listed by name before "and n more"


def vectors(bitmap: int) -> list[int]:
    """The vectors set in a bitmap, lowest first."""
    return [n for n in range(256) if bitmap >> n & 1]


def listed(bitmap: int) -> str:
    """The vectors as text: "empty", "0x43", "0x43 0x51 and 3 more"."""
    names = [f"0x{n:02x}" for n in vectors(bitmap)]
    if len(names) > SHOWN:
        names = [*names[: SHOWN - 1], f"and {len(names) - SHOWN + 1} more"]
    return " ".join(names) or "empty"


@lru_cache(maxsize=1)
def _frame() -> str:
    """What every grid has: cells and the hexadecimal rulers."""
    lines = "".join(f"M20 {num(TOP + CELL * i)}h144M{num(LEFT + CELL * i)} 6v144" for i in range(1, 16))
    out = [
        f'<path class="km-line" stroke-width=".6" d="{lines}"/>',
        '<rect class="km-cells" x="20" y="6" width="144" height="144"/>',
    ]
    for digit in "fc840":
        row = 15 - int(digit, 16)
        out.append(f'<text class="m s mu" x="14" y="{num(TOP + CELL * row + 9)}" text-anchor="end">{digit}</text>')
        x = num(LEFT + CELL * (15 - row) + 4.5)
        out.append(f'<text class="m s mu" x="{x}" y="163" text-anchor="middle">{digit}</text>')
    return "".join(out)


@lru_cache(maxsize=512)
def grid(state: ApicState, before: ApicState, *, prefix: str) -> str:
    """The grid: ring = IRR, solid = ISR, corner = TMR; hatched = held back by PPR; yellow = changed in this step."""
    line = TOP + CELL * (15 - (state.ppr >> 4 & 15))
    mask = f"{prefix}-mask"
    out = [
        f'<defs><pattern id="{mask}" class="km-tx" width="4" height="4" patternUnits="userSpaceOnUse" '
        'patternTransform="rotate(-45)"><path class="km-held" d="M0 0v4"/></pattern></defs>',
        _frame(),
        f'<rect x="20" y="{num(line)}" width="144" height="{num(150 - line)}" fill="url(#{mask})"/>',
        f'<path class="km-ppr" d="M16 {num(line)}h152"/>',
    ]
    changed = (state.irr ^ before.irr) | (state.isr ^ before.isr)
    for n in vectors(state.irr | state.isr | state.tmr | changed):
        out.append(_cell(n, state, changed >> n & 1 == 1))
    label = f"APIC of vCPU {state.vcpu}: IRR {listed(state.irr)}, ISR {listed(state.isr)}, PPR 0x{state.ppr:02x}"
    return el("svg", *out, class_="km-art km-grid", viewBox="0 0 168 166", role="img", aria_label=label)


def _cell(n: int, state: ApicState, changed: bool) -> str:
    x, y = LEFT + CELL * (n & 15), TOP + CELL * (15 - (n >> 4))
    out = ""
    if changed:
        out += f'<rect class="km-bit now" x="{num(x - 4)}" y="{num(y - 4)}" width="17" height="17"/>'
    if state.irr >> n & 1:
        out += f'<rect class="km-bit irr" x="{num(x - 1.5)}" y="{num(y - 1.5)}" width="12" height="12"/>'
    if state.isr >> n & 1:
        inset = 1.0 if state.irr >> n & 1 else -1.0
        side = num(CELL - 2 * inset)
        out += f'<rect class="km-bit isr" x="{num(x + inset)}" y="{num(y + inset)}" width="{side}" height="{side}"/>'
    if state.tmr >> n & 1:
        out += f'<path class="km-bit tmr{" on" if state.isr >> n & 1 else ""}" d="M{num(x + 9)} {num(y)}v5l-5 -5z"/>'
    return out


def _nmi(state: ApicState) -> str:
    return f"{'blocked' if state.nmi_blocked else 'allowed'}, {state.nmis or 'none'} waiting"


@per_story
def rows(story: Story) -> dict[int, tuple[frozenset[str], bool]]:
    """For each vCPU: the optional rows that its text needs somewhere in the run, and whether a mode takes two lines.

    They are kept for the whole run, so that stepping moves nothing.
    """
    out: dict[int, tuple[frozenset[str], bool]] = {}
    for states in [story.start, *(step.states for step in story.steps)]:
        for s in states:
            needed = (s.tpr, s.tmr, not s.gif, s.nmi_blocked or s.nmis, s.smm, s.requests)
            found = {name for name, on in zip(OPTIONAL, needed, strict=True) if on}
            old, tall = out.get(s.vcpu, (frozenset(), False))
            out[s.vcpu] = old | found, tall or len(s.mode) > 14
    return out


def facts(state: ApicState, before: ApicState, optional: frozenset[str], tall: bool) -> str:
    """The state as a description list, with a mark on every value that this step changed."""
    table = [
        ("PPR", f"0x{state.ppr:02x}", state.ppr != before.ppr),
        ("TPR", f"0x{state.tpr:02x}", state.tpr != before.tpr),
        ("IRR", listed(state.irr), state.irr != before.irr),
        ("ISR", listed(state.isr), state.isr != before.isr),
        ("TMR", listed(state.tmr), state.tmr != before.tmr),
        ("GIF", str(int(state.gif)), state.gif != before.gif),
        ("NMI", _nmi(state), _nmi(state) != _nmi(before)),
        ("SMM", "inside" if state.smm else "no", state.smm != before.smm),
        ("mode", state.mode, state.mode != before.mode),
        ("thread", state.thread, state.thread != before.thread),
        ("requests", " ".join(state.requests) or "none", state.requests != before.requests),
    ]
    out = []
    for name, value, changed in table:
        if name in OPTIONAL and name not in optional and not changed:
            continue
        text = breakable(value) if name == "requests" else esc(value).replace("_", "_<wbr/>", name == "mode")
        two = ' class="km-two"' if name == "mode" and tall else ""
        out.append(f"<dt>{name}</dt><dd{two}>{f'<mark>{text}</mark>' if changed else text}</dd>")
    return el("dl", *out, class_="km-kv")


def draw(story: Story, index: int, state: ApicState, *, prefix: str) -> str:
    """One vCPU's column: heading, grid and text after step ``index`` (from 0)."""
    earlier = story.steps[index - 1].states if index > 0 else story.start
    before = next((s for s in earlier if s.vcpu == state.vcpu), state)
    optional, tall = rows(story).get(state.vcpu, (frozenset(), False))
    picture = grid(state, before, prefix=f"{prefix}-v{state.vcpu}")
    head = el("h4", f"APIC of vCPU {state.vcpu}")
    return el("div", head, picture, facts(state, before, optional, tall), class_="km-apic")
