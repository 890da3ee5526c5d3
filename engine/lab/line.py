"""A line without I/O between a fleet and its concentrators, in virtual time, as bad as one orders it.

A `Line` carries frames one way; what it does to them is in `LineQuality`. A `Segment` is an Ethernet with a fleet on
one side and concentrators on the other, and runs them all against a clock that jumps from timer to timer.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable
from random import Random
from typing import Protocol

from msgspec import Struct

from engine.lab.concentrator import Concentrator

REPLAY_MEMORY = 64
"""Frames that a line remembers, to send one of them again."""


class LineQuality(Struct, frozen=True):
    """What a line does to frames; parts are probabilities for each frame, 0 to 1, times are seconds."""

    delay: float = 0.001
    jitter: float = 0.0
    """Up to this much more delay at random: frames overtake each other."""
    loss: float = 0.0
    duplication: float = 0.0
    corruption: float = 0.0
    """One octet is changed, or the frame's end is cut off."""
    replay: float = 0.0
    """An earlier frame comes once more after this one."""


PERFECT = LineQuality()


class Line:
    """Frames on their way, one way."""

    def __init__(self, random: Random, quality: LineQuality = PERFECT) -> None:
        self.quality = quality
        self._random = random
        self._on_the_way: list[tuple[float, int, bytes]] = []
        self._count = 0
        self._memory: deque[bytes] = deque(maxlen=REPLAY_MEMORY)

    def put(self, frames: Iterable[bytes], now: float) -> None:
        """Send frames on their way."""
        for frame in frames:
            self._memory.append(frame)
            if not self._happens(self.quality.loss):
                self._send(frame, now)
            if self._happens(self.quality.duplication):
                self._send(frame, now)
            if self._happens(self.quality.replay):
                self._send(self._random.choice(self._memory), now)

    def take(self, now: float) -> list[bytes]:
        """The frames that have arrived by now, in their order of arrival."""
        arrived = []
        while self._on_the_way and self._on_the_way[0][0] <= now:
            arrived.append(heapq.heappop(self._on_the_way)[2])
        return arrived

    def next_arrival(self) -> float | None:
        """When the next frame arrives, None if none is on its way."""
        return self._on_the_way[0][0] if self._on_the_way else None

    def _send(self, frame: bytes, now: float) -> None:
        at = now + self.quality.delay
        if self.quality.jitter > 0:
            at += self.quality.jitter * self._random.random()
        if self._happens(self.quality.corruption):
            frame = self._corrupted(frame)
        self._count += 1
        heapq.heappush(self._on_the_way, (at, self._count, frame))

    def _happens(self, probability: float) -> bool:
        return probability > 0 and self._random.random() < probability

    def _corrupted(self, frame: bytes) -> bytes:
        at = self._random.randrange(len(frame))
        if self._random.random() < 0.3:
            return frame[:at]
        return frame[:at] + bytes((frame[at] ^ self._random.randrange(1, 256),)) + frame[at + 1 :]


class Client(Protocol):
    """What a segment runs on the clients' side: a fleet, or something that has one."""

    def receive(self, frame: bytes, now: float) -> None:
        """Take a frame from the line."""

    def handle_timer(self, now: float) -> None:
        """Do whatever is due by now."""

    def next_timer(self) -> float | None:
        """When `handle_timer` is to be called next, None for not at all."""

    def frames_to_send(self) -> list[bytes]:
        """Frames to put on the line."""


class Segment:
    """A fleet, concentrators, and a line each way."""

    def __init__(self, fleet: Client, concentrators: Iterable[Concentrator], random: Random) -> None:
        self.fleet = fleet
        self.concentrators = list(concentrators)
        self.now = 0.0
        self.upstream = Line(random)
        self.downstream = Line(random)
        self.on_sent: Callable[[bytes], None] | None = None
        """Called with each frame that the fleet sends."""
        self.on_received: Callable[[bytes], None] | None = None
        """Called with each frame just before the fleet gets it."""
        self.after_step: Callable[[], None] | None = None
        """Called whenever all that was due at one moment is done; the one to take the fleet's events."""

    def set_quality(self, quality: LineQuality) -> None:
        """Make both ways as good or as bad as this; frames on their way keep their time."""
        self.upstream.quality = self.downstream.quality = quality

    def run(self, until: float) -> None:
        """Let time go by."""
        while True:
            self._step()
            due = self._next()
            if due is None or due > until:
                break
            self.now = max(self.now, due)
        self.now = until

    def _next(self) -> float | None:
        times = [self.fleet.next_timer(), self.upstream.next_arrival(), self.downstream.next_arrival()]
        times += [concentrator.next_timer() for concentrator in self.concentrators]
        return min((time for time in times if time is not None), default=None)

    def _step(self) -> None:
        """Do all that is due now."""
        now = self.now
        for frame in self.downstream.take(now):
            if self.on_received is not None:
                self.on_received(frame)
            self.fleet.receive(frame, now)
        self.fleet.handle_timer(now)
        arrived = self.upstream.take(now)
        for concentrator in self.concentrators:
            for frame in arrived:
                concentrator.receive(frame, now)
            concentrator.handle_timer(now)
            while concentrator.next_event() is not None:
                pass
            self.downstream.put(concentrator.frames_to_send(), now)
        if self.after_step is not None:
            self.after_step()
        sent = self.fleet.frames_to_send()
        if self.on_sent is not None:
            for frame in sent:
                self.on_sent(frame)
        self.upstream.put(sent, now)
