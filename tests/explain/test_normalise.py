"""What is left of a recorded frame before it is compared, and whose function it is taken for."""

import pytest

from kvmmodel.explain.normalise import normalise, part, plain
from kvmmodel.explain.text import Frame


def names(*frames: str) -> list[str]:
    return [part.name for part in normalise([Frame(name) for name in frames])]


@pytest.mark.parametrize(
    "name",
    [
        "__set_sregs_common.constprop.0",
        "__set_sregs_common.isra.0.part.12",
        "__set_sregs_common.part.0.cold",
        "__set_sregs_common.cold",
        "__set_sregs_common",
    ],
)
def test_compiler_suffixes_go(name: str) -> None:
    assert plain(name) == "__set_sregs_common"


def test_probe_plumbing_goes() -> None:
    plumbing = [
        "bpf_prog_0123456789abcdef_kprobe",
        "bpf_trampoline_6442",
        "trace_call_bpf",
        "kprobe_perf_func",
        "kprobe_trace_func",
        "kprobe_dispatcher",
        "kprobe_ftrace_handler",
        "ftrace_trampoline",
        "trace_event_raw_event_kvm_entry",
        "0xffffffffc038d0de",
        "ffffffffc038d0de",
    ]
    assert names(*plumbing, "kvm_vcpu_kick", "vcpu_run") == ["kvm_vcpu_kick", "vcpu_run"]


def test_a_function_and_its_split_part_are_one_frame() -> None:
    assert names("__kvm_x2apic_icr_write.part.0", "__kvm_x2apic_icr_write", "x") == ["__kvm_x2apic_icr_write", "x"]
    assert names("schedule", "schedule") == ["schedule", "schedule"], "recursion is not a split"


@pytest.mark.parametrize(
    ("name", "module", "kvm", "known"),
    [
        ("__apic_accept_irq", None, True, True),  # untagged: the facts know
        ("__apic_accept_irq", "kvm", True, True),
        ("irqfd_wakeup", None, True, True),
        ("rcuwait_wake_up", None, False, True),
        ("do_syscall_64", None, False, True),
        ("frobnicate", "kvm_amd", True, False),  # the tag says so
        ("frobnicate", None, False, False),
        ("avic_frobnicate", None, True, False),  # the name says so
        ("__kvm_frobnicate", None, True, False),
        ("svm_frobnicate", "nft_compat", False, False),  # another module's
        ("kvm_guest_apic_eoi_write", None, False, True),  # the guest's side, not the module
    ],
)
def test_whose_function_it_is(name: str, module: str | None, kvm: bool, known: bool) -> None:
    found = part(name, module)
    assert (found.kvm, found.known) == (kvm, known)
