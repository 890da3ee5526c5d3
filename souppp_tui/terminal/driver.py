"""Only what changed goes to the terminal, cell by cell.

Textual repaints whole regions. Over a slow line that is most of the traffic, so this keeps what the terminal shows and
writes the difference; when nothing differs it writes nothing at all.
"""

from __future__ import annotations

import locale
import os
import select
import signal
import sys
import termios
from codecs import getincrementaldecoder
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import lru_cache
from typing import Any

from rich.cells import get_character_cell_size
from rich.color import ColorSystem
from rich.console import Console
from rich.style import Style
from textual._compositor import ChopsUpdate, CompositorUpdate, LayoutUpdate
from textual._xterm_parser import XTermParser
from textual.app import App
from textual.drivers.linux_driver import LinuxDriver
from textual.events import Resize
from textual.geometry import Size
from textual.message import Message
from textual.strip import Strip

from souppp_tui.terminal.outlet import Outlet
from souppp_tui.terminal.pastes import Pastes

Cell = tuple[str, str]
"""A character and the SGR codes it is shown with; the second half of a wide character is an empty text."""

JOIN = 5
"""Unchanged cells written again where that is shorter than moving the cursor."""
STDOUT = 1
LAG = 4096
"""Octets that the terminal has not taken: with more, nothing is drawn until it has, and then only the latest."""
FAREWELL = 2.0
"""Seconds for the terminal to take the last octets."""
INPUT_WAIT = 0.1
"""Seconds until the thread that reads the keys sees that the app has ended, or that escape was pressed alone."""

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
                if text.isascii() and text.isprintable():
                    cells += [(character, codes) for character in text]
                    continue
                for character in text:
                    size = get_character_cell_size(character)
                    if not character.isprintable():  # what is typed into a line may be anything, and is shown as it is
                        cells += [("·", codes)] * size
                        continue
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


def size_of(descriptor: int) -> tuple[int, int]:
    """Columns and rows of a terminal: as it says, else as COLUMNS and LINES say, else 80 and 24."""
    try:
        columns, rows = os.get_terminal_size(descriptor)
    except OSError:
        columns = rows = 0
    return columns or _number("COLUMNS") or 80, rows or _number("LINES") or 24


def _number(name: str) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() and len(text) < 5 else 0


def _is_there(terminal: int) -> bool:
    """Whether it has not hung up."""
    try:
        termios.tcgetattr(terminal)
    except termios.error:
        return False
    return True


def stop_in_background(terminal: int) -> None:
    """Stop where a parent of the same job was told to alone, as by SIGSTOP, and the shell has the terminal again.

    A read of what is typed for the shell would wait for long after, and the console's end for the read.
    """
    job = os.getpgrp()
    with suppress(OSError):
        if os.tcgetpgrp(terminal) != job and os.getpgid(os.getppid()) == job:
            os.kill(os.getpid(), signal.SIGSTOP)


class Driver(LinuxDriver):
    """Textual's driver, but nothing waits for the terminal, and one that has gone away ends the console in order.

    It draws on standard output, and that alone says the size. Textual and rich ask three streams and have different
    answers for a terminal of 0 columns: two sizes would take turns, and the screen would be drawn without end.
    """

    class CaughtUp(Message):
        """The terminal has taken all that it was sent, after `keeps_up` had said no."""

    class Gone(Message):
        """There is no terminal any more."""

    def __init__(self, app: App[Any], **options: Any) -> None:
        super().__init__(app, **options)
        self._size = self._get_terminal_size()
        self._encoding = sys.__stdout__.encoding if sys.__stdout__ else "ascii"
        self._outlet = Outlet(STDOUT, self._taken)
        self._skipped = False

    def _get_terminal_size(self) -> tuple[int, int]:
        return size_of(STDOUT)

    def keeps_up(self) -> bool:
        """Whether the terminal takes what it is sent; after a no, `CaughtUp` comes as soon as it does."""
        stop_in_background(STDOUT)
        if self._outlet.waiting <= LAG:
            return True
        self._skipped = True
        return self._outlet.waiting == 0  # all taken just now: nobody may have seen that something was skipped

    def write(self, data: str) -> None:
        """Hand characters to the terminal; returns at once."""
        self._outlet.write(data.encode(self._encoding, "replace"))

    def _sigcont_application(self, *arguments: object) -> None:
        """Go on after a stop. Of a SIGSTOP nobody was told: the terminal is let go of now, and then taken as usual.

        Textual would take it a second time: with two threads that read its keys, of which one never ends. A terminal
        that hangs up sends a SIGCONT as well: then there is nothing to take, and the console is about to end.
        """
        if not _is_there(self.fileno):
            return
        if self._auto_restart and not self._must_signal_resume and self._key_thread is not None:
            before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # it may be another job's by now
            self.suspend_application_mode()
            signal.signal(signal.SIGTTOU, before)
            self._must_signal_resume = True
        super()._sigcont_application(*arguments)

    def resume_application_mode(self) -> None:
        """Take the terminal again."""
        self._outlet = Outlet(STDOUT, self._taken)
        super().resume_application_mode()

    def close(self) -> None:
        """Let go of the terminal, also where nobody reads it."""
        if not self._outlet.finish(FAREWELL):
            with suppress(termios.error):
                termios.tcflush(STDOUT, termios.TCOFLUSH)  # else the kernel may wait for a reader when we end
        super().close()

    def _taken(self) -> None:
        if self._outlet.failure:
            self._tell(self.Gone())
        elif self._skipped:
            self._skipped = False
            self._tell(self.CaughtUp())

    def _tell(self, message: Message) -> None:
        with suppress(RuntimeError):  # the app has ended
            self.send_message(message)

    def process_message(self, message: Message) -> None:
        """Hand a message to the app, but no size of 0 columns that a terminal reports among the keys."""
        if not isinstance(message, Resize) or message.size:
            super().process_message(message)

    def _run_input_thread(self) -> None:
        try:
            self.run_input_thread()
        except (EOFError, OSError):
            self._tell(self.Gone())

    def run_input_thread(self) -> None:
        """Hand on what is typed until the app ends. Raises EOFError or OSError when the terminal has gone."""
        parser, pastes = XTermParser(self._debug), Pastes()
        decode = getincrementaldecoder("utf-8")("replace").decode
        poll = select.poll()
        poll.register(self.fileno, select.POLLIN)
        while not self.exit_event.is_set():
            if poll.poll(INPUT_WAIT * 1000):
                stop_in_background(self.fileno)
                octets = os.read(self.fileno, 4096)
                if not octets:
                    raise EOFError
                if text := pastes.feed(decode(octets)):
                    for message in parser.feed(text):
                        self.process_message(message)
            for message in parser.tick():
                self.process_message(message)
