"""The keys of a page, to be read and left."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.events import Key
from textual.screen import ModalScreen

from souppp_tui.show import words
from souppp_tui.show.paint import Line, width_of
from souppp_tui.widgets.lines import Row, Rows

WIDTH, SHARE, BESIDES = 76, 96, 7
"""Of the box: columns, percents of the screen at most, and what its border, padding and scrollbar take."""


def broken(line: Line, width: int) -> list[Line]:
    """A line, and what of its last span finds no room, below that."""
    if not line:
        return [line]
    *before, (text, role) = line
    indent = width_of(before)
    first, *more = words.wrap(text, width - indent) if text.strip() else [text]
    return [[*before, (first, role)], *([(" " * indent, role), (part, role)] for part in more)]


class Help(ModalScreen[None]):
    """Lines in a box."""

    DEFAULT_CSS = (
        """
    Help { align: center middle; background: $background 60%; }
    Help > Rows { background: $surface; border: round $accent; padding: 0 2; height: 90%; }
    """
        + f"Help > Rows {{ width: {WIDTH}; max-width: {SHARE}%; }}"
    )

    def __init__(self, title: str, lines: list[Line]) -> None:
        super().__init__()
        self.lines = lines
        self._given = lines
        self.list = Rows(self._row, "bar")
        self.list.border_title = title
        self.list.border_subtitle = "esc closes"

    def compose(self) -> ComposeResult:
        """One box."""
        yield self.list

    def on_resize(self) -> None:
        """As high as need be, and no line longer than there is room."""
        room = min(WIDTH, self.app.size.width * SHARE // 100) - BESIDES
        self.lines = [part for line in self._given for part in broken(line, room)]
        self.list.styles.height = min(len(self.lines) + 2, max(5, self.app.size.height - 2))
        self.call_after_refresh(self.list.sync, len(self.lines))

    def _row(self, row: int, width: int) -> Row:
        return self.lines[row], ""

    def on_key(self, event: Key) -> None:
        """Scroll or leave."""
        event.stop()
        event.prevent_default()
        steps = {"down": 1, "j": 1, "up": -1, "k": -1, "pagedown": 10, "space": 10, "pageup": -10}
        if event.key in steps:
            top = max(0, min(self.list.top + steps[event.key], len(self.lines) - self.list.height))
            self.list.scroll_to(y=top, animate=False, force=True)
        else:
            self.dismiss(None)
