"""How far what the operator has begun with several sessions has come, in a line. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from msgspec import Struct, field

from engine.api.values import SessionState, SessionView
from souppp_tui.show.words import COMING_UP, DOWN, HANGING_UP, LIVES, QUEUED, columns, count, duration, life

WAITING = "waiting"
"""Nothing has happened to it yet."""
UNDER_WAY = (WAITING, QUEUED, COMING_UP, HANGING_UP)
STUCK = 60.0
"""Seconds without any change after which nothing more is waited for."""


class Doing(Struct):
    """Sessions that are dialled, or hung up."""

    said: str
    """What was said when it began."""
    before: Mapping[int, SessionView]
    """What they were then."""
    dials: bool
    """Whether they are to come up; else they are to go down."""
    began: float
    _counts: Counter[str] = field(default_factory=Counter)
    _changed: float = 0.0

    def look(self, views: Mapping[int, SessionView], now: float) -> bool:
        """Count where they stand now; whether it is still under way."""
        counts = Counter(self._stands(was, views[key]) for key, was in self.before.items() if key in views)
        if counts != self._counts or not self._changed:
            self._counts, self._changed = counts, now
        return self.left > 0 and now - self._changed < STUCK

    def _stands(self, was: SessionView, view: SessionView) -> str:
        there = view.state is SessionState.DOWN and not self.dials  # who was down before is done with
        if (view.state, view.since) == (was.state, was.since) and not view.queued and not there:
            return WAITING
        return life(view)

    @property
    def left(self) -> int:
        """How many are under way."""
        return sum(self._counts[word] for word in self._under_way)

    @property
    def _under_way(self) -> Sequence[str]:
        """Who is to come up passes `down` on its way from one dial to the next."""
        return (*UNDER_WAY, DOWN) if self.dials else UNDER_WAY

    def unfinished(self, views: Mapping[int, SessionView]) -> Sequence[int]:
        """Those that are under way."""
        there = ((key, was, views[key]) for key, was in self.before.items() if key in views)
        return [key for key, was, view in there if self._stands(was, view) in self._under_way]

    def line(self, now: float, stop: str, room: int) -> str:
        """`Dialling 1,971 sessions. 1,570 up · 381 queued · 20 failed · ~4 s · esc stops`; `stop` is the key for it.

        In less `room` without the time, then with states' signs, then with what is left alone: never without the key.
        """
        if len(self.before) == 1:
            return self.said
        counts = [(word, count(self._counts[word])) for word in (*LIVES, WAITING) if self._counts[word]]
        words = [f"{number} {word}" for word, number in counts]
        signs = [f"{LIVES[word][0]} {number}" if word in LIVES else f"{number} {word}" for word, number in counts]
        done, spent = len(self.before) - self.left, now - self.began
        rest = spent * self.left / done if done and spent >= 1 else 0.0
        time = [f"~{duration(rest)}"] if rest >= 1 else []  # the last few, who get no answer, come at no such pace
        key = [f"{stop} stops"] if self.left and self.dials and stop else []
        lines = [
            f"{self.said} {' · '.join(parts)}"
            for parts in ([*words, *time, *key], [*words, *key], [*signs, *key], [f"{count(self.left)} left", *key])
        ]
        return next((line for line in lines if columns(line) <= room), lines[-1])
