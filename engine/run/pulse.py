"""Whether a process of ours still moves: it is asked again and again, and answers before it has stood still for long.

A busy machine may give it next to nothing of the processor for as long as it likes. So it is the process's own time
that counts: what passes while none of its threads waits for a processor. Nor does it stand still while it takes in
what it was told before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

LOOK = 1.0
"""Seconds between looks; more than that never counts between two, as we may get no processor either."""
STILL = 5.0
"""Seconds of its own time in which a question is answered."""
UNKNOWN = 1 / 6
"""What a second counts where the kernel doesn't tell us of the process's threads."""


class Pulse:
    """Of one process, from now on."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        pid: int,
        ask: Callable[[int], None],
        made_room: Callable[[], int],
        stands_still: Callable[[], None],
    ) -> None:
        """`ask` sends a question with this number; `made_room` tells how often the process has taken in what waited.

        `stands_still` is called once, when it does.
        """
        self._loop = loop
        self._pid = pid
        self._ask = ask
        self._made_room = made_room
        self._stands_still = stands_still
        self._asked = self._answered = 0
        self._still = 0.0
        self._before: tuple[int, dict[str, Thread]] = 0, {}
        self._timer = loop.call_later(LOOK, self._look)

    def answered(self, number: int) -> None:
        """This question is."""
        self._answered = number

    def close(self) -> None:
        """Look no more. A second call does nothing."""
        self._timer.cancel()

    def _look(self) -> None:
        (room, threads), self._before = self._before, (self._made_room(), threads_of(self._pid))
        if self._answered == self._asked:
            self._asked += 1
            self._still = 0.0
            self._ask(self._asked)
        elif self._before[0] != room:
            self._still = 0.0
        else:
            self._still += LOOK * _own_share(threads, self._before[1])
        if self._still >= STILL:
            self._stands_still()
        else:
            self._timer = self._loop.call_later(LOOK, self._look)


class Thread(Struct, frozen=True):
    """Seconds that a thread has run, and waited for a processor before it did, and whether it wants to run now."""

    ran: float
    waited: float
    wants: bool


def _own_share(before: dict[str, Thread], now: dict[str, Thread]) -> float:
    """How much of the time between two looks was the process's own, from 0 to 1."""
    if not now:
        return UNKNOWN
    waited = 0.0
    for name, thread in now.items():
        last = before.get(name, Thread(0.0, 0.0, wants=False))
        if thread.wants and thread.ran == last.ran:
            return 0.0
        waited += thread.waited - last.waited
    return max(0.0, 1 - waited / LOOK)


def threads_of(pid: int) -> dict[str, Thread]:
    """Those of a process; none if it is gone, or not to be seen."""
    found = {}
    with suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError, ValueError, IndexError):  # it has ended meanwhile, or the kernel doesn't count
                ran, waited = (thread / "schedstat").read_text().split()[:2]
                state = (thread / "stat").read_text().rpartition(")")[2].split()[0]
                found[thread.name] = Thread(int(ran) / 1e9, int(waited) / 1e9, wants=state in "RD")
    return found
