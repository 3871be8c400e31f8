"""The explorer of the ExtINT's page: who is told to do what, and what becomes of the vector."""

import re

import pytest

from kvmmodel.events import AvicMode, KvmApicvInhibitChanged, KvmInjVirq
from kvmmodel.widgets.extint import VECTOR, extint_avic_story, extint_costs, extint_run

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


def test_the_other_vcpu_pays_only_while_avic_is_on():
    """Exits of vCPU 1: two for IF clear and AVIC on, else none."""
    rows = re.findall(r"<tr>(.*?)</tr>", str(extint_costs(("7.3",))))[1:]
    assert [re.findall(r"<td>(.*?)</td>", row)[-1] for row in rows] == ["2", "0", "0"]
