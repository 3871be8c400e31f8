"""`make fuzz`: many random operations on this machine's /dev/kvm and on the model, in parallel.

Exit status 0: no difference, and every class at least one in a hundred. 1: a difference, printed as its smallest case,
or a class that is too rare. 2: this machine cannot be compared with.
"""

from __future__ import annotations

import argparse
import os
import queue
import sys
import time
from multiprocessing import get_context
from typing import Any

from tests.oracle.fuzz.histogram import Histogram
from tests.oracle.fuzz.search import search
from tests.oracle.test_dev_kvm import why_not

BATCH = 150  # cases that Hypothesis draws under one seed


def worker(number: int, workers: int, seed: int, operations: int, out: Any) -> None:
    """Batches of seeds of its own, until it has run its part. Puts (its histogram, what differs) after each."""
    histogram, batch = Histogram(), 0
    while histogram.operations < operations:
        found = search(seed_of(seed, number + batch * workers), BATCH, histogram, told)
        out.put((number, histogram, found))
        if found:
            return
        batch += 1


def told(error: Exception) -> None:
    print(f"  {str(error).partition('Case(')[0].rstrip()}\n  making the case smaller, a minute or so", flush=True)


def seed_of(seed: int, batch: int) -> int:
    return seed * 1_000_000 + batch


def main() -> int:
    arguments = argparse.ArgumentParser(prog="python -m tests.oracle.fuzz", description=__doc__)
    arguments.add_argument("--operations", type=int, default=200_000, help="how many to run (%(default)s)")
    arguments.add_argument("--seed", type=int, default=1, help="what the cases are drawn from (%(default)s)")
    arguments.add_argument("--workers", type=int, default=(os.cpu_count() or 1) + 1, help="processes (%(default)s)")
    wanted = arguments.parse_args()
    if reason := why_not():
        print(f"fuzz: {reason}", file=sys.stderr)
        return 2
    print(f"{wanted.operations} operations, seed {wanted.seed}, {wanted.workers} processes", flush=True)
    histogram, found = together(wanted.workers, wanted.seed, wanted.operations)
    if not histogram.operations:
        print(found)
        return 1
    print(histogram)
    if found:
        print(found)
        return 1
    if rare := histogram.rare():
        print("rarer than one in a hundred:", *rare, sep="\n  ")
        return 1
    print("no difference")
    return 0


def together(workers: int, seed: int, operations: int) -> tuple[Histogram, str | None]:
    """All workers' histograms as one, and the first difference that one of them found."""
    context = get_context("fork")
    out = context.Queue()
    part = -(-operations // workers)
    processes = [
        context.Process(target=worker, args=(i, workers, seed, part, out), daemon=True) for i in range(workers)
    ]
    for process in processes:
        process.start()
    parts: dict[int, Histogram] = {}
    found, began, shown = None, time.monotonic(), 0.0
    while (found is None and any(process.is_alive() for process in processes)) or not out.empty():
        try:
            number, parts[number], differs = out.get(timeout=1)
        except queue.Empty:
            continue
        found = found or differs
        done = sum(histogram.operations for histogram in parts.values())
        if time.monotonic() - shown > 5:
            shown = time.monotonic()
            print(f"  {done:7} operations, {shown - began:4.0f} s", flush=True)
    ended = [process.exitcode for process in processes if process.exitcode]
    for process in processes:
        process.terminate()
        process.join()
    if ended and not found:
        found = f"a process ended with status {ended[0]}, not all was run"
    total = Histogram()
    for histogram in parts.values():
        total.counts += histogram.counts
    return total, found


if __name__ == "__main__":
    sys.exit(main())
