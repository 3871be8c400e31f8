"""The ops on nested guests: L1's VMRUN, and GIF."""

from __future__ import annotations

from typing import Any

from kvmmodel.cases import guest
from kvmmodel.cases.bench import Bench, exit_half, on_cpu, switch
from kvmmodel.guest.cpu import leave
from kvmmodel.kvm.ops import kvm_x86_ops
from kvmmodel.kvm.svm.gif import EFER_SVME
from kvmmodel.kvm.x86.msrs import MSR_EFER
from kvmmodel.kvm.x86.run import vcpu_enter_guest
from kvmmodel.machine.vcpu import Vcpu
from kvmmodel.silicon import vmcb as hw
from kvmmodel.silicon.vmcb import Vmcb

NO_EXIT = -2  # in a VMCB that has not run yet; no exit code has it
EXITS = {
    "none": NO_EXIT,
    "INTR": hw.SVM_EXIT_INTR,
    "NMI": hw.SVM_EXIT_NMI,
    "INIT": hw.SVM_EXIT_INIT,
    "VINTR": hw.SVM_EXIT_VINTR,
    "VMMCALL": hw.SVM_EXIT_VMMCALL,
    "MSR": hw.SVM_EXIT_MSR,
    "INVALID": hw.SVM_EXIT_ERR,
}
NAMES = {code: name for name, code in EXITS.items()}


def _enable_svm(bench: Bench, vcpu: Vcpu) -> None:
    if not vcpu.kvm_vcpu.efer & EFER_SVME:
        guest.wrmsr(bench, vcpu, MSR_EFER, vcpu.kvm_vcpu.efer | EFER_SVME)


def vmrun(bench: Bench, args: dict[str, Any]) -> None:
    """L1 runs L2. What waits for L1, and ends L2 before its first instruction, has done so after this."""
    vcpu = bench.vm.vcpus[args["cpu"]]
    _enable_svm(bench, vcpu)
    vmcb12 = bench.vmcb12[args["cpu"]] = _vmcb12(args)
    vcpu.inside.regs.vmcb12 = vmcb12
    exit_half(bench, vcpu, hw.SVM_EXIT_VMRUN)
    if vcpu.kvm_vcpu.guest_mode:
        _first_entry(bench, vcpu)


def _first_entry(bench: Bench, vcpu: Vcpu) -> None:
    """Until it was made, KVM lets no event of L1 in; then it looks for them before L2 goes on."""
    kvm_vcpu = vcpu.kvm_vcpu
    with on_cpu(bench, vcpu):
        entry = vcpu_enter_guest(kvm_vcpu)
        if next(entry, None) is not None:
            leave(vcpu.inside, hw.SVM_EXIT_INTR)
            next(entry, None)
        if kvm_vcpu.guest_mode:
            kvm_x86_ops.check_nested_events(kvm_vcpu)
    switch(bench, vcpu)


def _vmcb12(args: dict[str, Any]) -> Vmcb:
    flags = ("v_intr_masking", "v_irq", "v_gif_enable", "v_nmi_enable", "v_nmi_pending")
    enabled = args.get("guest_if")
    made = Vmcb(
        intercepts={hw.SVM_EXIT_VMRUN} | {EXITS[name] for name in args["intercept"]},
        v_intr_prio=args.get("v_intr_prio") or 0,
        v_tpr=args.get("v_tpr") or 0,
        int_vector=args.get("vector") or 0,
        int_state=bool(args.get("shadow")),
        rflags_if=enabled is None or bool(enabled),
        exit_code=NO_EXIT,
    )
    for name in flags:
        setattr(made, name, bool(args.get(name)))
    return made


def set_gif(bench: Bench, vcpu: Vcpu, on: bool) -> None:
    """STGI or CLGI; it exits, or the processor keeps the flag."""
    _enable_svm(bench, vcpu)
    code, vmcb = hw.SVM_EXIT_STGI if on else hw.SVM_EXIT_CLGI, vcpu.inside.vmcb
    if code in vmcb.intercepts:
        exit_half(bench, vcpu, code)
    else:
        vmcb.v_gif = on


def last_exit(bench: Bench, cpu: int) -> str:
    vmcb12 = bench.vmcb12.get(cpu)
    return NAMES[vmcb12.exit_code if vmcb12 else NO_EXIT]
