"""Spans of text to a line of the screen. Everything the console draws itself goes through here and is cleaned here.

Nothing is ever read as markup: a text is shown as it is, less what could steer the terminal (`words.clean`).
"""

from __future__ import annotations

from collections.abc import Iterable

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from souppp_tui.show.themes import Palette
from souppp_tui.show.words import clean, columns

Span = tuple[str, str]
"""A text and its role (`souppp_tui.show.themes.ROLES`)."""
Line = list[Span]


def width_of(spans: Iterable[Span]) -> int:
    """How many columns the spans take."""
    return sum([columns(clean(text)) for text, _ in spans])


def strip(spans: Iterable[Span], width: int, palette: Palette, over: str = "") -> Strip:
    """One line, exactly `width` wide, with `…` where it was cut; `over` is a role laid over the whole of it."""
    segments: list[Segment] = []
    taken = 0
    for text, role in spans:
        if text:
            text = clean(text)
            taken += columns(text)
            _append(segments, text, palette.laid(role, over))
    if taken > width:
        return _cut(Strip(segments, taken), width, palette.laid("dim", over))
    if taken < width:
        _append(segments, " " * (width - taken), palette.laid("text", over))
    return Strip(segments, width)


def _append(segments: list[Segment], text: str, style: Style) -> None:
    if segments and segments[-1].style is style:
        segments[-1] = Segment(segments[-1].text + text, style)
    else:
        segments.append(Segment(text, style))


def _cut(line: Strip, width: int, style: Style) -> Strip:
    if width <= 0:
        return Strip([], 0)
    if not line.crop(width).text.strip():
        return line.crop(0, width)
    kept = [*line.crop(0, width - 1)]
    _append(kept, "…", style)
    return Strip(kept, width)


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
