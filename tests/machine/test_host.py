"""What a host's modules say of themselves."""

import pytest

from kvmmodel import Host


@pytest.mark.parametrize("kernel", ["6.12.95", "7.3.4"])
def test_an_emulated_host_says_what_was_recorded(kernel):
    """recorded 6.12.95, 7.3.4: these lines of kvm_amd, then one on the PMU, which the model does not have."""
    said = ["Nested Virtualization enabled", "Nested Paging enabled", "Virtual GIF supported"]
    assert Host("tcg", kernel).dmesg == [f"kvm_amd: {line}" for line in said]


def test_avic_is_said_before_the_virtual_gif_and_the_virtual_nmi_last():
    """source 6.18, svm_hardware_setup."""
    assert [line.removeprefix("kvm_amd: ") for line in Host("zen4", "6.18").dmesg[2:]] == [
        "AVIC enabled",
        "Virtual GIF supported",
        "Virtual NMI enabled",
    ]


@pytest.mark.parametrize("kernel", ["6.12", "6.18", "7.3"])
def test_a_nested_host_is_never_offered_avic_and_the_rest_stays(kernel):
    nested, bare = Host("zen4-nested", kernel), Host("zen4", kernel, avic=False)
    assert nested.params == bare.params
    assert nested.processor.features == bare.processor.features - {"avic", "x2avic"}
    assert Host("zen4-nested", kernel, avic=True).params["avic"] is False
