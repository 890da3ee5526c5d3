"""Rates from consecutive snapshots, worked out only for the sessions that are asked for. Pure."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from operator import ne

from msgspec import Struct

from engine.api.values import TRAFFIC_FIELDS, QueueView, Snapshot, unpack_traffic
from souppp_tui.model.several import Combined
from souppp_tui.show.rates import GRAPH_STEP, GRAPH_STEPS, IDLE, Rates, Readings

WINDOW = 1.0
"""Seconds over which a rate is taken: long enough to be calm, short enough to be now."""
SPARK_STEPS = 120
BLOCK = 4096
"""So many numbers of a snapshot are worked on in one go: meanwhile the engine's thread waits for the interpreter."""


class Look(Struct, frozen=True):
    """The numbers of one snapshot."""

    at: float
    traffic: array[int]
    """As in `unpack_traffic`."""
    sums: list[int]
    """Each of a session's numbers added up over all sessions."""
    queues: dict[int, QueueView]


class Meter:
    """Remembers the latest snapshots' numbers; gives `souppp_tui.show.rates.CardReadings`."""

    def __init__(self) -> None:
        self.now = 0.0
        """The time of the latest snapshot (`Snapshot.at`)."""
        self._recent: deque[Look] = deque()
        self._rates: dict[int, Rates] = {}
        """Those asked for since the latest snapshot."""
        self._history: deque[tuple[float, array[int]]] = deque(maxlen=GRAPH_STEPS + 1)
        self.sparks: dict[int, deque[Rates]] = {}
        """The rates of each queue, by queue number, about two a second."""
        self._at_zero = array("Q")

    def take(self, snapshot: Snapshot) -> None:
        """Add the next snapshot; one that is there already, as of an engine that can't be reached, adds nothing."""
        recent = self._recent
        if recent and snapshot.at == self.now:
            return
        traffic = unpack_traffic(snapshot.traffic)
        if snapshot.at < self.now:  # the host's clock was set back: what was before is no span from here
            recent.clear()
            self._history.clear()
        recent.append(Look(snapshot.at, traffic, _sums(traffic), {queue.index: queue for queue in snapshot.queues}))
        self._rates.clear()
        while len(recent) > 2 and recent[1].at <= snapshot.at - WINDOW + 0.01:
            recent.popleft()
        self.now = snapshot.at
        if not self._history or snapshot.at - self._history[-1][0] >= GRAPH_STEP - 0.01:
            self._history.append((snapshot.at, traffic))
        for queue in snapshot.queues:
            self.sparks.setdefault(queue.index, deque(maxlen=SPARK_STEPS)).append(self.queue(queue))

    @property
    def _traffic(self) -> array[int]:
        """The latest snapshot's, as in `unpack_traffic`."""
        return self._recent[-1].traffic if self._recent else array("Q")

    def zero(self) -> None:
        """Count octets from now on."""
        self._at_zero = self._traffic

    def unzero(self) -> None:
        """Count octets from the engine's start."""
        self._at_zero = array("Q")

    def octets(self, session: int) -> tuple[int, int]:
        """What a session has received and sent."""
        return self._since_zero(session, 1), self._since_zero(session, 3)

    def numbers(self, session: int) -> tuple[int, int, int, int]:
        """Its numbers in the latest snapshot, as `TRAFFIC_FIELDS`."""
        first = session * len(TRAFFIC_FIELDS)
        found = self._traffic[first : first + len(TRAFFIC_FIELDS)]
        return (found[0], found[1], found[2], found[3]) if len(found) == len(TRAFFIC_FIELDS) else (0, 0, 0, 0)

    def _since_zero(self, session: int, field: int) -> int:
        place = session * len(TRAFFIC_FIELDS) + field
        now, before = self._traffic, self._at_zero
        return (now[place] if place < len(now) else 0) - (before[place] if place < len(before) else 0)

    @property
    def _span(self) -> float:
        return self._recent[-1].at - self._recent[0].at if self._recent else 0.0

    def rates(self, session: int) -> Rates:
        """The rates of one session; zeros while it is too new to tell."""
        rates = self._rates.get(session)
        if rates is None:
            rates = self._rates[session] = self._work_out(session)
        return rates

    def _work_out(self, session: int) -> Rates:
        span, first = self._span, session * 4
        if span <= 0:
            return IDLE
        old, new = self._recent[0].traffic, self._recent[-1].traffic
        if first + 4 > len(old) or old[first : first + 4] == new[first : first + 4]:
            return IDLE
        return Rates(
            (new[first] - old[first]) / span,
            (new[first + 1] - old[first + 1]) * 8 / span,
            (new[first + 2] - old[first + 2]) / span,
            (new[first + 3] - old[first + 3]) * 8 / span,
        )

    def receiving(self) -> int:
        """How many sessions received anything lately."""
        if self._span <= 0:
            return 0
        old, new = self._recent[0].traffic, self._recent[-1].traffic
        return sum(
            sum(map(ne, old[start : start + BLOCK : 4], new[start : start + BLOCK : 4]))
            for start in range(0, len(old), BLOCK)
        )

    def total(self) -> Rates:
        """The rates of all sessions together."""
        span = self._span
        if span <= 0:
            return IDLE
        grown = [new - old for old, new in zip(self._recent[0].sums, self._recent[-1].sums, strict=True)]
        return Rates(grown[0] / span, grown[1] * 8 / span, grown[2] / span, grown[3] * 8 / span)

    def together(self, sessions: Sequence[int]) -> tuple[float, float]:
        """The bits per second of some sessions, received and sent, over the same span as those of each and of all."""
        span = self._span
        if span <= 0 or not sessions:
            return 0.0, 0.0
        old, new = (padded(look.traffic, 4 * (max(sessions) + 1)) for look in (self._recent[0], self._recent[-1]))
        grown = {1: 0, 3: 0}
        for start in range(0, len(sessions), BLOCK):
            for field in grown:
                places = [4 * session + field for session in sessions[start : start + BLOCK]]
                grown[field] += sum(map(new.__getitem__, places)) - sum(map(old.__getitem__, places))
        return grown[1] * 8 / span, grown[3] * 8 / span

    def queue(self, queue: QueueView) -> Rates:
        """The rates of one queue of the latest snapshot."""
        span = self._span
        old = self._recent[0].queues.get(queue.index) if span > 0 else None
        if old is None:
            return IDLE
        return Rates(
            (queue.rx_packets - old.rx_packets) / span,
            (queue.rx_bytes - old.rx_bytes) * 8 / span,
            (queue.tx_packets - old.tx_packets) / span,
            (queue.tx_bytes - old.tx_bytes) * 8 / span,
        )

    def queue_cpu(self, queue: QueueView) -> float:
        """The share of one core that the queue's thread uses, 0.0 to 1.0."""
        span = self._span
        old = self._recent[0].queues.get(queue.index) if span > 0 else None
        return 0.0 if old is None else max(0.0, (queue.cpu - old.cpu) / span)

    def graph(self, session: int) -> tuple[list[float], list[float]]:
        """The bits per second of one session, received and sent, in steps of about 5 s, newest last."""
        first, points = session * 4, list(self._history)
        received: list[float] = []
        sent: list[float] = []
        for (old_at, old), (at, new) in pairwise(points):
            known = first + 4 <= len(old) and at > old_at
            received.append((new[first + 1] - old[first + 1]) * 8 / (at - old_at) if known else 0.0)
            sent.append((new[first + 3] - old[first + 3]) * 8 / (at - old_at) if known else 0.0)
        return received, sent

    def recent(self, session: int) -> int:
        """Octets of one session, both ways, in the last five minutes, or since the console began."""
        if not self._history:
            return 0
        first, old, new = session * 4, self._history[0][1], self._traffic
        if first + 4 > len(new):
            return 0
        before = old[first + 1] + old[first + 3] if first + 4 <= len(old) else 0
        return new[first + 1] + new[first + 3] - before


class Stopped(Struct, frozen=True):
    """What was measured up to a moment when an engine was last heard of; gives `souppp_tui.show.rates.Readings`."""

    meter: Readings
    now: float

    def rates(self, session: int) -> Rates:
        """See `Meter.rates`."""
        return self.meter.rates(session)

    def numbers(self, session: int) -> tuple[int, int, int, int]:
        """See `Meter.numbers`."""
        return self.meter.numbers(session)

    def graph(self, session: int) -> tuple[list[float], list[float]]:
        """See `Meter.graph`."""
        return self.meter.graph(session)

    def recent(self, session: int) -> int:
        """See `Meter.recent`."""
        return self.meter.recent(session)


class Meters:
    """One for each of several engines, which have clocks of their own; gives `souppp_tui.show.rates.Readings`."""

    def __init__(self, number: int) -> None:
        self.now = 0.0
        """The time of the latest snapshot of all."""
        self.of = [Meter() for _ in range(number)]
        """By the engines' places."""
        self._lost: frozenset[int] = frozenset()

    def take(self, snapshot: Snapshot) -> None:
        """Add the next snapshot, which must be one of several engines."""
        assert isinstance(snapshot, Combined)
        self.now = snapshot.at
        self._lost = snapshot.lost
        for meter, part in zip(self.of, snapshot.parts, strict=True):
            meter.take(part.snapshot)

    def rates(self, session: int) -> Rates:
        """See `Meter.rates`."""
        return self.of[session % len(self.of)].rates(session // len(self.of))

    def numbers(self, session: int) -> tuple[int, int, int, int]:
        """See `Meter.numbers`."""
        return self.of[session % len(self.of)].numbers(session // len(self.of))

    def together(self, sessions: Sequence[int]) -> tuple[float, float]:
        """See `Meter.together`; of an engine that can't be reached nobody knows."""
        number = len(self.of)
        known = [
            meter.together([session // number for session in sessions if session % number == place])
            for place, meter in enumerate(self.of)
            if place not in self._lost
        ]
        return sum(received for received, _ in known), sum(sent for _, sent in known)

    def graph(self, session: int) -> tuple[list[float], list[float]]:
        """See `Meter.graph`."""
        return self.of[session % len(self.of)].graph(session // len(self.of))

    def recent(self, session: int) -> int:
        """See `Meter.recent`."""
        return self.of[session % len(self.of)].recent(session // len(self.of))

    def octets(self, session: int) -> tuple[int, int]:
        """See `Meter.octets`."""
        return self.of[session % len(self.of)].octets(session // len(self.of))

    def total(self) -> Rates:
        """See `Meter.total`; of an engine that can't be reached nobody knows."""
        known = [meter.total() for place, meter in enumerate(self.of) if place not in self._lost]
        return Rates(*(sum(getattr(rates, field) for rates in known) for field in Rates.__struct_fields__))

    def zero(self) -> None:
        """See `Meter.zero`."""
        for meter in self.of:
            meter.zero()

    def unzero(self) -> None:
        """See `Meter.unzero`."""
        for meter in self.of:
            meter.unzero()


def padded(traffic: array[int], length: int) -> array[int]:
    """These numbers and zeros behind them, where there are fewer than that."""
    return traffic + array("Q", bytes(8 * (length - len(traffic)))) if length > len(traffic) else traffic


def _sums(traffic: array[int]) -> list[int]:
    sums = [0, 0, 0, 0]
    for start in range(0, len(traffic), BLOCK):
        block = traffic[start : start + BLOCK]
        for field in range(4):
            sums[field] += sum(block[field::4])
    return sums
