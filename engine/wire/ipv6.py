"""IPv6 packets, and UDP in them: headers and checksums (RFC 8200 sections 3 and 8.1, RFC 768)."""

from __future__ import annotations

import struct
from ipaddress import IPv6Address

from msgspec import Struct

from engine.wire.errors import Malformed, WireError

UDP, ICMPV6 = 17, 58
FROM_THE_LINK = 255
"""A hop limit that no router has lowered (RFC 4861 section 3.1)."""
_HEADER = struct.Struct("!IHBB16s16s")
_VERSION = 6 << 28
_UDP = struct.Struct("!HHHH")


class Ipv6Packet(Struct, frozen=True):
    """One packet without extension headers."""

    source: IPv6Address
    destination: IPv6Address
    next_header: int
    payload: bytes
    hop_limit: int = FROM_THE_LINK


class Datagram(Struct, frozen=True):
    """What UDP carries."""

    source_port: int
    destination_port: int
    payload: bytes


def is_one_hosts(address: IPv6Address) -> bool:
    """Whether it can be another host's: not unspecified, loopback or multicast, nor one of IPv4 (RFC 4291)."""
    nobodys = address.is_unspecified or address.is_loopback or address.is_multicast
    return not nobodys and address.ipv4_mapped is None


def decode(data: bytes) -> Ipv6Packet:
    """Take a packet apart; octets after its length are padding. Raises WireError."""
    if len(data) < _HEADER.size:
        raise WireError(Malformed.TRUNCATED)
    first, length, next_header, hop_limit, source, destination = _HEADER.unpack_from(data)
    if first >> 28 != 6:
        raise WireError(Malformed.BAD_VERSION)
    payload = data[_HEADER.size : _HEADER.size + length]
    if len(payload) != length:
        raise WireError(Malformed.BAD_LENGTH)
    return Ipv6Packet(IPv6Address(source), IPv6Address(destination), next_header, payload, hop_limit)


def encode(packet: Ipv6Packet) -> bytes:
    """Put a packet together."""
    fixed = (_VERSION, len(packet.payload), packet.next_header, packet.hop_limit)
    return _HEADER.pack(*fixed, packet.source.packed, packet.destination.packed) + packet.payload


def checksum(source: IPv6Address, destination: IPv6Address, next_header: int, payload: bytes) -> int:
    """Of what a packet carries, with the pseudo-header; 0 if the right one is in the payload already."""
    data = source.packed + destination.packed + struct.pack("!II", len(payload), next_header) + payload
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - total


def decode_udp(packet: Ipv6Packet) -> Datagram:
    """The datagram in a packet of UDP. Raises WireError; a checksum must be there, and right (RFC 8200 section 8.1)."""
    if len(packet.payload) < _UDP.size:
        raise WireError(Malformed.TRUNCATED)
    source, destination, length, told = _UDP.unpack_from(packet.payload)
    if not _UDP.size <= length <= len(packet.payload):
        raise WireError(Malformed.BAD_LENGTH)
    if not told or checksum(packet.source, packet.destination, UDP, packet.payload[:length]):
        raise WireError(Malformed.BAD_CHECKSUM)
    return Datagram(source, destination, packet.payload[_UDP.size : length])


def encode_udp(source: IPv6Address, destination: IPv6Address, datagram: Datagram) -> bytes:
    """The whole packet."""
    ports = datagram.source_port, datagram.destination_port
    length = _UDP.size + len(datagram.payload)
    told = checksum(source, destination, UDP, _UDP.pack(*ports, length, 0) + datagram.payload) or 0xFFFF
    payload = _UDP.pack(*ports, length, told) + datagram.payload
    return encode(Ipv6Packet(source, destination, UDP, payload))
