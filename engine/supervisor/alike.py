"""What ends many sessions alike: the first few are told one by one, the others by their number. Without I/O.

A concentrator that goes away takes a thousand sessions with it: one cause, which a thousand warnings would hide, with
all that was told before. So from the FEW-th of one kind within SPAN on each is there only for who looks for it, and
their number is told soon, and then at intervals that double, until for CALM there is none.
"""

from __future__ import annotations

from collections import deque

from msgspec import Struct, field

from engine.api.ending import End, EndKind
from engine.api.plural import plural

FEW = 5
SPAN, CALM = 2.0, 30.0
"""Seconds."""
FIRST, LONGEST = 1.0, 300.0
"""Seconds until the number of those that were not told is."""


class _Run(Struct):
    """Ends of one kind."""

    latest: deque[float] = field(default_factory=lambda: deque(maxlen=FEW))
    """When the latest were."""
    many: bool = False
    """Whether they are not told one by one any more."""
    untold: int = 0
    due: float | None = None
    """When their number is to be told."""
    pause: float = FIRST


class Alike:
    """The ends of all sessions of one card."""

    def __init__(self) -> None:
        self._runs: dict[tuple[EndKind, bool], _Run] = {}

    def is_one_of_many(self, end: End, now: float) -> bool:
        """A session has ended; whether that is not to be told by itself."""
        what = end.kind, end.was_up
        run = self._runs.setdefault(what, _Run())
        if run.latest and now - run.latest[-1] > CALM:
            run = self._runs[what] = _Run(untold=run.untold, due=run.due)
        run.many = run.many or (len(run.latest) == FEW and now - run.latest[0] <= SPAN)
        run.latest.append(now)
        if run.many:
            run.untold += 1
            run.due = now + run.pause if run.due is None else run.due
        return run.many

    def next_timer(self) -> float | None:
        """When `told` has something to say, None for not at all."""
        return min((run.due for run in self._runs.values() if run.due is not None), default=None)

    def told(self, now: float) -> list[str]:
        """What is to be told by now of those that were not, a sentence each."""
        found = []
        for (kind, was_up), run in self._runs.items():
            if run.due is not None and run.due <= now:
                noun, became = ("more session", "lost") if was_up else ("more dial", "failed")
                found.append(f"{plural(run.untold, noun)} {became}: {kind}.")
                run.untold, run.due, run.pause = 0, None, min(2 * run.pause, LONGEST)
        return found
