"""Which sessions' details somebody looks at, and when they are to be made anew."""

from __future__ import annotations

FRESH = 1.0
"""Seconds after which details are made again even if nothing happened: they show running timers."""
KEPT = 5.0
"""Seconds after which nobody looks on who has not said so."""


class Watched:
    """Sessions by key; all times are the engine's."""

    def __init__(self) -> None:
        self._until: dict[int, float] = {}
        self._next = 0.0

    @property
    def keys(self) -> set[int]:
        """Those that somebody looks at."""
        return set(self._until)

    def add(self, key: int, now: float) -> None:
        """Somebody looks at a session, for KEPT seconds at least."""
        if not self._until:
            self._next = now + FRESH
        self._until[key] = now + KEPT

    def forget(self, key: int) -> None:
        """The session is gone."""
        self._until.pop(key, None)

    def next_timer(self) -> float | None:
        """When `due` is to be asked again, None for not at all."""
        return self._next if self._until else None

    def gone(self, now: float) -> list[int]:
        """Sessions that nobody has looked at for KEPT seconds, told once."""
        gone = [key for key, until in self._until.items() if until <= now]
        for key in gone:
            del self._until[key]
        return gone

    def due(self, now: float) -> list[int]:
        """Sessions whose details are to be made anew now."""
        if not self._until or now < self._next:
            return []
        self._next = now + FRESH
        return list(self._until)
