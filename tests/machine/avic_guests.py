"""Guests with AVIC in each of its modes, and what random steps do to them. For the tests of random guests."""

from kvmmodel import GuestStuck, Host
from kvmmodel.facts.releases import kernel as release
from kvmmodel.guest.program import parse

# mode -> processor, x2APIC in CPUID and used, parameters
MODES = {
    "x2avic": ("zen4", True, {}),
    "xavic": ("zen4", False, {}),
    "hybrid": ("zen2", True, {}),
    "x2avic-no-ipiv": ("zen4", True, {"enable_ipiv": "N"}),
    "xavic-no-ipiv": ("zen2", False, {}),  # from 6.18 on; before, IPIs of Zen 2 are virtualized
}
PIC_BASE, PIC_LINE = 0x30, 3  # an 8259's line that nothing else uses
TIMER = 0xEC
SOME_VECTORS = (0x40, 0x41, 0x47, 0x52, 0x5E, 0x7F, 0x80, 0x81, 0xC3, 0xE0)  # few, so that they meet
PAGE = 0xFEE00000


def host(mode, kernel, avic):
    cpu, _, params = MODES[mode]
    known = params if release(kernel).has("enable_ipiv") else {}
    return Host(cpu, kernel, avic=avic, **known)


def ready(mode, kernel, vcpus, avic, **options):
    """Booted, with an 8259 that is set up, logical IDs, a TSC-deadline timer, and a PIT that inhibits nothing."""
    made = host(mode, kernel, avic).create_vm(vcpus, x2apic=MODES[mode][1], boot=True, pit="discard", **options)
    made.world.bodies["pic"] = (parse("outb 0x20 0x20"),)
    made.world.idt[0] = {PIC_BASE + PIC_LINE: "pic"}
    for port, value in ((0x20, 0x11), (0x21, PIC_BASE), (0x21, 4), (0x21, 1)):
        made.vcpus[0].guest.outb(port, value)
    for vcpu in made.vcpus:
        if not MODES[mode][1]:
            write(vcpu, 0xD0, 1 << vcpu.id + 24)
        write(vcpu, 0x320, 0x40000 | TIMER)
        vcpu.guest.write_cr8(0)
    made.run()
    return made


def write(vcpu, register, value):
    """A register of the local APIC; the ICR as in x2APIC mode, destination above bit 31."""
    if vcpu.inside.x2apic:
        vcpu.guest.wrmsr(0x800 + (register >> 4), value)
        return
    if register == 0x300:
        vcpu.guest.mmio_write(PAGE + 0x310, (value >> 32 & 0xFF) << 24)
    vcpu.guest.mmio_write(PAGE + register, value & 0xFFFFFFFF)


def read(vcpu, register):
    return vcpu.guest.rdmsr(0x800 + (register >> 4)) if vcpu.inside.x2apic else vcpu.guest.mmio_read(PAGE + register)


def act(made, who, step):
    """One step of a guest on vCPU ``who``, or of userspace. Returns what the guest read."""
    op, a, b = step
    count = len(made.vcpus)
    vcpu, everybody = made.vcpus[who % count], (1 << count) - 1
    guest = vcpu.guest
    if op == "ipi":
        write(vcpu, 0x300, a % count << 32 | b)
    elif op == "logical":
        write(vcpu, 0x300, (a & everybody or 1) << 32 | 0x800 | b)
    elif op == "lowest":
        write(vcpu, 0x300, (a & everybody or 1) << 32 | 0x900 | b)
    elif op in ("itself", "all", "others"):
        write(vcpu, 0x300, {"itself": 0x40000, "all": 0x80000, "others": 0xC0000}[op] | b)
    elif op == "self_ipi":
        write(vcpu, *((0x3F0, b) if vcpu.inside.x2apic else (0x300, 0x40000 | b)))
    elif op == "nmi":
        write(vcpu, 0x300, a % count << 32 | 0x400)
    elif op == "msi":
        made.signal_msi(PAGE | a % count << 12, b)
    elif op == "level":
        made.signal_msi(PAGE | a % count << 12, 0xC000 | b)
    elif op == "extint":
        made.irq_line(PIC_LINE, True)
        made.irq_line(PIC_LINE, False)
    elif op == "pit":
        made.reinject_control(bool(a & 1))
    elif op == "id":
        if not vcpu.inside.x2apic:
            write(vcpu, 0x20, (vcpu.id + 8 * (a & 1)) << 24)
    elif op == "timer":
        guest.wrmsr(0x6E0, made.machine.now + 500 * a)
    elif op == "burn":
        made.burn(made.machine.host.cpus[who % count].id, 1000 * a)
    elif op == "tpr":
        write(vcpu, 0x80, a << 4)
    elif op == "cr8":
        guest.write_cr8(a)
    elif op == "ppr":
        return read(vcpu, 0xA0)
    elif op == "read_cr8":
        return guest.read_cr8()
    else:
        getattr(guest, op)()
    return None


def attempt(made, who, step):
    """As ``act``, or "stuck": a vCPU that is halted executes nothing."""
    try:
        return act(made, who, step)
    except GuestStuck:
        return "stuck"


def known_bug(mode, kernel, steps, step):
    """Whether this release, by its own fault, may lose what a guest does in this step of these.

    Logical IPIs and TPR: see matrix/scenarios.py. CR8: test_a_cr8_intercept_that_outlives_the_inhibit. Up to 5.15 an ID
    that moves twice loses the vCPU's entry: avic_handle_apic_id_update.
    """
    if step[0] == "id" and not kernel.has("apic_id_inhibits"):
        return True
    held = any(op in ("cr8", "tpr") and a for _, (op, a, _) in steps)
    if step[0] == "logical" and mode.startswith("x2avic"):
        return not kernel.has("kick_fast_multi_target")
    if step[0] in ("pit", "id", "extint") and held:
        return not kernel.has("sync_lapic_to_cr8_always")
    return step[0] == "tpr" and mode == "hybrid" and not kernel.has("sync_lapic_to_cr8_always")
