"""The latest events, numbered, for any number of readers."""

from __future__ import annotations

from collections import deque

from engine.api.values import KEPT_EVENTS, Event, Severity, after


class EventLog:
    """A bounded list of events. One thread writes; any thread may read."""

    def __init__(self, kept: int = KEPT_EVENTS) -> None:
        self._events: deque[Event] = deque(maxlen=kept)
        self.last = 0
        """The number of the latest event; 0 before the first."""
        self.counts = dict.fromkeys(Severity, 0)
        """How many there ever were of each severity."""

    def add(
        self, at: float, severity: Severity, kind: str, text: str, session: int | None = None, name: str = ""
    ) -> Event:
        """Append an event under the next number."""
        text = text.encode(errors="backslashreplace").decode()  # a path may hold what is no character
        event = Event(self.last + 1, at, severity, kind, text, session, name)
        self._events.append(event)
        self.counts[severity] += 1
        self.last = event.seq
        return event

    def since(self, seq: int) -> tuple[list[Event], int]:
        """The events after number `seq`, oldest first, and how many of them are no longer kept."""
        return after(self._events.copy(), seq)  # a copy in one step: the writer may append while we look
