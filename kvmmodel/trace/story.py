"""A run, told as numbered steps: what the diagrams draw and the widgets step through.

Plain data between the model and the pictures. ``kvmmodel.trace.steps`` makes a Story from the events of a run;
``kvmmodel.widgets`` draws it and knows nothing else of the model. Labels and sentences mark code with backticks.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Column:
    """One lane of the diagram. ``lane`` chooses colour, texture and icon: guest, hw, kvm, sched or dev."""

    id: str
    lane: str
    label: str


@dataclass(frozen=True, slots=True)
class Group:
    """Lanes under one heading, such as "vCPU 1 · CPU 5"."""

    label: str
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class StackFrame:
    """One frame. ``folded``: the compiler inlined or tail-called it, so no recording of this kernel shows it."""

    name: str
    module: str  # kvm, kvm_amd, kernel
    folded: bool = False


@dataclass(frozen=True, slots=True)
class ApicState:
    """What one vCPU's local APIC and its thread hold after a step. Bitmaps are ints: bit n is vector n."""

    vcpu: int
    cpu: int
    irr: int
    isr: int
    tmr: int
    tpr: int
    ppr: int
    mode: str  # OUTSIDE_GUEST_MODE, IN_GUEST_MODE, EXITING_GUEST_MODE
    requests: tuple[str, ...]  # pending, without the KVM_REQ_ prefix
    thread: str  # running, runnable (preempted or woken), blocked
    gif: bool = True
    nmi_blocked: bool = False
    nmis: int = 0  # that wait
    smm: bool = False


@dataclass(frozen=True, slots=True)
class PinState:
    """One pin of the IOAPIC after a step: its 64-bit redirection entry, and the sources that assert its line."""

    pin: int
    entry: int
    sources: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class IrteState:
    """A remapping entry of the IOMMU after a step, as its two 64-bit words; ``irq`` is the host's number."""

    irq: int
    lo: int
    hi: int


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happened.

    ``at`` is the column it happened in, ``to`` the column that control or a signal moves to (None: a local event).
    ``bars`` are the columns with a bar from this step on to the next: (column id, "runs" or "blocked").
    ``stack`` is innermost first, empty where no kernel code runs; ``stack_owner`` says whose ("CPU 2").
    ``states`` hold every vCPU shown; what changed is the difference to the step before.
    """

    kind: str  # a glyph: write exit entry set_irr barrier read request kick wake inject handler eoi halt timer msi ...
    at: str
    to: str | None
    label: str  # six words or fewer, for the diagram
    detail: str  # a second short line, for phones
    who: str  # "KVM on CPU 2"
    sentence: str  # 20 words or fewer
    bars: tuple[tuple[str, str], ...]
    stack: tuple[StackFrame, ...]
    stack_owner: str
    states: tuple[ApicState, ...]
    pin: PinState | None = None  # in a story of a line
    irte: IrteState | None = None  # in a story of a device


@dataclass(frozen=True, slots=True)
class Badge:
    """How something is known: recorded, source, mail, manual, inferred or recalled; and what and which version."""

    how: str
    text: str


BROKEN = Badge("inferred", "the rule removed in the model")  # nobody recorded a kernel without it


@dataclass(frozen=True, slots=True)
class Story:
    """A whole run. ``broken`` names the rule that was removed on purpose; ``verdict`` is what came of it, and ``lost``
    says that it is a loss though nothing was removed. ``pin``, ``irte``: before the first step, in a
    story of a line, of a device. ``counted``: the figure counts exits, host IPIs, doorbells and wake-ups on the way."""

    title: str
    setup: str  # "Kernel 6.12, Zen 4, `avic=0`, x2APIC guest"
    groups: tuple[Group, ...]
    before: tuple[tuple[str, str], ...]  # bars before the first step
    start: tuple[ApicState, ...]  # states before the first step
    steps: tuple[Step, ...]
    badges: tuple[Badge, ...] = ()
    broken: str | None = None
    verdict: str | None = None
    lost: bool = False
    pin: PinState | None = None
    irte: IrteState | None = None
    counted: bool = False
