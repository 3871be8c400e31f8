"""What Linux does when it delivers an interrupt, by concern and under the kernel's function names."""
