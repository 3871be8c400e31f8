"""IN and OUT: a device in the kernel answers, the 8259s or the PIT, or userspace does. No string instructions."""

from __future__ import annotations

from kvmmodel.events import KvmPio
from kvmmodel.kvm.host_types import trace
from kvmmodel.kvm.i8254_ports import (
    pit_in_range,
    pit_ioport_read,
    pit_ioport_write,
    speaker_in_range,
    speaker_ioport_read,
    speaker_ioport_write,
)
from kvmmodel.kvm.i8259_ports import in_range, picdev_read, picdev_write
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.ops import kvm_x86_ops
from kvmmodel.kvm.types import KvmVcpu

X86, MAIN = "arch/x86/kvm/x86.c", "virt/kvm/kvm_main.c"


@kernel(X86)
def kvm_fast_pio(vcpu: KvmVcpu, size: int, port: int, is_in: bool) -> int:
    """1: done. 0: to userspace; the instruction ends when that calls KVM_RUN again."""
    done = kvm_fast_pio_in(vcpu, size, port) if is_in else kvm_fast_pio_out(vcpu, size, port)
    if done:
        kvm_x86_ops.skip_emulated_instruction(vcpu)
    return int(done)


@kernel(X86)
def kvm_fast_pio_out(vcpu: KvmVcpu, size: int, port: int) -> bool:
    value = vcpu.regs.value & (1 << 8 * size) - 1
    if emulator_pio_out(vcpu, size, port, value):
        return True
    vcpu.complete_userspace_io = complete_fast_pio_out
    vcpu.exit = ("io", port, value)
    return False


@kernel(X86)
def kvm_fast_pio_in(vcpu: KvmVcpu, size: int, port: int) -> bool:
    """Userspace puts its answer into regs.value; a port where nothing is reads as all ones."""
    if emulator_pio_in(vcpu, size, port):
        return True
    vcpu.regs.value = (1 << 8 * size) - 1
    vcpu.complete_userspace_io = complete_fast_pio_in
    vcpu.exit = ("in", port, size)
    return False


@kernel(X86)
def complete_fast_pio_out(vcpu: KvmVcpu) -> None:
    kvm_x86_ops.skip_emulated_instruction(vcpu)


@kernel(X86)
def complete_fast_pio_in(vcpu: KvmVcpu) -> None:
    _, port, size = vcpu.exit
    vcpu.regs.value &= (1 << 8 * size) - 1
    trace(vcpu.kvm.host, KvmPio, port, vcpu.regs.value, size, False)
    kvm_x86_ops.skip_emulated_instruction(vcpu)


@kernel(X86)
def emulator_pio_out(vcpu: KvmVcpu, size: int, port: int, value: int) -> bool:
    trace(vcpu.kvm.host, KvmPio, port, value, size, True)
    return kvm_io_bus_write(vcpu, port, size, value)


@kernel(X86)
def emulator_pio_in(vcpu: KvmVcpu, size: int, port: int) -> bool:
    value = kvm_io_bus_read(vcpu, port, size)
    if value is None:
        return False
    vcpu.regs.value = value
    trace(vcpu.kvm.host, KvmPio, port, value, size, False)
    return True


@kernel(MAIN)
def kvm_io_bus_write(vcpu: KvmVcpu, port: int, size: int, value: int) -> bool:
    """False: no device has the port."""
    kvm = vcpu.kvm
    if in_range(kvm, port):
        picdev_write(kvm, port, size, value)
    elif pit_in_range(kvm, port):
        pit_ioport_write(kvm, port, value)
    elif speaker_in_range(kvm, port):
        speaker_ioport_write(kvm, value)
    else:
        return False
    return True


@kernel(MAIN)
def kvm_io_bus_read(vcpu: KvmVcpu, port: int, size: int) -> int | None:
    """None: no device has the port."""
    kvm = vcpu.kvm
    if in_range(kvm, port):
        return picdev_read(kvm, port, size)
    if pit_in_range(kvm, port):
        return pit_ioport_read(kvm, port)
    return speaker_ioport_read(kvm) if speaker_in_range(kvm, port) else None
