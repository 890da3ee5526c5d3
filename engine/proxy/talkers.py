"""Where clients go through each session, and how much goes there and comes from there: by host, the busiest kept.

What is kept is bounded, so a host that was forgotten for others may come again and count from nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

HOSTS = 256
"""Of a session that are kept when there are twice as many."""
TOTAL = 50_000
"""Of all sessions; beyond, each forgets its less busy half."""
LEAST = 8
"""That it keeps even then."""


class Talker(NamedTuple):
    """One host."""

    host: str
    """As clients named it."""
    connections: int
    up: int
    """Octets to it."""
    down: int


class Talkers:
    """Of all sessions of a process."""

    def __init__(self) -> None:
        self._by_key: dict[int, dict[str, Talker]] = {}
        self._total = 0

    def add(self, key: int, target: str, up: int, down: int) -> None:
        """A connection of a session to a host and port has ended."""
        hosts = self._by_key.setdefault(key, {})
        before = len(hosts)
        _add(hosts, target, up, down)
        self._total += len(hosts) - before
        if len(hosts) > 2 * HOSTS:
            self._keep(key, HOSTS)
        if self._total > TOTAL:
            for each in [*self._by_key]:
                self._keep(each, max(LEAST, len(self._by_key[each]) // 2))

    def top(self, key: int, number: int, under_way: Iterable[tuple[str, int, int]] = ()) -> list[Talker]:
        """The busiest first; `under_way` are connections that have not ended: their target, octets up and down."""
        hosts = dict(self._by_key.get(key, {}))
        for target, up, down in under_way:
            _add(hosts, target, up, down)
        return _busiest(hosts, number)

    def forget(self, key: int) -> None:
        """A session is gone."""
        self._total -= len(self._by_key.pop(key, {}))

    def _keep(self, key: int, number: int) -> None:
        hosts = self._by_key[key]
        self._by_key[key] = {each.host: each for each in _busiest(hosts, number)}
        self._total += len(self._by_key[key]) - len(hosts)

    def __len__(self) -> int:
        return self._total


def _add(hosts: dict[str, Talker], target: str, up: int, down: int) -> None:
    host = target.rpartition(":")[0] or target
    had = hosts.get(host, Talker(host, 0, 0, 0))
    hosts[host] = Talker(host, had.connections + 1, had.up + up, had.down + down)


def _busiest(hosts: dict[str, Talker], number: int) -> list[Talker]:
    return sorted(hosts.values(), key=lambda each: (-each.up - each.down, each.host))[:number]
