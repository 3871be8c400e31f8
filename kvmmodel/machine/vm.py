"""A VM: vCPUs on threads, threads on physical CPUs, and userspace beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from kvmmodel.events import Event
from kvmmodel.guest.cpu import Level
from kvmmodel.guest.insn import Code
from kvmmodel.guest.program import BUILT_IN_BODIES, World, parse, program
from kvmmodel.kvm import eventfd, ioctl, mmu_notifier, vcpu_ioctl
from kvmmodel.kvm.ack import KVM_IRQCHIP_IOAPIC
from kvmmodel.kvm.host_types import Cpu, Task
from kvmmodel.kvm.i8254 import STATE2_SIZE as PIT_STATE_SIZE
from kvmmodel.kvm.i8259 import STATE as PIC_STATE
from kvmmodel.kvm.ioapic_registers import IOAPIC_STATE_SIZE
from kvmmodel.kvm.irqchip import Route
from kvmmodel.kvm.sched import cpu_of, resched_curr
from kvmmodel.kvm.types import Kvm, KvmVcpu
from kvmmodel.machine.boot import boot_guest
from kvmmodel.machine.breakable import check_rules
from kvmmodel.machine.device import Device, assign_device
from kvmmodel.machine.inside import inside_of
from kvmmodel.machine.loop import Machine, Thread, prefetch, run, start
from kvmmodel.machine.record import Trace
from kvmmodel.machine.vcpu import Vcpu
from kvmmodel.machine.wanted import check
from kvmmodel.silicon.iommu import Iommu

if TYPE_CHECKING:
    from kvmmodel.machine.host import Host

T = TypeVar("T")
LIMIT_NS = 100_000_000
IRQCHIP_SIZES = {0: len(PIC_STATE), 1: len(PIC_STATE), KVM_IRQCHIP_IOAPIC: IOAPIC_STATE_SIZE}


class Vm:
    """A virtual machine; :meth:`kvmmodel.Host.create_vm` makes one. ``vcpus`` are its vCPUs, ``trace`` its events.

    ``pcpus``: the physical CPU of each vCPU's thread, by default one each; userspace's own thread gets one more.
    ``ids``: the vcpu_id of each, by default 0, 1, 2 ...

    ``bus_cycle_ns``: KVM_CAP_X86_APIC_BUS_CYCLES_NS.
    ``maxphyaddr``: CPUID's width of a guest-physical address. ``smm``: KVM was built with CONFIG_KVM_SMM.
    ``svm``: CPUID shows SVM to the guest. ``sev``: an encrypted guest, of which only the inhibit of AVIC is modelled.
    ``hyperv``: CPUID shows Hyper-V's interface; ``hyperv_synic``: that, and vCPUs have a SynIC (kvm/hyperv.py).

    ``irqchip``: "kernel", or "split", where userspace has the IOAPIC, of ``ioapic_pins`` pins, and the 8259s. ``pit``:
    KVM's PIT, None unless userspace creates one: as KVM does that ("reinject"), or then with KVM_REINJECT_CONTROL 0
    ("discard").

    ``trace``: whether events are recorded; ``stacks``: with kernel stacks. ``broken``: rules of
    machine/breakable.py that are left out. ``pv_features``: KVM_CAP_ENFORCE_PV_FEATURE_CPUID with
    these in CPUID, of PV_UNHALT, PV_SEND_IPI, PV_SCHED_YIELD; None: KVM runs the hypercalls of all.
    """

    def __init__(
        self,
        host: Host,
        vcpus: int = 2,
        *,
        x2apic: bool = True,
        boot: bool = False,
        irqchip: str | None = "kernel",
        ioapic_pins: int = 24,
        pit: str | None = None,
        ids: Sequence[int] | None = None,
        bus_cycle_ns: int = 1,
        maxphyaddr: int = 48,
        smm: bool = True,
        svm: bool = False,
        sev: bool = False,
        hyperv: bool = False,
        hyperv_synic: bool = False,
        pv_features: Sequence[str] | None = None,
        pcpus: list[int] | None = None,
        trace: bool = True,
        stacks: bool = True,
        broken: tuple[str, ...] = (),
    ) -> None:
        idents = list(ids) if ids is not None else list(range(vcpus))
        pins = list(pcpus) if pcpus is not None else list(range(vcpus))
        check(vcpus, irqchip, pit, idents, pins, broken, pv_features or ())
        self.host = host
        self.trace = Trace(on=trace, stacks=stacks)
        self.world = World(bodies=dict(BUILT_IN_BODIES))
        kernel = host.start([*sorted(set(pins)), max(pins) + 1])
        kvm = Kvm(
            kernel,
            x2apic,
            irqchip=irqchip,
            bus_cycle_ns=bus_cycle_ns,
            maxphyaddr=maxphyaddr,
            smm=smm,
            svm_cpuid=svm,
            sev=sev,
            hyperv=hyperv or hyperv_synic,
            hyperv_synic=hyperv_synic,
            pv_features=None if pv_features is None else frozenset(pv_features),
            broken=frozenset(broken),
        )
        self.machine = Machine(kernel, kvm, self.trace, on_exit=self._on_exit)
        self.user_exits: list[Callable[[KvmVcpu], None]] = []
        kernel.sink = self.take
        self.devices: dict[int, Device] = {}  # by GSI
        self.iommu: Iommu | None = None  # made with the first device
        self._userspace = self._thread("vmm", kernel.cpus[-1].id)
        self._powered = False
        ioctl.create_vm(kvm)
        if irqchip == "split":
            kvm.nr_reserved_ioapic_pins = ioapic_pins
        if pit:
            self.create_pit2()
        if pit == "discard":
            self.reinject_control(False)
        self.vcpus = [self._create_vcpu(i, pin) for i, pin in zip(idents, pins, strict=True)]
        if boot:
            boot_guest(self)

    def take(self, event: Event) -> None:
        """Record an event; whatever belongs to the VM reports to this."""
        self.trace.take(self.machine.host, self.machine.kvm, event)

    def _thread(self, name: str, cpu: int) -> Thread:
        thread = Thread(Task(name, cpu, state="blocked", interruptible=True))
        self.machine.threads[name] = thread
        return thread

    def _create_vcpu(self, ident: int, pin: int) -> Vcpu:
        thread = self._thread(f"vcpu{ident}", pin)
        kvm_vcpu = vcpu_ioctl.create_vcpu(self.machine.kvm, thread.task, ident)
        vcpu_ioctl.set_cpuid2(kvm_vcpu)
        if self.machine.kvm.hyperv_synic:
            vcpu_ioctl.enable_hyperv_synic(kvm_vcpu)
        vcpu_ioctl.set_sregs(kvm_vcpu, vcpu_ioctl.get_sregs(kvm_vcpu))
        vcpu_ioctl.set_regs(kvm_vcpu)
        inside = inside_of(kvm_vcpu, self.world, self.take)
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
        """KVM_ENABLE_CAP of KVM_CAP_X2APIC_API. Bit 0: 32-bit IDs. Bit 1: no broadcast quirk.

        Bits 2 and 3, where the release has them: a guest may suppress EOI broadcasts (split irqchip), or may not.
        ValueError where KVM returns EINVAL.
        """
        kvm = self.machine.kvm
        known = 15 if kvm.host.has("suppress_eoi_broadcast_cap") else 3
        if flags & ~known or flags & 12 == 12 or (flags & 4 and kvm.irqchip != "split"):
            raise ValueError(
                f"x2apic_api: KVM refuses flags {flags:#x}; this release has {known:#x}, 4 needs a split irqchip"
            )
        if flags & 12:
            kvm.suppress_eoi_broadcast = "enabled" if flags & 4 else "disabled"
        kvm.x2apic_format = kvm.x2apic_format or flags & 1 != 0
        kvm.disable_broadcast_quirk = kvm.disable_broadcast_quirk or flags & 2 != 0

    def leave_out(self, *rules: str) -> None:
        """From now on these rules of BREAKABLE are left out, too. ValueError for one that does not exist."""
        check_rules(rules)
        self.machine.kvm.broken |= set(rules)

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
        self._ioctl(lambda: ioctl.irqfd_resample(self.machine.kvm, gsi, signal))

    def eventfd_write(self, gsi: int) -> None:
        """Somebody writes to the eventfd that is bound to the GSI by KVM_IRQFD."""
        self._ioctl(lambda: eventfd.write(self.machine.kvm, gsi))

    def assign_device(self, gsi: int, cpu: int | None = None) -> Device:
        """Give the VM a device, by VFIO, whose MSI the guest has routed to a GSI: it signals that GSI's irqfd.

        ``cpu``: where the host takes its interrupt as long as nothing is posted, by default userspace's CPU.
        ValueError if the GSI has no MSI route, or a device already.
        """
        return assign_device(self, gsi, cpu, self._ioctl)

    def mprotect(self) -> None:
        """The VMM changes the protection of some memory of its own, and KVM's MMU notifier hears of it."""
        self._ioctl(lambda: mmu_notifier.mprotect(self.machine.kvm))

    def get_irqchip(self, chip: int) -> bytes:
        """KVM_GET_IRQCHIP. 0, 1: the primary, the secondary 8259, 16 bytes (struct kvm_pic_state).

        2: the IOAPIC, 216 bytes (struct kvm_ioapic_state). ValueError for others, and with a split irqchip (ENXIO).
        """
        self._irqchip_size(chip)
        return ioctl.get_irqchip(self.machine.kvm, chip)

    def set_irqchip(self, chip: int, state: bytes) -> None:
        """KVM_SET_IRQCHIP. KVM takes any bytes. ValueError for another number of them than get_irqchip gives."""
        size = self._irqchip_size(chip)
        if len(state) != size:
            raise ValueError(f"the state of irqchip {chip} is {size} bytes, not {len(state)}")
        self._ioctl(lambda: ioctl.set_irqchip(self.machine.kvm, chip, state))

    def _irqchip_size(self, chip: int) -> int:
        if self.machine.kvm.irqchip != "kernel":
            raise ValueError("with a split irqchip KVM has no IOAPIC and no 8259s")
        if chip not in IRQCHIP_SIZES:
            raise ValueError(f"irqchip {chip}: expected 0 or 1, an 8259, or 2, the IOAPIC")
        return IRQCHIP_SIZES[chip]

    def create_pit2(self) -> None:
        """KVM_CREATE_PIT2, with reinjection on. Its kernel thread runs on userspace's CPU."""
        kvm = self.machine.kvm
        if kvm.vpit is not None or kvm.irqchip != "kernel":
            raise ValueError("a PIT needs irqchip='kernel', and there is one at most")
        self._ioctl(lambda: ioctl.create_pit2(kvm, self._userspace.task.cpu))

    def get_pit2(self) -> bytes:
        """KVM_GET_PIT2: the 112 bytes of struct kvm_pit_state2. ValueError without a PIT (ENXIO)."""
        self._check_pit()
        return self._ioctl(lambda: ioctl.get_pit2(self.machine.kvm))

    def set_pit2(self, state: bytes) -> None:
        """KVM_SET_PIT2. KVM takes any 112 bytes."""
        self._check_pit()
        if len(state) != PIT_STATE_SIZE:
            raise ValueError(f"the state of the PIT is {PIT_STATE_SIZE} bytes, not {len(state)}")
        self._ioctl(lambda: ioctl.set_pit2(self.machine.kvm, state))

    def reinject_control(self, reinject: bool) -> None:
        """KVM_REINJECT_CONTROL: whether ticks of the PIT that the guest did not acknowledge in time come later."""
        self._check_pit()
        self._ioctl(lambda: ioctl.reinject_control(self.machine.kvm, bool(reinject)))

    def _check_pit(self) -> None:
        if self.machine.kvm.vpit is None:
            raise ValueError("this VM has no PIT: create it with pit='reinject' or 'discard'")

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
        """Let another thread of the host want a physical CPU, and keep it for ``ns`` of virtual time once it has it.

        ValueError for a CPU that the host has not.
        """
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

    def _on_exit(self, vcpu: KvmVcpu) -> None:
        for call in self.user_exits:
            call(vcpu)
