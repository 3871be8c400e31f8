"""The host: a processor, a kernel release, its module parameters and physical CPUs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kvmmodel.facts import load
from kvmmodel.facts.params import Processor, processor, resolve
from kvmmodel.facts.releases import Kernel, kernel
from kvmmodel.kvm.types import Cpu, HostKernel

if TYPE_CHECKING:
    from kvmmodel.machine.vm import Vm


class Host:
    """A host that VMs are created on.

    ``cpu`` is a processor of facts/cpus.toml, ``kernel`` X.Y or X.Y.Z, ``avic`` and ``module_params`` what a
    modprobe.conf would set; None keeps the release's default. ValueError, in one line, for a name that is not known.
    """

    def __init__(
        self, cpu: str | Processor = "zen4", kernel: str = "6.18", avic: bool | None = None, **module_params: Any
    ) -> None:
        self.processor: Processor = processor(cpu) if isinstance(cpu, str) else cpu
        self.kernel: Kernel = _kernel(kernel)
        asked = dict(module_params) if avic is None else {**module_params, "avic": avic}
        self.params: dict[str, Any] = resolve(self.processor, self.kernel, asked)
        self.dmesg: list[str] = _dmesg(self.processor, self.params)
        self.costs: dict[str, int] = dict(load("costs")["ns"])

    def create_vm(self, vcpus: int = 2, x2apic: bool = True, boot: bool = False, **options: Any) -> Vm:
        """Create a VM with so many vCPUs, in reset state; see :class:`kvmmodel.machine.vm.Vm` for the options.

        ``x2apic`` is the CPUID bit. ``boot``: do what a guest OS does first (APs up, x2APIC on, APIC enabled, IF set).
        ValueError where the host cannot run VMs, or AVIC would be on: this version models delivery with AVIC off.
        """
        from kvmmodel.machine.vm import Vm

        if not self.processor.features:
            raise ValueError(f"CPU {self.processor.name!r} has no SVM: kvm_amd does not load, so there are no VMs")
        return Vm(self, vcpus, x2apic=x2apic, boot=boot, **options)

    def start(self, cpus: list[int]) -> HostKernel:
        """The running host kernel of one VM, with these physical CPUs."""
        made = [Cpu(ident) for ident in cpus]
        return HostKernel(self.kernel, self.processor.features, self.params, self.costs, made, made[-1])


def _kernel(name: str) -> Kernel:
    return kernel(name)


def _dmesg(cpu: Processor, params: dict[str, Any]) -> list[str]:
    """What kvm_amd prints when it loads, as far as the model's parameters decide it."""
    if not cpu.features:
        return ["kvm_amd: SVM not supported by this CPU"]
    lines = ["kvm_amd: Nested Virtualization enabled"]
    lines.append(f"kvm_amd: Nested Paging {'enabled' if params['npt'] else 'disabled'}")
    if params["avic"]:
        lines.append("kvm_amd: AVIC enabled")
    if params["vgif"]:
        lines.append("kvm_amd: Virtual GIF supported")
    if params.get("vnmi"):
        lines.append("kvm_amd: Virtual NMI enabled")
    return lines
