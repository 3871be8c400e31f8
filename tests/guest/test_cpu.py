"""The inside of a virtual CPU: instructions, handlers, the interrupt shadow, windows, faults."""

import pytest

from kvmmodel.events import HandlerEnter, HandlerLeave, Instruction
from kvmmodel.guest.cpu import GuestCpu, Level, fetch
from kvmmodel.guest.execute import execute
from kvmmodel.guest.insn import Insn
from kvmmodel.guest.taking import vmrun, window
from kvmmodel.silicon import vmcb as hw


def nothing(_guest, _vector):
    yield Insn("nop")


def cpu(*insns, handler=nothing):
    seen = []

    def code():
        for insn in insns:  # not "yield from": a tuple takes no results
            _ = yield insn

    made = GuestCpu(0, hw.Vmcb(), hw.Regs(), {}, True, handler, seen.append, lambda: 0)
    made.levels.append(Level(code()))
    return made, seen


def step(guest):
    return execute(guest, fetch(guest))


def test_instructions_that_do_not_exit_retire_one_by_one():
    guest, seen = cpu(Insn("nop"), Insn("write_cr8", 5), Insn("cli"))
    assert [step(guest) for _ in range(3)] == [None] * 3
    assert guest.vmcb.v_tpr == 5
    assert fetch(guest) is None
    assert [e.text for e in seen if isinstance(e, Instruction)] == ["NOP", "MOV CR8 = 0x5", "CLI"]


@pytest.mark.parametrize(
    ("insn", "code", "info1", "info2"),
    [
        (Insn("wrmsr", 0x830, 0x43), hw.SVM_EXIT_MSR, 1, 0),
        (Insn("rdmsr", 0x80A), hw.SVM_EXIT_MSR, 0, 0),
        (Insn("hlt"), hw.SVM_EXIT_HLT, 0, 0),
        (Insn("out", 0xE1, 3), hw.SVM_EXIT_IOIO, 0xE10040, 0x200002),
        (Insn("mmio_write", 0xFEE000B0, 0), hw.SVM_EXIT_NPF, 0xF, 0xFEE000B0),
    ],
)
def test_intercepted_instructions_stay_until_kvm_emulated_them(insn, code, info1, info2):
    """recorded 6.12.95: info1 of an OUT to 0xe1 is 0xe10040, info2 the address behind it."""
    guest, _ = cpu(insn)
    assert step(guest) == code
    assert (guest.vmcb.exit_info_1, guest.vmcb.exit_info_2) == (info1, info2)
    assert fetch(guest) is insn
    guest.regs.retired = True
    vmrun(guest)
    assert fetch(guest) is None


def test_cr8_exits_only_when_it_is_intercepted():
    guest, _ = cpu(Insn("write_cr8", 3), Insn("write_cr8", 4))
    assert step(guest) is None
    guest.vmcb.intercepts.add(hw.SVM_EXIT_WRITE_CR8)
    assert step(guest) == hw.SVM_EXIT_WRITE_CR8
    assert guest.vmcb.v_tpr == 3


def test_sti_opens_a_shadow_of_one_instruction():
    """AMD APM volume 2: only if IF was clear."""
    guest, _ = cpu(Insn("sti"), Insn("nop"), Insn("sti"), Insn("nop"))
    shadows = []
    for _ in range(4):
        step(guest)
        shadows.append(guest.vmcb.int_state)
    assert shadows == [True, False, False, False]


@pytest.mark.parametrize(
    ("v_irq", "if_", "shadow", "tpr", "opens"),
    [(True, True, False, 0, True), (False, True, False, 0, False), (True, False, False, 0, False),
     (True, True, True, 0, False), (True, True, False, 14, True), (True, True, False, 15, False)],
)  # fmt: skip
def test_when_the_window_opens(v_irq, if_, shadow, tpr, opens):
    """AMD APM volume 2: V_IRQ, IF, no shadow, and V_INTR_PRIO above V_TPR."""
    guest, _ = cpu()
    guest.vmcb.v_irq, guest.vmcb.v_intr_prio = v_irq, 0xF
    guest.vmcb.rflags_if, guest.vmcb.int_state, guest.vmcb.v_tpr = if_, shadow, tpr
    assert window(guest) is opens


def test_an_injected_event_runs_its_handler_and_iret_restores_if():
    guest, seen = cpu(Insn("nop"))
    guest.vmcb.rflags_if = True
    guest.vmcb.event_inj = hw.SVM_EVTINJ_VALID | 0x43
    vmrun(guest)
    assert (guest.vmcb.rflags_if, guest.vmcb.event_inj, guest.handled[0x43]) == (False, 0, 1)
    step(guest)
    assert str(fetch(guest)) == "NOP"
    assert guest.vmcb.rflags_if is True
    assert [type(e) for e in seen if isinstance(e, HandlerEnter | HandlerLeave)] == [HandlerEnter, HandlerLeave]


def test_an_injected_exception_is_a_fault_and_no_handler():
    guest, _ = cpu(Insn("wrmsr", 0x80A, 0))
    step(guest)
    guest.vmcb.event_inj, guest.vmcb.event_inj_err = hw.SVM_EVTINJ_VALID | hw.SVM_EVTINJ_VALID_ERR | 3 << 8 | 13, 0
    vmrun(guest)
    assert (guest.faults, len(guest.levels)) == ([(13, 0)], 1)


def test_the_iret_of_an_nmi_is_intercepted_until_kvm_lets_it_go():
    guest, _ = cpu(Insn("nop"))
    guest.vmcb.intercepts.add(hw.SVM_EXIT_IRET)
    guest.vmcb.event_inj = hw.SVM_EVTINJ_VALID | hw.SVM_EVTINJ_TYPE_NMI | 2
    vmrun(guest)
    step(guest)
    assert fetch(guest) is None
    assert guest.vmcb.exit_code == hw.SVM_EXIT_IRET
    guest.vmcb.intercepts.discard(hw.SVM_EXIT_IRET)
    vmrun(guest)
    assert str(fetch(guest)) == "NOP"


def test_the_pv_eoi_bit_is_tested_and_cleared():
    guest, _ = cpu(Insn("btr", 0x5000), Insn("btr", 0x5000))
    guest.memory[0x5000] = 1
    results = []
    for _ in range(2):
        level = guest.levels[-1]
        step(guest)
        results.append(level.result)
    assert (results, guest.memory[0x5000]) == ([1, 0], 0)
