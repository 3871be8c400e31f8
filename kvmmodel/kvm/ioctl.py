"""The way in from userspace: the system call, and KVM's ioctls on a VM and on a vCPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from kvmmodel.events import KvmUserspaceExit
from kvmmodel.kvm import (
    i8259,
    svm,  # noqa: F401 -- loads the vendor module
)
from kvmmodel.kvm.ack import KVM_IRQCHIP_IOAPIC
from kvmmodel.kvm.apicv import kvm_apicv_init, kvm_clear_apicv_inhibit, kvm_set_apicv_inhibit
from kvmmodel.kvm.errno import EAGAIN
from kvmmodel.kvm.eventfd import kvm_irqfd
from kvmmodel.kvm.guest_debug import kvm_arch_vcpu_ioctl_set_guest_debug
from kvmmodel.kvm.hyperv import kvm_hv_activate_synic
from kvmmodel.kvm.i8254 import kvm_create_pit, kvm_pit_set_reinject, kvm_vm_ioctl_get_pit2, kvm_vm_ioctl_set_pit2
from kvmmodel.kvm.ioapic import kvm_ioapic_init
from kvmmodel.kvm.ioapic_registers import kvm_get_ioapic, kvm_set_ioapic
from kvmmodel.kvm.irq import kvm_send_userspace_msi
from kvmmodel.kvm.irqchip import (
    Route,
    kvm_set_irq_routing,
    kvm_setup_default_ioapic_and_pic_routing,
    kvm_vm_ioctl_irq_line,
)
from kvmmodel.kvm.kvm_main import wait_for_events
from kvmmodel.kvm.lapic.accept import kvm_inject_nmi
from kvmmodel.kvm.lapic.priority import kvm_lapic_update_cr8_intercept
from kvmmodel.kvm.lapic.registers import kvm_lapic_get_reg
from kvmmodel.kvm.lapic.state import kvm_apic_get_state, kvm_apic_set_state, kvm_create_lapic
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.ops import kvm_x86_ops
from kvmmodel.kvm.requests import KVM_REQ_EVENT, kvm_make_request
from kvmmodel.kvm.runnable import kvm_set_mp_state
from kvmmodel.kvm.sched import vcpu_load, vcpu_put
from kvmmodel.kvm.types import (
    KVM_MP_STATE_HALTED,
    KVM_MP_STATE_INIT_RECEIVED,
    KVM_MP_STATE_RUNNABLE,
    KVM_MP_STATE_SIPI_RECEIVED,
    KVM_MP_STATE_UNINITIALIZED,
    Kvm,
    KvmVcpu,
    Suspend,
    Task,
    trace,
)
from kvmmodel.kvm.x86.emulate import kvm_set_cr8
from kvmmodel.kvm.x86.extint import kvm_vcpu_ioctl_interrupt
from kvmmodel.kvm.x86.inject import kvm_apic_accept_events, kvm_vcpu_reset
from kvmmodel.kvm.x86.msrs import kvm_set_msr_ignored_check
from kvmmodel.kvm.x86.run import vcpu_run
from kvmmodel.silicon import apic as hw

# the irqchip ioctls are in x86.c up to 6.12
X86, IRQ, MAIN = "arch/x86/kvm/x86.c", "arch/x86/kvm/irq.c", "virt/kvm/kvm_main.c"
T = TypeVar("T")


@kernel("arch/x86/entry/entry_64.S")
def entry_SYSCALL_64_after_hwframe(call: Callable[..., T], *args: object) -> T:
    return do_syscall_64(call, *args)


@kernel("arch/x86/entry/common.c")
def do_syscall_64(call: Callable[..., T], *args: object) -> T:
    return __x64_sys_ioctl(call, *args)


@kernel("fs/ioctl.c")
def __x64_sys_ioctl(call: Callable[..., T], *args: object) -> T:
    return call(*args)


@kernel(MAIN)
def kvm_vm_ioctl(call: Callable[..., T], *args: object) -> T:
    return call(*args)


@kernel(MAIN)
def kvm_vcpu_ioctl(call: Callable[..., T], *args: object) -> T:
    return call(*args)


@contextmanager
def loaded(vcpu: KvmVcpu) -> Iterator[None]:
    """What any ioctl of a vCPU does first and last: load it on this CPU, and put it.

    A vCPU in the middle of KVM_RUN is loaded already. A kernel makes the caller wait for its end, the model does not.
    """
    outside = vcpu.run is None
    if outside:
        vcpu_load(vcpu)
    try:
        yield
    finally:
        if outside:
            vcpu_put(vcpu)


@kernel(X86)
def kvm_arch_vcpu_ioctl(call: Callable[..., T], *args: object) -> T:
    """Those that only x86 has. The general ones load the vCPU themselves."""
    with loaded(next(arg for arg in args if isinstance(arg, KvmVcpu))):
        return call(*args)


def vm_ioctl(call: Callable[..., T], *args: object) -> T:
    """Userspace calls an ioctl of the VM."""
    result: T = entry_SYSCALL_64_after_hwframe(kvm_vm_ioctl, call, *args)
    return result


def vcpu_ioctl(call: Callable[..., T], *args: object) -> T:
    """Userspace calls an ioctl of a vCPU."""
    result: T = entry_SYSCALL_64_after_hwframe(kvm_vcpu_ioctl, call, *args)
    return result


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
def kvm_arch_init_vm(kvm: Kvm) -> None:
    kvm_apicv_init(kvm)


@kernel(MAIN)
def kvm_create_vm(kvm: Kvm) -> None:
    kvm_arch_init_vm(kvm)


@kernel(MAIN)
def kvm_dev_ioctl(call: Callable[..., T], *args: object) -> T:
    return call(*args)


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


def create_vm(kvm: Kvm) -> None:
    """KVM_CREATE_VM, and KVM_CREATE_IRQCHIP or KVM_CAP_SPLIT_IRQCHIP. A split irqchip has no routes at first."""
    entry_SYSCALL_64_after_hwframe(kvm_dev_ioctl, kvm_create_vm, kvm)
    if kvm.irqchip == "kernel":
        kvm.pic = i8259.KvmPic()
        kvm_ioapic_init(kvm)
        kvm_setup_default_ioapic_and_pic_routing(kvm)
    kvm_clear_apicv_inhibit(kvm, "ABSENT")
    if kvm.sev:
        vm_ioctl(sev_guest_init, kvm)


@kernel("arch/x86/kvm/svm/sev.c")
def sev_guest_init(kvm: Kvm) -> None:
    """KVM_SEV_INIT, as far as AVIC goes."""
    kvm_set_apicv_inhibit(kvm, "SEV")


def create_pit2(kvm: Kvm, cpu: int) -> None:
    """KVM_CREATE_PIT2, with the speaker's port; its kernel thread runs on that physical CPU."""
    vm_ioctl(kvm_create_pit, kvm, cpu)


def get_pit2(kvm: Kvm) -> bytes:
    state: bytes = vm_ioctl(kvm_vm_ioctl_get_pit2, kvm)
    return state


def set_pit2(kvm: Kvm, state: bytes) -> None:
    vm_ioctl(kvm_vm_ioctl_set_pit2, kvm, state)


def reinject_control(kvm: Kvm, reinject: bool) -> None:
    """KVM_REINJECT_CONTROL."""
    vm_ioctl(kvm_vm_ioctl_reinject, kvm, reinject)


@kernel("arch/x86/kvm/i8254.c")
def kvm_vm_ioctl_reinject(kvm: Kvm, reinject: bool) -> None:
    kvm_pit_set_reinject(kvm, reinject)


def irq_line(kvm: Kvm, gsi: int, level: bool) -> int:
    return vm_ioctl(kvm_vm_ioctl_irq_line, kvm, gsi, level)


def set_gsi_routing(kvm: Kvm, table: dict[int, list[Route]]) -> int:
    return vm_ioctl(kvm_set_irq_routing, kvm, table)


def get_irqchip(kvm: Kvm, chip: int) -> bytes:
    state: bytes = vm_ioctl(kvm_vm_ioctl_get_irqchip, kvm, chip)
    return state


def set_irqchip(kvm: Kvm, chip: int, state: bytes) -> None:
    vm_ioctl(kvm_vm_ioctl_set_irqchip, kvm, chip, state)


@kernel(IRQ)
def kvm_vm_ioctl_get_irqchip(kvm: Kvm, chip: int) -> bytes:
    """KVM_GET_IRQCHIP."""
    return kvm_get_ioapic(kvm.ioapic) if chip == KVM_IRQCHIP_IOAPIC else i8259.get_state(kvm.pic, chip)


@kernel(IRQ)
def kvm_vm_ioctl_set_irqchip(kvm: Kvm, chip: int, state: bytes) -> None:
    """KVM_SET_IRQCHIP. Whichever chip it was, the 8259s compute their output afterwards."""
    if chip == KVM_IRQCHIP_IOAPIC:
        kvm_set_ioapic(kvm, kvm.ioapic, state)
    else:
        i8259.set_state(kvm.pic, chip, state)
    i8259.kvm_pic_update_irq(kvm)


def irqfd_resample(kvm: Kvm, gsi: int, signal: Callable[[], None]) -> None:
    vm_ioctl(kvm_irqfd, kvm, gsi, signal)


def signal_msi(kvm: Kvm, address: int, data: int) -> int:
    return vm_ioctl(kvm_send_userspace_msi, kvm, address, data)


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
