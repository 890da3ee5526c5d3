"""What each session has carried, over all its dials and the engine's restarts, until the operator resets it.

The counters of the data path never go back. What is shown is one of them and an offset, which a session's view has: so
it moves with every packet, and changes nothing that others measure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial

from msgspec import Struct, field

from engine.api.values import TRAFFIC_FIELDS, BusyMonth
from engine.record.counters import Account, Month
from engine.supervisor.reporting import Reporter

SAMPLE = 300.0
"""Seconds from one sample to the next."""
SHARE = 512
"""Sessions that are seen to in one go."""
_FIELDS = len(TRAFFIC_FIELDS)
_RX_BYTES, _TX_BYTES = TRAFFIC_FIELDS.index("rx_bytes"), TRAFFIC_FIELDS.index("tx_bytes")
Numbers = tuple[int, int, int, int]
Traffic = Callable[[], Sequence[int]]
"""Gives what is in `Snapshot.traffic`."""


class _Counted(Struct):
    name: str
    offsets: Numbers
    since: float
    """Unix time."""
    proxied: tuple[int, int, int] = (0, 0, 0)
    """Connections, octets from the line, octets to it."""
    proxy_said: tuple[int, int, int] = (0, 0, 0)
    """What the proxy told last, which counts from its own start."""
    sampled: Numbers = (0, 0, 0, 0)
    """What the data path had counted at the last sample."""
    months: list[Month] = field(default_factory=list)
    line: bytes = b""
    """As it is to stand in the file."""


class Counting:
    """All sessions of one card, without I/O."""

    def __init__(self, traffic: Traffic, known: Mapping[str, Account], reporter: Reporter) -> None:
        """`known` are accounts of earlier runs, by session's name."""
        self._traffic = traffic
        self._known = dict(known)
        self._reporter = reporter
        self._counted: dict[int, _Counted] = {}
        self._due: float | None = None
        self._before: float | None = None
        """When the last sample was taken."""
        self._numbers: Sequence[int] = ()
        self._span = SAMPLE
        self._latest: Sequence[int] = ()
        self._looked = 0.0
        self._pending: list[int] = []
        self.fresh = False
        """Whether there is something new for the disk; whoever writes it says no."""

    def add(self, key: int, name: str) -> None:
        """A session is there: it goes on with what one of its name had carried."""
        now = self._numbers_of(self._now, key)
        account = self._known.pop(name, None)
        if account is None:
            self._counted[key] = _Counted(name, _less((0, 0, 0, 0), now), self._wall, sampled=now)
        else:
            offsets = _less(account.totals, now)
            line = account.line()
            self._counted[key] = _Counted(
                name, offsets, account.since, account.proxied, sampled=now, months=account.months, line=line
            )
        if self._due is None:
            self._plan()

    def rename(self, key: int, name: str) -> None:
        """It is called this now."""
        self._counted[key].name = name

    def forget(self, key: int) -> None:
        """A session is gone, and what it has carried with it."""
        self._counted.pop(key, None)
        self.fresh = True

    def reset(self, key: int) -> None:
        """Count from now on. What it took in its months stays."""
        counted = self._counted[key]
        counted.offsets = _less((0, 0, 0, 0), self._numbers_of(self._now, key))
        counted.since = self._wall
        counted.proxied = (0, 0, 0)
        self._write(key, counted, self._now)

    def note_proxied(self, key: int, opened: int, received: int, sent: int) -> None:
        """What the proxy says that went through it for a session, since its own start."""
        counted = self._counted.get(key)
        if counted is None:
            return
        said, before = (opened, received, sent), counted.proxy_said
        if any(new < old for new, old in zip(said, before, strict=True)):
            before = (0, 0, 0)  # it was started anew
        counted.proxy_said = said
        mine = counted.proxied
        counted.proxied = (mine[0] + opened - before[0], mine[1] + received - before[1], mine[2] + sent - before[2])

    def proxied(self, key: int) -> tuple[int, int, int]:
        """See `Ledger.proxied`; any thread."""
        counted = self._counted.get(key)
        return counted.proxied if counted is not None else (0, 0, 0)

    def offsets(self, key: int) -> Numbers:
        """What to add to the data path's counters."""
        return self._counted[key].offsets

    def since(self, key: int) -> float:
        """Unix time."""
        return self._counted[key].since

    def months(self, key: int) -> tuple[BusyMonth, ...]:
        """How busy it was in the month before, and in this one; any thread."""
        counted = self._counted.get(key)
        return tuple(month.busy for month in counted.months.copy()) if counted is not None else ()

    def lines(self) -> list[bytes]:
        """What is to be in the file: as of the last sample, or of the last reset of a session."""
        self.fresh = False
        known = [account.line() for account in self._known.values()]  # until all sessions are there
        return known + [counted.line for counted in self._counted.values() if counted.line]

    def finish(self) -> Iterator[Callable[[], None]]:
        """What brings all lines up to now, a share of the sessions each."""
        numbers, keys = self._traffic(), [*self._counted]
        self.fresh = True
        for first in range(0, len(keys), SHARE):
            yield partial(self._finish, keys[first : first + SHARE], numbers)

    def _finish(self, keys: Iterable[int], numbers: Sequence[int]) -> None:
        for key in keys:
            if (counted := self._counted.get(key)) is not None:
                self._write(key, counted, numbers)

    def ready(self) -> None:
        """All sessions of the configuration are there: what others had carried is forgotten."""
        self._known.clear()

    # Samples

    def next_timer(self) -> float | None:
        """When `handle_timer` is to be called, None for not at all."""
        return self._reporter.now if self._pending else self._due

    def handle_timer(self, now: float) -> None:
        """Take a sample if it is due, and see to a share of the sessions; calling it early does nothing."""
        if self._due is not None and now >= self._due and not self._pending:
            self._numbers = self._traffic()
            self._span = now - self._before if self._before is not None else SAMPLE
            self._before = now
            self._pending = [*self._counted]
            self._plan()
        share, self._pending = self._pending[:SHARE], self._pending[SHARE:]
        month = datetime.fromtimestamp(self._wall - 1.0, UTC).strftime("%Y-%m") if share else ""
        for key in share:
            if (counted := self._counted.get(key)) is not None:
                self._sample(key, counted, month)
        self.fresh = self.fresh or bool(share)

    def _sample(self, key: int, counted: _Counted, month: str) -> None:
        numbers = self._numbers_of(self._numbers, key)
        grown = _less(numbers, counted.sampled)
        counted.sampled = numbers
        if not counted.months or counted.months[-1].month != month:
            counted.months = [*counted.months[-1:], Month(month)]
        counted.months[-1].add(grown[_RX_BYTES] * 8 / self._span, grown[_TX_BYTES] * 8 / self._span)
        self._write(key, counted, self._numbers)

    def _write(self, key: int, counted: _Counted, numbers: Sequence[int]) -> None:
        totals = _plus(self._numbers_of(numbers, key), counted.offsets)
        account = Account(counted.name, counted.since, totals, counted.proxied, counted.months)
        counted.line = account.line() if account.tells_anything else b""
        self.fresh = True

    def _plan(self) -> None:
        """The next sample, at a whole number of minutes by the wall clock."""
        self._due = self._reporter.now + SAMPLE - self._wall % SAMPLE

    @property
    def _now(self) -> Sequence[int]:
        """What the data path has counted; looked at once for all that is done at one time."""
        if self._looked != self._reporter.now or not self._latest:
            self._looked, self._latest = self._reporter.now, self._traffic()
        return self._latest

    @property
    def _wall(self) -> float:
        return self._reporter.wall(self._reporter.now)

    @staticmethod
    def _numbers_of(traffic: Sequence[int], key: int) -> Numbers:
        found = tuple(traffic[key * _FIELDS : (key + 1) * _FIELDS])
        return found if len(found) == 4 else (0, 0, 0, 0)

    def __iter__(self) -> Iterator[int]:
        return iter(self._counted)


def _less(one: Numbers, other: Numbers) -> Numbers:
    return one[0] - other[0], one[1] - other[1], one[2] - other[2], one[3] - other[3]


def _plus(one: Numbers, other: Numbers) -> Numbers:
    return one[0] + other[0], one[1] + other[1], one[2] + other[2], one[3] + other[3]
