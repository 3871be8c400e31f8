"""A guest (L1) that runs a guest of its own (L2), as far as interrupts go: arch/x86/kvm/svm/nested.c.

KVM runs L2 on vmcb02, made of L1's VMCB (vmcb12) and its own (vmcb01). An event for L1 goes into L2 where L1 does not
intercept it, else it ends L2 by a #VMEXIT that KVM makes up. Not modelled: L2's exceptions as exits to L1, I/O and MSR
bitmaps (an intercept means every access), an SMI while L2 runs, saving and restoring nested state; 5.10 and 5.15 inject
again what was interrupted before they look at nested events, the model does as later releases do. Read in 6.18.35.
"""

from __future__ import annotations

from dataclasses import replace

from kvmmodel.events import NestedVmEnter, NestedVmExit
from kvmmodel.kvm.apicv import __kvm_vcpu_update_apicv, kvm_apicv_activated
from kvmmodel.kvm.host_types import trace
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.ops import kvm_x86_ops
from kvmmodel.kvm.requests import KVM_REQ_APICV_UPDATE, KVM_REQ_EVENT, kvm_make_request
from kvmmodel.kvm.runnable import kvm_cpu_has_interrupt
from kvmmodel.kvm.svm.gif import UD_VECTOR, nested_svm_check_permissions, svm_set_gif
from kvmmodel.kvm.svm.inject import svm_interrupt_blocked
from kvmmodel.kvm.svm.intercepts import recalc_intercepts
from kvmmodel.kvm.svm.nmi import EBUSY, svm_nmi_blocked
from kvmmodel.kvm.svm.predicates import (
    nested_exit_on_intr,
    nested_exit_on_nmi,
    nested_exit_on_smi,
    nested_vgif_enabled,
    nested_vnmi_enabled,
    svm_is_intercept_of_kvm,
    vmcb12_is_intercept,
)
from kvmmodel.kvm.svm.smi import svm_smi_blocked
from kvmmodel.kvm.types import KVM_MP_STATE_RUNNABLE, KvmVcpu, QueuedException, QueuedInterrupt
from kvmmodel.kvm.x86.inject import kvm_event_needs_reinjection, kvm_queue_exception
from kvmmodel.silicon import vmcb as hw
from kvmmodel.silicon.vmcb import Vmcb

FILE = "arch/x86/kvm/svm/nested.c"
# Of int_ctl, what vmcb02 always takes from L1's VMCB.
FROM_VMCB12 = ("v_tpr", "v_irq", "v_intr_prio", "v_ign_tpr")
VNMI = ("v_nmi_pending", "v_nmi_enable", "v_nmi_blocking")


@kernel("arch/x86/kvm/svm/svm.c")
def vmrun_interception(vcpu: KvmVcpu) -> int:
    """L1 executed VMRUN; ``regs.vmcb12`` stands for the address in RAX."""
    if nested_svm_check_permissions(vcpu):
        return 1
    if vcpu.smm:
        kvm_queue_exception(vcpu, UD_VECTOR)
        return 1
    assert vcpu.regs.vmcb12 is not None
    return nested_svm_vmrun(vcpu, vcpu.regs.vmcb12)


@kernel(FILE)
def nested_svm_vmrun(vcpu: KvmVcpu, vmcb12: Vmcb) -> int:
    """Check L1's VMCB, then have the next entry run L2. L1 goes on behind its VMRUN if the check fails."""
    kvm_x86_ops.skip_emulated_instruction(vcpu)
    vcpu.nested.ctl = replace(vmcb12, intercepts=set(vmcb12.intercepts))
    if not nested_vmcb_check_controls(vcpu.nested.ctl):
        vmcb12.exit_code, vmcb12.exit_info_1, vmcb12.exit_info_2, vmcb12.event_inj = hw.SVM_EXIT_ERR, 0, 0, 0
        svm_set_gif(vcpu, False)
        return 1
    vcpu.nested.rip = vcpu.regs.rip
    vcpu.nested.nested_run_pending = True
    enter_svm_guest_mode(vcpu, vmcb12)
    return 1


def nested_vmcb_check_controls(control: Vmcb) -> bool:
    """What the APM wants of a VMCB, as far as interrupts go: vNMI needs the NMI intercept."""
    return not control.v_nmi_enable or hw.SVM_EXIT_NMI in control.intercepts


@kernel(FILE)
def enter_svm_guest_mode(vcpu: KvmVcpu, vmcb12: Vmcb) -> None:
    vcpu.nested.vmcb12 = vmcb12
    vcpu.vmcb = vcpu.nested.vmcb02
    trace(vcpu.kvm.host, NestedVmEnter, vcpu.vcpu_id)
    nested_vmcb02_prepare_control(vcpu)
    vcpu.vmcb.rflags_if = vcpu.nested.ctl.rflags_if
    svm_set_gif(vcpu, True)
    if vcpu.apic.apicv_active and vcpu.kvm.host.has("nested_inhibits_per_vcpu"):
        kvm_make_request(KVM_REQ_APICV_UPDATE, vcpu)  # L2 has no AVIC, and L1's must not take its interrupts


@kernel(FILE)
def nested_vmcb02_prepare_control(vcpu: KvmVcpu) -> None:
    """Whose int_ctl bits: V_TPR and the virtual interrupt are L1's; GIF and NMIs L1's if it uses vGIF and vNMI."""
    vcpu.guest_mode = True
    ctl, vmcb01, vmcb02 = vcpu.nested.ctl, vcpu.vmcb01, vcpu.nested.vmcb02
    for name in FROM_VMCB12:
        setattr(vmcb02, name, getattr(ctl, name))
    gif = ctl if nested_vgif_enabled(vcpu) else vmcb01
    vmcb02.v_gif, vmcb02.v_gif_enable = gif.v_gif, gif.v_gif_enable
    if vcpu.kvm.host.params.get("vnmi") and vmcb01.v_nmi_pending:
        vcpu.nmi_pending += 1  # the processor had it; from now on KVM has to look after it
        kvm_make_request(KVM_REQ_EVENT, vcpu)
    own = nested_vnmi_enabled(vcpu)
    for name in VNMI:
        setattr(vmcb02, name, getattr(ctl, name) and own)
    vmcb02.v_intr_masking = vmcb01.v_intr_masking
    vmcb02.int_vector, vmcb02.int_state = ctl.int_vector, ctl.int_state
    vmcb02.event_inj, vmcb02.event_inj_err = ctl.event_inj, ctl.event_inj_err
    vcpu.nested.nmi_l1_to_l2 = vcpu.kvm.host.has("nmi_from_l1") and _is_nmi(ctl.event_inj)
    recalc_intercepts(vcpu)


def _is_nmi(event_inj: int) -> bool:
    valid = event_inj & hw.SVM_EVTINJ_VALID != 0
    return valid and event_inj & hw.SVM_EVTINJ_TYPE_MASK == hw.SVM_EVTINJ_TYPE_NMI


@kernel(FILE)
def nested_sync_control_from_vmcb02(vcpu: KvmVcpu) -> None:
    """After each exit of L2: what the processor wrote is L1's. Not V_IRQ while KVM uses it for a window of its own."""
    ctl, vmcb = vcpu.nested.ctl, vcpu.vmcb
    ctl.event_inj, ctl.event_inj_err, ctl.int_state = vmcb.event_inj, vmcb.event_inj_err, vmcb.int_state
    ctl.v_tpr = vmcb.v_tpr
    if not svm_is_intercept_of_kvm(vcpu, hw.SVM_EXIT_VINTR):
        ctl.v_irq = vmcb.v_irq
    if nested_vgif_enabled(vcpu):
        ctl.v_gif = vmcb.v_gif
    if nested_vnmi_enabled(vcpu):
        ctl.v_nmi_blocking, ctl.v_nmi_pending = vmcb.v_nmi_blocking, vmcb.v_nmi_pending


@kernel(FILE)
def svm_check_nested_events(vcpu: KvmVcpu) -> int:
    """INIT, SMI, NMI and interrupts that L1 intercepts end L2. Negative: something has to get done in L2 first.

    An interrupt is not acknowledged by this: it stays in the IRR, and L1 takes it once its GIF and IF are set.
    """
    block_exceptions = vcpu.nested.nested_run_pending
    blocked = block_exceptions or kvm_event_needs_reinjection(vcpu)
    if vcpu.apic.pending_init:
        return -EBUSY if blocked else _exit_if(vcpu, vmcb12_is_intercept(vcpu, hw.SVM_EXIT_INIT), hw.SVM_EXIT_INIT)
    if vcpu.exception.pending:
        return -EBUSY if block_exceptions else 0
    if vcpu.smi_pending and not svm_smi_blocked(vcpu):
        return -EBUSY if blocked else _exit_if(vcpu, nested_exit_on_smi(vcpu), hw.SVM_EXIT_SMI)
    if vcpu.nmi_pending and not svm_nmi_blocked(vcpu):
        return -EBUSY if blocked else _exit_if(vcpu, nested_exit_on_nmi(vcpu), hw.SVM_EXIT_NMI)
    if kvm_cpu_has_interrupt(vcpu) and not svm_interrupt_blocked(vcpu):
        return -EBUSY if blocked else _exit_if(vcpu, nested_exit_on_intr(vcpu), hw.SVM_EXIT_INTR)
    return 0


def _exit_if(vcpu: KvmVcpu, intercepted: bool, exit_code: int) -> int:
    """nested_svm_simple_vmexit, if L1 intercepts it; else the event goes into L2."""
    if intercepted:
        vcpu.vmcb.exit_code, vcpu.vmcb.exit_info_1, vcpu.vmcb.exit_info_2 = exit_code, 0, 0
        nested_svm_vmexit(vcpu)
    return 0


@kernel(FILE)
def nested_svm_exit_handled(vcpu: KvmVcpu) -> bool:
    """Whether an exit of L2 is L1's business. Host interrupts, NMIs, nested page faults, single steps are KVM's."""
    code = vcpu.vmcb.exit_code
    if code in (hw.SVM_EXIT_INTR, hw.SVM_EXIT_NMI, hw.SVM_EXIT_NPF, hw.SVM_EXIT_DB) or not vmcb12_is_intercept(
        vcpu, code
    ):
        return False
    nested_svm_vmexit(vcpu)
    return True


@kernel(FILE)
def nested_svm_vmexit(vcpu: KvmVcpu) -> int:
    """Back to L1 with GIF clear: it sees nothing before its STGI."""
    vmcb01, vmcb02 = vcpu.vmcb01, vcpu.nested.vmcb02
    _update_vmcb12(vcpu)
    trace(vcpu.kvm.host, NestedVmExit, vcpu.vcpu_id, hw.EXIT_NAMES[vmcb02.exit_code])
    vcpu.guest_mode = False
    vcpu.mp_state = KVM_MP_STATE_RUNNABLE  # it may have halted in L2
    vcpu.vmcb = vmcb01
    if not nested_exit_on_intr(vcpu):
        kvm_make_request(KVM_REQ_EVENT, vcpu)  # a window may have been asked for in vmcb02
    if vcpu.kvm.host.params.get("vnmi"):
        vmcb01.v_nmi_blocking, vmcb01.v_nmi_pending = vmcb02.v_nmi_blocking, vcpu.nmi_pending > 0
        vcpu.nmi_pending = max(vcpu.nmi_pending - 1, 0)
    svm_set_gif(vcpu, False)
    vmcb01.exit_int_info = 0
    vcpu.regs.rip = vcpu.nested.rip
    vcpu.nested.nmi_l1_to_l2 = vcpu.nmi_injected = False
    vcpu.exception, vcpu.interrupt = QueuedException(), QueuedInterrupt()
    if kvm_apicv_activated(vcpu.kvm) and vcpu.kvm.host.has("nested_inhibits_per_vcpu"):
        __kvm_vcpu_update_apicv(vcpu)  # at once: L1 takes its interrupts as soon as it can
    return 0


def _update_vmcb12(vcpu: KvmVcpu) -> None:
    """What L1 reads: why L2 ended, its state, and an event whose delivery was cut short."""
    vmcb12, vmcb02, ctl = vcpu.nested.vmcb12, vcpu.nested.vmcb02, vcpu.nested.ctl
    assert vmcb12 is not None
    vmcb12.rflags_if, vmcb12.int_state = vmcb02.rflags_if, vmcb02.int_state
    vmcb12.exit_code, vmcb12.exit_info_1, vmcb12.exit_info_2 = vmcb02.exit_code, vmcb02.exit_info_1, vmcb02.exit_info_2
    nested_save_pending_event_to_vmcb12(vcpu, vmcb12)
    vmcb12.event_inj = vmcb12.event_inj_err = 0
    for name in (*FROM_VMCB12, *VNMI, "v_gif", "v_gif_enable", "v_intr_masking"):
        setattr(vmcb12, name, getattr(ctl, name))


@kernel(FILE)
def nested_save_pending_event_to_vmcb12(vcpu: KvmVcpu, vmcb12: Vmcb) -> None:
    """EXITINTINFO for L1."""
    vmcb12.exit_int_info = 0
    if vcpu.exception.injected:
        vmcb12.exit_int_info = hw.SVM_EVTINJ_VALID | hw.SVM_EVTINJ_TYPE_EXEPT | vcpu.exception.vector
        if vcpu.exception.error_code is not None:
            vmcb12.exit_int_info |= hw.SVM_EVTINJ_VALID_ERR
            vmcb12.exit_int_info_err = vcpu.exception.error_code
    elif vcpu.nmi_injected:
        vmcb12.exit_int_info = hw.SVM_EVTINJ_VALID | hw.SVM_EVTINJ_TYPE_NMI
    elif vcpu.interrupt.injected:
        vmcb12.exit_int_info = hw.SVM_EVTINJ_VALID | hw.SVM_EVTINJ_TYPE_INTR | vcpu.interrupt.nr


@kernel(FILE)
def svm_leave_nested(vcpu: KvmVcpu) -> None:
    """Without an exit: L1 switched SVM off, or was reset."""
    if vcpu.guest_mode:
        vcpu.nested.nested_run_pending = False
        vcpu.guest_mode, vcpu.vmcb = False, vcpu.vmcb01
        if kvm_apicv_activated(vcpu.kvm) and vcpu.kvm.host.has("leave_nested_uninhibits"):
            kvm_make_request(KVM_REQ_APICV_UPDATE, vcpu)
