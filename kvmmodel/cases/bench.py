"""A VM on the bench: each vCPU stands between an exit and the next entry, and goes one half of the loop at a time.

A guest's access is the exit half: the processor leaves the guest and KVM handles the exit. ``take`` is the entry half:
KVM decides what to inject, the processor takes it and leaves again. Nothing costs time; only ``advance`` makes it pass.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from kvmmodel.events import Event, IoapicMessage
from kvmmodel.guest.cpu import leave
from kvmmodel.kvm.apicv import kvm_vcpu_update_apicv
from kvmmodel.kvm.eoi_scan import vcpu_scan_ioapic
from kvmmodel.kvm.host_irqs import take_irqs
from kvmmodel.kvm.lapic.registers import apic_has_pending_timer
from kvmmodel.kvm.requests import KVM_REQ_APICV_UPDATE, KVM_REQ_SCAN_IOAPIC, kvm_check_request
from kvmmodel.kvm.sched import cpu_of, vcpu_load, vcpu_put
from kvmmodel.kvm.svm.run import svm_exit_handlers_fastpath, svm_handle_exit
from kvmmodel.kvm.types import KVM_MP_STATE_RUNNABLE, QueuedException
from kvmmodel.kvm.x86.run import kvm_inject_pending_timer_irqs
from kvmmodel.machine.host import Host
from kvmmodel.machine.vcpu import Vcpu
from kvmmodel.machine.vm import Vm
from kvmmodel.silicon import apic as hw
from kvmmodel.silicon.vmcb import Vmcb

CPU = "zen4"
SPIV_ENABLED = 0x1FF
GIVEN = ("cpus", "ids", "mode", "sw_enabled", "bus_ns", "x2apic_cpuid", "x2apic_format", "maxphyaddr", "avic")


class NotInModel(Exception):
    """A case asks for something that the model does not have yet."""


@dataclass(slots=True)
class Bench:
    """A VM, and what the checkpoints ask about. ``events``, ``result``, ``gp``, ``taken``: of the present step."""

    vm: Vm
    events: list[Event] = field(default_factory=list)
    result: Any = None
    gp: bool = False
    taken: int | None = None
    taken_nmis: int = 0
    taken_at: str | None = None  # L1 or L2
    fired: Counter[int] = field(default_factory=Counter)  # IOAPIC pin -> messages
    handlers: dict[tuple[int, int], list[list[dict[str, Any]]]] = field(default_factory=dict)
    handled: list[list[int]] = field(default_factory=list)
    software: list[list[int]] = field(default_factory=list)  # INT n that wait for guest.run
    resampled: bool = False
    exits: int = 0  # that the guest caused; not those by which a step gets the vCPU out of the guest again
    if_of_l2: dict[int, bool] = field(default_factory=dict)  # vCPU -> IF as a step set it while L2 was there
    vmcb12: dict[int, Vmcb] = field(default_factory=dict)  # the VMCB that L1 on a vCPU ran last

    def new_step(self) -> None:
        self.events.clear()
        self.result, self.gp, self.taken, self.taken_nmis, self.taken_at = None, False, None, 0, None


@cache
def _host(kernel: str, avic: bool) -> Host:
    """On it, nothing that the host or the guest does takes time."""
    host = Host(CPU, kernel, avic=avic)
    host.costs = dict.fromkeys(host.costs, 0)
    return host


def build(given: dict[str, Any], kernel: str) -> Bench:
    """The initial state: just reset, but software-enabled, IF set, every vCPU runnable. ``given`` says otherwise."""
    for name, value in given.items():
        if name not in GIVEN and value:
            raise NotInModel(name)
    ids = given.get("ids")
    count = given.get("cpus", len(ids) if ids else 1)
    vm = _host(kernel, bool(given.get("avic"))).create_vm(
        count,
        given.get("x2apic_cpuid", True),
        ids=ids,
        bus_cycle_ns=given.get("bus_ns", 1),
        maxphyaddr=given.get("maxphyaddr", 48),
        trace=False,
    )
    if given.get("x2apic_format"):
        vm.enable_x2apic_api(1)
    vm.machine.host.sink = None
    for vcpu in vm.vcpus:
        vcpu.set_mp_state(KVM_MP_STATE_RUNNABLE)
        if given.get("sw_enabled", True):
            write_page(vcpu, hw.APIC_SPIV, SPIV_ENABLED)
        if given.get("mode") == "x2apic":
            vcpu.set_msr(hw.MSR_IA32_APICBASE, vcpu.get_msr(hw.MSR_IA32_APICBASE) | hw.X2APIC_ENABLE)
        vcpu.inside.vmcb.rflags_if = True
    bench = Bench(vm, handled=[[] for _ in vm.vcpus], software=[[] for _ in vm.vcpus])

    def listen(event: Event) -> None:
        bench.events.append(event)
        if isinstance(event, IoapicMessage):
            bench.fired[event.pin] += 1

    for vcpu in vm.vcpus:
        with on_cpu(bench, vcpu):
            catch_up(vcpu)
    vm.machine.host.sink = listen
    return bench


def write_page(vcpu: Vcpu, register: int, value: int) -> None:
    """KVM_SET_LAPIC of the present state with one register changed."""
    page = bytearray(vcpu.get_lapic())
    struct.pack_into("<I", page, register, value)
    vcpu.set_lapic(bytes(page))


@contextmanager
def on_cpu(bench: Bench, vcpu: Vcpu) -> Iterator[None]:
    """The vCPU's own thread is what runs."""
    host = bench.vm.machine.host
    before, host.current = host.current, cpu_of(host, vcpu.kvm_vcpu.task.cpu)
    vcpu_load(vcpu.kvm_vcpu)
    try:
        yield
    finally:
        vcpu_put(vcpu.kvm_vcpu)
        host.current = before


def catch_up(vcpu: Vcpu) -> None:
    """What an entry does first: the guest executes, so what the IOAPIC has to hear of, and AVIC, are up to date."""
    kvm_vcpu = vcpu.kvm_vcpu
    if kvm_check_request(KVM_REQ_SCAN_IOAPIC, kvm_vcpu):
        vcpu_scan_ioapic(kvm_vcpu)
    if kvm_check_request(KVM_REQ_APICV_UPDATE, kvm_vcpu):
        for _ in kvm_vcpu_update_apicv(kvm_vcpu):  # its thread has nothing to sleep for: there is x2AVIC
            pass


def exit_half(bench: Bench, vcpu: Vcpu, code: int, info: int = 0, info2: int = 0) -> bool:
    """The guest's instruction leaves the guest, and KVM handles it. False: it takes a #GP."""
    kvm_vcpu = vcpu.kvm_vcpu
    bench.exits += 1
    with on_cpu(bench, vcpu):
        catch_up(vcpu)
        leave(vcpu.inside, code, info, info2)
        svm_handle_exit(kvm_vcpu, svm_exit_handlers_fastpath(kvm_vcpu))
    switch(bench, vcpu)
    vcpu.inside.regs.retired = False
    fault = kvm_vcpu.exception.pending
    kvm_vcpu.exception = QueuedException()
    bench.gp = bench.gp or fault
    return not fault


def switch(bench: Bench, vcpu: Vcpu) -> None:
    """The processor goes on with the VMCB that KVM gives it: L1's, or L2's.

    An exit gives L1 its own IF back, that of VMRUN. If a step set IF since, L1 goes on with that: what L1 itself does
    to its IF around VMRUN is not in the case, which has one IF.
    """
    vmcb = vcpu.kvm_vcpu.vmcb
    if vcpu.inside.vmcb is not vmcb:
        if not vcpu.kvm_vcpu.guest_mode:
            vmcb.rflags_if = bench.if_of_l2.pop(vcpu.id, vmcb.rflags_if)
        vcpu.inside.vmcb = vmcb


def advance(bench: Bench, ns: int) -> None:
    """Time passes. A timer that expires is delivered to its local APIC, if its LVT entry allows."""
    machine = bench.vm.machine
    host, end = machine.host, now(bench) + ns
    while True:
        due = [(t.expires, t.cpu) for t in host.timers if t.expires is not None and t.expires <= end]
        if not due:
            break
        at, cpu = min(due)
        _set_clock(bench, max(at, now(bench)))
        before, host.current = host.current, cpu_of(host, cpu)
        take_irqs(host)
        host.current = before
        _deliver_timers(bench)
    _set_clock(bench, end)
    _deliver_timers(bench)


def now(bench: Bench) -> int:
    machine = bench.vm.machine
    return max(machine.now, *(cpu.now for cpu in machine.host.cpus))


def _set_clock(bench: Bench, at: int) -> None:
    bench.vm.machine.now = at
    for cpu in bench.vm.machine.host.cpus:
        cpu.now = at


def _deliver_timers(bench: Bench) -> None:
    for vcpu in bench.vm.vcpus:
        deliver_timer(bench, vcpu)


def deliver_timer(bench: Bench, vcpu: Vcpu) -> None:
    """What vcpu_run does between an exit and the next entry."""
    if apic_has_pending_timer(vcpu.kvm_vcpu):
        with on_cpu(bench, vcpu):
            kvm_inject_pending_timer_irqs(vcpu.kvm_vcpu)
