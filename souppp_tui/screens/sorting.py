"""What the table is sorted by: a letter for each column, the same on every screen."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import ComposeResult
from textual.events import Key
from textual.screen import ModalScreen

from souppp_tui.show.columns import LETTERS
from souppp_tui.show.paint import Line
from souppp_tui.show.words import fit
from souppp_tui.widgets.lines import Lines

ABREAST, WIDTH = 4, 13
"""Columns of letters, and how wide each is: all there are fit on a screen of 60x15."""
CONFIGURATION = "configuration"


class SortChooser(ModalScreen[str | None]):
    """Ends with a column's key, with `configuration`, or with None where nothing is to change."""

    DEFAULT_CSS = """
    SortChooser { align: center middle; background: $background 60%; }
    SortChooser > Lines { background: $surface; border: round $accent; width: 54; }
    """

    def __init__(self, offered: Sequence[str], shown: Sequence[str], sort: str | None, *, reverse: bool) -> None:
        super().__init__()
        self._keys = [*offered, CONFIGURATION]
        self._shown, self._sort, self._reverse = {*shown, CONFIGURATION}, sort or CONFIGURATION, reverse
        self._rows = -(-len(self._keys) // ABREAST)
        self.box = Lines("bar")
        self.box.clicked = self._clicked
        self.box.border_title = "Sort by"
        self.box.border_subtitle = "its letter; again turns it round · esc closes"

    def compose(self) -> ComposeResult:
        """One box."""
        yield self.box

    def on_mount(self) -> None:
        """Show all of it at once."""
        self.box.styles.height = self._rows + 2
        self.call_after_refresh(lambda: self.box.show([self._line(row) for row in range(self._rows)]))

    def _line(self, row: int) -> Line:
        spans: Line = []
        for key in self._keys[row :: self._rows]:
            here = key == self._sort
            arrow = " ▼" if self._reverse else " ▲"
            word = "unsorted" if key == CONFIGURATION else key
            name = fit(f"{word}{arrow if here else ''}", WIDTH - 2)
            role = "accent" if here else "strong" if key in self._shown else "dim"
            spans += [(f"{_letter(key)} ", "key"), (name, role)]
        return spans

    def _clicked(self, line: int, place: int) -> None:
        keys = self._keys[line :: self._rows]
        if place // 2 < len(keys):
            self.dismiss(keys[place // 2])

    def on_key(self, event: Key) -> None:
        """A letter chooses; all else leaves it as it is."""
        event.stop()
        event.prevent_default()
        self.dismiss(next((key for key in self._keys if event.character == _letter(key)), None))


def _letter(key: str) -> str:
    return LETTERS.get(key, "0")
