"""The ops of a step: a table from op to a small function of the bench and the step's arguments. Here the CPU's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kvmmodel.cases import apic, chips, cpu, guest, nested
from kvmmodel.cases.bench import Bench, NotInModel, advance, exit_half
from kvmmodel.kvm.caps import check_extension, enable_cap
from kvmmodel.kvm.lapic.registers import kvm_apic_hw_enabled
from kvmmodel.machine.vcpu import Vcpu
from kvmmodel.silicon import vmcb as exits

Args = dict[str, Any]
CPUID_APIC = (1, "edx", 9)


def _vcpu(bench: Bench, args: Args) -> Vcpu:
    return bench.vm.vcpus[args["cpu"]]


def cpuid(bench: Bench, args: Args) -> int:
    """The only bit that KVM keeps up to date for the local APIC: it shows whether APIC_BASE enables it."""
    if (args["leaf"], args["reg"], args["bit"]) != CPUID_APIC:
        raise NotInModel("cpuid")
    return int(kvm_apic_hw_enabled(_vcpu(bench, args).lapic))


def cpu_take(bench: Bench, args: Args) -> None:
    guest.take(bench, _vcpu(bench, args), args["ready"])


def clock_advance(bench: Bench, args: Args) -> None:
    advance(bench, args["ns"])


def guest_run(bench: Bench, args: Args) -> None:
    guest.run(bench, args["cpu"], execute)


def guest_handler(bench: Bench, args: Args) -> None:
    bench.handlers[args["cpu"], args["vector"]] = list(args["runs"])


def guest_flag(bench: Bench, args: Args) -> None:
    vcpu, on = _vcpu(bench, args), bool(args["value"])
    if args["flag"] == "GIF":
        nested.set_gif(bench, vcpu, on)
        return
    if vcpu.kvm_vcpu.guest_mode:
        bench.if_of_l2[vcpu.id] = on
    vmcb = vcpu.inside.vmcb
    vmcb.rflags_if, vmcb.int_state = on, on and bool(args.get("shadow"))


def guest_insn(bench: Bench, args: Args) -> None:
    vcpu, insn = _vcpu(bench, args), args["insn"]
    if insn == "nop":
        guest.nop(bench, vcpu)
    elif insn == "int":
        bench.software[args["cpu"]].append(args["vector"])
    elif insn == "iret":
        guest.iret(bench, vcpu)
    elif insn == "hlt":
        exit_half(bench, vcpu, exits.SVM_EXIT_HLT)
    else:
        guest.vmmcall(bench, vcpu)


def hypercall(bench: Bench, args: Args) -> int:
    return guest.vmmcall(bench, _vcpu(bench, args), args["nr"], args["a0"], args["a1"], args["a2"], args["a3"])


def vm_cap(bench: Bench, args: Args) -> int:
    """KVM_CHECK_EXTENSION or KVM_ENABLE_CAP of the VM."""
    kvm = bench.vm.machine.kvm
    return check_extension(kvm, args["cap"]) if args["action"] == "check" else enable_cap(kvm, args["cap"], 1)


def vmcb_peek(bench: Bench, args: Args) -> int:
    vmcb = _vcpu(bench, args).inside.vmcb
    if args["field"] == "V_IRQ":
        return int(vmcb.v_irq)
    if args["field"] == "INT_SHADOW":
        return int(vmcb.int_state)
    return int(vmcb.v_gif if args["field"] == "V_GIF" else vmcb.v_nmi_blocking)


def msi(bench: Bench, args: Args) -> int:
    return bench.vm.signal_msi(args["address"], args["data"])


OPS: dict[str, Callable[[Bench, Args], Any]] = {
    "msi": msi,
    "cpuid": cpuid,
    "cpu.take": cpu_take,
    "clock.advance": clock_advance,
    "guest.run": guest_run,
    "guest.handler": guest_handler,
    "guest.flag": guest_flag,
    "guest.insn": guest_insn,
    "hypercall": hypercall,
    "vm.cap": vm_cap,
    "vmcb.peek": vmcb_peek,
    "vmrun": nested.vmrun,
    **apic.OPS,
    **chips.OPS,
    **cpu.OPS,
}


def execute(bench: Bench, step: Args) -> None:
    """One step; its result is in ``bench.result``."""
    bench.result = OPS[step["op"]](bench, step)
