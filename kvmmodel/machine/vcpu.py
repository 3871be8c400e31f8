"""A vCPU as people use it: userspace's ioctls on it, and the guest that runs on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmmodel.facts.inhibits import reasons
from kvmmodel.guest.cpu import GuestCpu, Level
from kvmmodel.guest.insn import Code, Insn
from kvmmodel.kvm import vcpu_ioctl
from kvmmodel.kvm.kvm_main import kvm_vcpu_kick
from kvmmodel.kvm.pmu import kvm_perf_overflow
from kvmmodel.kvm.svm.avic.mode import avic_mode
from kvmmodel.kvm.types import (
    KVM_MP_STATE_HALTED,
    KVM_MP_STATE_INIT_RECEIVED,
    KVM_MP_STATE_RUNNABLE,
    KVM_MP_STATE_SIPI_RECEIVED,
    KVM_MP_STATE_UNINITIALIZED,
    KvmLapic,
    KvmVcpu,
)
from kvmmodel.machine.loop import prefetch, run
from kvmmodel.silicon.vmcb import EXIT_NAMES, SVM_EXIT_VMRUN, Vmcb

if TYPE_CHECKING:
    from kvmmodel.machine.vm import Vm

MP_STATES = (
    KVM_MP_STATE_RUNNABLE,
    KVM_MP_STATE_UNINITIALIZED,
    KVM_MP_STATE_INIT_RECEIVED,
    KVM_MP_STATE_HALTED,
    KVM_MP_STATE_SIPI_RECEIVED,
)
PATIENCE_NS = 1_000_000_000  # how long one instruction of the guest façade may take


class MsrError(Exception):
    """KVM refused the MSR access of userspace."""


class GuestFault(Exception):
    """The guest's instruction took an exception: ``vector``, and ``error_code``, None if it has none."""

    def __init__(self, vector: int, error_code: int | None) -> None:
        code = "" if error_code is None else f", error code {error_code:#x}"
        super().__init__(f"the guest takes exception {vector}{code}")
        self.vector, self.error_code = vector, error_code


class GuestStuck(Exception):
    """The instruction cannot retire: the vCPU is halted, or waits to be started."""


class Vcpu:
    """One vCPU. ``guest`` executes instructions in it; the methods are userspace's ioctls."""

    def __init__(self, vm: Vm, kvm_vcpu: KvmVcpu, inside: GuestCpu) -> None:
        self.vm = vm
        self.kvm_vcpu = kvm_vcpu
        self.inside = inside
        self.guest = Guest(self)

    @property
    def id(self) -> int:
        """vcpu_id, which is the APIC ID unless the guest or userspace changed that."""
        return self.kvm_vcpu.vcpu_id

    @property
    def lapic(self) -> KvmLapic:
        """KVM's local APIC: .irr .isr .tmr are ints (bit n is vector n), .tpr .ppr the registers."""
        return self.kvm_vcpu.apic

    @property
    def mode(self) -> str:
        """vcpu->mode: OUTSIDE_GUEST_MODE, IN_GUEST_MODE or EXITING_GUEST_MODE."""
        return self.kvm_vcpu.mode

    @property
    def apicv_active(self) -> bool:
        """Whether KVM takes APICv, here AVIC, for on. A sleeping vCPU follows the VM's inhibits when it next enters."""
        return self.kvm_vcpu.apic.apicv_active

    @property
    def avic_mode(self) -> str:
        """What the VMCB says of AVIC: off, xavic, x2avic or hybrid."""
        return avic_mode(self.kvm_vcpu)

    @property
    def stat(self) -> dict[str, int]:
        """KVM's counters: hypercalls, directed_yield_attempted, directed_yield_successful, as far as they are not 0."""
        return dict(self.kvm_vcpu.stat)

    def get_lapic(self) -> bytes:
        """KVM_GET_LAPIC: the 1024-byte register page."""
        self.vm.catch_up()
        return vcpu_ioctl.get_lapic(self.kvm_vcpu)

    def set_lapic(self, page: bytes) -> None:
        """KVM_SET_LAPIC. ValueError for a page that KVM refuses."""
        self.vm.catch_up()
        vcpu_ioctl.set_lapic(self.kvm_vcpu, page)

    def get_mp_state(self) -> str:
        """KVM_GET_MP_STATE. It takes a waiting INIT or SIPI first."""
        return vcpu_ioctl.get_mp_state(self.kvm_vcpu)

    def set_mp_state(self, state: str) -> None:
        """KVM_SET_MP_STATE: "runnable", "uninitialized", "init_received", "halted" or "sipi_received"."""
        if state not in MP_STATES:
            raise ValueError(f"unknown state {state!r}: expected one of {', '.join(MP_STATES)}")
        vcpu_ioctl.set_mp_state(self.kvm_vcpu, state)

    def get_msr(self, index: int) -> int:
        """KVM_GET_MSRS of one MSR. MsrError where KVM refuses."""
        self.vm.catch_up()
        value = vcpu_ioctl.get_msr(self.kvm_vcpu, index)
        if value is None:
            raise MsrError(f"KVM refuses to read MSR {index:#x}")
        return value

    def set_msr(self, index: int, value: int) -> None:
        """KVM_SET_MSRS of one MSR. MsrError where KVM refuses."""
        self.vm.catch_up()
        if vcpu_ioctl.set_msr(self.kvm_vcpu, index, value):
            raise MsrError(f"KVM refuses {value:#x} for MSR {index:#x}")

    def interrupt(self, vector: int) -> int:
        """KVM_INTERRUPT, with a split irqchip: an ExtINT. 0, or -22 (EINVAL), -6 (ENXIO), -17 (EEXIST)."""
        self.vm.catch_up()
        result = vcpu_ioctl.interrupt(self.kvm_vcpu, vector)
        self._get_out()
        return result

    def nmi(self) -> None:
        """KVM_NMI."""
        self.vm.catch_up()
        vcpu_ioctl.nmi(self.kvm_vcpu)
        self._get_out()

    def set_guest_debug(self, *, blockirq: bool) -> None:
        """KVM_SET_GUEST_DEBUG, of its flags KVM_GUESTDBG_BLOCKIRQ. ValueError for 5.10 and 5.15: not read there."""
        if not any(one.id == "BLOCKIRQ" for one in reasons(self.kvm_vcpu.kvm.host.kernel)):
            raise ValueError("KVM_GUESTDBG_BLOCKIRQ is modelled from 6.1 on")
        self.vm.catch_up()
        vcpu_ioctl.set_guest_debug(self.kvm_vcpu, blockirq)
        self._get_out()

    def _get_out(self) -> None:
        """These need the vCPU's thread outside KVM_RUN: a VMM sends it a signal. Here a kick has that effect."""
        kvm_vcpu_kick(self.kvm_vcpu)

    def request_interrupt_window(self, wanted: bool = True) -> None:
        """kvm_run.request_interrupt_window: exit when the guest takes an ExtINT, with a split irqchip."""
        self.vm.catch_up()
        self.kvm_vcpu.request_interrupt_window = wanted
        self._get_out()

    def perf_overflow(self) -> None:
        """A performance counter of the guest's overflows, and wants an interrupt."""
        self.vm.catch_up()
        kvm_perf_overflow(self.kvm_vcpu)


class Guest:
    """The guest on one vCPU. Each call executes one instruction and returns once it has retired.

    GuestFault where the guest would take an exception; GuestStuck where the vCPU is halted or not started yet.
    """

    def __init__(self, vcpu: Vcpu) -> None:
        self._vcpu = vcpu

    def wrmsr(self, index: int, value: int) -> None:
        """WRMSR of 64 bits. GuestFault (#GP) where the processor or KVM refuses."""
        self._execute(Insn("wrmsr", index, value))

    def rdmsr(self, index: int) -> int:
        """RDMSR of 64 bits. GuestFault (#GP) where the processor or KVM refuses."""
        return self._execute(Insn("rdmsr", index))

    def mmio_write(self, address: int, value: int) -> None:
        """A 32-bit store to a guest-physical address."""
        self._execute(Insn("mmio_write", address, value))

    def mmio_read(self, address: int) -> int:
        """A 32-bit load from a guest-physical address."""
        return self._execute(Insn("mmio_read", address))

    def write_cr8(self, value: int) -> None:
        """MOV to CR8, 0 to 15: the upper half of the TPR. GuestFault (#GP) for more."""
        self._execute(Insn("write_cr8", value))

    def read_cr8(self) -> int:
        """MOV from CR8: 0 to 15."""
        return self._execute(Insn("read_cr8"))

    def outb(self, port: int, value: int) -> None:
        """OUT of a byte."""
        self._execute(Insn("outb", port, value))

    def inb(self, port: int) -> int:
        """IN of a byte."""
        return self._execute(Insn("inb", port))

    def vmmcall(self, nr: int, a0: int = 0, a1: int = 0, a2: int = 0, a3: int = 0) -> int:
        """A hypercall: what KVM gives back in RAX, signed; -1000 for a number that it does not know."""
        value = self._execute(Insn("vmmcall", nr, args=(a0, a1, a2, a3)))
        return value - (1 << 64) if value >> 63 else value

    def hlt(self) -> None:
        """Returns when the vCPU has halted, or has been woken again."""
        self._execute(Insn("hlt"))

    def unmap_stack(self) -> None:
        """The next delivery through the IDT finds the stack's page not mapped: it exits before it is complete."""
        self._vcpu.inside.stack_mapped = False

    def sti(self) -> None:
        """Sets IF; the instruction after it still runs first."""
        self._execute(Insn("sti"))

    def cli(self) -> None:
        """Clears IF."""
        self._execute(Insn("cli"))

    def nop(self) -> None:
        """Does nothing: what waits can be taken after it."""
        self._execute(Insn("nop"))

    def stgi(self) -> None:
        """Sets GIF. GuestFault (#UD) where KVM intercepts it and the guest has not set EFER.SVME."""
        self._execute(Insn("stgi"))

    def clgi(self) -> None:
        """Clears GIF: nothing is taken until STGI. GuestFault (#UD) as STGI."""
        self._execute(Insn("clgi"))

    def vmrun(self, *intercepts: str, v_intr_masking: bool = True) -> Vmcb:
        """Run a guest of its own, which does nothing: L2 goes on until one of the ``intercepts`` ("interrupt", "nmi",
        "hlt" ... as kvm_exit names them) ends it. Returns L1's VMCB. GuestFault (#UD) without EFER.SVME.
        """
        codes = {name: code for code, name in EXIT_NAMES.items()}
        vmcb12 = Vmcb(intercepts={SVM_EXIT_VMRUN} | {codes[name] for name in intercepts}, rflags_if=True)
        vmcb12.v_intr_masking = v_intr_masking
        self._vcpu.inside.regs.vmcb12 = vmcb12
        self._execute(Insn("vmrun"))
        return vmcb12

    def eoi(self) -> None:
        """EOI by MSR or MMIO, as the APIC's mode wants."""
        if self._vcpu.inside.x2apic:
            self.wrmsr(0x80B, 0)
        else:
            self.mmio_write(0xFEE000B0, 0)

    @property
    def handled(self) -> dict[int, int]:
        """How often each vector's handler ran, by vector."""
        return dict(self._vcpu.inside.handled)

    def _execute(self, insn: Insn) -> int:
        vcpu, inside = self._vcpu, self._vcpu.inside
        kvm = vcpu.kvm_vcpu
        if kvm.mp_state != KVM_MP_STATE_RUNNABLE:
            raise GuestStuck(f"vCPU {vcpu.id} is {kvm.mp_state}: it executes nothing until something wakes it")
        results: list[int] = []
        level = Level(_single(insn, results))
        faults = len(inside.faults)
        inside.levels.append(level)
        prefetch(inside)
        vcpu.vm.power_on()

        def done() -> bool:
            asleep = insn.op == "hlt" and kvm.task.state == "blocked"
            return level not in inside.levels or asleep

        finished = run(vcpu.vm.machine, done, PATIENCE_NS)
        if level in inside.levels and insn.op != "hlt":
            inside.levels.remove(level)
        if len(inside.faults) > faults:
            raise GuestFault(*inside.faults.pop())
        if not finished:
            raise GuestStuck(f"vCPU {vcpu.id} cannot finish {insn}")
        return results[0] if results else 0


def _single(insn: Insn, results: list[int]) -> Code:
    results.append((yield insn))
