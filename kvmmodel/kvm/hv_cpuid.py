"""Of Hyper-V's CPUID leaves what KVM offers to userspace that says how a guest should use interrupts.

0x40000004 EAX, the recommendations; userspace decides which of them a guest sees. Read in 6.1.176, 6.12.117, 7.2.13 and
7.3.4; the commit that brought the bit on AutoEOI also made the inhibit depend on it.
"""

from __future__ import annotations

from kvmmodel.facts.releases import Kernel
from kvmmodel.kvm.names import kernel

HV_X64_APIC_ACCESS_RECOMMENDED = 1 << 3  # EOI, ICR and TPR by Hyper-V's MSRs, and EOI by the assist page
HV_DEPRECATING_AEOI_RECOMMENDED = 1 << 9  # no AutoEOI


@kernel("arch/x86/kvm/hyperv.c")
def kvm_get_hv_cpuid(release: Kernel) -> int:
    """KVM_GET_SUPPORTED_HV_CPUID: EAX of that leaf, the two bits that matter here."""
    bits = HV_X64_APIC_ACCESS_RECOMMENDED
    if release.has("hyperv_autoeoi_inhibit"):
        bits |= HV_DEPRECATING_AEOI_RECOMMENDED
    return bits
