"""What a concentrator tells its subscribers of IPv6: the router's part, for one session (RFC 4861, RFC 8415)."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network

from engine.lab.dhcpv6 import LabDhcpServer
from engine.wire import ipv6, ndp
from engine.wire.dhcpv6 import SERVER_PORT
from engine.wire.errors import WireError
from engine.wire.ipv6 import UDP, Datagram
from engine.wire.ndp import PrefixInformation, RouterAdvertisement, Servers

BLOCK = 48
"""Each subscriber has a block of its own: the first /64 of it is on the line."""


def block_of(network: IPv6Network, number: int) -> IPv6Network:
    """A subscriber's block."""
    return IPv6Network((int(network[0]) + (number << (128 - BLOCK)), BLOCK))


class LabRouter:
    """The router that one subscriber sees, while IPv6CP is open."""

    def __init__(self, source: IPv6Address, told: RouterAdvertisement, dhcp: LabDhcpServer) -> None:
        """It speaks from its link-local address, and tells this, unasked first."""
        self.told = told
        self.dhcp = dhcp
        self._source = source
        self._out: list[bytes] = []
        self.advertise()

    def advertise(self) -> None:
        """Say it now."""
        self._out.append(ndp.advertisement(self._source, ndp.ALL_NODES, self.told))

    def receive(self, data: bytes) -> None:
        """Heed an IPv6 packet of the subscriber's."""
        try:
            packet = ipv6.decode(data)
            if ndp.is_solicitation(packet):
                self.advertise()
            elif packet.next_header == UDP:
                self._datagram(packet.source, ipv6.decode_udp(packet))
        except WireError:
            return

    def _datagram(self, client: IPv6Address, datagram: Datagram) -> None:
        if datagram.destination_port == SERVER_PORT and (answer := self.dhcp.answer(datagram.payload)) is not None:
            reply = Datagram(SERVER_PORT, datagram.source_port, answer)
            self._out.append(ipv6.encode_udp(self._source, client, reply))

    def packets_to_send(self) -> list[bytes]:
        """IPv6 packets."""
        out, self._out = self._out, []
        return out


def usual(block: IPv6Network, dns: tuple[IPv6Address, ...], mtu: int | None = None) -> RouterAdvertisement:
    """What the lab tells when nobody asks for anything odd: a prefix, name servers."""
    prefix = PrefixInformation(IPv6Network((block[0], 64)), valid=86_400, preferred=14_400)
    return RouterAdvertisement(prefixes=(prefix,), mtu=mtu, servers=(Servers(3600, dns),) if dns else ())
