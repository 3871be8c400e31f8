"""The explorer of the ExtINT's page: who is told to do what, and what becomes of the vector."""

import re

import pytest

from kvmmodel import Host
from kvmmodel.events import AvicMode, KvmApicvInhibitChanged, KvmInjVirq
from kvmmodel.widgets.extint import VECTOR, counted, extint_avic_story, extint_costs, extint_run

KERNELS = ["6.1", "6.12", "6.18", "7.2", "7.3.4"]


def changes(vm):
    return [(event.name, event.set) for event in vm.trace.events if isinstance(event, KvmApicvInhibitChanged)]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("flag", ["clear", "set"])
def test_avic_goes_only_for_a_guest_that_cannot_take_it(kernel, flag):
    """T12: IRQWIN set, the VINTR exit, cleared; AVIC off and on again in both VMCBs."""
    vm = extint_run(flag, kernel)
    assert vm.vcpus[0].guest.handled == {VECTOR: 1}
    assert vm.inhibits == set()
    modes = [(event.vcpu_id, event.mode) for event in vm.trace.events if isinstance(event, AvicMode)]
    if flag == "set":
        assert not modes
    else:
        assert changes(vm)[-1] == ("IRQWIN", False)
        assert [mode for mode in modes if mode[0] == 1][-2:] == [(1, "off"), (1, "x2avic")]


@pytest.mark.parametrize(("kernel", "first"), [("6.12", "inhibit"), ("7.3", "inject")])
def test_who_ends_the_inhibit(kernel, first):
    """source 6.12.117: the VINTR exit. 7.3.4: svm_inject_irq, with the vector in its hand: it is injected once more."""
    events = extint_run("clear", kernel).trace.events
    injected = [event.reinjected for event in events if isinstance(event, KvmInjVirq)]
    assert injected == ([False, True] if first == "inhibit" else [False, True, True])


def test_left_on_avic_hides_the_window():
    vm = extint_run("clear", "7.3", broken=True)
    assert vm.vcpus[0].guest.handled == {}
    assert vm.vcpus[0].kvm_vcpu.vmcb.v_irq
    assert vm.vcpus[0].kvm_vcpu.vmcb.rflags_if


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("avic", ["on", "off"])
@pytest.mark.parametrize("flag", ["clear", "set"])
@pytest.mark.parametrize("broken", [False, True])
def test_words_are_few_and_every_story_has_a_verdict(flag, avic, kernel, broken):
    story = extint_avic_story(flag, kernel, avic, broken)
    columns = {column.id for group in story.groups for column in group.columns}
    assert story.verdict
    for step in story.steps:
        assert len(step.sentence.split()) <= 20, step.sentence
        assert len(step.label.split()) <= 6, step.label
        assert {step.at, step.to} - {None} <= columns


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("avic", "flag", "exits"), [("on", "clear", 2), ("on", "set", 0), ("off", "clear", 0)])
def test_the_other_vcpu_pays_only_for_avics_going_and_coming(kernel, avic, flag, exits):
    assert counted(flag, kernel, avic)[-1] == exits


def test_the_table_has_the_counts_of_each_run_below_its_kernel():
    table = str(extint_costs(("6.12", "7.3")))
    assert re.findall(r"Kernel ([\d.]+)", table) == ["6.12", "7.3"]
    rows = re.findall(r"<tr><th scope=\"row\">(.*?)</th>(.*?)</tr>", table)
    assert [name for name, _ in rows] == ["AVIC on, IF clear", "AVIC on, IF set", "AVIC off, IF clear"] * 2
    assert re.findall(r"<td>(\d+)</td>", rows[3][1]) == [str(count) for count in counted("clear", "7.3", "on")]


@pytest.mark.parametrize("kernel", KERNELS)
def test_userspaces_extint_asks_for_the_same_window(kernel):
    """source 6.12.117 and 7.3.4 kvm_cpu_has_extint: with a split irqchip it is what KVM_INTERRUPT left."""
    vm = Host(kernel=kernel, avic=True).create_vm(vcpus=2, irqchip="split", boot=True)
    vm.vcpus[0].guest.cli()
    vm.vcpus[0].interrupt(VECTOR)
    vm.execute(0, ("spin 20000", "sti", "spin 20000"))
    vm.run()
    assert {change for change in changes(vm) if change[0] == "IRQWIN"} == {("IRQWIN", True), ("IRQWIN", False)}
    assert vm.vcpus[0].guest.handled == {VECTOR: 1}


def test_without_avic_only_a_window_is_said_to_cost_an_exit():
    assert "window costs" in extint_avic_story("clear", avic="off").verdict
    assert "no window" in extint_avic_story("set", avic="off").verdict
