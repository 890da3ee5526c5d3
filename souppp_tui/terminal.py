"""Only what changed goes to the terminal, cell by cell.

Textual repaints whole regions. Over a slow line that is most of the traffic, so this keeps what the terminal shows and
writes the difference; when nothing differs it writes nothing at all.
"""

from __future__ import annotations

import locale
from collections.abc import Iterable, Iterator
from functools import lru_cache
from queue import Full

from rich.cells import get_character_cell_size
from rich.color import ColorSystem
from rich.console import Console
from rich.style import Style
from textual._compositor import ChopsUpdate, CompositorUpdate, LayoutUpdate
from textual.drivers.linux_driver import LinuxDriver
from textual.geometry import Size
from textual.strip import Strip

Cell = tuple[str, str]
"""A character and the SGR codes it is shown with; the second half of a wide character is an empty text."""

JOIN = 5
"""Unchanged cells written again where that is shorter than moving the cursor."""

_ASCII = str.maketrans("●◐✗○▸✓–…·─│▼▲→←•▁▂▃▄▅▆▇█", "*~xo>+-.--|v^><*__..--==")


@lru_cache(maxsize=4096)
def _codes(style: Style | None, system: ColorSystem | None) -> str:
    return "" if style is None or system is None else style._make_ansi_codes(system)


class Shadow:
    """What the terminal shows now."""

    def __init__(self) -> None:
        self._lines: dict[int, list[Cell]] = {}
        self._size = Size(0, 0)
        self.ascii = "utf" not in locale.nl_langinfo(locale.CODESET).lower()
        """The terminal has no UTF-8: draw with ASCII characters."""

    def forget(self) -> None:
        """The terminal may show anything: write everything with the next update."""
        self._lines.clear()

    def update(self, update: CompositorUpdate, console: Console) -> str:
        """The characters to write for an update, empty if the terminal shows it already."""
        if isinstance(update, LayoutUpdate) and update.region.size != self._size:
            self.forget()
            self._size = update.region.size
        system = console._color_system
        out: list[str] = []
        for y, x, strips in _pieces(update):
            line = self._lines.setdefault(y, [])
            cells = self._cells(strips, system)
            if len(line) < x + len(cells):
                line.extend([("\0", "")] * (x + len(cells) - len(line)))
            if line[x : x + len(cells)] != cells:
                _difference(line, cells, x, y, out)
                line[x : x + len(cells)] = cells
        return "".join(out)

    def _cells(self, strips: Iterable[Strip], system: ColorSystem | None) -> list[Cell]:
        cells: list[Cell] = []
        for piece in strips:
            for text, style, control in piece:
                if control:
                    continue
                codes = _codes(style, system)
                if text.isascii():
                    cells += [(character, codes) for character in text]
                    continue
                for character in text:
                    size = get_character_cell_size(character)
                    if size and self.ascii:
                        plain = character.translate(_ASCII)
                        cells += [(plain if plain.isascii() else "?", codes)] * size
                    elif size:
                        cells.append((character, codes))
                        cells += [("", codes)] * (size - 1)
                    elif cells:
                        cells[-1] = (cells[-1][0] + character, cells[-1][1])
        return cells


def _pieces(update: CompositorUpdate) -> Iterator[tuple[int, int, Iterable[Strip]]]:
    """The parts of an update: line, column and what stands there."""
    if isinstance(update, LayoutUpdate):
        for y, strips in enumerate(update.strips, update.region.y):
            yield y, update.region.x, strips
    elif isinstance(update, ChopsUpdate):
        for y, left, right in update.spans:
            for end, (x, piece) in zip(update.chop_ends[y], update.chops[y].items(), strict=False):
                if piece is not None and x < right and end > left:
                    yield y, x, (piece if end <= right else piece.crop(0, right - x),)


def _difference(old: list[Cell], new: list[Cell], x: int, y: int, out: list[str]) -> None:
    """Write the runs of cells that differ; `old` is the whole line, `new` stands from column x on."""
    differs = [place for place, cell in enumerate(new) if cell != old[x + place]]
    codes = None
    start = 0
    while start < len(differs):
        stop = start
        while stop + 1 < len(differs) and differs[stop + 1] - differs[stop] <= JOIN:
            stop += 1
        first, last = differs[start], differs[stop]
        while first and new[first][0] == "":
            first -= 1
        out.append(f"\x1b[{y + 1};{x + first + 1}H")
        for character, wanted in new[first : last + 1]:
            if wanted != codes:
                out.append(f"\x1b[0;{wanted}m" if wanted else "\x1b[0m")
                codes = wanted
            out.append(character)
        start = stop + 1
    if codes:
        out.append("\x1b[0m")


class Driver(LinuxDriver):
    """Textual's driver, but a terminal that has gone away blocks nothing."""

    def write(self, data: str) -> None:
        """Write to the terminal; nowhere once its writer has died."""
        writer = self._writer_thread
        while writer is not None and writer.is_alive():
            try:
                writer._queue.put(data, timeout=0.2)
            except Full:
                continue
            return
