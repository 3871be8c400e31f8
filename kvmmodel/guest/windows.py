"""What a guest that sees Hyper-V does with interrupts: EOI, messages of the SynIC, synthetic timers.

After Hyper-V's specification and Linux's own driver for it. That Windows does the same is inferred where no mail says
so: its code was not read. Memory is what the guest shares with KVM; a source's slot in the message page has 256 bytes.
"""

from __future__ import annotations

from kvmmodel.guest.cpu import GuestCpu
from kvmmodel.guest.insn import Code, Insn

EOI, ICR, TPR, VP_ASSIST_PAGE = 0x40000070, 0x40000071, 0x40000072, 0x40000073
SCONTROL, SIMP, EOM, SINT0 = 0x40000080, 0x40000083, 0x40000084, 0x40000090
STIMER0_CONFIG, STIMER0_COUNT = 0x400000B0, 0x400000B1
SLOT, TYPE_BYTES, FLAGS = 256, 4, 5
MSR_NAMES = {
    "HV_EOI": EOI,
    "HV_ICR": ICR,
    "HV_TPR": TPR,
    "HV_VP_ASSIST_PAGE": VP_ASSIST_PAGE,
    "HV_SCONTROL": SCONTROL,
    "HV_SIMP": SIMP,
    "HV_EOM": EOM,
    **{f"HV_SINT{n}": SINT0 + n for n in range(16)},
    **{f"HV_STIMER{n}_CONFIG": STIMER0_CONFIG + 2 * n for n in range(4)},
    **{f"HV_STIMER{n}_COUNT": STIMER0_COUNT + 2 * n for n in range(4)},
}


def eoi(guest: GuestCpu, cell: int | None) -> Code:
    """By the bit in the assist page, if it was set; else by Hyper-V's MSR. ``cell``: where the page is, if anywhere."""
    done = 0
    if cell is not None:
        done = yield Insn("btr", cell)
    if not done:
        yield Insn("wrmsr", EOI, 0)


def take_message(guest: GuestCpu, page: int, sint: int) -> Code:
    """Read a source's slot and free it; EOM if KVM has another message that found it taken. ``page``: of SIMP."""
    slot = page + sint * SLOT
    for byte in range(slot, slot + TYPE_BYTES):
        guest.memory.pop(byte, None)
    yield Insn("nop", show=False)
    if guest.memory.get(slot + FLAGS, 0) & 1:
        yield Insn("wrmsr", EOM, 0)


def arm(guest: GuestCpu, timer: int, ns: int) -> Code:
    """One-shot: the count is an absolute time of the reference counter, in units of 100 ns."""
    yield Insn("wrmsr", STIMER0_COUNT + 2 * timer, (guest.now() + ns) // 100)
