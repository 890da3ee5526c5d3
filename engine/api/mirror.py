"""What a client knows of an engine elsewhere: pictures made into snapshots again. Pure.

Events are numbered anew here, so that they go on evenly when the engine is another one after it was started anew.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from msgspec.structs import replace

from engine.api.messages import ClientView, Picture
from engine.api.values import KEPT_EVENTS, Details, Event, SessionView, Snapshot, after


class Mirror:
    """The latest snapshot, details and events. One thread calls `take`; any thread may read."""

    def __init__(self) -> None:
        self.snapshot: Snapshot | None = None
        """None before the first picture."""
        self.clients: tuple[ClientView, ...] = ()
        self.details: dict[int, Details] = {}
        self._views: dict[int, SessionView] = {}
        self._events: deque[Event] = deque(maxlen=KEPT_EVENTS)
        self._last = 0
        self.seen = 0
        """The engine's number of the latest event here: a new `Follow` may begin after it."""
        self.behind = False
        """Whether the engine has more events that are on their way."""

    def forget(self) -> None:
        """The next picture is another engine's: its numbers of events begin anew."""
        self.seen = 0
        self.details.clear()

    def take(self, picture: Picture) -> None:
        """Make the next picture part of what is known."""
        changes = picture.changes
        if changes.whole:
            self._views.clear()
        for key in changes.removed:
            self._views.pop(key, None)
            self.details.pop(key, None)
        for view in changes.views:
            self._views[view.id] = view
        for details in picture.details:
            self.details[details.id] = details
        self._last += picture.lost
        for event in picture.events:
            self._last += 1
            self._events.append(replace(event, seq=self._last))
            self.seen = event.seq
        self.behind = bool(picture.events) and picture.events[-1].seq < picture.last_event
        before = self.snapshot
        self.clients = picture.clients
        self.snapshot = Snapshot(
            at=picture.at,
            card=picture.card,
            queues=picture.queues,
            sessions=tuple(self._views.values()),
            traffic=picture.traffic or (before.traffic if before is not None else b""),
            events=self._last,
            try_line=picture.try_line,
            totals=picture.totals,
            halted=picture.halted,
            steps=picture.steps,
            pace=picture.pace,
        )

    def events_since(self, seq: int) -> tuple[Sequence[Event], int]:
        """As `EngineApi.events_since`."""
        return after(self._events.copy(), seq)  # in one step: the writer may append while we look
