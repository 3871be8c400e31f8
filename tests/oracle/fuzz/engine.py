"""One case on both sides, compared after every operation."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from tests.oracle.fuzz.case import Case, Difference, Op
from tests.oracle.fuzz.compare import differences
from tests.oracle.fuzz.histogram import Histogram
from tests.oracle.fuzz.kernel import Kernel
from tests.oracle.fuzz.model import TSC_DEADLINE, Model

PATIENCE_S = 10
FAR = 1_000_000_000_000  # ticks; KVM multiplies the difference by a million, in 64 bits


def check(case: Case, histogram: Histogram | None = None) -> None:
    """Difference, with all of it told, at the first operation after which the two are not equal."""
    with _patience():
        kernel, model = Kernel(case), Model(case)
        try:
            _states(case, kernel, model, None)
            for op in map(partial(_now, kernel, model), case.ops):
                ours, theirs = model.do(op), kernel.do(op)
                if ours != theirs:
                    raise Difference(_told(case, op, [f"gives: kernel {theirs!r}, model {ours!r}"]))
                _states(case, kernel, model, op)
                if histogram is not None:
                    histogram.add(op, theirs)
        finally:
            kernel.close()


def _now(kernel: Kernel, model: Model, op: Op) -> Op:
    """The operation as it is done: far in the future starts from now, and a guest may have to stay closed.

    A timer's expiry becomes an interrupt only in vcpu_run, which this vendor's module goes back to when it likes.
    """
    if op[0] == "guest" and op[2] == "open" and _closed(kernel, model, op[1]):
        return (*op[:2], "nop")
    if op[0] == "guest" and (model.timer_pending(op[1]) or op[2:4] == ("wrmsr", TSC_DEADLINE)):
        op = ("settled", *op[1:])
    return (*op[:-1], kernel.tsc() + FAR) if op[-1] == "far" else op


def _closed(kernel: Kernel, model: Model, v: int) -> bool:
    """Whether a guest may not be opened: see NOT_COMPARED; or it would not end, or take vector 2, 13 or so."""
    pics = [] if kernel.case.split else kernel.state(False).chips[:2]
    return not model.may_open(v) or any(pic[10] or pic[5] < 0x20 for pic in pics)


def _states(case: Case, kernel: Kernel, model: Model, op: Op | None) -> None:
    watch = case.watch or (bool(case.ops) and op is case.ops[-1])
    if found := differences(kernel.state(watch), model.state(watch)):
        raise Difference(_told(case, op, found))


def _told(case: Case, op: Op | None, found: list[str]) -> str:
    return "\n".join([f"the kernel and the model differ after {op!r}:", *(f"  {line}" for line in found), str(case)])


@contextmanager
def _patience() -> Iterator[None]:
    def too_long(*_: object) -> None:
        raise TimeoutError(f"a case takes more than {PATIENCE_S} s")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(PATIENCE_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
