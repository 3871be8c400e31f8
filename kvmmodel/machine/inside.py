"""The inside of a new vCPU: the guest's CPU over the VMCB that KVM made, and the AVIC unit of its core."""

from __future__ import annotations

from collections.abc import Callable

from kvmmodel.events import Event
from kvmmodel.guest.cpu import GuestCpu
from kvmmodel.guest.program import World, handler, smi_handler
from kvmmodel.kvm.host_irqs import ring
from kvmmodel.kvm.sched import cpu_of
from kvmmodel.kvm.types import KvmVcpu
from kvmmodel.silicon.avic import AvicUnit


def inside_of(vcpu: KvmVcpu, world: World, emit: Callable[[Event], None]) -> GuestCpu:
    """Its handlers come from ``world``, its events go to ``emit``. On processors without AVIC it has no unit."""
    kvm, host = vcpu.kvm, vcpu.kvm.host
    inside = GuestCpu(
        vcpu.vcpu_id,
        vcpu.vmcb,
        vcpu.regs,
        kvm.memory,
        bool(host.params["nrips"]),
        lambda guest, vector: handler(guest, world, vector),
        emit,
        lambda: host.current.now,
        equal_priority_wins="virq_at_equal_priority" in host.features,
        apic_page_mapped=lambda: kvm.apic_page_mapped,
        x2avic_ext="x2avic_ext" in host.features,
    )
    if {"avic", "avic_hidden"} & host.features:
        inside.avic = AvicUnit(
            vcpu.vcpu_id,
            vcpu.vmcb,
            host.memory,
            emit,
            lambda cpu: ring(host, cpu_of(host, cpu)),
            host.open_points,
            "extlvt" in host.features,
        )
    inside.smi_handler = lambda: smi_handler(inside, world)
    world.guests.append(inside)
    return inside
