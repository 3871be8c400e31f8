"""A Linux guest's local APIC driver in both modes, and what it does by hypercall: the instructions that it executes.

arch/x86/kernel/apic/{ipi,x2apic_phys,x2apic_cluster}.c and arch/x86/kernel/kvm.c, read in 6.18. The x2APIC is in
physical mode, as in a guest without interrupt remapping; only send_ipi_mask_cluster has the other driver. A mask is an
int, bit n for APIC ID n. Not here: the lock around kvm_wait, with its spinning and its queue.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from kvmmodel.guest.cpu import NMI_VECTOR, GuestCpu
from kvmmodel.guest.insn import Code, Insn
from kvmmodel.silicon import apic as hw

KVM_HC_KICK_CPU, KVM_HC_SEND_IPI, KVM_HC_SCHED_YIELD = 5, 10, 11
KVM_IPI_CLUSTER_SIZE = 128  # how many APIC IDs one hypercall can reach
ICR, EOI, SELF_IPI = (hw.APIC_BASE_MSR + (reg >> 4) for reg in (hw.APIC_ICR, hw.APIC_EOI, hw.APIC_SELF_IPI))


def apic_native_eoi(guest: GuestCpu) -> Code:
    """EOI as the APIC's present mode wants it."""
    if guest.x2apic:
        yield Insn("wrmsr", EOI, 0)
    else:
        yield _store(hw.APIC_EOI, 0)


def kvm_guest_apic_eoi_write(guest: GuestCpu, cell: int | None) -> Code:
    """If the bit in the cell was set, clearing it was the EOI. ``cell`` None: the feature is not in use."""
    done = 0
    if cell is not None:
        done = yield Insn("btr", cell)
    if not done:
        yield from apic_native_eoi(guest)


def send_ipi(guest: GuestCpu, apic_id: int, vector: int) -> Code:
    """To one CPU. An xAPIC is asked first whether it is idle: with its two writes that makes three exits."""
    if guest.x2apic:
        yield Insn("wrmsr", ICR, apic_id << 32 | _command(vector))
        return
    yield from apic_mem_wait_icr_idle()
    yield _store(hw.APIC_ICR2, apic_id << 24)
    yield _store(hw.APIC_ICR, _command(vector))


def send_ipi_self(guest: GuestCpu, vector: int) -> Code:
    if guest.x2apic:
        yield Insn("wrmsr", SELF_IPI, vector)
    else:
        yield from _shortcut(hw.APIC_DEST_SELF, vector)


def send_ipi_allbutself(guest: GuestCpu, vector: int) -> Code:
    """By shorthand, which Linux uses once all CPUs that the firmware told of have been up."""
    if guest.x2apic:
        yield Insn("wrmsr", ICR, hw.APIC_DEST_ALLBUT | _command(vector))
    else:
        yield from _shortcut(hw.APIC_DEST_ALLBUT, vector)


def send_ipi_mask(guest: GuestCpu, mask: int, vector: int) -> Code:
    """To several CPUs, one after the other, with interrupts off."""
    on = guest.vmcb.rflags_if
    yield from _local_irq_save(on)
    for apic_id in _ids(mask):
        yield from send_ipi(guest, apic_id, vector)
    yield from _local_irq_restore(on)


def send_ipi_mask_cluster(guest: GuestCpu, mask: int, vector: int) -> Code:
    """The x2APIC driver for logical destinations: one ICR write for all that share a cluster of 16 IDs."""
    on = guest.vmcb.rflags_if
    yield from _local_irq_save(on)
    for cluster in dict.fromkeys(apic_id >> 4 for apic_id in _ids(mask)):
        dest = cluster << 16 | mask >> 16 * cluster & 0xFFFF
        yield Insn("wrmsr", ICR, dest << 32 | hw.APIC_DEST_LOGICAL | _command(vector))
    yield from _local_irq_restore(on)


def kvm_send_ipi_mask(guest: GuestCpu, mask: int, vector: int) -> Code:
    """PV IPI: one hypercall for all within 128 IDs from the lowest on, then the next."""
    on = guest.vmcb.rflags_if
    yield from _local_irq_save(on)
    while mask:
        first = (mask & -mask).bit_length() - 1
        low, high = (mask >> first + word & (1 << 64) - 1 for word in (0, 64))
        yield Insn("vmmcall", KVM_HC_SEND_IPI, args=(low, high, first, _command(vector)))
        mask = mask >> first + KVM_IPI_CLUSTER_SIZE << first + KVM_IPI_CLUSTER_SIZE
    yield from _local_irq_restore(on)


def kvm_kick_cpu(guest: GuestCpu, apic_id: int) -> Code:
    """PV spinlock: wake the CPU that waits for the lock."""
    yield Insn("vmmcall", KVM_HC_KICK_CPU, args=(0, apic_id, 0, 0))


def kvm_wait(guest: GuestCpu, cell: Callable[[], int], value: int) -> Code:
    """PV spinlock: halt, if the cell still has the value. With interrupts off it halts so, and only a kick wakes it."""
    if not guest.vmcb.rflags_if:
        if cell() == value:
            yield Insn("hlt")
        return
    yield Insn("cli", show=False)
    if cell() == value:
        yield Insn("sti", show=False)
        yield Insn("hlt")
    else:
        yield Insn("sti", show=False)


def kvm_sched_yield(guest: GuestCpu, apic_id: int) -> Code:
    """After a call-function IPI, to one target that was preempted."""
    yield Insn("vmmcall", KVM_HC_SCHED_YIELD, args=(apic_id, 0, 0, 0))


def _ids(mask: int) -> Iterator[int]:
    return (i for i in range(mask.bit_length()) if mask >> i & 1)


def _local_irq_save(on: bool) -> Code:
    """``on``: IF as it is before."""
    if on:
        yield Insn("cli", show=False)


def _local_irq_restore(on: bool) -> Code:
    if on:
        yield Insn("sti", show=False)


def apic_mem_wait_icr_idle() -> Code:
    while True:
        icr = yield Insn("mmio_read", hw.APIC_DEFAULT_PHYS_BASE + hw.APIC_ICR)
        if not icr & hw.APIC_ICR_BUSY:
            return


def _shortcut(shortcut: int, vector: int) -> Code:
    yield from apic_mem_wait_icr_idle()
    yield _store(hw.APIC_ICR, shortcut | _command(vector))


def _command(vector: int) -> int:
    """Physical, edge, and without the assert bit; vector 2 is sent as an NMI."""
    return hw.APIC_DM_NMI if vector == NMI_VECTOR else hw.APIC_DM_FIXED | vector


def _store(register: int, value: int) -> Insn:
    return Insn("mmio_write", hw.APIC_DEFAULT_PHYS_BASE + register, value)
