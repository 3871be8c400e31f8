"""GIF, NMIs and SMIs in a program's story: who keeps the flag, who delivers, and how KVM hears that it may."""

import pytest

from kvmmodel import Host
from kvmmodel.facts.releases import series
from kvmmodel.scenarios.run import built_in, run
from kvmmodel.trace.steps import program_story
from kvmmodel.trace.telling_gif import GIF_TELLERS
from kvmmodel.trace.telling_program import PROGRAM_TELLERS


def tell(scenario, kernel="6.12", *, broken=(), tellers=GIF_TELLERS, **params):
    host = Host("zen4", kernel, avic=False, **params)
    made = run(built_in(scenario), host, broken=broken)
    since = "CLGI" if "clear" in scenario else ""
    told = program_story(made.trace.records, host.kernel, (2,), title="t", setup="s", since=since, tellers=tellers)
    return told.steps


def find(steps, label):
    return next(step for step in steps if step.label == label)


def test_with_vgif_the_processor_changes_the_flag_and_no_exit_follows():
    steps = tell("gif-clear-none")
    assert [(step.label, step.at) for step in steps] == [
        ("`CLGI`", "t.guest"),
        ("`V_GIF` := 0, no exit", "t.hw"),
        ("`STGI`", "t.guest"),
        ("`V_GIF` := 1, no exit", "t.hw"),
    ]
    assert [step.states[0].gif for step in steps] == [True, False, False, True]


def test_without_vgif_kvm_changes_it():
    steps = tell("gif-clear-none", vgif=False)
    kinds = [(step.label, step.at) for step in steps]
    assert kinds[1:3] == [("`#VMEXIT` CLGI", "t.guest"), ("GIF := 0", "t.kvm")]
    assert [frame.name for frame in steps[2].stack[:2]] == ["svm_set_gif", "clgi_interception"]
    assert not steps[2].states[0].gif


def test_an_stgi_that_kvm_waits_for_reads_otherwise_than_one_that_always_exits():
    waited, always = (find(tell("gif-clear-smi", **p), "`#VMEXIT` STGI").sentence for p in ({}, {"vgif": False}))
    assert "in spite of vGIF" in waited
    assert always.startswith("Without vGIF")


def test_a_virtual_nmi_is_the_processors():
    steps = tell("gif-set-nmi")
    taken = find(steps, "delivers the virtual NMI")
    assert (taken.at, taken.to, taken.stack) == ("t.hw", "t.guest", ())
    assert [frame.name for frame in find(steps, "set `V_NMI_PENDING`").stack[:2]] == [
        "svm_set_vnmi_pending",
        "process_nmi",
    ]
    assert "inject" not in [step.kind for step in steps]


@pytest.mark.parametrize("kernel", series())
def test_an_injected_nmi_is_no_vector(kernel):
    """The entry once read "`VMRUN` injects `0x0`": the field is not used for an NMI."""
    for tellers in (GIF_TELLERS, PROGRAM_TELLERS):
        params = {} if kernel in ("5.10", "5.15", "6.1") else {"vnmi": False}
        steps = tell("gif-set-nmi", kernel, tellers=tellers, **params)
        assert [step.label for step in steps if "injects" in step.label] == ["`VMRUN` injects the NMI"]


@pytest.mark.parametrize(
    ("params", "broken", "said"),
    [
        ({}, (), "the processor allows NMIs again by itself"),
        ({"vnmi": False}, (), "KVM sees at the next exit that it has"),
        ({"vnmi": False}, ("no-iret-intercept",), "KVM does not hear of it"),
    ],
)
def test_who_hears_of_the_iret(params, broken, said):
    assert said in find(tell("gif-set-nmi", broken=broken, **params), "`IRET`").sentence


def test_the_window_behind_an_iret_is_a_single_step():
    labels = [step.label for step in tell("gif-set-again", vnmi=False)]
    behind = labels[labels.index("no `IRET` intercept") :]
    assert behind[:7] == [
        "no `IRET` intercept",
        "request `EVENT`",
        "single-step the guest",
        "`VMRUN`",
        "`IRET`",
        "`#VMEXIT` #DB",
        "request `EVENT`",
    ]


def test_smm_shows_in_the_state_and_its_own_iret_intercept_is_left_out():
    steps = tell("gif-set-smi", vnmi=False)
    assert [step.states[0].smm for step in steps if step.label in ("enter SMM", "leave SMM")] == [True, False]
    assert "intercept `IRET`" not in [step.label for step in steps]
    assert [step.label for step in steps if step.kind == "msi"] == ["the VMM sends an SMI"]
