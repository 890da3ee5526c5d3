"""Which columns the table has, and in which order."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import ComposeResult
from textual.events import Key
from textual.screen import ModalScreen

from souppp_tui.show.columns import COLUMNS
from souppp_tui.show.words import fit
from souppp_tui.widgets.lines import Row, Rows


class ColumnChooser(ModalScreen[tuple[str, ...] | None]):
    """Ends with the columns wanted; None leaves them as they are, as does wanting none at all."""

    DEFAULT_CSS = """
    ColumnChooser { align: center middle; background: $background 60%; }
    ColumnChooser > Rows {
        width: 60; max-width: 96%; height: 90%; background: $surface; border: round $accent; padding: 0 2;
    }
    """

    def __init__(self, chosen: Sequence[str], offered: Sequence[str]) -> None:
        super().__init__()
        self._order = [*chosen, *(key for key in offered if key not in chosen)]
        self._chosen = set(chosen)
        self.cursor = 0
        self.list = Rows(self._row, "bar")

    def compose(self) -> ComposeResult:
        """One box."""
        self.list.border_title = "Columns"
        self.list.border_subtitle = "space show · J K move · enter done · esc as before"
        yield self.list

    def on_resize(self) -> None:
        """As high as need be."""
        self.list.styles.height = min(len(self._order) + 2, self.app.size.height - 2)
        self.call_after_refresh(self._sync)

    def _sync(self) -> None:
        self.list.sync(len(self._order), self.cursor)

    def _row(self, row: int, width: int) -> Row:
        key = self._order[row]
        shown, here = key in self._chosen, row == self.cursor
        name = (fit(COLUMNS[key].title, 14), "strong" if shown else "dim")
        return [
            ("▸" if here else " ", "accent"),
            ("✓ " if shown else "  ", "up"),
            name,
            (COLUMNS[key].help, "text" if shown else "dim"),
        ], "cursor" if here else ""

    def on_key(self, event: Key) -> None:
        """Choose, move, leave."""
        event.stop()
        event.prevent_default()
        steps = {"down": 1, "j": 1, "up": -1, "k": -1, "pagedown": 10, "pageup": -10}
        shifts = {"J": 1, "K": -1, "shift+down": 1, "shift+up": -1}
        if event.key in steps:
            self.cursor = max(0, min(self.cursor + steps[event.key], len(self._order) - 1))
        elif event.key in shifts:
            other = max(0, min(self.cursor + shifts[event.key], len(self._order) - 1))
            order = self._order
            order[self.cursor], order[other] = order[other], order[self.cursor]
            self.cursor = other
        elif event.key == "space":
            self._chosen ^= {self._order[self.cursor]}
        elif event.key == "enter":
            self.dismiss(tuple(key for key in self._order if key in self._chosen) or None)
            return
        else:
            self.dismiss(None)
            return
        self._sync()
