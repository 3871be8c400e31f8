"""KVM's common x86 code: arch/x86/kvm/x86.c and its neighbours, by concern."""
