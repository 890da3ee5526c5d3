"""What of the Internet a session is: packets to it come in, packets from it go out, and no others. See `own.h`."""

from __future__ import annotations

from enum import IntFlag
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from msgspec import Struct

Network = IPv4Network | IPv6Network


class Open(IntFlag):
    """The network protocols of a session that are open: their packets flow, both ways, and no others."""

    NONE = 0
    IPV4 = 1
    IPV6 = 2


_OPEN = {(four, six): Open(Open.IPV4 * four + Open.IPV6 * six) for four in (False, True) for six in (False, True)}
"""By whether there is an address of IPv4 and of IPv6: what a flag's operators make takes ten times as long."""


class Own(Struct, frozen=True):
    """A session's own addresses. A protocol without one is closed."""

    ipv4: IPv4Address | None = None
    ipv6: IPv6Address | None = None
    """The link-local one."""
    networks: tuple[Network, ...] = ()
    """What else is the session's, where its protocol is open: global IPv6 addresses, and what is routed to it."""

    @property
    def open(self) -> Open:
        """The protocols that are."""
        return _OPEN[self.ipv4 is not None, self.ipv6 is not None]

    def common(self, other: Own) -> Own:
        """What may flow while one takes the other's place: that which both have."""
        return Own(
            self.ipv4 if self.ipv4 == other.ipv4 else None,
            self.ipv6 if self.ipv6 == other.ipv6 else None,
            tuple(network for network in self.networks if network in other.networks),
        )


CLOSED = Own()
EVERYTHING = Own(IPv4Address("0.0.0.0"), IPv6Address("::"), (IPv4Network("0.0.0.0/0"), IPv6Network("::/0")))
"""For who stands on the provider's side: all packets flow but those whose source can be nobody's."""

STRAYS = ("not_for_us", "forged", "not_from_us")
"""Packets that a session's own addresses have nothing to do with, as counted: see `Datapath.strays`."""
LOST = (*STRAYS, "not_open")
"""The same with those that had nowhere to go, as the C helper counts them."""
