"""What is done to thousands of sessions, a share at a time: whoever waits behind it waits for milliseconds only."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from engine.sessions.fleet import SHARE, Fleet
from engine.supervisor.reporting import Reporter
from engine.supervisor.showing import Showing

ALIVE_SHARE = 2048
"""Sessions whose sign of life is noted in one go: that is quickly done."""

Action = Callable[[int, float], None]
"""Done to one session, by its key, at a time of the engine."""


class Shares:
    """What is still to be done, in the order in which it was asked for."""

    def __init__(self, fleet: Fleet, showing: Showing, reporter: Reporter) -> None:
        self._fleet = fleet
        self._showing = showing
        self._reporter = reporter
        self._to_do: deque[tuple[Action, int]] = deque()
        self._alive: deque[int] = deque()
        """Who has received something, and has yet to be noted for it."""

    @property
    def waiting(self) -> bool:
        """Whether anything is still to be done to a session."""
        return bool(self._to_do)

    @property
    def due(self) -> bool:
        """Whether `go_on` has anything to do."""
        return bool(self._to_do or self._alive)

    def each(self, action: Action, keys: Iterable[int]) -> None:
        """Have the same done to several sessions: to a share of them now, to the others by and by.

        In order, behind what was asked for earlier; a session that is gone by then is left out.
        """
        waiting = self.waiting
        self._to_do.extend((action, key) for key in keys)
        if not waiting:
            self._do(SHARE)

    def alive(self, keys: Iterable[int]) -> None:
        """These sessions have received something."""
        self._alive.extend(keys)
        self._note_alive()

    def go_on(self) -> None:
        """Do the next share."""
        self._do(SHARE)
        self._note_alive()

    def finish(self) -> None:
        """Do all that is still to be done to sessions."""
        self._do(len(self._to_do))

    def drop(self) -> None:
        """Nothing of it is to be done any more."""
        self._to_do.clear()

    def _do(self, share: int) -> None:
        for _ in range(min(share, len(self._to_do))):
            action, key = self._to_do.popleft()
            if key in self._fleet.members:
                self._showing.mark(key)
                self._reporter.attempt(action, key, self._reporter.now)

    def _note_alive(self) -> None:
        keys = [self._alive.popleft() for _ in range(min(ALIVE_SHARE, len(self._alive)))]
        self._reporter.attempt(self._fleet.note_traffic, keys, self._reporter.now)
