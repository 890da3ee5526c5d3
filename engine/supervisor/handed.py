"""What a supervisor is handed: everything of it that touches the world, as protocols.

What takes the sessions' packets is `engine.egress.protocol.Egress`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from engine.api.values import Connection, Talker
from engine.card.facts import Card
from engine.sessions.session import Session
from engine.settings.values import DatapathChoice
from engine.wire.place import Place


class Taken(Struct, frozen=True):
    """How a card was taken."""

    mode: str
    """`native` or `generic`."""
    zero_copy: bool
    queues: int
    """How many it has with our program on it: all of them are served."""
    notice: str = ""
    """One line for the operator if that is not as good as could be, or empty."""
    fixes: str = ""
    """What keeps XDP out of the driver and can be switched off, as ethtool calls it."""


class Line(Protocol):
    """The card, as it can be looked at and taken."""

    def look(self) -> Card:
        """The card as it stands, while it is ours by whatever name. Raises Trouble if it is gone, or there is none."""

    def take(self, card: Card) -> Taken:
        """Take it: from now on its PPPoE frames come to us. Raises Trouble."""

    def grow(self, card: Card) -> None:
        """Serve the queues that it has been given since it was taken as well. Raises Trouble."""

    def mend(self) -> bool:
        """Put our program back on it, if somebody has taken it off; whether that was so. Raises Trouble."""

    def give_back(self) -> None:
        """Let it go, if it was taken."""

    def fix(self) -> bool:
        """Switch off what takes VLAN tags off; whether the card must be taken anew for more. Raises Trouble."""

    def copy(self) -> bool:
        """Do without zero-copy from the next `take` on; False if the operator insists on it."""

    def frames_taken(self) -> int:
        """How many of the frames handed over since it was taken last, from the first on, the card has taken in turn."""

    def hear_all(self) -> bool:
        """Have the card, if it is taken, take frames for any address and VLAN (promiscuous mode); whether that is new.

        Raises Trouble.
        """

    def make_known(self, key: int, place: Place, mru: int) -> None:
        """Let a session's control frames come before strangers', if the card is taken. Raises Trouble."""

    def forget(self, key: int) -> None:
        """Its frames are a stranger's again."""

    def expect(self, wanted: DatapathChoice) -> None:
        """Begin to load what a session with this data path will need."""


class Proxied(Struct, frozen=True):
    """What goes through a session's proxy and the pool."""

    listens: str | None = None
    """Where its own proxy does, as in `SessionView.proxy`."""
    connections: int = 0
    """Those that are open."""
    opened: int = 0
    """Those that ever were."""
    up: int = 0
    """Octets to the line."""
    down: int = 0
    """Octets from it."""
    open: tuple[Connection, ...] = ()
    """While somebody looks at the session's details."""
    talkers: tuple[Talker, ...] = ()
    """Likewise."""


class Journal(Protocol):
    """The record on disk of open sessions; see `engine.record.journal`. All of its methods raise Trouble."""

    def ghosts(self) -> list[Place]:
        """The sessions that an earlier run left open."""

    def opened(self, sessions: list[Place]) -> None:
        """Note sessions as open; on the disk when this returns."""

    def closed(self, sessions: list[Place], *, last: bool = False) -> None:
        """Note sessions as closed; of the `last` ones nothing need be on the disk."""

    def rename(self, card: str) -> None:
        """The card has another name now, by which the next start will look for them."""


class NoJournal:
    """Where there is no folder for one: nothing is noted."""

    def ghosts(self) -> list[Place]:
        """None is known."""
        return []

    def opened(self, sessions: list[Place]) -> None:
        """See `Journal.opened`."""

    def closed(self, sessions: list[Place], *, last: bool = False) -> None:
        """See `Journal.closed`."""

    def rename(self, card: str) -> None:
        """See `Journal.rename`."""


class Captures(Protocol):
    """Files of control frames; see `engine.record.captures`."""

    def __contains__(self, key: int) -> bool: ...

    def joined(self, key: int, session: Session) -> None:
        """A new session is there."""

    def start(self, sessions: Iterable[tuple[int, Session]], path: Path) -> None:
        """Write these sessions' frames to a new file. Raises Trouble."""

    def stop(self, sessions: Iterable[tuple[int, Session]]) -> None:
        """Write these sessions' frames no more."""
