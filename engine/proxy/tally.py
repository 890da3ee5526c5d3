"""What goes through sessions for the proxies' clients, under way and ended: counted, and told where it has changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from typing import Protocol

from engine.proxy.clients import Passing
from engine.proxy.messages import SHARE, Counted, Counts, Through
from engine.proxy.relay import Ended, Relay
from engine.proxy.talkers import Talker, Talkers

MOST_SHOWN = 200
MOST_TALKERS = 10


class Staying(Protocol):
    """A connection that the relay doesn't have."""

    def look(self, now: float) -> None:
        """Whether it is idle for too long."""

    def close(self) -> None:
        """Its session is gone."""


class Tally:
    """Of all sessions."""

    def __init__(
        self,
        relay: Relay,
        clock: Callable[[], float],
        there: Collection[int],
        open_now: Counter[int],
        listens: Callable[[int], str],
        send: Callable[[Counts], None],
    ) -> None:
        """`there` are sessions, `open_now` how many connections each has, `listens` where its own port is open."""
        self._relay = relay
        self._clock = clock
        self._there = there
        self._open_now = open_now
        self._listens = listens
        self._send = send
        self._relayed: dict[int, Passing] = {}
        """By the relay's id."""
        self._stay: dict[Staying, Passing] = {}
        self._opened = Counter[int]()
        self._carried: dict[int, tuple[int, int]] = {}
        """Octets of what stayed here and has ended, by session."""
        self._talkers = Talkers()
        self._touched: set[int] = set()
        """Sessions of which something has changed since that was told."""
        self._told: dict[int, Counted] = {}
        self._looked_at: frozenset[int] = frozenset()

    # What there is

    def opened(self, key: int) -> None:
        """A client was let in."""
        self._opened[key] += 1

    def touch(self, key: int) -> None:
        """One has left."""
        self._touched.add(key)

    def relayed(self, id_: int, through: Passing) -> None:
        """The relay has one."""
        through.id = id_
        self._relayed[id_] = through

    def relay_ended(self, ended: Ended) -> Passing:
        """It has it no more."""
        through = self._relayed.pop(ended.id)
        if ended.client < 0:
            self._talkers.add(through.key, through.target, ended.up, ended.down)
        return through

    def stays(self, it: Staying, through: Passing) -> None:
        """One stays here."""
        self._stay[it] = through

    def gone(self, it: Staying) -> Passing | None:
        """It is over; None if that is known."""
        through = self._stay.pop(it, None)
        if through is not None:
            up, down = self._carried.get(through.key, (0, 0))
            self._carried[through.key] = up + through.up, down + through.down
            self._talkers.add(through.key, through.target, through.up, through.down)
        return through

    def staying(self, key: int | None = None) -> list[Staying]:
        """Those that stay here, of one session or of all."""
        return [it for it, through in self._stay.items() if key is None or through.key == key]

    def forget(self, key: int) -> None:
        """A session is there no more."""
        self._talkers.forget(key)
        self._told.pop(key, None)

    # What is told of it

    def look(self, keys: Iterable[int]) -> None:
        """Whose connections are to be told."""
        self._looked_at = frozenset(keys)
        self.tell(self._looked_at)

    def sweep(self) -> None:
        """Tell what has changed."""
        self.tell({*self._open_now, *self._touched, *self._looked_at})
        self._touched.clear()

    def tell(self, keys: Iterable[int]) -> None:
        """Of those of these sessions for which something has changed."""
        through = self._collected()
        changed = [self._counted(key, tuple(through.get(key, ()))) for key in keys if key in self._there]
        changed = [counted for counted in changed if self._told.get(counted.key) != counted]
        self._told |= {counted.key: counted for counted in changed}
        short = [counted for counted in changed if not (counted.through or counted.talkers)]
        for at in range(0, len(short), SHARE):
            self._send(Counts(tuple(short[at : at + SHARE])))
        for counted in changed:
            if counted.through or counted.talkers:  # as large as a message may be
                self._send(Counts((counted,)))

    def _counted(self, key: int, through: tuple[Through, ...]) -> Counted:
        up, down, _ = self._relay.counters(key)
        more_up, more_down = self._carried.get(key, (0, 0))
        return Counted(
            key,
            self._listens(key),
            self._open_now.get(key, 0),
            self._opened[key],
            up + more_up,
            down + more_down,
            through,
            self._busiest(key),
        )

    def _busiest(self, key: int) -> tuple[Talker, ...]:
        """The hosts with which most was talked through a session that somebody looks at."""
        if key not in self._looked_at:
            return ()
        under_way = [(each.target, *self._traffic(each)) for each in self._all() if each.key == key]
        return tuple(self._talkers.top(key, MOST_TALKERS, under_way))

    def _collected(self) -> dict[int, list[Through]]:
        """The connections of sessions that somebody looks at."""
        found: dict[int, list[Through]] = {key: [] for key in self._looked_at}
        if not found:
            return {}
        now = self._clock()
        for each in self._all():
            shown = found.get(each.key)
            if shown is not None and len(shown) < MOST_SHOWN:
                age = now - each.since
                shown.append(Through(age, each.peer, each.target, each.how, each.user, *self._traffic(each)))
        return found

    def _all(self) -> Iterable[Passing]:
        return (*self._relayed.values(), *self._stay.values())

    def _traffic(self, passing: Passing) -> tuple[int, int]:
        return self._relay.traffic(passing.id) if passing.id >= 0 else (passing.up, passing.down)
