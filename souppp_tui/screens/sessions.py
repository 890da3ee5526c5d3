"""The main page: queues, sessions, the latest events."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType

from engine.api.plural import plural
from engine.settings.own_kinds import FILTER_NAME
from souppp_tui.desk.actions import BY_NAME, Action, Command
from souppp_tui.desk.desk import Desk
from souppp_tui.screens.bindings import bindings
from souppp_tui.screens.page import Page
from souppp_tui.show import eventlines, words
from souppp_tui.show.columns import COLUMNS, GAP, TALKING, Fitted, cells, layout, offered, wanted
from souppp_tui.show.engines import engine_lines
from souppp_tui.show.paint import Line, Span, rule, width_of
from souppp_tui.show.queuelines import queue_lines
from souppp_tui.widgets.filter import FilterLine
from souppp_tui.widgets.lines import Lines, Row, Rows

EDGE = 2
"""The scroll bar, and a space before it."""
MARGIN = 4
"""Cursor, mark, glyph and a space."""
TALKING_WORDS = (
    ("rate now", "in five minutes"),
    ("octets in five minutes", "in all"),
    ("octets in all", "as configured"),
)
"""What the top talkers are sorted by, and what comes next."""
LEAST_OF_FILTER = 16
"""Columns of a filter that are shown, however little room there is beside its number of sessions and the marks."""
OFFERED = 8
"""Words that a filter's last term may become, shown while it is typed."""
FILTER_HELP = (
    ("word", "found in any column"),
    ("ac:bras-2", "a part of one column (also ~); | separates alternatives"),
    ("name=home-1", "all of it"),
    ("rx>1M  rtt>50ms", "numbers compared: = < > <= >="),
    ("n:1-50", "a range: the number in the name, or of any column"),
    ("address:10.1.0.0/16", "a network, or a range of addresses"),
    ("since:5m since:14:02", "in its state for no longer than that"),
    ("!failed", "the other way round"),
    ("is:marked", "the marked sessions; also silent, queued, retrying …"),
    ("@gold", "a filter with a name; :save gold gives one"),
    ("↑ ↓  tab", "filters typed before; take over what is offered"),
)
CELL_ROLES = {"name": "strong", "rx": "rx", "tx": "tx", "rxp": "rx", "txp": "tx", "address": "text"}


class SessionsPage(Page):
    """The table of sessions and what is around it."""

    PAGE = "sessions"
    TITLE_WORD = "Sessions"
    BINDINGS: ClassVar[list[BindingType]] = bindings("sessions")

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self.queues = Lines()
        self.status = Lines()
        self.header = Lines()
        self.table = Rows(self._row)
        self.table.clicked = self._clicked
        self.table.opened = self._opened
        self.table.dragged = self._dragged
        self._drag: tuple[int, frozenset[int]] | None = None
        """Where a drag began, and what was marked before it."""
        self.header.clicked = self._head_clicked
        self.divider = Lines()
        self.events = Lines()
        self._places: list[Fitted] = []
        self._offered: list[str] = []
        """What the last term of a filter may become while it is typed."""

    def compose(self) -> ComposeResult:
        """From top to bottom."""
        yield self.overview
        yield self.queues
        yield self.status
        yield self.header
        yield self.table
        yield self.divider
        yield self.events
        yield self.footer

    # -- drawing

    def look(self) -> None:
        """Show the latest snapshot."""
        super().look()
        width, height = self.size
        model, snapshot = self.model, self.model.snapshot
        if snapshot is None or not width:
            return
        lines = self._queue_lines(width, height)
        self._set_height(self.queues, len(lines))
        self.queues.show(lines)
        self._set_height(self.events, event_lines(height))
        keys = wanted(self.desk.columns, model.several)
        self._places = layout(keys, max(1, width - EDGE - MARGIN), self.desk.times, model.sort)
        self.header.show([self._header()])
        self.look_at_table()
        self.look_at_events()

    def _queue_lines(self, width: int, height: int) -> list[Line]:
        """The card's queues; those of several cards in a line each."""
        engines = self.engines()
        if self.model.several:
            return engine_lines(engines, width, max(1, height // 8))
        (only,) = engines
        return queue_lines(only.snapshot.queues, only.meter, width, height >= 30 and width >= 100)

    def look_at_table(self, before: int | None = None) -> None:
        """Show cursor, marks and rows as they are in the model; `before` is where the cursor was if only it moved."""
        model = self.model
        row = model.position.get(model.cursor) if model.cursor is not None else None
        self.table.sync(len(model.shown), row, (before, row) if before is not None and row is not None else None)
        self.status.show([self._status()])

    def look_at_events(self) -> None:
        """Show the latest events, newest last."""
        room = event_lines(self.size.height)
        events = self.desk.log_of_events.notable
        self._set_height(self.divider, 1 if room else 0)
        self.divider.show([self._divider()])
        shown = [self.desk.mask_event(event) for event in events]
        self.events.show(eventlines.pane(shown, self.size.width, room, self.model.meter.now, self.desk.times))

    def _divider(self) -> list[Span]:
        """In the lab, with a command line that uses a session."""
        snapshot = self.model.snapshot
        line = snapshot.try_line if snapshot is not None and snapshot.card.lab else ""
        right: list[Span] = [("try: ", "dim"), (line, "strong")] if line and not self.desk.masked else []
        left: list[Span] = [("events", "dim")]
        if width_of(left) + width_of(right) + 6 > self.size.width:
            left = []
        return rule(left, right, self.size.width)

    @staticmethod
    def _set_height(widget: Lines, height: int) -> None:
        wanted = widget.styles.height
        if wanted is None or wanted.value != height:
            widget.styles.height = height

    def _status(self) -> list[Span]:
        model, width = self.model, self.size.width
        offers = len(self._offered) > 1 and not model.filter_error and bool(self.query(FilterLine))
        right = [] if offers else self._marked_and_sorted()
        room = width - width_of(right) - (7 if right else 3)
        if model.filter_error:
            left: list[Span] = [(" filter ", "chip"), _cut(f" {model.filter_error}", room - 8, "failed")]
        elif model.query.text:
            number = f" {words.count(len(model.shown))} of {words.count(len(model.views))}"
            chip = _cut(f" filter: {model.query.text} ", max(LEAST_OF_FILTER, room - len(number)), "chip")
            left = [chip, (number, "text")]
            if why := model.why_none():
                why = why.partition(";")[0] if self.desk.masked else why  # what may be meant may be a name
                left.append(_cut(f"  {why}", room - width_of(left), "failed"))
        else:
            left = [(plural(len(model.shown), "session"), "dim")]
        if offers:
            left.append((f"  tab: {'  '.join(self._offered[:OFFERED])}", "dim"))
        return rule(left, right, width)

    def _marked_and_sorted(self) -> list[Span]:
        """What the next key may be for, and the order of the rows."""
        model, said = self.model, list[Span]()
        if model.marks:
            hidden = sum(1 for session in model.marks if session not in model.position)
            text = f"{words.count(len(model.marks))} marked" + (f" ({words.count(hidden)} not shown)" if hidden else "")
            said.append((text, "marked"))
        if model.sort or model.reverse:
            said.append((("  " if said else "") + f"sort: {model.sort or 'configuration'}", "dim"))
            said.append((" ▼" if model.reverse else " ▲", "dim"))
        return said

    def _header(self) -> list[Span]:
        spans: list[Span] = [(" " * MARGIN, "dim")]
        for place in self._places:
            column = place.column
            role = "accent" if column.key == self.model.sort else "dim"
            spans.append((words.fit(column.title, place.width, column.right) + " " * GAP, role))
        return spans

    def _row(self, row: int, width: int) -> Row:
        model = self.model
        session = model.shown[row]
        view = self.desk.mask(model.views[session])
        here, marked = session == model.cursor, session in model.marks
        lost = bool(model.lost) and model.place(session) in model.lost
        readings = model.readings(session) if lost else model.meter
        glyph, state_role = words.sign(view)
        spans: list[Span] = [
            ("▸" if here else " ", "accent"),
            ("✓" if marked else " ", "marked"),
            (glyph + " ", state_role),
        ]
        for key, text in cells(view, self._places, readings):
            bare = text.strip()
            if key == "state":
                role = state_role
            elif bare in (words.DASH, "0"):
                role = "dim"
            else:
                role = "marked" if marked and key == "name" else CELL_ROLES.get(key, "text")
            spans.append((text, role))
        if lost:
            spans[1:] = [(text, "dim" if role != "marked" else role) for text, role in spans[1:]]
        return spans, "cursor" if here else ""

    def _clicked(self, row: int) -> None:
        self._drag = None
        self.model.move_to(row)
        self.moved()

    def _opened(self, row: int) -> None:
        self.model.move_to(row)
        self.action_do("details")

    def _dragged(self, first: int, last: int) -> None:
        """The rows between are marked, as long as the button is down no others but those before."""
        if self._drag is None or self._drag[0] != first:
            self._drag = first, frozenset(self.model.marks)
        self.model.marks.clear()
        self.model.marks |= self._drag[1] | set(self.model.shown[min(first, last) : max(first, last) + 1])
        self.model.move_to(last)
        self.moved()

    def _head_clicked(self, line: int, place: int) -> None:
        """Sort by the column; the other way round if it is sorted by that."""
        if 0 < place <= len(self._places):
            self._sort_or_turn(self._places[place - 1].column.key)

    def _sort_or_turn(self, key: str | None) -> None:
        if self.model.sort == key:
            self.do_reverse()
        else:
            self._sort(key)

    # -- moving

    def moved(self) -> None:
        """Rows, marks and the cursor may be others: other keys may work."""
        self.look_at_table()
        self.show_footer()

    def _go(self, rows: int) -> None:
        """Move the cursor, and nothing else."""
        model = self.model
        before = model.position.get(model.cursor) if model.cursor is not None else None
        model.move(rows)
        self.look_at_table(before)
        self.show_footer()

    def do_up(self) -> None:
        """One row up."""
        self._go(-1)

    def do_down(self) -> None:
        """One row down."""
        self._go(1)

    def do_page_up(self) -> None:
        """A screenful up."""
        self._go(-self.table.height)

    def do_page_down(self) -> None:
        """A screenful down."""
        self._go(self.table.height)

    def do_top(self) -> None:
        """To the first row."""
        self.model.move_to(0)
        self.moved()

    def do_bottom(self) -> None:
        """To the last row."""
        self.model.move_to(len(self.model.shown) - 1)
        self.moved()

    # -- marks

    def do_mark(self) -> None:
        """Mark, and go on to the next row."""
        self.model.toggle_mark()
        self._go(1)

    def do_mark_range(self) -> None:
        """Mark from the last mark to here."""
        self.model.mark_range()
        self.moved()

    def do_mark_shown(self) -> None:
        """Mark everything the filter shows."""
        self.model.mark_shown()
        self.moved()

    def do_unmark(self) -> None:
        """Take all marks away."""
        self.model.unmark()
        self.moved()

    # -- what is shown, and in which order

    def shown_columns(self) -> list[str]:
        """Those that fit on this screen."""
        return [place.column.key for place in self._places]

    def do_filter(self) -> None:
        """Ask for a filter; what matches shows while it is typed."""
        from souppp_tui.model.completing import candidates, complete

        model = self.model

        def values(column: str) -> Sequence[str]:
            return () if self.desk.masked else model.values(column)

        how = (model.several, values, model.filters)

        def changed(text: str) -> None:
            self._offered = [text.split(" ")[-1] + rest for rest in candidates(text, *how)]
            self._filtered(text)

        def completing(text: str) -> str:
            return complete(text, *how)

        hint = "name, ac:bras-2, state=up, !failed, rx>1M, n:1-50, since:5m"
        self._offered = []
        self.mount(
            FilterLine(model.query.text, changed, hint, completing, model.history, model.remember), after=self.status
        )
        self.call_after_refresh(model.prepare_filter)

    def _filtered(self, text: str) -> None:
        self.model.filter(text)
        self.moved()

    def do_details(self) -> None:
        """To the session under the cursor."""
        if self.model.cursor is not None:
            self.desk.open("details", self.model.cursor)

    def do_sort(self) -> None:
        """By the next of the columns on the screen; after the last one in the order of the configuration."""
        keys: list[str | None] = [None, *(place.column.key for place in self._places)]
        here = keys.index(self.model.sort) if self.model.sort in keys else 0
        self._sort(keys[(here + 1) % len(keys)])

    def do_sort_by(self) -> None:
        """By any column, whose letter is asked for."""
        from souppp_tui.screens.sorting import CONFIGURATION, SortChooser

        model = self.model

        def chosen(key: str | None) -> None:
            if key is not None:
                self._sort_or_turn(None if key == CONFIGURATION else key)

        chooser = SortChooser(offered(model.several), self.shown_columns(), model.sort, reverse=model.reverse)
        self.app.push_screen(chooser, chosen)

    def do_talkers(self) -> None:
        """Those that carry most first: now, in five minutes, in all; then in the order of before."""
        here = TALKING.index(self.model.sort) + 1 if self.model.sort in TALKING else 0
        if here == len(TALKING):
            self._sort(None)
            return
        self._sort(TALKING[here])
        key, said = self.desk.keys_of(BY_NAME["talkers"]), TALKING_WORDS[here]
        self.desk.say(f"Top talkers by {said[0]}; {key} again: {said[1]}.")

    def do_reverse(self) -> None:
        """Turn the order round."""
        self.model.sort_by(self.model.sort, not self.model.reverse)
        self.look()

    def do_columns(self) -> None:
        """Choose the columns."""
        from souppp_tui.screens.columns import ColumnChooser

        several = self.model.several

        def chosen(keys: tuple[str, ...] | None) -> None:
            if keys:
                self.desk.columns = keys
                self.look()

        self.app.push_screen(ColumnChooser(wanted(self.desk.columns, several), offered(several)), chosen)

    def do_back(self) -> None:
        """Stop what was begun; else out of the filter, then out of the marks."""
        if self.stop_doing():
            return
        if self.model.query.text or self.model.filter_error:
            self._filtered("")
        elif self.model.marks:
            self.model.unmark()
        self.look()

    def help_lines(self) -> list[Line]:
        """The filter's language as well."""
        lines = [*super().help_lines(), [], [("Filter", "accent")]]
        return [*lines, *([(words.fit(what, 22), "key"), (means, "text")] for what, means in FILTER_HELP)]

    def more_commands(self) -> Iterator[Command]:
        """Sorting by each column, also those that are not on the screen."""
        yield Command("sort configuration", "", "in the order they were added", "", partial(self._sort, None))
        model = self.model
        nothing = "" if model.query.terms else "There is no filter in force to keep."
        say = partial(self.desk.say, "Type a name behind it, as in `save failed-gold`.", "warning")
        yield Command("save", "", "keep this filter under a name: @NAME", nothing, say, "NAME", self._save_filter)
        for name, written in sorted(model.filters.items()):
            yield Command(f"filter @{name}", "", written, "", partial(self._narrow, f"@{name}"))
            yield Command(f"forget @{name}", "", written, "", partial(self.desk.name_filter, name, None))
        for key in offered(self.model.several):
            yield Command(f"sort {key}", "", f"by {COLUMNS[key].help}", "", partial(self._sort, key))

    def _narrow(self, text: str) -> None:
        self._filtered(text)
        self.model.remember(text)

    def _save_filter(self, typed: str) -> None:
        """Give the filter in force a name."""
        name, query = typed.removeprefix("@").casefold(), self.model.query
        if not query.terms:
            self.desk.say("There is no filter in force to keep.", "warning")
        elif not re.fullmatch(FILTER_NAME, name):
            self.desk.say("A filter's name is of small letters, digits, - _ and ., as in failed-gold.", "warning")
        elif name in query.named:
            self.desk.say(f"@{name} is in this filter itself; choose another name.", "warning")
        else:
            self.desk.name_filter(name, query.text)

    def _sort(self, key: str | None) -> None:
        self.model.sort_by(key, reverse=bool(key and COLUMNS[key].most))
        self.look()

    def word(self, action: Action) -> str:
        """`unmark` where the cursor is on a marked session."""
        if action.name == "mark" and self.model.cursor in self.model.marks:
            return "unmark"
        return super().word(action)


def _cut(text: str, room: int, role: str) -> Span:
    """A text in as much of the room as it needs."""
    return words.fit(text, min(words.columns(words.clean(text)), max(0, room))), role


def event_lines(height: int) -> int:
    """How many events fit under the table of a screen this high."""
    return 0 if height < 14 else 2 if height < 20 else 4 if height < 30 else 6 if height < 45 else 8
