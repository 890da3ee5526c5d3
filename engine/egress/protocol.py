"""What every egress can do: take sessions' IP packets on this host.

It is told the whole wanted state, and makes it so. A session is named by its key.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import Protocol

from msgspec import Struct

from engine.ppp.judge import Address
from engine.sessions.obstacle import Obstacle
from engine.sessions.policy import Way
from engine.sessions.session import Session
from engine.settings.values import DatapathChoice, SessionSettings
from engine.wire.place import Place


class Addresses(Struct, frozen=True):
    """The addresses that a session has now; packets of a protocol without one don't flow."""

    ipv4: IPv4Address | None = None
    peer: IPv4Address | None = None
    """The concentrator's own, if it told one."""
    ipv6: IPv6Address | None = None
    """The link-local one."""
    global6: tuple[IPv6Address, ...] = ()
    """Global ones."""
    deprecated6: frozenset[IPv6Address] = frozenset()
    """Those of them that nothing new had better use (RFC 4862 section 5.5.4)."""
    mtu6: int | None = None
    """The longest IPv6 packet, if a router wants it shorter than others."""
    prefixes6: tuple[IPv6Network, ...] = ()
    """Networks that are delegated to the session."""


class Happening(Struct, frozen=True):
    """What others did to a session's egress, and what came of it, in a sentence."""

    text: str
    key: int | None = None
    """None if it concerns all sessions."""
    lost: bool = False
    """It can't be put back: the session must end."""


class Egress(Protocol):
    """What takes sessions' IP packets on this host. All but `counters` belong to one thread."""

    has_ipv6: bool
    """Whether the host can have IPv6 addresses on a session's behalf."""

    def obstacle(self, key: int, session: Session) -> Obstacle | None:
        """What keeps a session from being dialled, if anything does: found out before, it costs nobody anything.

        If nothing does, nothing leaves elsewhere from here on that comes from the session's networks.
        """

    def hold_marks(self, marks: Iterable[int]) -> None:
        """Let nothing that bears one of these leave, until `set_mark` says whose it is. Quick. Raises Trouble."""

    def set_mark(self, key: int, mark: int | None) -> None:
        """Let what bears a mark leave by this session or not at all, from now on; None: it has none. Raises Trouble."""

    def forget(self, key: int) -> None:
        """The session is removed, and closed by now; another one may have its key one day. Raises Trouble."""

    def way_to(self, address: Address) -> Way | None:
        """How the host itself reaches an address, sessions' routes left out; None if it doesn't."""

    def claim(self, network: IPv6Network) -> str:
        """What of the host's speaks against a network's being delegated, as the rest of a sentence; mostly empty."""

    def prepare(self, key: int, settings: SessionSettings, mtu: int) -> None:
        """A session is likely to be opened soon, with this MTU: begin what takes long. `close` takes it back."""

    def open(self, key: int, settings: SessionSettings, place: Place, mtu: int) -> None:
        """Make what a session needs, without addresses; `mtu` is in octets of IP packet. Raises Trouble."""

    def set_addresses(self, key: int, addresses: Addresses, mtu: int) -> None:
        """Give an open session these addresses and no others. Raises Trouble."""

    def set_mtu(self, key: int, mtu: int) -> None:
        """Change the longest packet of an open session, in octets. Raises Trouble."""

    def close(self, key: int) -> None:
        """Take away all that a session has, or that was prepared for it, if there is anything."""

    def disinherit(self) -> None:
        """Delete what an earlier process has left and no session has taken."""

    def device(self, key: int) -> str | None:
        """The name of a session's device, None while it has none."""

    def netns(self, key: int) -> str | None:
        """The name of the network namespace that a session's device is in; None if it is the host's, or not there."""

    def path(self, key: int) -> DatapathChoice | None:
        """What carries a session's packets, None while nothing does."""

    def strays(self, key: int) -> Mapping[str, int]:
        """Packets of a session that were dropped, by `engine.datapath.own.LOST`."""

    def counters(self, keys: int) -> Sequence[int]:
        """`TRAFFIC_FIELDS` of the sessions with keys below this, one after another; any thread."""
