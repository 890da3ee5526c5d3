"""Spans of text to a line of the screen. Everything the console draws itself goes through here and is cleaned here.

Nothing is ever read as markup: a text is shown as it is, less what could steer the terminal (`words.clean`).
"""

from __future__ import annotations

from collections.abc import Iterable

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from souppp_tui import themes
from souppp_tui.themes import Palette
from souppp_tui.words import clean

Span = tuple[str, str]
"""A text and its role (`souppp_tui.themes.ROLES`)."""

_NONE = Style()


def width_of(spans: Iterable[Span]) -> int:
    """How many columns the spans take."""
    return sum(cell_len(clean(text)) for text, _ in spans)


def strip(spans: Iterable[Span], width: int, palette: Palette, over: str = "") -> Strip:
    """One line, exactly `width` wide, with `…` where it was cut; `over` is a role laid over the whole of it."""
    above = themes.over(palette, over) if over else _NONE
    line = Strip([Segment(clean(text), palette[role] + above) for text, role in spans if text])
    if line.cell_length > width > 0:
        rest = line.crop(width - 1).text
        mark = "…" if rest.strip() else " "
        line = Strip([*line.crop(0, width - 1), Segment(mark, palette["dim"] + above)])
    return line.adjust_cell_length(width, palette["text"] + above).simplify()


def ends(left: list[Span], right: list[Span], width: int) -> list[Span]:
    """Spans at both ends of a line."""
    return [*left, (" " * max(0, width - width_of(left) - width_of(right)), "text"), *right]


def rule(title: list[Span], right: list[Span], width: int) -> list[Span]:
    """A line across the screen with words in it."""
    if title:
        title = [("─ ", "faint"), *title, (" ", "faint")]
    if right:
        right = [(" ", "faint"), *right, (" ─", "faint")]
    if width_of(title) + width_of(right) > width:
        right = []
    return [*title, ("─" * max(0, width - width_of(title) - width_of(right)), "faint"), *right]
