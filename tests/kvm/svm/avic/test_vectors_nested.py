"""T13: an interrupt for a vCPU that runs L2. On the cases' bench, where L1 can run L2.

There a vCPU stands between exit and entry, so a kick finds it outside the guest.
"""

import pytest

from kvmmodel.cases.bench import build
from kvmmodel.cases.ops import execute
from kvmmodel.events import (
    AvicMode,
    Kick,
    KvmApicvAcceptIrq,
    KvmAvicIncompleteIpi,
    KvmInjVirq,
    MakeRequest,
    NestedVmExit,
    ReadMode,
)
from tests.kvm.svm.avic.avic_vms import SERIES, X2AVIC, table

V = 64


def bench(kernel):
    return build({"cpus": 2, "mode": "x2apic", "avic": True}, kernel)


def step(made, op, **args):
    made.new_step()
    execute(made, {"op": op, **args})
    return [e for e in made.events if isinstance(e, ReadMode | MakeRequest | Kick | KvmApicvAcceptIrq | NestedVmExit)]


@pytest.mark.parametrize("kernel", X2AVIC)
def test_t13_an_ipi_to_a_vcpu_that_runs_l2(kernel):
    """ID 1, as its IsRunning is clear; KVM_REQ_EVENT and a kick, as its own AVIC is off; then an exit to L1.

    Catches a wake-up or a doorbell, as to a vCPU with AVIC, and an inhibit of the whole VM.
    """
    made = bench(kernel)
    step(made, "vmrun", cpu=0, intercept=["INTR"], v_intr_masking=1, guest_if=1)
    assert [vcpu.apicv_active for vcpu in made.vm.vcpus] == [False, True]
    assert made.vm.inhibits == frozenset()
    assert table(made.vm)[0] >> 62 & 1 == 0
    seen = step(made, "ipi", cpu=1, vector=V, dest=0)
    assert [(e.id, e.index) for e in made.events if isinstance(e, KvmAvicIncompleteIpi)] == [(1, 0)]
    assert seen == [ReadMode(0, "OUTSIDE_GUEST_MODE", False), MakeRequest(0, "EVENT"), Kick(0, "nothing")]
    seen = step(made, "cpu.take", cpu=0, ready=True)
    assert NestedVmExit(0, "interrupt") in seen
    assert made.taken is None  # GIF is clear in L1
    assert not made.vm.vcpus[0].kvm_vcpu.guest_mode
    assert made.vm.vcpus[0].apicv_active  # at once
    step(made, "guest.flag", cpu=0, flag="GIF", value=1)
    step(made, "cpu.take", cpu=0, ready=True)
    assert (made.taken, made.taken_at) == (V, "L1")
    assert not [e for e in made.events if isinstance(e, KvmInjVirq)]  # AVIC delivers it, to L1


@pytest.mark.parametrize("kernel", SERIES)
@pytest.mark.parametrize("masking", [0, 1])
def test_r13_l2_never_runs_with_avic(masking, kernel):
    """R13, source nested_vmcb02_prepare_control: vmcb02 takes nothing of AVIC's from either VMCB.

    Catches int_ctl copied as a whole. Up to 5.15 AVIC is off for the VM as soon as the guest has SVM: not asked here.
    """
    made = build({"cpus": 1, "avic": True, "x2apic_cpuid": kernel in X2AVIC}, kernel)
    step(made, "vmrun", cpu=0, intercept=["INTR"], v_intr_masking=masking, guest_if=1)
    vcpu = made.vm.vcpus[0].kvm_vcpu
    assert vcpu.guest_mode
    assert vcpu.vmcb is vcpu.nested.vmcb02
    assert not vcpu.vmcb.avic_enable
    assert not vcpu.vmcb.x2apic_mode


@pytest.mark.parametrize("kernel", X2AVIC)
def test_r13_with_another_inhibit_there_avic_stays_off_behind_the_exit_to_l1(kernel):
    """R13: only if the VM's bitmap is 0. Catches AVIC switched on by the exit whatever else."""
    made = bench(kernel)
    made.vm.create_pit2()
    step(made, "vmrun", cpu=0, intercept=["VMMCALL"], v_intr_masking=1, guest_if=1)
    step(made, "guest.insn", cpu=0, insn="vmmcall")
    assert not made.vm.vcpus[0].kvm_vcpu.guest_mode
    assert not made.vm.vcpus[0].apicv_active


@pytest.mark.parametrize("kernel", X2AVIC)
def test_r13_a_nested_exit_switches_avic_on_before_the_next_entry(kernel):
    """R13: __kvm_vcpu_update_apicv in nested_svm_vmexit itself. Catches a request that waits for the entry."""
    made = bench(kernel)
    step(made, "vmrun", cpu=0, intercept=["VMMCALL"], v_intr_masking=1, guest_if=1)
    step(made, "guest.insn", cpu=0, insn="vmmcall")
    assert [e.mode for e in made.events if isinstance(e, AvicMode)] == ["x2avic"]
    assert made.vm.vcpus[0].apicv_active


@pytest.mark.parametrize(
    ("kernel", "mended"),
    [
        ("6.1.176", False),
        ("6.1.183", True),
        ("6.6", False),
        ("6.12", True),
        ("6.18", False),
        ("7.2", True),
        ("7.3", True),
    ],
)
@pytest.mark.parametrize("bitmap", [False, True])
def test_an_inhibit_while_l2_runs_left_the_x2apic_msrs_open_if_l1_has_an_msr_bitmap(bitmap, kernel, mended):
    """source avic_deactivate_vmcb, 6.1.176: it returns before it intercepts them. 6.12.117, 7.2.13: it does not.

    The exit to L1 changes nothing any more, as another reason is there: L1 runs without AVIC and reaches the host's
    APIC. Catches the row of facts/changes not asked.
    """
    made = bench(kernel)
    step(made, "vmrun", cpu=0, intercept=["VMMCALL", *["MSR"] * bitmap], v_intr_masking=1, guest_if=1)
    made.vm.create_pit2()
    step(made, "guest.insn", cpu=0, insn="vmmcall")
    vcpu = made.vm.vcpus[0].kvm_vcpu
    assert not vcpu.guest_mode
    assert not vcpu.vmcb.avic_enable
    assert bool(vcpu.vmcb.msr_writes) == bool(vcpu.vmcb.msr_reads) == (bitmap and not mended)
