"""KVM's driver of AVIC: arch/x86/kvm/svm/avic.c. The unit itself is in silicon/avic.py."""
