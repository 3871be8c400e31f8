"""Make recorded frames comparable: drop what the probe added, strip what the compiler added, say whose they are."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from kvmmodel.explain.text import Frame
from kvmmodel.facts.functions import FUNCTIONS

# Frames of the tracing itself: how a kprobe, ftrace, a BPF program, perf or a warning got control.
_PLUMBING = re.compile(
    r"^(k(ret)?probe_|optimized_callback$|opt_pre_handler|rethook_|arch_rethook|fprobe_|return_to_handler$"
    r"|ftrace_|arch_ftrace_|__?ftrace_|trace_call_bpf|trace_event_raw|trace_event_buffer|__traceiter_|stack_trace_"
    r"|bpf_|__bpf_|perf_trace_|perf_call_bpf|perf_tp_event|perf_swevent|perf_callchain|get_perf_callchain"
    r"|perf_prepare_sample|perf_event_output|__perf_event_|uprobe_"
    r"|(asm_)?exc_int3$|do_int3|int3_|dump_stack|show_stack|show_trace|__warn$|warn_slowpath|report_bug$|__report_bug$"
    r"|handle_bug$|(asm_)?exc_invalid_op$)"
)
_ADDRESS = re.compile(r"^(0x[0-9a-f]+|[0-9a-f]{16}|\[unknown\])$")
_SUFFIX = re.compile(r"(\.(part|isra|constprop|cold|llvm|lto_priv|localalias)(\.\d+)?)+$")

# A function with such a name and no other known home is KVM's: one that the facts don't have yet.
_KVM_LIKE = re.compile(
    r"^_*(kvm|svm|avic|apic|vcpu|ioapic|irqfd|nested_svm|sev|vmx|handle_fastpath|emulator|x86_emulate|em|tdp_mmu)_"
)
KVM_MODULES = frozenset({"kvm", "kvm_amd", "kvm_intel"})


@dataclass(frozen=True, slots=True)
class Part:
    """A frame that counts: its plain name, whether it is KVM's, and whether the facts know it."""

    name: str
    kvm: bool
    known: bool


def plain(name: str) -> str:
    """A function's name without what the compiler added: kick.part.0.isra.0 -> kick."""
    return _SUFFIX.sub("", name)


def part(name: str, module: str | None = None) -> Part:
    """Classify one plain name. A module tag in the recording decides; without one the facts do, then the name."""
    function = FUNCTIONS.get(name)
    if module is not None:
        kvm = module in KVM_MODULES
    elif function is not None:
        kvm = function.is_kvm
    else:
        kvm = bool(_KVM_LIKE.match(name))
    return Part(name, kvm, function is not None)


def kept(frames: Sequence[Frame]) -> list[tuple[Frame, Part]]:
    """The frames that count, innermost first, each as it was written and as it is compared."""
    found: list[tuple[Frame, Part]] = []
    split = False
    for frame in frames:
        name = plain(frame.name)
        if _ADDRESS.match(name) or _PLUMBING.match(name):
            continue
        if found and found[-1][1].name == name and (split or name != frame.name):
            continue  # foo.part.0 called by foo: one function to whoever reads the source
        split = name != frame.name
        found.append((frame, part(name, frame.module)))
    return found


def normalise(frames: Sequence[Frame]) -> tuple[Part, ...]:
    """The frames that count, innermost first."""
    return tuple(part for _, part in kept(frames))
