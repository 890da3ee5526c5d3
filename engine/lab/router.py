"""What a concentrator tells its subscribers of IPv6: the router's part, for one session (RFC 4861)."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network

from engine.wire import ipv6, ndp
from engine.wire.errors import WireError
from engine.wire.ndp import PrefixInformation, RouterAdvertisement, Servers

BLOCK = 48
"""Each subscriber has a block of its own: the first /64 of it is on the line."""


def block_of(network: IPv6Network, number: int) -> IPv6Network:
    """A subscriber's block."""
    return IPv6Network((int(network[0]) + (number << (128 - BLOCK)), BLOCK))


class LabRouter:
    """The router that one subscriber sees, while IPv6CP is open."""

    def __init__(self, source: IPv6Address, told: RouterAdvertisement) -> None:
        """It speaks from its link-local address, and tells this, unasked first."""
        self.told = told
        self._source = source
        self._out: list[bytes] = []
        self.advertise()

    def advertise(self) -> None:
        """Say it now."""
        self._out.append(ndp.advertisement(self._source, ndp.ALL_NODES, self.told))

    def receive(self, data: bytes) -> None:
        """Heed an IPv6 packet of the subscriber's."""
        try:
            if ndp.is_solicitation(ipv6.decode(data)):
                self.advertise()
        except WireError:
            return

    def packets_to_send(self) -> list[bytes]:
        """IPv6 packets."""
        out, self._out = self._out, []
        return out


def usual(block: IPv6Network, dns: tuple[IPv6Address, ...], mtu: int | None = None) -> RouterAdvertisement:
    """What the lab tells when nobody asks for anything odd: a prefix, name servers."""
    prefix = PrefixInformation(IPv6Network((block[0], 64)), valid=86_400, preferred=14_400)
    return RouterAdvertisement(prefixes=(prefix,), mtu=mtu, servers=(Servers(3600, dns),) if dns else ())
