"""Sessions that are over here and perhaps not at the concentrator: until their PADT has really left. Without I/O.

A card without a carrier takes frames and loses them. So a PADT has left when the card has taken it and its carrier was
there all the time; else it is owed, and sent again when the carrier is back. Positions count the frames handed to the
card since the start. A carrier is told by how often it has come or gone, None while there is none.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import islice

from msgspec import Struct

from engine.wire.place import Place

SHARE = 128
"""PADTs that are handed over in one go."""


class _Batch(Struct, frozen=True):
    places: dict[Place, None]
    position: int
    """Behind the last of their PADTs."""
    carrier: int | None
    """As it was last seen before they were handed over."""


class Farewells:
    """All of one card."""

    def __init__(self) -> None:
        self._owed: dict[Place, None] = {}
        self._on_the_way: deque[_Batch] = deque()

    @property
    def on_the_way(self) -> bool:
        """Whether any PADT has been handed over and is not known to have left."""
        return bool(self._on_the_way)

    def owe(self, sessions: Iterable[Place]) -> None:
        """Their PADTs have yet to be sent."""
        self._owed.update(dict.fromkeys(sessions))

    @property
    def owes(self) -> bool:
        """Whether any PADT has yet to be sent."""
        return bool(self._owed)

    def collect(self) -> list[Place]:
        """Whose PADTs are to be sent now, SHARE at most; they are owed no more: `sent` is due."""
        share = list(islice(self._owed, SHARE))
        for place in share:
            del self._owed[place]
        return share

    def sent(self, sessions: Iterable[Place], position: int, carrier: int | None) -> None:
        """Their PADTs are handed over."""
        self._on_the_way.append(_Batch(dict.fromkeys(sessions), position, carrier))

    def opened(self, sessions: Iterable[Place]) -> None:
        """They are sessions of ours once more: no PADT may follow them."""
        for place in sessions:
            self._owed.pop(place, None)
            for batch in self._on_the_way:
                batch.places.pop(place, None)

    def lost(self) -> None:
        """The card is gone, or its carrier: what was on the way is owed again."""
        while self._on_the_way:
            self.owe(self._on_the_way.popleft().places)

    def all_taken(self, position: int) -> bool:
        """Whether the card has taken all of these."""
        return bool(self._on_the_way) and self._on_the_way[-1].position <= position

    def taken(self, position: int) -> bool:
        """Whether the card, which has taken so many frames, has taken any of these: then its carrier tells."""
        return bool(self._on_the_way) and self._on_the_way[0].position <= position

    def left(self, position: int, carrier: int | None, *, every: bool = False) -> list[Place]:
        """Whose PADT has left, by what the card has taken and its carrier after that. The others are owed again.

        In one go no more than a few times SHARE, unless `every` one is asked for: `taken` tells whether there are more.
        """
        gone: list[Place] = []
        while self.taken(position) and (every or len(gone) < SHARE):
            batch = self._on_the_way.popleft()
            if carrier is not None and batch.carrier == carrier:
                gone += batch.places
            else:
                self.owe(batch.places)
        return gone
