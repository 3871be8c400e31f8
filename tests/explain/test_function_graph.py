"""The function_graph tracer's layouts: each option of tracefs moves the columns, the tree stays the same."""

import pytest

from kvmmodel.explain import find
from kvmmodel.explain.text import Call, Graph

CPU_AND_DURATION = """\
 26)               |  kvm_vcpu_kick [kvm]() {
 26)               |    rcuwait_wake_up() {
 26)   0.200 us    |      __rcu_read_lock();
 26)   0.090 us    |      __rcu_read_unlock();
 26)   6.943 us    |    }
 26) + 17.213 us   |  }
"""
EVERYTHING = """\
# tracer: function_graph
#
#     TIME        CPU  TASK/PID         DURATION                  FUNCTION CALLS
#      |          |     |    |           |   |                     |   |   |   |
   48.132595 |  26)  L2-vcpu-1285  |               |  /* L2 S00 enable x2APIC on vCPU0 */
   48.268923 |  26)  L2-vcpu-1285  |               |  kvm_vcpu_kick [kvm]() {
   48.269099 |  26)  L2-vcpu-1285  |               |    rcuwait_wake_up() {
   48.269101 |  26)  L2-vcpu-1285  |   0.200 us    |      __rcu_read_lock();
   48.269102 |  26)  L2-vcpu-1285  |   0.090 us    |      __rcu_read_unlock();
   48.271488 |  26)  L2-vcpu-1285  |   6.943 us    |    } /* rcuwait_wake_up */
   48.271490 |  26)  L2-vcpu-1285  | + 17.213 us   |  } /* kvm_vcpu_kick [kvm] */
"""
NO_CPU = """\
               |  kvm_vcpu_kick [kvm]() {
               |    rcuwait_wake_up() {
   0.200 us    |      __rcu_read_lock();
   0.090 us    |      __rcu_read_unlock();
   6.943 us    |    }
 + 17.213 us   |  }
"""
IRQ_FLAGS = """\
 48.1 |  26)  L2-vcpu-1285  |  d..1. |               |  kvm_vcpu_kick [kvm]() {
 48.2 |  26)  L2-vcpu-1285  |  d..1. |               |    rcuwait_wake_up() {
 48.3 |  26)  L2-vcpu-1285  |  d..1. |   0.200 us    |      __rcu_read_lock();
 48.4 |  26)  L2-vcpu-1285  |  d..1. |   0.090 us    |      __rcu_read_unlock();
 48.5 |  26)  L2-vcpu-1285  |  d..1. |   6.943 us    |    }
 48.6 |  26)  L2-vcpu-1285  |  d..1. | + 17.213 us   |  }
"""
TRACE_CMD = """\
 L2-vcpu-1285  [026]  48.1: funcgraph_entry:                   |  kvm_vcpu_kick [kvm]() {
 L2-vcpu-1285  [026]  48.2: funcgraph_entry:                   |    rcuwait_wake_up() {
 L2-vcpu-1285  [026]  48.3: funcgraph_entry:        0.200 us   |      __rcu_read_lock();
 L2-vcpu-1285  [026]  48.4: funcgraph_entry:        0.090 us   |      __rcu_read_unlock();
 L2-vcpu-1285  [026]  48.5: funcgraph_exit:         6.943 us   |    }
 L2-vcpu-1285  [026]  48.6: funcgraph_exit:       + 17.213 us  |  }
"""
ARGUMENTS = """\
 26)               |  kvm_vcpu_kick [kvm](vcpu=0xffff8881, wait=0) { /* <-svm_complete_interrupt_delivery+0x40/0x90 */
 26)               |    rcuwait_wake_up(w=0xffff8882) {
 26)   0.200 us    |      __rcu_read_lock(); /* <-rcuwait_wake_up+0x9/0x50 */
 26)   0.090 us    |      __rcu_read_unlock(); /* = 0x0 */
 26)   6.943 us    |    } /* rcuwait_wake_up = 0x1 */
 26) + 17.213 us   |  } /* kvm_vcpu_kick [kvm] ret=0x1 */
"""
TREE = Call(
    "kvm_vcpu_kick",
    "kvm",
    17.213,
    (
        Call(
            "rcuwait_wake_up",
            None,
            6.943,
            (Call("__rcu_read_lock", None, 0.2), Call("__rcu_read_unlock", None, 0.09)),
        ),
    ),
)


def graphs(text: str) -> list[Graph]:
    found = find(text)
    assert all(isinstance(one, Graph) for one in found)
    return [one for one in found if isinstance(one, Graph)]


@pytest.mark.parametrize("text", [CPU_AND_DURATION, EVERYTHING, NO_CPU, IRQ_FLAGS, TRACE_CMD, ARGUMENTS])
def test_every_layout_gives_the_same_tree(text: str) -> None:
    (graph,) = graphs(text)
    assert graph.roots == (TREE,)
    assert not graph.cut


def without_durations(call: Call) -> Call:
    return Call(call.name, call.module, None, tuple(map(without_durations, call.children)))


def test_layouts_without_durations_and_without_any_column() -> None:
    bare = "".join(line.split("|", 1)[1] for line in CPU_AND_DURATION.splitlines(keepends=True))
    cpu_only = "".join(f" 26)  {line}" for line in bare.splitlines(keepends=True))
    assert graphs(cpu_only)[0].roots == (without_durations(TREE),)
    assert graphs("# tracer: function_graph\n#\n" + bare)[0].roots == (without_durations(TREE),)
    assert find(bare) == [], "without a header such lines may as well be C"


def test_lines_of_several_cpus_are_told_apart() -> None:
    other = CPU_AND_DURATION.replace(" 26)", "  3)")
    pairs = zip(CPU_AND_DURATION.splitlines(), other.splitlines(), strict=True)
    mixed = "\n".join(line for pair in pairs for line in pair) + "\n"
    assert [(graph.cpu, graph.roots) for graph in graphs(mixed)] == [(26, (TREE,)), (3, (TREE,))]


def test_task_switches_dividers_interrupts_and_lost_events_do_not_end_a_graph() -> None:
    lines = CPU_AND_DURATION.splitlines()
    lines[2:2] = [" 26)   ==========> |", " 26)   <========== |", "CPU:26 [LOST 5 EVENTS]", ""]
    switch = [" ------------------------------------------", " 26)  qemu-1  =>  swapper-0", " " + "-" * 40]
    (graph,) = graphs("\n".join(lines))
    assert graph.roots == (TREE,)
    first, second = graphs("\n".join([*lines, *switch, *CPU_AND_DURATION.splitlines()]))
    assert (first.roots, second.roots, second.task) == ((TREE,), (TREE,), "swapper-0")


def test_a_graph_without_its_beginning_or_end_keeps_what_it_has() -> None:
    lines = CPU_AND_DURATION.splitlines()
    (tail,) = graphs("\n".join(lines[2:]))
    assert tail.cut
    assert [call.name for call in tail.roots] == ["?"]
    assert [call.name for call in tail.roots[0].children[0].children] == ["__rcu_read_lock", "__rcu_read_unlock"]
    (named,) = graphs("\n".join(line for line in EVERYTHING.splitlines()[7:]))
    assert named.roots[0] == TREE, "the comment after a closing brace names the function"
    (head,) = graphs("\n".join(lines[:3]))
    assert head.cut
    assert head.roots[0].children[0].children == (Call("__rcu_read_lock", None, 0.2),)
    assert head.roots[0].duration_us is None


@pytest.mark.parametrize("mark", ["$ 12345678.9", "* 12345.678", "# 1401.928", "! 120.747", "+ 43.742", "9.738"])
def test_overhead_marks(mark: str) -> None:
    (graph,) = graphs(f" 1)  L2-vcpu-1285  | {mark} us |  irq_enter_rcu();\n")
    assert graph.roots[0].duration_us == float(mark.rsplit(maxsplit=1)[-1])
