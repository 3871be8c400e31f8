"""What a run asks of its release, and a release with one behaviour turned round."""

from kvmmodel.facts.releases import changes, kernel
from kvmmodel.machine.asked import flipped, listening
from kvmmodel.machine.host import Host
from kvmmodel.scenarios.run import built_in, run


def test_what_is_asked_is_noted_under_what_goes_on():
    heard, asked = listening(kernel("6.12"), "load")
    host = Host("zen4", heard, avic=False)
    assert "avic_needs_hv_inuse" not in asked.found["load"], "with avic=0 nobody gets that far"
    assert "nrips_normalised" in asked.found["load"]
    asked.during = "run"
    vm = host.create_vm(vcpus=2, boot=True)
    vm.vcpus[0].guest.wrmsr(0x830, 0x1_0000_0043)
    assert "icr_fastpath_any_destination" in asked.found["run"], "asked for, though 6.12 has it not"
    assert "tsc_deadline_fastpath" not in asked.found["run"], "no deadline was set"


def test_a_release_answers_as_before_while_it_is_listened_to():
    plain = kernel("6.12.95")
    heard, _ = listening(plain, "load")
    assert heard == plain
    one, two = (Host("zen4", which, avic=True).create_vm(vcpus=2, boot=True) for which in (plain, heard))
    assert one.trace.records == two.trace.records


def test_what_a_run_does_not_ask_for_cannot_change_it():
    plain = kernel("6.12")

    def records(which):
        return run(built_in("ipi-in-guest"), Host("zen4", which, avic=True)).trace.records

    heard, asked = listening(plain, "all")
    once = records(heard)
    others = [id for id in changes() if id not in asked.found["all"]]
    assert len(others) > 40
    for id in others[::5]:
        assert records(flipped(plain, id)) == once, id


def test_a_behaviour_turned_round_is_the_only_difference():
    old, new = kernel("6.12"), kernel("7.3")
    assert flipped(old, "avic_auto").behaviours == old.behaviours | {"avic_auto"}
    assert flipped(new, "avic_auto").behaviours == new.behaviours - {"avic_auto"}
    assert flipped(new, "avic_auto").release == new.release
    assert new.has("avic_auto"), "the release itself stays what it is"
