"""How the processor takes interrupts: deliveries that an exit cuts short, and HLT that exits only when idle."""

import pytest

from kvmmodel import Host
from kvmmodel.events import KvmExit
from kvmmodel.guest.cpu import Level
from kvmmodel.guest.execute import execute
from kvmmodel.guest.insn import Insn
from kvmmodel.guest.taking import vmrun
from kvmmodel.silicon import vmcb as hw

VECTOR = 0x43
SELF_IPI = 0x83F


def machine(cpu="zen4", kernel="7.3", avic=True, **kwargs):
    return Host(cpu, kernel, avic=avic, **kwargs).create_vm(vcpus=1, boot=True)


def at_hlt(inside):
    """HLT fetched, and not executed yet."""
    hlt = Insn("hlt")
    inside.levels.append(Level(iter(()), insn=hlt))
    return hlt


@pytest.mark.parametrize("avic", [False, True])
def test_a_delivery_cut_short_is_made_good_once(avic):
    """APM 15.7.2: EXITINTINFO has virtual interrupts, too. It brings the vector back to KVM, which injects it again."""
    vm = machine(avic=avic)
    guest = vm.vcpus[0].guest
    guest.unmap_stack()
    guest.wrmsr(SELF_IPI, VECTOR)
    vm.run()
    assert guest.handled == {VECTOR: 1}
    exits = [e for e in vm.trace.events if isinstance(e, KvmExit) and e.reason == "npf"]
    assert [e.intr_info & 0xFF for e in exits] == [VECTOR]


def test_idle_hlt_stays_in_the_guest_while_an_interrupt_waits():
    """With IF clear it waits in HLT; when it can be taken, HLT is done with."""
    vcpu = machine("zen5,+idle_hlt", "6.18", avic=False).vcpus[0]
    inside, vmcb = vcpu.inside, vcpu.inside.vmcb
    vmcb.v_irq, vmcb.v_intr_prio, vmcb.rflags_if = True, 4, False
    hlt = at_hlt(inside)
    assert execute(inside, hlt) is None
    assert inside.levels[-1].insn is hlt
    vmcb.rflags_if = True
    assert execute(inside, hlt) is None
    assert inside.levels[-1].insn is None


@pytest.mark.parametrize(("kernel", "reason"), [("6.12", "hlt"), ("6.18", "idle-halt")])
def test_idle_hlt_exits_when_nothing_waits(kernel, reason):
    """Its exit is KVM's to ask for, which it does since 6.18."""
    vm = machine("zen5,+idle_hlt", kernel)
    vm.vcpus[0].guest.hlt()
    vm.run()
    assert [e.reason for e in vm.trace.events if isinstance(e, KvmExit)] == [reason]


@pytest.mark.parametrize(("counted", "code"), [("counted", None), ("ignored", hw.SVM_EXIT_IDLE_HLT)])
def test_whether_the_backing_page_counts_as_pending_is_an_open_point(counted, code):
    vm = machine("zen5,+idle_hlt", "6.18", open_points={"idle_hlt_counts_avic_irr": counted})
    inside = vm.vcpus[0].inside
    vm.vcpus[0].guest.cli()
    vm.vcpus[0].guest.wrmsr(SELF_IPI, VECTOR)
    hlt = at_hlt(inside)
    assert execute(inside, hlt) == code


@pytest.mark.parametrize(("choice", "tpr", "waits"), [("page", 0x60, True), ("v_tpr", 0x10, False)])
def test_which_tpr_counts_at_vmrun_is_an_open_point(choice, tpr, waits):
    """Only where KVM has not made them alike, as it does since 6.17. VMRUN goes by the one that counts."""
    vm = machine(open_points={"avic_vmrun_tpr": choice})
    vm.run()
    vcpu = vm.vcpus[0]
    vcpu.lapic.regs |= {0x80: 0x60, 0xA0: 0x60}
    vcpu.lapic.irr, vcpu.inside.vmcb.v_tpr = 1 << VECTOR, 1
    vmrun(vcpu.inside)
    assert vcpu.lapic.regs[0x80] == tpr
    assert vcpu.inside.avic.request is not waits
