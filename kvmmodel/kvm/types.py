"""KVM's objects, as far as interrupt delivery needs them: plain state, no behaviour. The host's: host_types.py."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kvmmodel.kvm.host_types import DelayedWork, HostKernel, Hrtimer, Run, Task
from kvmmodel.silicon import apic as hw
from kvmmodel.silicon.vmcb import Regs, Vmcb

OUTSIDE_GUEST_MODE = "OUTSIDE_GUEST_MODE"
IN_GUEST_MODE = "IN_GUEST_MODE"
EXITING_GUEST_MODE = "EXITING_GUEST_MODE"

KVM_MP_STATE_RUNNABLE = "runnable"
KVM_MP_STATE_UNINITIALIZED = "uninitialized"
KVM_MP_STATE_INIT_RECEIVED = "init_received"
KVM_MP_STATE_HALTED = "halted"
KVM_MP_STATE_SIPI_RECEIVED = "sipi_received"  # only userspace still says it


@dataclass(slots=True)
class KvmTimer:
    """struct kvm_timer. Times are virtual ns; ``tscdeadline`` is in guest TSC ticks (1 tick = 1 ns in the model).

    ``expired_tscdeadline``: the deadline whose interrupt is on its way and may have to be waited for, 0: none.
    """

    hrtimer: Hrtimer
    period: int = 0
    target_expiration: int = 0
    timer_mode: int = 0
    tscdeadline: int = 0
    expired_tscdeadline: int = 0
    timer_advance_ns: int = 0
    pending: int = 0
    divide_count: int = 2


@dataclass(slots=True)
class KvmLapic:
    """struct kvm_lapic. The three banks are ints; every other register is in ``regs`` by its offset in the page."""

    vcpu: KvmVcpu
    timer: KvmTimer
    irr: int = 0
    isr: int = 0
    tmr: int = 0
    regs: dict[int, int] = field(default_factory=dict)
    apic_base: int = 0
    sw_enabled: bool = False
    irr_pending: bool = False
    isr_count: int = 0
    highest_isr_cache: int = -1
    apicv_active: bool = False
    pending_init: bool = False
    pending_sipi: bool = False
    sipi_vector: int = 0
    arb_prio: int = 0
    nr_lvt: int = 6

    @property
    def tpr(self) -> int:
        return self.regs.get(hw.APIC_TASKPRI, 0)

    @property
    def ppr(self) -> int:
        return self.regs.get(hw.APIC_PROCPRI, 0)


@dataclass(slots=True)
class QueuedInterrupt:
    """vcpu->arch.interrupt: handed to EVENTINJ and not known to have been delivered."""

    injected: bool = False
    soft: bool = False
    nr: int = 0


@dataclass(slots=True)
class QueuedException:
    """vcpu->arch.exception."""

    pending: bool = False
    injected: bool = False
    vector: int = 0
    error_code: int | None = None


@dataclass(slots=True)
class Nested:
    """svm->nested: what KVM keeps for a vCPU whose guest (L1) runs a guest of its own (L2).

    ``ctl`` is KVM's copy of the VMCB that L1 made; L1's own is ``vmcb12``, and gets the results back at an exit.
    """

    vmcb12: Vmcb | None = None
    ctl: Vmcb = field(default_factory=Vmcb)
    vmcb02: Vmcb = field(default_factory=Vmcb)
    nested_run_pending: bool = False  # L1's VMRUN was emulated, L2 has not been entered since
    nmi_l1_to_l2: bool = False  # the NMI in EVENTINJ is L1's, for L2
    rip: int = 0  # L1's, behind its VMRUN


@dataclass(slots=True)
class HvStimer:
    """struct kvm_vcpu_hv_stimer. ``config`` as its MSR has it; ``count`` and ``exp_time`` in units of 100 ns."""

    index: int
    hrtimer: Hrtimer
    config: int = 0
    count: int = 0
    exp_time: int = 0
    msg_pending: bool = False


@dataclass(slots=True)
class HvSynic:
    """struct kvm_vcpu_hv_synic. ``sint`` as the MSRs have them, masked at first; ``msg_page``: SIMP.

    ``vectors``: those of the sources that are not masked; ``auto_eoi``: of these, the ones with AutoEOI.
    """

    active: bool = False
    control: int = 0
    msg_page: int = 0
    sint: list[int] = field(default_factory=lambda: [1 << 16] * 16)
    vectors: frozenset[int] = frozenset()
    auto_eoi: frozenset[int] = frozenset()


@dataclass(slots=True)
class KvmVcpu:
    """struct kvm_vcpu and its vcpu->arch, with struct vcpu_svm. ``requests`` is a bitmask, see kvm/requests.py.

    ``vmcb`` is the one that VMRUN gets: ``vmcb01``, or nested.vmcb02 while ``guest_mode`` says that L2 runs.
    """

    vcpu_id: int
    kvm: Kvm
    task: Task
    cpu: int
    vmcb01: Vmcb = field(default_factory=Vmcb)
    vmcb: Vmcb = None  # type: ignore[assignment]  # vmcb01, see __post_init__
    apic: KvmLapic = None  # type: ignore[assignment]  # set by kvm_create_lapic
    loaded: bool = False  # vcpu->cpu is not -1 any more
    mode: str = OUTSIDE_GUEST_MODE
    requests: int = 0
    mp_state: str = KVM_MP_STATE_RUNNABLE
    wait: Task | None = None  # the rcuwait: who sleeps in kvm_vcpu_block
    preempted: bool = False
    ready: bool = False
    halt_poll_ns: int = 0
    interrupt: QueuedInterrupt = field(default_factory=QueuedInterrupt)
    exception: QueuedException = field(default_factory=QueuedException)
    nmi_queued: int = 0
    nmi_pending: int = 0
    nmi_injected: bool = False
    nmi_masked: bool = False
    nmi_iret_rip: int | None = None  # the intercepted IRET is about to be executed; NMIs come again once RIP moved on
    smi_pending: bool = False
    smm: bool = False  # HF_SMM_MASK
    smm_inside_nmi: bool = False  # HF_SMM_INSIDE_NMI_MASK
    smram: tuple[int, bool] = (0, False)  # what SMM saved: RIP and IF
    efer: int = 0
    guest_gif: bool = True  # without vGIF; with it, the VMCB has the guest's GIF
    guest_mode: bool = False
    nested: Nested = field(default_factory=Nested)
    pv_unhalted: bool = False
    avic_backing_page: int = 0  # host-physical address of the local APIC's registers
    avic_physical_id_entry: int = 0  # KVM's own copy of the table's entry
    avic_physical_id: int = 0  # where that is; up to 5.15 the guest can move it
    ldr_reg: int = 0  # as the logical table has them
    dfr_reg: int = hw.APIC_DFR_FLAT
    avic_irq_window: bool = False  # this vCPU is counted in apicv_nr_irq_window_req
    guestdbg_blockirq: bool = False
    synic: HvSynic = field(default_factory=HvSynic)
    stimers: list[HvStimer] = field(default_factory=list)  # four, once the SynIC is active
    stimer_pending: int = 0  # stimer_pending_bitmap
    hv_vapic: int = 0  # HV_X64_MSR_VP_ASSIST_PAGE
    ir_list: list[Any] = field(default_factory=list)  # AmdIrData of the devices that post to this vCPU
    avic_is_running: bool = True  # 5.10 and 5.15: not blocking; not at first, if AVIC was inhibited when it was made
    pv_eoi_msr: int = 0
    ioapic_handled_vectors: frozenset[int] = frozenset()  # whose EOI the IOAPIC has to hear of
    highest_stale_pending_ioapic_eoi: int = -1  # of these, the highest that is not meant for this vCPU any more
    pending_ioapic_eoi: int = 0  # with a split irqchip: the vector whose EOI userspace is to hear of
    pending_external_vector: int = -1  # with a split irqchip: the vector that KVM_INTERRUPT gave
    request_interrupt_window: bool = False  # kvm_run: userspace wants to know when the guest takes such a vector
    pv_eoi_attention: bool = False  # KVM_APIC_PV_EOI_PENDING
    run: Run | None = None  # KVM_RUN in progress
    regs: Regs = field(default_factory=Regs)
    exit: Any = None  # kvm_run: what the last exit to userspace was
    complete_userspace_io: Callable[[KvmVcpu], None] | None = None  # what is left of the instruction that exited
    immediate_exit: bool = False
    stat: Counter[str] = field(default_factory=Counter)  # vcpu->stat: the counters that KVM shows in debugfs

    def __post_init__(self) -> None:
        self.vmcb = self.vmcb01


@dataclass(slots=True)
class ApicMap:
    """struct kvm_apic_map. ``logical_mode``: sw_disabled, cluster, flat, x2apic or disabled."""

    max_apic_id: int
    phys_map: dict[int, KvmLapic]
    logical_mode: str
    logical: dict[int, list[KvmLapic | None]]  # cluster -> slots


@dataclass(slots=True)
class Kvm:
    """struct kvm: one VM."""

    host: HostKernel
    x2apic_cpuid: bool = True
    x2apic_format: bool = False
    disable_broadcast_quirk: bool = False
    bus_cycle_ns: int = 1
    maxphyaddr: int = 48  # CPUID: width of a guest-physical address
    smm: bool = True  # CONFIG_KVM_SMM, from 6.2 on an option that distributions set
    svm_cpuid: bool = False  # the guest's CPUID shows SVM
    irqchip: str | None = "kernel"
    vcpus: list[KvmVcpu] = field(default_factory=list)
    nr_reserved_ioapic_pins: int = 0  # with irqchip="split": how many GSIs are pins of userspace's IOAPIC
    suppress_eoi_broadcast: str = "quirked"  # enabled, disabled: as userspace chose
    apic_map: ApicMap | None = None
    apic_map_dirty: bool = True
    inhibits: set[str] = field(default_factory=set)
    inhibits_before: set[str] = field(default_factory=set)  # what others still see
    inhibits_written: int = 0  # until this time, when apicv_update_lock is free again
    apicv_nr_irq_window_req: int = 0  # vCPUs that wait for a window, from 7.1 on
    synic_auto_eoi_used: int = 0  # vCPUs that use AutoEOI
    apic_access_memslot_enabled: bool = False
    apic_access_memslot_inhibited: bool = False
    apic_page_mapped: bool = False  # nested paging has an entry for the xAPIC page
    max_vcpu_ids: int = 4096  # KVM_CAP_MAX_VCPU_ID, by default KVM_MAX_VCPU_IDS
    sev: bool = False
    hyperv: bool = False  # CPUID shows Hyper-V's interface
    hyperv_synic: bool = False  # userspace enables KVM_CAP_HYPERV_SYNIC on each vCPU
    avic_vm_id: int = 0
    avic_physical_id_table: int = 0  # address of the page, 0: none
    avic_logical_id_table: int = 0
    max_halt_poll_ns: int | None = None
    pv_features: frozenset[str] | None = None  # KVM_CAP_ENFORCE_PV_FEATURE_CPUID: those of the guest's CPUID
    dmesg: list[str] = field(default_factory=list)
    ioapic: Any = None  # KvmIoapic, with irqchip="kernel"
    pic: Any = None  # KvmPic, with irqchip="kernel"
    vpit: Any = None  # KvmPit, once userspace created one
    routing: dict[int, list[Any]] = field(default_factory=dict)  # GSI -> routing entries (kvm/irqchip.py)
    routing_updates: list[Callable[[dict[int, list[Any]]], None]] = field(
        default_factory=list
    )  # who hears of a new table, and gets the old one
    chip_pins: dict[tuple[int, int], int] = field(default_factory=dict)  # (irqchip, pin) -> GSI
    irq_ack_notifiers: dict[int, list[Callable[[], None]]] = field(default_factory=dict)  # by GSI
    irq_mask_notifiers: dict[int, list[Callable[[bool], None]]] = field(default_factory=dict)  # by GSI
    resamplers: dict[int, list[Callable[[], None]]] = field(
        default_factory=dict
    )  # by GSI: eventfds of resampling irqfds
    memory: dict[int, int] = field(default_factory=dict)  # guest-physical address -> byte, as far as KVM touches it
    kvmclock_update_work: DelayedWork | None = None
    memslots_update_wait: Task | None = None  # the rcuwait of a memslot update that waits for page tables to settle
    broken: frozenset[str] = frozenset()  # rules that "break it" removes, by name
