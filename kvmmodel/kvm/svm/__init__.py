"""The vendor module, kvm_amd: arch/x86/kvm/svm. Importing it fills kvm_x86_ops."""

from kvmmodel.kvm.ops import kvm_x86_ops
from kvmmodel.kvm.svm import gif, inject, interrupts, nested, nmi, predicates, run, smi
from kvmmodel.kvm.svm.avic import load, mode, tables, vcpu

kvm_x86_ops.vcpu_run = run.svm_vcpu_run
kvm_x86_ops.vcpu_reset = run.svm_vcpu_reset
kvm_x86_ops.handle_exit_irqoff = run.svm_handle_exit_irqoff
kvm_x86_ops.handle_exit = run.svm_handle_exit
kvm_x86_ops.skip_emulated_instruction = run.svm_skip_emulated_instruction
kvm_x86_ops.set_msr = run.svm_set_msr
kvm_x86_ops.get_msr = run.svm_get_msr
kvm_x86_ops.deliver_interrupt = interrupts.svm_deliver_interrupt
kvm_x86_ops.update_cr8_intercept = interrupts.svm_update_cr8_intercept
kvm_x86_ops.inject_irq = inject.svm_inject_irq
kvm_x86_ops.inject_nmi = nmi.svm_inject_nmi
kvm_x86_ops.inject_exception = inject.svm_inject_exception
kvm_x86_ops.cancel_injection = inject.svm_cancel_injection
kvm_x86_ops.interrupt_allowed = inject.svm_interrupt_allowed
kvm_x86_ops.nmi_allowed = nmi.svm_nmi_allowed
kvm_x86_ops.enable_irq_window = inject.svm_enable_irq_window
kvm_x86_ops.enable_nmi_window = nmi.svm_enable_nmi_window
kvm_x86_ops.get_nmi_mask = predicates.svm_get_nmi_mask
kvm_x86_ops.set_nmi_mask = nmi.svm_set_nmi_mask
kvm_x86_ops.is_vnmi_pending = nmi.svm_is_vnmi_pending
kvm_x86_ops.set_vnmi_pending = nmi.svm_set_vnmi_pending
kvm_x86_ops.smi_allowed = smi.svm_smi_allowed
kvm_x86_ops.enable_smi_window = smi.svm_enable_smi_window
kvm_x86_ops.apic_init_signal_blocked = gif.svm_apic_init_signal_blocked
kvm_x86_ops.check_nested_events = nested.svm_check_nested_events
kvm_x86_ops.leave_nested = nested.svm_leave_nested
kvm_x86_ops.set_efer = run.svm_set_efer
kvm_x86_ops.deliver_posted_interrupt = interrupts.svm_deliver_avic_intr
kvm_x86_ops.vcpu_precreate = vcpu.avic_vcpu_precreate
kvm_x86_ops.vcpu_create = run.svm_vcpu_create
kvm_x86_ops.vcpu_after_set_cpuid = run.svm_vcpu_after_set_cpuid
kvm_x86_ops.vcpu_load = run.svm_vcpu_load
kvm_x86_ops.vcpu_put = run.svm_vcpu_put
kvm_x86_ops.vcpu_blocking = load.avic_vcpu_blocking
kvm_x86_ops.vcpu_unblocking = load.avic_vcpu_unblocking
kvm_x86_ops.refresh_apicv_exec_ctrl = mode.avic_refresh_apicv_exec_ctrl
kvm_x86_ops.set_virtual_apic_mode = mode.avic_refresh_virtual_apic_mode
kvm_x86_ops.apicv_post_state_restore = tables.avic_apicv_post_state_restore
