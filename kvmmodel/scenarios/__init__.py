"""Scenarios: a VM, what its guests execute, what userspace and the host do, as TOML files. See format.py."""
