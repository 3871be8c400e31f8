"""The APIC map: from a destination to local APICs without asking every vCPU. And the slow way, vCPU by vCPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kvmmodel.kvm.apicv import kvm_set_apicv_inhibit, kvm_set_or_clear_apicv_inhibit
from kvmmodel.kvm.kvm_main import kvm_make_scan_ioapic_request
from kvmmodel.kvm.lapic.registers import (
    apic_enabled,
    apic_x2apic_mode,
    kvm_apic_hw_enabled,
    kvm_lapic_get_reg,
    kvm_x2apic_id,
    kvm_xapic_id,
)
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.types import ApicMap, Kvm, KvmLapic, KvmVcpu
from kvmmodel.silicon import apic as hw

FILE = "arch/x86/kvm/lapic.c"
DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class LapicIrq:
    """struct kvm_lapic_irq: one message to the APIC bus. Modes are as in ICR bits."""

    vector: int
    delivery_mode: int
    dest_mode: int  # 0 physical, APIC_DEST_LOGICAL
    level: bool
    trig_mode: bool
    shorthand: int
    dest_id: int
    msi_redir_hint: bool = False


@kernel(FILE)
def kvm_recalculate_apic_map(kvm: Kvm) -> None:
    """Rebuild the map from the registers of every vCPU, if something marked it dirty."""
    if not kvm.apic_map_dirty:
        return
    kvm.apic_map_dirty = False
    present = [v.apic for v in kvm.vcpus if v.apic is not None and kvm_apic_hw_enabled(v.apic)]
    phys = _phys_map(kvm, present)
    max_id = max([255, *(kvm_x2apic_id(apic) for apic in present)])
    logical = _logical_map if kvm.host.has("apic_map_sees_aliases") else _logical_map_of_old
    kvm.apic_map = None if phys is None else ApicMap(max_id, phys, *logical(present))
    if kvm.host.has("aliased_id_inhibits"):
        kvm_set_or_clear_apicv_inhibit(kvm, "PHYSICAL_ID_ALIASED", phys is None)
        unusable = kvm.apic_map is None or kvm.apic_map.logical_mode == DISABLED
        kvm_set_or_clear_apicv_inhibit(kvm, "LOGICAL_ID_ALIASED", unusable)
    if kvm.host.has("apic_id_modified_recomputed"):
        modified = any(not apic_x2apic_mode(a) and kvm_xapic_id(a) != a.vcpu.vcpu_id & 0xFF for a in present)
        kvm_set_or_clear_apicv_inhibit(kvm, "APIC_ID_MODIFIED", modified)
    kvm_make_scan_ioapic_request(kvm)  # who is meant by an entry may have changed


def _phys_map(kvm: Kvm, present: Sequence[KvmLapic]) -> dict[int, KvmLapic] | None:
    """By physical ID. None when two vCPUs share an ID, unless userspace asked for the 32-bit format.

    With that format, and in older releases always, an xAPIC only gets an ID that is still free.
    """
    phys: dict[int, KvmLapic] = {}
    for apic in present:
        if kvm.x2apic_format or not kvm.host.has("apic_map_sees_aliases"):
            if apic_x2apic_mode(apic) or kvm_x2apic_id(apic) > 0xFF:
                phys[kvm_x2apic_id(apic)] = apic
            if not apic_x2apic_mode(apic):
                phys.setdefault(kvm_xapic_id(apic), apic)
            continue
        own = kvm_x2apic_id(apic) if apic_x2apic_mode(apic) else kvm_xapic_id(apic)
        if own in phys:
            return None
        phys[own] = apic
    return phys


def _logical_map(present: Sequence[KvmLapic]) -> tuple[str, dict[int, list[KvmLapic | None]]]:
    """By logical ID: all software-enabled APICs must use one mode and no ID twice, else the map is of no use."""
    mode, slots = "sw_disabled", dict[int, list[KvmLapic | None]]()
    for apic in present:
        ldr = kvm_lapic_get_reg(apic, hw.APIC_LDR)
        if not apic.sw_enabled or not ldr:
            continue
        dfr = kvm_lapic_get_reg(apic, hw.APIC_DFR)
        if apic_x2apic_mode(apic):
            own, cluster, mask, width = "x2apic", 0, 0, 0  # the LDR follows from the ID: the physical map will do
        elif dfr == hw.APIC_DFR_FLAT:
            own, cluster, mask, width = "flat", 0, ldr >> 24, 8
        else:
            own, cluster, mask, width = "cluster", ldr >> 28, ldr >> 24 & 0xF, 4
        if mode not in ("sw_disabled", own):
            return DISABLED, {}
        mode = own
        if not mask:
            continue
        slot = mask.bit_length() - 1
        row = slots.setdefault(cluster, [None] * width)
        if mask & (mask - 1) or row[slot] is not None:
            return DISABLED, {}
        row[slot] = apic
    return mode, slots


def _logical_map_of_old(present: Sequence[KvmLapic]) -> tuple[str, dict[int, list[KvmLapic | None]]]:
    """Up to 6.1: two modes at once, or none, and the map is of no use; who has an ID twice or two IDs goes unseen.

    The last vCPU with an ID gets it, and of several IDs of one vCPU the lowest counts.
    """
    modes, slots = set[str](), dict[int, list[KvmLapic | None]]()
    for apic in present:
        ldr = kvm_lapic_get_reg(apic, hw.APIC_LDR) >> 24
        if not apic.sw_enabled:
            continue
        if apic_x2apic_mode(apic):
            modes.add("x2apic")
        elif kvm_lapic_get_reg(apic, hw.APIC_LDR):
            modes.add("flat" if kvm_lapic_get_reg(apic, hw.APIC_DFR) == hw.APIC_DFR_FLAT else "cluster")
        cluster, mask, width = (ldr >> 4, ldr & 0xF, 4) if modes == {"cluster"} else (0, ldr, 8)
        if mask and modes in ({"flat"}, {"cluster"}):
            slots.setdefault(cluster, [None] * width)[(mask & -mask).bit_length() - 1] = apic
    return (modes.pop(), slots) if len(modes) == 1 else (DISABLED, {})


@kernel(FILE, since="6.1", until="6.6")
def kvm_lapic_xapic_id_updated(apic: KvmLapic) -> None:
    """6.1: an xAPIC ID that is not the vcpu_id inhibits AVIC for good."""
    host, ident = apic.vcpu.kvm.host, apic.vcpu.vcpu_id
    if apic_x2apic_mode(apic) or (host.has("apic_id_of_enabled_apics") and not kvm_apic_hw_enabled(apic)):
        return
    if kvm_xapic_id(apic) != (ident & 0xFF if host.has("apic_id_compared_in_8_bits") else ident):
        kvm_set_apicv_inhibit(apic.vcpu.kvm, "APIC_ID_MODIFIED")


def xapic_id_updated(apic: KvmLapic) -> None:
    """Where the releases that need it do it: after a write of the ID, and of a whole page."""
    host = apic.vcpu.kvm.host
    if host.has("apic_id_inhibits") and not host.has("apic_id_modified_recomputed"):
        kvm_lapic_xapic_id_updated(apic)


def is_broadcast_dest(kvm: Kvm, source: KvmLapic | None, irq: LapicIrq) -> bool:
    """Whether only the slow path can do it. The quirk: 0xff means all, except in an IPI of an x2APIC."""
    if not kvm.disable_broadcast_quirk:
        x2apic_ipi = source is not None and apic_x2apic_mode(source)
        return irq.dest_id == (hw.X2APIC_BROADCAST if x2apic_ipi else hw.APIC_BROADCAST)
    if irq.dest_id == hw.APIC_BROADCAST:
        return kvm.apic_map is None or kvm.apic_map.logical_mode != "x2apic"
    return irq.dest_id == hw.X2APIC_BROADCAST


@kernel(FILE)
def kvm_apic_map_get_dest_lapic(
    kvm: Kvm, src: KvmLapic | None, irq: LapicIrq
) -> tuple[Sequence[KvmLapic | None], int] | None:
    """The slots and the mask of those meant, or None: the map cannot say, take the slow path."""
    table = kvm.apic_map
    if irq.shorthand == hw.APIC_DEST_SELF and src is not None:
        return [src], 1
    if irq.shorthand or table is None or is_broadcast_dest(kvm, src, irq):
        return None
    if irq.dest_mode == 0:
        if irq.dest_id > table.max_apic_id:
            return [], 0
        return [table.phys_map.get(irq.dest_id)], 1
    found = kvm_apic_map_get_logical_dest(table, irq.dest_id)
    if found is None:
        return None
    slots, mask = found
    if not kvm_lowest_prio_delivery(irq) or not mask:
        return slots, mask
    if kvm.host.params["vector_hashing"]:
        lowest = kvm_vector_to_index(irq.vector, mask)
        # The hash counts the bits asked for, not the vCPUs that are there: an empty slot drops the interrupt.
        return slots, 1 << lowest if slots[lowest] is not None else 0
    best = -1
    for i, apic in enumerate(slots):
        if mask >> i & 1 and apic is not None and (best < 0 or apic.arb_prio < slots[best].arb_prio):  # type: ignore[union-attr]
            best = i
    return slots, 1 << best if best >= 0 else 0


@kernel(FILE)
def kvm_apic_map_get_logical_dest(table: ApicMap, dest_id: int) -> tuple[list[KvmLapic | None], int] | None:
    """Slots and mask of a logical destination. None: the logical map is disabled."""
    if table.logical_mode == DISABLED:
        return None
    if table.logical_mode == "x2apic":
        first = (dest_id >> 16) * 16
        width = max(0, min(table.max_apic_id - first + 1, 16))  # bits above the highest ID do not count in the hash
        return [table.phys_map.get(first + i) for i in range(width)], dest_id & (1 << width) - 1
    if table.logical_mode == "flat":
        cluster, mask, width = 0, dest_id & 0xFF, 8
    elif table.logical_mode == "cluster":
        cluster, mask, width = dest_id >> 4 & 0xF, dest_id & 0xF, 4
    else:
        return [], 0
    return table.logical.get(cluster, [None] * width), mask


@kernel(FILE)  # irq_comm.c up to 6.12
def kvm_vector_to_index(vector: int, mask: int) -> int:
    """Vector hashing: the (vector mod n)-th of the n bits set."""
    bits = [i for i in range(mask.bit_length()) if mask >> i & 1]
    return bits[vector % len(bits)]


def kvm_lowest_prio_delivery(irq: LapicIrq) -> bool:
    return irq.delivery_mode == hw.APIC_DM_LOWEST or irq.msi_redir_hint


@kernel(FILE)
def kvm_apic_match_dest(vcpu: KvmVcpu, source: KvmLapic | None, shorthand: int, dest: int, dest_mode: int) -> bool:
    """Whether a message is meant for this vCPU, by its registers alone."""
    target = vcpu.apic
    mda = _kvm_apic_mda(vcpu.kvm, dest, source, target)
    if shorthand == hw.APIC_DEST_NOSHORT:
        physical = dest_mode == 0
        return kvm_apic_match_physical_addr(target, mda) if physical else kvm_apic_match_logical_addr(target, mda)
    if shorthand == hw.APIC_DEST_SELF:
        return target is source
    return shorthand == hw.APIC_DEST_ALLINC or target is not source


def _kvm_apic_mda(kvm: Kvm, dest: int, source: KvmLapic | None, target: KvmLapic) -> int:
    """The quirk again: a device's 0xff reaches x2APIC targets as a broadcast."""
    ipi = source is not None
    if not kvm.disable_broadcast_quirk and not ipi and dest == hw.APIC_BROADCAST and apic_x2apic_mode(target):
        return hw.X2APIC_BROADCAST
    return dest


def kvm_apic_broadcast(apic: KvmLapic, mda: int) -> bool:
    return mda == (hw.X2APIC_BROADCAST if apic_x2apic_mode(apic) else hw.APIC_BROADCAST)


@kernel(FILE)
def kvm_apic_match_physical_addr(apic: KvmLapic, mda: int) -> bool:
    if kvm_apic_broadcast(apic, mda):
        return True
    if apic_x2apic_mode(apic) or mda > 0xFF:
        return mda == kvm_x2apic_id(apic)
    return mda == kvm_xapic_id(apic)


@kernel(FILE)
def kvm_apic_match_logical_addr(apic: KvmLapic, mda: int) -> bool:
    if kvm_apic_broadcast(apic, mda):
        return True
    ldr = kvm_lapic_get_reg(apic, hw.APIC_LDR)
    if apic_x2apic_mode(apic):
        return ldr >> 16 == mda >> 16 and ldr & mda & 0xFFFF != 0
    ldr >>= 24
    dfr = kvm_lapic_get_reg(apic, hw.APIC_DFR)
    if dfr == hw.APIC_DFR_FLAT:
        return ldr & mda != 0
    return dfr == hw.APIC_DFR_CLUSTER and ldr >> 4 == mda >> 4 and ldr & mda & 0xF != 0


@kernel(FILE)
def kvm_bitmap_or_dest_vcpus(kvm: Kvm, irq: LapicIrq) -> list[KvmVcpu]:
    """Whom a message is meant for, in index order."""
    found = kvm_apic_map_get_dest_lapic(kvm, None, irq)
    if found is None:
        present = [vcpu for vcpu in kvm.vcpus if kvm_apic_hw_enabled(vcpu.apic)]
        return [v for v in present if kvm_apic_match_dest(v, None, irq.shorthand, irq.dest_id, irq.dest_mode)]
    slots, mask = found
    return [apic.vcpu for i, apic in enumerate(slots) if mask >> i & 1 and apic is not None]


def sw_enabled_matches(kvm: Kvm, source: KvmLapic | None, irq: LapicIrq) -> list[KvmVcpu]:
    """Every present vCPU that the message matches, in index order. Lowest priority needs software-enabled APICs."""
    lowest = kvm_lowest_prio_delivery(irq)
    return [
        v
        for v in kvm.vcpus
        if kvm_apic_hw_enabled(v.apic)
        and kvm_apic_match_dest(v, source, irq.shorthand, irq.dest_id, irq.dest_mode)
        and (not lowest or apic_enabled(v.apic))
    ]
