"""Operations on the 8259s, the IOAPIC and the GSI routing table."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from hypothesis import strategies as st

from tests.oracle.fuzz.case import Op
from tests.oracle.fuzz.context import BOOL, BYTE, DESTS, MODES, VECTORS, WORD, Context, Draw
from tests.oracle.fuzz.generate_apic import message

GSIS = st.one_of(st.sampled_from((1, 4, 5, 9, 10, 16, 23)), st.sampled_from((1, 5, 10)), st.integers(0, 25))
EVERYBODY = st.sampled_from((0, 0, 0xFF << 56))
PORTS = st.sampled_from((0x20, 0x21, 0xA0, 0xA1, 0x4D0, 0x4D1))
COMMANDS = st.one_of(st.sampled_from((0x20, 0x60, 0x11, 0x0A, 0x0B, 0x0C, 0x68, 0x48, 0xA0, 0xC0, 0xE0)), BYTE)


def start(draw: Draw, context: Context) -> Iterator[Op]:
    """Some pins of the IOAPIC are open, as a guest would have it."""
    if not context.split and context.start != "reset":
        yield (
            "ioapic",
            tuple((pin, entry(draw) & ~(1 << 16 | 1 << 14) | draw(EVERYBODY)) for pin in (1, 4, 5, 9, 10, 16, 23)),
        )


def line(draw: Draw, context: Context) -> Iterator[Op]:
    yield ("line", draw(GSIS), draw(st.sampled_from((1, 1, 0))))


def entry(draw: Draw) -> int:
    """A redirection entry: mostly what a guest would write."""
    value = draw(VECTORS) | draw(MODES) << 8 | draw(BOOL) << 11 | draw(BOOL) << 15
    value |= draw(st.sampled_from((0, 0, 0, 1 << 16))) | draw(st.sampled_from((0, 0, 0, 1 << 14)))
    return int(value | draw(DESTS) << 56)


def ioapic(draw: Draw, context: Context) -> Iterator[Op]:
    changes: list[tuple[int | str, int]] = []
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.integers(0, 7))
        if kind < 5:
            changes.append((draw(st.sampled_from((0, 1, 3, 4, 5, 9, 10, 16, 23))), entry(draw)))
        elif kind == 5:
            changes.append(("irr", draw(st.one_of(st.sampled_from((0, 1 << 4, 1 << 5 | 1 << 16)), WORD))))
        elif kind == 6:
            changes.append((draw(st.integers(0, 23)), draw(WORD) | draw(WORD) << 32))
        else:
            changes.append((draw(st.sampled_from(("id", "ioregsel"))), draw(BYTE)))
    yield ("ioapic", tuple(changes))


def pic(draw: Draw, context: Context) -> Iterator[Op]:
    """Any bytes; or what a guest could have left there."""
    state = [draw(BYTE) for _ in range(4)]
    if draw(BOOL):
        state[3] = 0  # nothing in service
    if draw(st.integers(0, 3)):
        middle = [draw(st.integers(0, 7)), draw(st.integers(0, 31)) << 3, 0, 0, 0, 0]
        state += [*middle, *(draw(st.integers(0, 1)) for _ in range(4)), draw(BYTE), 0xDE]
    else:
        state += [draw(BYTE) for _ in range(12)]
    yield ("pic", draw(st.integers(0, 1)), bytes(state).hex())


def routing(draw: Draw, context: Context) -> Iterator[Op]:
    """A table that is mostly what KVM takes: one pin of each chip, or one message."""
    table = []
    for gsi in draw(st.lists(GSIS, min_size=1, max_size=6, unique=True)):
        kind = draw(st.integers(0, 9))
        routes: list[Op] = [("ioapic", gsi % 24)]
        if kind >= 7:
            routes = [("msi", *message(draw, context))]
        elif kind >= 4:
            routes.append(("pic", gsi // 8 % 2, gsi % 8))
        elif kind == 3:
            routes = [("pic", gsi // 8 % 2, gsi % 8)]
        elif kind == 2 or (kind == 1 and draw(BOOL)):
            routes.append(
                draw(st.sampled_from((("ioapic", 24), ("pic", 0, 8), ("ioapic", 1), ("msi", 0xFEE00000, 0x41))))
            )
        table.append((gsi, *routes))
    yield ("routing", tuple(table))


def pit(draw: Draw, context: Context) -> Iterator[Op]:
    """Anything but what would make the first channel's timer run: mode 5 or none, or the HPET has its lines."""
    legacy = draw(BOOL)
    state = b""
    for channel in range(3):
        mode = draw(st.sampled_from((0, 1, 2, 3, 4, 5))) if legacy or channel else draw(st.sampled_from((5, 0xFF)))
        fields = [draw(st.sampled_from((0, 1, 2, 3, 4))) for _ in range(5)]
        state += struct.pack("<IH", draw(st.integers(0, 0xFFFF)), draw(st.integers(0, 0xFFFF)))
        state += bytes(
            [draw(st.integers(0, 3)), draw(st.integers(0, 1)), draw(BYTE), *fields[:2], draw(BYTE), fields[2]]
        )
        state += bytes([mode, draw(st.integers(0, 1)), draw(st.integers(0, 1))]) + bytes(8)
    yield ("pit", (state + struct.pack("<I36x", legacy)).hex())


def reinject(draw: Draw, context: Context) -> Iterator[Op]:
    yield ("reinject", draw(st.integers(0, 1)))
