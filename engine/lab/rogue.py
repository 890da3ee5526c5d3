"""IP packets by which whoever is at the other end of a session may try to change this host's routes, or to reach what
isn't the session's; pure functions.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, IPv6Network

ROGUE = IPv6Address("fe80::bad")
ALL_NODES = IPv6Address("ff02::1")
SOMEWHERE = IPv6Address("2001:db8:7::7")
SOMEWHERE4 = IPv4Address("198.51.100.7")
_ICMP, _UDP, _ICMPV6 = 1, 17, 58
_FROM_THE_LINK = 255
_DESTINATION_OPTIONS = 60
_PADDING = b"\x01\x04\0\0\0\0"


def _checksum(data: bytes) -> bytes:
    """RFC 1071."""
    words = struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) % 2))
    total: int = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return (~total & 0xFFFF).to_bytes(2, "big")


def _icmpv6(type_: int, body: bytes, source: IPv6Address, destination: IPv6Address, header: int | None) -> bytes:
    message = bytes((type_, 0, 0, 0)) + body
    pseudo = source.packed + destination.packed + struct.pack("!IxxxB", len(message), _ICMPV6)
    message = message[:2] + _checksum(pseudo + message) + message[4:]
    if header is not None:
        message = bytes((_ICMPV6, 0)) + _PADDING + message
    outer = struct.pack("!IHBB", 6 << 28, len(message), _ICMPV6 if header is None else header, _FROM_THE_LINK)
    return outer + source.packed + destination.packed + message


def router_advertisement(
    prefix: str = "2001:db8:bad::/64", *, source: IPv6Address = ROGUE, header: int | None = None
) -> bytes:
    """A Router Advertisement (RFC 4861 section 4.2): a default route, a prefix to make an address from, one more route.

    `header` puts an extension header of that number in front of it.
    """
    network = IPv6Network(prefix)
    on_link_and_autonomous = 0xC0
    information = struct.pack("!BBBBIIxxxx", 3, 4, network.prefixlen, on_link_and_autonomous, 7200, 3600)
    route = struct.pack("!BBBBI", 24, 1, 0, 0x08, 7200)  # RFC 4191: ::/0 with high preference
    body = struct.pack("!BBHII", 64, 0, 1800, 0, 0) + information + network.network_address.packed + route
    return _icmpv6(134, body, source, ALL_NODES, header)


def hidden_router_advertisement() -> bytes:
    """The same behind an extension header."""
    return router_advertisement(header=_DESTINATION_OPTIONS)


def redirect(target: IPv6Address, destination: IPv6Address, to: IPv6Address, *, source: IPv6Address = ROGUE) -> bytes:
    """An ICMPv6 Redirect (RFC 4861 section 4.5): `destination` is reached by `target`, says `source` to `to`."""
    return _icmpv6(137, bytes(4) + target.packed + destination.packed, source, to, None)


def icmp_redirect(gateway: IPv4Address, about: bytes, source: IPv4Address, to: IPv4Address) -> bytes:
    """An ICMP Redirect (RFC 792): packets as `about` had better go to `gateway`, says `source` to `to`."""
    message = bytes((5, 1, 0, 0)) + gateway.packed + about[:28]
    message = message[:2] + _checksum(message) + message[4:]
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(message), 1, 0, 64, _ICMP, 0, source.packed, to.packed)
    return header[:10] + _checksum(header) + header[12:] + message


Address = IPv4Address | IPv6Address


def datagram(source: Address, destination: Address, port: int, data: bytes = b"stray") -> bytes:
    """A datagram of UDP to a port, as it comes from a router; both addresses are of one family."""
    length = 8 + len(data)
    message = struct.pack("!HHHH", port, port, length, 0) + data
    pseudo = source.packed + destination.packed + struct.pack("!IxxxB", length, _UDP)
    message = message[:6] + _checksum(pseudo + message) + message[8:]
    if isinstance(source, IPv6Address):
        return struct.pack("!IHBB", 6 << 28, length, _UDP, 64) + source.packed + destination.packed + message
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 1, 0, 64, _UDP, 0) + source.packed + destination.packed
    return header[:10] + _checksum(header) + header[12:] + message


LOOPBACK = IPv4Address("127.0.0.1"), IPv6Address("::1")
_GROUPS: tuple[Address, ...] = (
    *map(IPv4Address, ("224.0.0.1", "224.0.0.251", "239.255.255.250", "255.255.255.255")),
    *map(IPv6Address, ("ff02::1", "ff02::fb", "ff02::1:2", "ff05::2", "ff0e::1")),
)
_OUTSIDE: tuple[Address, Address] = IPv4Address("203.0.113.77"), IPv6Address("2001:db8:77::7")


def strays(own: Iterable[Address], others: Iterable[Address], port: int) -> dict[str, bytes]:
    """Packets that a session with these addresses is not to be reached by, by what they are.

    `others` are addresses that aren't the session's, as of the host, of a network behind it, or of another session.
    """
    found: dict[str, bytes] = {}

    def add(source: Address, destination: Address) -> None:
        what = f"{source} > {destination}"
        found[what] = datagram(source, destination, port, what.encode())

    for other in (*others, *_GROUPS, *LOOPBACK):
        add(_OUTSIDE[other.version == 6], other)
    for address in own:
        for source in (address, LOOPBACK[address.version == 6]):
            add(source, address)
    return found
