"""A VM: vCPUs on threads, threads on physical CPUs, and userspace beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from kvmmodel.events import Event
from kvmmodel.guest.cpu import Code, GuestCpu, Level
from kvmmodel.guest.program import BUILT_IN_BODIES, World, handler, parse, program, smi_handler
from kvmmodel.kvm import eventfd, ioctl, mmu_notifier
from kvmmodel.kvm.i8259 import STATE as PIC_STATE
from kvmmodel.kvm.ioapic import IOAPIC_NUM_PINS
from kvmmodel.kvm.irqchip import Route
from kvmmodel.kvm.sched import cpu_of, resched_curr
from kvmmodel.kvm.types import Cpu, Kvm, KvmVcpu, Task
from kvmmodel.kvm.x86.hypercall import PV_FEATURES
from kvmmodel.machine.loop import Machine, Thread, prefetch, run, start
from kvmmodel.machine.record import Trace
from kvmmodel.machine.vcpu import Vcpu

if TYPE_CHECKING:
    from kvmmodel.machine.host import Host

T = TypeVar("T")
LIMIT_NS = 100_000_000
PIC_STATE_SIZE = len(PIC_STATE)
BREAKABLE = {
    "no-request", "no-kick", "no-window", "no-cr8-intercept", "no-timer-request", "no-timer-kick", "no-unhalt"
}  # fmt: skip
BOOT_INIT = ("wrmsr APIC_BASE {base:#x}", "wrmsr SVR 0x1ff", "wrmsr TPR 0x10", "sti")
BOOT_WAIT = "spin 300000"  # after INIT and after SIPI: longer than a vCPU polls at most, as 10 ms of a real guest are
BOOT_XAPIC = ("mmio_write 0xfee000f0 0x1ff", "mmio_write 0xfee00080 0x10", "sti")


class Vm:
    """A virtual machine.

    ``pcpus``: the physical CPU of each vCPU's thread, by default one each; userspace's own thread gets one more.
    ``ids``: the vcpu_id of each, by default 0, 1, 2 ... ``bus_cycle_ns``: KVM_CAP_X86_APIC_BUS_CYCLES_NS.
    ``maxphyaddr``: CPUID's width of a guest-physical address. ``smm``: KVM was built with CONFIG_KVM_SMM.
    ``irqchip``: only "kernel" in this version. ``trace``: whether events are recorded; ``stacks``: with kernel stacks.
    ``broken``: rules to remove, to see what they are for. "no-request", "no-kick": svm_complete_interrupt_delivery does
    not make it, or do it. "no-window": svm_enable_irq_window does nothing. "no-cr8-intercept": CR8 writes never exit.
    "no-timer-request", "no-timer-kick": apic_timer_expired does not make it, or do it. "no-unhalt": a PV kick does not
    set pv_unhalted. ``pv_features``: KVM_CAP_ENFORCE_PV_FEATURE_CPUID with these in CPUID, of PV_UNHALT, PV_SEND_IPI,
    PV_SCHED_YIELD; None: KVM runs the hypercalls of all.
    """

    def __init__(
        self,
        host: Host,
        vcpus: int = 2,
        *,
        x2apic: bool = True,
        boot: bool = False,
        irqchip: str | None = "kernel",
        ids: Sequence[int] | None = None,
        bus_cycle_ns: int = 1,
        maxphyaddr: int = 48,
        smm: bool = True,
        pv_features: Sequence[str] | None = None,
        pcpus: list[int] | None = None,
        trace: bool = True,
        stacks: bool = True,
        broken: tuple[str, ...] = (),
    ) -> None:
        if irqchip != "kernel":
            raise ValueError(f"irqchip={irqchip!r}: this version models the full in-kernel irqchip, pass 'kernel'")
        if unknown := set(broken) - BREAKABLE:
            raise ValueError(f"cannot break {', '.join(sorted(unknown))}: expected {', '.join(sorted(BREAKABLE))}")
        if unknown := set(pv_features or ()) - set(PV_FEATURES):
            raise ValueError(f"no hypercall needs {', '.join(sorted(unknown))}: expected {', '.join(PV_FEATURES)}")
        pins = list(pcpus) if pcpus is not None else list(range(vcpus))
        if vcpus < 1 or len(pins) != vcpus:
            raise ValueError(f"{vcpus} vCPUs need {max(vcpus, 1)} entries in pcpus, got {len(pins)}")
        idents = list(ids) if ids is not None else list(range(vcpus))
        if len(set(idents)) != vcpus:
            raise ValueError(f"{vcpus} vCPUs need as many different ids, got {idents}")
        self.host = host
        self.trace = Trace(on=trace, stacks=stacks)
        self.world = World(bodies=dict(BUILT_IN_BODIES))
        kernel = host.start([*sorted(set(pins)), max(pins) + 1])
        kvm = Kvm(kernel, x2apic, bus_cycle_ns=bus_cycle_ns, maxphyaddr=maxphyaddr, smm=smm, broken=frozenset(broken))
        kvm.pv_features = None if pv_features is None else frozenset(pv_features)
        self.machine = Machine(kernel, kvm, self.trace, on_exit=self._on_exit)
        self.user_exits: list[Callable[[KvmVcpu], None]] = []
        kernel.sink = self._sink
        self._userspace = self._thread("vmm", kernel.cpus[-1].id)
        self._powered = False
        ioctl.create_vm(kvm)
        self.vcpus = [self._create_vcpu(i, pin) for i, pin in zip(idents, pins, strict=True)]
        if boot:
            self._boot()

    def _sink(self, event: Event) -> None:
        self.trace.take(self.machine.host, self.machine.kvm, event)

    def _thread(self, name: str, cpu: int) -> Thread:
        thread = Thread(Task(name, cpu, state="blocked", interruptible=True))
        self.machine.threads[name] = thread
        return thread

    def _create_vcpu(self, ident: int, pin: int) -> Vcpu:
        thread = self._thread(f"vcpu{ident}", pin)
        kvm_vcpu = ioctl.create_vcpu(self.machine.kvm, thread.task, ident)
        ioctl.set_sregs(kvm_vcpu, 0)
        host = self.machine.host
        inside = GuestCpu(
            ident,
            kvm_vcpu.vmcb,
            kvm_vcpu.regs,
            self.machine.kvm.memory,
            bool(host.params["nrips"]),
            lambda guest, vector: handler(guest, self.world, vector),
            self._sink,
            lambda: host.current.now,
            equal_priority_wins="virq_at_equal_priority" in host.features,
        )
        inside.smi_handler = lambda: smi_handler(inside, self.world)
        self.world.guests.append(inside)
        thread.vcpu, thread.guest = kvm_vcpu, inside
        return Vcpu(self, kvm_vcpu, inside)

    @property
    def inhibits(self) -> frozenset[str]:
        """The reasons why APICv is inhibited for the whole VM."""
        return frozenset(self.machine.kvm.inhibits)

    @property
    def dmesg(self) -> list[str]:
        """What KVM printed because of this VM."""
        return list(self.machine.kvm.dmesg)

    def enable_x2apic_api(self, flags: int) -> None:
        """KVM_ENABLE_CAP of KVM_CAP_X2APIC_API. Bit 0: 32-bit IDs. Bit 1: no broadcast quirk."""
        if flags & ~3:
            raise ValueError(f"x2apic_api: flags {flags:#x}, this version has bits 0 and 1")
        kvm = self.machine.kvm
        kvm.x2apic_format = kvm.x2apic_format or flags & 1 != 0
        kvm.disable_broadcast_quirk = kvm.disable_broadcast_quirk or flags & 2 != 0

    def power_on(self) -> None:
        """Userspace calls KVM_RUN on every vCPU; called by whatever runs the VM."""
        if not self._powered:
            self._powered = True
            for vcpu in self.vcpus:
                start(self.machine, vcpu.kvm_vcpu.task)

    def run(self, until: type[Event] | Callable[[], bool] | None = None, limit_ns: int = LIMIT_NS) -> bool:
        """Run until an event of a type, until a callable is true, or (None) until nothing is left to happen.

        Returns whether that was reached within ``limit_ns`` of virtual time.
        """
        self.power_on()
        if until is None:
            stop = self.machine.now + limit_ns
            run(self.machine, lambda: False, limit_ns)
            return self.machine.now <= stop
        if not isinstance(until, type):
            return run(self.machine, until, limit_ns)
        kind, seen = until, list[Event]()

        def listen(event: Event) -> None:
            if isinstance(event, kind):
                seen.append(event)

        self.trace.listeners.append(listen)
        try:
            return run(self.machine, lambda: bool(seen), limit_ns)
        finally:
            self.trace.listeners.remove(listen)

    def signal_msi(self, address: int, data: int) -> int:
        """KVM_SIGNAL_MSI: how many vCPUs accepted, 0: dropped, -1: nobody matched, -22: malformed address."""
        return self._ioctl(lambda: ioctl.signal_msi(self.machine.kvm, address, data))

    def irq_line(self, gsi: int, level: bool) -> int:
        """KVM_IRQ_LINE_STATUS, the sum over the line's routes; -1: all of them refuse, or there is none.

        The IOAPIC gives how many APICs accepted, an 8259 gives 1. Both: 0 coalesced, 1 the line falls, -1 masked.
        """
        return self._ioctl(lambda: ioctl.irq_line(self.machine.kvm, gsi, bool(level)))

    def set_gsi_routing(self, routes: dict[int, list[Route]]) -> int:
        """KVM_SET_GSI_ROUTING: replaces the whole table. Routes are kvm.irqchip.PicRoute, IoapicRoute, MsiRoute.

        0, or -22 where KVM refuses an entry: then the table stays as it is.
        """
        return self._ioctl(lambda: ioctl.set_gsi_routing(self.machine.kvm, routes))

    def irqfd_resample(self, gsi: int, signal: Callable[[], None]) -> None:
        """KVM_IRQFD with a resample eventfd: the line stays up until its EOI; ``signal`` is that eventfd's."""
        eventfd.assign_resampler(self.machine.kvm, gsi, signal)

    def eventfd_write(self, gsi: int) -> None:
        """Somebody writes to the eventfd that is bound to the GSI by KVM_IRQFD."""
        self._ioctl(lambda: eventfd.write(self.machine.kvm, gsi))

    def mprotect(self) -> None:
        """The VMM changes the protection of some memory of its own, and KVM's MMU notifier hears of it."""
        self._ioctl(lambda: mmu_notifier.mprotect(self.machine.kvm))

    def get_ioapic(self) -> tuple[int, tuple[int, ...]]:
        """KVM_GET_IRQCHIP of the IOAPIC: the pending lines as a bitmap, and its 24 redirection entries."""
        return ioctl.get_ioapic(self.machine.kvm)

    def set_ioapic(self, irr: int, redirtbl: tuple[int, ...]) -> None:
        """KVM_SET_IRQCHIP of the IOAPIC. ValueError unless there are 24 entries."""
        if len(redirtbl) != IOAPIC_NUM_PINS:
            raise ValueError(f"an IOAPIC has {IOAPIC_NUM_PINS} entries, not {len(redirtbl)}")
        self._ioctl(lambda: ioctl.set_ioapic(self.machine.kvm, irr, tuple(redirtbl)))

    def get_pic(self, chip: int) -> bytes:
        """KVM_GET_IRQCHIP of an 8259, 0 the primary, 1 the secondary: the 16 bytes of struct kvm_pic_state."""
        _check_pic(chip)
        return ioctl.get_pic(self.machine.kvm, chip)

    def set_pic(self, chip: int, state: bytes) -> None:
        """KVM_SET_IRQCHIP of an 8259. KVM takes any 16 bytes. ValueError for another number of them."""
        _check_pic(chip)
        if len(state) != PIC_STATE_SIZE:
            raise ValueError(f"the state of an 8259 is {PIC_STATE_SIZE} bytes, not {len(state)}")
        self._ioctl(lambda: ioctl.set_pic(self.machine.kvm, chip, state))

    def _ioctl(self, call: Callable[[], T]) -> T:
        """A call by the thread that runs, if one does; else by userspace's own, on its CPU."""
        host = self.machine.host
        if self.machine.held:
            return call()
        before, host.current = host.current, self.userspace_cpu()
        try:
            return call()
        finally:
            host.current = before

    def catch_up(self) -> None:
        """Bring the clock of the CPU that acts up to now: between two runs it has stood still."""
        current = self.machine.host.current
        current.now = max(current.now, self.machine.now)

    def userspace_cpu(self) -> Cpu:
        """The physical CPU that userspace's own thread runs on, its clock brought up to now."""
        cpu = self.machine.host.cpus[-1]
        cpu.now = max(cpu.now, self.machine.now, self.machine.host.current.now)
        return cpu

    def later(self, call: Callable[[], object]) -> None:
        """Have userspace's own thread make a call, as soon as its CPU gets to it."""
        thread = self._userspace
        thread.calls.append(call)
        if thread.task.state == "blocked":
            thread.task.interruptible = False
            start(self.machine, thread.task)

    def burn(self, cpu: int, ns: int) -> None:
        """Let another thread of the host want a physical CPU, and keep it for a while once it has it."""
        known = [c.id for c in self.machine.host.cpus]
        if cpu not in known:
            raise ValueError(f"burn: there is no physical CPU {cpu}, expected one of {', '.join(map(str, known))}")
        name = f"host-task-{cpu}"
        thread = self.machine.threads.get(name) or self._thread(name, cpu)
        thread.burn += ns
        if thread.task.state == "blocked":
            thread.task.interruptible = False
            start(self.machine, thread.task)
            resched_curr(self.machine.host, cpu_of(self.machine.host, cpu))

    def load(self, vcpu: int, steps: Code) -> None:
        """Give a vCPU code to execute, on top of what it executes now."""
        inside = self.vcpus[vcpu].inside
        inside.levels.append(Level(steps))

    def execute(self, vcpu: int, lines: tuple[str, ...]) -> None:
        """Give a vCPU a program in the scenarios' language."""
        inside = self.vcpus[vcpu].inside
        self.load(vcpu, program(inside, self.world, tuple(parse(line) for line in lines)))
        prefetch(inside)

    def _boot(self) -> None:
        """What a guest OS does: APs up by INIT and SIPI, APICs enabled, interrupts on, then everybody idles."""
        x2apic = self.machine.kvm.x2apic_cpuid
        for number, vcpu in reversed(list(enumerate(self.vcpus))):
            base = vcpu.lapic.apic_base | 1 << 10
            lines = [line.format(base=base) for line in (BOOT_INIT if x2apic else BOOT_XAPIC)]
            if number == 0 and len(self.vcpus) > 1:
                send = ("wrmsr ICR {}",) if x2apic else ("mmio_write 0xfee00300 {}",)
                lines += [s.format(icr) for icr in ("0xc4500", "0xc4608") for s in (*send, BOOT_WAIT)]
            self.execute(number, tuple(lines))
        recorded, self.trace.on = self.trace.on, False
        self.run()
        self.trace.on = recorded
        latest = max(cpu.now for cpu in self.machine.host.cpus)
        for cpu in self.machine.host.cpus:
            cpu.now = latest
        self.machine.now = latest
        self.trace.clear(latest)

    def _on_exit(self, vcpu: KvmVcpu) -> None:
        for call in self.user_exits:
            call(vcpu)


def _check_pic(chip: int) -> None:
    if chip not in (0, 1):
        raise ValueError(f"8259 {chip}: expected 0, the primary, or 1, the secondary")
