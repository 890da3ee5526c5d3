"""The timers of many machines, kept so that the earliest is always at hand.

A heap holds times at which to look at machines, and at each time there is a list of these: timers of thousands fall on
few times. A timer that is put off keeps its entry, which is moved when it comes up, so that frames which restart timers
don't fill the lists, and who only puts a timer off need not say so.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator

SHARE = 512
"""Entries that are moved in one go."""


class Alarms:
    """When each of many machines wants to be woken."""

    def __init__(self, due: Callable[[int], float | None]) -> None:
        """`due` says when a machine wants to be woken, None for never or if there is no such machine."""
        self._due = due
        self._times: list[float] = []
        """A heap, each time once."""
        self._at: dict[float, list[int]] = {}
        """Whom to look at then."""
        self._entries: dict[int, list[float]] = {}
        """The times at which each machine stands there, the earliest last: only an earlier one is ever added."""

    def __len__(self) -> int:
        return sum(map(len, self._at.values()))

    def arm(self, key: int) -> None:
        """To be called after every step of a machine that may want to be woken earlier than before."""
        due = self._due(key)
        if due is not None:
            self._enter(key, due)

    def next(self) -> float | None:
        """The earliest time at which a machine is due, None if none is.

        Where thousands were put off since, it may be too early: looking for it is done in shares as well.
        """
        for _ in range(SHARE):
            if not self._times:
                return None
            at = self._times[0]
            key = self._at[at][-1]
            due = self._due(key)
            if due is not None and due <= at:
                return at
            self._pop()
            if due is not None:
                self._enter(key, due)
        return self._times[0] if self._times else None

    def expired(self, now: float) -> Iterator[int]:
        """The machines that are due by now, earliest first; not all of them at once, where thousands were put off.

        Each is to take a step, and to be armed, before the next is asked for. Who stops early finds the others later.
        """
        for _ in range(SHARE):
            if not self._times or self._times[0] > now:
                return
            key = self._pop()
            due = self._due(key)
            if due is not None and due <= now:
                yield key
            elif due is not None:
                self._enter(key, due)

    def _enter(self, key: int, due: float) -> None:
        """See to an entry that comes up no later than this."""
        entries = self._entries.get(key)
        if entries is None:
            self._entries[key] = [due]
        elif due < entries[-1]:
            entries.append(due)
        else:
            return
        there = self._at.get(due)
        if there is None:
            self._at[due] = [key]
            heapq.heappush(self._times, due)
        else:
            there.append(key)

    def _pop(self) -> int:
        """Take an entry out, of those at the earliest time."""
        there = self._at[self._times[0]]
        key = there.pop()
        if not there:
            del self._at[heapq.heappop(self._times)]
        entries = self._entries[key]
        if len(entries) > 1:
            entries.pop()
        else:
            del self._entries[key]
        return key
