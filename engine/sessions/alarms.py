"""The timers of many machines, kept so that the earliest is always at hand.

A heap holds times at which to look at a machine. A timer that is put off keeps its entry, which is moved when it comes
up, so that frames which restart timers don't fill the heap.
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
        self._ask = due
        self._due: dict[int, float] = {}
        self._heap: list[tuple[float, int]] = []
        self._entries: dict[int, list[float]] = {}
        """The times at which each machine stands in the heap, the earliest last: only an earlier one is ever added."""

    def __len__(self) -> int:
        return len(self._heap)

    def arm(self, key: int) -> None:
        """To be called after every step of a machine, and when it is gone."""
        due = self._ask(key)
        if due is None:
            self._due.pop(key, None)
        elif due != self._due.get(key):
            self._due[key] = due
            self._enter(key, due)

    def next(self) -> float | None:
        """The earliest time at which a machine is due, None if none is.

        Where thousands were put off since, it may be too early: looking for it is done in shares as well.
        """
        for _ in range(SHARE):
            if not self._heap:
                return None
            at, key = self._heap[0]
            due = self._due.get(key)
            if due == at:
                return at
            self._pop()
            if due is not None:
                self._enter(key, due)
        return self._heap[0][0] if self._heap else None

    def expired(self, now: float) -> Iterator[int]:
        """The machines that are due by now, earliest first.

        Each is to take a step, and to be armed, before the next is asked for. Who stops early finds the others later.
        """
        while self._heap and self._heap[0][0] <= now:
            key = self._pop()
            due = self._due.get(key)
            if due is not None and due <= now:
                del self._due[key]  # its entry is gone: the same time once more is to be entered anew
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
        heapq.heappush(self._heap, (due, key))

    def _pop(self) -> int:
        _, key = heapq.heappop(self._heap)
        entries = self._entries[key]
        entries.pop()
        if not entries:
            del self._entries[key]
        return key
