"""The machine: hosts, VMs and vCPUs as people use them, and the loop that runs them."""
