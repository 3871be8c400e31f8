"""The explainer: a text with stacks, a kernel, and the answer, which grows while the model runs.

What the stacks mean is told at once, as that needs no run. Whether the model takes the same paths is found by runs, in
slices: between two of them the page draws, and takes what the reader does. Without an event loop it is one long slice.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from typing import Any

import ipywidgets

from kvmmodel.explain.normalise import Part
from kvmmodel.explain.report import Asked, answer, ask
from kvmmodel.explain.search import Search
from kvmmodel.explain.source import ExplainError, is_text
from kvmmodel.explain.system import system_of
from kvmmodel.facts.releases import series
from kvmmodel.widgets import explained, parts
from kvmmodel.widgets.explained import Shown
from kvmmodel.widgets.parts import Choice
from kvmmodel.widgets.svg import el, rich

# From the notes that this book began with: somebody's host, after avic had been set.
EXAMPLE = """@[
    apic_update_ppr+1
    apic_set_eoi+143
    kvm_lapic_sync_from_vapic+259
    kvm_arch_vcpu_ioctl_run+3804
    kvm_vcpu_ioctl+399
    __x64_sys_ioctl+148
    do_syscall_64+184
    entry_SYSCALL_64_after_hwframe+119
]: 124
@[
    apic_update_ppr+1
    kvm_set_cr8+32
    svm_vcpu_run+1260
    kvm_arch_vcpu_ioctl_run+1376
    kvm_vcpu_ioctl+399
    __x64_sys_ioctl+148
    do_syscall_64+184
    entry_SYSCALL_64_after_hwframe+119
]: 467
"""
LONGEST = 200_000  # characters
SLICE = 0.2  # seconds of runs between two looks at what the reader did
WANTED = (
    "Expected kernel stacks or a function graph, as bpftrace, ftrace, a hist trigger, perf script, a folded file or an "
    "oops has them."
)
Step = Callable[[], None]


def soon(step: Step) -> bool:
    """Have the event loop call it, when it has taken what else there is. False: there is no loop."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return False
    loop.call_later(0.005, step)
    return True


def explainer(text: str = EXAMPLE, kernel: str = "", css: bool = True) -> Explainer:
    """The widget, with this text in it. ``kernel``: a series, "" if it is not known."""
    return Explainer(text, kernel, css=css)


class Explainer(ipywidgets.VBox):  # type: ignore[misc]
    """The widget. ``shown`` is the answer as far as it is known; ``error`` one line if there is none. ``later`` calls
    back after the page had its turn, or returns False."""

    def __init__(
        self, text: str = EXAMPLE, kernel: str = "", *, css: bool = True, later: Callable[[Step], bool] | None = None
    ):
        self._with_css, self._quiet = css, False
        # Where a book is built the first answer must be whole before the cell ends; a page shows it as it grows.
        self._later = later or (soon if sys.platform == "emscripten" else lambda _: False)
        self._search: Search | None = None
        self._asked: Asked | None = None
        self._wanted: list[tuple[Part, ...]] = []
        self._job = 0  # what the next slice must belong to
        self.shown: Shown | None = None
        self.error: str | None = None
        names = (("not known", ""), *((name, name) for name in series()))
        self._kernel = parts.control(Choice("kernel", "Kernel", names, kernel or None))
        self._text = ipywidgets.Textarea(text, description="Stacks", continuous_update=False, rows=12)
        self._text.add_class("km-text-trace")
        self._go, self._stop = self._button("go", "Explain"), self._button("stop", "Stop the runs")
        self._head, self._progress, self._figure = (parts.html(c) for c in ("head", "progress", "figure"))
        style = [parts.html("css", f"<style>{parts.css()}</style>")] if css else []
        controls = parts.box("ctl", self._text, self._kernel)
        bar = parts.box("work", self._go, self._stop, self._progress)
        super().__init__([*style, self._head, controls, bar, self._figure])
        for css_class in ("km", "km-stepper", "km-explain"):
            self.add_class(css_class)
        for widget in (self._kernel, self._text):
            widget.observe(lambda _: self._begin(), "value")
        self._go.on_click(lambda _: self.go_on())
        self._stop.on_click(lambda _: self.stop())
        self._begin()
        self._first = self._figure.value if self.shown is None else explained.static(self.shown, text)
        self._later = later or soon

    @staticmethod
    def _button(key: str, words: str) -> Any:
        made = parts.button(key, words)
        made.description = words
        return made

    # -- what other code may use ---------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether runs of the model are going on."""
        return self.shown is not None and self.shown.going

    def choose(self, text: str | None = None, kernel: str | None = None) -> None:
        """Put in another text or kernel, "" for one that is not known. TraitError for a kernel that is no option."""
        self._quiet = True
        try:
            if kernel is not None:
                self._kernel.value = kernel
            if text is not None:
                self._text.value = text
        finally:
            self._quiet = False
            self._begin()

    def go_on(self) -> None:
        """What the button does: go on with runs that were stopped, or begin again where a text was refused."""
        if self._search is None:
            self._begin()
        elif not self.running and not self._search.settled:
            self._run()

    def stop(self) -> None:
        """End the runs; what they found stays."""
        if self.running:
            self._job += 1
            self._show(going=False)

    # -- the answer ----------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        if self._quiet:
            return
        self._job += 1
        self._search = self.shown = self.error = None
        try:
            self._ask(self._text.value)
        except ExplainError as problem:
            self._refuse(f"{str(problem)[:1].upper()}{str(problem)[1:]}")
        except Exception as problem:  # a reader's text, whatever it is: one line, and the controls go on working
            self._refuse(parts.in_one_line("This answer", problem))
        else:
            self._run()

    def _ask(self, text: str) -> None:
        """Take the text apart. ExplainError, in one line, if it cannot be explained."""
        if not text.strip():
            raise ExplainError(f"The text is empty. {WANTED}")
        if not is_text(text):
            raise ExplainError(f"This is not a text. {WANTED}")
        if len(text) > LONGEST:
            raise ExplainError(
                f"{len(text):,} characters are too many for a page; {LONGEST:,} are read. Paste the part with the "
                "stacks, or give the file to `kvmmodel explain` in a terminal."
            )
        try:
            self._asked = ask(text, self._kernel.value or None)
        except ExplainError:
            raise ExplainError(f"There is no stack and no function graph in it. {WANTED}") from None
        self._wanted = self._asked.wanted()
        self._search = Search(self._wanted, self._asked.kernel, system_of(text))

    def _refuse(self, message: str) -> None:
        self.error = message
        self._head.value, self._figure.value = explained.heading(None), explained.refused(message)
        self._buttons(going=False)
        self._progress.value = ""

    def _run(self) -> None:
        """Begin or go on. The answer stands before the first run."""
        assert self._search is not None
        self._job += 1
        job, going = self._job, not self._search.settled
        self._show(going=going)
        if going and not self._later(lambda: self._slice(job)):
            self._slice(job)

    def _slice(self, job: int) -> None:
        """Some runs; then the next slice, unless the reader stopped these, or asked something else."""
        while job == self._job and self._search is not None and not self._search.settled:
            try:
                self._some_runs(self._search)
            except Exception as problem:  # a run that fails must not leave the widget waiting for it
                self._job += 1
                self._refuse(parts.in_one_line("These runs", problem))
                return
            if not self._search.settled and self._later(lambda: self._slice(job)):
                return

    def _some_runs(self, search: Search) -> None:
        had, end = search.found, time.monotonic() + SLICE
        search.step()
        while not search.settled and time.monotonic() < end:
            search.step()
        if search.settled or search.found != had:
            self._show(going=not search.settled)
        else:
            self._count(going=True)

    def _show(self, *, going: bool) -> None:
        assert self._asked is not None
        assert self._search is not None
        search, asked = self._search, self._asked
        told = "reader" if self._kernel.value else "text" if asked.kernel else ""
        self.shown = Shown(answer(asked, search.match, search.kernels), search.open, going, told)
        self._head.value, self._figure.value = explained.heading(self.shown), explained.draw(self.shown)
        self._count(going=going)

    def _count(self, *, going: bool) -> None:
        search = self._search
        assert search is not None
        self._buttons(going=going)
        words = f"{search.done} run{'s' * (search.done != 1)} of the model"
        if going:
            one = search.next
            words += f", {search.left} more at most, for {len(search.open)} of {len(self._wanted)} paths"
            words += f". Next: kernel {one.kernel}, scenario `{one.todo[one.done].scenario}`"
        elif not search.settled:
            words += f"; stopped, {search.left} more could follow"
        elif not search.done:
            words = "No further run was needed" if search.found else "No run of the model could have it"
        self._progress.value = el("p", rich(words + "."), class_="km-sub")

    def _buttons(self, *, going: bool) -> None:
        stopped = self._search is not None and not going and not self._search.settled
        self._go.description = self._go.tooltip = "Go on" if stopped else "Explain"
        self._stop.disabled = not going
        (self._stop.remove_class if going else self._stop.add_class)("km-idle")

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        """The widget, and beside it the static picture of its first state for places that cannot run it."""
        own = super()._repr_mimebundle_(**kwargs) if hasattr(super(), "_repr_mimebundle_") else {}
        return parts.beside_picture(own, "Explainer", self._first, self._with_css)
