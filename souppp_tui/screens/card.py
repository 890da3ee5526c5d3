"""The card and its queues: rates, drops by reason, rings, CPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType

from engine.api.plural import plural
from engine.api.values import Hour
from souppp_tui.desk.desk import Desk
from souppp_tui.screens.bindings import bindings
from souppp_tui.screens.listing import ListPage
from souppp_tui.show.cardlines import card_lines
from souppp_tui.show.engines import engine_title
from souppp_tui.show.paint import Line, Span, rule
from souppp_tui.widgets.lines import Lines, Row

EVERY = 15.0
"""Seconds after which the last hour is asked for again."""


class CardPage(ListPage):
    """Facts of the card, then a block of lines for each queue."""

    PAGE = "card"
    TITLE_WORD = "Card and queues"
    BINDINGS: ClassVar[list[BindingType]] = bindings("card")

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self.status = Lines()
        self._lines: list[Line] = []
        self._hours: Mapping[int, Hour] = {}
        self._asked: float | None = None

    def compose(self) -> ComposeResult:
        """From top to bottom."""
        yield self.overview
        yield self.status
        yield self.list
        yield self.footer

    def look(self) -> None:
        """Show the latest numbers."""
        super().look()
        self._ask_hours()
        engines, width = self.engines(), self.size.width
        if not engines:
            return
        since: list[Span] = [("since zero", "dim")] if self.model.baseline else []
        what = f"card {engines[0].snapshot.card.name}" if len(engines) == 1 else plural(len(engines), "card")
        self._lines = []
        for it in engines:
            self._lines += engine_title(it, width) if it.name else []
            self._lines += card_lines(it.snapshot, it.baseline, it.meter, width, it.clients, self._hours)
        self.status.show([rule([(what, "dim")], since, width)])
        self.look_at_list()

    def _ask_hours(self) -> None:
        """Ask for the last hour when there is a new step in it."""
        now = self.model.meter.now
        if (self._asked is None or not 0 <= now - self._asked < EVERY) and not self.desk.engine.lost:
            self._asked, self._hours = now, self.desk.engine.hours()

    def count(self) -> int:
        """All lines."""
        return len(self._lines)

    def row(self, row: int, width: int) -> Row:
        """One of them."""
        return self._lines[row], ""

    def look_at_list(self) -> None:
        """There is nothing to choose here, so keys scroll and no cursor is shown."""
        self.list.sync(self.count())

    def move_to(self, row: int) -> None:
        """Scroll."""
        top = max(0, min(row, self.count() - self.list.height))
        self.cursor = top
        self.list.scroll_to(y=top, animate=False, force=True)

    def _draw(self, row: int, width: int) -> Row:
        return self.row(row, width)
