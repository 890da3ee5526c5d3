"""The differences that go to the terminal add up to the same screen as a full repaint."""

from __future__ import annotations

import io
import re

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from textual._compositor import LayoutUpdate
from textual.geometry import Region
from textual.strip import Strip

from souppp_tui.terminal.driver import Shadow

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
