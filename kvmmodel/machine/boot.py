"""What a guest OS does first: APs up by INIT and SIPI, local APICs enabled, interrupts on. Then every vCPU idles."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvmmodel.machine.vm import Vm

INIT = ("wrmsr APIC_BASE {base:#x}", "wrmsr SVR 0x1ff", "wrmsr TPR 0x10", "sti")
WAIT = "spin 300000"  # after INIT and after SIPI: longer than a vCPU polls at most, as 10 ms of a real guest are
XAPIC_INIT = ("mmio_write 0xfee000f0 0x1ff", "mmio_write 0xfee00080 0x10", "sti")


def boot_guest(vm: Vm) -> None:
    """Leaves no trace, and all clocks at the same time."""
    x2apic = vm.machine.kvm.x2apic_cpuid
    for vcpu in reversed(vm.vcpus):
        base = vcpu.lapic.apic_base | 1 << 10
        lines = [line.format(base=base) for line in (INIT if x2apic else XAPIC_INIT)]
        if vcpu.id == 0 and len(vm.vcpus) > 1:
            send = ("wrmsr ICR {}",) if x2apic else ("mmio_write 0xfee00300 {}",)
            lines += [s.format(icr) for icr in ("0xc4500", "0xc4608") for s in (*send, WAIT)]
        vm.execute(vcpu.id, tuple(lines))
    recorded, vm.trace.on = vm.trace.on, False
    vm.run()
    vm.trace.on = recorded
    latest = max(cpu.now for cpu in vm.machine.host.cpus)
    for cpu in vm.machine.host.cpus:
        cpu.now = latest
    vm.machine.now = latest
    vm.trace.clear(latest)
