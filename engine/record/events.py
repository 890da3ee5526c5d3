"""The latest events, numbered, for any number of readers."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from itertools import islice

from engine.api.values import COMMAND, KEPT_EVENTS, Event, Severity, after

Facts = tuple[tuple[str, str | int | float], ...]
KEPT_GRAVE = 1000
"""Warnings and errors that are kept however many others come after them."""
KEPT_COMMANDS = 1000
"""And so what was commanded."""


class EventLog:
    """A bounded list of events. One thread writes; any thread may read."""

    def __init__(self, kept: int = KEPT_EVENTS) -> None:
        self._events: deque[Event] = deque(maxlen=kept)
        self._grave: deque[Event] = deque(maxlen=KEPT_GRAVE)
        self._commands: deque[Event] = deque(maxlen=KEPT_COMMANDS)
        self.last = 0
        """The number of the latest event; 0 before the first."""
        self.counts = dict.fromkeys(Severity, 0)
        """How many there ever were of each severity."""

    def add(
        self,
        at: float,
        severity: Severity,
        kind: str,
        text: str,
        session: int | None = None,
        name: str = "",
        facts: Facts = (),
    ) -> Event:
        """Append an event under the next number."""
        text = text.encode(errors="backslashreplace").decode()  # a path may hold what is no character
        event = Event(self.last + 1, at, severity, kind, text, session, name, facts)
        self._events.append(event)
        if severity >= Severity.WARNING:
            self._grave.append(event)
        elif kind == COMMAND:
            self._commands.append(event)
        self.counts[severity] += 1
        self.last = event.seq
        return event

    def since(self, seq: int) -> tuple[list[Event], int]:
        """The events after number `seq`, oldest first, and how many of them are no longer kept."""
        if seq >= (last := self.last):  # who waits for events asks fifty times a second
            return [], 0
        with suppress(RuntimeError):  # the writer appends meanwhile
            newest = [*islice(reversed(self._events), last - seq)]
            if newest and newest[-1].seq == seq + 1:
                return newest[::-1], 0
        # Each in one step, for the same reason.
        grave, commands, events = self._grave.copy(), self._commands.copy(), self._events.copy()
        new, lost = after(events, seq)
        first = new[0].seq if lost else 0
        apart = sorted((*grave, *commands), key=lambda event: event.seq) if lost else ()
        older = [event for event in apart if seq < event.seq < first]
        return older + new, lost - len(older)
