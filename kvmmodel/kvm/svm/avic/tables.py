"""The tables that KVM fills for the processor: who has which ID, where its registers are, and whether it runs."""

from __future__ import annotations

from kvmmodel.events import AvicIsRunning
from kvmmodel.kvm.apicv import x2avic_enabled
from kvmmodel.kvm.host_types import trace
from kvmmodel.kvm.lapic.registers import apic_x2apic_mode, kvm_lapic_get_reg, kvm_xapic_id
from kvmmodel.kvm.names import kernel
from kvmmodel.kvm.types import Kvm, KvmVcpu
from kvmmodel.silicon import apic as hw
from kvmmodel.silicon.avic_tables import (
    LOGICAL_GUEST_ID,
    LOGICAL_VALID,
    PHYSICAL_HOST_ID,
    PHYSICAL_IS_RUNNING,
    logical_index,
)

FILE = "arch/x86/kvm/svm/avic.c"
AVIC_MAX_PHYSICAL_ID, X2AVIC_MAX_PHYSICAL_ID, X2AVIC_4K_MAX_PHYSICAL_ID = 0xFE, 0x1FF, 0xFFF
GA_LOG_INTR = 1 << 61  # in KVM's own copy of an entry, never in the table


@kernel(FILE, since="7.2")
def __avic_get_max_physical_id(kvm: Kvm, vcpu: KvmVcpu | None) -> int:
    """MAX_INDEX. Without a vCPU: the largest that this VM can have. 5.10 and 5.15 write 255 and take IDs below that."""
    host = kvm.host
    if not host.has("max_index_254"):
        return 255 if vcpu is not None else 254
    wide = x2avic_enabled(host) and (vcpu is None or apic_x2apic_mode(vcpu.apic))
    largest = AVIC_MAX_PHYSICAL_ID
    if wide:
        extended = host.has("avic_4096") and "x2avic_ext" in host.features
        largest = X2AVIC_4K_MAX_PHYSICAL_ID if extended else X2AVIC_MAX_PHYSICAL_ID
    return min(kvm.max_vcpu_ids - 1, largest) if host.has("max_index_by_max_vcpu_ids") else largest


@kernel(FILE, since="7.3")
def avic_is_addressable_vcpu(vcpu: KvmVcpu) -> bool:
    return vcpu.vcpu_id <= __avic_get_max_physical_id(vcpu.kvm, None)


def physical_table(kvm: Kvm) -> dict[int, int]:
    return kvm.host.memory.tables[kvm.avic_physical_id_table]


def logical_table(kvm: Kvm) -> dict[int, int]:
    return kvm.host.memory.tables[kvm.avic_logical_id_table]


def entry_of(vcpu: KvmVcpu) -> int:
    """KVM's own copy of the vCPU's entry. Up to 6.12 it has none, and whoever writes the table changes it."""
    if vcpu.kvm.host.has("enable_ipiv"):
        return vcpu.avic_physical_id_entry
    return physical_table(vcpu.kvm).get(vcpu.avic_physical_id, 0)


def write_is_running(vcpu: KvmVcpu, entry: int) -> None:
    """Of both copies. With IPI virtualization off the processor sees nobody run, so every IPI exits."""
    ipiv = vcpu.kvm.host.params.get("enable_ipiv", True)
    vcpu.avic_physical_id_entry = entry
    seen = entry & ~GA_LOG_INTR if ipiv else entry & ~(GA_LOG_INTR | PHYSICAL_IS_RUNNING)
    physical_table(vcpu.kvm)[vcpu.avic_physical_id] = seen
    running = entry & PHYSICAL_IS_RUNNING != 0
    trace(vcpu.kvm.host, AvicIsRunning, vcpu.vcpu_id, running, running and ipiv)


def ga_log_intr(kvm: Kvm, blocking: bool) -> bool:
    """Whether an entry that posts to a vCPU which does not run shall log it. Up to 6.12: in any case."""
    return (blocking or not kvm.host.has("ga_log_intr_when_blocking")) and "no-ga-log" not in kvm.broken


def with_host_id(entry: int, cpu: int) -> int:
    """The entry of a vCPU that runs on a core."""
    return entry & ~(PHYSICAL_HOST_ID | GA_LOG_INTR) | cpu & PHYSICAL_HOST_ID | PHYSICAL_IS_RUNNING


@kernel(FILE)
def avic_get_logical_id_entry(vcpu: KvmVcpu, ldr: int, flat: bool) -> int | None:
    """The slot in the logical table. Up to 6.1 an LDR with several bits counts by its lowest."""
    logical_id = ldr >> 24
    if not vcpu.kvm.host.has("ldr_one_bit"):
        bits = logical_id & (0xFF if flat else 0xF)
        logical_id = logical_id & ~bits | bits & -bits
    return logical_index(logical_id, flat)


def _flat(dfr: int) -> bool:
    return dfr == hw.APIC_DFR_FLAT


@kernel(FILE)
def avic_ldr_write(vcpu: KvmVcpu, guest_id: int, ldr: int) -> bool:
    """Put a vCPU into the slot of its logical ID. False: it has no slot."""
    slot = avic_get_logical_id_entry(vcpu, ldr, _flat(kvm_lapic_get_reg(vcpu.apic, hw.APIC_DFR)))
    if slot is None:
        return False
    logical_table(vcpu.kvm)[slot] = guest_id & LOGICAL_GUEST_ID | LOGICAL_VALID
    return True


@kernel(FILE)
def avic_invalidate_logical_id_entry(vcpu: KvmVcpu) -> None:
    """The slot of the logical ID that it had. x2APIC mode uses no table."""
    if apic_x2apic_mode(vcpu.apic):
        return
    slot = avic_get_logical_id_entry(vcpu, vcpu.ldr_reg, _flat(vcpu.dfr_reg))
    table = logical_table(vcpu.kvm)
    if slot is not None and slot in table:
        table[slot] &= ~LOGICAL_VALID


@kernel(FILE)
def avic_handle_ldr_update(vcpu: KvmVcpu) -> bool:
    """The guest has a new LDR. False, up to 6.1: it has no slot, and the exit goes to userspace."""
    ldr = kvm_lapic_get_reg(vcpu.apic, hw.APIC_LDR)
    if apic_x2apic_mode(vcpu.apic) or ldr == vcpu.ldr_reg:
        return True
    avic_invalidate_logical_id_entry(vcpu)
    done = avic_ldr_write(vcpu, kvm_xapic_id(vcpu.apic), ldr) if ldr else True
    if done or vcpu.kvm.host.has("ldr_write_void"):
        vcpu.ldr_reg = ldr
        return True
    return False


@kernel(FILE, until="6.1")
def avic_handle_apic_id_update(vcpu: KvmVcpu) -> bool:
    """5.10 and 5.15: the guest has another xAPIC ID, and its entry goes where that says. False: there is no such place.

    Each time it is called it takes the entry from where the vcpu_id says. So the second call for one ID finds nothing
    there and loses the entry; an ID that goes back to the vcpu_id is not noticed; and another vCPU's entry is
    overwritten.
    """
    ident, table = kvm_xapic_id(vcpu.apic), physical_table(vcpu.kvm)
    if vcpu.vcpu_id == ident:
        return True
    if ident > AVIC_MAX_PHYSICAL_ID:
        return False
    vcpu.avic_physical_id_entry = table[ident] = table.get(vcpu.vcpu_id, 0)
    table[vcpu.vcpu_id] = 0
    vcpu.avic_physical_id = ident
    if vcpu.ldr_reg:
        avic_handle_ldr_update(vcpu)
    return True


@kernel(FILE)
def avic_handle_dfr_update(vcpu: KvmVcpu) -> None:
    """Another model of logical IDs: the old slot is no longer its own; the LDR write that follows gives it another."""
    dfr = kvm_lapic_get_reg(vcpu.apic, hw.APIC_DFR)
    if dfr != vcpu.dfr_reg:
        avic_invalidate_logical_id_entry(vcpu)
        vcpu.dfr_reg = dfr


@kernel(FILE, was={"5.10": "avic_post_state_restore", "6.1": "avic_apicv_post_state_restore"})
def avic_apicv_post_state_restore(vcpu: KvmVcpu) -> None:
    """Catch up with an ID, a DFR and an LDR that changed while nothing told KVM's driver of it."""
    if not vcpu.kvm.host.has("apic_id_inhibits") and not avic_handle_apic_id_update(vcpu):
        return
    avic_handle_dfr_update(vcpu)
    avic_handle_ldr_update(vcpu)
