"""KVM_GET_MP_STATE and KVM_SET_MP_STATE. Live 6.18.44, through make fuzz, unless said."""

import pytest

from kvmmodel import Host
from tests.machines import APIC_BASE, LVTT, SVR, TDCR, TMCCT, TMICT, address, load, vm, word

INIT, SIPI, REMRD = 0x500, 0x600, 0x300


def test_asking_takes_a_waiting_init_and_then_a_sipi():
    made = vm(2)
    load(made.vcpus[0], {})
    one = made.vcpus[1]
    assert one.get_mp_state() == "uninitialized"
    assert made.signal_msi(address(1), INIT) == 1
    assert one.get_mp_state() == "init_received"
    assert made.signal_msi(address(1), SIPI | 8) == 1
    assert one.get_mp_state() == "runnable"


def test_an_init_that_comes_after_a_sipi_overwrites_it():
    made = vm(2)
    load(made.vcpus[0], {})
    for data in (SIPI | 8, INIT):
        made.signal_msi(address(1), data)
    assert made.vcpus[1].get_mp_state() == "init_received"


def test_sipi_received_is_init_received_and_a_sipi_that_waits():
    made = vm(2)
    made.vcpus[1].set_mp_state("sipi_received")
    assert made.vcpus[1].get_mp_state() == "runnable"


def test_after_init_those_run_that_have_the_bsp_bit_in_apic_base():
    """Not the first vCPU alone: guest and userspace can write the bit."""
    made = vm(2)
    made.vcpus[1].set_msr(APIC_BASE, 0xFEE00900)
    load(made.vcpus[0], {})
    made.signal_msi(address(1), INIT)
    assert made.vcpus[1].get_mp_state() == "runnable"


@pytest.mark.parametrize(("kernel", "left"), [("6.12", "runnable"), ("6.18", "halted"), ("7.2", "halted")])
def test_a_kick_is_used_up_when_userspace_makes_the_vcpu_runnable(kernel, left):
    """6.12: read in source."""
    made = vm(2, kernel)
    load(made.vcpus[0], {})
    one = made.vcpus[1]
    one.set_mp_state("halted")
    assert made.signal_msi(address(1), REMRD) == 1
    assert one.get_mp_state() == "runnable"  # as KVM_RUN would find it
    one.set_mp_state("runnable")
    one.set_mp_state("halted")
    assert one.get_mp_state() == left


def test_the_current_count_is_32_bits():
    """A page whose LVTT has no timer mode leaves a long target, and brings a smaller divisor."""
    made = vm(1)
    load(made.vcpus[0], {LVTT: 0x10000, TMICT: 0xFFFFFFFF, TMCCT: 0xFFFFFFFF, TDCR: 1})
    load(made.vcpus[0], {LVTT: 0x60041, TMICT: 0xFFFFFFFF, TMCCT: 0, TDCR: 0, SVR: 0x1FF})
    made.machine.now += 1000
    assert 0xFFFFF000 < word(made.vcpus[0].get_lapic(), TMCCT) <= 0xFFFFFFFE - 500


@pytest.mark.parametrize("kernel", ["5.10", "5.15", "6.1", "7.3"])
def test_a_vcpu_that_got_init_and_sipi_at_once_enters_the_guest(kernel):
    """Two vCPUs on one CPU: up to 5.15 KVM_REQ_UNHALT stayed in the model, and no entry ever got past it."""
    made = Host(kernel=kernel, avic=False).create_vm(2, boot=True, pcpus=[2, 2])
    assert [one.get_mp_state() for one in made.vcpus] == ["runnable", "runnable"]
