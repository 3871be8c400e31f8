"""Hyper-V's synthetic timers: four for each vCPU, each on a hrtimer of the host, and how an expiry reaches the guest.

In direct mode it is an interrupt with a vector of the timer's own. Else it is a message in the page that SIMP names,
and the interrupt of the SynIC's source (SINT) that the timer goes to. The reference counter is the virtual clock, in
units of 100 ns. Not modelled: the message's body, migration, CPUID's leave for direct mode.
Read in 6.1.176, 6.12.117, 7.2.13 and 7.3.4, which do not differ in what is here.
"""

from __future__ import annotations

from functools import partial

from kvmmodel.events import KvmHvStimerCallback, KvmHvStimerExpiration, KvmHvSynicSetIrq
from kvmmodel.kvm.host_types import Hrtimer, trace
from kvmmodel.kvm.hyperv import (
    FILE,
    HV_STIMER_AUTOENABLE,
    HV_STIMER_DIRECT,
    HV_STIMER_ENABLE,
    HV_STIMER_PERIODIC,
    HV_SYNIC_SIMP_ENABLE,
    stimer_mark_pending,
    stimer_sint,
    synic_get_sint_vector,
)
from kvmmodel.kvm.lapic.accept import kvm_apic_set_irq, kvm_irq_delivery_to_apic
from kvmmodel.kvm.lapic.map import LapicIrq
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.types import HvStimer, KvmVcpu
from kvmmodel.silicon import apic as hw

HV_X64_MSR_STIMER0_CONFIG, HV_X64_MSR_STIMER3_COUNT = 0x400000B0, 0x400000B7
HV_SYNIC_STIMER_COUNT = 4
HVMSG_NONE, HVMSG_TIMER_EXPIRED = 0, 0x80000010
SLOT, TYPE_BYTES, FLAGS, MSG_PENDING = 256, 4, 5, 1  # of a source's slot in the message page
ENOENT, EFAULT, EAGAIN = 2, 14, 11
RANK = 1 << 19  # among timers that expire together: after the APICs'


@kernel(FILE)
def kvm_hv_vcpu_init(vcpu: KvmVcpu) -> None:
    """The vCPU's Hyper-V state, once: of it, the timers with their hrtimers."""
    if vcpu.stimers:
        return
    for index in range(HV_SYNIC_STIMER_COUNT):
        stimer = HvStimer(index, Hrtimer(vcpu.cpu, lambda: None, RANK + index))
        stimer.hrtimer.fn = partial(stimer_timer_callback, vcpu, stimer)
        vcpu.kvm.host.timers.append(stimer.hrtimer)
        vcpu.stimers.append(stimer)


def is_stimer_msr(index: int) -> bool:
    return HV_X64_MSR_STIMER0_CONFIG <= index <= HV_X64_MSR_STIMER3_COUNT


def get_time_ref_counter(vcpu: KvmVcpu) -> int:
    return vcpu.kvm.host.current.now // 100


@kernel(FILE)
def stimer_set_config(vcpu: KvmVcpu, stimer: HvStimer, config: int, host_initiated: bool) -> int:
    """0, or 1: refused. One that was on and goes to source 0 from now on is off: 0 is not for timers."""
    if not vcpu.synic.active and (not host_initiated or config):
        return 1
    stimer_cleanup(vcpu, stimer)
    if stimer.config & HV_STIMER_ENABLE and not config & HV_STIMER_DIRECT and not config >> 16 & 0xF:
        config &= ~HV_STIMER_ENABLE
    stimer.config = config
    if config & HV_STIMER_ENABLE:
        stimer_mark_pending(vcpu, stimer, False)
    return 0


@kernel(FILE)
def stimer_set_count(vcpu: KvmVcpu, stimer: HvStimer, count: int, host_initiated: bool) -> int:
    """0, or 1: refused. The guest's write of 0 switches it off, another one on, if it asked for that."""
    if not vcpu.synic.active and (not host_initiated or count):
        return 1
    stimer_cleanup(vcpu, stimer)
    stimer.count = count
    if not host_initiated and not count:
        stimer.config &= ~HV_STIMER_ENABLE
    elif not host_initiated and stimer.config & HV_STIMER_AUTOENABLE:
        stimer.config |= HV_STIMER_ENABLE
    if stimer.config & HV_STIMER_ENABLE:
        stimer_mark_pending(vcpu, stimer, False)
    return 0


@kernel(FILE)
def stimer_cleanup(vcpu: KvmVcpu, stimer: HvStimer) -> None:
    stimer.hrtimer.expires = None
    vcpu.stimer_pending &= ~(1 << stimer.index)
    stimer.msg_pending, stimer.exp_time = False, 0


@kernel(FILE)
def stimer_timer_callback(vcpu: KvmVcpu, stimer: HvStimer) -> None:
    """The hrtimer's, in the host's timer interrupt: all else is the vCPU's own thread's."""
    stimer.hrtimer.expires = None
    trace(vcpu.kvm.host, KvmHvStimerCallback, vcpu.vcpu_id, stimer.index)
    stimer_mark_pending(vcpu, stimer, True)


@kernel(FILE)
def kvm_hv_process_stimers(vcpu: KvmVcpu) -> None:
    """On the way into the guest: what has expired is delivered, what is on and waits for nothing is armed."""
    for stimer in vcpu.stimers:
        if not vcpu.stimer_pending >> stimer.index & 1:
            continue
        vcpu.stimer_pending &= ~(1 << stimer.index)
        if not stimer.config & HV_STIMER_ENABLE:
            continue
        if stimer.exp_time and get_time_ref_counter(vcpu) >= stimer.exp_time:
            stimer_expiration(vcpu, stimer)
        if not (stimer.config & HV_STIMER_ENABLE and stimer.count):
            stimer_cleanup(vcpu, stimer)
        elif not stimer.msg_pending:
            stimer_start(vcpu, stimer)


@kernel(FILE)
def stimer_start(vcpu: KvmVcpu, stimer: HvStimer) -> None:
    """A period from now, or, of periods that were missed, to the next of them. One-shot: at ``count``; if past, now."""
    now = get_time_ref_counter(vcpu)
    if stimer.config & HV_STIMER_PERIODIC:
        if not stimer.exp_time:
            stimer.exp_time = now + stimer.count
        elif now >= stimer.exp_time:
            stimer.exp_time = now + stimer.count - (now - stimer.exp_time) % stimer.count
    else:
        stimer.exp_time = stimer.count
        if now >= stimer.count:
            stimer_mark_pending(vcpu, stimer, False)
            return
    stimer.hrtimer.cpu, stimer.hrtimer.expires = vcpu.kvm.host.current.id, stimer.exp_time * 100


@kernel(FILE)
def stimer_expiration(vcpu: KvmVcpu, stimer: HvStimer) -> None:
    """Deliver. What cannot be delivered stays pending until the guest has made room."""
    direct = stimer.config & HV_STIMER_DIRECT != 0
    stimer.msg_pending = True
    r = stimer_notify_direct(vcpu, stimer) if direct else stimer_send_msg(vcpu, stimer)
    trace(vcpu.kvm.host, KvmHvStimerExpiration, vcpu.vcpu_id, stimer.index, direct, r)
    if not r:
        stimer.msg_pending = False
        if not stimer.config & HV_STIMER_PERIODIC:
            stimer.config &= ~HV_STIMER_ENABLE


@kernel(FILE)
def stimer_notify_direct(vcpu: KvmVcpu, stimer: HvStimer) -> int:
    """An interrupt as any other."""
    irq = LapicIrq(stimer.config >> 4 & 0xFF, hw.APIC_DM_FIXED, 0, False, False, 0, 0)
    return int(not kvm_apic_set_irq(vcpu, irq))


@kernel(FILE)
def stimer_send_msg(vcpu: KvmVcpu, stimer: HvStimer) -> int:
    """A periodic one that finds the slot taken is dropped: ticks do not pile up."""
    return synic_deliver_msg(vcpu, stimer_sint(stimer), stimer.config & HV_STIMER_PERIODIC != 0)


@kernel(FILE)
def synic_deliver_msg(vcpu: KvmVcpu, sint: int, no_retry: bool) -> int:
    """0, or a negative error: there is no page; or the last message is still there, and the guest is asked for EOM."""
    page, memory = vcpu.synic.msg_page, vcpu.kvm.memory
    if not page & HV_SYNIC_SIMP_ENABLE:
        return -ENOENT
    slot = (page & ~0xFFF) + sint * SLOT
    if any(memory.get(slot + i) for i in range(TYPE_BYTES)):
        if no_retry:
            return 0
        memory[slot + FLAGS] = MSG_PENDING
        return -EAGAIN
    for i, byte in enumerate(HVMSG_TIMER_EXPIRED.to_bytes(TYPE_BYTES, "little")):
        memory[slot + i] = byte
    memory[slot + FLAGS] = 0
    r = synic_set_irq(vcpu, sint)
    return r if r < 0 else 0 if r else -EFAULT


@kernel(FILE)
def synic_set_irq(vcpu: KvmVcpu, sint: int) -> int:
    """A source's interrupt, to the vCPU itself: edge-triggered. A negative error: the source is masked."""
    vector = synic_get_sint_vector(vcpu.synic.sint[sint])
    if vector < 0:
        return -ENOENT
    irq = LapicIrq(vector, hw.APIC_DM_FIXED, 0, True, False, hw.APIC_DEST_SELF, 0)
    ret = kvm_irq_delivery_to_apic(vcpu.kvm, vcpu.apic, irq)
    trace(vcpu.kvm.host, KvmHvSynicSetIrq, vcpu.vcpu_id, sint, vector, ret)
    return ret
