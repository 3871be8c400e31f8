"""What KVM writes into a device's remapping entry, and when, by release."""

import pytest

from kvmmodel import Host
from kvmmodel.events import IommuGaLog, IommuMode, KvmAvicGaLog
from kvmmodel.kvm.apicv import kvm_clear_apicv_inhibit, kvm_set_apicv_inhibit
from kvmmodel.kvm.irqchip import MsiRoute
from kvmmodel.kvm.svm.avic.irte import avic_ga_log_notifier
from tests.machines import MSI

VECTOR = 0x63
OLDER, NEWER = ("6.1", "6.6", "6.12"), ("6.18", "7.2", "7.3")


def assigned(kernel, inhibited=False, halted=False):
    """vCPU 1 of two has the device's interrupt; both run, or both are halted."""
    vm = Host("zen4", kernel, avic=True, iommu="vapic").create_vm(2, boot=True)
    vm.run()
    for vcpu in vm.vcpus if halted else ():
        vcpu.guest.hlt()
    if inhibited:
        inhibit(vm, True)
    vm.set_gsi_routing(vm.machine.kvm.routing | {24: [MsiRoute(MSI | 1 << 12, VECTOR)]})
    return vm, vm.assign_device(24)


def inhibit(vm, on):
    """Any reason of the whole VM will do."""
    vm._ioctl(lambda: (kvm_set_apicv_inhibit if on else kvm_clear_apicv_inhibit)(vm.machine.kvm, "BLOCKIRQ"))
    for vcpu in vm.vcpus:
        vcpu.nmi()  # gets it through vcpu_enter_guest
    vm.run()


@pytest.mark.parametrize(("kernel", "tag"), [("6.1", 0x201), ("6.12", 0x201), ("6.18", 0x201), ("7.3", 0x1001)])
def test_the_entry_names_page_vector_and_tag(kernel, tag):
    """source: AVIC_GATAG of 6.1.176, 6.12.117, 7.3.4."""
    vm, device = assigned(kernel)
    vcpu = vm.vcpus[1].kvm_vcpu
    found = device.irte
    assert (found.guest_mode, found.ga_root_ptr, found.vector, found.ga_tag) == (
        True,
        vcpu.avic_backing_page,
        VECTOR,
        tag,
    )


@pytest.mark.parametrize(("kernel", "cookie"), [("6.12", 7), ("6.18", 1), ("7.3", 1)])
def test_the_tag_s_vcpu_is_its_id_then_its_index(kernel, cookie):
    vm = Host("zen4", kernel, avic=True, iommu="vapic").create_vm(2, boot=False, ids=[0, 7])
    vm.run()
    vm.set_gsi_routing({24: [MsiRoute(MSI | 7 << 12, VECTOR)]})
    assert vm.assign_device(24).irte.ga_tag & 0xFF == cookie


@pytest.mark.parametrize("kernel", [*OLDER, *NEWER])
def test_blocked_it_is_to_be_logged(kernel):
    _, device = assigned(kernel, halted=True)
    assert (device.irte.is_run, device.irte.ga_log_intr) == (False, True)


@pytest.mark.parametrize("kernel", OLDER)
def test_up_to_6_12_logging_stays_on(kernel):
    """source 6.12.117: amd_iommu_update_ga does not touch ga_log_intr."""
    vm, device = assigned(kernel)
    vm.execute(1, ("spin 5000", "hlt"))
    seen = []
    vm.trace.listeners.append(lambda e: seen.append((device.irte.is_run, device.irte.ga_log_intr)))
    vm.run()
    assert {(True, True), (False, True)} == set(seen)


@pytest.mark.parametrize("kernel", NEWER)
def test_from_6_18_on_only_while_blocking(kernel):
    vm, device = assigned(kernel)
    vm.execute(1, ("spin 5000", "hlt"))
    seen = []
    vm.trace.listeners.append(lambda e: seen.append((device.irte.is_run, device.irte.ga_log_intr)))
    vm.run()
    assert {(True, False), (False, True)} <= set(seen)
    assert (True, True) not in seen


@pytest.mark.parametrize("kernel", [*OLDER, *NEWER])
def test_an_inhibit_turns_it_back_to_the_host_and_its_end_to_the_guest(kernel):
    vm, device = assigned(kernel)
    inhibit(vm, True)
    assert device.irte.guest_mode is False
    assert (device.irte.destination, device.irte.vector) == (device.cpu, 0x22)
    inhibit(vm, False)
    assert device.irte.guest_mode is True


@pytest.mark.parametrize(("kernel", "later"), [*((k, False) for k in OLDER), *((k, True) for k in NEWER)])
def test_set_up_while_inhibited(kernel, later):
    """source 6.12.117: not noted, so it stays remapped until its route changes. 6.18.35, 7.3.4: noted."""
    vm, device = assigned(kernel, inhibited=True)
    assert device.irte.guest_mode is False
    inhibit(vm, False)
    assert device.irte.guest_mode is later
    vm.set_gsi_routing(vm.machine.kvm.routing | {24: [MsiRoute(MSI | 1 << 12, VECTOR + 1)]})
    assert device.irte.guest_mode is True


@pytest.mark.parametrize(("kernel", "is_run"), [*((k, False) for k in OLDER), *((k, True) for k in NEWER)])
def test_after_an_inhibit_older_entries_say_not_running(kernel, is_run):
    """source 6.12.117: load, then activate; so until the next load a running vCPU's interrupts go through the log."""
    vm, device = assigned(kernel)
    vm.execute(1, ("spin 200000",))
    inhibit(vm, True)
    vm._ioctl(lambda: kvm_clear_apicv_inhibit(vm.machine.kvm, "BLOCKIRQ"))
    vm.vcpus[1].nmi()
    vm.execute(1, ("spin 3000", "nop", "spin 3000"))
    found = []

    def listen(event):
        if getattr(event, "text", "") == "NOP":
            found.append((device.irte.guest_mode, device.irte.is_run))
            device.interrupt()

    vm.trace.listeners.append(listen)
    before = sum(isinstance(r.event, IommuGaLog) for r in vm.trace.records)
    vm.run()
    assert found == [(True, is_run)]
    logged = sum(isinstance(r.event, IommuGaLog) for r in vm.trace.records) - before
    assert logged == (not is_run)


@pytest.mark.parametrize("kernel", [*OLDER, *NEWER])
def test_an_entry_for_a_vcpu_that_does_not_run_names_no_core(kernel):
    """source amd_iommu_activate_guest_mode: both words are 0 at first. Catches the host's own core left in it."""
    vm = Host("zen4", kernel, avic=True, iommu="vapic").create_vm(2, boot=True, pcpus=[2, 5])
    vm.run()
    for vcpu in vm.vcpus:
        vcpu.guest.hlt()
    vm.set_gsi_routing(vm.machine.kvm.routing | {24: [MsiRoute(MSI | 1 << 12, VECTOR)]})
    device = vm.assign_device(24)
    assert device.cpu != 0
    assert (device.irte.guest_mode, device.irte.destination) == (True, 0)


@pytest.mark.parametrize(("kernel", "written"), [*((k, [False, True]) for k in OLDER), *((k, [True]) for k in NEWER)])
def test_up_to_6_12_an_entry_is_posted_first_and_gets_the_core_then(kernel, written):
    """source svm_ir_list_add, 6.1.176 and 6.12.117: amd_iommu_update_ga behind the activation. 7.3.4: one write."""
    vm, _ = assigned(kernel)
    entries = [r.event for r in vm.trace.records if isinstance(r.event, IommuMode) and r.event.mode == "posted"]
    assert [e.is_run for e in entries] == written
    assert all(e.ga_log_intr for e in entries) == (kernel in OLDER)


def test_a_new_affinity_moves_it_to_another_list():
    vm, device = assigned("7.3")
    vm.set_gsi_routing(vm.machine.kvm.routing | {24: [MsiRoute(MSI, 0x71)]})
    lists = [[d.irq for d in vcpu.kvm_vcpu.ir_list] for vcpu in vm.vcpus]
    assert lists == [[40], []]
    assert (device.irte.vector, device.irte.ga_tag & 0xFF) == (0x71, 0)


def test_the_notifier_wakes_only_a_vcpu_of_that_vm_that_sleeps():
    vm, _ = assigned("7.3", halted=True)
    states = lambda: [v.kvm_vcpu.task.state for v in vm.vcpus]  # noqa: E731
    vm._ioctl(lambda: avic_ga_log_notifier(vm.machine.kvm, 2 << 12 | 1))
    assert states() == ["blocked", "blocked"]
    vm._ioctl(lambda: avic_ga_log_notifier(vm.machine.kvm, 1 << 12 | 1))
    assert states()[0] == "blocked"
    assert states()[1] != "blocked"
    assert sum(isinstance(r.event, KvmAvicGaLog) for r in vm.trace.records) == 2
