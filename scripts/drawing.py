"""What stands on a terminal as SVG: one screen as a picture, many one after the other as a film."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from xml.sax.saxutils import escape

from rich.ansi import AnsiDecoder
from rich.console import Console
from rich.style import Style
from rich.terminal_theme import TerminalTheme

INK, PAPER = "#c6c6c6", "#121212"
CELL = (8.4, 18)
"""Pixels to a character, across and down."""
BASELINE = 14
MARGIN = 10

_SIXTEEN = [
    (colour >> 16, colour >> 8 & 0xFF, colour & 0xFF)
    for colour in (
        *(0x000000, 0xCD0000, 0x00CD00, 0xCDCD00, 0x0000EE, 0xCD00CD, 0x00CDCD, 0xE5E5E5),
        *(0x7F7F7F, 0xFF0000, 0x00FF00, 0xFFFF00, 0x5C5CFF, 0xFF00FF, 0x00FFFF, 0xFFFFFF),
    )
]
XTERM = TerminalTheme((18, 18, 18), (198, 198, 198), _SIXTEEN[:8], _SIXTEEN[8:])
"""The sixteen colours as xterm has them, which is what a terminal shows that nobody has changed."""


Run = tuple[str, Style]
Row = tuple[Run, ...]


def svg(screen: str, columns: int) -> str:
    """A captured screen as a picture. Each word stands at its own place, so that any fixed-width font will do."""
    rows = _rows(screen, columns)
    ground = _ground(rows)
    return _framed(_shapes(rows, ground), columns, len(rows), ground)


def film(screens: Sequence[tuple[float, str]], columns: int, end: float) -> str:
    """Captured screens, each with the second from which it is shown, as one picture that moves, again and again.

    A word is drawn once, and seen whenever it stood there. Who doesn't animate pictures sees the last screen.
    """
    taken = [(at, _rows(screen, columns)) for at, screen in screens]
    ground = _ground(taken[-1][1])
    seen: dict[str, list[float]] = {}
    for (begins, rows), ends in zip(taken, [*(at for at, _ in taken[1:]), end], strict=True):
        for shape in dict.fromkeys(_shapes(rows, ground)):
            turns = seen.setdefault(shape, [])
            if turns and turns[-1] == begins:
                turns[-1] = ends
            else:
                turns += (begins, ends)
    together: dict[tuple[bool, tuple[float, ...]], list[str]] = {}
    for shape, turns in seen.items():
        together.setdefault((shape.startswith("<text"), tuple(turns)), []).append(shape)
    # What words stand on is drawn before them.
    groups = [_at_times(shapes, turns, end) for (_, turns), shapes in sorted(together.items(), key=lambda it: it[0])]
    return _framed(groups, columns, len(taken[-1][1]), ground)


def _rows(screen: str, columns: int) -> list[Row]:
    decoder = AnsiDecoder()  # one for all lines: a colour may run over a line's end
    console = Console(file=io.StringIO(), width=columns, color_system="truecolor")
    lines = [decoder.decode_line(line) for line in screen.splitlines()]
    return [tuple((text, style or Style()) for text, style, _ in line.render(console)) for line in lines]


def _ground(rows: Sequence[Row]) -> str:
    papers: Counter[str] = Counter()
    for row in rows:
        for text, style in row:
            papers[_colours(style)[1]] += len(text)
    return papers.most_common(1)[0][0]


def _shapes(rows: Sequence[Row], ground: str) -> Iterator[str]:
    """What is drawn on the ground: first what words stand on, then they."""
    for at, row in enumerate(rows):
        column = 0
        for text, style in row:
            ink, paper = _colours(style)
            if paper != ground:
                yield (
                    f'<rect x="{column * CELL[0]:.1f}" y="{at * CELL[1]}" '
                    f'width="{len(text) * CELL[0]:.1f}" height="{CELL[1]}" fill="{paper}"/>'
                )
            for word in re.finditer(r"\S+", text):
                x, y = (column + word.start()) * CELL[0], at * CELL[1] + BASELINE
                weight = ' font-weight="bold"' if style.bold else ""
                yield (
                    f'<text x="{x:.1f}" y="{y}" fill="{ink}"{weight} '
                    f'textLength="{len(word[0]) * CELL[0]:.1f}">{escape(word[0])}</text>'
                )
            column += len(text)


def _at_times(shapes: Sequence[str], turns: Sequence[float], end: float) -> str:
    """Shapes that are seen from the first of these seconds to the second, from the third to the fourth, and so on."""
    drawn = "\n".join(shapes)
    if turns == (0.0, end):
        return drawn
    states = [(at, "hidden" if number % 2 else "visible") for number, at in enumerate(turns) if at < end]
    if turns[0] > 0:
        states.insert(0, (0.0, "hidden"))
    values, times = ";".join(what for _, what in states), ";".join(f"{at / end:.4g}" for at, _ in states)
    return (
        f'<g visibility="{states[-1][1]}"><animate attributeName="visibility" values="{values}" keyTimes="{times}" '
        f'dur="{end:g}s" calcMode="discrete" repeatCount="indefinite"/>\n{drawn}\n</g>'
    )


def _framed(shapes: Iterable[str], columns: int, rows: int, ground: str) -> str:
    width, height = columns * CELL[0] + 2 * MARGIN, rows * CELL[1] + 2 * MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" '
        f'font-family="monospace" font-size="{CELL[1] - 4}">\n'
        f'<rect width="100%" height="100%" rx="6" fill="{ground}"/>\n<g transform="translate({MARGIN} {MARGIN})">\n'
        + "\n".join(shapes)
        + "\n</g>\n</svg>\n"
    )


def _colours(style: Style) -> tuple[str, str]:
    """Ink and paper of a style, as in #d0d0d0."""
    ink = style.color.get_truecolor(XTERM).hex if style.color and not style.color.is_default else INK
    paper = style.bgcolor.get_truecolor(XTERM).hex if style.bgcolor and not style.bgcolor.is_default else PAPER
    return (paper, ink) if style.reverse else (ink, paper)
