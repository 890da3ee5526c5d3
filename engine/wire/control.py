"""Control packets of LCP and of all protocols made like it, and their options (RFC 1661 sections 5 and 6)."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

from msgspec import Struct

from engine.wire.errors import Malformed, WireError
from engine.wire.value import Veiled


class Code(IntEnum):
    """Codes of LCP (RFC 1661 section 5, RFC 1570 section 1).

    Network control protocols have the first seven (RFC 1332 section 2, RFC 5072 section 3).
    """

    CONFIGURE_REQUEST = 1
    CONFIGURE_ACK = 2
    CONFIGURE_NAK = 3
    CONFIGURE_REJECT = 4
    TERMINATE_REQUEST = 5
    TERMINATE_ACK = 6
    CODE_REJECT = 7
    PROTOCOL_REJECT = 8
    ECHO_REQUEST = 9
    ECHO_REPLY = 10
    DISCARD_REQUEST = 11
    IDENTIFICATION = 12
    TIME_REMAINING = 13


class LcpOption(IntEnum):
    """LCP's configuration options (RFC 1661 section 6, RFC 1662 section 7.1, RFC 1570 section 2.1)."""

    MRU = 1
    ACCM = 2
    AUTHENTICATION = 3
    QUALITY = 4
    MAGIC = 5
    PFC = 7
    ACFC = 8
    FCS_ALTERNATIVES = 9


class IpcpOption(IntEnum):
    """IPCP's configuration options (RFC 1332 section 3, RFC 1877 section 1)."""

    IP_ADDRESSES = 1
    COMPRESSION = 2
    IP_ADDRESS = 3
    PRIMARY_DNS = 129
    PRIMARY_NBNS = 130
    SECONDARY_DNS = 131
    SECONDARY_NBNS = 132


class Ipv6cpOption(IntEnum):
    """IPv6CP's configuration options (RFC 5072 section 4, RFC 5172)."""

    INTERFACE_IDENTIFIER = 1
    COMPRESSION = 2


class Option(Struct, frozen=True):
    """One configuration option (RFC 1661 section 6); unknown types are kept as they are."""

    type: int
    value: bytes = b""
    """At most 253 octets."""


class ControlPacket(Veiled, frozen=True):
    """One control packet; also the frame of PAP and CHAP, which have codes of their own."""

    VEILED = ("data",)  # of PAP it is the password

    code: int
    identifier: int
    data: bytes = b""


def decode(data: bytes) -> ControlPacket:
    """Take a packet apart; octets after Length are padding. Raises WireError (RFC 1661 section 5)."""
    if len(data) < 4:
        raise WireError(Malformed.TRUNCATED)
    length = data[2] << 8 | data[3]
    if not 4 <= length <= len(data):
        raise WireError(Malformed.BAD_LENGTH)
    return ControlPacket(data[0], data[1], data[4:length])


def encode(packet: ControlPacket) -> bytes:
    """Put a packet together."""
    return bytes((packet.code, packet.identifier)) + (len(packet.data) + 4).to_bytes(2, "big") + packet.data


def decode_options(data: bytes) -> tuple[Option, ...]:
    """The options of a Configure packet, in order (RFC 1661 section 6).

    Raises WireError if one is shorter than its header or runs past the end: the whole packet is then to be discarded.
    """
    options = []
    at, end = 0, len(data)
    while at < end:
        if at + 2 > end:
            raise WireError(Malformed.BAD_OPTION)
        option_end = at + data[at + 1]
        if option_end < at + 2 or option_end > end:
            raise WireError(Malformed.BAD_OPTION)
        options.append(Option(data[at], data[at + 2 : option_end]))
        at = option_end
    return tuple(options)


def encode_options(options: Iterable[Option]) -> bytes:
    """The options one after another."""
    return b"".join([bytes((option.type, len(option.value) + 2)) + option.value for option in options])
