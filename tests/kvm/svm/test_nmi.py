"""NMIs with vNMI: the processor delivers them, KVM only sets a bit."""

import pytest

from kvmmodel import Host
from kvmmodel.events import HandlerEnter, InjectNmi, KvmEntry, NmiWindow, TakeVnmi, VmExit, VnmiPending
from kvmmodel.guest.program import parse
from kvmmodel.kvm.host_types import VMRUN
from kvmmodel.kvm.svm.gif import EFER_SVME
from kvmmodel.kvm.svm.inject import svm_cancel_injection
from kvmmodel.kvm.svm.nested import nested_save_pending_event_to_vmcb12, nested_svm_exit_handled, vmrun_interception
from kvmmodel.kvm.svm.nmi import svm_inject_nmi
from kvmmodel.kvm.svm.run import svm_vcpu_run
from kvmmodel.kvm.svm.smi import svm_enable_smi_window
from kvmmodel.kvm.types import QueuedException
from kvmmodel.kvm.x86.inject import kvm_vcpu_reset
from kvmmodel.silicon import vmcb
from tests.machines import MSI, events

NMI = 0x400


def booted(kernel="6.18", **params):
    return Host("zen4", kernel, avic=False, **params).create_vm(1, boot=True)


def reasons(made):
    return [e.reason for e in events(made, VmExit)]


@pytest.mark.parametrize("kernel", ["6.6", "6.12", "6.18", "7.2", "7.3"])
def test_one_nmi_costs_no_exit_of_its_own(kernel):
    """source 6.18: V_NMI_PENDING only, no EVENTINJ and no IRET intercept."""
    made = booted(kernel)
    made.signal_msi(MSI, NMI)
    made.run()
    assert made.vcpus[0].guest.handled == {2: 1}
    assert "iret" not in reasons(made)


@pytest.mark.parametrize("params", [{}, {"vnmi": False}], ids=["vNMI", "without"])
def test_two_at_once_are_both_delivered_one_after_the_other_and_the_rest_is_dropped(params):
    """source: process_nmi keeps two; one goes by EVENTINJ, the other waits in V_NMI_PENDING or for IRET."""
    made = booted(**params)
    for _ in range(4):
        made.signal_msi(MSI, NMI)
    made.run()
    assert made.vcpus[0].guest.handled == {2: 2}
    assert ("iret" in reasons(made)) == bool(params)


def test_vnmi_needs_vgif():
    host = Host("zen4", "6.18", avic=False, vgif=False)
    assert not host.create_vm(1).vcpus[0].kvm_vcpu.vmcb.v_nmi_enable
    assert Host("zen4", "6.1", avic=False).params.get("vnmi") is None


def test_an_nmi_does_not_nest_with_vnmi():
    made = booted()
    made.world.bodies["slow"] = (parse("spin 5000"),)
    made.world.idt[0] = {2: "slow"}
    made.signal_msi(MSI, NMI)
    made.run(until=HandlerEnter)
    assert made.vcpus[0].kvm_vcpu.vmcb.v_nmi_blocking
    made.signal_msi(MSI, NMI)
    made.run()
    assert made.vcpus[0].guest.handled == {2: 2}
    assert not made.vcpus[0].kvm_vcpu.vmcb.v_nmi_blocking


def entry_with_nmi(made):
    return [e.intr_info for e in events(made, KvmEntry) if e.intr_info >> 8 & 7 == 2]


def test_the_vector_field_of_an_nmi_in_eventinj_is_0():
    """recorded 7.3.4 (kvm_entry, intr_info 0x80000200); source 6.18.35 svm_inject_nmi. The processor takes vector 2."""
    made = booted(vnmi=False)
    made.signal_msi(MSI, NMI)
    made.run()
    assert entry_with_nmi(made) == [0x80000200]
    assert made.vcpus[0].guest.handled == {2: 1}


def test_what_an_init_leaves_of_the_nmi_mask():
    """source 6.18.35 svm_vcpu_reset: nmi_masked is cleared by RESET alone, and init_vmcb takes no intercept away.

    Up to 6.1 the mask is in hflags, which kvm_vcpu_reset clears (recalled).
    """
    for kernel, masked in (("6.1", False), ("6.6", True), ("6.18", True)):
        params = {} if kernel == "6.1" else {"vnmi": False}
        kvm_vcpu = Host("zen4", kernel, avic=False, **params).create_vm(1).vcpus[0].kvm_vcpu
        svm_inject_nmi(kvm_vcpu)
        kvm_vcpu_reset(kvm_vcpu, True)
        assert (kvm_vcpu.nmi_masked, vmcb.SVM_EXIT_IRET in kvm_vcpu.vmcb.intercepts) == (masked, True)


def test_a_single_step_is_off_while_an_event_is_injected():
    """source 6.18.35 svm_vcpu_run: TF is taken back, and a reschedule IPI to itself ends the entry at once."""
    made = booted(vnmi=False)
    kvm_vcpu = made.vcpus[0].kvm_vcpu
    made.machine.host.current = made.machine.host.cpus[0]
    kvm_vcpu.vmcb.single_step = True
    kvm_vcpu.vmcb.event_inj = vmcb.SVM_EVTINJ_VALID | 0x41
    assert next(svm_vcpu_run(kvm_vcpu)) is VMRUN
    assert not kvm_vcpu.vmcb.single_step
    assert [name for _, _, name in made.machine.host.cpus[0].irqs] == ["reschedule"]


@pytest.mark.parametrize(("kernel", "masked"), [("5.15", True), ("6.1", False), ("6.18", False)])
def test_an_nmi_that_l1_injects_into_l2_masks_none_of_l1s(kernel, masked):
    """source 6.18.35 svm_inject_nmi: nmi_l1_to_l2, as the entry was called off and KVM injects it again."""
    made = booted(kernel, **({} if kernel in ("5.15", "6.1") else {"vnmi": False}))
    kvm_vcpu = made.vcpus[0].kvm_vcpu
    kvm_vcpu.efer = EFER_SVME
    kvm_vcpu.regs.vmcb12 = vmcb.Vmcb(event_inj=vmcb.SVM_EVTINJ_VALID | vmcb.SVM_EVTINJ_TYPE_NMI)
    vmrun_interception(kvm_vcpu)
    svm_cancel_injection(kvm_vcpu)
    assert kvm_vcpu.nmi_injected
    svm_inject_nmi(kvm_vcpu)
    assert kvm_vcpu.nmi_masked == masked


def test_vmrun_in_smm_is_an_invalid_opcode():
    """source 6.18.35 nested_svm_vmrun."""
    kvm_vcpu = booted().vcpus[0].kvm_vcpu
    kvm_vcpu.efer, kvm_vcpu.smm, kvm_vcpu.regs.vmcb12 = EFER_SVME, True, vmcb.Vmcb()
    vmrun_interception(kvm_vcpu)
    assert (kvm_vcpu.exception.vector, kvm_vcpu.guest_mode) == (6, False)


def test_an_exception_cut_short_comes_back_to_l1_with_its_error_code():
    """source 6.18.35 nested_save_pending_event_to_vmcb12."""
    kvm_vcpu = booted().vcpus[0].kvm_vcpu
    kvm_vcpu.exception = QueuedException(False, True, 13, 0x18)
    vmcb12 = vmcb.Vmcb()
    nested_save_pending_event_to_vmcb12(kvm_vcpu, vmcb12)
    assert (vmcb12.exit_int_info, vmcb12.exit_int_info_err) == (0x80000B0D, 0x18)


def test_kvms_single_step_of_l2_is_not_l1s_business():
    """source 6.18.35 nested_svm_exit_special: a #DB that KVM intercepts stays with it, though L1 wants it as well."""
    kvm_vcpu = booted().vcpus[0].kvm_vcpu
    kvm_vcpu.efer, kvm_vcpu.regs.vmcb12 = EFER_SVME, vmcb.Vmcb(intercepts={vmcb.SVM_EXIT_DB})
    vmrun_interception(kvm_vcpu)
    kvm_vcpu.vmcb.exit_code = vmcb.SVM_EXIT_DB
    assert not nested_svm_exit_handled(kvm_vcpu)


def told(made):
    """What KVM and the processor do about NMIs, in short."""
    words = {InjectNmi: "inject", VnmiPending: "leave to the processor", TakeVnmi: "processor delivers"}
    seen = events(made, NmiWindow, *words)
    return [f"{'+' if e.open else '-'}{e.by}" if isinstance(e, NmiWindow) else words[type(e)] for e in seen]


def test_what_kvm_does_for_two_nmis_without_vnmi():
    """source 6.12.117: svm_inject_nmi, iret_interception, svm_enable_nmi_window, db_interception."""
    made = booted(vnmi=False)
    for _ in range(2):
        made.signal_msi(MSI, NMI)
    made.run()
    assert told(made) == ["inject", "+iret", "-iret", "+step", "-step", "inject", "+iret", "-iret"]


def test_what_it_does_with_vnmi():
    made = booted()
    for _ in range(2):
        made.signal_msi(MSI, NMI)
    made.run()
    assert told(made) == ["leave to the processor", "inject", "processor delivers"]


@pytest.mark.parametrize(("params", "arrive"), [({}, 2), ({"vnmi": False}, 1)], ids=["vNMI", "without"])
def test_without_the_iret_intercept_there_is_one_nmi_and_no_more(params, arrive):
    made = Host("zen4", "6.18", avic=False, **params).create_vm(1, boot=True, broken=("no-iret-intercept",))
    for _ in range(2):
        made.signal_msi(MSI, NMI)
        made.run()
    assert made.vcpus[0].guest.handled == {2: arrive}
    assert made.vcpus[0].kvm_vcpu.nmi_masked == bool(params)


def test_kvms_own_stgi_intercept_is_set_even_if_l1_has_one_for_l2():
    kvm_vcpu = booted(vnmi=False).vcpus[0].kvm_vcpu
    kvm_vcpu.efer, kvm_vcpu.regs.vmcb12 = EFER_SVME, vmcb.Vmcb(intercepts={vmcb.SVM_EXIT_STGI})
    vmrun_interception(kvm_vcpu)
    kvm_vcpu.vmcb.v_gif = False
    svm_enable_smi_window(kvm_vcpu)
    assert vmcb.SVM_EXIT_STGI in kvm_vcpu.vmcb01.intercepts
