"""How much is told of one session: whatever repeats itself without end, the latest is told and the rest is counted.

Each known way to have one session tell thousands of things is closed where it begins. This is for those that aren't
known: an event file must not fill a disk, nor a console lose what the other sessions tell.
"""

from __future__ import annotations

import re

from msgspec import Struct

from engine.api.values import COMMAND, Severity
from engine.record.events import Facts

MOST, SPAN = 20, 10.0
"""So many events of one kind and one session in so many seconds are told as they come."""
MOST_OTHERS = 20
"""And then so many more in which other words stand than in those: numbers and addresses make no difference."""
OF_ALL = "internal-error"
"""The one kind that is bounded where it is about no session: it may come with each frame."""

Told = tuple[float, Severity, str, str, int | None, str, Facts]
"""An event, but for its number."""

_VARYING = re.compile(r"\S*\d\S*")


class _Rest(Struct):
    """What is left out of one kind and one session."""

    latest: Told
    severity: Severity
    """The gravest."""
    number: int = 0
    words: set[str] = set()
    """What was told beyond the first ones."""


class Ration:
    """Of all sessions, without I/O."""

    def __init__(self) -> None:
        self._until: float | None = None
        """When counting begins anew; None while nothing is counted."""
        self._told: dict[str, dict[int | None, int]] = {}
        """How many, by kind and session."""
        self._rest: dict[tuple[str, int | None], _Rest] = {}

    def next_timer(self) -> float | None:
        """When there will be something to tell by `collect`, None for not at all."""
        return self._until if self._rest else None

    def grants(self, event: Told, now: float) -> bool:
        """Whether it is to be told now; else it is among what `collect` tells, which is to be called before."""
        _, severity, kind, text, key, _, _ = event
        if kind == COMMAND or (key is None and kind != OF_ALL):
            return True
        if self._until is None:
            self._until = now + SPAN
        told = self._told.setdefault(kind, {})
        number = told[key] = told.get(key, 0) + 1
        if number <= MOST:
            return True
        rest = self._rest.setdefault((kind, key), _Rest(event, severity))
        words = _VARYING.sub("", text)
        if words not in rest.words and len(rest.words) < MOST_OTHERS:
            rest.words.add(words)
            return True
        rest.latest, rest.severity = event, max(rest.severity, severity)
        rest.number += 1
        return False

    def collect(self, now: float) -> list[Told]:
        """Of what was left out until now, where the time for that is over, the latest of each kind and session."""
        if self._until is None or now < self._until:
            return []
        rest, self._rest = self._rest, {}
        self._until = None
        self._told.clear()
        return [_summary(each) for each in rest.values() if each.number]


def _summary(rest: _Rest) -> Told:
    at, severity, kind, text, key, name, facts = rest.latest
    if rest.number > 1:
        severity = rest.severity
        text += f" (The last of {rest.number:,} more such within {SPAN:.0f} s: the others are left out.)"
    return at, severity, kind, text, key, name, facts
