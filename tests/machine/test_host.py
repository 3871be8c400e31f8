"""What a host's modules say of themselves: sysfs and the kernel log, by processor, release and parameters."""

from itertools import product
from pathlib import Path

import pytest

from kvmmodel import Host
from kvmmodel.facts.releases import series

DATA = Path(__file__).parents[1] / "evidence" / "data"
TABLE = Path(__file__).with_name("hosts.txt")
CPUS = ("zen1", "zen2", "zen3", "zen3,+avic", "zen4", "zen4-client", "zen5", "zen5,+x2avic_ext", "hygon", "tcg")
ASKED = ({}, {"avic": True}, {"avic": True, "force_avic": True})


def avic_line(line):
    return "AVIC" in line or "crash and burn" in line


def table():
    """What avic, enable_ipiv and the log become, by processor, release and what was asked."""
    rows = [f"{'processor':16}  {'kernel':9}  {'asked':20}  avic  x2AVIC  IPIs  the log, of AVIC"]
    for cpu, kernel, asked in product(CPUS, series(), ASKED):
        if "force_avic" in asked and kernel in ("5.10", "5.15"):
            continue
        host = Host(cpu, kernel, **asked)
        words = " ".join(f"{name}={value:d}" for name, value in asked.items()) or "-"
        cells = (host.sysfs["avic"], "Y" if host.x2avic else "-", host.sysfs.get("enable_ipiv", "-"))
        said = " / ".join(line for line in host.dmesg if avic_line(line) and "dangerous" not in line)
        row = f"{cpu:16}  {host.kernel.release:9}  {words:20}  {cells[0]:4}  {cells[1]:6}  {cells[2]:4}  {said}"
        rows.append(row.rstrip())
    return "\n".join(rows) + "\n"


def test_the_table_of_hosts():
    """hosts.txt is what the rules below say, all together; `python tests/machine/test_host.py` prints it anew."""
    assert table() == TABLE.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "cpu", "asked"),
    [
        ("6.12.95-avic0-nrips", "tcg,+nrips", {}),
        ("7.3.4-avic0-nrips", "tcg,+nrips", {}),
        ("7.3.4-avic0-bpftrace", "tcg", {}),
        ("7.3.4-avic1-forced-tcg", "tcg", {"avic": "1", "force_avic": "1"}),
    ],
)
def test_an_emulated_host_says_what_was_recorded(name, cpu, asked):
    """Every line, in order."""
    lines = (DATA / name / "00-dmesg-kvm.txt").read_text(encoding="utf-8").splitlines()
    assert Host(cpu, name.split("-")[0], **asked).dmesg == [line.partition("] ")[2] for line in lines]


# Lines of public logs, each of a real host. 6.18 or later: a laptop that reports x2AVIC without AVIC, and two whose
# firmware shows both; of the one with virtual VMLOAD the processor is not told. 5.10 to 6.1: hosts of that time.
PUBLIC = {
    ("zen4-client", "6.18"): (
        "kvm_amd: TSC scaling supported",
        "kvm_amd: Nested Virtualization enabled",
        "kvm_amd: Nested Paging enabled",
        "kvm_amd: LBR virtualization supported",
        "kvm_amd: [Firmware Bug]: Cannot enable x2AVIC, AVIC is unsupported",
        "kvm_amd: Virtual GIF supported",
        "kvm_amd: Virtual NMI enabled",
    ),
    ("zen4-client,+avic", "6.18"): (
        "kvm_amd: TSC scaling supported",
        "kvm_amd: Nested Virtualization enabled",
        "kvm_amd: Nested Paging enabled",
        "kvm_amd: LBR virtualization supported",
        "kvm_amd: AVIC enabled",
        "kvm_amd: x2AVIC enabled",
        "kvm_amd: Virtual GIF supported",
        "kvm_amd: Virtual NMI enabled",
    ),
    ("zen4-client,+avic,+vls", "6.18"): (
        "kvm_amd: TSC scaling supported",
        "kvm_amd: Nested Virtualization enabled",
        "kvm_amd: Nested Paging enabled",
        "kvm_amd: LBR virtualization supported",
        "kvm_amd: AVIC enabled",
        "kvm_amd: x2AVIC enabled",
        "kvm_amd: Virtual VMLOAD VMSAVE supported",
        "kvm_amd: Virtual GIF supported",
        "kvm_amd: Virtual NMI enabled",
    ),
    ("zen2", "6.1"): (
        "SVM: TSC scaling supported",
        "kvm: Nested Virtualization enabled",
        "SVM: kvm: Nested Paging enabled",
        "SVM: Virtual VMLOAD VMSAVE supported",
        "SVM: Virtual GIF supported",
        "SVM: LBR virtualization supported",
    ),
    ("zen1", "5.10"): (
        "kvm: Nested Virtualization enabled",
        "SVM: kvm: Nested Paging enabled",
        "SVM: Virtual VMLOAD VMSAVE supported",
        "SVM: Virtual GIF supported",
    ),
}


@pytest.mark.parametrize(("cpu", "kernel"), PUBLIC)
def test_a_real_host_says_what_public_logs_have(cpu, kernel):
    assert tuple(Host(cpu, kernel).dmesg) == PUBLIC[cpu, kernel]


def test_the_order_of_lines_by_release():
    """source 6.6.9, 6.12.117: LBR virtualization is last, later before AVIC. source 7.3.4: how many vCPUs."""
    said = [line.removeprefix("kvm_amd: ") for line in Host("zen4", "6.6", avic=True).dmesg]
    assert said[3:] == [
        "AVIC enabled",
        "x2AVIC enabled",
        "Virtual VMLOAD VMSAVE supported",
        "Virtual GIF supported",
        "Virtual NMI enabled",
        "LBR virtualization supported",
    ]
    said = [line.removeprefix("kvm_amd: ") for line in Host("zen4", "7.3").dmesg]
    assert said[3:6] == ["LBR virtualization supported", "AVIC enabled", "x2AVIC enabled (max 512 vCPUs)"]


@pytest.mark.parametrize(
    ("kernel", "lines"),
    [
        ("5.10", ["AVIC enabled"]),
        ("6.1", ["AVIC enabled", "x2AVIC enabled"]),
        ("6.18", ["AVIC enabled", "x2AVIC enabled"]),
        ("7.2", ["AVIC enabled", "x2AVIC enabled (max 512 vCPUs)"]),
    ],
)
def test_avic_on(kernel, lines):
    """source 5.15.85, 6.1.176, 6.18.35, 7.2.13. x2AVIC came with 6.0, so 5.10 knows nothing of it."""
    host = Host("zen5", kernel, avic=True)
    assert [line.partition(": ")[2] for line in host.dmesg if avic_line(line)] == lines
    assert host.x2avic is (kernel != "5.10")


@pytest.mark.parametrize(
    ("kernel", "lines"),
    [
        ("6.1", ["AVIC is not supported in CPUID but force enabled", "Your system might crash and burn"]),
        ("6.12", ["AVIC is not supported in CPUID but force enabled", "Your system might crash and burn"]),
        (
            "6.18",
            ["AVIC unsupported in CPUID but force enabled, your system might crash and burn", "AVIC enabled"],
        ),
    ],
)
def test_avic_forced(kernel, lines):
    """source 6.1.176, 6.12.117, 6.18.35; recorded 7.3.4. The taint: recorded."""
    host = Host("zen3", kernel, avic=True, force_avic=True)
    assert host.dmesg[0] == "Setting dangerous option force_avic - tainting kernel"
    assert [line.partition(": ")[2] for line in host.dmesg if avic_line(line)][-2:] == lines
    assert host.sysfs["force_avic"] == "Y"


def test_force_avic_taints_whatever_its_value():
    """source 6.18.35, param_check_unsafe."""
    assert "tainting" in Host("zen4", "6.18", force_avic=False).dmesg[0]
    assert not any("tainting" in line for line in Host("zen4", "6.18").dmesg)


@pytest.mark.parametrize(
    ("kernel", "lines"),
    [
        ("5.15", []),
        ("6.1", ["Cannot support x2AVIC due to AVIC is disabled", "Try enable AVIC using force_avic option"]),
        ("6.12", ["Cannot support x2AVIC due to AVIC is disabled", "Try enable AVIC using force_avic option"]),
        ("6.18", ["Cannot enable x2AVIC, AVIC is unsupported"]),
        ("7.3", ["Cannot enable x2AVIC, AVIC is unsupported"]),
    ],
)
def test_x2avic_without_avic_is_a_firmware_bug(kernel, lines):
    """source 6.1.176, 6.12.117, 6.18.35, 7.3.4; a public log of 6.18 or later."""
    host = Host("zen4-client", kernel, avic=True)
    assert not host.params["avic"]
    assert [line.partition("[Firmware Bug]: ")[2] for line in host.dmesg if avic_line(line)] == lines
    assert not any(map(avic_line, Host("zen4-client", kernel, avic=True, npt=False).dmesg))


@pytest.mark.parametrize(
    ("kernel", "on"), [("6.12.25", True), ("6.12.26", False), ("6.12", False), ("6.18", False), ("7.3", False)]
)
def test_a_host_of_snp_guests(kernel, on):
    """source 6.12.117, 6.18.35, 7.3.4; 6.12.26 took it (its announcement)."""
    line = "kvm_amd: AVIC disabled: missing HvInUseWrAllowed on SNP-enabled system"
    host = Host("zen4", kernel, avic=True, snp=True)
    assert (host.params["avic"], line in host.dmesg) == (on, not on)
    assert Host("zen4,+hv_inuse_wr_allowed", kernel, avic=True, snp=True).params["avic"] is True
    assert line not in Host("zen4", kernel, avic=False, snp=True).dmesg


def test_who_cannot_run_snp_guests():
    with pytest.raises(ValueError, match="CPU 'zen2' has no SNP: expected Zen 3 or later"):
        Host("zen2", "6.18", snp=True)
    with pytest.raises(ValueError, match=r"kernel 6\.6\.9 runs no SNP guests: expected 6\.12 or later"):
        Host("zen4", "6.6", snp=True)


def test_the_iommu():
    """source 6.1.176, 7.3.4: enable_iommus_vapic. Zen 3: mail of 2025."""
    remapping, posting = "AMD-Vi: Interrupt remapping enabled", "AMD-Vi: Virtual APIC enabled"
    assert Host("zen4", "7.3", iommu="vapic").dmesg[:2] == [remapping, posting]
    assert posting not in Host("zen4", "7.3", iommu="legacy").dmesg
    assert posting not in Host("zen3", "7.3", iommu="vapic").dmesg
    assert not any("AMD-Vi" in line for line in Host("zen4", "7.3").dmesg)
    with pytest.raises(ValueError, match="unknown iommu 'amd': expected None or one of vapic, legacy"):
        Host("zen4", "7.3", iommu="amd")


def test_paging_and_nesting_off():
    assert "kvm_amd: Nested Paging disabled" in Host("zen4", "6.18", npt=False).dmesg
    assert "SVM: kvm: Nested Paging disabled" in Host("zen4", "5.10", npt=False).dmesg
    assert not any("Nested Virtualization" in line for line in Host("zen4", "6.18", nested=0).dmesg)


@pytest.mark.parametrize(
    ("kernel", "lines"),
    [
        ("5.15", ["has_svm: svm not available", "kvm: no hardware support"]),
        ("6.1", ["has_svm: svm not available", "kvm: no hardware support for 'kvm_amd'"]),
        ("6.12", ["kvm_amd: SVM not supported by CPU 0"]),
    ],
)
def test_no_svm(kernel, lines):
    """source 6.1.176, 6.12.117. The reason that has_svm gives is recalled."""
    assert Host("none", kernel).dmesg == lines


@pytest.mark.parametrize("kernel", ["6.12", "6.18", "7.3"])
def test_a_nested_host_is_never_offered_avic_and_the_rest_stays(kernel):
    nested, bare = Host("zen4-nested", kernel), Host("zen4", kernel, avic=False)
    assert nested.params == bare.params
    assert nested.processor.features == bare.processor.features - {"avic", "x2avic"}
    assert Host("zen4-nested", kernel, avic=True).params["avic"] is False


if __name__ == "__main__":
    print(table(), end="")
