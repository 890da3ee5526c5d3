"""The differences that go to the terminal add up to the same screen as a full repaint."""

from __future__ import annotations

import fcntl
import io
import os
import re
import struct
import termios

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from textual._compositor import LayoutUpdate
from textual.geometry import Region
from textual.strip import Strip

from souppp_tui.terminal import farewell
from souppp_tui.terminal.driver import Shadow
from souppp_tui.terminal.pastes import Pastes

WIDTH = 20
CONSOLE = Console(file=io.StringIO(), color_system="truecolor", force_terminal=True)
STYLES = [None, Style.parse("red"), Style.parse("bold on blue"), Style.parse("reverse")]
PIECES = st.lists(st.tuples(st.text("ab 中●▁", max_size=8), st.integers(0, 3)), max_size=5)


def strip(pieces: list[tuple[str, int]]) -> Strip:
    """A line of exactly WIDTH columns."""
    return Strip([Segment(text, STYLES[style]) for text, style in pieces]).adjust_cell_length(WIDTH)


def screen(lines: list[list[tuple[str, int]]]) -> LayoutUpdate:
    """A whole screen."""
    return LayoutUpdate([[strip(line)] for line in lines], Region(0, 0, WIDTH, len(lines)))


class Emulator:
    """As much of a terminal as the differences need: cursor addressing, SGR, wide characters."""

    def __init__(self, height: int) -> None:
        self.cells = [[("", "")] * WIDTH for _ in range(height)]

    def write(self, text: str) -> None:
        """Obey."""
        x = y = 0
        style = ""
        for code, final, character in re.findall(r"\x1b\[([\d;]*)([Hm])|(.)", text):
            if final == "H":
                y, x = (int(part) - 1 for part in code.split(";"))
            elif final == "m":
                style = "" if code == "0" else code.removeprefix("0;")
            else:
                self.cells[y][x] = (character, style)
                for more in range(1, cell_len(character)):
                    self.cells[y][x + more] = ("", style)
                x += cell_len(character)


@given(st.lists(st.lists(PIECES, min_size=3, max_size=3), min_size=1, max_size=5))
def test_differences_add_up_to_the_last_screen(screens: list[list[list[tuple[str, int]]]]) -> None:
    shadow, fresh = Shadow(), Shadow()
    shadow.ascii = fresh.ascii = False
    shown, wanted = Emulator(3), Emulator(3)
    for lines in screens:
        shown.write(shadow.update(screen(lines), CONSOLE))
    wanted.write(fresh.update(screen(screens[-1]), CONSOLE))
    assert shown.cells == wanted.cells


@given(st.lists(PIECES, min_size=2, max_size=2))
def test_the_same_screen_again_is_nothing(lines: list[list[tuple[str, int]]]) -> None:
    shadow = Shadow()
    shadow.update(screen(lines), CONSOLE)
    assert shadow.update(screen(lines), CONSOLE) == ""
    shadow.forget()
    assert shadow.update(screen(lines), CONSOLE) != ""


def test_a_terminal_without_utf8_gets_ascii() -> None:
    shadow = Shadow()
    shadow.ascii = True
    text = shadow.update(screen([[("●◐✗○▸✓ ▂█ – … 中é", 0)]]), CONSOLE)
    assert text.isascii()
    assert re.sub(r"\x1b\[[\d;]*[Hm]", "", text).startswith("*~xo>+ _= - . ???")


PASTED = "\x1b[200~a\x1b]0;x\x07b\x1bhy\tc\nd\x9be\x1b[201~"


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 100])
def test_what_is_pasted_holds_no_keys(size: int) -> None:
    """An escape in it made Textual take what follows for keys: the `h` and the `y` hung up."""
    pastes, sent = Pastes(), f"j\x1b[A{PASTED}k\x1b{PASTED}\x1b"
    got = "".join(pastes.feed(sent[place : place + size]) for place in range(0, len(sent), size))
    text = "\x1b[200~a]0;xbhy\tc\nde\x1b[201~"
    assert got == f"j\x1b[A{text}k\x1b{text}\x1b"


def test_an_escape_is_not_held_back() -> None:
    """It may be a key, and the next one may not come for long."""
    assert Pastes().feed("\x1b") == "\x1b"


def test_what_steers_a_terminal_is_not_written_whoever_typed_it() -> None:
    shadow = Shadow()
    shadow.ascii = False
    strip = Strip([Segment("a\x1b[2Jb\u202ec\x9b", Style())])
    text = shadow.update(LayoutUpdate([[strip]], Region(0, 0, 20, 1)), Console())
    written = re.sub(r"\x1b\[[0-9;]*[Hm]", "", text)
    assert not any(sign in written for sign in "\x1b\x9b\u202e"), written


@pytest.mark.parametrize("columns", [0, 40, 60, 80, 120])
def test_a_long_end_tells_how_far_it_has_come(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    """Two thousand sessions end in seconds, during which the terminal was blank.

    A line too long for the terminal was written below itself five times a second.
    """
    monkeypatch.setattr(farewell, "PATIENCE", 0.0)
    left = [2000]
    terminal, ours = os.openpty()
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 24 if columns else 0, columns, 0, 0))
    seen = ""
    with farewell.Farewell(lambda: left[0], ours):
        while "-" not in seen:
            seen += os.read(terminal, 4096).decode()
        left[0] = 0
        while "[####" not in seen:
            seen += os.read(terminal, 4096).decode()
    while "Hung up 2,000 sessions in " not in seen:
        seen += os.read(terminal, 4096).decode()
    lines = [part.removesuffix("\x1b[K") for part in re.split(r"[\r\n]+", seen)]
    assert max(map(len, lines)) < (columns or 80)
    if columns != 40:
        assert any("2,000 left" in line for line in lines)
    if columns > 60:
        assert any(line.endswith("done; giving back the card") for line in lines)
    os.close(ours)
    os.close(terminal)


@pytest.mark.parametrize(
    ("left", "shown"), [(2000, "-" * 20), (1100, "#" * 9 + "-" * 11), (0, "#" * 20), (2001, "-" * 20)]
)
def test_the_bar_of_an_end(left: int, shown: str) -> None:
    assert farewell.line(left, 2000).startswith(f"Hanging up 2,000 sessions [{shown}] ")


def test_a_fault_keeps_nothing_from_being_ended() -> None:
    """The console may have ended because what it asks of the engine fails: sessions would stay without anybody."""
    ended = []

    def broken() -> int:
        raise RuntimeError("broken")

    with farewell.Farewell(broken):
        ended.append(True)
    assert ended


def test_an_end_that_is_quick_or_of_nothing_or_unseen_says_nothing() -> None:
    reader, pipe = os.pipe()
    with farewell.Farewell(lambda: 7, pipe):
        pass
    terminal, ours = os.openpty()
    with farewell.Farewell(lambda: 0, ours):
        pass
    os.close(pipe)
    assert os.read(reader, 100) == b""
    os.set_blocking(terminal, False)
    with pytest.raises(BlockingIOError):
        os.read(terminal, 100)
    for descriptor in (reader, ours, terminal):
        os.close(descriptor)
