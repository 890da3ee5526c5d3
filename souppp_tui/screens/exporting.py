"""What leaves the console for a file or the clipboard: a box says what and how."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.events import Key
from textual.screen import ModalScreen

from engine.api.plural import plural
from engine.api.values import Details, Event, SessionView
from souppp_tui.screens.display import Display
from souppp_tui.show import words
from souppp_tui.show.columns import offered
from souppp_tui.terminal.newfile import new_file
from souppp_tui.widgets.lines import Row, Rows

if TYPE_CHECKING:  # sheets are imported when one is made: the first screen must not wait for them
    from souppp_tui.show.sheets import Sheet

DETAILED = 100
"""Sessions whose details are asked for at once, at most: each keeps the engine busy."""
PATIENCE, LOOK = 3.0, 0.05
"""Seconds for them to come, and from look to look."""
Made = Callable[["Sheet"], None]
Choice = tuple[str, str, Callable[[Made], None]]
"""What can be exported, a few words about it, and what makes it, now or in a moment."""
HOWS = {"enter": "csv", "c": "csv", "J": "json", "y": "clipboard"}


class ExportBox(ModalScreen[tuple[int, str] | None]):
    """Ends with the place of the choice and how: `csv`, `json` or `clipboard`."""

    DEFAULT_CSS = """
    ExportBox { align: center middle; background: $background 60%; }
    ExportBox > Rows { background: $surface; border: round $accent; padding: 0 2; width: 76; max-width: 96%; }
    """

    def __init__(self, choices: Sequence[tuple[str, str]]) -> None:
        super().__init__()
        self._choices, self._cursor = choices, 0
        self.list = Rows(self._row, "bar")
        self.list.border_title = "Export what, and how?"
        self.list.border_subtitle = "enter CSV · J JSON · y clipboard · esc closes"
        self.list.clicked = self._clicked

    def compose(self) -> ComposeResult:
        """One box."""
        yield self.list

    def on_resize(self) -> None:
        """As high as need be."""
        self.list.styles.height = len(self._choices) + 2
        self.call_after_refresh(self._sync)

    def _sync(self) -> None:
        self.list.sync(len(self._choices), self._cursor)

    def _row(self, row: int, width: int) -> Row:
        name, about = self._choices[row]
        here = row == self._cursor
        mark = ("▸ " if here else "  ", "accent")
        return [mark, (words.fit(name, 24), "strong"), (about, "dim")], "cursor" if here else ""

    def _clicked(self, row: int) -> None:
        self._cursor = row
        self._sync()

    def on_key(self, event: Key) -> None:
        """Move, choose, leave."""
        event.stop()
        event.prevent_default()
        steps = {"down": 1, "j": 1, "up": -1, "k": -1}
        if event.key in steps:
            self._cursor = max(0, min(self._cursor + steps[event.key], len(self._choices) - 1))
            self._sync()
        elif event.key in HOWS:
            self.dismiss((self._cursor, HOWS[event.key]))
        elif event.key in ("escape", "q", "ctrl+c"):
            self.dismiss(None)


class Exporting(Display):
    """Export and copy; a page says what there is in `choices`."""

    def choices(self) -> list[Choice]:
        """What can be exported here: of the marked sessions, else of those that are shown."""
        views = [self.desk.mask(view) for view in self._exported()]
        whose = plural(len(views), "session")
        targets = self.targets()
        return [
            ("the table as shown", f"{whose}, {len(self.shown_columns())} columns", self._table(self.shown_columns())),
            ("the table, all columns", whose, self._table(offered(self.model.several))),
            ("address history", f"{whose}: which addresses, and when", self._addresses),
            ("details", f"{plural(len(targets), 'session')}: negotiated, frames, counters", self._make_details),
            ("events", "all that are kept, oldest first", self._make_events),
        ]

    def shown_columns(self) -> Sequence[str]:
        """Keys of the table's columns on this screen."""
        return offered(self.model.several)

    def _exported(self) -> list[SessionView]:
        model = self.model
        return model.targets() if model.marks else [model.views[session] for session in model.shown]

    def do_export(self) -> None:
        """Ask what and how, and do it."""
        choices = self.choices()

        def chosen(answer: tuple[int, str] | None) -> None:
            if answer is not None:
                place, how = answer
                choices[place][2](lambda sheet: self._give(sheet, how))

        self.app.push_screen(ExportBox([(name, about) for name, about, _ in choices]), chosen)

    def _give(self, sheet: Sheet, how: str) -> None:
        number = plural(len(sheet.rows), "line")
        if not sheet.rows:
            self.desk.say("There is nothing to export.", "warning")
        elif how == "clipboard":
            self.app.copy_to_clipboard(sheet.tabs())
            self.desk.say(f"Copied {number} of {sheet.name}.")
        else:
            path = Path(f"souppp-{sheet.name}-{time.strftime('%Y%m%d-%H%M%S')}.{how}")
            try:
                made = new_file(path.absolute(), (sheet.csv() if how == "csv" else sheet.json()).encode())
            except OSError as error:
                self.desk.say(f"Nothing written, {(error.strerror or '').lower()}: {path}.", "failed")
            else:
                self.desk.say(f"Wrote {number} to {made.name} in {made.parent}.")

    def _table(self, keys: Sequence[str]) -> Callable[[Made], None]:
        from souppp_tui.show import sheets

        views = [self.desk.mask(view) for view in self._exported()]
        return lambda made: made(sheets.sessions(views, keys, self.model.meter))

    def _addresses(self, made: Made) -> None:
        from souppp_tui.show import sheets

        names = {view.id: self.desk.mask(view).name for view in self._exported()}
        ledgers = self.desk.engine.ledgers([*names])
        made(sheets.addresses([(names[key], ledgers[key].addresses) for key in names if key in ledgers]))

    def _make_events(self, made: Made) -> None:
        made(self.events_sheet([*self.desk.log_of_events.kept()]))

    def events_sheet(self, events: Sequence[Event]) -> Sheet:
        """Events as they may be shown."""
        from souppp_tui.show import sheets

        return sheets.events(map(self.desk.mask_event, events))

    def _make_details(self, made: Made) -> None:
        """The engine makes them when it is asked for the first time."""
        from souppp_tui.show import sheets

        targets = self.targets()[:DETAILED]
        if self.desk.masked:
            self.desk.say("Details are full of names and addresses; press x first.", "warning")
            return
        found: dict[int, Details] = {}
        tries = round(PATIENCE / LOOK)

        def look() -> None:
            nonlocal tries
            tries -= 1
            for view in targets:
                if view.id not in found and (details := self.desk.engine.details(view.id)) is not None:
                    found[view.id] = details
            if len(found) < len(targets) and tries > 0:
                self.set_timer(LOOK, look)
            else:
                made(sheets.details({view.name: found[view.id] for view in targets if view.id in found}))

        look()

    def do_copy_what(self) -> None:
        """Choose what to copy of the targets, a line each."""
        from souppp_tui.screens.fields import Fields
        from souppp_tui.show import sheets

        targets = self.targets()
        found = sheets.lines(targets)
        shown = sheets.lines([self.desk.mask(view) for view in targets])

        def told(what: str) -> str:
            first, number = shown[what][0].replace("\t", " "), len(shown[what])
            return first if number == 1 else f"{first} … ({words.count(number)})"

        def chosen(place: int | None) -> None:
            if place is not None:
                what = [*found][place]
                self.app.copy_to_clipboard("\n".join(found[what]))
                self.desk.say(f"Copied {plural(len(found[what]), 'line')}: {what}.")

        if found:
            self.app.push_screen(Fields("Copy what?", [(what, told(what)) for what in found], "copies"), chosen)
        else:
            self.desk.say("There is no session here.", "warning")
