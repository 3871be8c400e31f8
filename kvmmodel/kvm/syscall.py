"""The way from userspace's ioctl() to KVM, and what every ioctl of a vCPU does first and last."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.sched import vcpu_load, vcpu_put
from kvmmodel.kvm.types import (
    KvmVcpu,
)

X86, MAIN = "arch/x86/kvm/x86.c", "virt/kvm/kvm_main.c"

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
def kvm_dev_ioctl(call: Callable[..., T], *args: object) -> T:
    return call(*args)
