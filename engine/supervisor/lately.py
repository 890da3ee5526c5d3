"""What sessions, queues and the whole card carried in the last hour, in steps of half a minute.

Memory is bounded: a step has two numbers of 4 octets for each session, and there are never more steps than an hour has;
for 10,000 sessions that is 10 MB.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from operator import sub

from msgspec import Struct

from engine.api.values import ALL, TRAFFIC_FIELDS, Hour, QueueView
from engine.supervisor.counting import Traffic
from engine.supervisor.reporting import Reporter

STEP = 30.0
"""Seconds."""
STEPS = 120
_FIELDS = len(TRAFFIC_FIELDS)
_RX, _TX = TRAFFIC_FIELDS.index("rx_bytes"), TRAFFIC_FIELDS.index("tx_bytes")
Queues = Callable[[], Sequence[QueueView]]
"""Gives what is in `Snapshot.queues`."""


class _Step(Struct, frozen=True):
    until: float
    """Unix time."""
    span: float
    """Seconds."""
    received: array[float]
    """Octets, by session's key."""
    sent: array[float]
    others: Mapping[int, tuple[int, int]]
    """Octets received and sent by each queue, and in all."""


class Lately:
    """All sessions of one card, without I/O."""

    def __init__(self, traffic: Traffic, queues: Queues, reporter: Reporter) -> None:
        self._traffic, self._queues = traffic, queues
        self._reporter = reporter
        self._steps: deque[_Step] = deque(maxlen=STEPS)
        self._due: float | None = None
        self._began = 0.0
        self._received, self._sent = array("Q"), array("Q")
        self._by_queue: dict[int, tuple[int, int]] = {}

    def begin(self) -> None:
        """There is a session: look from now on."""
        if self._due is None:
            self._look(self._reporter.now)

    def next_timer(self) -> float | None:
        """When `handle_timer` is to be called, None for not at all."""
        return self._due

    def handle_timer(self, now: float) -> None:
        """End a step if it is time; calling it early does nothing."""
        if self._due is None or now < self._due:
            return
        received, sent, queues, span = self._received, self._sent, self._by_queue, now - self._began
        self._look(now)
        in_all = _grown(self._received, received), _grown(self._sent, sent)
        others = {ALL: (int(sum(in_all[0])), int(sum(in_all[1])))}
        for index, (rx, tx) in self._by_queue.items():
            before = queues.get(index, (rx, tx))
            others[index] = max(0, rx - before[0]), max(0, tx - before[1])
        self._steps.append(_Step(self._reporter.wall(now), span, *in_all, others))

    def _look(self, now: float) -> None:
        numbers = self._traffic()
        self._received = array("Q", numbers[_RX::_FIELDS])
        self._sent = array("Q", numbers[_TX::_FIELDS])
        self._by_queue = {queue.index: (queue.rx_bytes, queue.tx_bytes) for queue in self._queues()}
        self._began, self._due = now, now + STEP

    def of(self, key: int) -> Hour:
        """What a session carried; any thread."""

        def number(octets: array[float]) -> float:
            return octets[key] if key < len(octets) else 0.0

        return _hour([*self._steps], lambda step: (number(step.received), number(step.sent)))

    def others(self) -> dict[int, Hour]:
        """What each queue carried, by its number, and under `ALL` all sessions; any thread."""
        steps = [*self._steps]
        keys = steps[-1].others if steps else ()
        return {key: _hour(steps, lambda step, key=key: step.others.get(key, (0, 0))) for key in keys}  # type: ignore[misc]


def _grown(now: array[int], before: array[int]) -> array[float]:
    """By how much; a session that is new has not grown."""
    known = before[: len(now)] + now[len(before) :]
    return array("f", map(sub, now, known))


def _hour(steps: Sequence[_Step], octets: Callable[[_Step], tuple[float, float]]) -> Hour:
    pairs = [(octets(step), step.span) for step in steps]
    return Hour(
        steps[-1].until if steps else 0.0,
        STEP,
        tuple(max(0, round(rx * 8 / span)) for (rx, _), span in pairs),
        tuple(max(0, round(tx * 8 / span)) for (_, tx), span in pairs),
    )
