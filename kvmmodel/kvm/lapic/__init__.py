"""KVM's local APIC: arch/x86/kvm/lapic.c, by concern."""
