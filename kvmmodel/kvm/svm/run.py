"""VMRUN and what stands around it, and the handlers of exits."""

from __future__ import annotations

from collections.abc import Callable

from kvmmodel.events import KvmEntry, KvmExit, KvmUserspaceExit, NmiWindow, TprSync
from kvmmodel.kvm.apicv import enable_apicv, kvm_apicv_activated, kvm_set_apicv_inhibit
from kvmmodel.kvm.host_types import VMRUN, Run, trace
from kvmmodel.kvm.lapic.advance import kvm_wait_lapic_expire
from kvmmodel.kvm.lapic.registers import APIC_TASKPRI
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.sched import native_smp_send_reschedule
from kvmmodel.kvm.svm.avic.access import avic_unaccelerated_access_interception
from kvmmodel.kvm.svm.avic.ipi import avic_incomplete_ipi_interception
from kvmmodel.kvm.svm.avic.load import avic_vcpu_load, avic_vcpu_put
from kvmmodel.kvm.svm.avic.mode import avic_init_vmcb
from kvmmodel.kvm.svm.avic.vcpu import avic_init_vcpu
from kvmmodel.kvm.svm.gif import (
    EFER_SVME,
    UD_VECTOR,
    clgi_interception,
    stgi_interception,
    svm_recalc_instruction_intercepts,
    svm_set_gif,
)
from kvmmodel.kvm.svm.inject import interrupt_window_interception, svm_complete_interrupts
from kvmmodel.kvm.svm.intercepts import svm_is_intercept
from kvmmodel.kvm.svm.nested import (
    nested_svm_exit_handled,
    nested_sync_control_from_vmcb02,
    svm_leave_nested,
    vmrun_interception,
)
from kvmmodel.kvm.svm.nmi import db_interception, iret_interception
from kvmmodel.kvm.svm.predicates import nested_svm_virtualize_tpr
from kvmmodel.kvm.svm.smi import rsm_interception
from kvmmodel.kvm.types import KvmVcpu
from kvmmodel.kvm.x86.emulate import kvm_mmu_page_fault, kvm_set_cr8, x86_emulate_instruction
from kvmmodel.kvm.x86.fastpath import EXIT_FASTPATH_NONE, handle_fastpath_hlt, handle_fastpath_wrmsr
from kvmmodel.kvm.x86.halt import kvm_emulate_halt
from kvmmodel.kvm.x86.hypercall import kvm_emulate_hypercall
from kvmmodel.kvm.x86.inject import kvm_queue_exception
from kvmmodel.kvm.x86.msrs import kvm_emulate_rdmsr, kvm_emulate_wrmsr, kvm_get_msr_common, kvm_set_msr_common
from kvmmodel.kvm.x86.pio import kvm_fast_pio
from kvmmodel.silicon import vmcb as hw

FILE = "arch/x86/kvm/svm/svm.c"
KVM_EXIT_IO = 2
INTERCEPTS = {
    hw.SVM_EXIT_INTR,
    hw.SVM_EXIT_NMI,
    hw.SVM_EXIT_WRITE_CR8,
    hw.SVM_EXIT_RSM,
    hw.SVM_EXIT_VMRUN,
    hw.SVM_EXIT_VMMCALL,
    hw.SVM_EXIT_STGI,
    hw.SVM_EXIT_CLGI,
}


@kernel(FILE)
def svm_vcpu_run(vcpu: KvmVcpu) -> Run:
    """Enter the guest and come back. Returns what the fast path made of the exit."""
    vmcb, host = vcpu.vmcb, vcpu.kvm.host
    trace(host, KvmEntry, vcpu.vcpu_id, vcpu.regs.rip, vmcb.event_inj, vcpu.immediate_exit)
    stepped_over = vmcb.single_step and vmcb.event_inj  # else the TF that KVM set would be pushed with RFLAGS
    if stepped_over:
        vmcb.single_step = False
        trace(host, NmiWindow, vcpu.vcpu_id, "step", False)
    if vcpu.immediate_exit or stepped_over:
        native_smp_send_reschedule(host, host.current)  # pending at VMRUN: the event goes in, and out it comes
    sync_lapic_to_cr8(vcpu)
    kvm_wait_lapic_expire(vcpu)
    yield VMRUN
    sync_cr8_to_lapic(vcpu)
    if vcpu.guest_mode:
        nested_sync_control_from_vmcb02(vcpu)
        vcpu.nested.nested_run_pending = False
    if host.has("exit_traced_in_run"):
        trace_kvm_exit(vcpu)
    vmcb.event_inj = 0
    svm_complete_interrupts(vcpu)
    return svm_exit_handlers_fastpath(vcpu)


@kernel(FILE)
def sync_lapic_to_cr8(vcpu: KvmVcpu) -> None:
    """Before VMRUN: the guest's CR8 is what the APIC's TPR says. Not L2's, if L1 virtualizes it."""
    skipped = vcpu.apic.apicv_active and not vcpu.kvm.host.has("sync_lapic_to_cr8_always")
    if nested_svm_virtualize_tpr(vcpu) or skipped:
        return
    tpr = vcpu.apic.regs.get(APIC_TASKPRI, 0) >> 4
    if vcpu.vmcb.v_tpr != tpr:
        vcpu.vmcb.v_tpr = tpr
        trace(vcpu.kvm.host, TprSync, vcpu.vcpu_id, "V_TPR", tpr)


@kernel(FILE)
def sync_cr8_to_lapic(vcpu: KvmVcpu) -> None:
    """After every exit, unless CR8 writes are intercepted: the guest may have changed CR8 without one."""
    if nested_svm_virtualize_tpr(vcpu) or svm_is_intercept(vcpu, hw.SVM_EXIT_WRITE_CR8):
        return
    if "no-cr8-sync" in vcpu.kvm.broken:
        return
    cr8 = vcpu.vmcb.v_tpr & 0xF
    if vcpu.apic.tpr >> 4 != cr8:
        trace(vcpu.kvm.host, TprSync, vcpu.vcpu_id, "APIC", cr8)
    kvm_set_cr8(vcpu, cr8)


def trace_kvm_exit(vcpu: KvmVcpu) -> None:
    """The kvm_exit tracepoint; where it stands depends on the release."""
    vmcb = vcpu.vmcb
    reason, infos = hw.EXIT_NAMES[vmcb.exit_code], (vmcb.exit_info_1, vmcb.exit_info_2, vmcb.exit_int_info)
    trace(vcpu.kvm.host, KvmExit, vcpu.vcpu_id, reason, vcpu.regs.rip, *infos, vcpu.requests)


@kernel(FILE)
def svm_exit_handlers_fastpath(vcpu: KvmVcpu) -> int:
    """What can be done before the host takes interrupts again. Nothing of L2's: its exits may be L1's."""
    vmcb, host = vcpu.vmcb, vcpu.kvm.host
    if vcpu.guest_mode:
        return EXIT_FASTPATH_NONE
    if host.has("fastpath_needs_nrips") and not vmcb.next_rip_saved:
        return EXIT_FASTPATH_NONE
    if vmcb.exit_code == hw.SVM_EXIT_MSR and vmcb.exit_info_1:
        return handle_fastpath_wrmsr(vcpu)
    if vmcb.exit_code == hw.SVM_EXIT_HLT and host.has("hlt_fastpath"):
        return handle_fastpath_hlt(vcpu)
    return EXIT_FASTPATH_NONE


@kernel(FILE)
def svm_handle_exit_irqoff(vcpu: KvmVcpu) -> None:
    """Nothing to do for a host interrupt: it stays pending in the processor until interrupts come on."""


@kernel(FILE)
def svm_handle_exit(vcpu: KvmVcpu, fastpath: int) -> int:
    """1: go on, 0: to userspace. What the fast path handled needs nothing more."""
    if not vcpu.kvm.host.has("exit_traced_in_run"):
        trace_kvm_exit(vcpu)
    if vcpu.guest_mode and nested_svm_exit_handled(vcpu):
        return 1
    if fastpath != EXIT_FASTPATH_NONE:
        return 1
    vcpu.kvm.host.spend("emulate")
    return svm_invoke_exit_handler(vcpu, vcpu.vmcb.exit_code)


@kernel(FILE)
def svm_invoke_exit_handler(vcpu: KvmVcpu, exit_code: int) -> int:
    return EXIT_HANDLERS[exit_code](vcpu)


@kernel(FILE)
def intr_interception(vcpu: KvmVcpu) -> int:
    """A host interrupt: it was taken when interrupts came on."""
    return 1


@kernel(FILE)
def msr_interception(vcpu: KvmVcpu) -> int:
    return kvm_emulate_wrmsr(vcpu) if vcpu.vmcb.exit_info_1 else kvm_emulate_rdmsr(vcpu)


@kernel(FILE)
def cr8_write_interception(vcpu: KvmVcpu) -> int:
    return x86_emulate_instruction(vcpu, "cr8")


@kernel(FILE)
def npf_interception(vcpu: KvmVcpu) -> int:
    return kvm_mmu_page_fault(vcpu)


@kernel(FILE)
def io_interception(vcpu: KvmVcpu) -> int:
    """EXITINFO1 says which port, how many bytes, and whether it was IN."""
    info = vcpu.vmcb.exit_info_1
    done = kvm_fast_pio(vcpu, info >> 4 & 7, info >> 16, info & hw.SVM_IOIO_TYPE_IN != 0)
    if not done:
        trace(vcpu.kvm.host, KvmUserspaceExit, "KVM_EXIT_IO", KVM_EXIT_IO)
    return done


# 5.15 to 6.6 have kvm_emulate_hypercall itself in the table, and leave L2's #UD to the processor (read in 6.1.176).
@kernel(FILE, was={"5.10": "vmmcall_interception", "5.15": None, "6.12": "vmmcall_interception"})
def vmmcall_interception(vcpu: KvmVcpu) -> int:
    """A hypercall; in L2, where L1 does not intercept it, the instruction is undefined."""
    if vcpu.guest_mode:
        kvm_queue_exception(vcpu, UD_VECTOR)
        return 1
    return kvm_emulate_hypercall(vcpu)


EXIT_HANDLERS: dict[int, Callable[[KvmVcpu], int]] = {
    hw.SVM_EXIT_INTR: intr_interception,
    hw.SVM_EXIT_VINTR: interrupt_window_interception,
    hw.SVM_EXIT_IRET: iret_interception,
    hw.SVM_EXIT_DB: db_interception,
    hw.SVM_EXIT_MSR: msr_interception,
    hw.SVM_EXIT_HLT: kvm_emulate_halt,
    hw.SVM_EXIT_IDLE_HLT: kvm_emulate_halt,
    hw.SVM_EXIT_WRITE_CR8: cr8_write_interception,
    hw.SVM_EXIT_NPF: npf_interception,
    hw.SVM_EXIT_IOIO: io_interception,
    hw.SVM_EXIT_STGI: stgi_interception,
    hw.SVM_EXIT_CLGI: clgi_interception,
    hw.SVM_EXIT_RSM: rsm_interception,
    hw.SVM_EXIT_VMRUN: vmrun_interception,
    hw.SVM_EXIT_AVIC_INCOMPLETE_IPI: avic_incomplete_ipi_interception,
    hw.SVM_EXIT_AVIC_UNACCELERATED_ACCESS: avic_unaccelerated_access_interception,
    hw.SVM_EXIT_VMMCALL: vmmcall_interception,
}


@kernel(FILE)
def svm_skip_emulated_instruction(vcpu: KvmVcpu) -> None:
    """RIP goes behind the instruction, and with it ends an interrupt shadow."""
    vcpu.regs.rip += vcpu.regs.length
    vcpu.regs.retired = True
    vcpu.vmcb.int_state = False


@kernel(FILE, was={"5.10": "svm_create_vcpu", "6.1": "svm_vcpu_create"})
def svm_vcpu_create(vcpu: KvmVcpu) -> int:
    vcpu.avic_is_running = kvm_apicv_activated(vcpu.kvm)
    return avic_init_vcpu(vcpu)


@kernel(FILE, was={"5.10": "svm_vcpu_after_set_cpuid"})
def svm_vcpu_after_set_cpuid(vcpu: KvmVcpu) -> None:
    """Up to 5.15 AVIC is given up for good where the guest may use x2APIC mode, or guests of its own."""
    kvm, host = vcpu.kvm, vcpu.kvm.host
    if not vcpu.apic.apicv_active:
        return
    if kvm.x2apic_cpuid and not host.has("x2apic_no_inhibit"):
        kvm_set_apicv_inhibit(kvm, "X2APIC")
    if kvm.svm_cpuid and host.params["nested"] and not host.has("nested_inhibits_per_vcpu"):
        kvm_set_apicv_inhibit(kvm, "NESTED")


@kernel(FILE)
def svm_vcpu_load(vcpu: KvmVcpu) -> None:
    if vcpu.apic.apicv_active:
        avic_vcpu_load(vcpu)


@kernel(FILE)
def svm_vcpu_put(vcpu: KvmVcpu) -> None:
    if vcpu.apic.apicv_active:
        avic_vcpu_put(vcpu)


@kernel(FILE)
def svm_vcpu_reset(vcpu: KvmVcpu, init_event: bool) -> None:
    """An INIT forgets that NMIs are masked only in releases up to 6.1, which keep that in a flag of common code."""
    init_vmcb(vcpu)
    if not init_event or not vcpu.kvm.host.has("init_keeps_nmi_mask"):
        vcpu.nmi_masked, vcpu.nmi_iret_rip = False, None


@kernel(FILE)
def init_vmcb(vcpu: KvmVcpu) -> None:
    """STGI and CLGI need not exit with vGIF, in newer releases once SVM is on. INIT takes no other intercept away."""
    vmcb, params = vcpu.vmcb01, vcpu.kvm.host.params
    idle = "idle_hlt" in vcpu.kvm.host.features and vcpu.kvm.host.has("idle_hlt_intercept")
    vmcb.intercepts |= INTERCEPTS | {hw.SVM_EXIT_IDLE_HLT if idle else hw.SVM_EXIT_HLT}
    if vcpu.apic.apicv_active and not vcpu.kvm.host.has("cr8_intercept_follows_avic"):
        vmcb.intercepts.discard(hw.SVM_EXIT_WRITE_CR8)
    vmcb.v_gif_enable, vmcb.v_nmi_enable = bool(params["vgif"]), bool(params.get("vnmi"))
    if vmcb.v_gif_enable and not vcpu.kvm.host.has("gif_intercepts_follow_svme"):
        vmcb.intercepts -= {hw.SVM_EXIT_STGI, hw.SVM_EXIT_CLGI}
    vcpu.guest_gif = vmcb.v_gif = True
    vmcb.v_nmi_pending = vmcb.v_nmi_blocking = False
    vmcb.v_irq, vmcb.v_tpr, vmcb.event_inj = False, 0, 0
    vmcb.rflags_if = vmcb.int_state = vmcb.single_step = False
    if enable_apicv(vcpu.kvm.host) and vcpu.avic_backing_page:
        avic_init_vmcb(vcpu)


@kernel(FILE)
def svm_set_efer(vcpu: KvmVcpu, efer: int) -> None:
    """Without SVME there is no L2, and GIF is set."""
    old, vcpu.efer = vcpu.efer, efer
    if old & EFER_SVME and not efer & EFER_SVME:
        svm_leave_nested(vcpu)
        svm_set_gif(vcpu, True)
    if (old ^ efer) & EFER_SVME and vcpu.kvm.host.has("gif_intercepts_follow_svme"):
        svm_recalc_instruction_intercepts(vcpu)


@kernel(FILE)
def svm_set_msr(vcpu: KvmVcpu, index: int, data: int, host_initiated: bool) -> int:
    return kvm_set_msr_common(vcpu, index, data, host_initiated)


@kernel(FILE)
def svm_get_msr(vcpu: KvmVcpu, index: int) -> int | None:
    return kvm_get_msr_common(vcpu, index)
