"""Router Solicitation and Router Advertisement, ICMPv6 messages of neighbour discovery (RFC 4861, RFC 8106)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from ipaddress import IPv6Address, IPv6Network

from msgspec import Struct

from engine.wire import ipv6
from engine.wire.errors import Malformed, WireError
from engine.wire.ipv6 import FROM_THE_LINK, ICMPV6, Ipv6Packet

ROUTER_SOLICITATION, ROUTER_ADVERTISEMENT = 133, 134
ALL_NODES, ALL_ROUTERS = IPv6Address("ff02::1"), IPv6Address("ff02::2")
INFINITY = 0xFFFFFFFF
"""A lifetime in seconds that stands for ever."""

_ADVERTISEMENT = struct.Struct("!BBHBBHII")
_PREFIX = struct.Struct("!BBII4x16s")
_PREFIX_INFORMATION, _MTU, _RDNSS = 3, 5, 25
_MANAGED, _OTHER = 0x80, 0x40
_ON_LINK, _AUTONOMOUS = 0x80, 0x40


class PrefixInformation(Struct, frozen=True):
    """A network on the link, or one to make addresses in (RFC 4861 section 4.6.2); lifetimes in seconds."""

    prefix: IPv6Network
    valid: int
    preferred: int
    autonomous: bool = True
    on_link: bool = False


class Servers(Struct, frozen=True):
    """Name servers, and for how many seconds they may be asked (RFC 8106 section 5.1)."""

    lifetime: int
    addresses: tuple[IPv6Address, ...]


class RouterAdvertisement(Struct, frozen=True):
    """What a router tells the hosts on its link (RFC 4861 section 4.2)."""

    lifetime: int = 1800
    """Seconds for which it is a default router; 0: it is none."""
    managed: bool = False
    """Addresses are to be had by DHCPv6."""
    other: bool = False
    """Other things are."""
    hop_limit: int = 0
    """The one that hosts had better use; 0: it doesn't say."""
    prefixes: tuple[PrefixInformation, ...] = ()
    mtu: int | None = None
    servers: tuple[Servers, ...] = ()


def solicitation(source: IPv6Address) -> bytes:
    """The packet that asks for an advertisement (RFC 4861 section 4.1)."""
    return _message(source, ALL_ROUTERS, struct.pack("!BBHI", ROUTER_SOLICITATION, 0, 0, 0))


def is_solicitation(packet: Ipv6Packet) -> bool:
    """Whether it is a valid one (RFC 4861 section 6.1.1)."""
    return (
        packet.next_header == ICMPV6
        and packet.hop_limit == FROM_THE_LINK
        and len(packet.payload) >= 8
        and packet.payload[:2] == bytes((ROUTER_SOLICITATION, 0))
        and not ipv6.checksum(packet.source, packet.destination, ICMPV6, packet.payload)
    )


def advertisement(source: IPv6Address, destination: IPv6Address, told: RouterAdvertisement) -> bytes:
    """The packet."""
    flags = (_MANAGED if told.managed else 0) | (_OTHER if told.other else 0)
    parts = [_ADVERTISEMENT.pack(ROUTER_ADVERTISEMENT, 0, 0, told.hop_limit, flags, told.lifetime, 0, 0)]
    if told.mtu is not None:
        parts.append(struct.pack("!BBHI", _MTU, 1, 0, told.mtu))
    for each in told.prefixes:
        flags = (_ON_LINK if each.on_link else 0) | (_AUTONOMOUS if each.autonomous else 0)
        fixed = _PREFIX.pack(each.prefix.prefixlen, flags, each.valid, each.preferred, each.prefix[0].packed)
        parts.append(struct.pack("!BB", _PREFIX_INFORMATION, 4) + fixed)
    for servers in told.servers:
        parts.append(struct.pack("!BBHI", _RDNSS, 1 + 2 * len(servers.addresses), 0, servers.lifetime))
        parts += [address.packed for address in servers.addresses]
    return _message(source, destination, b"".join(parts))


def decode_advertisement(packet: Ipv6Packet) -> RouterAdvertisement:
    """What an advertisement tells, read as RFC 4861 section 6.1.2 wants it; raises WireError for one that isn't valid.

    An option of a length that its type can't have is passed over, as unknown ones are.
    """
    message = packet.payload
    if len(message) < _ADVERTISEMENT.size:
        raise WireError(Malformed.TRUNCATED)
    type_, code, _, hop_limit, flags, lifetime, _, _ = _ADVERTISEMENT.unpack_from(message)
    if packet.next_header != ICMPV6 or (type_, code) != (ROUTER_ADVERTISEMENT, 0):
        raise WireError(Malformed.NOT_EXPECTED)
    if packet.hop_limit != FROM_THE_LINK or not packet.source.is_link_local:
        raise WireError(Malformed.NOT_FROM_THE_LINK)
    if ipv6.checksum(packet.source, packet.destination, ICMPV6, message):
        raise WireError(Malformed.BAD_CHECKSUM)
    prefixes, servers, mtu = [], [], None
    for kind, value in _options(message[_ADVERTISEMENT.size :]):
        if kind == _PREFIX_INFORMATION and len(value) == 30 and value[0] <= 128:
            length, how, valid, preferred, prefix = _PREFIX.unpack(value)
            network = IPv6Network((prefix, length), strict=False)
            told = PrefixInformation(network, valid, preferred, bool(how & _AUTONOMOUS), bool(how & _ON_LINK))
            prefixes.append(told)
        elif kind == _MTU and len(value) == 6:
            mtu = int.from_bytes(value[2:], "big")
        elif kind == _RDNSS and len(value) >= 22 and len(value) % 16 == 6:
            addresses = tuple(IPv6Address(value[at : at + 16]) for at in range(6, len(value), 16))
            servers.append(Servers(int.from_bytes(value[2:6], "big"), addresses))
    managed, other = bool(flags & _MANAGED), bool(flags & _OTHER)
    return RouterAdvertisement(lifetime, managed, other, hop_limit, tuple(prefixes), mtu, tuple(servers))


def _options(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Types and what comes behind the length (RFC 4861 section 4.6). Raises WireError."""
    at = 0
    while at < len(data):
        if at + 2 > len(data):
            raise WireError(Malformed.BAD_OPTION)
        end = at + 8 * data[at + 1]
        if end == at or end > len(data):
            raise WireError(Malformed.BAD_OPTION)
        yield data[at], data[at + 2 : end]
        at = end


def _message(source: IPv6Address, destination: IPv6Address, message: bytes) -> bytes:
    told = ipv6.checksum(source, destination, ICMPV6, message)
    message = message[:2] + told.to_bytes(2, "big") + message[4:]
    return ipv6.encode(Ipv6Packet(source, destination, ICMPV6, message))
