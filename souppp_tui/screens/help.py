"""The keys of the page one is on, from the table of actions."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.events import Key
from textual.screen import ModalScreen

from souppp_tui.actions import GROUPS, on_page
from souppp_tui.screens.page import Page
from souppp_tui.show.paint import Span
from souppp_tui.show.words import fit
from souppp_tui.widgets.lines import Row, Rows

FILTER_HELP = (
    ("word", "found in any column"),
    ("ac:bras-2", "found in one column; | separates alternatives"),
    ("rx>1M  uptime<5m", "numbers compared: = < > <= >="),
    ("!failed", "the other way round"),
    ("is:marked", "the marked sessions"),
)


class Help(ModalScreen[None]):
    """Keys and what they do, in groups."""

    DEFAULT_CSS = """
    Help { align: center middle; background: $background 60%; }
    Help > Rows { background: $surface; border: round $accent; padding: 0 2; width: 76; max-width: 96%; height: 90%; }
    """

    def __init__(self, page: Page) -> None:
        super().__init__()
        self._page = page
        self.lines: list[list[Span]] = []
        self.list = Rows(self._row, "bar")

    def compose(self) -> ComposeResult:
        """One box."""
        self.list.border_title = f"{self._page.TITLE_WORD}: keys"
        self.list.border_subtitle = "esc closes"
        yield self.list

    def on_mount(self) -> None:
        """Write it."""
        self.lines = self._write()
        self.on_resize()

    def on_resize(self) -> None:
        """As high as need be."""
        self.list.styles.height = min(len(self.lines) + 2, max(5, self.app.size.height - 2))
        self.call_after_refresh(self.list.sync, len(self.lines))

    def _write(self) -> list[list[Span]]:
        app = self._page.console_app
        lines: list[list[Span]] = []
        wide = 2 + max(12, *(len(app.keys_of(action)) for action in on_page(self._page.PAGE)))
        for group, title in GROUPS.items():
            actions = [a for a in on_page(self._page.PAGE) if a.group == group and app.keys_of(a)]
            if actions:
                lines += [[], [(title, "accent")]] if lines else [[(title, "accent")]]
            for action in actions:
                why = self._page.why_not(action) if action.changes else ""
                lines.append([(fit(app.keys_of(action), wide), "key"), (action.help, "dim" if why else "text")])
        if self._page.PAGE == "sessions":
            lines += [[], [("Filter", "accent")]]
            lines += [[(fit(what, 18), "key"), (means, "text")] for what, means in FILTER_HELP]
        return lines

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
