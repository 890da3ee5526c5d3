"""Whether a card in zero-copy lets large frames through, found out with an Echo-Request of full size. Without I/O.

A driver that has less room than it takes for granted loses them without a trace (Linux has drivers that count in whole
KB), while all that a session needs to come up is small.
"""

from __future__ import annotations

from enum import Enum, auto

from msgspec import Struct

TRIES = 3
WAIT = 1.0
"""Seconds from one request to the next."""
LARGE = 1200
"""Octets of a packet from which on it proves something."""


class Step(Enum):
    """What is due."""

    NOTHING = auto()
    ASK = auto()
    LOST = auto()
    """No request was answered."""


class LargeFrames(Struct):
    """The trial of one card that was taken. The first session that is up is asked, one that is lost makes room."""

    wanted: bool = False
    """Whether that is to be found out."""
    key: int | None = None
    """The session that is asked, None while none can be."""
    octets: int = 0
    """Of the packets that it was asked with."""
    tries: int = 0
    due: float | None = None

    def offer(self, key: int, mtu: int, now: float) -> None:
        """A session is up."""
        if self.wanted and self.key is None and mtu >= LARGE:
            self.key, self.tries, self.due = key, 0, now

    def withdraw(self, key: int) -> None:
        """A session is down."""
        if key == self.key:
            self.key = self.due = None

    def answered(self, key: int, octets: int) -> bool:
        """A session's Echo-Request of so many octets was answered; whether that settles it.

        Also where the answer was cut: then it is not the card that can't.
        """
        if not self.wanted or key != self.key or octets < LARGE:
            return False
        self.wanted, self.key, self.due = False, None, None
        return True

    def step(self, now: float) -> Step:
        """What is due by now."""
        if self.due is None or now < self.due:
            return Step.NOTHING
        if self.tries == TRIES:
            self.wanted, self.key, self.due = False, None, None
            return Step.LOST
        self.tries += 1
        self.due = now + WAIT
        return Step.ASK
