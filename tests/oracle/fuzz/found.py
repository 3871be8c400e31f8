"""Cases in which the model and the kernel once differed, by what it was about. Each is a test now."""

from __future__ import annotations

from tests.oracle.fuzz.case import Case

FOUND = {
    "an expiry that was masked comes once a guest unmasks LVTT": Case(
        (
            ("lapic", 0, ((0xF0, 0x1FF), (0x320, 0x50041))),
            ("wrmsr", 0, 0x6E0, 1000),
            ("guest", 0, "nop"),
            ("guest", 0, "write", 0xFEE00320, 0x40041),
        )
    ),
    "a vCPU that was just created is not in the map yet": Case((("msi", 0xFEE00000, 0x341),)),
    "the BSP is who says so in APIC_BASE": Case(
        (("wrmsr", 1, 0x1B, 0xFEE00D00), ("msi", 0xFEE01000, 0x541)),
        vcpus=2,
        api=1,
    ),
    "a count is 32 bits, though a page brought a smaller divisor": Case(
        (
            ("lapic", 0, ((0x320, 0x10000), (0x380, 0xFFFFFFFF), (0x390, 0xFFFFFFFF), (0x3E0, 1))),
            ("lapic", 0, ((0x320, 0x60041), (0x380, 0xFFFFFFFF), (0x390, 0), (0x3E0, 0))),
        )
    ),
    "a kick is used up when the vCPU is made runnable": Case(
        (("lapic", 0, ((0xF0, 0x1FF),)), ("msi", 0xFEE01000, 0x341), ("mp", 1, 0), ("mp", 1, 3)),
        vcpus=2,
        api=1,
    ),
}
