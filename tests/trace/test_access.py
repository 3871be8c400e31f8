"""One instruction of a guest in a run."""

import pytest

from kvmmodel import Host
from kvmmodel.trace.access import FAST, SLOW, access
from kvmmodel.trace.steps import access_story


def made(*lines, cpu="zen4", kernel="7.3", x2apic=True):
    vm = Host(cpu, kernel, avic=False).create_vm(2, x2apic=x2apic, boot=True)
    vm.execute(0, lines)
    vm.run(limit_ns=200_000)
    return vm


def test_an_access_ends_with_the_entry_after_it():
    vm = made("wrmsr TPR 0x50", "rdmsr TPR")
    found = access(vm.trace.records, 0, "WRMSR 0x808")
    kinds = [record.event.kind for record in found.records]
    assert (kinds[0], kinds[1], kinds[-1]) == ("instruction", "exit", "vmrun")
    assert kinds.count("exit") == kinds.count("vmrun") == 1
    assert (found.exit, found.path, found.effects, found.refused) == ("msr", SLOW, (), False)


def test_without_an_exit_it_ends_before_the_next_instruction():
    vm = made("write_cr8 5", "rdmsr PPR")
    found = access(vm.trace.records, 0, "MOV CR8")
    assert [record.event.kind for record in found.records] == ["instruction"]
    assert (found.exit, found.path) == (None, None)


@pytest.mark.parametrize(("cpu", "path"), [("zen4", FAST), ("zen4-nested", FAST), ("tcg", SLOW)])
def test_the_fast_path_needs_nrips(cpu, path):
    vm = made("wrmsr ICR 0x1_0000_0043", cpu=cpu)
    found = access(vm.trace.records, 0, "WRMSR 0x830")
    assert (found.path, found.effects) == (path, ("sets IRR `0x43` of vCPU 1",))


def test_what_others_do_meanwhile_is_not_part_of_it():
    vm = made("wrmsr ICR 0x1_0000_0043")
    found = access(vm.trace.records, 0, "WRMSR 0x830")
    assert {record.vcpu for record in found.records} == {0}
    assert any(record.vcpu == 1 for record in vm.trace.records)


def test_a_refused_access():
    found = access(made("wrmsr 0x80d 1").trace.records, 0, "WRMSR 0x80d")
    assert found.refused
    assert found.effects == ("`#GP`",)


def test_an_instruction_that_is_not_there():
    with pytest.raises(ValueError, match="executes no instruction that starts with 'HLT'"):
        access(made("nop").trace.records, 0, "HLT")


@pytest.mark.parametrize("kernel", ["5.10", "6.12", "7.3"])
@pytest.mark.parametrize(
    ("lines", "text", "x2apic"),
    [
        (("wrmsr SELF_IPI 0x51",), "WRMSR 0x83f", True),
        (("wrmsr SELF_IPI 0x51",), "WRMSR 0x80b", True),
        (("write_cr8 5", "wrmsr SELF_IPI 0x51", "write_cr8 0"), "MOV CR8 = 0x0", True),
        (("mmio_write 0xfee00080 0x50",), "MOV [0xfee00080]", False),
        (("mmio_read 0xfee000a0",), "MOV r, [0xfee000a0]", False),
        (("wrmsr 0x80d 1",), "WRMSR 0x80d", True),
    ],
)
def test_its_story_is_told_in_few_words(lines, text, x2apic, kernel):
    vm = made(*lines, kernel=kernel, x2apic=x2apic)
    told = access_story(access(vm.trace.records, 0, text).records, vm.host.kernel, title="t", setup="s")
    columns = {column.id for group in told.groups for column in group.columns}
    assert [step.kind for step in told.steps][1] == "exit"
    assert told.steps[-1].label.startswith("`VMRUN`")
    for step in told.steps:
        assert len(step.sentence.split()) <= 20, step.sentence
        assert len(step.label.split()) <= 6, step.label
        assert {step.at, step.to} - {None} <= columns


def test_a_story_of_two_threads_is_refused():
    vm = made("wrmsr ICR 0x1_0000_0043")
    with pytest.raises(ValueError, match="one vCPU's thread"):
        access_story(vm.trace.records, vm.host.kernel, title="t", setup="s")
