"""A device of a VM from its message to the handler: who has to do something for it, by the vCPU's state and release."""

import pytest

from kvmmodel import Host
from kvmmodel.events import (
    AvicDoorbell,
    DeviceMsi,
    HandlerEnter,
    HostIrq,
    IommuGaLog,
    IommuPost,
    KvmApicAcceptIrq,
    KvmAvicGaLog,
    SchedIn,
    VmExit,
    WakeUp,
)
from kvmmodel.kvm.irqchip import IoapicRoute, MsiRoute
from kvmmodel.scenarios.format import ScenarioError, read
from kvmmodel.scenarios.run import built_in, run
from kvmmodel.trace.stacks import names
from tests.machines import MSI, SERIES

POSTS = ("6.1", "6.6", "6.12", "6.18", "7.2", "7.3")
VECTOR = 0x63


def scenario(name, kernel="7.3", iommu="vapic", cpu="zen4", avic=True, **options):
    return run(built_in(name), Host(cpu, kernel, avic=avic, iommu=iommu), **options)


def after_message(vm):
    """The events from the device's message to the handler."""
    events = [r.event for r in sorted(vm.trace.records, key=lambda r: r.t)]
    first = next(i for i, e in enumerate(events) if isinstance(e, DeviceMsi))
    last = next((i for i, e in enumerate(events) if isinstance(e, HandlerEnter) and i > first), len(events))
    return events[first : last + 1]


def count(events, *kinds):
    return [sum(isinstance(e, kind) for e in events) for kind in kinds]


def assigned(kernel="7.3", vcpus=1, data=VECTOR, address=MSI, avic=True, iommu="vapic", cpu="zen4", **options):
    vm = Host(cpu, kernel, avic=avic, iommu=iommu).create_vm(vcpus, boot=True, **options)
    vm.set_gsi_routing(vm.machine.kvm.routing | {24: [MsiRoute(address, data)]})
    return vm, vm.assign_device(24)


@pytest.mark.parametrize("kernel", POSTS)
def test_in_guest_the_host_does_not_notice(kernel):
    """manual, second hand: IRR and doorbell by the IOMMU. No exit, no host interrupt, no code of KVM."""
    vm = scenario("device-in-guest", kernel)
    events = after_message(vm)
    assert count(events, IommuPost, AvicDoorbell, HandlerEnter) == [1, 1, 1]
    assert count(events, VmExit, HostIrq, WakeUp, KvmApicAcceptIrq) == [0, 0, 0, 0]
    assert all(e.lane != "kvm" for e in events)


@pytest.mark.parametrize("kernel", POSTS)
def test_halted_the_log_s_interrupt_wakes_it(kernel):
    """source, 6.1.176 to 7.3.4: KVM wakes it and does no more; the vector is in the IRR already."""
    events = after_message(scenario("device-halted", kernel))
    assert count(events, IommuGaLog, KvmAvicGaLog, WakeUp, HandlerEnter) == [1, 1, 1, 1]
    assert count(events, AvicDoorbell, KvmApicAcceptIrq) == [0, 0]
    assert next(e.name for e in events if isinstance(e, HostIrq)) == "AMD-Vi0-GA"


@pytest.mark.parametrize(("kernel", "logged"), [("6.1", 1), ("6.12", 1), ("6.18", 0), ("7.3", 0)])
def test_preempted_it_waits_for_its_cpu(kernel, logged):
    """source, 6.12.117 and 7.3.4: up to 6.12 the log's interrupt comes, and changes nothing."""
    vm = scenario("device-preempted", kernel)
    events = after_message(vm)
    assert count(events, IommuGaLog, KvmAvicGaLog, WakeUp) == [logged, logged, 0]
    assert count(events, SchedIn)[0] >= 1
    assert vm.vcpus[0].guest.handled[VECTOR] == 1


@pytest.mark.parametrize("name", ["device-in-guest", "device-halted", "device-preempted"])
@pytest.mark.parametrize(
    "host",
    [
        {"iommu": "legacy"},
        {"iommu": None},
        {"avic": False},
        {"cpu": "zen3,+avic"},
    ],
)
def test_without_posting_the_host_takes_it_and_kvm_delivers(name, host):
    vm = scenario(name, **host)
    events = after_message(vm)
    assert count(events, IommuPost, IommuGaLog) == [0, 0]
    assert next(e.name for e in events if isinstance(e, HostIrq)) == "vfio-msi, irq 40"
    assert count(events, KvmApicAcceptIrq) == [1]
    assert vm.vcpus[0].guest.handled[VECTOR] == 1


def test_the_parameter_keeps_it_remapped():
    host = Host(kernel="7.3", avic=True, iommu="vapic", enable_device_posted_irqs=False)
    vm = run(built_in("device-in-guest"), host)
    assert count(after_message(vm), IommuPost, KvmApicAcceptIrq) == [0, 1]


def test_a_message_for_two_vcpus_is_not_posted():
    vm = scenario("device-remapped")
    assert count(after_message(vm), IommuPost) == [0]
    assert [vcpu.guest.handled[VECTOR] for vcpu in vm.vcpus] == [1, 1]


def test_the_stack_of_a_remapped_interrupt():
    vm = scenario("device-in-guest", avic=False)
    record = next(r for r in vm.trace.records if isinstance(r.event, KvmApicAcceptIrq) and r.event.vector == VECTOR)
    found = [f.name for f in record.stack]
    order = ["kvm_arch_set_irq_inatomic", "irqfd_wakeup", "vfio_msihandler", "common_interrupt", "asm_common_interrupt"]
    assert [name for name in found if name in order] == order


@pytest.mark.parametrize(("kernel", "thread"), [("6.1", "amd_iommu_int_thread"), ("7.3", "amd_iommu_int_thread_galog")])
def test_the_log_is_read_in_a_thread(kernel, thread):
    """source: 6.1.176, 7.3.4. The interrupt's handler only wakes it."""
    vm = scenario("device-halted", kernel)
    record = next(r for r in vm.trace.records if isinstance(r.event, KvmAvicGaLog))
    found = names(record.stack, vm.host.kernel)
    assert found[0] == "avic_ga_log_notifier"
    assert [n for n in found if n in ("iommu_poll_ga_log", thread, "irq_thread", "kthread")] == [
        "iommu_poll_ga_log",
        thread,
        "irq_thread",
        "kthread",
    ]
    assert record.task == "irq/25-AMD-Vi0-GA"


def test_lost_without_the_log():
    vm = scenario("device-halted", broken=("no-ga-log",), limit_ns=1_000_000)
    assert vm.vcpus[0].guest.handled.get(VECTOR, 0) == 0
    assert vm.vcpus[0].lapic.irr >> VECTOR & 1
    assert vm.vcpus[0].kvm_vcpu.task.state == "blocked"


def test_by_hand_now_and_between_runs():
    vm, device = assigned()
    vm.run()
    for times in (1, 2, 3):
        device.interrupt()
        vm.run()
        assert vm.vcpus[0].guest.handled[VECTOR] == times


def test_now_means_in_the_middle_of_a_run():
    vm, device = assigned()
    vm.run()
    seen = []

    def listen(event):
        if isinstance(event, VmExit) and not seen:
            device.interrupt()
            seen.append(vm.vcpus[0].lapic.irr >> VECTOR & 1)

    vm.trace.listeners.append(listen)
    vm.vcpus[0].guest.outb(0x80, 1)
    assert seen == [1]
    vm.run()
    assert vm.vcpus[0].guest.handled[VECTOR] == 1


def test_a_stale_trigger_mode_makes_the_eoi_trap():
    """inferred from the manual and KVM's table of accesses: the IOMMU does not touch the TMR."""
    vm, device = assigned()
    vm.run()
    vm.vcpus[0].lapic.tmr |= 1 << VECTOR
    vm.trace.records.clear()
    device.interrupt()
    vm.run()
    assert [r.event.reason for r in vm.trace.records if isinstance(r.event, VmExit)] == ["avic_unaccelerated_access"]


def test_irte_is_a_copy():
    _, device = assigned()
    device.irte.guest_mode = False
    assert device.irte.guest_mode is True


def test_irte_as_text():
    """What the page on devices prints."""
    vm, device = assigned()
    page = vm.vcpus[0].kvm_vcpu.avic_backing_page
    assert str(device.irte) == f"posted: guest's vector 0x63, page {page:#x}, tag 0x1000, is_run 1, CPU 0, GALogIntr 0"
    vm.vcpus[0].guest.hlt()
    assert str(device.irte).endswith("is_run 0, GALogIntr 1")
    _, device = assigned(iommu="legacy")
    assert str(device.irte) == "remapped: vector 0x22 of the host, to CPU 1"


def test_no_irte_without_an_iommu():
    _, device = assigned(iommu=None)
    assert device.irte is None


def test_what_it_refuses():
    vm = Host(kernel="7.3", avic=True, iommu="vapic").create_vm(1)
    with pytest.raises(ValueError, match="GSI 24 has no MSI route"):
        vm.assign_device(24)
    vm.set_gsi_routing({24: [MsiRoute(MSI, VECTOR)], 5: [IoapicRoute(5)]})
    with pytest.raises(ValueError, match="GSI 5 has no MSI route"):
        vm.assign_device(5)
    with pytest.raises(ValueError, match="no physical CPU 9: expected one of 0, 1"):
        vm.assign_device(24, cpu=9)
    vm.assign_device(24)
    with pytest.raises(ValueError, match="has a device already"):
        vm.assign_device(24)


def test_two_devices_do_not_mix():
    vm, first = assigned(iommu="legacy")
    vm.set_gsi_routing(vm.machine.kvm.routing | {25: [MsiRoute(MSI, 0x64)]})
    second = vm.assign_device(25, cpu=0)
    vm.run()
    second.interrupt()
    vm.run()
    assert vm.vcpus[0].guest.handled == {0x64: 1}
    first.interrupt()
    vm.run()
    assert vm.vcpus[0].guest.handled == {0x64: 1, VECTOR: 1}
    assert (first.irq, second.irq, second.irte.destination) == (40, 41, 0)


@pytest.mark.parametrize("kernel", SERIES)
def test_every_release_delivers_with_what_it_has(kernel):
    vm = scenario("device-halted", kernel)
    assert vm.vcpus[0].guest.handled[VECTOR] == 1


def test_a_scenario_names_the_device_it_lacks():
    text = 'title = "x"\n[vcpu.0]\nprogram = []\n[[userspace]]\nwhen = { start = true }\ndo = ["device_interrupt 7"]\n'
    with pytest.raises(ScenarioError, match="line 6: userspace: no assign_device gives GSI 7 a device"):
        read("x", text)
