"""Running a script in the model, and comparing it with what real kernels did."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kvmmodel.guest.program import parse
from kvmmodel.kvm.ack import KVM_IRQCHIP_IOAPIC
from kvmmodel.kvm.ioapic import RTE_LEVEL, RTE_MASKED
from kvmmodel.kvm.ioapic_registers import entries_of, lines_of, with_entry
from kvmmodel.kvm.types import KvmVcpu
from kvmmodel.machine.host import Host
from kvmmodel.machine.vm import Vm
from kvmmodel.scripts.translate import HANDLERS, PORT_END, Script
from kvmmodel.silicon import apic as hw

# The processor on which the scripts were recorded.
CPU = "tcg"
# One that has x2AVIC, for runs with AVIC.
AVIC_CPU = "zen4"
MSI_ADDRESS = 0xFEE00000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the model did, in the file's form."""

    guest: list[list[Any]]
    host: list[list[Any]]
    ioapic: dict[str, int]


@dataclass(frozen=True, slots=True)
class Difference:
    """The first thing that differs: ``where`` is a log and its position."""

    index: int
    kernel: str
    where: str
    expected: Any
    got: Any


def run(script: Script, host: Host) -> Outcome:
    """One script in a fresh VM: one vCPU, full irqchip, IF clear, a handler on every vector."""
    vm = host.create_vm(vcpus=1, x2apic=not script.xapic, trace=False)
    world, recorded, ended = vm.world, list[list[Any]](), list[bool]()
    for name, body in HANDLERS.items():
        world.bodies[name] = tuple(parse(line) for line in body)
    world.idt[0] = dict.fromkeys(range(32, 256), "eoi") | {2: "nmi"}
    exits = iter(script.exits)

    def on_exit(vcpu: KvmVcpu) -> None:
        if vcpu.exit[1] == PORT_END:
            ended.append(True)
        else:
            recorded.extend(_at_exit(vm, *next(exits)))

    vm.user_exits.append(on_exit)
    vm.execute(0, script.program)
    vm.run(until=lambda: bool(ended))
    state = vm.get_irqchip(KVM_IRQCHIP_IOAPIC)
    irr, entries = lines_of(state), entries_of(state)
    guest = [[name] if name == "nmi" else [name, value & 0xFF] for name, value in world.log]
    return Outcome(guest, recorded, {"irr": irr, "rte20": entries[20], "rte21": entries[21]})


def _at_exit(vm: Vm, op: str, *args: Any) -> Iterator[list[Any]]:
    """What userspace does and records at an exit."""
    if op == "snap":
        yield snapshot(vm.vcpus[0].get_lapic())
    elif op in ("msi_edge", "msi_level"):
        yield ["msi", vm.signal_msi(MSI_ADDRESS, args[0] | (0xC000 if op == "msi_level" else 0))]
    elif op == "rte":
        pin, vector, trigger, mask = args
        entry = vector | (RTE_LEVEL if trigger == "level" else 0) | (RTE_MASKED if mask == "masked" else 0)
        vm.set_irqchip(KVM_IRQCHIP_IOAPIC, with_entry(vm.get_irqchip(KVM_IRQCHIP_IOAPIC), pin, entry))
    elif op == "line":
        pin, how = args
        if how == "pulse":
            yield ["line", vm.irq_line(pin, True)]
        yield ["line", vm.irq_line(pin, False)]


def snapshot(page: bytes) -> list[Any]:
    """TPR, PPR, ISR, TMR and IRR of a KVM_GET_LAPIC page, vectors ascending."""
    words = struct.unpack("<256I", page)
    banks = [sum(words[base // 4 + 4 * i] << 32 * i for i in range(8)) for base in hw.BANKS]
    return ["snap", words[hw.APIC_TASKPRI // 4], words[hw.APIC_PROCPRI // 4], *(hw.vectors(bank) for bank in banks)]


def compare(script: Script, kernel: str, host: Host) -> Difference | None:
    """The first difference from what ``kernel`` did, None if there is none. ValueError if it was not recorded."""
    wanted = next((r for r in script.results if kernel in r.kernels), None)
    if wanted is None:
        raise ValueError(f"script {script.index} was not recorded on {kernel}")
    got = run(script, host)
    for name in ("guest", "host"):
        expected, actual = getattr(wanted, name), getattr(got, name)
        for i in range(max(len(expected), len(actual))):
            pair = [rows[i] if i < len(rows) else None for rows in (expected, actual)]
            if pair[0] != pair[1]:
                return Difference(script.index, kernel, f"{name}[{i}]", *pair)
    for key, value in wanted.ioapic.items():
        if got.ioapic.get(key) != value:
            return Difference(script.index, kernel, f"ioapic.{key}", value, got.ioapic.get(key))
    return None


def recorded_kernels(scripts: list[Script]) -> list[str]:
    """The kernels that any script was recorded on, in the file's order."""
    return list(dict.fromkeys(kernel for s in scripts for r in s.results for kernel in r.kernels))


def recorded_on(script: Script, kernel: str) -> bool:
    return any(kernel in result.kernels for result in script.results)
