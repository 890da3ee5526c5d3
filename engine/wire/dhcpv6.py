"""DHCPv6 messages and their options (RFC 8415 sections 7, 8 and 21; RFC 3646; RFC 8415 section 24 for SOL_MAX_RT)."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from enum import IntEnum
from ipaddress import IPv6Address, IPv6Network

from msgspec import Struct

from engine.wire.errors import Malformed, WireError

CLIENT_PORT, SERVER_PORT = 546, 547
ALL_SERVERS = IPv6Address("ff02::1:2")
"""All_DHCP_Relay_Agents_and_Servers (section 7.1)."""
INFINITY = 0xFFFFFFFF
TRANSACTION = 3
"""Octets of a transaction id."""


class MessageType(IntEnum):
    """Section 7.3; those of relays are left out."""

    SOLICIT = 1
    ADVERTISE = 2
    REQUEST = 3
    CONFIRM = 4
    RENEW = 5
    REBIND = 6
    REPLY = 7
    RELEASE = 8
    DECLINE = 9
    RECONFIGURE = 10
    INFORMATION_REQUEST = 11


class OptionCode(IntEnum):
    """Section 21; RFC 3646 section 3."""

    CLIENT_ID = 1
    SERVER_ID = 2
    IA_NA = 3
    IA_ADDRESS = 5
    REQUEST = 6
    PREFERENCE = 7
    ELAPSED_TIME = 8
    UNICAST = 12
    STATUS_CODE = 13
    RAPID_COMMIT = 14
    RECONFIGURE_ACCEPT = 20
    DNS_SERVERS = 23
    IA_PD = 25
    IA_PREFIX = 26
    REFRESH_TIME = 32
    SOL_MAX_RT = 82
    INF_MAX_RT = 83


class Status(IntEnum):
    """Section 21.13."""

    SUCCESS = 0
    UNSPEC_FAIL = 1
    NO_ADDRS_AVAIL = 2
    NO_BINDING = 3
    NOT_ON_LINK = 4
    USE_MULTICAST = 5
    NO_PREFIX_AVAIL = 6


class Option(Struct, frozen=True):
    """One option; unknown ones are kept as they are."""

    code: int
    value: bytes = b""


class Message(Struct, frozen=True):
    """What client and server send each other (section 8)."""

    type: int
    transaction: bytes
    options: tuple[Option, ...] = ()

    def find(self, code: OptionCode) -> bytes | None:
        """The value of the first option of this code."""
        return next((option.value for option in self.options if option.code == code), None)


class Offered(Struct, frozen=True):
    """An address, as a /128, or a prefix (sections 21.6 and 21.22); lifetimes in seconds."""

    network: IPv6Network
    preferred: int = 0
    valid: int = 0
    status: int = Status.SUCCESS


class Association(Struct, frozen=True):
    """An IA_NA or IA_PD (sections 21.4 and 21.21)."""

    kind: OptionCode
    iaid: int
    t1: int = 0
    t2: int = 0
    offered: tuple[Offered, ...] = ()
    status: int = Status.SUCCESS


def decode(data: bytes) -> Message:
    """Take a message apart. Raises WireError."""
    if len(data) < 1 + TRANSACTION:
        raise WireError(Malformed.TRUNCATED)
    return Message(data[0], data[1 : 1 + TRANSACTION], decode_options(data[1 + TRANSACTION :]))


def encode(message: Message) -> bytes:
    """Put a message together."""
    return bytes((message.type,)) + message.transaction + encode_options(message.options)


def decode_options(data: bytes) -> tuple[Option, ...]:
    """The options in order; raises WireError if one runs past the end."""
    options, at = [], 0
    while at < len(data):
        if at + 4 > len(data):
            raise WireError(Malformed.BAD_OPTION)
        code, length = struct.unpack_from("!HH", data, at)
        if at + 4 + length > len(data):
            raise WireError(Malformed.BAD_OPTION)
        options.append(Option(code, data[at + 4 : at + 4 + length]))
        at += 4 + length
    return tuple(options)


def encode_options(options: Iterable[Option]) -> bytes:
    """The options one after another."""
    return b"".join(struct.pack("!HH", option.code, len(option.value)) + option.value for option in options)


def status_of(options: Iterable[Option]) -> int:
    """The status told among these options; without one all is well (section 21.13). Raises WireError."""
    for option in options:
        if option.code == OptionCode.STATUS_CODE:
            if len(option.value) < 2:
                raise WireError(Malformed.BAD_OPTION)
            return int.from_bytes(option.value[:2], "big")
    return Status.SUCCESS


def status_option(status: Status, text: str = "") -> Option:
    """The option that tells it."""
    return Option(OptionCode.STATUS_CODE, status.to_bytes(2, "big") + text.encode())


_IA = struct.Struct("!III")
_ADDRESS, _PREFIX = struct.Struct("!16sII"), struct.Struct("!IIB16s")


def associations(message: Message) -> list[Association]:
    """The IA_NAs and IA_PDs of a message. Raises WireError."""
    kinds = (OptionCode.IA_NA, OptionCode.IA_PD)
    return [_association(OptionCode(each.code), each.value) for each in message.options if each.code in kinds]


def _association(kind: OptionCode, data: bytes) -> Association:
    if len(data) < _IA.size:
        raise WireError(Malformed.BAD_OPTION)
    within = decode_options(data[_IA.size :])
    wanted = OptionCode.IA_ADDRESS if kind is OptionCode.IA_NA else OptionCode.IA_PREFIX
    offered = tuple(_offered(wanted, each.value) for each in within if each.code == wanted)
    iaid, t1, t2 = _IA.unpack_from(data)
    return Association(kind, iaid, t1, t2, offered, status_of(within))


def _offered(code: OptionCode, data: bytes) -> Offered:
    form = _ADDRESS if code is OptionCode.IA_ADDRESS else _PREFIX
    if len(data) < form.size:
        raise WireError(Malformed.BAD_OPTION)
    if code is OptionCode.IA_ADDRESS:
        packed, preferred, valid = form.unpack_from(data)
        length = 128
    else:
        preferred, valid, length, packed = form.unpack_from(data)
        if length > 128:
            raise WireError(Malformed.BAD_OPTION)
    status = status_of(decode_options(data[form.size :]))
    return Offered(IPv6Network((packed, length), strict=False), preferred, valid, status)


def association_option(association: Association) -> Option:
    """The option that holds it."""
    within = [_offered_option(association.kind, each) for each in association.offered]
    if association.status:
        within.append(status_option(Status(association.status)))
    fixed = _IA.pack(association.iaid, association.t1, association.t2)
    return Option(association.kind, fixed + encode_options(within))


def _offered_option(kind: OptionCode, offered: Offered) -> Option:
    packed, length = offered.network[0].packed, offered.network.prefixlen
    if kind is OptionCode.IA_NA:
        return Option(OptionCode.IA_ADDRESS, _ADDRESS.pack(packed, offered.preferred, offered.valid))
    return Option(OptionCode.IA_PREFIX, _PREFIX.pack(offered.preferred, offered.valid, length, packed))


def dns_servers(message: Message) -> tuple[IPv6Address, ...]:
    """Those told; octets that are no whole address are passed over (RFC 3646 section 3)."""
    value = message.find(OptionCode.DNS_SERVERS) or b""
    return tuple(IPv6Address(value[at : at + 16]) for at in range(0, len(value) - 15, 16))
