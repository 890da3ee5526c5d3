"""The command palette: every action of the page by name, sorting by any column, themes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from textual.command import CommandPalette, DiscoveryHit, Hit, Hits, Provider

from souppp_tui.actions import on_page
from souppp_tui.columns import COLUMNS
from souppp_tui.screens.page import Page
from souppp_tui.themes import NAMES

HIDDEN = ("commands", "up", "down", "page_up", "page_down", "back")
"""Not worth a line: they are how one gets around, here too."""


class Actions(Provider):
    """What the page under the palette can do."""

    def _commands(self) -> Iterator[tuple[str, str, Callable[[], None]]]:
        page = self.screen
        if not isinstance(page, Page):
            return
        for action in on_page(page.PAGE):
            if action.name not in HIDDEN:
                why = page.why_not(action)
                keys = page.console_app.keys_of(action)
                text = f"{action.help}{f'  [{keys}]' if keys else ''}{f'  (not now: {why})' if why else ''}"
                yield action.name.replace("_", " "), text, partial(page.action_do, action.name)
        if page.PAGE == "sessions":
            yield "sort by configuration", "the order in which sessions were added", partial(_sort, page, None)
            for column in COLUMNS.values():
                yield f"sort by {column.key}", column.help, partial(_sort, page, column.key)
        for name in NAMES:
            yield f"theme {name}", "colours", partial(page.console_app.set_theme, name)

    async def discover(self) -> Hits:
        """All of them, before anything is typed."""
        for name, text, run in self._commands():
            yield DiscoveryHit(_plain(name), run, name, text)

    async def search(self, query: str) -> Hits:
        """Those that match."""
        matcher = self.matcher(query)
        for name, text, run in self._commands():
            score = matcher.match(name)
            if score > 0:
                yield Hit(score, matcher.highlight(name), run, name, text)


def _plain(text: str) -> str:
    return text.replace("[", "\\[")


def _sort(page: Page, key: str | None) -> None:
    page.model.sort_by(key, reverse=bool(key and COLUMNS[key].live))
    page.look()


def open_palette(page: Page) -> None:
    """Put the palette over the page."""
    page.app.push_screen(CommandPalette(providers=[Actions], placeholder="Find a command"))
