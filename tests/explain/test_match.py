"""A recorded stack is matched if its KVM frames, in order, are a subsequence of a stack that the model emitted."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmmodel.explain.match import KNOWN, MATCHED, UNKNOWN, Match, index, kernels_for, match
from kvmmodel.explain.normalise import normalise
from kvmmodel.explain.text import Frame

Corpus = Mapping[str, frozenset[tuple[str, ...]]]
STACK = (
    "rcuwait_wake_up",
    "kvm_vcpu_kick",
    "svm_complete_interrupt_delivery",
    "svm_deliver_interrupt",
    "__apic_accept_irq",
    "kvm_apic_local_deliver",
    "kvm_inject_apic_timer_irqs",
    "vcpu_run",
    "kvm_arch_vcpu_ioctl_run",
    "kvm_vcpu_ioctl",
)
MODEL: Corpus = {"6.12": frozenset({STACK, ("apic_update_ppr", "kvm_set_cr8", "svm_vcpu_run", "vcpu_run")})}


def check(names: list[str] | tuple[str, ...], corpus: Corpus = MODEL, kernel: str | None = None) -> Match:
    return match(normalise([Frame(name) for name in names]), index(corpus, kernel))


def test_frames_that_the_recorded_kernel_inlined_may_lack() -> None:
    assert check([name for name in STACK if name not in ("svm_deliver_interrupt", "vcpu_run")]).verdict == MATCHED


def test_the_outer_end_may_be_cut() -> None:
    assert check(STACK[:4]).verdict == MATCHED


def test_frames_outside_kvm_are_listed_not_matched() -> None:
    found = check((*STACK[:4], "_raw_spin_unlock_irqrestore", *STACK[4:], "do_syscall_64"))
    assert (found.verdict, found.outside) == (MATCHED, ("_raw_spin_unlock_irqrestore", "do_syscall_64"))


def test_known_functions_in_a_stack_that_no_run_emitted() -> None:
    assert check(("apic_update_ppr", "apic_set_eoi", "vcpu_run")).verdict == KNOWN


def test_a_kvm_function_that_nobody_knows() -> None:
    found = check(("avic_frobnicate", *STACK))
    assert (found.verdict, found.unknown) == (UNKNOWN, ("avic_frobnicate",))


def test_a_function_that_only_the_model_knows_matches_all_the_same() -> None:
    assert check(("svm_new_thing",), {"7.3": frozenset({("svm_new_thing", "vcpu_run")})}).verdict == MATCHED


def test_a_stack_without_kvm_is_never_matched() -> None:
    assert check(("schedule", "do_syscall_64")).verdict == KNOWN
    assert check(("ext4_sync_file", "do_syscall_64")).verdict == UNKNOWN
    assert check(()).verdict == KNOWN


def test_with_no_runs_nothing_is_matched() -> None:
    empties: list[Corpus] = [{}, {"6.12": frozenset()}]
    for corpus in empties:
        for stack in MODEL["6.12"]:
            assert check(stack, corpus).verdict == KNOWN


def test_which_kernels_are_compared() -> None:
    names = ["6.12", "6.1", "6.12.95", "7.3"]
    assert kernels_for(None, names) == ["6.1", "6.12", "6.12.95", "7.3"]
    assert kernels_for("6.12.95", names) == ["6.12.95"]
    assert kernels_for("6.12.40", names) == ["6.12", "6.12.95"]
    assert kernels_for("6.1.187", names) == ["6.1"]
    assert kernels_for("5.4.1", names) == kernels_for(None, names), (
        "a series that never ran: all, and the report says which"
    )


def test_an_unknown_kernel_is_compared_with_all_and_the_fitting_ones_are_named() -> None:
    corpus = {"6.1": MODEL["6.12"], "6.12": MODEL["6.12"], "7.3": frozenset({("vcpu_run",)})}
    assert check(STACK, corpus).kernels == ("6.1", "6.12")
    assert check(STACK, corpus, "7.3.4").verdict == KNOWN


@given(st.lists(st.booleans(), min_size=len(STACK), max_size=len(STACK)))
def test_dropping_any_frames_still_matches(keep: list[bool]) -> None:
    kept = [name for name, stays in zip(STACK, keep, strict=True) if stays]
    if any(one.kvm for one in normalise([Frame(name) for name in kept])):
        assert check(kept).verdict == MATCHED


@given(st.integers(1, len(STACK) - 1), st.integers(1, len(STACK) - 1))
def test_exchanging_two_kvm_frames_does_not_match(one: int, other: int) -> None:
    swapped = list(STACK)
    swapped[one], swapped[other] = swapped[other], swapped[one]
    assert check(swapped).verdict == (MATCHED if one == other else KNOWN)


@pytest.mark.parametrize("name", STACK[1:])
def test_doubling_a_frame_does_not_match(name: str) -> None:
    at = STACK.index(name)
    assert check((*STACK[:at], name, *STACK[at:])).verdict == KNOWN
