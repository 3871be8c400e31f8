"""The delivery lab: choices that write a scenario file, the file to edit, and the run of it on a host of one's choice.

The text is what is run. Choices of the scenario write it anew; those of the host leave it as it is.
"""

from __future__ import annotations

import re
from typing import Any

import ipywidgets

from kvmmodel.machine.breakable import BREAKABLE
from kvmmodel.scenarios.run import names, text_of
from kvmmodel.trace.story import Story
from kvmmodel.widgets import figure, lab_run, parts
from kvmmodel.widgets.lab_run import Wanted
from kvmmodel.widgets.lab_text import APICS, INHIBITS, SOURCES, STATES, Nonsense, scenario_text
from kvmmodel.widgets.parts import Choice, Refused
from kvmmodel.widgets.stepper import Stepper, stepper
from kvmmodel.widgets.svg import el, esc

CPUS = (
    ("Zen 1", "zen1"),
    ("Zen 1+", "zen1+"),
    ("Zen 2", "zen2"),
    ("Zen 3", "zen3"),
    ("Zen 3 that shows AVIC", "zen3,+avic"),
    ("Zen 4", "zen4"),
    ("Zen 4 laptop", "zen4-client"),
    ("Zen 4 seen from a VM", "zen4-nested"),
    ("Zen 5", "zen5"),
    ("Hygon Dhyana", "hygon"),
    ("QEMU TCG", "tcg"),
    ("none with SVM", "none"),
)
MINE, UNBROKEN = "the choices below", "nothing"
HOST = (
    Choice("cpu", "Processor", CPUS, "zen4", menu=True),
    Choice("kernel", "Kernel", tuple((name, name) for name in lab_run.kernels()), "7.3", menu=True),
    Choice("avic", "avic", (("release’s default", "auto"), ("off", "off"), ("on", "on"))),
    Choice("ipiv", "enable_ipiv", (("default", "default"), ("N", "off"))),
    Choice("iommu", "IOMMU", (("vapic", "vapic"), ("legacy", "legacy"), ("none", "none"))),
)
WRITES = (
    Choice("source", "Source", SOURCES, menu=True),
    Choice("state", "Its target", STATES),
    Choice("apic", "Guest’s APIC", APICS),
    Choice("inhibit", "Inhibit", INHIBITS, menu=True),
)
START = Choice("start", "Start from", ((MINE, ""), *((name, name) for name in names())), "", menu=True)
RULE = Choice("rule", "Broken on purpose", ((UNBROKEN, ""), *((rule, rule) for rule in BREAKABLE)), "", menu=True)
FOLLOW = Choice(
    "follow", "Follow", (*((str(n), n) for n in range(1, 7)), ("all of vCPU 0", "vcpu0"), ("all of vCPU 1", "vcpu1"))
)
ROWS = 10
BREAK = re.compile(r"^break *= *\[[^\]\n]*\] *\n", re.MULTILINE)


def with_rule(text: str, rule: str) -> str:
    """The same file, with this rule to break and no other, or none. It goes behind the title."""
    bare = BREAK.sub("", text)
    if not rule:
        return bare
    return re.sub(r"^title *=.*\n", lambda m: f'{m[0]}break = ["{rule}"]\n', bare, count=1, flags=re.MULTILINE)


class DeliveryLab(ipywidgets.VBox):  # type: ignore[misc]
    """The widget. ``text`` is the file, ``made`` the run of it, ``error`` why there is none; ``choose`` and ``write``
    do what the controls do, ``stepper`` has the steps."""

    def __init__(self, *, css: bool = True) -> None:
        self._with_css, self._quiet = css, False
        self._choices = {c.key: parts.control(c) for c in (*HOST, START, *WRITES, RULE, FOLLOW)}
        self._params = parts.text("params", "More parameters", placeholder="vgif=0 halt_poll_ns=0")
        self._file = parts.text("file", "The scenario’s file", ROWS)
        self._run = parts.act("run", "Run", "Run the file as it stands")
        self._undo = parts.act("undo", "Undo edits", "Write the file anew, from the choices")
        self._back = parts.act("back-mine", "My text again", "The text that a choice replaced")
        self._says, self._list, self._below = (parts.html(c) for c in ("says", "happened-box", "below"))
        self._mine: str | None = None
        self._written = ""
        self.made: lab_run.Lab | None = None
        self.error: str | None = None
        self._write()
        self._remake()
        self.stepper: Stepper = stepper(lambda broken: self._story(), css=False)
        self.stepper.remove_class("km-stepper")
        super().__init__(self._layout())
        for css_class in ("km", "km-stepper", "km-lab"):
            self.add_class(css_class)
        self._wire()
        self._show()
        self._first_picture = self._picture()

    # -- what other code may use ---------------------------------------------------------------------------------

    @property
    def text(self) -> str:
        return str(self._file.value)

    @property
    def values(self) -> dict[str, Any]:
        """The chosen values by key."""
        return {key: widget.value for key, widget in self._choices.items()}

    @property
    def story(self) -> Story | None:
        return self.stepper.story

    def choose(self, **values: Any) -> None:
        """Answer choices by key. Errors: KeyError for an unknown key, TraitError for a value that is no option."""
        for key, value in values.items():
            self._choices[key].value = value

    def write(self, text: str) -> None:
        """Put another text into the editor, and run it."""
        self._file.value = text

    def set_params(self, text: str) -> None:
        """More parameters, as NAME=VALUE words."""
        self._params.value = text

    # -- making and wiring ----------------------------------------------------------------------------------------

    def _layout(self) -> list[Any]:
        style = [parts.html("css", f"<style>{parts.css()}</style>")] if self._with_css else []
        of = self._choices
        host = parts.box("ctl", *(of[c.key] for c in HOST), self._params)
        scenario = parts.box("ctl", of["start"], *(of[c.key] for c in WRITES), of["rule"])
        buttons = parts.box("acts", self._run, self._undo, self._back)
        names = (parts.html("part", f"<h3>{name}</h3>") for name in ("The host", "The scenario"))
        one, two = names
        follow = parts.box("ctl", of["follow"])
        return [
            *style, one, host, two, scenario, self._file, buttons, self._says, self._list, follow, self.stepper,
            self._below,
        ]  # fmt: skip

    def _wire(self) -> None:
        for choice in (*WRITES, START):
            self._choices[choice.key].observe(lambda _: self._rewrite(), "value")
        self._choices["rule"].observe(lambda _: self._break(), "value")
        for widget in (*(self._choices[c.key] for c in HOST), self._params, self._file):
            widget.observe(lambda _: self._again(), "value")
        self._choices["follow"].observe(lambda _: self._refresh(), "value")
        self._run.on_click(lambda _: self._again())
        self._undo.on_click(lambda _: self._rewrite())
        self._back.on_click(lambda _: self._restore())

    # -- the file ------------------------------------------------------------------------------------------------------

    def _from_choices(self) -> str:
        values = self.values
        if values["start"]:
            text = text_of(values["start"])
        else:
            try:
                text = scenario_text(*(values[c.key] for c in WRITES))
            except Nonsense as why:
                return f"# {why}\n"
        return with_rule(text, values["rule"])

    def _write(self) -> None:
        """Into the editor what the choices stand for."""
        self._written = self._from_choices()
        self._set(self._written)
        for choice in WRITES:  # a built-in scenario says all of that itself
            self._choices[choice.key].disabled = bool(self._choices["start"].value)

    def _set(self, text: str) -> None:
        self._quiet = True
        try:
            self._file.value = text
        finally:
            self._quiet = False

    def _rewrite(self) -> None:
        if self.text.strip() not in ("", self._written.strip()):
            self._mine = self.text
        self._write()
        self._again()

    def _break(self) -> None:
        """A rule goes into the text that is there, edited or not."""
        edited = self.text != self._written
        text = with_rule(self.text, self._choices["rule"].value)
        self._written = self._from_choices()
        self._set(text if edited else self._written)
        self._again()

    def _restore(self) -> None:
        if self._mine is not None:
            text, self._mine = self._mine, None
            self._file.value = text

    # -- running and showing -------------------------------------------------------------------------------------------

    def _wanted(self) -> Wanted:
        return Wanted(**{c.key: self._choices[c.key].value for c in HOST}, params=self._params.value)

    def _remake(self) -> None:
        self.made, self.error = None, None
        try:
            if self.text == self._written and self.text.startswith("# ") and self.text.count("\n") == 1:
                raise Refused(self.text[2:].strip())
            self.made = lab_run.make(self.text, self._wanted())
        except Refused as why:
            self.error = str(why)
        except (
            Exception
        ) as problem:  # the model's own mistake: its reader gets one line, and the controls go on working
            self.error = parts.in_one_line("This run", problem)

    def _story(self) -> Story:
        if self.made is None:
            raise Refused(self.error or "No run.")
        return lab_run.told(self.made, self._choices["follow"].value)

    def _again(self) -> None:
        if self._quiet:
            return
        self._remake()
        self._refresh()

    def _refresh(self) -> None:
        self.stepper.refresh()
        self._show()

    def _show(self) -> None:
        """What stands around the steps."""
        edited = self.text != self._written
        (self._file.add_class if edited else self._file.remove_class)("km-own")  # a link then carries the text
        self._undo.layout.display = None if edited else "none"
        self._back.layout.display = None if self._mine is not None and self._mine != self.text else "none"
        self._says.value = _says(self.error, edited)
        follow = self._choices["follow"].value
        self._list.value = lab_run.listed(self.made, follow) if self.made is not None else ""
        bill = lab_run.billed(self.made, follow) if self.made is not None else ""
        self._below.value = bill + self._panel()

    def _panel(self) -> str:
        """What the host says, also where the file is wrong."""
        wanted = self._wanted()
        try:
            return lab_run.host_panel(lab_run.host_of(wanted), wanted)
        except Refused:
            return ""

    def _picture(self) -> str:
        if self.stepper.story is None:
            return figure.failed(self.error or "No run.")
        text = el("pre", esc(self.text), class_="km-file", tabindex="0")
        told = figure.static(self.stepper.story, 0, id="lab-static")
        return str(self._list.value) + told + str(self._below.value) + text

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        """The widget, and beside it the static picture of its first state for places that cannot run it."""
        own = super()._repr_mimebundle_(**kwargs) if hasattr(super(), "_repr_mimebundle_") else {}
        return parts.beside_picture(own, "DeliveryLab", self._first_picture, self._with_css)


def _says(error: str | None, edited: bool) -> str:
    """Under the editor: why there is no run, or what the text is."""
    if error is not None:
        return figure.failed(error)
    words = (
        "Your own text: a choice of the scenario replaces it."
        if edited
        else "As the choices have it. Edit it, then leave the field or press Run."
    )
    return f'<p class="km-note">{esc(words)}</p>'


def delivery_lab() -> DeliveryLab:
    """The widget."""
    return DeliveryLab()
