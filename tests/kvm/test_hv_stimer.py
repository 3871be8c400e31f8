"""Hyper-V's synthetic timers, and the messages and interrupts that an expiry becomes.

All by source: arch/x86/kvm/hyperv.c, 6.1.176, 6.12.117, 7.2.13 and 7.3.4; nothing of it is recorded.
"""

from itertools import pairwise

import pytest

from kvmmodel import GuestFault, Host
from kvmmodel.events import (
    AvicClearIsr,
    HandlerEnter,
    HostIrq,
    KvmEoi,
    KvmHvNotifyAckedSint,
    KvmHvStimerCallback,
    KvmHvStimerExpiration,
    KvmHvSynicSendEoi,
    KvmHvSynicSetIrq,
    MakeRequest,
    VmRun,
)
from kvmmodel.guest.program import parse
from tests.machines import SERIES, events, frames

SIMP, SINT3, CONFIG, COUNT = 0x40000083, 0x40000093, 0x400000B0, 0x400000B1
PAGE, SLOT3 = 0x9000, 0x9000 + 3 * 256
ON, PERIODIC, AUTO, DIRECT, AUTO_EOI, MASKED = 1 << 0, 1 << 1, 1 << 3, 1 << 12, 1 << 17, 1 << 16
TO_SINT3, TICK = 3 << 16, 0xD1
READS = {"reads": ("hv_message 0x9000 3", "eoi"), "leaves": ("eoi",), "implicit": ("hv_message 0x9000 3",)}


def synic(*program, avic=False, kernel="7.3", body="reads", sint=TICK, stop=False):
    """A booted guest with a message page; source 3 has vector 0xd1. Then it runs ``program``, unless told to stop."""
    made = Host(kernel=kernel, avic=avic).create_vm(1, boot=True, hyperv_synic=True)
    made.world.bodies |= {name: tuple(map(parse, lines)) for name, lines in READS.items()}
    made.world.idt[0] = {TICK: body}
    made.execute(0, ("wrmsr HV_SIMP 0x9001", f"wrmsr HV_SINT3 {sint:#x}", *program))
    if not stop:
        made.run()
    return made


def times(made, kind):
    return [record.t for record in made.trace.records if isinstance(record.event, kind)]


def sent(made):
    """What became of each expiry: 0, or a negative error."""
    return [event.msg_send_result for event in events(made, KvmHvStimerExpiration)]


@pytest.mark.parametrize("kernel", SERIES)
def test_one_shot_comes_once_at_its_time_and_is_off_then(kernel):
    made = synic(f"wrmsr HV_STIMER0_CONFIG {AUTO | TO_SINT3:#x}", "hv_deadline 0 50000", "hlt", kernel=kernel)
    wrote = next(r.t for r in made.trace.records if getattr(r.event, "text", "").startswith(f"WRMSR {COUNT:#x}"))
    (fired,) = times(made, KvmHvStimerCallback)
    assert wrote + 49_900 <= fired < wrote + 51_000
    assert made.vcpus[0].guest.handled[TICK] == 1
    assert made.vcpus[0].get_msr(CONFIG) == AUTO | TO_SINT3
    assert sent(made) == [0]


def test_the_callback_only_wakes_and_the_vcpus_thread_delivers_on_its_way_in():
    made = synic(f"wrmsr HV_STIMER0_CONFIG {AUTO | TO_SINT3:#x}", "hv_deadline 0 50000", "hlt")
    (callback,) = frames(made, KvmHvStimerCallback)
    (raised,) = frames(made, KvmHvSynicSetIrq)
    assert callback[:2] == ("stimer_timer_callback", "__hrtimer_run_queues")
    assert raised[:6] == ("synic_set_irq", "synic_deliver_msg", "stimer_send_msg", "stimer_expiration",
                          "kvm_hv_process_stimers", "vcpu_enter_guest")  # fmt: skip
    assert "HV_STIMER" in [event.request for event in events(made, MakeRequest)]


def test_direct_mode_is_a_vector_without_a_message():
    made = synic(f"wrmsr HV_STIMER1_CONFIG {AUTO | DIRECT | 0xE1 << 4:#x}", "hv_deadline 1 50000", "hlt")
    assert [(e.timer_index, e.direct) for e in events(made, KvmHvStimerExpiration)] == [(1, True)]
    assert events(made, KvmHvSynicSetIrq) == []
    assert made.vcpus[0].guest.handled[0xE1] == 1


def test_a_periodic_timer_goes_on_until_its_count_is_0():
    made = synic(f"wrmsr HV_STIMER0_COUNT {500}", f"wrmsr HV_STIMER0_CONFIG {ON | PERIODIC | TO_SINT3:#x}",
                 f"wait {TICK:#x} 4", "wrmsr HV_STIMER0_COUNT 0", "hlt")  # fmt: skip
    first, *later = times(made, KvmHvStimerCallback)
    assert [round((t - first) / 50_000, 1) for t in later] == [1, 2, 3]
    assert made.vcpus[0].get_msr(CONFIG) == PERIODIC | TO_SINT3


def test_periods_that_were_missed_are_not_made_up_for():
    """A thread of the host has the CPU for some periods: one message stands for them; then it is on the old beat."""
    on = f"wrmsr HV_STIMER0_CONFIG {ON | PERIODIC | TO_SINT3:#x}"
    made = synic("wrmsr HV_STIMER0_COUNT 10000", on, f"wait {TICK:#x} 4", "wrmsr HV_STIMER0_COUNT 0", stop=True)
    made.run(until=KvmHvStimerExpiration)
    made.burn(0, 5_300_000)
    made.run()
    sent_at = times(made, KvmHvStimerExpiration)
    gaps = [round((b - a) / 1_000_000, 1) for a, b in pairwise(sent_at)]
    assert len(sent_at) == 4
    assert max(gaps) > 2
    fired = times(made, KvmHvStimerCallback)
    assert all(abs((t - fired[0] + 500_000) % 1_000_000 - 500_000) < 5_000 for t in fired)


def test_a_count_in_the_past_expires_at_once():
    made = synic(f"wrmsr HV_STIMER0_CONFIG {AUTO | TO_SINT3:#x}", "spin 1000", "wrmsr HV_STIMER0_COUNT 1", "nop")
    assert events(made, KvmHvStimerCallback) == []
    assert (sent(made), made.vcpus[0].guest.handled[TICK]) == ([0], 1)


def test_a_second_message_waits_until_the_guest_freed_the_slot():
    """The handler leaves the first message: the second sets the slot's flag, and comes after EOM."""
    arm = (f"wrmsr HV_STIMER0_CONFIG {AUTO | TO_SINT3:#x}", "hv_deadline 0 20000", "spin 40000")
    made = synic(*arm, "hv_deadline 0 20000", "spin 40000", body="leaves")
    assert sent(made) == [0, -11]
    assert made.vcpus[0].guest.handled[TICK] == 1
    assert made.vcpus[0].kvm_vcpu.stimers[0].msg_pending
    made.execute(0, ("hv_message 0x9000 3", "nop"))
    made.run()
    assert sent(made) == [0, -11, 0]
    assert made.vcpus[0].guest.handled[TICK] == 2


def test_a_periodic_tick_that_finds_the_slot_taken_is_dropped():
    made = synic("wrmsr HV_STIMER0_COUNT 500", f"wrmsr HV_STIMER0_CONFIG {ON | PERIODIC | TO_SINT3:#x}",
                 "spin 180000", "wrmsr HV_STIMER0_COUNT 0", body="leaves")  # fmt: skip
    assert sent(made) == [0, 0, 0]
    assert made.vcpus[0].guest.handled[TICK] == 1
    assert made.machine.kvm.memory[SLOT3 + 5] == 0


@pytest.mark.parametrize(("avic", "told"), [(False, 1), (True, 0)])
def test_of_an_eoi_that_avic_carries_out_the_synic_does_not_hear(avic, told):
    """KVM's EOI path tells the source, and with it timers whose message waits. AVIC's EOI is no exit."""
    made = synic(f"wrmsr HV_STIMER0_CONFIG {AUTO | TO_SINT3:#x}", "hv_deadline 0 20000", "hlt", avic=avic)
    assert len(events(made, KvmHvSynicSendEoi)) == told
    assert len([e for e in events(made, KvmHvNotifyAckedSint) if e.sint == 3]) == told
    assert len(events(made, KvmEoi)) == told
    assert len(events(made, AvicClearIsr)) == 1 - told


def test_with_autoeoi_the_handler_needs_no_eoi():
    made = synic(f"wrmsr HV_STIMER0_CONFIG {AUTO | TO_SINT3:#x}", "hv_deadline 0 20000", "hlt",
                 body="implicit", sint=TICK | AUTO_EOI)  # fmt: skip
    assert made.vcpus[0].guest.handled[TICK] == 1
    assert (made.vcpus[0].lapic.isr, events(made, KvmEoi), events(made, KvmHvSynicSendEoi)) == (0, [], [])


def test_without_a_page_or_with_a_masked_source_nothing_comes():
    arm = (f"wrmsr HV_STIMER0_CONFIG {AUTO | TO_SINT3:#x}", "hv_deadline 0 20000", "hlt")
    assert sent(synic("wrmsr HV_SIMP 0", *arm)) == [-2]
    assert sent(synic(*arm, sint=TICK | MASKED)) == [-2]


def test_a_timer_that_was_on_and_goes_to_source_0_is_off():
    made = synic(
        f"wrmsr HV_STIMER0_CONFIG {ON | TO_SINT3:#x}", f"wrmsr HV_STIMER0_CONFIG {ON:#x}", "hv_deadline 0 20000"
    )
    assert made.vcpus[0].get_msr(CONFIG) == 0
    assert sent(made) == []


def test_an_expiry_ends_a_halt_even_with_interrupts_off():
    """source: kvm_vcpu_has_events asks for pending timers apart from interrupts; the guest runs on behind its HLT."""
    made = synic(f"wrmsr HV_STIMER0_CONFIG {AUTO | TO_SINT3:#x}", "hv_deadline 0 20000", "cli", "hlt", "log awake")
    assert [name for name, _ in made.world.log] == ["awake"]
    assert made.vcpus[0].guest.handled.get(TICK, 0) == 0
    assert made.vcpus[0].lapic.irr == 1 << TICK


def test_a_guest_that_runs_is_called_out_of_it():
    made = synic(f"wrmsr HV_STIMER0_CONFIG {AUTO | TO_SINT3:#x}", "hv_deadline 0 20000", "spin 60000", avic=True)
    host = [r.t for r in made.trace.records if isinstance(r.event, HostIrq)]
    entered = [r.t for r in made.trace.records if isinstance(r.event, VmRun)]
    (handled,) = times(made, HandlerEnter)
    assert any(a < b <= handled for a in host for b in entered)


def test_timers_need_a_synic():
    made = Host(kernel="7.3", avic=False).create_vm(1, boot=True, hyperv=True)
    for msr, value in ((CONFIG, ON), (COUNT, 1), (SIMP, 1), (SINT3, TICK)):
        with pytest.raises(GuestFault, match="exception 13"):
            made.vcpus[0].guest.wrmsr(msr, value)
