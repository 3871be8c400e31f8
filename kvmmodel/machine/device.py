"""A device given to a VM by VFIO: one MSI, its remapping entry, and the IOMMU that all devices of the VM share.

Not modelled: several vectors of a device, legacy INTx, taking a device away, and more than one IOMMU. On a host without
an IOMMU the device's message is the host's interrupt as it is (VFIO's unsafe no-IOMMU mode, recalled).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from kvmmodel.events import DeviceMsi
from kvmmodel.kvm.amd_iommu import GA_IRQ, AmdIrData, interrupt_cpu, remapped, set_up_ga_log
from kvmmodel.kvm.host_irqs import ring
from kvmmodel.kvm.host_types import Cpu, trace
from kvmmodel.kvm.irqchip import MsiRoute
from kvmmodel.kvm.sched import cpu_of
from kvmmodel.kvm.svm.avic.irte import avic_ga_log_notifier
from kvmmodel.kvm.vfio import Irqfd, irq_name, vfio_msi_set_vector_signal
from kvmmodel.machine.loop import schedule_hardware
from kvmmodel.silicon.iommu import Iommu, Irte, message

if TYPE_CHECKING:
    from kvmmodel.machine.vm import Vm

FIRST_IRQ, FIRST_VECTOR = 40, 0x22  # of the host's numbers, assumed
HARDWARE = -1  # the "CPU" of what no CPU does


class Device:
    """A device of a VM. ``irq`` is the host's number of its interrupt, ``cpu`` where the host takes it if it does."""

    def __init__(self, vm: Vm, irqfd: Irqfd, iommu: Iommu) -> None:
        self._vm, self._irqfd, self._iommu = vm, irqfd, iommu
        self.irq, self.cpu, self.gsi = irqfd.data.irq, irqfd.data.cpu, irqfd.gsi

    @property
    def irte(self) -> Irte | None:
        """A copy of the remapping entry as it is now, None without an IOMMU."""
        return replace(self._irqfd.data.entry) if self._vm.host.iommu is not None else None

    def interrupt(self) -> None:
        """The device sends its MSI, now: also in the middle of a run, whatever the CPUs do."""
        host = self._vm.machine.host
        now = host.current.now if self._vm.machine.held else max(self._vm.machine.now, host.current.now)
        self._send(now)

    def interrupt_soon(self) -> None:
        """The same once the CPU whose turn it is has come to an end of it: at VMRUN, schedule() or idle."""
        host, machine = self._vm.machine.host, self._vm.machine
        schedule_hardware(machine, host.current.now if machine.held else machine.now, self._send)

    def _send(self, now: int) -> None:
        host = self._vm.machine.host
        before, host.current = host.current, Cpu(HARDWARE, now)
        try:
            trace(host, DeviceMsi, self.irq, self.gsi)
            message(self._iommu, self._irqfd.data.entry)
        finally:
            host.current = before


def make_iommu(vm: Vm) -> Iommu:
    """The IOMMU, and its driver's part of KVM's bypass. The log's interrupt goes to userspace's CPU."""
    host, kvm = vm.machine.host, vm.machine.kvm
    log_cpu = host.cpus[-1].id

    def interrupt_host(irte: Irte) -> None:
        interrupt_cpu(host, irte.destination, irq_name(irte.vector - FIRST_VECTOR + FIRST_IRQ))

    iommu = Iommu(
        host.memory,
        vm.take,
        lambda cpu: ring(host, cpu_of(host, cpu)),
        interrupt_host,
        lambda: interrupt_cpu(host, log_cpu, GA_IRQ),
    )
    set_up_ga_log(host, iommu, partial(avic_ga_log_notifier, kvm))
    return iommu


def assign_device(vm: Vm, gsi: int, cpu: int | None, call: Callable[[Callable[[], None]], None]) -> Device:
    """Make it, and have userspace connect its interrupt with the GSI's irqfd, by ``call``. ValueError if it can't."""
    host, kvm = vm.machine.host, vm.machine.kvm
    routes = kvm.routing.get(gsi, [])
    if len(routes) != 1 or not isinstance(routes[0], MsiRoute):
        raise ValueError(f"assign_device: GSI {gsi} has no MSI route: give it one by set_gsi_routing first")
    if gsi in vm.devices:
        raise ValueError(f"assign_device: GSI {gsi} has a device already")
    known = [c.id for c in host.cpus]
    where = known[-1] if cpu is None else cpu
    if where not in known:
        raise ValueError(f"assign_device: no physical CPU {where}: expected one of {', '.join(map(str, known))}")
    if vm.iommu is None:
        vm.iommu = make_iommu(vm)
    number = len(vm.devices)
    vector = FIRST_VECTOR + number
    irqfd = Irqfd(kvm, gsi, AmdIrData(host, FIRST_IRQ + number, where, vector, remapped(where, vector)))
    vm.devices[gsi] = device = Device(vm, irqfd, vm.iommu)
    call(lambda: vfio_msi_set_vector_signal(irqfd))
    return device
