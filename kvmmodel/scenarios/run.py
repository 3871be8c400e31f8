"""Running a scenario: built-in ones by name, or a reader's own file."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from typing import Any

from kvmmodel.events import Block, Event
from kvmmodel.guest.program import PORT_MARK, parse, vectors
from kvmmodel.kvm.irqchip import IoapicRoute, MsiRoute, Route
from kvmmodel.kvm.types import KvmVcpu
from kvmmodel.machine.device import Device
from kvmmodel.machine.host import Host
from kvmmodel.machine.loop import run_nested
from kvmmodel.machine.vm import Vm
from kvmmodel.scenarios.format import Action, Race, Rule, Scenario, ScenarioError, read


def names() -> list[str]:
    """The built-in scenarios, sorted."""
    files = resources.files("kvmmodel.scenarios").iterdir()
    return sorted(f.name.removesuffix(".toml") for f in files if f.name.endswith(".toml"))


def built_in(name: str) -> Scenario:
    """A built-in scenario. ScenarioError for a name that there is not."""
    return read(name, text_of(name))


def text_of(name: str) -> str:
    """A built-in scenario's file. ScenarioError for a name that there is not."""
    if name not in names():
        raise ScenarioError(f"no scenario {name!r}: expected a .toml file or one of {', '.join(names())}")
    return resources.files("kvmmodel.scenarios").joinpath(f"{name}.toml").read_text(encoding="utf-8")


def run(
    scenario: Scenario,
    host: Host,
    *,
    broken: tuple[str, ...] = (),
    limit_ns: int | None = None,
    prepare: Callable[[Vm], None] | None = None,
    **options: Any,
) -> Vm:
    """Run a scenario to its end on a host, or for ``limit_ns`` of virtual time (default: the scenario's own limit).

    ``prepare`` gets the VM before it runs, ``options`` go to create_vm. Returns the VM with its trace.
    """
    chain = [scenario]
    while chain[0].after is not None:
        try:
            chain.insert(0, built_in(chain[0].after))
        except ScenarioError as error:
            raise ScenarioError(f"{chain[0].name}: after: {error}") from None
        if len(chain) > len(names()) + 1:
            raise ScenarioError(f"{scenario.name}: 'after' goes in a circle")
    count = chain[0].vm.get("vcpus", 2)
    for part in chain:
        for vcpu in part.programs:
            if vcpu >= count:
                raise ScenarioError(
                    f"{part.name}: [vcpu.{vcpu}]: the VM of {chain[0].name!r} has vCPUs 0 to {count - 1}"
                )
    vm = host.create_vm(broken=(*scenario.broken, *broken), **{**chain[0].vm, **options})
    if prepare is not None:
        prepare(vm)
    for part in chain:
        _play(vm, part, part.limit_ns if limit_ns is None else limit_ns)
    return vm


def unfinished(vm: Vm) -> dict[int, str]:
    """vCPUs that wait, at the end of a run, for something that never came, and the step that they wait in.

    HLT waits for nothing in particular: it is a fine end.
    """
    return {vcpu: str(step) for (vcpu, _), step in vm.world.waits.items()}


def _play(vm: Vm, scenario: Scenario, limit_ns: int) -> None:
    """Load the programs and the rules, then run until nothing is left to happen."""
    for name, body in scenario.handlers.items():
        vm.world.bodies[name] = tuple(parse(line) for line in body)
    for vcpu, table in scenario.idt.items():
        for which, body_name in table.items():
            vm.world.idt.setdefault(vcpu, {}).update(dict.fromkeys(vectors(which), body_name))
    for rule in scenario.userspace:
        _arm(vm, rule)
    for race in scenario.races:
        _arm_race(vm, race)
    for vcpu, lines in scenario.programs.items():
        vm.execute(vcpu, lines)
    vm.run(limit_ns=limit_ns)


def _do(vm: Vm, action: Action) -> None:
    _ACTIONS[action.name](vm, *action.args)


def _route(vm: Vm, gsi: int, route: Route) -> None:
    """A table in which the GSI leads there and nowhere else."""
    vm.set_gsi_routing(vm.machine.kvm.routing | {gsi: [route]})


_ACTIONS: dict[str, Callable[..., object]] = {
    "signal_msi": Vm.signal_msi,
    "irq_line": lambda vm, gsi, level: vm.irq_line(gsi, bool(level)),
    "route_msi": lambda vm, gsi, address, data: _route(vm, gsi, MsiRoute(address, data)),
    "route_ioapic": lambda vm, gsi, pin: _route(vm, gsi, IoapicRoute(pin)),
    "eventfd": Vm.eventfd_write,
    "irqfd_resample": lambda vm, gsi: vm.irqfd_resample(gsi, lambda: None),  # rules listen to the event
    "mprotect": Vm.mprotect,
    "burn": Vm.burn,
    "assign_device": Vm.assign_device,
    "device_interrupt": lambda vm, gsi: _device(vm, gsi).interrupt_soon(),
}


def _device(vm: Vm, gsi: int) -> Device:
    if gsi not in vm.devices:
        raise ScenarioError(f"device_interrupt {gsi}: no device has been assigned to that GSI yet")
    return vm.devices[gsi]


def _arm(vm: Vm, rule: Rule) -> None:
    """A rule fires once: at a mark or port in the vCPU's own thread, else in userspace's other one."""
    when = rule.when

    def fire() -> None:
        by_itself = True
        for action in rule.do:
            by_itself = by_itself and action.name == "device_interrupt"
            if by_itself:
                _do(vm, action)
            else:
                vm.later(lambda action=action: _do(vm, action))  # type: ignore[misc]

    if when.get("start"):
        fire()
    elif "mark" in when or "port" in when:

        def on_exit(vcpu: KvmVcpu) -> None:
            if _is_exit(vm, when, vcpu):
                vm.user_exits.remove(on_exit)
                for action in rule.do:
                    _do(vm, action)

        vm.user_exits.append(on_exit)
    else:
        _listen(vm, when, fire)


def _is_exit(vm: Vm, when: dict[str, Any], vcpu: KvmVcpu) -> bool:
    if vcpu.exit is None:
        return False  # KVM_RUN came back without a reason to tell, as for an AP that got its INIT
    kind, port, value = vcpu.exit
    if ("vcpu" in when and when["vcpu"] != vcpu.vcpu_id) or kind != "io":
        return False
    if "mark" in when:
        return port == PORT_MARK and vm.world.marks[value : value + 1] == [when["mark"]]
    return bool(port == when["port"] and when.get("value", value) == value)


def _listen(vm: Vm, when: dict[str, Any], fire: Any) -> None:
    """Call once when an event of that kind happens, in that vCPU's thread or about it."""
    kind = Block.kind if when.get("halted") else when["event"]

    def listen(event: Event) -> None:
        if event.kind != kind or not getattr(event, "text", "").startswith(when.get("text", "")):
            return
        if "vcpu" not in when or _whose(vm, event) == when["vcpu"]:
            vm.trace.listeners.remove(listen)
            fire()

    vm.trace.listeners.append(listen)


def _whose(vm: Vm, event: Event) -> int | None:
    """The vCPU that an event is about; if it names none, the one whose thread runs."""
    about = getattr(event, "vcpu_id", None)
    task = vm.machine.host.current.current
    return about if about is not None else task.vcpu.vcpu_id if task is not None and task.vcpu is not None else None


def _arm_race(vm: Vm, race: Race) -> None:
    def fire() -> None:
        seen: list[Event] = []

        def watch(event: Event) -> None:
            task = vm.machine.host.current.current
            who = task.vcpu.vcpu_id if task is not None and task.vcpu is not None else None
            if event.kind == race.until and who == race.run:
                seen.append(event)

        vm.trace.listeners.append(watch)
        run_nested(vm.machine, lambda: bool(seen))
        vm.trace.listeners.remove(watch)

    _listen(vm, race.at, fire)
