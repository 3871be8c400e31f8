"""Stacks as the model would emit them, spelled out by hand: innermost first, with nothing inlined."""

import pytest

OUTER = ("vcpu_enter_guest", "vcpu_run", "kvm_arch_vcpu_ioctl_run", "kvm_vcpu_ioctl")
KICK = ("try_to_wake_up", "wake_up_process", "rcuwait_wake_up", "kvm_vcpu_wake_up", "kvm_vcpu_kick")
DELIVER = ("svm_complete_interrupt_delivery", "svm_deliver_interrupt", "__apic_accept_irq")
IPI = (
    "kvm_apic_set_irq",
    "kvm_irq_delivery_to_apic_fast",
    "kvm_irq_delivery_to_apic",
    "kvm_apic_send_ipi",
    "kvm_x2apic_icr_write",
    "handle_fastpath_set_x2apic_icr_irqoff",
    "handle_fastpath_set_msr_irqoff",
    "svm_exit_handlers_fastpath",
    "svm_vcpu_run",
)
TIMER = (
    "kvm_apic_local_deliver",
    "kvm_apic_inject_pending_timer_irqs",
    "kvm_inject_apic_timer_irqs",
    "kvm_inject_pending_timer_irqs",
)
PPR = ("__apic_update_ppr", "apic_update_ppr")


@pytest.fixture(scope="session")
def emitted() -> frozenset[tuple[str, ...]]:
    return frozenset(
        {
            (*KICK, *DELIVER, *IPI, *OUTER),
            (*KICK, *DELIVER, *TIMER, *OUTER[1:]),
            (*PPR, "apic_set_eoi", "kvm_lapic_sync_from_vapic", *OUTER),
            (*PPR, "apic_set_tpr", "kvm_lapic_set_tpr", "kvm_set_cr8", "sync_cr8_to_lapic", "svm_vcpu_run", *OUTER),
        }
    )


@pytest.fixture(scope="session")
def corpus(emitted: frozenset[tuple[str, ...]]) -> dict[str, frozenset[tuple[str, ...]]]:
    return {"6.12": emitted}
