"""Which texts contain a stack, and what is read from each: one test per way in which tools print stacks."""

import pytest

from kvmmodel.explain import find
from kvmmodel.explain.text import Graph, Stack


def one(text: str) -> Stack:
    found = find(text)
    assert len(found) == 1
    assert isinstance(found[0], Stack)
    return found[0]


def names(stack: Stack) -> list[str]:
    return [frame.name for frame in stack.frames]


BPFTRACE = """\
虚拟机中也是这样的:

@[
    apic_update_ppr+1
    kvm_set_cr8+32
    svm_vcpu_run+1260
]: 467
"""


def test_bpftrace_map() -> None:
    stack = one(BPFTRACE)
    assert names(stack) == ["apic_update_ppr", "kvm_set_cr8", "svm_vcpu_run"]
    assert (stack.count, stack.line, stack.format, stack.key, stack.cut) == (467, 3, "bpftrace map", "", False)
    assert [frame.offset for frame in stack.frames] == [1, 32, 1260]


@pytest.mark.parametrize(
    ("head", "tail", "key"),
    [
        ("@deliver[", "]: 3", "deliver"),
        ("@[qemu-kvm, ", "]: 3", "qemu-kvm"),
        ("@[", ", qemu-kvm]: 3", "qemu-kvm"),
        ("@n[12, qemu-kvm, ", ", 7]: 3", "n, 12, qemu-kvm, 7"),
        ("@[", "]: count 3, average 4, total 12", ""),
        ("@[", "]:\n[2, 4)    1 |@@   |\n[4, 8)    2 |@@@@@|", ""),
    ],
)
def test_bpftrace_map_with_names_other_keys_and_other_values(head: str, tail: str, key: str) -> None:
    stack = one(f"{head}\n        kvm_vcpu_kick+5\n        __apic_accept_irq+298\n{tail}\n")
    assert (names(stack), stack.count, stack.key) == (["kvm_vcpu_kick", "__apic_accept_irq"], 3, key)


def test_bpftrace_map_by_kernel_and_user_stack_keeps_the_kernels() -> None:
    stack = one("@[\n    svm_vcpu_run+5\n    vcpu_run+6\n, \n    0x7f12345\n    ioctl+11\n, qemu]: 2\n")
    assert names(stack) == ["svm_vcpu_run", "vcpu_run"]


def test_windows_line_ends_mail_quotes_and_tabs_do_no_harm() -> None:
    quoted = "\r\n".join("> " + line.replace("    ", "\t") for line in BPFTRACE.split("\n"))
    assert names(one(quoted)) == names(one(BPFTRACE))


def test_maps_without_stacks_are_no_stacks() -> None:
    assert find("@vec[97]: 1\n@run_us:\n[2, 4)   1 |@@@|\n@[qemu-kvm]: 12\n") == []


def test_bpftrace_print_kstack() -> None:
    text = "Attaching 1 probe...\n\n        kvm_vcpu_kick+5\n        __apic_accept_irq+298\n\nhello\n"
    assert names(one(text)) == ["kvm_vcpu_kick", "__apic_accept_irq"]


HIST = """\
{ common_stacktrace:
         kprobe_ftrace_handler+0x138/0x1d0
         0xffffffffc038d0de
         __apic_accept_irq+0x5/0x280 [kvm]
         kvm_vm_ioctl+0xafa/0x1090 [kvm]
         __x64_sys_ioctl+0x94/0xc0
} hitcount:          7
"""


def test_tracefs_hist() -> None:
    stack = one(HIST)
    assert [frame.module for frame in stack.frames] == [None, None, "kvm", "kvm", None]
    assert (stack.count, stack.format) == (7, "tracefs hist")


def test_tracefs_hist_of_older_kernels_and_with_other_keys() -> None:
    assert one(HIST.replace("common_", "")).count == 7
    after = one(HIST.replace("}", ", common_pid:       1234 }"))
    assert (after.count, after.key) == (7, "common_pid:       1234")
    before = one(HIST.replace("{ common", "{ common_pid: qemu-kvm [ 1234], common"))
    assert (before.count, before.key) == (7, "common_pid: qemu-kvm [ 1234]")


FTRACE = """\
        L2-vcpu0-1085    [001] d..1.    27.289968: p_kvm_set_cr8: (kvm_set_cr8+0x4/0x40 [kvm])
        L2-vcpu0-1085    [001] d..1.    27.290135: <stack trace>
 => kprobe_ftrace_handler
 => 0xffffffffc038d0de
 => kvm_set_cr8
 => svm_vcpu_run
        L2-vcpu0-1085    [001] d..1.    27.290200: p_kvm_set_cr8: (kvm_set_cr8+0x4/0x40 [kvm])
"""


def test_ftrace_stack_trace() -> None:
    stack = one(FTRACE)
    assert names(stack)[-2:] == ["kvm_set_cr8", "svm_vcpu_run"]
    assert (stack.line, stack.cut) == (2, False)


def test_trace_cmd_and_symbol_offsets() -> None:
    text = "qemu-1 [001] 1.5: kernel_stack: <stack trace >\n=> foo+0x12/0x30 (ffffffff81012345)\n=> bar (ffff8101)\n"
    assert [(frame.name, frame.offset) for frame in one(text).frames] == [("foo", 0x12), ("bar", None)]


def test_perf_script() -> None:
    text = (
        "qemu-kvm  1234 [001]  100.1: probe:kvm_vcpu_kick: (ffffffffc0123456)\n"
        "\tffffffffc0123456 kvm_vcpu_kick+0x0 ([kvm])\n"
        "\tffffffffc0223456 svm_complete_interrupt_delivery+0x40 (/lib/modules/6.12/kernel/kvm-amd.ko.xz)\n"
        "\tffffffff81123456 do_syscall_64+0x80 ([kernel.kallsyms])\n"
        "\t    7f1234567890 ioctl+0xb (/usr/lib/x86_64-linux-gnu/libc.so.6)\n\n"
    )
    stack = one(text)
    assert [(frame.name, frame.module) for frame in stack.frames] == [
        ("kvm_vcpu_kick", "kvm"),
        ("svm_complete_interrupt_delivery", "kvm_amd"),
        ("do_syscall_64", None),
    ]
    assert stack.key == "qemu-kvm"


@pytest.mark.parametrize(
    "line",
    [
        "qemu-kvm;entry_SYSCALL_64_after_hwframe;do_syscall_64;kvm_vcpu_kick 12",
        "CPU 0/KVM;__libc_ioctl;-;entry_SYSCALL_64_after_hwframe;do_syscall_64;kvm_vcpu_kick 12",
        "qemu-kvm;entry_SYSCALL_64_after_hwframe_[k];do_syscall_64_[k];kvm_vcpu_kick_[kvm] 12",
    ],
)
def test_folded_lines_are_outermost_first(line: str) -> None:
    stack = one(line + "\n")
    assert names(stack) == ["kvm_vcpu_kick", "do_syscall_64", "entry_SYSCALL_64_after_hwframe"]
    assert stack.count == 12


OOPS = """\
[  123.456789] ------------[ cut here ]------------
[  123.456790] WARNING: CPU: 1 PID: 77 at arch/x86/kvm/svm/avic.c:100 avic_vcpu_load+0x12/0x90 [kvm_amd]
[  123.456791] CPU: 1 PID: 77 Comm: qemu-kvm Not tainted 6.1.0-53-amd64 #1  Debian 6.1.187-1
[  123.456792] RIP: 0010:avic_vcpu_load+0x12/0x90 [kvm_amd]
[  123.456793] Call Trace:
[  123.456794]  <TASK>
[  123.456795]  ? __warn+0x7d/0xc0
[  123.456796]  ? avic_vcpu_load+0x12/0x90 [kvm_amd]
[  123.456797]  kvm_arch_vcpu_load+0x50/0x250 [kvm]
[  123.456798]  vcpu_load+0x20/0x30 [kvm 0123456789abcdef]
[  123.456799]  </TASK>
[  123.456800] ---[ end trace 0000000000000000 ]---
"""


def test_a_warning_begins_at_rip_and_leaves_uncertain_frames_out() -> None:
    stack = one(OOPS)
    assert [(frame.name, frame.module) for frame in stack.frames] == [
        ("avic_vcpu_load", "kvm_amd"),
        ("kvm_arch_vcpu_load", "kvm"),
        ("vcpu_load", "kvm"),
    ]


def test_proc_pid_stack_and_debuggers() -> None:
    assert names(one("[<0>] kvm_vcpu_block+0x5e/0xb0 [kvm]\n[<0>] kvm_vcpu_halt+0x6d/0x3a0 [kvm]\n")) == [
        "kvm_vcpu_block",
        "kvm_vcpu_halt",
    ]
    drgn = "#0  context_switch (kernel/sched/core.c:5038:2)\n#1  kvm_vcpu_block+0x12/0x90 (virt/kvm/kvm_main.c:3:1)\n"
    assert names(one(drgn)) == ["context_switch", "kvm_vcpu_block"]
    crash = " #0 [ffffc900] __schedule at ffffffff8101\n #1 [ffffc901] schedule at ffffffff8102\n"
    assert names(one(crash)) == ["__schedule", "schedule"]


@pytest.mark.parametrize(
    ("text", "frames"),
    [
        ("@[\n    svm_vcpu_run+5\n    vcpu_run+6\n\nand so on, as everybody knows.\n", 2),
        ("@[\n    svm_vcpu_run+5\n    vcpu_run+6", 2),
        (HIST.split("}", maxsplit=1)[0], 5),
        (" => svm_vcpu_run\n => vcpu_run\n", 2),
        ("@[\n]: 12\n", 0),
        ("x-1 [001] 1.0: <stack trace>\n", 0),
        ("[ 1.0] Call Trace:\n[ 1.1] Code: 12 34\n", 0),
    ],
)
def test_a_cut_block_is_reported_as_cut(text: str, frames: int) -> None:
    stack = one(text)
    assert stack.cut
    assert len(stack.frames) == frames


C_CODE = """\
void svm_complete_interrupt_delivery(struct kvm_vcpu *vcpu, int delivery_mode,
\t\t\t\t     int trig_mode, int vector)
{
\tbool in_guest_mode = (smp_load_acquire(&vcpu->mode) == IN_GUEST_MODE);

\tif (!READ_ONCE(vcpu->arch.apic->apicv_active)) {
\t\t/* Process the interrupt via kvm_check_and_inject_events(). */
\t\tkvm_make_request(KVM_REQ_EVENT, vcpu);
\t\tkvm_vcpu_kick(vcpu);
\t\treturn;
\t}
\tfor (a = 0; a < n; a++) x[a] = b+1;
\tflags = A |
\t\tB | foo();
}
[SVM_EXIT_AVIC_INCOMPLETE_IPI]\t\t= avic_incomplete_ipi_interception,
static bool avic;
kvm_vcpu_kick();
a;b;c;
"""


@pytest.mark.parametrize(
    "text",
    [
        C_CODE,
        "到底中断是如何注入的\n\nvgif\n\nsvm_enable_irq_window\n",
        "# 1. First light\n\n- a => b\n| a | b |\n|---|---|\n| kvm_vcpu_kick(); | x |\n",
        "svm_vcpu_run+1260 is where it happens\n",
        "#1 kvm\n#2 svm\n",
        "",
    ],
)
def test_code_and_prose_yield_nothing(text: str) -> None:
    assert find(text) == []


def test_several_stacks_and_a_graph_amid_prose_keep_their_order() -> None:
    graph = " 1)            |  kvm_vcpu_kick [kvm]() {\n 1)   0.2 us |    rcuwait_wake_up();\n 1)   1.2 us |  }\n"
    found = find(BPFTRACE + C_CODE + graph + "prose\n" + HIST + FTRACE)
    assert [type(one) for one in found] == [Stack, Graph, Stack, Stack]
    assert [one.line for one in found] == sorted(one.line for one in found)
