"""The model's side of a case: the same operations. What the kernel refuses as -errno is so here too."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache

from kvmmodel import Host, MsrError
from kvmmodel.guest.cpu import GuestCpu, Insn, Level
from kvmmodel.kvm import vcpu_ioctl
from kvmmodel.kvm.irqchip import IoapicRoute, MsiRoute, PicRoute, Route
from kvmmodel.kvm.lapic.priority import kvm_apic_has_interrupt
from kvmmodel.kvm.requests import KVM_REQ_EVENT, kvm_make_request
from kvmmodel.kvm.types import KvmVcpu
from kvmmodel.machine.loop import take_turn
from tests.oracle.fuzz.case import Case, Op, State, in_order
from tests.oracle.fuzz.kernel import READING, acknowledged, edited, words

EINVAL, ENXIO = 22, 6
MP_STATES = ("runnable", "uninitialized", "init_received", "halted", "sipi_received")
STEP_PORT = 0xE1
APIC_BASE, TSC_DEADLINE = 0x1B, 0x6E0
MANY_TURNS = 1000
NAMES = {"write": "mmio_write", "read": "mmio_read", "out": "outb", "in": "inb"}


@cache
def host() -> Host:
    """As the kernel that runs here; its vendor keeps the ICR as one register."""
    made = Host("zen4", "6.18", avic=False)
    made.kernel = replace(made.kernel, behaviours=made.kernel.behaviours - {"icr_split"})
    return made


class Model:
    def __init__(self, case: Case) -> None:
        self.case = case
        chips = {"irqchip": "split"} if case.split else {"irqchip": "kernel", "pit": "reinject" if case.pit else None}
        self.vm = host().create_vm(case.vcpus, trace=False, stacks=False, smm=False, **chips)
        self.machine = self.vm.machine
        self.machine.host.sink = None
        if case.api:
            self.vm.enable_x2apic_api(case.api)
        self.born = time.monotonic_ns()
        self.happened: list[object] = []  # in a step: vectors that the guest took, exits
        self.vm.user_exits.append(self._exited)
        self.queues: list[deque[Insn]] = [deque() for _ in self.vm.vcpus]
        for v, vcpu in enumerate(self.vm.vcpus):
            vcpu.inside.handler = self._handler
            vcpu.inside.levels.append(Level(self._program(v)))
        self.result = 0

    def _program(self, v: int) -> Iterator[Insn]:
        while True:
            insn = self.queues[v].popleft()
            got = yield insn
            if insn.show:
                self.result = got

    def _handler(self, guest: GuestCpu, vector: int) -> Iterator[Insn]:
        """It does nothing but return."""
        self.happened.append(vector)
        yield from ()

    def _exited(self, vcpu: KvmVcpu) -> None:
        self.happened.append(vcpu.exit)

    def state(self, watch: bool) -> State:
        self._catch_up()
        vcpus = self.vm.vcpus
        lapics = tuple(vcpu.get_lapic() for vcpu in vcpus)
        chips = () if self.case.split else tuple(self.vm.get_irqchip(i) for i in range(3))
        mp = tuple(MP_STATES.index(vcpu.get_mp_state()) for vcpu in vcpus) if watch else ()
        return State(lapics, chips, self.vm.get_pit2() if self.case.pit else b"", mp)

    def _catch_up(self) -> None:
        """Virtual time goes as real time does."""
        self.machine.now = max(self.machine.now, time.monotonic_ns() - self.born)

    def do(self, op: Op) -> object:
        self._catch_up()
        return getattr(self, "do_" + op[0])(*op[1:])

    def do_msi(self, address: int, data: int) -> int:
        return self.vm.signal_msi(address, data)

    def do_line(self, gsi: int, level: int) -> int:
        return self.vm.irq_line(gsi, bool(level))

    def do_routing(self, table: Sequence[Op]) -> int:
        return self.vm.set_gsi_routing({gsi: [_route(route) for route in routes] for gsi, *routes in table})

    def do_wrmsr(self, v: int, index: int, value: int) -> int:
        try:
            self.vm.vcpus[v].set_msr(index, value)
        except MsrError:
            return 0
        return 1

    def do_rdmsr(self, v: int, index: int) -> int | None:
        try:
            return self.vm.vcpus[v].get_msr(index)
        except MsrError:
            return None

    def do_lapic(self, v: int, changes: Sequence[tuple[int, int]]) -> int:
        return self._set_lapic(v, lambda page: words(page, changes))

    def _set_lapic(self, v: int, change: Callable[[bytes], bytes]) -> int:
        vcpu = self.vm.vcpus[v]
        try:
            vcpu.set_lapic(change(vcpu.get_lapic()))
        except ValueError:
            return -EINVAL
        return 0

    def do_ack(self, v: int) -> int:
        return self._set_lapic(v, acknowledged)

    def do_pic(self, chip: int, state: str) -> int:
        return self._set_chip(chip, bytes.fromhex(state))

    def do_ioapic(self, changes: Sequence[tuple[int | str, int]]) -> int:
        state = bytes(216) if self.case.split else self.vm.get_irqchip(2)
        return self._set_chip(2, edited(state, changes))

    def _set_chip(self, chip: int, state: bytes) -> int:
        try:
            self.vm.set_irqchip(chip, state)
        except ValueError:
            return -ENXIO if self.case.split else -EINVAL
        return 0

    def do_mp(self, v: int, state: int) -> int:
        try:
            self.vm.vcpus[v].set_mp_state(MP_STATES[state] if state < len(MP_STATES) else f"state {state}")
        except ValueError:
            return -EINVAL
        return 0

    def do_nmi(self, v: int) -> int:
        self.vm.vcpus[v].nmi()
        return 0

    def do_interrupt(self, v: int, vector: int) -> int:
        return self.vm.vcpus[v].interrupt(vector)

    def do_pit(self, state: str) -> int:
        self.vm.set_pit2(bytes.fromhex(state))
        return 0

    def do_reinject(self, reinject: int) -> int:
        self.vm.reinject_control(bool(reinject))
        return 0

    def do_api(self, flags: int) -> int:
        try:
            self.vm.enable_x2apic_api(flags)
        except ValueError:
            return -EINVAL
        return 0

    def do_settled(self, v: int, *instruction: object) -> tuple[int, tuple[object, ...]]:
        """A guest's instruction, with exits around it that KVM handles itself."""
        return self.do_guest(v, *instruction, settled=True)

    def do_guest(self, v: int, *instruction: object, settled: bool = False) -> tuple[int, tuple[object, ...]]:
        vcpu = self.vm.vcpus[v]
        if vcpu.get_mp_state() != "runnable":
            vcpu.set_mp_state("runnable")
        vcpu_ioctl.set_sregs(vcpu.kvm_vcpu, (vcpu.lapic.regs.get(0x80, 0) & 0xF0) >> 4)
        kvm_make_request(KVM_REQ_EVENT, vcpu.kvm_vcpu)  # KVM_SET_REGS, the rest of which the model has no use for
        vcpu.kvm_vcpu.vmcb.rflags_if = False
        around = [Insn("rdmsr", APIC_BASE, show=False)] if settled else []
        value, happened = self._run(v, [*around, *_insns(instruction), *around, Insn("outb", STEP_PORT, 0)])
        return (value if instruction[0] in READING else 0), happened

    def _run(self, v: int, insns: list[Insn]) -> tuple[int, tuple[object, ...]]:
        """KVM_RUN of this one vCPU, until the last of the instructions exits."""
        vcpu, cpu = self.vm.vcpus[v], self.machine.host.cpus[v]
        self.queues[v].extend(insns)
        self.happened.clear()
        faults, self.result = vcpu.inside.faults, 0
        cpu.now, cpu.current, vcpu.kvm_vcpu.task.state = max(cpu.now, self.machine.now), vcpu.kvm_vcpu.task, "running"
        for _ in range(MANY_TURNS):
            take_turn(self.machine, cpu)
            if self.happened and self.happened[-1] == ("io", STEP_PORT, 0):
                break
        else:
            raise AssertionError(f"the model's guest does not end {insns}")
        cpu.current, vcpu.kvm_vcpu.task.state = None, "blocked"
        happened = in_order(self.happened[:-1])
        if faults:
            faults.clear()
            return 0, (*happened, "#GP")
        return self.result, happened

    def timer_pending(self, v: int) -> bool:
        """Whether an expiry waits for the vCPU's thread, masked or not."""
        return self.vm.vcpus[v].lapic.timer.pending > 0

    def may_open(self, v: int) -> bool:
        """Whether what a guest with IF=1 takes can be compared: see NOT_COMPARED."""
        vcpu = self.vm.vcpus[v]
        quiet = kvm_apic_has_interrupt(vcpu.kvm_vcpu) == -1 and not vcpu.lapic.isr and not vcpu.lapic.timer.pending
        return quiet and vcpu.lapic.tpr & 0xF0 != 0xF0


def _insns(instruction: Sequence[object]) -> Iterator[Insn]:
    name, *args = instruction
    if name == "ipi":
        icr, icr2 = args
        yield Insn("mmio_write", 0xFEE00310, icr2)  # type: ignore[arg-type]
        yield Insn("mmio_write", 0xFEE00300, icr)  # type: ignore[arg-type]
    elif name == "open":
        for op in ("sti", "nop", "nop", "cli"):
            yield Insn(op)
    else:
        yield Insn(NAMES.get(str(name), str(name)), *args)  # type: ignore[arg-type]


def _route(route: Sequence[object]) -> Route:
    name, *args = route
    if name == "msi":
        return MsiRoute(*args)  # type: ignore[arg-type]
    return PicRoute(*args) if name == "pic" else IoapicRoute(*args)  # type: ignore[arg-type]
