"""What the guest on the bench does: register accesses in the APIC's mode, taking events, running handlers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kvmmodel.cases.bench import Bench, catch_up, deliver_timer, exit_half, on_cpu, switch
from kvmmodel.events import VcpuReset
from kvmmodel.guest import virtual_apic
from kvmmodel.guest.cpu import NMI_VECTOR, avic_unit, leave
from kvmmodel.guest.execute import IOIO
from kvmmodel.guest.insn import Insn
from kvmmodel.guest.taking import avic_due, vnmi, window
from kvmmodel.kvm.lapic.registers import apic_x2apic_mode
from kvmmodel.kvm.requests import KVM_REQ_UNBLOCK, kvm_check_request
from kvmmodel.kvm.runnable import kvm_arch_vcpu_runnable
from kvmmodel.kvm.svm.inject import svm_complete_interrupts
from kvmmodel.kvm.svm.run import sync_cr8_to_lapic, sync_lapic_to_cr8
from kvmmodel.kvm.types import KVM_MP_STATE_RUNNABLE
from kvmmodel.kvm.x86.run import vcpu_block, vcpu_enter_guest
from kvmmodel.machine.vcpu import Vcpu
from kvmmodel.silicon import apic as hw
from kvmmodel.silicon import avic
from kvmmodel.silicon import vmcb as exits

PASSES = 32  # of the loop before the guest is entered
OPEN_WINDOW = -1  # no event: a virtual interrupt that is intercepted
EVENTS = 1000  # that one guest.run takes: a line that nobody lowers interrupts for ever
Step = dict[str, Any]


def _by_avic(bench: Bench, vcpu: Vcpu, insn: Insn) -> bool | None:
    """An access that AVIC decides about, up to the exit that it may end in. False: #GP. None: it does not."""
    with on_cpu(bench, vcpu):
        catch_up(vcpu)
        outcome = virtual_apic.access(vcpu.inside, insn)
    if outcome is None:
        return None
    regs, write = vcpu.inside.regs, insn.op in ("wrmsr", "mmio_write")
    bench.gp = bench.gp or outcome.gp
    if outcome.done:
        vcpu.inside.vmcb.int_state = False
    else:
        regs.msr_access, regs.ecx, regs.gpa = insn.op in ("wrmsr", "rdmsr"), insn.a, insn.a
        regs.value, regs.write = insn.b, write
    regs.value = outcome.result if outcome.done and not write else regs.value
    return exit_half(bench, vcpu, *outcome.exit) if outcome.exit is not None else not outcome.gp


def wrmsr(bench: Bench, vcpu: Vcpu, index: int, value: int) -> None:
    if _by_avic(bench, vcpu, Insn("wrmsr", index, value)) is None:
        vcpu.inside.regs.ecx, vcpu.inside.regs.value = index, value
        exit_half(bench, vcpu, exits.SVM_EXIT_MSR, 1)


def rdmsr(bench: Bench, vcpu: Vcpu, index: int) -> int | None:
    """None: #GP."""
    good = _by_avic(bench, vcpu, Insn("rdmsr", index))
    if good is None:
        vcpu.inside.regs.ecx = index
        good = exit_half(bench, vcpu, exits.SVM_EXIT_MSR, 0)
    return vcpu.inside.regs.value if good else None


def _mmio(bench: Bench, vcpu: Vcpu, insn: Insn, size: int) -> None:
    """The first access to the xAPIC page under AVIC exits for the page's mapping, and comes again."""
    regs, kvm, write = vcpu.inside.regs, bench.vm.machine.kvm, insn.op == "mmio_write"
    while _by_avic(bench, vcpu, insn) is None:
        regs.gpa, regs.size, regs.write, regs.value = insn.a, size, write, insn.b
        mapped = kvm.apic_page_mapped
        exit_half(bench, vcpu, exits.SVM_EXIT_NPF, 0xF if write else 0xD)
        regs.size = 4
        if kvm.apic_page_mapped == mapped:
            return


def mmio_write(bench: Bench, vcpu: Vcpu, address: int, value: int, size: int = 4) -> None:
    _mmio(bench, vcpu, Insn("mmio_write", address, value & (1 << 8 * size) - 1), size)


def mmio_read(bench: Bench, vcpu: Vcpu, address: int, size: int = 4) -> int:
    _mmio(bench, vcpu, Insn("mmio_read", address), size)
    return vcpu.inside.regs.value


def outb(bench: Bench, vcpu: Vcpu, port: int, value: int) -> None:
    vcpu.inside.regs.value = value
    exit_half(bench, vcpu, exits.SVM_EXIT_IOIO, port << 16 | IOIO["outb"])


def inb(bench: Bench, vcpu: Vcpu, port: int) -> int:
    exit_half(bench, vcpu, exits.SVM_EXIT_IOIO, port << 16 | IOIO["inb"])
    return vcpu.inside.regs.value


def vmmcall(bench: Bench, vcpu: Vcpu, nr: int = 0, *args: int) -> int:
    """A hypercall, or in L2 an exit to L1; what comes back in RAX, signed."""
    regs = vcpu.inside.regs
    regs.args, regs.value = (nr, *args, *(0,) * (4 - len(args))), 0
    exit_half(bench, vcpu, exits.SVM_EXIT_VMMCALL)
    return regs.value - (1 << 64) if regs.value >> 63 else regs.value


def write_register(bench: Bench, vcpu: Vcpu, offset: int, value: int, size: int = 4, base: int | None = None) -> None:
    """By MSR in x2APIC mode, else, or if ``base`` names a page, by MMIO."""
    if base is None and apic_x2apic_mode(vcpu.lapic):
        wrmsr(bench, vcpu, hw.APIC_BASE_MSR + (offset >> 4), value)
    else:
        mmio_write(bench, vcpu, _page(vcpu, base) + offset, value, size)


def read_register(bench: Bench, vcpu: Vcpu, offset: int, size: int = 4, base: int | None = None) -> int | None:
    """None: #GP."""
    if base is None and apic_x2apic_mode(vcpu.lapic):
        return rdmsr(bench, vcpu, hw.APIC_BASE_MSR + (offset >> 4))
    return mmio_read(bench, vcpu, _page(vcpu, base) + offset, size)


def _page(vcpu: Vcpu, base: int | None) -> int:
    return vcpu.lapic.apic_base & ~0xFFF if base is None else base


def write_cr8(bench: Bench, vcpu: Vcpu, value: int) -> None:
    """MOV to CR8: a new V_TPR, which KVM takes over at the next exit; or an exit, if it is intercepted."""
    vmcb = vcpu.inside.vmcb
    if value & ~0xF:
        bench.gp = True
    elif exits.SVM_EXIT_WRITE_CR8 in vmcb.intercepts:
        vcpu.inside.regs.value = value
        exit_half(bench, vcpu, exits.SVM_EXIT_WRITE_CR8)
    else:
        vmcb.v_tpr = value
        unit = avic_unit(vcpu.inside)
        if unit is not None:
            avic.write_tpr(unit, value << 4)
        with on_cpu(bench, vcpu):
            sync_cr8_to_lapic(vcpu.kvm_vcpu)


def read_cr8(bench: Bench, vcpu: Vcpu) -> int:
    with on_cpu(bench, vcpu):
        sync_lapic_to_cr8(vcpu.kvm_vcpu)
    return vcpu.inside.vmcb.v_tpr & 0xF


def iret(bench: Bench, vcpu: Vcpu) -> None:
    """IRET; if it is intercepted, it exits first, and is done at the exit after."""
    if exits.SVM_EXIT_IRET in vcpu.inside.vmcb.intercepts:
        exit_half(bench, vcpu, exits.SVM_EXIT_IRET)
    vcpu.inside.regs.rip += vcpu.inside.regs.length
    vcpu.inside.vmcb.int_state = vcpu.inside.vmcb.v_nmi_blocking = False
    with on_cpu(bench, vcpu):
        svm_complete_interrupts(vcpu.kvm_vcpu)


def nop(bench: Bench, vcpu: Vcpu) -> None:
    """One instruction: an interrupt shadow ends with it, and a single step is done."""
    vcpu.inside.vmcb.int_state = False
    if vcpu.inside.vmcb.single_step:
        exit_half(bench, vcpu, exits.SVM_EXIT_DB)


def take(bench: Bench, vcpu: Vcpu, ready: bool) -> int | None:
    """One entry: the vector of what is taken, 2 for an NMI, None for nothing. No handler runs.

    Not ``ready``: as if IF were clear.
    """
    vmcb = vcpu.inside.vmcb
    before = vmcb.rflags_if
    vmcb.rflags_if = before and ready
    seen = len(bench.events)
    with on_cpu(bench, vcpu):
        info = enter(bench, vcpu)
    if not any(isinstance(event, VcpuReset) for event in bench.events[seen:]):
        vmcb.rflags_if = before
    if not info & exits.SVM_EVTINJ_VALID:
        return None
    bench.taken_at = "L2" if vcpu.kvm_vcpu.guest_mode else "L1"
    if info & exits.SVM_EVTINJ_TYPE_MASK == exits.SVM_EVTINJ_TYPE_NMI:
        bench.taken_nmis += 1
        return NMI_VECTOR  # whatever the vector in EVENTINJ
    bench.taken = info & exits.SVM_EVTINJ_VEC_MASK
    return bench.taken


def enter(bench: Bench, vcpu: Vcpu) -> int:
    """vcpu_run up to VMRUN, where the processor takes an event, and out again by a host interrupt. The event, or 0."""
    kvm_vcpu = vcpu.kvm_vcpu
    for _ in range(PASSES):
        kvm_check_request(KVM_REQ_UNBLOCK, kvm_vcpu)
        deliver_timer(bench, vcpu)
        if kvm_vcpu.mp_state != KVM_MP_STATE_RUNNABLE:
            if not kvm_arch_vcpu_runnable(kvm_vcpu):
                return 0
            next(vcpu_block(kvm_vcpu), None)
            continue
        entry = vcpu_enter_guest(kvm_vcpu)
        entered = next(entry, None) is not None
        switch(bench, vcpu)
        if not entered:
            continue  # something came up
        info = _event_at_vmrun(vcpu)
        window_opens = info == OPEN_WINDOW
        bench.exits += window_opens
        leave(vcpu.inside, exits.SVM_EXIT_VINTR if window_opens else exits.SVM_EXIT_INTR)
        asked_again = kvm_vcpu.immediate_exit
        next(entry, None)
        switch(bench, vcpu)
        if not window_opens and (info or not asked_again):
            return info
    return 0


def _event_at_vmrun(vcpu: Vcpu) -> int:
    """What the processor takes first, in EVENTINJ's format: EVENTINJ's, a virtual NMI, AVIC's, a virtual interrupt."""
    vmcb = vcpu.inside.vmcb
    if vmcb.event_inj & exits.SVM_EVTINJ_VALID:
        nmi = vmcb.event_inj & exits.SVM_EVTINJ_TYPE_MASK == exits.SVM_EVTINJ_TYPE_NMI
        vmcb.v_nmi_blocking = vmcb.v_nmi_blocking or (nmi and vmcb.v_nmi_enable)
        return vmcb.event_inj
    if vnmi(vcpu.inside):
        vmcb.v_nmi_pending, vmcb.v_nmi_blocking = False, True
        return exits.SVM_EVTINJ_VALID | exits.SVM_EVTINJ_TYPE_NMI
    unit = avic_unit(vcpu.inside)
    if unit is not None:
        avic.evaluate(unit)
        if avic_due(vcpu.inside):
            return exits.SVM_EVTINJ_VALID | exits.SVM_EVTINJ_TYPE_INTR | (avic.take(unit) or 0)
    if not window(vcpu.inside):
        return 0
    if exits.SVM_EXIT_VINTR in vmcb.intercepts:
        return OPEN_WINDOW
    vmcb.v_irq = False
    return exits.SVM_EVTINJ_VALID | exits.SVM_EVTINJ_TYPE_INTR | vmcb.int_vector


def run(bench: Bench, index: int, execute: Callable[[Bench, Step], None]) -> None:
    """Take and handle all that can be: software interrupts first, then what KVM injects. ``execute`` runs a step."""
    vcpu = bench.vm.vcpus[index]
    while bench.software[index]:
        _handle(bench, index, bench.software[index].pop(0), "", execute)
    vcpu.inside.vmcb.int_state = False
    for _ in range(EVENTS):
        vector = take(bench, vcpu, True)
        if vector is None:
            return
        _handle(bench, index, vector, "iret" if vector == NMI_VECTOR and bench.taken is None else "eoi", execute)
        bench.taken = None


def _handle(bench: Bench, index: int, vector: int, end: str, execute: Callable[[Bench, Step], None]) -> None:
    """A handler: the next of this vector's lists of steps with IF clear, its EOI, and IRET."""
    vcpu = bench.vm.vcpus[index]
    vmcb = vcpu.inside.vmcb
    before, vmcb.rflags_if, vmcb.int_state = vmcb.rflags_if, False, False
    bench.handled[index].append(vector)
    lists = bench.handlers.get((index, vector))
    taken = bench.taken
    for step in lists.pop(0) if lists else ():
        execute(bench, step)
        if vcpu.inside.vmcb.rflags_if:
            run(bench, index, execute)
    bench.taken = taken
    if end == "eoi":
        write_register(bench, vcpu, hw.APIC_EOI, 0)
    elif end == "iret":
        iret(bench, vcpu)
    vmcb.rflags_if = before
