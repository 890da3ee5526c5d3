"""Colours that can be read: contrasts by computation, WCAG 2 AA."""

from __future__ import annotations

import pytest

from souppp_tui.show.themes import NAMES, ROLES, palette
from tests.contrast import contrast as of_colours

PAPERS = ("ground", "bar", "cursor")
GRAPHICS = ("rxbar", "txbar")
DECORATION = ("faint",)
"""Lines between panes and what a bar leaves empty: nothing is told by them."""
WORDS = sorted({*ROLES} - {*PAPERS, *GRAPHICS, *DECORATION})
RGB = [name for name in NAMES if name != "ansi"]
"""What the sixteen colours look like is the terminal's affair."""


def contrast(theme: str, role: str, over: str = "") -> float:
    """Of a role's words on a line."""
    style = palette(theme).laid(role, over)
    assert style.color is not None
    assert style.bgcolor is not None
    return of_colours(style.color.get_truecolor().hex, style.bgcolor.get_truecolor().hex)


@pytest.mark.parametrize("theme", RGB)
def test_every_word_is_read_on_every_ground(theme: str) -> None:
    found = {(role, over): contrast(theme, role, over) for role in WORDS for over in ("", "bar", "cursor")}
    assert {place: value for place, value in found.items() if value < 4.5} == {}


@pytest.mark.parametrize("theme", RGB)
def test_every_bar_is_seen(theme: str) -> None:
    found = {(role, over): contrast(theme, role, over) for role in GRAPHICS for over in ("", "cursor")}
    assert {place: value for place, value in found.items() if value < 3.0} == {}


@pytest.mark.parametrize("theme", RGB)
def test_a_lower_tone_is_still_one(theme: str) -> None:
    """What counts less is told from what counts more, on each ground."""
    for over in ("", "bar", "cursor"):
        assert contrast(theme, "dim", over) < 0.8 * contrast(theme, "text", over)
