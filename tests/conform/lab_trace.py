"""The model's run of the lab's guest, written down as the lab writes its recordings."""

from kvmmodel.events import KvmPio, KvmUserspaceExit
from kvmmodel.facts.cpus import Processor
from kvmmodel.guest.program import PORT_MARK
from kvmmodel.trace import ftrace

FEATURES = ("npt", "vgif", "nrips")


def processor(nrips):
    """What an emulator offers, with or without NRIPS."""
    features = FEATURES if nrips else FEATURES[:-1]
    ways = frozenset((*features, "virq_at_equal_priority"))
    return Processor("the recorded CPU", "QEMU TCG CPU version 2.5+", ways)


def write(vm, folder):
    """00-system.txt and 10-kvm-tracepoints.txt, the runner's marks among its lines."""
    cpu = vm.host.processor
    on = {name: "Y" if name in cpu.features else "N" for name in (*FEATURES, "avic")}
    (folder / "00-system.txt").write_text(
        f"Linux (none) {vm.host.kernel.release} #1 SMP x86_64\nmodel name\t: {cpu.title}\n"
        + "".join(f"/sys/module/kvm_amd/parameters/{name} = {value}\n" for name, value in on.items())
    )
    rows, marks, due = [ftrace.HEADER], iter(vm.world.marks), False
    for record in vm.trace.records:
        row = ftrace.line(record, vm.host.kernel)
        rows += [f"{row}\n"] if row else []
        if isinstance(record.event, KvmPio):
            due = record.event.port == PORT_MARK
        elif isinstance(record.event, KvmUserspaceExit) and due:
            due = False
            seconds = record.t / 1e9
            rows.append(f" vcpu0-1000 [000] ..... {seconds:.6f}: tracing_mark_write: L2 {next(marks)}\n")
    (folder / "10-kvm-tracepoints.txt").write_text("".join(rows))
