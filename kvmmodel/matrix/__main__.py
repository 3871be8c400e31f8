"""python -m kvmmodel.matrix [FILE] [--write]: run everything; compare the table with FILE's, or write it there."""

from __future__ import annotations

import argparse
import difflib
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from kvmmodel.matrix.hosts import hosts
from kvmmodel.matrix.scenarios import Outcome, outcome
from kvmmodel.matrix.table import LOST, block, losses, table
from kvmmodel.scenarios.run import names


def everything(row: tuple[str, str, bool]) -> tuple[str, Outcome]:
    """A host's rows, and what became of the scenarios on it."""
    return block(*row), outcome(*row)


def main(argv: list[str] | None = None) -> int:
    """0; 1 if a scenario fails anywhere or the table is not FILE's; 2 if FILE cannot be read."""
    parser = argparse.ArgumentParser(prog="python -m kvmmodel.matrix", description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, help="the table as it should be; default: print it")
    parser.add_argument("--write", action="store_true", help="write the table into FILE")
    options = parser.parse_args(argv)
    if options.write and options.file is None:
        parser.error("--write needs FILE")
    rows, begun, failed = list(hosts()), time.monotonic(), 0
    print(f"{len(rows)} hosts, {len(names())} scenarios on each", file=sys.stderr)
    blocks, lost = list[str](), list[str]()
    with ProcessPoolExecutor() as pool:
        for i, ((kernel, cpu, avic), (text, found)) in enumerate(zip(rows, pool.map(everything, rows), strict=True), 1):
            said = f"{i:4} of {len(rows)}  {kernel:5} {cpu:10} avic={int(avic)}  {len(found.failed)} failed"
            print(f"{said}  {time.monotonic() - begun:5.0f} s", file=sys.stderr, flush=True)
            for line in found.failed:
                print(f"    {line}", file=sys.stderr)
            blocks.append(text)
            failed += len(found.failed)
            lost += [losses(kernel, cpu, name) for name in found.lost]
    made = table([]) + "".join(blocks) + LOST + "".join(lost)
    if options.file is None or options.write:
        if options.file is None:
            print(made, end="")
        else:
            options.file.write_text(made, encoding="utf-8")
        return int(failed > 0)
    try:
        wanted = options.file.read_text(encoding="utf-8")
    except OSError as error:
        print(f"{options.file}: {error.strerror}", file=sys.stderr)
        return 2
    diff = list(
        difflib.unified_diff(wanted.splitlines(), made.splitlines(), str(options.file), "now", lineterm="", n=1)
    )
    print("\n".join(diff) or f"The table is that of {options.file}, and {failed} scenarios failed")
    return int(bool(diff) or failed > 0)


if __name__ == "__main__":
    sys.exit(main())
