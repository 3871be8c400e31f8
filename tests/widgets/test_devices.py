"""The explorer and the table of the page on devices."""

import re

import pytest

from kvmmodel.events import KvmApicAcceptIrq, WakeUp
from kvmmodel.widgets.devices import (
    KERNELS,
    counted,
    device_costs,
    device_explained,
    device_explorer,
    device_stack,
    device_tracepoints,
)
from tests.trace.test_device import EVERY


@pytest.mark.parametrize("kernel", [kernel for _, kernel in KERNELS])
@pytest.mark.parametrize(("state", "posting"), EVERY)
def test_without_the_log_only_a_posted_interrupt_of_a_sleeper_is_lost(state, posting, kernel):
    story = device_explained(state, posting, kernel, True)
    lost = (state, posting) == ("halted", "on")
    assert story.broken
    assert story.verdict.startswith("Lost wake-up:" if lost else "Nothing lost")
    assert (story.steps[-1].kind == "eoi") is not lost
    assert (story.steps[-1].states[-1].thread == "blocked") is lost


@pytest.mark.parametrize(
    ("state", "posting", "kernel", "counts"),
    [
        ("in-guest", "on", "7.3", (0, 0, 0, 1, 0)),
        ("in-guest", "inhibited", "7.3", (1, 0, 1, 0, 2)),
        ("in-guest", "off", "7.3", (1, 0, 0, 1, 0)),
        ("halted", "on", "7.3", (1, 1, 1, 0, 0)),
        ("halted", "inhibited", "7.3", (1, 1, 1, 0, 1)),
        ("halted", "off", "7.3", (1, 1, 1, 0, 0)),
        ("preempted", "on", "6.12", (1, 0, 0, 0, 0)),
        ("preempted", "on", "7.3", (0, 0, 0, 0, 0)),
        ("preempted", "inhibited", "7.3", (1, 0, 0, 0, 1)),
        ("preempted", "off", "7.3", (1, 0, 0, 0, 0)),
    ],
)
def test_what_an_interrupt_costs(state, posting, kernel, counts):
    assert counted(state, posting, kernel) == counts


def test_the_table_has_a_row_for_each_case_and_one_more_where_releases_differ():
    heads = re.findall('<th scope="row">(.*?)</th>', device_costs())
    assert heads == ["on", "inhibited", "off"] * 2 + ["on, 6.1 to 6.12", "on, 6.18 to 7.3", "inhibited", "off"]
    over = re.findall('<th scope="rowgroup"[^>]*>(.*?)</th>', device_costs())
    assert over == ["vCPU in guest", "vCPU halted", "vCPU preempted"]


def test_the_widget_steps_and_breaks():
    widget = device_explorer()
    widget.choose(state="halted", posting="on", kernel="6.18")
    widget.go(99)
    assert widget.story.steps[widget.index].label == "ISR cleared, no exit"
    widget.set_broken(True)
    widget.go(99)
    assert widget.error is None
    assert "Lost wake-up" in widget.story.verdict


def test_the_text_of_the_page():
    assert device_tracepoints("halted", "on", only=("kvm_pi_irte_update", "kvm_avic_ga_log")).splitlines() == [
        "vcpu0  kvm_pi_irte_update: PI is enabled and being updated for irq 40, vcpu 0, gsi: 0x18, gvec: 0x63",
        "irq/25-AMD-Vi0-GA  kvm_avic_ga_log: vmid=1, vcpuid=0",
    ]
    assert "vfio_msihandler" in device_stack("in-guest", "off", KvmApicAcceptIrq).splitlines()
    assert "avic_ga_log_notifier" in device_stack("halted", "on", WakeUp).splitlines()
    with pytest.raises(ValueError, match="nothing in this run is WakeUp"):
        device_stack("in-guest", "on", WakeUp)
