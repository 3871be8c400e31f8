"""Reasons why APICv cannot be used for a VM. Where the module has it off, none but that is recorded."""

from __future__ import annotations

from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.types import Kvm

X86 = "arch/x86/kvm/x86.c"


def kvm_set_apicv_inhibit(kvm: Kvm, reason: str) -> None:
    kvm_set_or_clear_apicv_inhibit(kvm, reason, True)


def kvm_clear_apicv_inhibit(kvm: Kvm, reason: str) -> None:
    kvm_set_or_clear_apicv_inhibit(kvm, reason, False)


@kernel(X86, was={"5.10": "kvm_request_apicv_update", "6.1": "kvm_set_or_clear_apicv_inhibit"})
def kvm_set_or_clear_apicv_inhibit(kvm: Kvm, reason: str, on: bool) -> None:
    """Nothing where enable_apicv is 0."""
    if kvm.host.params["avic"]:
        (kvm.inhibits.add if on else kvm.inhibits.discard)(reason)
