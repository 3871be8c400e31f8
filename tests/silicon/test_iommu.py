"""What the IOMMU does with a device's message, by the fields of its entry. Second hand: see silicon/iommu.py."""

from dataclasses import dataclass, field

import pytest

from kvmmodel.silicon.avic_tables import HostMemory
from kvmmodel.silicon.iommu import Iommu, Irte, message, words


@dataclass
class Page:
    irr: int = 0
    isr: int = 0
    tmr: int = 0
    regs: dict = field(default_factory=dict)


class Bench:
    """An IOMMU, one backing page at 0x1000, and a note of what it does to its surroundings."""

    def __init__(self):
        self.page, self.did = Page(), []
        self.iommu = Iommu(
            HostMemory(pages={0x1000: self.page}),
            lambda event: None,
            lambda cpu: self.did.append(f"rings {cpu}"),
            lambda irte: self.did.append(f"host vector {irte.vector:#x} at {irte.destination}"),
            lambda: self.did.append("log interrupt"),
        )

    def send(self, **fields):
        message(self.iommu, Irte(**fields))
        return self.did


def posted(**fields):
    return {"guest_mode": True, "vector": 0x63, "ga_root_ptr": 0x1000, "ga_tag": 0x1002, **fields}


def test_remapped_it_interrupts_the_host():
    bench = Bench()
    assert bench.send(destination=6, vector=0x22) == ["host vector 0x22 at 6"]
    assert bench.page.irr == 0


def test_posted_to_a_running_vcpu_it_rings_the_core_of_the_entry():
    bench = Bench()
    assert bench.send(**posted(is_run=True, destination=5)) == ["rings 5"]
    assert bench.page.irr == 1 << 0x63


def test_is_run_goes_before_the_log():
    """Up to 6.12 both are set while the vCPU runs."""
    bench = Bench()
    assert bench.send(**posted(is_run=True, destination=5, ga_log_intr=True)) == ["rings 5"]
    assert bench.iommu.log == []


def test_posted_to_a_vcpu_that_does_not_run_it_logs_the_tag():
    bench = Bench()
    assert bench.send(**posted(ga_log_intr=True)) == ["log interrupt"]
    assert bench.iommu.log == [0x1002]
    assert bench.page.irr == 1 << 0x63


def test_neither_bit_set_nobody_hears_of_it():
    bench = Bench()
    assert bench.send(**posted()) == []
    assert bench.page.irr == 1 << 0x63


@pytest.mark.parametrize("tmr", [0, 1 << 0x63])
def test_it_leaves_the_trigger_mode_register_alone(tmr):
    bench = Bench()
    bench.page.tmr = tmr
    bench.send(**posted())
    assert bench.page.tmr == tmr


def test_the_words_of_an_entry():
    """source: union irte_ga_lo and irte_ga_hi, drivers/iommu/amd/amd_iommu_types.h, 7.3.4."""
    lo, hi = words(Irte(**posted(is_run=True, ga_log_intr=True, destination=0x1000005)))
    assert lo == 0x1002 << 32 | 5 << 8 | 1 << 7 | 1 << 6 | 1 << 2 | 1
    assert hi == 1 << 56 | 0x1000 | 0x63
    assert words(Irte(vector=0x22, destination=6)) == (6 << 8 | 1, 0x22)
