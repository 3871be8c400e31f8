"""A tested model of how Linux KVM on AMD delivers interrupts.

>>> from kvmmodel import Host
>>> vm = Host(kernel="6.12").create_vm(vcpus=2, boot=True)
>>> vm.signal_msi(0xFEE01000, 0x43)
1
"""

from kvmmodel.machine.host import Host
from kvmmodel.machine.vcpu import GuestFault, GuestStuck, MsrError, Vcpu
from kvmmodel.machine.vm import Vm

__version__ = "0.1.0"
__all__ = ["GuestFault", "GuestStuck", "Host", "MsrError", "Vcpu", "Vm", "__version__"]
