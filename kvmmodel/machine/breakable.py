"""Rules that a VM can leave out on purpose, to see what they are for: name, and what is not done then."""

BREAKABLE = {
    "no-request": "svm_complete_interrupt_delivery makes no KVM_REQ_EVENT",
    "no-kick": "svm_complete_interrupt_delivery does not kick",
    "no-window": "svm_enable_irq_window asks for no window",
    "no-cr8-intercept": "svm_update_cr8_intercept never sets the intercept",
    "no-timer-request": "apic_timer_expired makes no KVM_REQ_UNBLOCK",
    "no-timer-kick": "apic_timer_expired does not kick",
}
