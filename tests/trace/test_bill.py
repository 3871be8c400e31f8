"""The bill of an interrupt: what is counted, from its cause to its EOI, and what it is called."""

import json

import pytest

from kvmmodel import Host
from kvmmodel.cli import main
from kvmmodel.scenarios.run import built_in, run
from kvmmodel.trace.bill import bill, bills, render, total
from kvmmodel.trace.bill_words import access

HOSTS = {
    "off": lambda kernel: Host("zen4", kernel, avic=False),
    "hybrid": lambda kernel: Host("zen3,+avic", kernel, avic=True),
    "on": lambda kernel: Host("zen4", kernel, avic=True),
}


def made(name, mode="off", kernel="7.3", **options):
    vm = run(built_in(name), HOSTS[mode](kernel), **options)
    return bills(vm.trace.records, vm.host.kernel)


def rows(one):
    return one.exits, one.host_ipis, one.doorbells, one.wake_ups


@pytest.mark.parametrize("kernel", ["6.1", "6.12", "6.18", "7.3"])
def test_an_ipi_to_a_running_vcpu(kernel):
    off, hybrid, on = (made("ipi-in-guest", mode, kernel)[0] for mode in HOSTS)
    assert rows(off) == (("ICR write", "kick", "EOI"), ("kick to CPU 5",), (), ())
    assert rows(hybrid) == (("ICR write", "EOI"), (), ("by KVM",), ())
    assert rows(on) == ((), (), ("by hardware",), ())
    assert on.functions == ()
    assert "svm_complete_interrupt_delivery" in off.functions


def test_an_inhibited_vm_pays_what_one_without_avic_pays():
    vm = run(built_in("ipi-in-guest"), Host("zen4", "7.3", avic=True), pit="reinject")
    assert bills(vm.trace.records, vm.host.kernel) == made("ipi-in-guest")


def test_a_sleeper_has_to_be_woken_in_every_mode():
    for mode, exits in (("off", 2), ("hybrid", 2), ("on", 1)):
        (one,) = made("ipi-halted", mode)
        assert (len(one.exits), one.host_ipis, one.wake_ups) == (exits, ("scheduler to CPU 5",), ("thread vcpu1",))
    assert made("ipi-halted", "on")[0].exits == ("incomplete IPI",)


def test_two_targets_share_the_senders_part():
    (one,) = made("ipi-others-in-guest")
    assert (one.targets, one.delivered) == ((1, 2), 2)
    assert one.exits == ("ICR write", "kick", "kick", "EOI", "EOI")


def test_an_ipi_of_two_writes_begins_with_the_first():
    (one,) = made("ipi-xapic-in-guest")
    assert one.cause.startswith("MOV [0xfee00310]")
    assert one.exits[:2] == ("ICR2 write", "ICR write")


def test_a_timer_begins_with_the_write_that_arms_it():
    (one,) = made("timer-in-guest")
    assert one.exits == ("TSC deadline write", "timer", "EOI")


def test_each_period_of_a_timer_has_its_own_bill():
    """All but the first once began with the same host interrupt, and had the others' exits too."""
    first, second = made("timer-periodic-in-guest")
    assert first.exits == ("TMICT write", "timer", "EOI")
    assert second.exits == ("timer", "EOI")
    assert [len(one.wake_ups) for one in made("timer-periodic-halted")] == [1, 1, 1, 1]


def test_pv_eoi_saves_the_exit_of_the_eoi():
    assert made("pv-eoi")[0].exits == ("SELF_IPI write",)


def test_a_reschedule_is_no_kick():
    (one,) = made("timer-preempted", "on")
    assert "reschedule to CPU 5" in one.host_ipis
    assert "kick" not in one.exits


def test_a_device_s_interrupt_begins_with_its_message():
    """KVM's doorbell was once not counted when the host's CPU was idle before."""
    vm = run(built_in("device-in-guest"), Host("zen4", "7.3", avic=True, iommu="vapic"))
    (posted,) = bills(vm.trace.records, vm.host.kernel)
    assert (posted.cause, rows(posted)) == ("device_msi", ((), (), ("by the IOMMU",), ()))
    assert posted.functions == ()
    assert rows(made("device-in-guest", "on")[0]) == ((), (), ("by KVM",), ())
    assert rows(made("device-in-guest", "off")[0]) == (("kick", "EOI"), ("kick to CPU 5",), (), ())


def test_totals_add_up_and_are_zero_without_interrupts():
    assert total([]) == {"delivered": 0, "exits": 0, "host_ipis": 0, "doorbells": 0, "wake_ups": 0, "functions": 0}
    all_ = made("lab")
    assert total(all_)["exits"] == sum(len(one.exits) for one in all_)


def test_one_bill_by_vector_and_target():
    vm = run(built_in("ipi-in-guest"), HOSTS["on"]("7.3"))
    assert bill(vm.trace.records, vm.host.kernel, 0x43, 1).delivered == 1
    with pytest.raises(ValueError, match="vector 0x44 of vCPU 1"):
        bill(vm.trace.records, vm.host.kernel, 0x44, 1)


def test_zero_is_printed():
    vm = run(built_in("ipi-in-guest"), HOSTS["on"]("7.3"))
    said = render(vm.trace.records, vm.host.kernel)
    assert "  exits:     0\n" in said
    assert "  doorbells: 1  by hardware\n" in said


@pytest.mark.parametrize(
    ("text", "name"),
    [("WRMSR 0x830 = 0x43", "ICR write"), ("WRMSR 0x80b = 0x0", "EOI"), ("MOV [0xfee000b0] = 0x0", "EOI"),
     ("RDMSR 0x808", "TPR read"), ("MOV r, [0xfee000a0]", "PPR read"), ("WRMSR 0x6e0 = 0x1", "TSC deadline write"),
     ("WRMSR 0x10 = 0x1", "WRMSR 0x10"), ("MOV CR8 = 0x3", "MOV CR8")],
)  # fmt: skip
def test_an_access_is_called_by_its_register(text, name):
    assert access(text) == name


def test_the_command_line_has_it(capsys):
    assert main(["run", "ipi-in-guest", "--avic", "on", "--kernel", "7.3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["bill"]
    assert (found["exits"], found["doorbells"], found["interrupts"][0]["doorbells"]) == (0, 1, ["by hardware"])
    assert main(["run", "ipi-in-guest", "--avic", "off", "--format", "bill"]) == 0
    assert "exits:     3  ICR write, kick, EOI" in capsys.readouterr().out
