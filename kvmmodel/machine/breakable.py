"""Rules that a VM can leave out on purpose, to see what they are for: name, and what is not done then."""

from __future__ import annotations

from collections.abc import Iterable

BREAKABLE = {
    "no-request": "svm_complete_interrupt_delivery makes no KVM_REQ_EVENT",
    "no-kick": "svm_complete_interrupt_delivery does not kick",
    "no-window": "svm_enable_irq_window asks for no window",
    "no-window-inhibit": "svm_enable_irq_window leaves AVIC on",
    "no-cr8-intercept": "svm_update_cr8_intercept never sets the intercept",
    "no-cr8-sync": "sync_cr8_to_lapic does nothing",
    "no-timer-request": "apic_timer_expired makes no KVM_REQ_UNBLOCK",
    "no-timer-kick": "apic_timer_expired does not kick",
    "no-iret-intercept": "svm_inject_nmi does not have the handler's IRET exit",
    "no-stgi-intercept": "svm_enable_nmi_window and svm_enable_smi_window do not have STGI exit, with vGIF",
    "no-ioapic-eoi": "kvm_ioapic_send_eoi passes no EOI on",
    "pv-eoi-always-armed": "apic_sync_pv_eoi_to_guest arms though IRR holds another vector",
    "no-ga-log": "GALogIntr is never set in the remapping entries of devices",
    "no-unhalt": "a PV kick does not set pv_unhalted",
    "no-msr-intercept": "avic_deactivate_vmcb leaves the x2APIC MSRs that x2AVIC needed open",
    "no-avic-exits": "the handlers of exits 401h and 402h do nothing but trace",
    "no-autoeoi-inhibit": "synic_update_vector leaves AVIC on, though a SynIC source has AutoEOI",
    "no-pit-ack": "kvm_pit_ack_irq, the PIT's ack notifier, does nothing",
}


def check_rules(names: Iterable[str]) -> None:
    """ValueError for a rule that does not exist."""
    if unknown := set(names) - BREAKABLE.keys():
        raise ValueError(f"cannot break {', '.join(sorted(unknown))}: expected {', '.join(sorted(BREAKABLE))}")
