"""QEMU's options for a guest that sees Hyper-V: what it is told, what it does, what inhibits AVIC, what work costs."""

from collections import Counter
from dataclasses import replace

import pytest

from kvmmodel.facts.releases import series
from kvmmodel.kvm.hv_cpuid import HV_DEPRECATING_AEOI_RECOMMENDED as NO_AEOI
from kvmmodel.kvm.hv_cpuid import HV_X64_APIC_ACCESS_RECOMMENDED as BY_MSR
from kvmmodel.widgets.windows_run import Options, allowed, recommended, run

BEST = Options(pit="discard", avic=True)
PLAIN = Options(synic=False, stimer="off", vapic=False, pit="discard", x2apic=False, svm=False)
SERIES = series()


@pytest.mark.parametrize(
    ("vapic", "avic", "bits"),
    [(False, False, 0), (True, False, BY_MSR), (False, True, NO_AEOI), (True, True, NO_AEOI)],
)
def test_hv_avic_takes_back_what_hv_vapic_recommends(vapic, avic, bits):
    """source: QEMU's hyperv_fill_cpuids sets bit 3 only without hv-avic."""
    assert recommended(Options(vapic=vapic, avic=avic)) == bits


def test_qemu_refuses_hv_avic_where_kvm_does_not_know_the_recommendation():
    """mail: the bit came with the commit of 5.15 that made the inhibit depend on AutoEOI."""
    for kernel in SERIES:
        given, refused = allowed(Options(kernel=kernel, avic=True))
        assert (given.avic, bool(refused)) == ((False, True) if kernel == "5.10" else (True, False))


def test_qemu_refuses_timers_without_a_synic():
    given, refused = allowed(Options(synic=False))
    assert (given.stimer, refused) == ("off", ("`hv-stimer` requires `hv-synic`",))


@pytest.mark.parametrize("kernel", SERIES)
def test_a_synic_costs_avic_unless_the_guest_is_told_and_does_as_told(kernel):
    hidden = {"kernel": kernel, "x2apic": False, "svm": False, "pit": "discard"}
    assert run(Options(**hidden)).board.inhibits == {"HYPERV"}
    told = run(Options(avic=True, **hidden))
    assert told.board.inhibits == ({"HYPERV"} if kernel == "5.10" else set())
    assert run(Options(avic=True, obeys=False, **hidden)).board.inhibits == {"HYPERV"}


@pytest.mark.parametrize("kernel", SERIES)
@pytest.mark.parametrize("shown", ["x2apic", "svm"])
def test_what_cpuid_shows_costs_avic_up_to_5_15(kernel, shown):
    made = run(replace(PLAIN, kernel=kernel, **{shown: True}))
    reason = {"x2apic": "X2APIC", "svm": "NESTED"}[shown]
    assert made.board.inhibits == ({reason} if kernel in ("5.10", "5.15") else set())
    assert made.active == (not made.board.inhibits,) * 2


def test_who_set_the_reasons_and_when():
    steps = [(m.label, m.by) for m in run(Options()).board.moments if m.by]
    assert steps[1:] == [("create PIT", "kvm_pit_set_reinject"), ("guest sets up Hyper-V", "synic_update_vector")]
    old = run(Options(kernel="5.10", x2apic=False, svm=False)).board.moments
    assert ("create vCPUs", "kvm_hv_activate_synic") in [(m.label, m.by) for m in old]


@pytest.mark.parametrize("stimer", ["message", "direct"])
def test_with_avic_an_ipi_is_no_exit_and_a_tick_costs_arming_and_halt(stimer):
    made = run(replace(BEST, stimer=stimer))
    assert (made.ipis.handled, made.ipis.exits, made.ipis.taken, made.ipis.injected) == (10, Counter(), 10, 0)
    assert (made.ticks.handled, made.ticks.exits) == (10, Counter({"msr": 10, "hlt": 10}))


def test_hyper_v_s_msrs_turn_each_ipi_and_each_eoi_into_an_exit_though_avic_is_on():
    made = run(replace(PLAIN, vapic=True, x2apic=True))
    assert made.active == (True, True)
    assert (made.ipis.exits, made.ipis.injected) == (Counter({"msr": 20}), 0)
    assert made.ipis.traced["kvm_eoi"] == 10
    assert made.ipis.traced["kvm_pv_eoi"] == 0


def test_inhibited_the_assist_page_saves_the_eoi_and_the_ipi_costs_both_vcpus_an_exit():
    made = run(Options(pit="discard"))
    assert made.ipis.exits == Counter({"msr": 10, "interrupt": 10})
    assert (made.ipis.injected, made.ipis.host_ipis) == (10, 10)
    without = run(Options(pit="discard", vapic=False))
    assert without.ipis.exits == Counter({"msr": 20, "interrupt": 10})


def test_a_tick_of_the_rtc_goes_to_userspace_twice_and_one_of_a_timer_never():
    rtc, timer = run(replace(PLAIN, x2apic=True)), run(BEST)
    assert (rtc.ticks.handled, rtc.ticks.userspace, rtc.ticks.exits) == (10, 20, Counter({"io": 20, "hlt": 10}))
    assert timer.ticks.userspace == 0


def test_an_xapic_guest_with_avic_sends_without_an_exit_and_without_avic_with_two():
    assert run(PLAIN).ipis.exits == Counter()
    assert run(replace(PLAIN, pit="delay")).ipis.exits["npf"] == 30  # two writes and an EOI


def test_if_kvm_left_avic_on_the_first_autoeoi_interrupt_would_be_the_last():
    made = run(Options(pit="discard"), broken=True)
    assert (made.board.inhibits, made.active) == (frozenset(), (True, True))
    assert (made.stuck, made.ticks.handled) == (True, 1)
    assert not run(BEST, broken=True).stuck
    assert not run(Options(), broken=True).stuck
