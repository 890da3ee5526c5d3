"""A box with names and values: all fields of a frame, or lines to choose from."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import ComposeResult
from textual.events import Key
from textual.screen import ModalScreen

from souppp_tui.show.words import clean, fit
from souppp_tui.widgets.lines import Row, Rows


class Fields(ModalScreen[int | None]):
    """Ends with the place of the line chosen, or None."""

    DEFAULT_CSS = """
    Fields { align: center middle; background: $background 60%; }
    Fields > Rows { background: $surface; border: round $accent; padding: 0 2; width: 96%; max-width: 120; height: 10; }
    """

    def __init__(self, title: str, fields: Sequence[tuple[str, str]], enter: str = "") -> None:
        """`enter` says what that key does with a line: `copies`; without it there is nothing to choose."""
        super().__init__()
        self._title, self._fields, self._enter = clean(title), fields, enter
        self._name_width = max((len(name) for name, _ in fields), default=0) + 2
        self._cursor = 0
        self.list = Rows(self._row, "bar")

    def compose(self) -> ComposeResult:
        """One box."""
        yield self.list

    def on_resize(self) -> None:
        """As high as need be."""
        self.list.styles.height = min(len(self._fields) + 4, max(6, self.app.size.height - 4))
        self.call_after_refresh(self._sync)

    def _sync(self) -> None:
        self.list.sync(len(self._fields) + 2, self._cursor + 2)

    def _row(self, row: int, width: int) -> Row:
        if row == 0:
            return [(fit(self._title, width), "strong")], ""
        if row == 1:
            return [(f"enter {self._enter}, esc closes" if self._enter else "esc closes", "dim")], ""
        name, value = self._fields[row - 2]
        here = bool(self._enter) and row - 2 == self._cursor
        return [(fit(name, self._name_width), "dim"), (value, "text")], "cursor" if here else ""

    def on_key(self, event: Key) -> None:
        """Move, choose, leave."""
        event.stop()
        event.prevent_default()
        steps = {"down": 1, "j": 1, "up": -1, "k": -1}
        if event.key in steps:
            self._cursor = max(0, min(self._cursor + steps[event.key], len(self._fields) - 1))
            self._sync()
        elif event.key == "enter" and self._enter and self._fields:
            self.dismiss(self._cursor)
        else:
            self.dismiss(None)
