"""Which behaviours of a release a run asks for, and the same release with one of them turned round.

Only asking is noted: a run that asks may do the same either way. Names of functions, parameters and inhibits are looked
up by series and are not behaviours, so they are not noted here.
"""

from __future__ import annotations

from dataclasses import replace

from kvmmodel.facts.releases import Kernel


class Asked(frozenset[str]):
    """A release's behaviours. It notes which ids were looked for, had or not, under what went on then.

    Set ``during`` to what goes on; ``found`` has the ids by it. A set of its own kind: no other run pays for it.
    """

    during: str
    found: dict[str, set[str]]

    def __contains__(self, behaviour: object) -> bool:
        self.found.setdefault(self.during, set()).add(str(behaviour))
        return super().__contains__(behaviour)


def listening(kernel: Kernel, during: str) -> tuple[Kernel, Asked]:
    """The release as a Host takes it, and what was asked of it so far: nothing."""
    asked = Asked(kernel.behaviours)
    asked.during, asked.found = during, {}
    return replace(kernel, behaviours=asked), asked


def flipped(kernel: Kernel, behaviour: str) -> Kernel:
    """A release that there is not: without this behaviour where it has it, else with it."""
    return replace(kernel, behaviours=kernel.behaviours ^ {behaviour})
