"""The command line. Bad input: one line on standard error, exit status 2."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

from kvmmodel import __version__
from kvmmodel.cli import compare, explain, kernels, scenarios
from kvmmodel.explain import ExplainError


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command. Returns the exit status: 0, or 2 after one line about bad input."""
    options = parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except BrokenPipeError:
        sys.stderr.close()  # the reader went away, as with head
        return 0
    except (ValueError, OSError, ExplainError) as error:
        print(f"kvmmodel: {_line(error)}", file=sys.stderr)
        return 2


def _line(error: Exception) -> str:
    """One line, also for an OSError, which names the file."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split())


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        """argparse prints its usage, too; one line is enough."""
        print(f"{self.prog}: {message}", file=sys.stderr)
        sys.exit(2)


def parser() -> argparse.ArgumentParser:
    made = _Parser(prog="kvmmodel", description="How Linux KVM on AMD delivers interrupts: a model to run.")
    made.add_argument("--version", action="version", version=f"kvmmodel {__version__}")
    commands = made.add_subparsers(required=True, metavar="COMMAND")
    for module in (scenarios, explain, compare, kernels):
        module.add(commands)
    return made
