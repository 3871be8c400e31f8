"""The public contract: the names that pages, tools and other people's code rely on, and what they take and return."""

import inspect

import pytest

import kvmmodel
from kvmmodel import GuestFault, Host, MsrError, Vcpu, Vm
from kvmmodel.events import Event, HandlerEnter
from kvmmodel.facts.releases import series

CPUS = ("zen1", "zen1+", "zen2", "zen3", "zen4", "zen5", "hygon", "zen4-nested", "tcg", "none")


def parameters(function):
    return {name: p.default for name, p in inspect.signature(function).parameters.items() if name != "self"}


def test_names():
    assert {"Host", "Vm", "Vcpu", "MsrError", "GuestFault", "__version__"} <= set(kvmmodel.__all__)


def test_host():
    empty = inspect.Parameter.empty
    plain = {"cpu": "zen4", "kernel": "6.18", "avic": None, "module_params": empty}
    assert parameters(Host.__init__) == plain | {"snp": False, "iommu": None, "open_points": None}
    host = Host(avic=False)
    assert host.params["avic"] is False
    assert all(isinstance(line, str) for line in host.dmesg)


def test_create_vm():
    wanted = parameters(Host.create_vm)
    assert (wanted["vcpus"], wanted["x2apic"], wanted["boot"]) == (2, True, False)
    assert isinstance(Host(avic=False).create_vm(), Vm)


@pytest.mark.parametrize("name", ["vcpus", "inhibits", "trace", "run", "signal_msi"])
def test_vm(name):
    assert hasattr(Host(avic=False).create_vm(), name)


@pytest.mark.parametrize(
    "name", ["get_lapic", "set_lapic", "get_msr", "set_msr", "guest", "mode", "apicv_active", "lapic"]
)
def test_vcpu(name):
    assert hasattr(Host(avic=False).create_vm().vcpus[0], name)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("wrmsr", 2), ("rdmsr", 1), ("mmio_write", 2), ("mmio_read", 1), ("write_cr8", 1), ("read_cr8", 0), ("hlt", 0),
     ("sti", 0), ("cli", 0)],
)  # fmt: skip
def test_guest(name, wanted):
    guest = Host(avic=False).create_vm().vcpus[0].guest
    assert len(inspect.signature(getattr(guest, name)).parameters) == wanted


def test_types_of_what_is_returned():
    vm = Host(kernel="6.12", avic=False).create_vm(2, boot=True)
    vcpu: Vcpu = vm.vcpus[0]
    assert len(vcpu.get_lapic()) == 1024
    assert [type(v) for v in (vcpu.lapic.irr, vcpu.lapic.isr, vcpu.lapic.tmr, vcpu.lapic.tpr, vcpu.lapic.ppr)] == [
        int
    ] * 5
    assert (vcpu.mode, vcpu.apicv_active, vm.inhibits) == ("IN_GUEST_MODE", False, {"DISABLED"})
    assert vm.signal_msi(0xFEE01000, 0x43) == 1
    assert vm.run(until=HandlerEnter) is True
    assert vm.run(until=lambda: vcpu.lapic.irr == 0) is True
    assert vm.run() is True
    assert all(isinstance(event, Event) for event in vm.trace.events)
    with pytest.raises(MsrError):
        vcpu.get_msr(0x80B)
    with pytest.raises(GuestFault) as fault:
        vcpu.guest.rdmsr(0x80B)
    assert (fault.value.vector, fault.value.error_code) == (13, 0)


@pytest.mark.parametrize("kernel", [*series(), "6.1.187", "6.12.95"])
@pytest.mark.parametrize("cpu", CPUS)
def test_every_cpu_and_kernel(cpu, kernel):
    """AVIC off: a VM boots everywhere but without SVM."""
    host = Host(cpu, kernel, avic=False)
    if cpu == "none":
        with pytest.raises(ValueError, match="no SVM"):
            host.create_vm()
    else:
        assert host.create_vm(1, boot=True, trace=False).vcpus[0].get_msr(0x80F) == 0x1FF


@pytest.mark.parametrize("kernel", [*series(), "6.1.187", "6.12.95"])
@pytest.mark.parametrize("cpu", ["zen2", "zen4", "zen5", "hygon", "zen3,+avic"])
def test_with_avic_on_a_vm_boots_too(cpu, kernel):
    """Up to 5.15 an x2APIC in CPUID inhibits AVIC; an xAPIC guest has it everywhere."""
    made = Host(cpu, kernel, avic=True).create_vm(2, x2apic=False, boot=True, trace=False)
    assert [vcpu.apicv_active for vcpu in made.vcpus] == [True, True]
    made.vcpus[0].guest.mmio_write(0xFEE00310, 1 << 24)
    made.vcpus[0].guest.mmio_write(0xFEE00300, 0x43)
    made.run()
    assert made.vcpus[1].guest.handled == {0x43: 1}


@pytest.mark.parametrize(
    ("cpu", "kernel", "avic"), [("zen4", "6.18", None), ("zen2", "6.12", True), ("zen5", "7.3", True)]
)
def test_where_avic_is_on_it_is_active(cpu, kernel, avic):
    host = Host(cpu, kernel, avic)
    assert host.params["avic"] is True
    assert host.create_vm(boot=True, trace=False).vcpus[0].apicv_active is True


@pytest.mark.parametrize(
    ("cpu", "kernel"), [("zen4", "6.12"), ("zen2", "6.18"), ("zen3", "6.18"), ("tcg", "7.3"), ("zen4-nested", "7.3")]
)
def test_where_avic_is_off_by_default_there_is_one(cpu, kernel):
    assert Host(cpu, kernel).create_vm().vcpus[0].apicv_active is False


@pytest.mark.parametrize(
    "make",
    [
        lambda: Host("z80"),
        lambda: Host(kernel="4.19"),
        lambda: Host(kernel="6.12.x"),
        lambda: Host(gravity=1),
        lambda: Host(halt_poll_ns="much"),
        lambda: Host(kernel="6.1", vnmi=True),
        lambda: Host(avic=False).create_vm(0),
        lambda: Host(avic=False).create_vm(2, pcpus=[1]),
        lambda: Host(avic=False).create_vm(irqchip=None),
        lambda: Host(avic=False).create_vm(irqchip="split", pit="reinject"),
        lambda: Host(avic=False).create_vm(pit="on"),
        lambda: Host(avic=False).create_vm(broken=("gravity",)),
    ],
)
def test_what_is_not_known_is_refused_in_one_line(make):
    with pytest.raises(ValueError) as error:  # noqa: PT011 -- one line is what counts
        make()
    assert "\n" not in str(error.value)
