"""What the processor does, by the AMD APM and the x2APIC specification. Knows nothing of KVM."""
