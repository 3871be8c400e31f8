"""What MyST has and JupyterLab lacks becomes plain Markdown."""

import pytest

from kvmbook import plain
from kvmbook.plain import markdown


class Book:
    """Knows two pages, and where a picture is."""

    def resolve(self, target: str) -> tuple[str, str]:
        known = {
            "ipi.md": ("The life of an IPI", "ipi.ipynb"),
            "#the-end": ("The end", ""),
            "gone.md": ("", ""),
            "": ("", "ppr.html"),
            "a.svg": ("", "https://example.org/a.svg"),
        }
        return known.get(target, ("", target))


def converted(text: str) -> str:
    return markdown(text, Book(), {"size": "16 MB"})


@pytest.mark.parametrize(
    ("myst", "expected"),
    [
        ("see [](ipi.md).", "see [The life of an IPI](ipi.ipynb)."),
        ("see [the `ICR`\npage](ipi.md)", "see [the `ICR`\npage](ipi.ipynb)"),
        ("[away](https://example.org/x)", "[away](https://example.org/x)"),
        ("[](#the-end)", "The end"),
        ("[that](gone.md)", "that"),
        ("{doc}`ipi.md` and {ref}`it <ipi.md>`", "[The life of an IPI](ipi.ipynb) and [it](ipi.ipynb)"),
        ("{term}`IRR` and {term}`bits <IRR>`", "IRR and bits"),
        ("{cite}`apm2`", "[apm2]"),
        ("{made-up}`two\nwords`", "two\nwords"),
        ("{{ size }}, {{ nobody }}", "16 MB, {{ nobody }}"),
        ("`{term}` and `[](ipi.md)` and ``a ` {{ size }}``", "`{term}` and `[](ipi.md)` and ``a ` {{ size }}``"),
        ("[words]{.small} *here*{#id} {not this}", "[words] *here* {not this}"),
        ("(a-label)=\n# Title", "# Title"),
        ("% a comment\nText 5 % of it", "Text 5 % of it"),
        ("a[i](x)", "a[i](x)"),
        ("[a b](<ipi.md>), [](<ipi.md>)", "[a b](ipi.ipynb), [The life of an IPI](ipi.ipynb)"),
        ("IRR\n: what is requested", "**IRR**: what is requested"),
        ("![a drawing](a.svg)", "![a drawing](https://example.org/a.svg)"),
        ("![a drawing](gone.md)", "a drawing"),
    ],
)
def test_inline(myst: str, expected: str) -> None:
    assert converted(myst) == expected


def test_code_stays_as_it_is() -> None:
    code = "```console\n$ echo [](ipi.md) {term}`x`\n```"
    assert (
        converted(f"before\n\n{code}\n\nafter [](ipi.md)")
        == f"before\n\n{code}\n\nafter [The life of an IPI](ipi.ipynb)"
    )
    assert converted("````\n```\n[](ipi.md)\n````") == "````\n```\n[](ipi.md)\n````"


@pytest.mark.parametrize(
    ("myst", "expected"),
    [
        (":::{note}\n:class: x\nSee [](ipi.md).\n:::", "> **Note**\n>\n> See [The life of an IPI](ipi.ipynb)."),
        ("```{admonition} Mind *this*\none\n\ntwo\n```", "> **Mind *this***\n>\n> one\n>\n> two"),
        ("::::{tip}\n:::{note}\nin\n:::\n::::", "> **Tip**\n>\n> > **Note**\n> >\n> > in"),
        ("```{code-block} c\n:linenos:\nint x;\n```", "```c\nint x;\n```"),
        (
            "```{figure} a.svg\n:alt: lanes\nWhat it *shows*.\n```",
            "![lanes](https://example.org/a.svg)\n\nWhat it *shows*.",
        ),
        ("```{toctree}\nipi\n```", ""),
        ("```{bibliography}\n:style: x\n```", "*The [page in the book](ppr.html) has a list here.*"),
        ("```{glossary}\nIRR\n  requested\n\nISR\n  in service\n```", "**IRR**\nrequested\n\n**ISR**\nin service"),
    ],
)
def test_directives(myst: str, expected: str) -> None:
    assert converted(myst) == expected


def test_a_directive_that_nobody_closed_ends_with_the_text() -> None:
    assert converted("```{note}\nabc") == "> **Note**\n>\n> abc"


def test_whoever_adds_a_role_says_how_it_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(plain.ROLES, "shouted", str.upper)
    assert converted("{shouted}`at last`") == "AT LAST"


def test_values_are_looked_up_in_the_facts_as_on_the_page() -> None:
    assert converted("{since}`avic_auto`, {Until}`avic_auto`") == "since 6.18, Up to 6.17"
    assert converted("{default}`avic 6.12`") == "`N`"
