"""The timers of many machines, kept so that the earliest is always at hand.

A machine says by itself when it is due; all that is kept here is a heap of times at which to ask it again. A timer that
is put off keeps its entry, which is moved when it comes up, so that frames which restart timers don't fill the heap.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator


class Alarms:
    """When each of many numbered machines wants to be woken."""

    def __init__(self, due: Callable[[int], float | None]) -> None:
        """`due` says when a machine wants to be woken, None for never or if there is no such machine."""
        self._due = due
        self._heap: list[tuple[float, int]] = []
        self._entries: dict[int, set[float]] = {}

    def __len__(self) -> int:
        return len(self._heap)

    def arm(self, number: int) -> None:
        """To be called after every step of a machine."""
        due = self._due(number)
        if due is None:
            return
        entries = self._entries.setdefault(number, set())
        if not entries or due < min(entries):
            entries.add(due)
            heapq.heappush(self._heap, (due, number))

    def next(self) -> float | None:
        """The earliest time at which a machine is due, None if none is."""
        while self._heap:
            at, number = self._heap[0]
            if self._due(number) == at:
                return at
            self._pop()
            self.arm(number)
        return None

    def expired(self, now: float) -> Iterator[int]:
        """The machines that may be due by now, earliest first; each is to take a step before the next is asked for."""
        while self._heap and self._heap[0][0] <= now:
            number = self._pop()
            due = self._due(number)
            if due is not None and due <= now:
                yield number
            self.arm(number)

    def _pop(self) -> int:
        at, number = heapq.heappop(self._heap)
        entries = self._entries[number]
        entries.remove(at)
        if not entries:
            del self._entries[number]
        return number
