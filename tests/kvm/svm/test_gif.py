"""GIF: what KVM holds back while it is clear, and who keeps it, with and without vGIF."""

import pytest

from kvmmodel import GuestFault, Host
from kvmmodel.events import HandlerEnter, SetGif, VirtualGif, VmExit
from kvmmodel.silicon import vmcb
from tests.machines import MSI, SERIES, events

SVME = 0x1000
WHILE_IPI_ARRIVES = 100  # instructions


CPUS = {"with vGIF": {"cpu": "zen3"}, "without vGIF": {"cpu": "zen3", "vgif": False}}


def booted(kernel="6.18", **host):
    made = Host(kernel=kernel, avic=False, **host).create_vm(1, boot=True)
    made.vcpus[0].guest.wrmsr(0xC0000080, SVME)
    return made


def wait(guest):
    for _ in range(WHILE_IPI_ARRIVES):
        guest.nop()


@pytest.mark.parametrize("kernel", SERIES)
@pytest.mark.parametrize("host", CPUS.values(), ids=CPUS)
@pytest.mark.parametrize("data", [0x41, 0x400, 0x200], ids=["interrupt", "NMI", "SMI"])
def test_an_event_waits_for_stgi(host, kernel, data):
    """source 6.18: svm_interrupt_blocked, svm_nmi_blocked and svm_smi_blocked ask for GIF first."""
    made = booted(kernel, **host)
    guest, vcpu = made.vcpus[0].guest, made.vcpus[0].kvm_vcpu
    guest.clgi()
    made.signal_msi(MSI, data)
    wait(guest)
    assert guest.handled == {}
    assert not vcpu.smm
    guest.stgi()
    made.run()
    assert guest.handled == ({} if data == 0x200 else {2 if data == 0x400 else 0x41: 1})


@pytest.mark.parametrize("host", CPUS.values(), ids=CPUS)
def test_stgi_and_clgi_exit_only_without_vgif(host):
    made = booted(**host)
    guest = made.vcpus[0].guest
    guest.clgi()
    guest.stgi()
    exits = [e.reason for e in events(made, VmExit) if e.reason in ("stgi", "clgi")]
    assert exits == ([] if "vgif" not in host else ["clgi", "stgi"])


def test_with_vgif_stgi_exits_when_an_nmi_waits_for_it():
    """source: svm_enable_nmi_window sets the intercept, svm_set_gif removes it."""
    made = booted(cpu="zen3")
    guest = made.vcpus[0].guest
    guest.clgi()
    made.signal_msi(MSI, 0x400)
    wait(guest)
    guest.stgi()
    guest.clgi()
    guest.stgi()
    assert [e.reason for e in events(made, VmExit)].count("stgi") == 1
    assert guest.handled == {2: 1}


def test_with_vgif_an_interrupt_waits_by_an_irq_window_instead():
    made = booted(cpu="zen3")
    guest = made.vcpus[0].guest
    guest.clgi()
    made.signal_msi(MSI, 0x41)
    wait(guest)
    guest.stgi()
    made.run(until=HandlerEnter)
    reasons = [e.reason for e in events(made, VmExit)]
    assert (reasons.count("stgi"), reasons.count("vintr")) == (0, 1)


def test_init_waits_for_gif_and_a_sipi_is_lost():
    """source: kvm_apic_accept_events, kvm_apic_init_sipi_allowed."""
    made = booted(cpu="zen3")
    guest, vcpu = made.vcpus[0].guest, made.vcpus[0]
    guest.clgi()
    made.signal_msi(MSI, 0x500)
    made.signal_msi(MSI, 0x608)
    wait(guest)
    assert (vcpu.lapic.pending_init, vcpu.lapic.pending_sipi) == (True, False)


def test_without_svme_both_are_invalid_where_they_exit():
    made = Host("zen3", avic=False, vgif=False).create_vm(1, boot=True)
    with pytest.raises(GuestFault) as fault:
        made.vcpus[0].guest.clgi()
    assert fault.value.vector == 6


@pytest.mark.parametrize(("kernel", "invalid"), [("6.12", False), ("7.2", True), ("7.3", True)])
def test_with_vgif_clgi_without_svme_is_invalid_only_in_newer_releases(kernel, invalid):
    """source 6.12.117, 7.2.13, 7.3.4: init_vmcb drops both intercepts, later svm_recalc_instruction_intercepts does."""
    made = Host("zen3", kernel, avic=False).create_vm(1, boot=True)
    guest = made.vcpus[0].guest
    if invalid:
        with pytest.raises(GuestFault) as fault:
            guest.clgi()
        assert fault.value.vector == 6
    else:
        guest.clgi()
    assert made.vcpus[0].kvm_vcpu.vmcb.v_gif == invalid
    assert ("clgi" in [e.reason for e in events(made, VmExit)]) == invalid


@pytest.mark.parametrize("kernel", SERIES)
def test_with_vgif_and_svme_neither_exits(kernel):
    made = booted(kernel, cpu="zen3")
    guest = made.vcpus[0].guest
    guest.clgi()
    guest.stgi()
    assert not {"stgi", "clgi"} & {e.reason for e in events(made, VmExit)}


def test_switching_svm_off_sets_gif_and_brings_the_intercepts_back():
    """source 7.3.4: svm_set_efer."""
    made = booted("7.3", cpu="zen3")
    guest, vcpu = made.vcpus[0].guest, made.vcpus[0].kvm_vcpu
    guest.clgi()
    guest.wrmsr(0xC0000080, 0)
    assert vcpu.vmcb.v_gif
    assert {vmcb.SVM_EXIT_STGI, vmcb.SVM_EXIT_CLGI} <= vcpu.vmcb.intercepts


def test_without_nested_a_guest_cannot_enable_svm():
    made = Host("zen3", avic=False, nested=0).create_vm(1, boot=True)
    with pytest.raises(GuestFault) as fault:
        made.vcpus[0].guest.wrmsr(0xC0000080, SVME)
    assert fault.value.vector == 13


@pytest.mark.parametrize(("host", "arrives"), [(CPUS["with vGIF"], False), (CPUS["without vGIF"], True)], ids=CPUS)
def test_without_the_stgi_intercept_vgif_leaves_an_nmi_waiting(host, arrives):
    made = Host(avic=False, kernel="6.18", **host).create_vm(1, boot=True, broken=("no-stgi-intercept",))
    guest = made.vcpus[0].guest
    guest.wrmsr(0xC0000080, SVME)
    guest.clgi()
    made.signal_msi(MSI, 0x400)
    wait(guest)
    guest.stgi()
    made.run()
    assert guest.handled == ({2: 1} if arrives else {})
    assert (made.vcpus[0].kvm_vcpu.nmi_pending == 0) == arrives


@pytest.mark.parametrize("host", CPUS.values(), ids=CPUS)
def test_who_changes_gif_is_an_event_of_its_own(host):
    made = booted(**host)
    guest = made.vcpus[0].guest
    guest.clgi()
    guest.stgi()
    kind = VirtualGif if "vgif" not in host else SetGif
    assert [(type(e), e.value) for e in events(made, VirtualGif, SetGif)] == [(kind, False), (kind, True)]
