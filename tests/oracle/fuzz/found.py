"""Cases in which the model and the kernel once differed, by what it was about. Each is a test now."""

from __future__ import annotations

from tests.oracle.fuzz.case import Case

FOUND = {
    "a vCPU that was just created is not in the map yet": Case((("msi", 0xFEE00000, 0x341),)),
    "the BSP is who says so in APIC_BASE": Case(
        (("wrmsr", 1, 0x1B, 0xFEE00D00), ("msi", 0xFEE01000, 0x541)),
        vcpus=2,
        api=1,
    ),
}
