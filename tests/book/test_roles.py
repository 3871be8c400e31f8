"""Roles: what a page writes as {since}`id`, and what a reader, or a notebook that is downloaded, gets."""

import pytest

from kvmbook.roles import ROLES, plain, wrong
from kvmmodel.facts.releases import changes
from kvmmodel.facts.told import DOUBTS, doubt_of


@pytest.mark.parametrize(
    ("role", "text", "said"),
    [
        ("since", "avic_auto", "since 6.18"),
        ("release", "irte_tracked_while_inhibited", "6.17 (inferred)"),
        ("until", "avic_auto", "up to 6.17"),
        ("Until", "avic_auto", "Up to 6.17"),
        ("stable", "cr8_recomputed_on_ppr", "6.12.114"),
        ("default", "avic 6.12", "N"),
        ("bit", "IRQWIN 7.3", "8"),
        ("bits", "IRQWIN", "3 in 5.10 and 5.15, 7 in 6.1, 8 from 6.6 on"),
        ("mask", "PIT_REINJ 6.12", "0x200"),
        ("reason", "0x200 6.1", "SEV"),
    ],
)
def test_a_role_says_what_the_row_has(role, text, said):
    assert plain(role, text) == said


@pytest.mark.parametrize(
    ("role", "text"), [("since", "gravity"), ("bit", "IRQWIN"), ("bit", "IRQWIN 7.3 x"), ("sins", "x2avic")]
)
def test_a_wrong_role_is_one_line(role, text):
    with pytest.raises(ValueError, match=r"^.+$") as caught:
        plain(role, text)
    assert "\n" not in str(caught.value)
    assert bool(list(wrong(role, text))) is (role in ROLES)


def test_no_role_renders_a_doubtful_release_without_its_label():
    """Over all rows and all roles that take one."""
    tried = 0
    for change in changes().values():
        doubt = doubt_of(change)
        if doubt is None:
            continue
        for role in ("since", "release", "until"):
            if role == "until" and change.mainline and " or " in change.mainline[0]:
                continue
            tried += 1
            assert doubt in DOUBTS
            assert f"({doubt}" in plain(role, change.id), (role, change.id)
    assert tried > 50
