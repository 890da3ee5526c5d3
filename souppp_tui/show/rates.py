"""Traffic as it is shown: rates, and what can be asked of whoever measures them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from msgspec import Struct

from engine.api.values import QueueView

GRAPH_STEP = 5.0
GRAPH_STEPS = 60
"""The history of all sessions: one snapshot's numbers every 5 s, for 5 minutes."""


class Rates(Struct, frozen=True):
    """Per second: of a session's IP packets, or of a queue's frames; bits are 8 times the bytes."""

    rx_packets: float = 0.0
    rx_bits: float = 0.0
    tx_packets: float = 0.0
    tx_bits: float = 0.0


IDLE = Rates()


class Readings(Protocol):
    """What was measured of sessions up to the latest snapshot."""

    @property
    def now(self) -> float:
        """The time of the latest snapshot (`Snapshot.at`)."""
        ...

    def rates(self, session: int) -> Rates:
        """The rates of one session; zeros while it is too new to tell."""
        ...

    def numbers(self, session: int) -> tuple[int, int, int, int]:
        """Its numbers in the latest snapshot, as `TRAFFIC_FIELDS`."""
        ...

    def graph(self, session: int) -> tuple[list[float], list[float]]:
        """The bits per second of one session, received and sent, in steps of about `GRAPH_STEP`, newest last."""
        ...

    def recent(self, session: int) -> int:
        """Octets of one session, both ways, in the steps of that graph and since the last of them."""
        ...


class CardReadings(Readings, Protocol):
    """What was measured of a card too."""

    @property
    def sparks(self) -> Mapping[int, Collection[Rates]]:
        """The rates of each queue, by queue number, about two a second, newest last."""
        ...

    def receiving(self) -> int:
        """How many sessions received anything lately."""
        ...

    def queue(self, queue: QueueView) -> Rates:
        """The rates of one queue of the latest snapshot."""
        ...

    def queue_cpu(self, queue: QueueView) -> float:
        """The share of one core that the queue's thread uses, 0.0 to 1.0."""
        ...
