"""What happens to sessions, counted: for those who look now and then and want to know what they missed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from engine.api.ending import EndKind
from engine.api.values import SessionState, Severity, Totals
from engine.sessions.session import Ended, SessionEvent, StateChanged

_Kind = TypeVar("_Kind")


class Tally:
    """Counts since the engine's start. One thread calls `note`; any thread may ask for the `totals`."""

    def __init__(self) -> None:
        self._dials = self._setups = 0
        self._setup_seconds = 0.0
        self._dialled: dict[int, float] = {}
        """When an attempt began that has come to nothing yet, by session."""
        # All kinds from the start: who reads a dictionary in another thread must not see it grow.
        self._failures = dict.fromkeys(EndKind, 0)
        self._ends = dict.fromkeys(EndKind, 0)

    def note(self, key: int, event: SessionEvent, now: float) -> None:
        """Something happened to a session."""
        match event:
            case StateChanged(SessionState.DIALLING):
                self._dials += 1
                self._dialled[key] = now
            case StateChanged(SessionState.UP) if key in self._dialled:
                self._setups += 1
                self._setup_seconds += now - self._dialled.pop(key)
            case Ended(end):
                self._dialled.pop(key, None)
                (self._ends if end.was_up else self._failures)[end.kind] += 1

    def totals(self, events: Mapping[Severity, int]) -> Totals:
        """All of it; `events` tells how many there were of each severity."""
        return Totals(
            self._dials,
            self._setups,
            self._setup_seconds,
            _occurred(self._failures),
            _occurred(self._ends),
            _occurred(events),
        )


def _occurred(counts: Mapping[_Kind, int]) -> tuple[tuple[_Kind, int], ...]:
    return tuple((kind, count) for kind, count in counts.items() if count)
