"""KVM's hypercalls, as far as interrupts go: VMMCALL, PV IPI, PV kick and the directed yield.

Not modelled: hypercalls of 32-bit code, of another ring than 0 (KVM answers -KVM_EPERM), Hyper-V's and Xen's, and
KVM_HC_CLOCK_PAIRING, which the model answers like a number that KVM does not know. A directed yield moves the target to
the head of its run queue and gives this CPU away when the vCPU's loop next looks; the kernel does it inside yield_to.
Read in 6.1.176, 6.12.117, 6.18.35, 7.2.13 and 7.3.4.
"""

from __future__ import annotations

from kvmmodel.events import KvmHypercall
from kvmmodel.kvm.errno import EINVAL, EOPNOTSUPP
from kvmmodel.kvm.host_types import trace
from kvmmodel.kvm.lapic.accept import kvm_apic_set_irq, kvm_irq_delivery_to_apic
from kvmmodel.kvm.lapic.map import LapicIrq
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.ops import kvm_x86_ops
from kvmmodel.kvm.sched import single_task_running, yield_to
from kvmmodel.kvm.types import ApicMap, Kvm, KvmVcpu
from kvmmodel.silicon import apic as hw

X86, LAPIC = "arch/x86/kvm/x86.c", "arch/x86/kvm/lapic.c"
KVM_HC_VAPIC_POLL_IRQ = 1
KVM_HC_KICK_CPU = 5
KVM_HC_SEND_IPI = 10
KVM_HC_SCHED_YIELD = 11
KVM_ENOSYS = 1000
BITS_PER_LONG = 64
# CPUID 0x40000001 EAX: the features that KVM checks before it runs a hypercall, by the ends of their names.
PV_FEATURES = {"PV_UNHALT": 7, "PV_SEND_IPI": 11, "PV_SCHED_YIELD": 13}


def guest_pv_has(vcpu: KvmVcpu, feature: str) -> bool:
    """Unless userspace asks KVM to enforce the guest's CPUID, KVM runs the hypercalls of features not shown, too."""
    enforced = vcpu.kvm.pv_features
    return enforced is None or feature in enforced


@kernel(X86)
def kvm_emulate_hypercall(vcpu: KvmVcpu) -> int:
    """RAX says which, RBX, RCX, RDX and RSI are a0 to a3; the result goes to RAX."""
    result = ____kvm_emulate_hypercall(vcpu)
    vcpu.regs.value = result & (1 << 64) - 1
    kvm_x86_ops.skip_emulated_instruction(vcpu)
    return 1


@kernel(X86, since="6.12", was={"6.12": "__kvm_emulate_hypercall", "6.18": "____kvm_emulate_hypercall"})
def ____kvm_emulate_hypercall(vcpu: KvmVcpu) -> int:
    nr, a0, a1, a2, a3 = vcpu.regs.args
    trace(vcpu.kvm.host, KvmHypercall, nr, a0, a1, a2, a3)
    vcpu.stat["hypercalls"] += 1
    if nr == KVM_HC_VAPIC_POLL_IRQ:
        return 0
    if nr == KVM_HC_KICK_CPU and guest_pv_has(vcpu, "PV_UNHALT"):
        kvm_pv_kick_cpu_op(vcpu.kvm, a1 & 0xFFFFFFFF)
        kvm_sched_yield(vcpu, a1)
        return 0
    if nr == KVM_HC_SEND_IPI and guest_pv_has(vcpu, "PV_SEND_IPI"):
        return kvm_pv_send_ipi(vcpu.kvm, a0, a1, a2 & 0xFFFFFFFF, a3)
    if nr == KVM_HC_SCHED_YIELD and guest_pv_has(vcpu, "PV_SCHED_YIELD"):
        kvm_sched_yield(vcpu, a0)
        return 0
    return -KVM_ENOSYS


@kernel(X86)
def kvm_pv_kick_cpu_op(kvm: Kvm, apicid: int) -> None:
    """A message of a mode that no interrupt uses: no vector, thus nothing in the IRR and no EOI."""
    irq = LapicIrq(0, hw.APIC_DM_REMRD, 0, False, False, hw.APIC_DEST_NOSHORT, apicid)
    kvm_irq_delivery_to_apic(kvm, None, irq)


@kernel(LAPIC)
def kvm_pv_send_ipi(kvm: Kvm, bitmap_low: int, bitmap_high: int, first: int, icr: int) -> int:
    """One vector to up to 128 APIC IDs from ``first`` on. How many accepted it, or a negative error.

    No message to look up: the bitmap is walked along the map of physical IDs, and without that map nothing is sent.
    """
    if icr & (hw.APIC_DEST_LOGICAL | hw.APIC_SHORT_MASK):
        return -EINVAL  # KVM_EINVAL
    irq = LapicIrq(
        vector=icr & hw.APIC_VECTOR_MASK,
        delivery_mode=icr & hw.APIC_MODE_MASK,
        dest_mode=0,
        level=icr & hw.APIC_INT_ASSERT != 0,
        trig_mode=icr & hw.APIC_INT_LEVELTRIG != 0,
        shorthand=hw.APIC_DEST_NOSHORT,
        dest_id=0,
    )
    if kvm.apic_map is None:
        return -EOPNOTSUPP
    count = __pv_send_ipi(bitmap_low, kvm.apic_map, irq, first)
    return count + __pv_send_ipi(bitmap_high, kvm.apic_map, irq, first + BITS_PER_LONG & 0xFFFFFFFF)


@kernel(LAPIC)
def __pv_send_ipi(bitmap: int, table: ApicMap, irq: LapicIrq, first: int) -> int:
    """One word of the bitmap; an ID that no vCPU has is passed over."""
    count = 0
    for i in range(min(BITS_PER_LONG, table.max_apic_id - first + 1)):
        apic = table.phys_map.get(first + i)
        if bitmap >> i & 1 and apic is not None:
            count += kvm_apic_set_irq(apic.vcpu, irq)
    return count


@kernel(X86)
def kvm_sched_yield(vcpu: KvmVcpu, dest_id: int) -> None:
    """Have the target run in this vCPU's place, if its thread waits for a CPU and this one has others to run."""
    host = vcpu.kvm.host
    vcpu.stat["directed_yield_attempted"] += 1
    if host.has("yield_looks_at_own_queue") and single_task_running(host.current):
        return
    table = vcpu.kvm.apic_map
    apic = table.phys_map.get(dest_id) if table is not None else None
    if apic is None or not apic.vcpu.ready or apic.vcpu is vcpu:
        return
    if kvm_vcpu_yield_to(apic.vcpu) > 0:
        vcpu.stat["directed_yield_successful"] += 1


@kernel("virt/kvm/kvm_main.c")
def kvm_vcpu_yield_to(target: KvmVcpu) -> int:
    return yield_to(target.kvm.host, target.task)
