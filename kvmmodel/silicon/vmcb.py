"""The VMCB fields that interrupt delivery uses, and the exit codes.

Source: AMD APM volume 2, chapter 15 and appendix C.
"""

from __future__ import annotations

from dataclasses import dataclass, field

SVM_EXIT_WRITE_CR8 = 0x018
SVM_EXIT_DB = 0x041
SVM_EXIT_INTR = 0x060
SVM_EXIT_NMI = 0x061
SVM_EXIT_SMI = 0x062
SVM_EXIT_INIT = 0x063
SVM_EXIT_VINTR = 0x064
SVM_EXIT_CPUID = 0x072
SVM_EXIT_RSM = 0x073
SVM_EXIT_IRET = 0x074
SVM_EXIT_HLT = 0x078
SVM_EXIT_IOIO = 0x07B
SVM_EXIT_MSR = 0x07C
SVM_EXIT_VMRUN = 0x080
SVM_EXIT_VMMCALL = 0x081
SVM_EXIT_STGI = 0x084
SVM_EXIT_CLGI = 0x085
SVM_EXIT_IDLE_HLT = 0x0A6
SVM_EXIT_NPF = 0x400
SVM_EXIT_AVIC_INCOMPLETE_IPI = 0x401
SVM_EXIT_AVIC_UNACCELERATED_ACCESS = 0x402  # AVIC_NOACCEL in the APM
SVM_EXIT_ERR = -1  # VMRUN refused the VMCB; VMEXIT_INVALID in the APM

EXIT_NAMES = {
    SVM_EXIT_WRITE_CR8: "write_cr8",
    SVM_EXIT_DB: "DB excp",
    SVM_EXIT_INTR: "interrupt",
    SVM_EXIT_NMI: "nmi",
    SVM_EXIT_SMI: "smi",
    SVM_EXIT_INIT: "init",
    SVM_EXIT_VINTR: "vintr",
    SVM_EXIT_CPUID: "cpuid",
    SVM_EXIT_RSM: "rsm",
    SVM_EXIT_IRET: "iret",
    SVM_EXIT_HLT: "hlt",
    SVM_EXIT_IOIO: "io",
    SVM_EXIT_MSR: "msr",
    SVM_EXIT_VMRUN: "vmrun",
    SVM_EXIT_VMMCALL: "hypercall",
    SVM_EXIT_STGI: "stgi",
    SVM_EXIT_CLGI: "clgi",
    SVM_EXIT_IDLE_HLT: "idle-halt",
    SVM_EXIT_NPF: "npf",
    SVM_EXIT_AVIC_INCOMPLETE_IPI: "avic_incomplete_ipi",
    SVM_EXIT_AVIC_UNACCELERATED_ACCESS: "avic_unaccelerated_access",
    SVM_EXIT_ERR: "invalid_guest_state",
}  # as kvm_exit prints them

# EVENTINJ and EXITINTINFO
SVM_EVTINJ_VALID = 1 << 31
SVM_EVTINJ_VALID_ERR = 1 << 11
SVM_EVTINJ_TYPE_INTR = 0 << 8
SVM_EVTINJ_TYPE_NMI = 2 << 8
SVM_EVTINJ_TYPE_EXEPT = 3 << 8
SVM_EVTINJ_TYPE_MASK = 7 << 8
SVM_EVTINJ_VEC_MASK = 0xFF

SVM_IOIO_TYPE_IN = 1  # EXITINFO1 of IOIO: also the size as a bit, 6:4, and the port, 31:16


@dataclass(slots=True)
class Regs:
    """The guest's general registers, as far as an exit needs them; one exit uses only its own.

    ``value`` is EDX:EAX, the datum of a port or MMIO access, or the operand of MOV CR8; a result goes there too, of
    VMMCALL RAX.
    """

    rip: int = 0x200000
    length: int = 2  # of the instruction at rip
    ecx: int = 0
    value: int = 0
    gpa: int = 0
    write: bool = False
    size: int = 4  # bytes of an MMIO access
    msr_access: bool = False  # of an AVIC fault: by WRMSR or RDMSR, not by memory
    args: tuple[int, ...] = ()  # of VMMCALL: RAX, RBX, RCX, RDX, RSI
    retired: bool = False  # KVM emulated the instruction: go on behind it
    jump: str = ""  # KVM put RIP elsewhere: "smm" to the SMI handler, "rsm" back
    vmcb12: Vmcb | None = None  # what RAX points at, for VMRUN


@dataclass(slots=True)
class Vmcb:
    """Control and save fields of one vCPU. Intercepts are exit codes; int_ctl is a field for each of its bits."""

    intercepts: set[int] = field(default_factory=set)
    v_tpr: int = 0  # int_ctl bits 7:0, 4 used
    v_irq: bool = False
    v_gif: bool = True
    v_nmi_pending: bool = False
    v_nmi_blocking: bool = False
    v_intr_prio: int = 0
    v_ign_tpr: bool = False
    v_intr_masking: bool = True  # IF and TPR of the guest hold back virtual interrupts only, not the host's
    v_gif_enable: bool = False
    v_nmi_enable: bool = False
    int_vector: int = 0
    event_inj: int = 0
    event_inj_err: int = 0
    exit_code: int = 0
    exit_info_1: int = 0
    exit_info_2: int = 0
    exit_int_info: int = 0
    exit_int_info_err: int = 0
    int_state: bool = False  # interrupt shadow
    next_rip_saved: bool = False
    rflags_if: bool = False
    single_step: bool = False  # RFLAGS.TF, set by the hypervisor: #DB, intercepted, after one instruction
    avic_enable: bool = False  # int_ctl bit 31: the four V_IRQ fields above are ignored then
    x2apic_mode: bool = False  # int_ctl bit 30
    avic_vapic_bar: int = 0  # guest-physical address of the xAPIC page
    avic_backing_page: int = 0  # host-physical addresses from here on
    avic_logical_id: int = 0
    avic_physical_id: int = 0  # the table; MAX_INDEX is apart
    avic_max_index: int = 0
    msr_reads: frozenset[int] = frozenset()  # MSRs of the x2APIC range that are not intercepted
    msr_writes: frozenset[int] = frozenset()
