"""The host: a processor, a kernel release, its module parameters and physical CPUs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kvmmodel.facts import load
from kvmmodel.facts.cpus import Processor, processor
from kvmmodel.facts.open_points import choose
from kvmmodel.facts.releases import Kernel, kernel
from kvmmodel.kvm.host_types import Cpu, HostKernel
from kvmmodel.machine.hardware_setup import has_svm, load_modules

if TYPE_CHECKING:
    from kvmmodel.machine.vm import Vm


class Host:
    """A host that VMs are created on.

    ``cpu`` is a processor of facts/cpus.toml, with "+FEATURE" or "-FEATURE" after commas; ``kernel`` X.Y, X.Y.Z or a
    Kernel; ``avic`` and ``module_params`` what a modprobe.conf would set, None: the release's default. ``snp``: it
    runs SNP guests. ``iommu``: amd_iommu_intr of its command line, None: no IOMMU. ``open_points``: choices where it
    is not known what the processor does (facts/open_points.toml). ValueError, in one line, for what is not known.

    ``params`` are the parameters once the modules are loaded; ``sysfs`` the same, as /sys/module has
    them; ``dmesg`` what the kernel log says. ``asked``: what decided on AVIC, one condition after the other.
    ``x2avic``: AVIC is on, for the x2APIC's registers too.
    """

    def __init__(
        self,
        cpu: str | Processor = "zen4",
        kernel: str | Kernel = "6.18",
        avic: bool | str | None = None,
        *,
        snp: bool = False,
        iommu: str | None = None,
        open_points: Mapping[str, str] | None = None,
        **module_params: Any,
    ) -> None:
        self.processor: Processor = processor(cpu) if isinstance(cpu, str) else cpu
        self.kernel: Kernel = _kernel(kernel) if isinstance(kernel, str) else kernel
        asked = dict(module_params) if avic is None else {**module_params, "avic": avic}
        loaded = load_modules(self.processor, self.kernel, asked, snp=snp, iommu=iommu)
        self.params: dict[str, Any] = loaded.params
        self.sysfs: dict[str, str] = loaded.sysfs
        self.dmesg: list[str] = loaded.log
        self.asked: tuple[tuple[str, Any], ...] = tuple(loaded.asked)
        self.x2avic: bool = loaded.x2avic
        self.iommu = None if iommu is None else "vapic" if loaded.irq_posting else "legacy"
        self.open_points: dict[str, str] = choose(open_points)
        self.costs: dict[str, int] = dict(load("costs")["ns"])

    def create_vm(self, vcpus: int = 2, x2apic: bool = True, boot: bool = False, **options: Any) -> Vm:
        """Create a VM with so many vCPUs, in reset state; see :class:`kvmmodel.machine.vm.Vm` for the options.

        ``x2apic`` is the CPUID bit. ``boot``: do what a guest OS does first (APs up, x2APIC on, APIC enabled, IF set).
        ValueError where the host cannot run VMs.
        """
        from kvmmodel.machine.vm import Vm

        if not has_svm(self.processor):
            raise ValueError(f"CPU {self.processor.name!r} has no SVM: kvm_amd does not load, so there are no VMs")
        return Vm(self, vcpus, x2apic=x2apic, boot=boot, **options)

    def start(self, cpus: list[int]) -> HostKernel:
        """The running host kernel of one VM, with these physical CPUs."""
        made = [Cpu(ident) for ident in cpus]
        return HostKernel(
            self.kernel,
            self.processor.features,
            self.params,
            self.costs,
            made,
            made[-1],
            open_points=dict(self.open_points),
            iommu=self.iommu,
        )


def _kernel(name: str) -> Kernel:
    return kernel(name)
