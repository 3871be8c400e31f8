"""How many deliveries a second the model does, traced and untraced, beside a toy of the same steps on SimPy.

    python benchmarks/deliveries.py [deliveries]

The toy has IRR, ISR, a kick and an EOI and nothing else: what an event loop alone costs. Printed, not asserted.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from time import perf_counter

from kvmmodel import Host, Vm
from kvmmodel.guest.insn import Insn
from kvmmodel.machine.loop import prefetch

HOW = {"untraced": (False, False), "events": (True, False), "events and stacks": (True, True)}


def self_ipi(count: int, trace: bool, stacks: bool) -> int:
    """vCPU 0 sends itself a vector by SELF_IPI; the handler ends with an EOI by register."""
    vm = _booted(1, trace, stacks)

    def code() -> Iterator[Insn]:
        for _ in range(count):
            yield Insn("wrmsr", 0x83F, 0x41)

    return _run(vm, 0, code(), 0, count)


def ipi_to_halted(count: int, trace: bool, stacks: bool) -> int:
    """vCPU 0 sends to vCPU 1, which sleeps in HLT each time."""
    vm = _booted(2, trace, stacks)
    now = vm.vcpus[0].inside.now

    def sender() -> Iterator[Insn]:
        for _ in range(count):
            yield Insn("pause", end=now() + 300_000, show=False)
            yield Insn("wrmsr", 0x830, 1 << 32 | 0x41)

    def sleeper() -> Iterator[Insn]:
        while True:
            yield Insn("hlt")

    vm.load(1, sleeper())  # type: ignore[arg-type]
    prefetch(vm.vcpus[1].inside)
    return _run(vm, 0, sender(), 1, count)


def _booted(vcpus: int, trace: bool, stacks: bool) -> Vm:
    return Host(kernel="6.12", avic=False).create_vm(vcpus, boot=True, trace=trace, stacks=stacks)


def _run(vm: Vm, vcpu: int, code: Iterator[Insn], target: int, count: int) -> int:
    vm.load(vcpu, code)  # type: ignore[arg-type]
    prefetch(vm.vcpus[vcpu].inside)
    handled = vm.vcpus[target].inside.handled
    vm.run(until=lambda: handled[0x41] >= count, limit_ns=1 << 60)
    return handled[0x41]


def toy(count: int) -> int:
    """A sender and a target as SimPy processes: set IRR, kick; take it to ISR, handler, EOI."""
    import simpy

    env = simpy.Environment()
    kicked = [env.event()]
    irr, isr, done = 0, 0, 0

    def sender() -> Iterator[simpy.Event]:
        nonlocal irr
        for _ in range(count):
            yield env.timeout(300)
            irr |= 1 << 0x41
            if not kicked[0].triggered:
                kicked[0].succeed()

    def target() -> Iterator[simpy.Event]:
        nonlocal irr, isr, done
        while done < count:
            yield kicked[0]
            kicked[0] = env.event()
            yield env.timeout(2)
            vector = irr.bit_length() - 1
            irr &= ~(1 << vector)
            isr |= 1 << vector
            yield env.timeout(1)
            isr &= ~(1 << vector)
            done += 1

    env.process(sender())
    env.process(target())
    env.run()
    return done


def rate(call: Callable[..., int], *args: object) -> str:
    best = 0.0
    for _ in range(3):
        start = perf_counter()
        done = call(*args)
        best = max(best, done / (perf_counter() - start))
    return f"{best:>10,.0f} deliveries/s"


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    for name, case in (("self-IPI and EOI", self_ipi), ("IPI to a halted vCPU", ipi_to_halted)):
        for how, flags in HOW.items():
            print(f"{name:22} {how:18} {rate(case, count, *flags)}")
    try:
        print(f"{'toy, IPI to a sleeper':22} {'SimPy':18} {rate(toy, count)}")
    except ImportError:
        print("toy: SimPy is not installed (pip install simpy)")


if __name__ == "__main__":
    main()
