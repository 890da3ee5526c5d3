"""A list with a cursor by row, for pages other than the sessions."""

from __future__ import annotations

from souppp_tui.desk.actions import on_page
from souppp_tui.desk.desk import Desk
from souppp_tui.screens.page import Page
from souppp_tui.widgets.lines import Row, Rows


class ListPage(Page):
    """A page whose main part is a list; `count` and `row` say what is in it. This one is empty."""

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self.cursor = 0
        self.list = Rows(self._draw)
        self.list.clicked = self.move_to
        self.list.opened = self._opened

    def _opened(self, row: int) -> None:
        """What enter does."""
        self.move_to(row)
        enter = next((action for action in on_page(self.PAGE) if "enter" in action.keys.split(",")), None)
        if enter is not None:
            self.action_do(enter.name)

    def count(self) -> int:
        """How many rows there are."""
        return 0

    def row(self, row: int, width: int) -> Row:
        """One of them."""
        return [], ""

    def _draw(self, row: int, width: int) -> Row:
        spans, over = self.row(row, width)
        here = row == self.cursor
        return [("▸" if here else " ", "accent"), *spans], "cursor" if here else over

    def look_at_list(self) -> None:
        """Show the list as it is now."""
        count = self.count()
        self.cursor = max(0, min(self.cursor, count - 1))
        self.list.sync(count, self.cursor if count else None)

    def move_to(self, row: int) -> None:
        """Put the cursor on a row."""
        self.cursor = max(0, min(row, self.count() - 1))
        self.look_at_list()
        self.show_footer()

    def do_up(self) -> None:
        """One row up."""
        self.move_to(self.cursor - 1)

    def do_down(self) -> None:
        """One row down."""
        self.move_to(self.cursor + 1)

    def do_page_up(self) -> None:
        """A screenful up."""
        self.move_to(self.cursor - self.list.height)

    def do_page_down(self) -> None:
        """A screenful down."""
        self.move_to(self.cursor + self.list.height)

    def do_top(self) -> None:
        """To the first row."""
        self.move_to(0)

    def do_bottom(self) -> None:
        """To the last row."""
        self.move_to(self.count() - 1)
