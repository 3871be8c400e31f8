"""Runs made by hand for the widgets' tests: true names in a true order, but no model ran."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kvmmodel.trace.story import ApicState, Badge, Column, Group, StackFrame, Step, Story


def lanes(*ids: str) -> tuple[Column, ...]:
    kinds = {"g": ("guest", "guest"), "h": ("hw", "hardware"), "k": ("kvm", "KVM")}
    return tuple(Column(i, *kinds[i[0]]) for i in ids)


GROUPS = (
    Group("vCPU 0 · CPU 2", lanes("g0", "h0", "k0")),
    Group("host", (Column("sched", "sched", "scheduler"),)),
    Group("vCPU 1 · CPU 5", lanes("k1", "h1", "g1")),
)
BIT = 1 << 0x43
IN0 = ApicState(0, 2, 0, 0, 0, 0, 0x10, "IN_GUEST_MODE", (), "running")
OUT0 = replace(IN0, mode="OUTSIDE_GUEST_MODE")
HALTED1 = ApicState(1, 5, 0, 0, 0, 0, 0x10, "OUTSIDE_GUEST_MODE", (), "blocked")
IN1 = replace(HALTED1, mode="IN_GUEST_MODE", thread="running")


def frames(text: str) -> tuple[StackFrame, ...]:
    """Words: ``name`` is kvm's, ``name@module`` another module's, ``(name)`` folded."""
    out = []
    for word in text.split():
        name, _, module = word.strip("()").partition("@")
        out.append(StackFrame(name, module or "kvm", folded=word.startswith("(")))
    return tuple(out)


ENTRY = frames("""
    handle_fastpath_set_msr_irqoff (svm_exit_handlers_fastpath@kvm_amd) (svm_vcpu_run@kvm_amd) (vcpu_enter_guest)
    (vcpu_run) kvm_arch_vcpu_ioctl_run kvm_vcpu_ioctl __x64_sys_ioctl@kernel do_syscall_64@kernel
    entry_SYSCALL_64_after_hwframe@kernel""")
SEND = (
    frames("""
    kvm_irq_delivery_to_apic_fast kvm_irq_delivery_to_apic kvm_apic_send_ipi kvm_x2apic_icr_write
    (handle_fastpath_set_x2apic_icr_irqoff)""")
    + ENTRY
)
ACCEPT = (
    frames("""
    svm_complete_interrupt_delivery@kvm_amd (svm_deliver_interrupt@kvm_amd) __apic_accept_irq (kvm_apic_set_irq)""")
    + SEND
)
WAKE = (
    frames("try_to_wake_up@kernel wake_up_process@kernel rcuwait_wake_up@kernel (kvm_vcpu_wake_up) kvm_vcpu_kick")
    + ACCEPT
)
IPI = frames("default_send_IPI_single_phys@kernel __smp_call_single_queue@kernel ttwu_queue_wakelist@kernel") + WAKE
RUN1 = frames("svm_inject_irq@kvm_amd kvm_check_and_inject_events (vcpu_enter_guest) (vcpu_run)") + ENTRY[5:]
EOI = frames("apic_set_eoi kvm_lapic_reg_write") + RUN1[2:]

Facts = tuple[tuple[StackFrame, ...], tuple[ApicState, ...]]


def told(table: str, facts: Sequence[Facts]) -> tuple[Step, ...]:
    """Steps from lines "kind | at>to | label | detail | who | sentence | bars"; ``k1~`` is a blocked bar."""
    out = []
    for line, (stack, states) in zip(table.strip().splitlines(), facts, strict=True):
        kind, move, label, detail, who, sentence, bars = (cell.strip() for cell in line.split("|"))
        at, _, to = move.partition(">")
        shown = tuple((b.rstrip("~"), "blocked" if b.endswith("~") else "runs") for b in bars.split())
        owner = ("CPU 5" if at.endswith("1") else "CPU 2") if stack else ""
        out.append(Step(kind, at, to or None, label, detail, who, sentence, shown, stack, owner, states))
    return tuple(out)


def halted() -> Story:
    """An IPI to a halted vCPU with AVIC off, 15 steps."""
    set1 = replace(HALTED1, irr=BIT)
    req1 = replace(set1, requests=("EVENT",))
    awake = replace(req1, thread="runnable")
    injected = replace(awake, irr=0, isr=BIT, ppr=0x40, requests=(), thread="running")
    inside = replace(injected, mode="IN_GUEST_MODE")
    done = replace(injected, isr=0, ppr=0x10)
    table = """
write | g0 | `WRMSR 0x830` = `0x1_0000_0043` | ICR: vec 0x43 to APIC 1 | guest on CPU 2 | vCPU 0 sends. | g0 k1~
exit | g0>k0 | `#VMEXIT` `0x7C` MSR | write intercepted | hardware on CPU 2 | AVIC is off, so the write exits. | k0 k1~
read | k0 | `kvm_x2apic_icr_write` decodes it | fixed, edge, to 1 | KVM on CPU 2 | KVM finds a fixed IPI. | k0 k1~
set_irr | k0 | set IRR `0x43` of vCPU 1 | in its page | KVM on CPU 2 | KVM sets bit `0x43` in its IRR. | k0 k1~
barrier | k0 | `smp_mb__after_atomic` | IRR before mode | KVM on CPU 2 | A full barrier, then `mode` is read. | k0 k1~
read | k0 | `mode` outside, `apicv_active` 0 | not in guest | KVM on CPU 2 | vCPU 1 is outside guest mode. | k0 k1~
request | k0 | request `KVM_REQ_EVENT` | on vCPU 1 | KVM on CPU 2 | KVM asks vCPU 1 to look for events. | k0 k1~
wake | k0>sched | `kvm_vcpu_kick` wakes the thread | `rcuwait` | KVM on CPU 2 | vCPU 1's thread is asleep, so \
`kvm_vcpu_kick` wakes it, and KVM sends no IPI of its own. | k0 sched k1~
kick | sched>k1 | scheduler IPI to idle CPU 5 | reschedule | scheduler on CPU 2 | CPU 5 gets a reschedule IPI. | k0 k1
entry | k0>g0 | `VMRUN`, fast path re-enters | vCPU 0 goes on | KVM on CPU 2 | The fast path re-enters. | g0 k1
inject | k1 | `EVENTINJ` vec `0x43`: IRR to ISR | IRR to ISR | KVM on CPU 5 | KVM moves `0x43` from IRR to ISR. | g0 k1
entry | k1>g1 | `VMRUN` | vCPU 1 enters | KVM on CPU 5 | `VMRUN` delivers the vector on entry. | g0 g1
handler | g1 | handler for `0x43` runs | vec 0x43 | guest on CPU 5 | The handler for `0x43` runs. | g0 g1
exit | g1>k1 | `WRMSR 0x80B` exits: EOI | guest writes EOI | guest on CPU 5 | The EOI write exits. | g0 k1
eoi | k1 | `apic_set_eoi` clears ISR `0x43` | ISR cleared | KVM on CPU 5 | ISR `0x43` is cleared, and PPR falls. | g0 k1
"""
    facts: list[Facts] = [
        ((), (IN0, HALTED1)),
        (ENTRY, (OUT0, HALTED1)),
        (SEND[3:], (OUT0, HALTED1)),
        (ACCEPT[1:], (OUT0, set1)),
        (ACCEPT, (OUT0, set1)),
        (ACCEPT, (OUT0, set1)),
        (ACCEPT, (OUT0, req1)),
        (WAKE, (OUT0, awake)),
        (IPI, (OUT0, awake)),
        (ENTRY[2:], (IN0, awake)),
        (RUN1, (IN0, injected)),
        (RUN1[2:], (IN0, inside)),
        ((), (IN0, inside)),
        (RUN1[2:], (IN0, injected)),
        (EOI, (IN0, done)),
    ]
    return Story(
        "IPI `0x43` from vCPU 0 to vCPU 1, which is halted",
        "Kernel 6.12, Zen 4, `avic=0`, x2APIC guest",
        GROUPS,
        (("g0", "runs"), ("k1", "blocked")),
        (IN0, HALTED1),
        told(table, facts),
        (Badge("source", "6.12"), Badge("recorded", "lab 6.12.95")),
        verdict="Delivered. Two exits, no host IPI from KVM.",
    )


def doorbell() -> Story:
    """AVIC on, target in guest mode: an arrow across the picture, bars side by side, and no kernel stack."""
    set1, taken = replace(IN1, irr=BIT), replace(IN1, isr=BIT, ppr=0x40)
    table = """
write | g0>h0 | `WRMSR 0x830` = `0x1_0000_0043`: no exit | no intercept | guest on CPU 2 | No exit. | h0 g0 g1
table | h0 | physical ID table, entry 1: valid | looked up | hardware on CPU 2 | The entry is valid. | h0 g0 g1
set_irr | h0 | set IRR `0x43` in the page of vCPU 1 | by hardware | hardware on CPU 2 | The bit is set. | h0 g0 g1
read | h0 | `IsRunning` is 1, on APIC ID 5 | host APIC ID 5 | hardware on CPU 2 | `IsRunning` is 1. | h0 g0 g1
doorbell | h0>h1 | doorbell to CPU 5, sent by hardware | no KVM code | hardware on CPU 2 | It rings. | h1 g0 g1
read | h1 | class 4 above PPR 1, IF = 1: take it | open | hardware on CPU 5 | CPU 5 looks again. | h1 g0 g1
inject | h1 | IRR to ISR, no `EVENTINJ` | by hardware | hardware on CPU 5 | The bit moves. | h1 g0 g1
handler | g1 | handler for `0x43` runs | vec 0x43 | guest on CPU 5 | The handler runs. | g0 g1
eoi | g1>h1 | `WRMSR 0x80B`: edge, so no exit | ISR cleared | guest on CPU 5 | The EOI stays inside. | h1 g0 g1
"""
    after = [IN1, IN1, set1, set1, set1, set1, taken, taken, IN1]
    return Story(
        "IPI `0x43` from vCPU 0 to vCPU 1, which is in guest mode",
        "Kernel 6.18, Zen 4, `avic` auto (on), x2APIC guest",
        GROUPS,
        (("g0", "runs"), ("g1", "runs")),
        (IN0, IN1),
        told(table, [((), (IN0, s)) for s in after]),
        (Badge("manual", "AMD APM 15.29"), Badge("inferred", "6.18")),
    )


def lost() -> Story:
    """A run broken on purpose, with its verdict."""
    return replace(
        halted(),
        title="IPI `0x43` that nobody hears",
        steps=halted().steps[:7],
        broken="KVM does not wake the thread.",
        verdict="Lost wake-up: IRR `0x43` is set, and vCPU 1 sleeps. Nothing in this run will wake it.",
    )


def device() -> Story:
    """A device's MSI to one vCPU: six columns, one APIC, and a step that no drawing expects."""
    host = (Column("vmm", "sched", "VMM thread"),)
    groups = (
        Group("device", (Column("dev", "dev", "device"), Column("iommu", "dev", "IOMMU"))),
        Group("host", host),
        Group("vCPU 0 · CPU 2", tuple(reversed(GROUPS[0].columns))),
    )
    idle = replace(IN0, tmr=BIT | 1 << 0x51, tpr=0x20, ppr=0x20)
    table = """
msi | dev>iommu | MSI write to `0xfee00000` | | device | The device writes its MSI. | dev g0
post | iommu>h0 | posted through the IRTE, bit in the backing page | | IOMMU | The IOMMU posts it. | iommu g0
tpr | g0 | `MOV CR8` | | guest | The guest lowers TPR. | g0
??? | nowhere>g0 | an event that nobody has drawn yet, with a label much too long for one row of it | | x | y | g0
userspace | vmm>k0 | `KVM_SIGNAL_MSI` | ioctl | VMM | The VMM signals. | vmm g0
"""
    ready: Facts = ((), (replace(idle, irr=BIT),))
    signal: Facts = (frames("kvm_send_userspace_msi"), ready[1])
    steps = told(table, [((), (idle,)), ready, ready, ready, signal])
    return Story("MSI", "Kernel 6.18", groups, (("g0", "runs"),), (idle,), steps)
