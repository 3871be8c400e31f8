"""Loading kvm_amd: what it finds, which parameters that switches off, and what the kernel log says of it.

The order is svm_hardware_setup's. Read in 5.15.85, 6.1.176, 6.6.9, 6.12.117, 6.18.35, 7.2.13 and 7.3.4; 5.10 as 5.15,
which logs of that time agree with. Of the log, what interrupt delivery or a parameter of the model decides: SEV's lines
are missing. The IOMMU's are there as far as posting interrupts is concerned; "X2APIC enabled" depends on the firmware.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kvmmodel.facts import load, params
from kvmmodel.facts.cpus import Processor, generation
from kvmmodel.facts.releases import Kernel

FW_BUG = "[Firmware Bug]: "
ZEN5_FAMILY = 0x1A
SNP_FAMILY = 0x19
ERRATUM_1235_FAMILY = 0x17
HYGON_FAMILY = 0x18
AVIC_MAX_VCPUS, X2AVIC_MAX_VCPUS, X2AVIC_4K_MAX_VCPUS = 255, 512, 4096


@dataclass(slots=True)
class Loaded:
    """The modules while they load. ``params`` as asked at first, resolved at the end; ``log`` grows by lines.

    ``snp``: the host runs SNP guests. ``irq_posting``: the IOMMU has IRQ_POSTING_CAP. ``max_vcpus``: as many APIC IDs
    as AVIC can tell apart, from 0. ``asked``: what was looked at to decide on AVIC, in that order, and what was found.
    """

    cpu: Processor
    kernel: Kernel
    params: dict[str, Any]
    snp: bool = False
    irq_posting: bool = False
    log: list[str] = field(default_factory=list)
    sysfs: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, Any]] = field(default_factory=list)
    x2avic: bool = False
    max_vcpus: int = AVIC_MAX_VCPUS

    def has(self, feature: str) -> bool:
        return feature in self.cpu.features

    def ask(self, what: str, value: Any) -> Any:
        """Note a condition, and give its value back."""
        self.asked.append((what, value))
        return value

    def say(self, line: str) -> None:
        self.log.append(("kvm_amd: " if self.kernel.has("dmesg_says_kvm_amd") else "SVM: ") + line)


def load_modules(
    cpu: Processor, kernel: Kernel, wanted: dict[str, Any], *, snp: bool = False, iommu: str | None = None
) -> Loaded:
    """Boot, then load kvm and kvm_amd with these parameters. ValueError, in one line, for what cannot be asked."""
    if snp and cpu.family < SNP_FAMILY:
        raise ValueError(f"CPU {cpu.name!r} has no SNP: expected Zen 3 or later with snp=True")
    if snp and not kernel.has("snp_host"):
        raise ValueError(f"kernel {kernel.release} runs no SNP guests: expected 6.12 or later with snp=True")
    loaded = Loaded(cpu, kernel, params.asked(kernel, wanted), snp)
    boot_iommu(loaded, iommu)
    loaded.log += [f"Setting dangerous option {name} - tainting kernel" for name in wanted if params.unsafe(name)]
    if has_svm(cpu):
        before = dict(loaded.params)
        svm_hardware_setup(loaded)
        shown = loaded.params if kernel.has("npt_reads_resolved") else loaded.params | {"npt": before["npt"]}
    else:
        _no_svm(loaded)
        shown = {name: value for name, value in loaded.params.items() if params.module_of(name) == "kvm"}
    loaded.sysfs = {name: params.spell(name, value, kernel) for name, value in shown.items()}
    return loaded


def has_svm(cpu: Processor) -> bool:
    """A processor without SVM has no feature that the facts know."""
    return bool(cpu.features)


def boot_iommu(loaded: Loaded, iommu: str | None) -> None:
    """The IOMMU's part at boot. None: there is none, or it is off. An IOMMU that cannot post is as with legacy."""
    if iommu is None:
        return
    rows = load("iommu")
    if iommu not in rows:
        raise ValueError(f"unknown iommu {iommu!r}: expected None or one of {', '.join(rows)}")
    row = rows[iommu if loaded.cpu.iommu_posts else "legacy"]
    loaded.irq_posting = row["irq_posting_cap"]
    loaded.log += [f"AMD-Vi: {line}" for line in row["log"]]


def svm_hardware_setup(loaded: Loaded) -> None:
    kernel, found = loaded.kernel, loaded.params
    _set_up_pmu(found, loaded)
    if kernel.has("log_tells_more"):
        _feature(loaded, "tsc_scaling", "tsc_scale", "TSC scaling supported")
    if found["nested"]:
        if kernel.has("dmesg_says_kvm_amd"):
            loaded.say("Nested Virtualization enabled")
        else:
            loaded.log.append("kvm: Nested Virtualization enabled")
    if not loaded.has("npt"):
        found["npt"] = False
    paging = f"Nested Paging {'enabled' if found['npt'] else 'disabled'}"
    loaded.say(paging if kernel.has("dmesg_says_kvm_amd") else f"kvm: {paging}")
    if kernel.has("nrips_normalised"):
        found["nrips"] = bool(found["nrips"]) and loaded.has("nrips")
    elif not loaded.has("nrips"):
        found["nrips"] = False
    if kernel.has("lbr_set_up_before_avic"):
        _feature(loaded, "lbrv", "lbrv", "LBR virtualization supported")
    found["avic"] = _set_up_avic(loaded)
    if "enable_ipiv" in found and not found["avic"]:
        found["enable_ipiv"] = False
    if not found["npt"]:
        found["vls"] = False
    _feature(loaded, "vls", "vls", "Virtual VMLOAD VMSAVE supported")
    _feature(loaded, "vgif", "vgif", "Virtual GIF supported")
    if "vnmi" in found:
        found["vnmi"] = bool(found["vgif"] and found["vnmi"] and loaded.has("vnmi"))
        if found["vnmi"]:
            loaded.say("Virtual NMI enabled")
    if kernel.has("log_tells_more"):
        if not kernel.has("lbr_set_up_before_avic"):
            _feature(loaded, "lbrv", "lbrv", "LBR virtualization supported")
        if not found["enable_pmu"]:
            loaded.say("PMU virtualization is disabled")
    if "enable_device_posted_irqs" in found:  # kvm_x86_vendor_init, after svm_hardware_setup
        found["enable_device_posted_irqs"] = bool(
            found["enable_device_posted_irqs"] and found["avic"] and loaded.irq_posting
        )


def _set_up_avic(loaded: Loaded) -> Any:
    """The value of avic afterwards. 5.10 and 5.15 leave a number as it is, or clear it."""
    if loaded.kernel.has("dmesg_forced_besides_enabled"):
        return avic_hardware_setup(loaded)
    asked = loaded.ask("avic", loaded.params["avic"])
    if loaded.kernel.has("avic_hardware_setup"):
        return bool(asked) and _avic_hardware_setup_before(loaded)
    if asked and loaded.ask("npt", loaded.params["npt"]) and loaded.ask("avic_cpuid", loaded.has("avic")):
        loaded.say("AVIC enabled")
        return asked
    return False


def avic_want_avic_enabled(loaded: Loaded) -> bool:
    """Of 6.18: auto is resolved, and what speaks against AVIC is looked at one after the other."""
    avic = loaded.ask("avic", loaded.params["avic"])
    if avic == params.AUTO:
        zen4_or_later = generation(loaded.cpu) == "zen4" or loaded.cpu.family >= ZEN5_FAMILY
        avic = loaded.ask("auto_x2avic", loaded.has("x2avic")) and loaded.ask("auto_zen4", zen4_or_later)
    if not avic or not loaded.ask("npt", loaded.params["npt"]):
        return False
    if not _has_avic(loaded):
        if loaded.has("x2avic"):
            loaded.say(f"{FW_BUG}Cannot enable x2AVIC, AVIC is unsupported")
        return False
    if _snp_forbids(loaded):
        return False
    if not loaded.has("avic"):
        loaded.say("AVIC unsupported in CPUID but force enabled, your system might crash and burn")
    return True


def avic_hardware_setup(loaded: Loaded) -> bool:
    """Of 6.18."""
    if not avic_want_avic_enabled(loaded):
        return False
    loaded.say("AVIC enabled")
    _set_up_x2avic(loaded)
    family = loaded.cpu.family
    affected = family == ERRATUM_1235_FAMILY or (family == HYGON_FAMILY and loaded.kernel.has("ipiv_off_on_hygon"))
    if loaded.ask("erratum_1235", affected):
        loaded.params["enable_ipiv"] = False
    return True


def _avic_hardware_setup_before(loaded: Loaded) -> bool:
    """avic_hardware_setup of 6.1, 6.6 and 6.12, which differ in nothing that can be seen but the look at SNP."""
    if not loaded.ask("npt", loaded.params["npt"]):
        return False
    if not _has_avic(loaded):
        if loaded.has("x2avic"):
            loaded.say(f"{FW_BUG}Cannot support x2AVIC due to AVIC is disabled")
            loaded.say(f"{FW_BUG}Try enable AVIC using force_avic option")
        return False
    if _snp_forbids(loaded):
        return False
    if loaded.has("avic"):
        loaded.say("AVIC enabled")
    else:
        loaded.say("AVIC is not supported in CPUID but force enabled")
        loaded.say("Your system might crash and burn")
    _set_up_x2avic(loaded)
    return True


def _has_avic(loaded: Loaded) -> bool:
    """By CPUID, or by force."""
    return bool(loaded.ask("avic_cpuid", loaded.has("avic")) or loaded.ask("force_avic", loaded.params["force_avic"]))


def _snp_forbids(loaded: Loaded) -> bool:
    if not loaded.kernel.has("avic_needs_hv_inuse") or not loaded.ask("snp", loaded.snp):
        return False
    forbids = not loaded.ask("hv_inuse", loaded.has("hv_inuse_wr_allowed"))
    if forbids:
        loaded.say("AVIC disabled: missing HvInUseWrAllowed on SNP-enabled system")
    return forbids


def _set_up_x2avic(loaded: Loaded) -> None:
    loaded.x2avic = loaded.ask("x2avic_cpuid", loaded.has("x2avic"))
    if not loaded.x2avic:
        return
    extended = loaded.kernel.has("avic_4096") and loaded.has("x2avic_ext")
    loaded.max_vcpus = X2AVIC_4K_MAX_VCPUS if extended else X2AVIC_MAX_VCPUS
    told = f" (max {loaded.max_vcpus} vCPUs)" if loaded.kernel.has("dmesg_says_max_vcpus") else ""
    loaded.say(f"x2AVIC enabled{told}")


def _set_up_pmu(found: dict[str, Any], loaded: Loaded) -> None:
    """kvm_init_pmu_capability, before svm_hardware_setup."""
    if "enable_pmu" in found and not loaded.has("pmu"):
        found["enable_pmu"] = False


def _feature(loaded: Loaded, parameter: str, feature: str, line: str) -> None:
    """Off where the processor lacks it, else told of."""
    if not loaded.params[parameter]:
        return
    if loaded.has(feature):
        loaded.say(line)
    else:
        loaded.params[parameter] = False


def _no_svm(loaded: Loaded) -> None:
    """kvm_amd does not load: no parameter of it has an effect."""
    if loaded.kernel.has("no_svm_told_per_cpu"):
        loaded.say("SVM not supported by CPU 0")
    else:
        loaded.log.append("has_svm: svm not available")
        named = " for 'kvm_amd'" if loaded.kernel.has("no_hardware_support_names_module") else ""
        loaded.log.append(f"kvm: no hardware support{named}")
    for name in loaded.params:
        if params.module_of(name) == "kvm_amd":
            loaded.params[name] = False
