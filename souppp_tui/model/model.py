"""What the console knows: the sessions shown and their order, the cursor, the marks, the totals. Pure.

Cursor and marks are sessions' keys, never rows, so that no sort and no filter can move them to another session.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice, repeat
from typing import Any

from msgspec.structs import replace

from engine.api.values import COMMAND, Event, SessionState, SessionView, Severity, Snapshot
from souppp_tui.model.query import Query, QueryError, haystack, known_words, parse, why_none
from souppp_tui.model.several import Combined
from souppp_tui.model.traffic import Meter, Meters, Stopped
from souppp_tui.show.columns import COLUMNS
from souppp_tui.show.engines import Engine
from souppp_tui.show.overview import Totals
from souppp_tui.show.rates import Readings
from souppp_tui.show.words import life

LIVE = frozenset(SessionState) - {SessionState.DOWN, SessionState.FAILED}
"""States in which hanging up ends something."""
CALM = 2.0
"""Seconds between two sorts by a number that always changes, so that rows can be read."""
NONE: frozenset[int] = frozenset()
SETUP_WINDOW = 5.0
KEPT_FILTERS = 50
KEPT_EVENTS = 10_000
KEPT_GRAVE = 2000
KEPT_NOTABLE = 16
KEPT_ALARMS = 500
REPLIED = frozenset({"not-added", "not-changed", "not-fixed", "capture"})
"""Errors that whoever caused them was told in a reply."""
"""Events above DEBUG that are at hand at once: more than the main page has room for."""


class Model:
    """Fed by `take`; everything else answers from the latest snapshot."""

    def __init__(self) -> None:
        self.snapshot: Snapshot | None = None
        self.meter: Meter | Meters = Meter()
        self.views: dict[int, SessionView] = {}
        self.shown: list[int] = []
        """The sessions in the table, in its order."""
        self.position: dict[int, int] = {}
        """The row of each session shown."""
        self.cursor: int | None = None
        self._awaited: int | None = None
        """A new session, which the cursor is to go to."""
        self.anchor: int | None = None
        """Where a range of marks starts."""
        self.marks: set[int] = set()
        self.query: Query = parse("")
        self.filter_error = ""
        """What is wrong with the filter that was typed last; the one before it stays in force."""
        self.filters: dict[str, str] = {}
        """Those that have a name."""
        self.grouping = "state"
        """By what the summary makes groups (`souppp_tui.model.groups.GROUPINGS`)."""
        self.history: list[str] = []
        """Those that were in force, the latest last."""
        self._none: tuple[Query, str] | None = None
        self.sort: str | None = None
        """A column's key; None is the order in which the sessions were added."""
        self.reverse = False
        self.lives: Counter[str] = Counter()
        """How many sessions are in which of `words.LIVES`."""
        self.capturing = 0
        """Of how many sessions frames go to a file."""
        self.flaps = 0
        self.baseline: Snapshot | None = None
        """Counters are shown from here on."""
        self.baseline_flaps = 0
        self.baseline_counters: dict[int, dict[str, int]] = {}
        """A session's own counters (`Details.counters`) when they were set to zero."""
        self._ups: deque[tuple[float, int]] = deque()
        self._found: set[int] | None = None
        """Those that the filter finds; None where that is to be worked out, as for one whose answer always changes."""
        self._sorted_at = -CALM

    # -- feeding

    def take(self, snapshot: Snapshot) -> None:
        """Make the next snapshot the latest one."""
        before = self.snapshot
        self.snapshot = snapshot
        if before is None and isinstance(snapshot, Combined):
            self.meter = Meters(len(snapshot.parts))
        if snapshot.at < self.meter.now:  # the host's clock was set back
            self._ups.clear()
            self._sorted_at = snapshot.at
        self.meter.take(snapshot)
        old, new = before.sessions if before else (), snapshot.sessions
        changed = [(was, view) for was, view in zip(old, new, strict=False) if was is not view]
        anew = before is None or len(old) != len(new) or any(was.id != view.id for was, view in changed)
        if anew:
            self._count(snapshot, first=before is None)
        else:
            self._recount(changed, snapshot.at)
        column = COLUMNS.get(self.sort or "")
        live_sort = column is not None and column.live and column.key != "uptime"
        due = live_sort and snapshot.at - self._sorted_at >= CALM - 0.01
        moved = bool(changed) and bool(self.query.terms or self.sort)
        if anew or moved or self.query.live or due:
            self.arrange(resort=anew or moved or due or not live_sort)
        if self._awaited is not None:
            self._arrive()

    def _count(self, snapshot: Snapshot, first: bool) -> None:
        """Count all sessions: there are others, or they stand in another order."""
        known = self.views
        self.views = {view.id: view for view in snapshot.sessions}
        self.lives = Counter(map(life, snapshot.sessions))
        self.capturing = sum([view.capturing for view in snapshot.sessions])
        self.flaps = sum([view.flaps for view in snapshot.sessions])
        if not first:
            self._note_ups([(known.get(view.id), view) for view in snapshot.sessions], snapshot.at)
        self._found = None
        self.marks -= known.keys() - self.views.keys()

    def _recount(self, changed: Sequence[tuple[SessionView, SessionView]], at: float) -> None:
        """Count what changed only: most sessions just stay up."""
        for was, view in changed:
            self.views[view.id] = view
            self.lives[life(was)] -= 1
            self.lives[life(view)] += 1
            self.capturing += view.capturing - was.capturing
            self.flaps += view.flaps - was.flaps
        if self._found is not None:
            views = [view for _, view in changed]
            self._found.difference_update([view.id for view in views])
            self._found.update([view.id for view in self.query.pick(views, self.meter, self.marks)])
        self._note_ups(changed, at)

    def _note_ups(self, changed: Iterable[tuple[SessionView | None, SessionView]], at: float) -> None:
        came_up = sum(
            view.up_since is not None and (was is None or was.up_since != view.up_since) for was, view in changed
        )
        if came_up:
            self._ups.append((at, came_up))

    # -- what is shown

    def arrange(self, resort: bool = True) -> None:
        """Work out which sessions are shown, in which order, and keep the cursor on its session."""
        if self.snapshot is None:
            return
        sessions = self._filtered(self.snapshot.sessions)
        if resort:
            self._sorted_at = self.meter.now
            self._show(self._sorted(sessions))
            return
        fresh = {view.id for view in sessions}
        shown = [session for session in self.shown if session in fresh]
        kept = set(shown)
        self._show(shown + [view.id for view in sessions if view.id not in kept])

    def _filtered(self, sessions: Sequence[SessionView]) -> Sequence[SessionView]:
        if not self.query.terms:
            return sessions
        if self._found is not None:
            return [view for view in sessions if view.id in self._found]
        found = self.query.pick(sessions, self.meter, self.marks)
        if not self.query.live:
            self._found = {view.id for view in found}
        return found

    def _show(self, shown: list[int]) -> None:
        place = self.position.get(self.cursor, 0) if self.cursor is not None else 0
        self.shown = shown
        self.position = {session: row for row, session in enumerate(shown)}
        if self.cursor not in self.position:
            self.cursor = shown[min(place, len(shown) - 1)] if shown else None
        if self.anchor not in self.position:
            self.anchor = None

    def _sorted(self, sessions: Sequence[SessionView]) -> list[int]:
        if self.sort is None:
            ordered = [view.id for view in sessions]
            return ordered[::-1] if self.reverse else ordered
        value, meter = COLUMNS[self.sort].value, self.meter
        keyed = [(value(view, meter), view.id) for view in sessions]
        known = sorted([pair for pair in keyed if pair[0] is not None], key=_first, reverse=self.reverse)
        return [session for _, session in known] + [session for key, session in keyed if key is None]

    def filter(self, text: str) -> None:
        """Show only the sessions that match; `filter_error` says what is wrong with the filter, if anything is."""
        try:
            query = parse(text, self.filters)
        except QueryError as error:
            self.filter_error = str(error)
            return
        self.filter_error = ""
        narrower = query.narrows(self.query)
        self.query = query
        here = self.cursor
        if narrower:  # its sessions are among those shown, in their order
            left = query.pick([self.views[session] for session in self.shown], self.meter, self.marks)
            self._show([view.id for view in left])
            self._found = None if query.live else set(self.shown)
        else:
            self._found = None
            self.arrange()
        if self.cursor != here and self.shown:
            self.cursor = self.shown[0]  # what was typed is looked for from the top

    def prepare_filter(self) -> None:
        """Put together what words are looked for in, so that the first letter typed finds it made."""
        for view in self.views.values():
            haystack(view)

    def remember(self, text: str) -> None:
        """Have a filter in the history, as the latest."""
        if text := text.strip():
            others = [each for each in self.history if each != text]
            self.history = [*others[1 - KEPT_FILTERS :], text]

    def why_none(self) -> str:
        """Why the filter shows nothing, in a few words; empty where it shows something."""
        if self.shown or not self.query.terms or self.snapshot is None:
            return ""
        if self._none is None or self._none[0] is not self.query:
            why = why_none(self.query, self.snapshot.sessions, self.meter, self.marks)
            self._none = self.query, why
        return self._none[1]

    def values(self, column: str) -> list[str]:
        """What stands in a column, each once."""
        return known_words(column, list(self.views.values()), self.meter)

    def sort_by(self, key: str | None, reverse: bool = False) -> None:
        """Sort by a column; None is the order in which the sessions were added."""
        self.sort, self.reverse = key, reverse
        self.arrange()

    # -- cursor and marks

    def go_to(self, session: int) -> None:
        """Put the cursor on a session, as soon as it is there if it has just been added."""
        self._awaited = session
        self._arrive()

    def _arrive(self) -> None:
        if self._awaited in self.position:
            self.cursor, self._awaited = self._awaited, None
        elif self._awaited in self.views:
            self._awaited = None  # the filter hides it

    def move(self, rows: int) -> None:
        """Move the cursor by some rows, as far as there are rows."""
        self.move_to(self.position.get(self.cursor, 0) + rows if self.cursor is not None else 0)

    def move_to(self, row: int) -> None:
        """Put the cursor on the session that is in this row now."""
        if self.shown:
            self.cursor = self.shown[max(0, min(row, len(self.shown) - 1))]

    def toggle_mark(self) -> None:
        """Mark the session under the cursor, or take its mark away; ranges start here."""
        if self.cursor is not None:
            self.marks ^= {self.cursor}
            self.anchor = self.cursor

    def mark_range(self) -> int:
        """Mark all sessions between the last one marked and the cursor; returns how many are in the range."""
        if self.cursor is None:
            return 0
        here = self.position[self.cursor]
        there = self.position.get(self.anchor, here) if self.anchor is not None else here
        span = self.shown[min(here, there) : max(here, there) + 1]
        self.marks.update(span)
        self.anchor = self.cursor
        return len(span)

    def mark_shown(self) -> None:
        """Mark all sessions that the filter shows."""
        self.marks.update(self.shown)

    def unmark(self) -> None:
        """Take all marks away."""
        self.marks.clear()
        self.anchor = None

    def targets(self) -> list[SessionView]:
        """The sessions an action is for: the marked ones, else the one under the cursor. Shown ones come first."""
        if self.marks:
            hidden = self.marks - self.position.keys()
            ids: Iterable[int] = [*sorted(self.marks - hidden, key=self.position.__getitem__), *sorted(hidden)]
        else:
            ids = [] if self.cursor is None else [self.cursor]
        return [self.views[session] for session in ids if session in self.views]

    # -- several engines

    def engines(self) -> list[Engine]:
        """All that are looked at, by their places; the only one has no name."""
        snapshot, baseline, meter = self.snapshot, self.baseline, self.meter
        if isinstance(meter, Meter):
            return [Engine("", snapshot, baseline, meter)] if snapshot is not None else []
        assert isinstance(snapshot, Combined)
        before = [part.snapshot for part in baseline.parts] if isinstance(baseline, Combined) else repeat(None)
        return [
            Engine(part.name, part.snapshot, old, its, part.clients, part.lost, part.writes)
            for part, old, its in zip(snapshot.parts, before, meter.of, strict=False)
        ]

    @property
    def several(self) -> bool:
        """Whether more than one is looked at."""
        return isinstance(self.meter, Meters)

    def place(self, session: int) -> int | None:
        """Which engine a session is of; None where there is only one."""
        return session % len(self.meter.of) if isinstance(self.meter, Meters) else None

    def readings(self, session: int) -> Readings:
        """What was measured of a session; time stands still for one whose engine can't be reached."""
        snapshot = self.snapshot
        if isinstance(snapshot, Combined) and (part := snapshot.parts[session % len(snapshot.parts)]).lost:
            return Stopped(self.meter, part.at)
        return self.meter

    @property
    def lost(self) -> frozenset[int]:
        """The places of those engines of several that can't be reached."""
        return self.snapshot.lost if isinstance(self.snapshot, Combined) else NONE

    # -- totals

    def totals(self) -> Totals:
        """All sessions together, since the baseline if there is one."""
        flaps = self.flaps - self.baseline_flaps
        zeroed = self.baseline is not None
        all_of_them = Totals(self.lives, self.meter.total(), self.setup_rate(), flaps, zeroed, self.capturing)
        if not (lost := self.lost):
            return all_of_them
        unknown = [view for view in self.views.values() if self.place(view.id) in lost]
        return replace(all_of_them, lives=self.lives - Counter(map(life, unknown)), unknown=len(unknown))

    def setup_rate(self) -> float:
        """Sessions that came up per second, over the last 5 s."""
        while self._ups and self._ups[0][0] <= self.meter.now - SETUP_WINDOW:
            self._ups.popleft()
        return sum(number for _, number in self._ups) / SETUP_WINDOW

    def zero(self) -> None:
        """Show counters from now on."""
        self.baseline, self.baseline_flaps = self.snapshot, self.flaps
        self.meter.zero()

    def unzero(self) -> None:
        """Show counters from the engine's start."""
        self.baseline, self.baseline_flaps = None, 0
        self.meter.unzero()
        self.baseline_counters.clear()

    def octets(self, session: int) -> tuple[int, int]:
        """What a session has received and sent, since the baseline if there is one."""
        return self.meter.octets(session)


def _first(pair: tuple[Any, int]) -> Any:
    return pair[0]


class EventLog:
    """The latest events, as many as one wants to scroll through."""

    def __init__(self) -> None:
        self.events: deque[Event] = deque(maxlen=KEPT_EVENTS)
        self.grave: deque[Event] = deque(maxlen=KEPT_GRAVE)
        """Warnings and errors, however many others come after them."""
        self.notable: deque[Event] = deque(maxlen=KEPT_NOTABLE)
        """The latest that are more than DEBUG."""
        self.commands: deque[Event] = deque(maxlen=KEPT_GRAVE)
        """What was commanded, and what came of it."""
        self.alarms: list[Event] = []
        """Errors that nobody has seen yet, at most KEPT_ALARMS, oldest first."""
        self.seq = 0
        """The number of the latest event taken."""
        self.lost = 0
        """Events that the engine no longer had when we asked, or that have left our list."""

    def take(self, events: Sequence[Event], lost: int) -> None:
        """Add what `EngineApi.events_since(self.seq)` gave."""
        self.lost += lost + max(0, len(self.events) + len(events) - KEPT_EVENTS)
        self.events.extend(events)
        self.grave.extend([event for event in events if event.severity >= Severity.WARNING])
        self.notable.extend([event for event in events if event.severity > Severity.DEBUG])
        self.commands.extend([event for event in events if event.kind == COMMAND])
        alarms = [event for event in events if event.severity >= Severity.ERROR and event.kind not in REPLIED]
        self.alarms = [*self.alarms, *alarms][-KEPT_ALARMS:]
        if events:
            self.seq = events[-1].seq

    def kept(self) -> Iterator[Event]:
        """All there are, oldest first: what matters outlives what doesn't."""
        first = self.events[0].seq if self.events else 0
        apart = sorted((*self.grave, *self.commands), key=lambda event: event.seq) if first > 1 else ()
        older = {event.seq: event for event in apart if event.seq < first}
        return chain(older.values(), self.events)

    def latest(self, session: int, number: int) -> list[Event]:
        """The latest events above DEBUG that are about a session, oldest first."""
        about = (e for e in reversed(self.events) if e.session == session and e.severity > Severity.DEBUG)
        return list(islice(about, number))[::-1]

    def matching(self, severity: Severity, text: str) -> list[Event]:
        """The events from this severity on whose text, session or engine holds `text`, oldest first."""
        needle = text.casefold()
        return [
            event
            for event in self.kept()
            if event.severity >= severity
            and (not needle or needle in f"{event.text}\n{event.name}\n{event.engine}".casefold())
        ]
