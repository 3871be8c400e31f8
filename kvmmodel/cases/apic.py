"""The ops on local APICs: register accesses of the guest and of userspace, messages, destinations."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from kvmmodel.cases import guest
from kvmmodel.cases.bench import Bench, write_page
from kvmmodel.kvm.lapic.accept import __apic_accept_irq as accept_irq
from kvmmodel.kvm.lapic.map import LapicIrq, kvm_apic_map_get_dest_lapic, kvm_apic_match_dest
from kvmmodel.kvm.lapic.priority import apic_update_ppr
from kvmmodel.kvm.lapic.registers import apic_x2apic_mode, kvm_xapic_id
from kvmmodel.kvm.lapic.state import kvm_lapic_reset
from kvmmodel.kvm.types import KvmLapic, KvmTimer
from kvmmodel.machine.vcpu import MsrError, Vcpu
from kvmmodel.silicon import apic as hw

Args = dict[str, Any]
REGISTERS = {name.removeprefix("APIC_"): offset for offset, name in hw.REGISTER_NAMES.items()} | {
    "TPR": hw.APIC_TASKPRI,
    "PPR": hw.APIC_PROCPRI,
}
BANKS = {"ISR": hw.APIC_ISR, "TMR": hw.APIC_TMR, "IRR": hw.APIC_IRR}
DELIVERY = {"fixed": 0, "lowest": 1, "smi": 2, "nmi": 4, "init": 5, "startup": 6, "extint": 7}
SHORTHAND = {
    "none": hw.APIC_DEST_NOSHORT,
    "self": hw.APIC_DEST_SELF,
    "all": hw.APIC_DEST_ALLINC,
    "all_but_self": hw.APIC_DEST_ALLBUT,
}
DEST_MODE = {"physical": 0, "logical": hw.APIC_DEST_LOGICAL}
MSRS = {"APIC_BASE": hw.MSR_IA32_APICBASE, "TSC_DEADLINE": hw.MSR_IA32_TSC_DEADLINE}
MODES = {
    "disabled": 0,
    "xapic": hw.MSR_IA32_APICBASE_ENABLE,
    "x2apic": hw.MSR_IA32_APICBASE_ENABLE | hw.X2APIC_ENABLE,
    "invalid": hw.X2APIC_ENABLE,
}


def _vcpu(bench: Bench, args: Args) -> Vcpu:
    return bench.vm.vcpus[args["cpu"]]


def _offset(reg: str | int) -> int:
    return reg if isinstance(reg, int) else REGISTERS[reg]


def apic_write(bench: Bench, args: Args) -> None:
    vcpu, value = _vcpu(bench, args), args["value"]
    if args["reg"] == "CR8":
        guest.write_cr8(bench, vcpu, value)
        return
    offset = _offset(args["reg"]) + (args.get("byte") or 0)
    guest.write_register(bench, vcpu, offset, value, args.get("size") or 4, args.get("base"))


def apic_read(bench: Bench, args: Args) -> int | None:
    vcpu = _vcpu(bench, args)
    if args["reg"] == "CR8":
        return guest.read_cr8(bench, vcpu)
    offset = _offset(args["reg"]) + (args.get("byte") or 0)
    return guest.read_register(bench, vcpu, offset, args.get("size") or 4, args.get("base"))


def apic_set(bench: Bench, args: Args) -> int:
    """KVM_SET_LAPIC; it leaves PPR as it was before the new ISR, so refresh it."""
    vcpu, reg, value = _vcpu(bench, args), args["reg"], args["value"]
    try:
        if isinstance(value, list):
            bank, page = sum(1 << v for v in set(value)), bytearray(vcpu.get_lapic())
            for i in range(8):
                struct.pack_into("<I", page, BANKS[reg] + 16 * i, bank >> 32 * i & 0xFFFFFFFF)
            vcpu.set_lapic(bytes(page))
        else:
            write_page(vcpu, _offset(reg), value & 0xFFFFFFFF)
    except ValueError:
        return -22
    apic_update_ppr(vcpu.lapic)
    return 0


def apic_peek(bench: Bench, args: Args) -> int | list[int]:
    vcpu = _vcpu(bench, args)
    if args["reg"] in BANKS:
        return hw.vectors({"ISR": vcpu.lapic.isr, "TMR": vcpu.lapic.tmr, "IRR": vcpu.lapic.irr}[args["reg"]])
    value: int = struct.unpack_from("<I", vcpu.get_lapic(), _offset(args["reg"]))[0]
    return value


def apic_mode(bench: Bench, args: Args) -> None:
    base = _vcpu(bench, args).lapic.apic_base & ~MODES["x2apic"] | MODES[args["mode"]]
    if args["by"] == "guest":
        guest.wrmsr(bench, _vcpu(bench, args), hw.MSR_IA32_APICBASE, base)
        return
    try:
        _vcpu(bench, args).set_msr(hw.MSR_IA32_APICBASE, base)
    except MsrError:
        bench.gp = True


def apic_reset(bench: Bench, args: Args) -> None:
    kvm_lapic_reset(_vcpu(bench, args).kvm_vcpu, False)


def apic_accept(bench: Bench, args: Args) -> int:
    mode, level = DELIVERY[args["delivery"]] << 8, args["level"] == "assert"
    return accept_irq(_vcpu(bench, args).lapic, mode, args["vector"], level, args["trigger"] == "level")


def _source(bench: Bench, ident: int) -> KvmLapic:
    """The xAPIC with that ID, or one that is not in this VM."""
    for vcpu in bench.vm.vcpus:
        if kvm_xapic_id(vcpu.lapic) == ident:
            return vcpu.lapic
    some = bench.vm.vcpus[0].kvm_vcpu
    return KvmLapic(some, KvmTimer(some.apic.timer.hrtimer), apic_base=hw.APIC_DEFAULT_PHYS_BASE)


def apic_match(bench: Bench, args: Args) -> bool:
    source, mode = _source(bench, args["source"]), DEST_MODE[args["mode"]]
    return kvm_apic_match_dest(_vcpu(bench, args).kvm_vcpu, source, SHORTHAND[args["shorthand"]], args["dest"], mode)


def dest_fast(bench: Bench, args: Args) -> bool:
    irq = LapicIrq(0, 0, DEST_MODE[args["mode"]], True, False, SHORTHAND[args["shorthand"]], args["dest"])
    return kvm_apic_map_get_dest_lapic(bench.vm.machine.kvm, _source(bench, args["source"]), irq) is not None


def msr_write(bench: Bench, args: Args) -> None:
    guest.wrmsr(bench, _vcpu(bench, args), MSRS[args["msr"]], args["value"])


def msr_read(bench: Bench, args: Args) -> int | None:
    return guest.rdmsr(bench, _vcpu(bench, args), MSRS[args["msr"]])


def ipi(bench: Bench, args: Args) -> None:
    """ICR2, then ICR; in x2APIC mode one write."""
    vcpu, dest = _vcpu(bench, args), args.get("dest") or 0
    low = args["vector"] | DELIVERY[args.get("delivery") or "fixed"] << 8 | DEST_MODE[args.get("mode") or "physical"]
    low |= hw.APIC_INT_ASSERT | SHORTHAND[args.get("shorthand") or "none"]
    times = args.get("times")
    for _ in range(1 if times is None else times):
        if apic_x2apic_mode(vcpu.lapic):
            guest.write_register(bench, vcpu, hw.APIC_ICR, dest << 32 | low)
        else:
            guest.write_register(bench, vcpu, hw.APIC_ICR2, dest << 24)
            guest.write_register(bench, vcpu, hw.APIC_ICR, low)


OPS: dict[str, Callable[[Bench, Args], Any]] = {
    "apic.write": apic_write,
    "apic.read": apic_read,
    "apic.set": apic_set,
    "apic.peek": apic_peek,
    "apic.mode": apic_mode,
    "apic.reset": apic_reset,
    "apic.accept": apic_accept,
    "apic.match": apic_match,
    "dest.fast": dest_fast,
    "msr.write": msr_write,
    "msr.read": msr_read,
    "ipi": ipi,
}
