"""#VMEXIT(AVIC_INCOMPLETE_IPI), reason by reason and release by release: what KVM still does about an IPI.

On the cases' bench, so that the exit can be made with any reason. How it is known: read in 6.1.176, 6.12.117, 7.2.13
and 7.3.4; 5.10 and 5.15 as the changes say.
"""

import pytest

from kvmmodel.cases.bench import build, catch_up, exit_half, on_cpu
from kvmmodel.events import (
    KvmApicAcceptIrq,
    KvmApicIpi,
    KvmApicvAcceptIrq,
    KvmAvicIncompleteIpi,
    KvmAvicKickVcpuSlowpath,
    ReadMode,
    SetIrr,
)
from kvmmodel.silicon.apic import MSR_IA32_APICBASE, X2APIC_ENABLE
from kvmmodel.silicon.vmcb import SVM_EXIT_AVIC_INCOMPLETE_IPI
from tests.kvm.svm.avic.avic_vms import ALLBUT, BEFORE_X2AVIC, ICR, ICR2, ID, SELF, SERIES, X2AVIC

V, BUSY, LOGICAL = 0x40, 0x1000, 0x800


def bench(kernel, vcpus=3):
    x2apic = kernel in X2AVIC
    return build({"cpus": vcpus, "avic": True, "x2apic_cpuid": x2apic, "mode": "x2apic" if x2apic else "xapic"}, kernel)


def incomplete(made, reason, low=V, dest=1, index=None, sender=0):
    """The exit, with the ICR in the page as the processor leaves it."""
    vcpu = made.vm.vcpus[sender]
    high = dest if made.vm.machine.kvm.x2apic_cpuid else dest << 24
    vcpu.lapic.regs |= {ICR: low, ICR2: high}
    made.new_step()
    index = dest if index is None else index
    exit_half(made, vcpu, SVM_EXIT_AVIC_INCOMPLETE_IPI, high << 32 | low, reason << 32 | index)
    return made.events


def of(made, *kinds):
    return [e for e in made.events if isinstance(e, kinds)]


@pytest.mark.parametrize("kernel", SERIES)
@pytest.mark.parametrize("reason", range(5))
def test_the_exit_is_traced_and_goes_on_behind_the_instruction(reason, kernel):
    made = bench(kernel)
    high = 1 if kernel in X2AVIC else 1 << 24
    assert of_exit(incomplete(made, reason)) == [KvmAvicIncompleteIpi(0, high, V, reason, 1)]
    assert made.vm.vcpus[0].kvm_vcpu.regs.retired is False  # a trap: RIP is behind it already


def of_exit(events):
    return [e for e in events if isinstance(e, KvmAvicIncompleteIpi)]


@pytest.mark.parametrize("kernel", SERIES)
@pytest.mark.parametrize("reason", [0, 2])
def test_r6_reasons_0_and_2_are_sent_in_software(reason, kernel):
    """Catches 5.10's ignored reason 2 elsewhere, and IPIs that are sent twice."""
    made = bench(kernel)
    incomplete(made, reason)
    lost = reason == 2 and kernel in BEFORE_X2AVIC
    assert of(made, KvmApicIpi) == ([] if lost else [KvmApicIpi(V, 1)])
    assert made.vm.vcpus[1].lapic.irr == (0 if lost else 1 << V)
    assert len(of(made, SetIrr)) == (0 if lost else 1)


@pytest.mark.parametrize("kernel", SERIES)
def test_r6_a_busy_bit_that_the_processor_left_is_cleared(kernel):
    """The ICR is written again, which clears it; up to 5.15 always. Catches a guest that polls BUSY for ever.

    6.6 reads the x2APIC's ICR as one register of 64 bits, where the processor has put two of 32: ID 0 gets the IPI.
    """
    made, whole = bench(kernel), kernel == "6.6"
    incomplete(made, 0, V | BUSY)
    assert made.vm.vcpus[0].lapic.regs[ICR] == V
    assert [vcpu.lapic.irr for vcpu in made.vm.vcpus] == ([1 << V, 0, 0] if whole else [0, 1 << V, 0])
    assert [e.dest_id for e in of(made, KvmApicIpi)] == [0 if whole else 1]


@pytest.mark.parametrize("kernel", SERIES)
def test_r5_reason_1_sets_no_bit(kernel):
    """The processor has. Catches IRR set once more: the guest may have taken it meanwhile."""
    made = bench(kernel)
    incomplete(made, 1)
    assert of(made, SetIrr, KvmApicAcceptIrq, KvmApicIpi) == []
    assert [vcpu.lapic.irr for vcpu in made.vm.vcpus] == [0, 0, 0]


@pytest.mark.parametrize("kernel", X2AVIC)
@pytest.mark.parametrize(
    ("low", "dest", "index", "slow"),
    [
        (V, 1, 1, False),
        (V, 1, 2, True),  # the index is not the destination: a warning, and all are looked at
        (V, 0xFFFFFFFF, 0, True),
        (V | ALLBUT, 0, 0, True),
        (V | SELF, 0, 0, True),
    ],
)
def test_r5_the_fast_path_is_for_one_physical_destination(low, dest, index, slow, kernel):
    """source avic_kick_target_vcpus_fast. Catches a broadcast taken for an ID, and nobody told."""
    made = bench(kernel)
    incomplete(made, 1, low, dest, index)
    assert bool(of(made, KvmAvicKickVcpuSlowpath)) == slow
    told = [e.apicid for e in of(made, KvmApicvAcceptIrq)]
    meant = {V | ALLBUT: [1, 2], V | SELF: [0]}.get(low, [0, 1, 2] if dest == 0xFFFFFFFF else [1])
    assert told == meant


@pytest.mark.parametrize("kernel", [k for k in X2AVIC if k != "6.1"])
@pytest.mark.parametrize(("dest", "meant"), [(0b110, [1, 2]), (0b100, [2]), (0, []), (0b11000, []), (1 << 16 | 7, [])])
def test_r5_logical_x2apic_destinations_are_the_low_16_bits_of_their_cluster(dest, meant, kernel):
    """From 6.3 on, several at once; who does not exist is passed over. Catches `&&` for `&`, which leaves bit 0."""
    made = bench(kernel)
    incomplete(made, 1, V | LOGICAL, dest, 0)
    assert [e.apicid for e in of(made, KvmApicvAcceptIrq)] == meant
    assert of(made, KvmAvicKickVcpuSlowpath) == []


@pytest.mark.parametrize(("dest", "meant", "slow"), [(0b110, [], False), (1 << 16 | 2, [17], True)])
def test_r5_in_6_1_cluster_0_is_nobody_and_others_take_the_slow_path(dest, meant, slow):
    """source 6.1.176: `dest & 0xFFFF0000` as the members."""
    made = build({"ids": [0, 1, 17], "avic": True, "mode": "x2apic"}, "6.1")
    incomplete(made, 1, V | LOGICAL, dest, 0)
    assert [e.apicid for e in of(made, KvmApicvAcceptIrq)] == meant
    assert bool(of(made, KvmAvicKickVcpuSlowpath)) == slow


@pytest.mark.parametrize("kernel", SERIES)
def test_reason_3_is_a_warning_told_once(kernel):
    made = bench(kernel)
    for _ in range(2):
        incomplete(made, 3)
        assert of(made, KvmApicIpi, KvmApicAcceptIrq, SetIrr) == []
    assert made.vm.dmesg == ["Invalid backing page"]


@pytest.mark.parametrize(
    ("kernel", "said"),
    [
        ("5.10", ["Unknown IPI interception"]),
        ("5.15", ["Unknown IPI interception"]),
        ("6.1.16", ["Unknown avic incomplete IPI interception"]),
        ("6.1.60", []),
        *((k, []) for k in X2AVIC),
    ],
)
def test_reason_4_is_ignored(kernel, said):
    """Releases that do not know it say so. Catches an emulation, which would set ESR."""
    made = bench(kernel) if kernel in SERIES else build({"cpus": 2, "avic": True, "mode": "x2apic"}, kernel)
    incomplete(made, 4, 5)
    assert of(made, KvmApicIpi, KvmApicAcceptIrq, SetIrr) == []
    assert made.vm.dmesg == said
    assert made.vm.vcpus[0].lapic.regs.get(0x280, 0) == 0


@pytest.mark.parametrize("kernel", X2AVIC)
def test_the_bench_follows_an_inhibit_before_the_guest_goes_on(kernel):
    """KVM_REQ_APICV_UPDATE is carried out, not only taken. Catches AVIC active on the bench whatever inhibits it."""
    made = bench(kernel, vcpus=1)
    made.vm.create_pit2()
    with on_cpu(made, made.vm.vcpus[0]):
        catch_up(made.vm.vcpus[0])
    assert not made.vm.vcpus[0].apicv_active
    assert not made.vm.vcpus[0].kvm_vcpu.vmcb01.avic_enable


@pytest.mark.parametrize("kernel", X2AVIC)
def test_the_slow_path_reads_the_destination_by_the_sender_s_mode(kernel):
    """source avic_kick_target_vcpus: in 6.1.176 by each target's own mode, so it passes over vCPU 1 in xAPIC mode."""
    made = bench(kernel)
    target = made.vm.vcpus[1]
    target.set_msr(MSR_IA32_APICBASE, target.get_msr(MSR_IA32_APICBASE) & ~X2APIC_ENABLE)
    target.lapic.regs[ID] = 1 << 24  # up to 6.1 it still is that of x2APIC mode
    incomplete(made, 1, V, 1, 2)  # an index that makes it take the slow path
    assert [e.vcpu_id for e in of(made, ReadMode)] == ([] if kernel == "6.1" else [1])


@pytest.mark.parametrize(
    ("kernel", "index"),
    [("5.10", 0x34), ("5.15", 0x34), ("6.1", 0x134), ("6.12", 0x134), ("6.18", 0x134), ("7.2", 0xB34), ("7.3", 0xB34)],
)
def test_kvm_reads_as_many_bits_of_the_index_as_its_ids_have(kernel, index):
    """source avic_incomplete_ipi_interception: & 0xFF in 5.10 and 5.15, & 0x1FF up to 6.18, & 0xFFF."""
    made = bench(kernel)
    incomplete(made, 2, index=0xB34)
    assert [e.index for e in of_exit(made.events)] == [index]
