"""What a guest does: instructions, programs and interrupt handlers. Sees KVM only through exits."""
