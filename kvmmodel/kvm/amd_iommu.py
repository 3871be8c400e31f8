"""The IOMMU's driver, as far as KVM uses it: remapping entries in guest mode, and the log of the guests' APICs.

drivers/iommu/amd/iommu.c, read in 7.3.4; up to 6.12 the same under other parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kvmmodel.events import IommuMode
from kvmmodel.kvm.host_irqs import post_irq
from kvmmodel.kvm.host_types import DelayedWork, HostKernel, trace
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.workqueue import __irq_wake_thread
from kvmmodel.silicon.iommu import Iommu, Irte, words

FILE = "drivers/iommu/amd/iommu.c"


@dataclass(slots=True)
class AmdIrData:
    """struct amd_ir_data: an entry, and what it has to hold in guest mode.

    ``irq``: the host's number of the interrupt. ``cpu``, ``vector``: where the host takes it while it is remapped.
    """

    host: HostKernel
    irq: int
    cpu: int
    vector: int
    entry: Irte
    ga_root_ptr: int = 0
    ga_vector: int = 0
    ga_tag: int = 0


@dataclass(frozen=True, slots=True)
class PiData:
    """struct amd_iommu_pi_data: what KVM wants an entry to be. ``cpu`` None: the vCPU does not run."""

    ga_tag: int
    vector: int
    vapic_addr: int
    is_guest_mode: bool
    cpu: int | None
    ga_log_intr: bool


def remapped(cpu: int, vector: int) -> Irte:
    """An entry that interrupts the host."""
    return Irte(destination=cpu, vector=vector)


def can_post(host: HostKernel) -> bool:
    """IRQ_POSTING_CAP: the IOMMU has guest mode, and the host did not switch it off (amd_iommu_intr=legacy)."""
    return host.iommu == "vapic"


def _run_on(entry: Irte, cpu: int | None, ga_log_intr: bool, older: bool) -> None:
    entry.is_run = cpu is not None
    if cpu is not None:
        entry.destination = cpu
    entry.ga_log_intr = ga_log_intr if cpu is None or older else False


def _written(data: AmdIrData) -> None:
    entry = data.entry
    mode = "posted" if entry.guest_mode else "remapped"
    trace(data.host, IommuMode, data.irq, mode, entry.is_run, entry.ga_log_intr, *words(entry))


@kernel(FILE)
def irq_remapping_activate(data: AmdIrData) -> None:
    """The host's driver has requested the interrupt: until somebody says otherwise it comes to the host."""
    if data.host.iommu is not None:
        _written(data)


@kernel(FILE)
def amd_iommu_update_ga(data: AmdIrData, cpu: int | None, ga_log_intr: bool) -> None:
    """Where the vCPU runs now. Nothing while the entry interrupts the host."""
    if data.entry.guest_mode:
        _run_on(data.entry, cpu, ga_log_intr, not data.host.has("ga_log_intr_when_blocking"))
        _written(data)


@kernel(FILE)
def amd_iommu_activate_guest_mode(data: AmdIrData, cpu: int | None, ga_log_intr: bool) -> None:
    """Nothing is left of the old entry, nor of its core."""
    data.entry = Irte(True, vector=data.ga_vector, ga_tag=data.ga_tag, ga_root_ptr=data.ga_root_ptr)
    _run_on(data.entry, cpu, ga_log_intr, not data.host.has("ga_log_intr_when_blocking"))
    _written(data)


@kernel(FILE)
def amd_iommu_deactivate_guest_mode(data: AmdIrData) -> None:
    """The device interrupts the host again, which passes it on."""
    if data.entry.guest_mode:
        data.entry = remapped(data.cpu, data.vector)
        _written(data)


@kernel("kernel/irq/manage.c")
def irq_set_vcpu_affinity(data: AmdIrData, pi: PiData | None) -> int:
    return amd_ir_set_vcpu_affinity(data, pi)


@kernel(FILE)
def amd_ir_set_vcpu_affinity(data: AmdIrData, pi: PiData | None) -> int:
    """None: post to nobody."""
    if pi is None:
        amd_iommu_deactivate_guest_mode(data)
        return 0
    data.ga_root_ptr, data.ga_vector, data.ga_tag = pi.vapic_addr, pi.vector, pi.ga_tag
    if pi.is_guest_mode:
        amd_iommu_activate_guest_mode(data, pi.cpu, pi.ga_log_intr)
    else:
        amd_iommu_deactivate_guest_mode(data)
    return 0


GA_IRQ = "AMD-Vi0-GA"  # as /proc/interrupts calls it, where the log has an interrupt of its own


@dataclass(slots=True)
class GaLog:
    """The driver's side of the log: its interrupt's thread, and who is told of each entry."""

    host: HostKernel
    iommu: Iommu
    notify: Callable[[int], None]
    thread: DelayedWork


def set_up_ga_log(host: HostKernel, iommu: Iommu, notify: Callable[[int], None]) -> GaLog:
    """amd_iommu_register_ga_log_notifier, and the interrupt. Its handler only wakes a thread."""
    log = GaLog(host, iommu, notify, DelayedWork(lambda: amd_iommu_int_thread_galog(log), worker=f"irq/25-{GA_IRQ}"))
    host.device_irqs[GA_IRQ] = lambda: __irq_wake_thread(host, log.thread)
    return log


@kernel(FILE, was={"5.10": "amd_iommu_int_thread", "6.12": "amd_iommu_int_thread_galog"})
def amd_iommu_int_thread_galog(log: GaLog) -> None:
    """Up to 6.1, one thread reads all of the IOMMU's logs. 6.6 was not read."""
    amd_iommu_handle_irq(log)


@kernel(FILE, since="6.12")
def amd_iommu_handle_irq(log: GaLog) -> None:
    iommu_poll_ga_log(log)


@kernel(FILE)
def iommu_poll_ga_log(log: GaLog) -> None:
    """Each entry, from the oldest on, goes to KVM."""
    while log.iommu.log:
        log.notify(log.iommu.log.pop(0))


def interrupt_cpu(host: HostKernel, cpu: int, name: str) -> None:
    """A remapped interrupt on its way to a core; ``name`` finds its handler in host_irqs."""
    target = next(c for c in host.cpus if c.id == cpu)
    post_irq(host, target, name, host.current.now + host.costs["ipi"])
