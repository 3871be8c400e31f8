"""A guest's accesses to its local APIC, one by one, in both modes: the programs, and what a run answers."""

from __future__ import annotations

from dataclasses import dataclass, field

from kvmmodel.facts.releases import Kernel
from kvmmodel.machine.host import Host
from kvmmodel.machine.vm import Vm
from kvmmodel.silicon import apic as hw
from kvmmodel.trace.access import Access, access

MODES = (("x2APIC", "x2apic"), ("xAPIC", "xapic"))
PAGE = hw.APIC_DEFAULT_PHYS_BASE
SELF = 0x40000  # the ICR's shorthand: to itself


@dataclass(frozen=True, slots=True)
class Probe:
    """What to do in one mode. ``since``: how the text of the instruction in question begins. ``offset`` and ``value``:
    the register, and what a write puts there; None: it is read."""

    program: tuple[str, ...]
    since: str
    offset: int
    value: int | None


@dataclass(frozen=True, slots=True)
class Register:
    """A row: a probe for each mode. ``recorded``: the modes in which recordings of real kernels have this access."""

    label: str
    probes: dict[str, Probe]
    recorded: tuple[str, ...] = ()
    idt: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    access: Access
    words: str
    vm: Vm
    kernel: Kernel


def _write(offset: int, value: int, x2apic: bool) -> tuple[str, str]:
    """The line of the program, and how the instruction's text begins."""
    if x2apic:
        msr = hw.APIC_BASE_MSR + (offset >> 4)
        return f"wrmsr {msr:#x} {value:#x}", f"WRMSR {msr:#x} = {value:#x}"
    return f"mmio_write {PAGE + offset:#x} {value:#x}", f"MOV [{PAGE + offset:#x}] = {value:#x}"


def _read(offset: int, x2apic: bool) -> tuple[str, str]:
    if x2apic:
        msr = hw.APIC_BASE_MSR + (offset >> 4)
        return f"rdmsr {msr:#x}", f"RDMSR {msr:#x}"
    return f"mmio_read {PAGE + offset:#x}", f"MOV r, [{PAGE + offset:#x}]"


def _self_ipi(vector: int, x2apic: bool) -> str:
    return _write(hw.APIC_ICR, SELF | vector, x2apic)[0]


def _both(offset: int, value: int | None, *before: tuple[int, int]) -> dict[str, Probe]:
    """The same register by MSR and by MMIO, after writes of other registers."""
    made = {}
    for _, mode in MODES:
        x2 = mode == "x2apic"
        line, since = _read(offset, x2) if value is None else _write(offset, value, x2)
        made[mode] = Probe((*(_write(o, v, x2)[0] for o, v in before), line), since, offset, value)
    return made


def _same(program: tuple[str, ...], since: str, offset: int, value: int | None) -> dict[str, Probe]:
    return {mode: Probe(program, since, offset, value) for _, mode in MODES}


def _waiting(x2apic: bool) -> Probe:
    """Read the part of the IRR in which a vector waits, as IF is clear."""
    offset = hw.APIC_IRR + 0x20
    line, since = _read(offset, x2apic)
    return Probe(("cli", _self_ipi(0x41, x2apic), line), since, offset, None)


def _service(x2apic: bool) -> Probe:
    """Read the part of the ISR in which a vector is in service: its handler does not signal the EOI."""
    offset = hw.APIC_ISR + 0x20
    line, since = _read(offset, x2apic)
    return Probe((_self_ipi(0x51, x2apic), line), since, offset, None)


def _eoi(x2apic: bool) -> Probe:
    return Probe((_self_ipi(0x51, x2apic),), _write(hw.APIC_EOI, 0, x2apic)[1], hw.APIC_EOI, 0)


def _held(x2apic: bool) -> Probe:
    program = ("write_cr8 5", _self_ipi(0x51, x2apic), "write_cr8 0")
    return Probe(program, "MOV CR8 = 0x0", hw.APIC_TASKPRI, 0)


def _pv_eoi(x2apic: bool) -> Probe:
    return Probe(("pv_eoi_on 0x5000", _self_ipi(0x81, x2apic), "nop"), "BTR", hw.APIC_EOI, 0)


def _icr(x2apic: bool) -> Probe:
    if x2apic:
        return Probe(("wrmsr ICR 0x1_0000_0043",), "WRMSR 0x830", hw.APIC_ICR, 0x43)
    lines = [_write(hw.APIC_ICR2, 1 << 24, False)[0], _write(hw.APIC_ICR, 0x43, False)[0]]
    return Probe(tuple(lines), f"MOV [{PAGE + hw.APIC_ICR:#x}]", hw.APIC_ICR, 0x43)


BOTH = ("x2apic", "xapic")
_TIMER = (hw.APIC_LVTT, 0xE2)
REGISTERS: dict[str, Register] = {
    "cr8": Register("TPR, by CR8", _same(("write_cr8 5",), "MOV CR8", hw.APIC_TASKPRI, 0x50), ("x2apic",)),
    "cr8-held": Register(
        "CR8 while a vector waits for it", {"x2apic": _held(True), "xapic": _held(False)}, ("x2apic",)
    ),
    "tpr": Register("TPR", _both(hw.APIC_TASKPRI, 0x50), BOTH),
    "eoi": Register("EOI", {"x2apic": _eoi(True), "xapic": _eoi(False)}, BOTH),
    "pv-eoi": Register(
        "EOI, by the PV EOI bit", {"x2apic": _pv_eoi(True), "xapic": _pv_eoi(False)}, ("x2apic",), {0x81: "pv_eoi"}
    ),
    "icr": Register("ICR, an IPI to a running vCPU", {"x2apic": _icr(True), "xapic": _icr(False)}, BOTH),
    "self-ipi": Register("SELF_IPI", _both(hw.APIC_SELF_IPI, 0x51), ("x2apic",)),
    "lvtt": Register("LVTT", _both(hw.APIC_LVTT, 0x400E1), ("x2apic",)),
    "tmict": Register("TMICT", _both(hw.APIC_TMICT, 500_000, _TIMER), ("x2apic",)),
    "tmcct": Register("TMCCT, read", _both(hw.APIC_TMCCT, None, _TIMER, (hw.APIC_TMICT, 500_000))),
    "deadline": Register(
        "TSC_DEADLINE",
        {
            mode: Probe((_write(hw.APIC_LVTT, 0x400E1, mode == "x2apic")[0], "deadline 30000"), "WRMSR 0x6e0", 0, None)
            for _, mode in MODES
        },
        ("x2apic",),
    ),
    "ppr": Register("PPR, read", _both(hw.APIC_PROCPRI, None), ("x2apic",)),
    "irr": Register("IRR, read, 0x41 waits", {"x2apic": _waiting(True), "xapic": _waiting(False)}),
    "isr": Register(
        "ISR, read, 0x51 in service", {"x2apic": _service(True), "xapic": _service(False)}, idt={0x51: "none"}
    ),
    "id": Register("ID", _both(hw.APIC_ID, 7 << 24)),
    "ldr": Register("LDR", _both(hw.APIC_LDR, 2 << 24)),
    "dfr": Register("DFR", _both(hw.APIC_DFR, 0x0FFFFFFF)),
    "svr": Register("SVR", _both(hw.APIC_SPIV, 0x1FF), BOTH),
    "esr": Register("ESR, 1 written", _both(hw.APIC_ESR, 1)),
}


def run_access(key: str, mode: str, host: Host) -> Answer:
    """Run one access on a host: ``key`` of REGISTERS, ``mode`` x2apic or xapic."""
    register, vm = REGISTERS[key], host.create_vm(vcpus=2, x2apic=mode == "x2apic", boot=True)
    probe = register.probes[mode]
    vm.world.idt.setdefault(0, {}).update(register.idt)
    vm.execute(0, (*probe.program, "log_result value"))
    vm.run(limit_ns=400_000)
    found = access(vm.trace.records, 0, probe.since)
    return Answer(found, _words(vm, probe, found), vm, host.kernel)


def _words(vm: Vm, probe: Probe, found: Access) -> str:
    """What KVM made of it. A register that holds what was written shows it; one that does not, did not take it."""
    if found.effects:
        return ", ".join(dict.fromkeys(found.effects))
    if found.exit is None:
        return "KVM is not asked"
    if probe.value is None:
        return f"answers `{dict(vm.world.log)['value']:#x}`"
    page = vm.vcpus[0].get_lapic()
    held = int.from_bytes(page[probe.offset : probe.offset + 4], "little")
    return f"stores `{held:#x}`" if held == probe.value else "changes nothing"
