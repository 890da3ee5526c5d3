"""Clients that wait until a session has a new address, which one of them has it asked for."""

from __future__ import annotations

from engine.proxy.clients import Client

NEW_IN = 90.0
"""Seconds that a client waits."""
NEW_AGAIN = 10.0
"""Seconds in which a session is given no second new address."""
MOST = 1024


class Renewals:
    """All of them. Time is passed in."""

    def __init__(self) -> None:
        self._waiting: dict[Client, tuple[int, float]] = {}
        """Session, and until when."""
        self._renewed: dict[int, float] = {}
        """When a session was last asked for one."""

    def wait(self, client: Client, key: int, now: float) -> bool | None:
        """Whether a new address is to be asked for; None if the client can't wait for one."""
        under_way = any(waits_for == key for waits_for, _ in self._waiting.values())
        too_soon = not under_way and now - self._renewed.get(key, -NEW_AGAIN) < NEW_AGAIN
        if too_soon or len(self._waiting) >= MOST:
            return None
        self._waiting[client] = key, now + NEW_IN
        if not under_way:
            self._renewed[key] = now
        return not under_way

    def of(self, key: int) -> list[Client]:
        """Those that waited for a session, and do no more."""
        return self._out([client for client, (waits_for, _) in self._waiting.items() if waits_for == key])

    def late(self, now: float) -> list[Client]:
        """Those that have waited for too long, and do no more."""
        return self._out([client for client, (_, until) in self._waiting.items() if until <= now])

    def all(self) -> list[Client]:
        """Those that waited, and do no more."""
        return self._out([*self._waiting])

    def forget(self, key: int) -> None:
        """A session is there no more."""
        self._renewed.pop(key, None)

    def _out(self, clients: list[Client]) -> list[Client]:
        for client in clients:
            del self._waiting[client]
        return clients
