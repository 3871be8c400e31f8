"""Userspace's ioctls of a vCPU: KVM_CREATE_VCPU, KVM_RUN, and its state."""

from __future__ import annotations

from kvmmodel.events import KvmUserspaceExit
from kvmmodel.kvm import (
    svm,  # noqa: F401 -- loads the vendor module
)
from kvmmodel.kvm.errno import EAGAIN
from kvmmodel.kvm.guest_debug import kvm_arch_vcpu_ioctl_set_guest_debug
from kvmmodel.kvm.host_types import Suspend, Task, trace
from kvmmodel.kvm.hv_msrs import kvm_hv_activate_synic
from kvmmodel.kvm.kvm_main import wait_for_events
from kvmmodel.kvm.lapic.accept import kvm_inject_nmi
from kvmmodel.kvm.lapic.priority import kvm_lapic_update_cr8_intercept
from kvmmodel.kvm.lapic.registers import kvm_lapic_get_reg
from kvmmodel.kvm.lapic.state import kvm_apic_get_state, kvm_apic_set_state, kvm_create_lapic
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.ops import kvm_x86_ops
from kvmmodel.kvm.requests import KVM_REQ_EVENT, KVM_REQ_UNHALT, kvm_clear_request, kvm_make_request
from kvmmodel.kvm.runnable import kvm_set_mp_state
from kvmmodel.kvm.sched import vcpu_load, vcpu_put
from kvmmodel.kvm.syscall import (
    kvm_arch_vcpu_ioctl,
    loaded,
    vcpu_ioctl,
    vm_ioctl,
)
from kvmmodel.kvm.types import (
    KVM_MP_STATE_HALTED,
    KVM_MP_STATE_INIT_RECEIVED,
    KVM_MP_STATE_RUNNABLE,
    KVM_MP_STATE_SIPI_RECEIVED,
    KVM_MP_STATE_UNINITIALIZED,
    Kvm,
    KvmVcpu,
)
from kvmmodel.kvm.x86.emulate import kvm_set_cr8
from kvmmodel.kvm.x86.extint import kvm_vcpu_ioctl_interrupt
from kvmmodel.kvm.x86.inject import kvm_apic_accept_events, kvm_vcpu_reset
from kvmmodel.kvm.x86.msrs import kvm_set_msr_ignored_check
from kvmmodel.kvm.x86.run import vcpu_run
from kvmmodel.silicon import apic as hw

X86, IRQ, MAIN = "arch/x86/kvm/x86.c", "arch/x86/kvm/irq.c", "virt/kvm/kvm_main.c"


@kernel(MAIN)
def kvm_vm_ioctl_create_vcpu(kvm: Kvm, task: Task, vcpu_id: int) -> KvmVcpu:
    kvm_arch_vcpu_precreate(kvm)
    vcpu = kvm_arch_vcpu_create(kvm, task, vcpu_id)
    kvm.vcpus.append(vcpu)  # too late for the map that its reset made: it is in the next one
    kvm_arch_vcpu_postcreate(vcpu)
    return vcpu


@kernel(X86)
def kvm_arch_vcpu_precreate(kvm: Kvm) -> None:
    kvm_x86_ops.vcpu_precreate(kvm)


@kernel(X86)
def kvm_arch_vcpu_postcreate(vcpu: KvmVcpu) -> None:
    """The vCPU's TSC is set in step with the others': the model's always are, so all that is left is the load."""
    vcpu_load(vcpu)
    vcpu_put(vcpu)


@kernel(X86)
def kvm_arch_vcpu_create(kvm: Kvm, task: Task, vcpu_id: int) -> KvmVcpu:
    """ValueError where KVM_CREATE_VCPU returns EINVAL: the ID is beyond AVIC's tables, up to 6.12."""
    vcpu = KvmVcpu(vcpu_id, kvm, task, task.cpu)
    kvm_create_lapic(vcpu)
    if kvm_x86_ops.vcpu_create(vcpu):
        raise ValueError(f"KVM_CREATE_VCPU refuses the ID {vcpu_id} (EINVAL): AVIC's tables end before it")
    task.vcpu = vcpu
    vcpu.mp_state = KVM_MP_STATE_RUNNABLE if vcpu_id == 0 else KVM_MP_STATE_UNINITIALIZED
    vcpu_load(vcpu)
    kvm_vcpu_reset(vcpu, False)
    vcpu_put(vcpu)
    return vcpu


@kernel(X86)
def kvm_arch_vcpu_ioctl_run(vcpu: KvmVcpu) -> Suspend | None:
    """Run, or go on running, until the thread gives the CPU away (returns why) or goes to userspace (None)."""
    waits = vcpu.mp_state == KVM_MP_STATE_UNINITIALIZED
    if vcpu.run is None:
        vcpu_load(vcpu)
        if vcpu.complete_userspace_io is not None:
            complete, vcpu.complete_userspace_io = vcpu.complete_userspace_io, None
            complete(vcpu)
        vcpu.exit = None
        vcpu.run = wait_for_events(vcpu) if waits else vcpu_run(vcpu)
    try:
        return vcpu.run.send(None)
    except StopIteration:
        vcpu.run = None
    if waits:
        kvm_apic_accept_events(vcpu)
        kvm_clear_request(KVM_REQ_UNHALT, vcpu)  # INIT and SIPI may have come together: nobody asks for it any more
        trace(vcpu.kvm.host, KvmUserspaceExit, "error", EAGAIN)
    vcpu_put(vcpu)
    return None


def kvm_run(vcpu: KvmVcpu) -> Suspend | None:
    """One turn of KVM_RUN."""
    return vcpu_ioctl(kvm_arch_vcpu_ioctl_run, vcpu)


def create_vcpu(kvm: Kvm, task: Task, vcpu_id: int) -> KvmVcpu:
    return vm_ioctl(kvm_vm_ioctl_create_vcpu, kvm, task, vcpu_id)


def set_cpuid2(vcpu: KvmVcpu) -> None:
    """KVM_SET_CPUID2, of what the VM has in CPUID."""
    vcpu_ioctl(kvm_arch_vcpu_ioctl, kvm_vcpu_after_set_cpuid, vcpu)


@kernel("arch/x86/kvm/cpuid.c")
def kvm_vcpu_after_set_cpuid(vcpu: KvmVcpu) -> None:
    kvm_x86_ops.vcpu_after_set_cpuid(vcpu)


def set_sregs(vcpu: KvmVcpu, cr8: int) -> None:
    """KVM_SET_SREGS, as far as delivery goes: CR8, and with it the CR8 intercept. Every VMM does it before KVM_RUN."""
    vcpu_ioctl(kvm_arch_vcpu_ioctl_set_sregs, vcpu, cr8)


@kernel(X86)
def kvm_arch_vcpu_ioctl_set_sregs(vcpu: KvmVcpu, cr8: int) -> None:
    with loaded(vcpu):
        __set_sregs(vcpu, cr8)


@kernel(X86)
def __set_sregs(vcpu: KvmVcpu, cr8: int) -> None:
    __set_sregs_common(vcpu, cr8)


@kernel(X86, since="5.15")  # split off by the patch for KVM_SET_SREGS2, posted in 2021
def __set_sregs_common(vcpu: KvmVcpu, cr8: int) -> None:
    kvm_set_cr8(vcpu, cr8)
    if not vcpu.kvm.host.has("cr8_recomputed_on_ppr"):
        kvm_lapic_update_cr8_intercept(vcpu)


def get_mp_state(vcpu: KvmVcpu) -> str:
    """KVM_GET_MP_STATE."""
    state: str = vcpu_ioctl(kvm_arch_vcpu_ioctl_get_mpstate, vcpu)
    return state


@kernel(X86)
def kvm_arch_vcpu_ioctl_get_mpstate(vcpu: KvmVcpu) -> str:
    """A waiting INIT or SIPI is taken first, so that asking changes the vCPU. Halted, but kicked: runnable."""
    with loaded(vcpu):
        kvm_apic_accept_events(vcpu)
        kicked = vcpu.mp_state == KVM_MP_STATE_HALTED and vcpu.pv_unhalted
        return KVM_MP_STATE_RUNNABLE if kicked else vcpu.mp_state


def enable_hyperv_synic(vcpu: KvmVcpu) -> None:
    """KVM_ENABLE_CAP of KVM_CAP_HYPERV_SYNIC."""
    vcpu_ioctl(kvm_arch_vcpu_ioctl, kvm_hv_activate_synic, vcpu)


def set_guest_debug(vcpu: KvmVcpu, blockirq: bool) -> None:
    """KVM_SET_GUEST_DEBUG."""
    vcpu_ioctl(kvm_arch_vcpu_ioctl, kvm_arch_vcpu_ioctl_set_guest_debug, vcpu, blockirq)


def get_sregs(vcpu: KvmVcpu) -> int:
    """KVM_GET_SREGS, as far as delivery goes: CR8. A VMM asks for them to change some."""
    return vcpu_ioctl(kvm_arch_vcpu_ioctl_get_sregs, vcpu)


@kernel(X86)
def kvm_arch_vcpu_ioctl_get_sregs(vcpu: KvmVcpu) -> int:
    with loaded(vcpu):
        return kvm_lapic_get_reg(vcpu.apic, hw.APIC_TASKPRI) >> 4


def set_regs(vcpu: KvmVcpu) -> None:
    """KVM_SET_REGS: RIP, which the model's guests do not have, and RFLAGS after reset."""
    vcpu_ioctl(kvm_arch_vcpu_ioctl_set_regs, vcpu)


@kernel(X86)
def kvm_arch_vcpu_ioctl_set_regs(vcpu: KvmVcpu) -> None:
    with loaded(vcpu):
        kvm_make_request(KVM_REQ_EVENT, vcpu)


def set_mp_state(vcpu: KvmVcpu, state: str) -> None:
    """KVM_SET_MP_STATE."""
    vcpu_ioctl(kvm_arch_vcpu_ioctl_set_mpstate, vcpu, state)


@kernel(X86)
def kvm_arch_vcpu_ioctl_set_mpstate(vcpu: KvmVcpu, state: str) -> None:
    """SIPI_RECEIVED is no state of its own any more: it is INIT_RECEIVED, and a SIPI that waits."""
    with loaded(vcpu):
        if state == KVM_MP_STATE_SIPI_RECEIVED:
            vcpu.apic.pending_sipi, state = True, KVM_MP_STATE_INIT_RECEIVED
        kvm_set_mp_state(vcpu, state)
        kvm_make_request(KVM_REQ_EVENT, vcpu)


def interrupt(vcpu: KvmVcpu, vector: int) -> int:
    """KVM_INTERRUPT."""
    result: int = vcpu_ioctl(kvm_arch_vcpu_ioctl, kvm_vcpu_ioctl_interrupt, vcpu, vector)
    return result


def nmi(vcpu: KvmVcpu) -> None:
    """KVM_NMI."""
    vcpu_ioctl(kvm_arch_vcpu_ioctl, kvm_vcpu_ioctl_nmi, vcpu)


@kernel(X86)
def kvm_vcpu_ioctl_nmi(vcpu: KvmVcpu) -> None:
    kvm_inject_nmi(vcpu)


def get_lapic(vcpu: KvmVcpu) -> bytes:
    page: bytes = vcpu_ioctl(kvm_arch_vcpu_ioctl, kvm_apic_get_state, vcpu)
    return page


def set_lapic(vcpu: KvmVcpu, page: bytes) -> None:
    vcpu_ioctl(kvm_arch_vcpu_ioctl, kvm_apic_set_state, vcpu, page)


def set_msr(vcpu: KvmVcpu, index: int, value: int) -> int:
    failed: int = vcpu_ioctl(kvm_arch_vcpu_ioctl, kvm_set_msr_ignored_check, vcpu, index, value, True)
    return failed


def get_msr(vcpu: KvmVcpu, index: int) -> int | None:
    value: int | None = vcpu_ioctl(kvm_arch_vcpu_ioctl, kvm_x86_ops.get_msr, vcpu, index)
    return value
