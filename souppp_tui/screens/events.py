"""All events that are kept, and the one under the cursor in full: filter, follow or stay, jump, write to a file."""

from __future__ import annotations

from collections.abc import Sized
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType

from engine.api.values import Event, Severity
from souppp_tui.desk.actions import Action
from souppp_tui.desk.desk import Desk
from souppp_tui.model.causes import Cause, causes
from souppp_tui.screens.bindings import bindings
from souppp_tui.screens.exporting import Choice
from souppp_tui.screens.listing import ListPage
from souppp_tui.show import eventlines, words
from souppp_tui.show.paint import Span, rule
from souppp_tui.widgets.filter import FilterLine
from souppp_tui.widgets.lines import Lines, Row

DETAIL_LINES = 4
"""The height of the part that shows one event in full, its rule included."""
LEAST_LINES = 3
"""The same in a window of fewer lines than ROOM."""
ROOM = 18
"""On a screen lower than this the list needs that part's lines itself."""


class EventsPage(ListPage):
    """The log."""

    PAGE = "events"
    TITLE_WORD = "Events"
    NONE = "Nothing has happened yet."
    TOGETHER = "causes"
    """What is counted where events stand together."""
    BINDINGS: ClassVar[list[BindingType]] = bindings("events")

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self.status = Lines()
        self.detail = Lines()
        self.following = True
        self.severity = Severity.DEBUG
        self.text = ""
        self.grouped = False
        self._events: list[Event] = []
        """Those in the list; of a group the latest."""
        self._causes: list[Cause] = []
        self._seen: tuple[int, Severity, str, bool] | None = None

    def compose(self) -> ComposeResult:
        """From top to bottom."""
        yield self.overview
        yield self.status
        yield self.list
        yield self.detail
        yield self.footer

    def see(self) -> None:
        """Alarms are no longer."""
        self.desk.log_of_events.alarms.clear()

    def everything(self) -> Sized:
        """What there is to choose from."""
        return self.desk.log_of_events.events

    def gone(self) -> int:
        """How many there were that are kept no longer."""
        return self.desk.log_of_events.lost

    def matching(self) -> list[Event]:
        """What is listed."""
        return self.desk.log_of_events.matching(self.severity, self.text)

    def look(self) -> None:
        """Show the latest events, or stay where one is. What is alarming is seen now."""
        log = self.desk.log_of_events
        self.see()
        super().look()
        seen = (log.seq, self.severity, self.text, self.grouped)
        if seen != self._seen and (self.following or self._seen is None or seen[1:] != self._seen[1:]):
            here = self._events[self.cursor].seq if self._events and not self.following else None
            self._events = self.matching()
            self._causes = causes(self._events) if self.grouped else []
            if self.grouped:
                self._events = [cause.latest for cause in self._causes]
            last = len(self._events) - 1
            self.cursor = next((row for row, event in enumerate(self._events) if event.seq == here), last)
            self._seen = seen
        self.status.show([self._status()])
        self.detail.styles.height = DETAIL_LINES if self.size.height >= ROOM else LEAST_LINES
        self.look_at_list()

    def look_at_list(self) -> None:
        """Show the list, and the event under the cursor in full."""
        super().look_at_list()
        self.detail.show(self._detail())

    def _detail(self) -> list[list[Span]]:
        if not self._events:
            found = self.text or self.severity > Severity.DEBUG
            return [rule([], [], self.size.width), [(f" {'None of them matches.' if found else self.NONE}", "dim")]]
        event = self.desk.mask_event(self._events[self.cursor])
        role = eventlines.ROLES[event.severity]
        title: list[Span] = [(words.date_clock(event.at), "dim"), (f"  {event.severity.name.lower()}", role)]
        if event.engine:
            title.append((f"  {event.engine}", "accent"))
        if event.name:
            title.append((f"  {event.name}", "strong"))
        lines = words.wrap(event.text, self.size.width - 2)
        return [rule(title, [(event.kind, "dim")], self.size.width), *([(f" {line}", role)] for line in lines)]

    def _status(self) -> list[Span]:
        log = self.desk.log_of_events
        left: list[Span] = [(f"{self.TITLE_WORD.lower()}: {words.count(len(self._events))}", "dim")]
        if self.grouped:
            left = [(f"{self.TOGETHER}: {words.count(len(self._events))}", "dim")]
        if self.text:
            left = [
                (f" filter: {self.text} ", "chip"),
                (f" {words.count(len(self._events))} of {words.count(len(self.everything()))}", "text"),
            ]
        if self.severity > Severity.DEBUG:
            left.append((f"  {self.severity.name.lower()} and above", "warning"))
        if gone := self.gone():
            left.append((f"  {words.count(gone)} older ones are gone", "warning"))
        waiting = log.seq - (self._seen[0] if self._seen else 0)
        right: list[Span] = (
            [("following", "up")] if self.following else [(f"staying · {words.count(waiting)} new", "warning")]
        )
        return rule(left, right, self.size.width)

    def count(self) -> int:
        """The events that match."""
        return len(self._events)

    def row(self, row: int, width: int) -> Row:
        """One event, or how many sessions it happened to."""
        event = self.desk.mask_event(self._events[row])
        if not self.grouped:
            return eventlines.line(event, self.model.meter.now, self.desk.times), ""
        cause = self._causes[row]
        return eventlines.cause(event, cause.times, len(cause.sessions), self.model.meter.now, self.desk.times), ""

    def word(self, action: Action) -> str:
        """`stay` while following."""
        return "stay" if action.name == "follow" and self.following else action.word

    def move_to(self, row: int) -> None:
        """Moving away from the newest event ends following."""
        super().move_to(row)
        if self.cursor < self.count() - 1:
            self.following = False
        self.look()

    def do_bottom(self) -> None:
        """The newest, and follow again."""
        self.following = True
        self.look()
        super().do_bottom()

    def do_follow(self) -> None:
        """Follow the newest, or stay."""
        self.following = not self.following
        self.look()

    def do_severity(self) -> None:
        """Everything, then information, warnings, errors only."""
        self.severity = Severity((self.severity + 1) % len(Severity))
        self.look()

    def do_group(self) -> None:
        """What has one cause together, or each event by itself."""
        self.grouped = not self.grouped
        self.look()

    def do_filter(self) -> None:
        """Ask for a text."""
        self.mount(FilterLine(self.text, self._filtered, "part of an event or of a session's name"), after=self.status)

    def _filtered(self, text: str) -> None:
        self.text = text
        self.look()

    def do_jump(self) -> None:
        """To the event's session in the table, or to all of the group's, marked."""
        if self.grouped and self._events:
            self._narrow(self._causes[self.cursor])
            return
        session = self._events[self.cursor].session if self._events else None
        model = self.model
        if session is None or session not in model.views:
            self.desk.say("This event is not about a session that still exists.", "warning")
            return
        if session not in model.position:
            model.filter("")
        model.cursor = session
        self.desk.back_to_sessions()

    def _narrow(self, cause: Cause) -> None:
        model = self.model
        there = cause.sessions.keys() & model.views.keys()
        if not there:
            self.desk.say("This is not about sessions that still exist.", "warning")
            return
        model.unmark()
        model.marks |= there
        model.filter("is:marked")
        self.desk.back_to_sessions()

    def choices(self) -> list[Choice]:
        """The events that are shown."""
        shown = self._events
        return [("events", f"the {words.count(len(shown))} shown", lambda made: made(self.events_sheet(shown)))]

    def do_copy(self) -> None:
        """Copy the event."""
        if self._events:
            self.copy(words.clean(self.desk.mask_event(self._events[self.cursor]).text))

    def do_back(self) -> None:
        """Out of the filter, then back."""
        if self.text:
            self._filtered("")
        else:
            super().do_back()
