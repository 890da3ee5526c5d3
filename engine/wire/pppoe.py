"""PPPoE packets and their tags (RFC 2516 sections 4 and 5, RFC 4638, Broadband Forum TR-101)."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

from msgspec import Struct

from engine.wire import control, ethernet, ppp
from engine.wire.errors import Malformed, WireError
from engine.wire.ethernet import ETH_PPPOE_SESSION, EthernetFrame, VlanTag
from engine.wire.text import printable
from engine.wire.value import Veiled

VERSION_TYPE = 0x11
"""VER and TYPE, both 1 (RFC 2516 section 4)."""
HEADER = 6
"""Octets of the PPPoE header."""
RESERVED_SESSION_ID = 0xFFFF
"""Never used (RFC 2516 section 4)."""
DSL_FORUM_VENDOR_ID = 0x00000DE9
"""The Broadband Forum's enterprise number, under its name of then (TR-101 appendix A)."""


class Code(IntEnum):
    """The CODE field (RFC 2516 sections 5.1 to 5.5 and 6)."""

    SESSION = 0x00
    PADO = 0x07
    PADI = 0x09
    PADR = 0x19
    PADS = 0x65
    PADT = 0xA7


class TagType(IntEnum):
    """TAG_TYPE values (RFC 2516 appendix A, RFC 4638 section 4)."""

    END_OF_LIST = 0x0000
    SERVICE_NAME = 0x0101
    AC_NAME = 0x0102
    HOST_UNIQ = 0x0103
    AC_COOKIE = 0x0104
    VENDOR_SPECIFIC = 0x0105
    RELAY_SESSION_ID = 0x0110
    PPP_MAX_PAYLOAD = 0x0120
    SERVICE_NAME_ERROR = 0x0201
    AC_SYSTEM_ERROR = 0x0202
    GENERIC_ERROR = 0x0203


ERROR_TAGS = (
    TagType.SERVICE_NAME_ERROR,
    TagType.AC_SYSTEM_ERROR,
    TagType.GENERIC_ERROR,
)


class Tag(Struct, frozen=True):
    """One tag (RFC 2516 section 5); unknown types are kept as they are."""

    type: int
    value: bytes = b""


class PppoePacket(Veiled, frozen=True):
    """One PPPoE packet: what an Ethernet frame of type 0x8863 or 0x8864 carries."""

    VEILED = ("payload",)

    code: int
    session_id: int
    payload: bytes
    """Exactly LENGTH octets: tags in discovery, a PPP packet in a session."""


def decode(data: bytes) -> PppoePacket:
    """Take an Ethernet payload apart, leaving out the padding after LENGTH (RFC 2516 section 4); raises WireError."""
    if len(data) < HEADER:
        raise WireError(Malformed.TRUNCATED)
    if data[0] != VERSION_TYPE:
        raise WireError(Malformed.BAD_VERSION)
    length = data[4] << 8 | data[5]
    if length > len(data) - HEADER:
        raise WireError(Malformed.BAD_LENGTH)
    return PppoePacket(data[1], data[2] << 8 | data[3], data[HEADER : HEADER + length])


def encode(packet: PppoePacket) -> bytes:
    """Put a packet together; its payload may have at most 65,535 octets."""
    return (
        bytes((VERSION_TYPE, packet.code))
        + packet.session_id.to_bytes(2, "big")
        + len(packet.payload).to_bytes(2, "big")
        + packet.payload
    )


UNTAGGED = 18
"""Octets of a `session_header` without VLAN tags."""


def session_header(dst: bytes, src: bytes, session_id: int, vlans: tuple[VlanTag, ...] = ()) -> bytes:
    """What all frames of a session begin with, one way, up to PPPoE's LENGTH (RFC 2516 section 6)."""
    numbered = bytes((VERSION_TYPE, Code.SESSION)) + session_id.to_bytes(2, "big")
    return ethernet.encode(EthernetFrame(dst, src, ETH_PPPOE_SESSION, numbered, vlans))


def behind(header: bytes, payload: bytes) -> bytes:
    """The frame with that `session_header` and a PPP packet."""
    return header + len(payload).to_bytes(2, "big") + payload


def untagged(frame: bytes) -> bytes | None:
    """The PPP packet of a session's frame that has no VLAN tag, without padding; None where LENGTH goes too far.

    The caller has found the frame's first UNTAGGED octets to be a session's.
    """
    begin = UNTAGGED + 2
    if len(frame) < begin:
        return None
    end = begin + (frame[UNTAGGED] << 8 | frame[UNTAGGED + 1])
    return frame[begin:end] if end <= len(frame) else None


ECHOES = tuple(
    ppp.encode(ppp.Protocol.LCP, bytes((code,))) for code in (control.Code.ECHO_REQUEST, control.Code.ECHO_REPLY)
)
"""What the PPP packets of LCP's echoes begin with."""


def is_echo(frame: bytes) -> bool:
    """Whether a frame holds an LCP echo, by where it stands in a session's frame with up to two VLAN tags."""
    for at in (12, 16, 20):
        if frame[at : at + 2] == b"\x88\x64":
            return frame[at + 8 : at + 11] in ECHOES
    return False


def decode_tags(payload: bytes) -> tuple[Tag, ...]:
    """The tags of a discovery packet up to End-Of-List (RFC 2516 section 5, appendix A).

    Raises WireError if one runs past the end.
    """
    tags = []
    at, end = 0, len(payload)
    while at < end:
        if at + 4 > end:
            raise WireError(Malformed.BAD_TAG)
        kind = payload[at] << 8 | payload[at + 1]
        if kind == TagType.END_OF_LIST:
            break
        value_end = at + 4 + (payload[at + 2] << 8 | payload[at + 3])
        if value_end > end:
            raise WireError(Malformed.BAD_TAG)
        tags.append(Tag(kind, payload[at + 4 : value_end]))
        at = value_end
    return tuple(tags)


def encode_tags(tags: Iterable[Tag]) -> bytes:
    """The tags one after another, without End-Of-List."""
    return b"".join([tag.type.to_bytes(2, "big") + len(tag.value).to_bytes(2, "big") + tag.value for tag in tags])


def find(tags: Iterable[Tag], kind: TagType) -> bytes | None:
    """The value of the first tag of that type, None without one."""
    for tag in tags:
        if tag.type == kind:
            return tag.value
    return None


def error_text(tags: Iterable[Tag]) -> str | None:
    """What the first error tag says, None without one; an empty text is replaced by the tag's name.

    RFC 2516 appendix A makes it UTF-8, which not every concentrator keeps to.
    """
    for tag in tags:
        if tag.type in ERROR_TAGS:
            return printable(tag.value) or ERROR_NAMES[TagType(tag.type)]
    return None


ERROR_NAMES = {
    TagType.SERVICE_NAME_ERROR: "no such service",
    TagType.AC_SYSTEM_ERROR: "a system error at the concentrator",
    TagType.GENERIC_ERROR: "an error it does not explain",
}


def max_payload(tags: Iterable[Tag]) -> int | None:
    """The value of a PPP-Max-Payload tag (RFC 4638 section 4), None if absent or not two octets."""
    value = find(tags, TagType.PPP_MAX_PAYLOAD)
    return int.from_bytes(value, "big") if value is not None and len(value) == 2 else None


def line_id_tag(circuit_id: str | None, remote_id: str | None) -> Tag:
    """The Vendor-Specific tag that identifies an access line (TR-101 appendix A); each id has at most 63 octets."""
    subs = b""
    for number, text in ((1, circuit_id), (2, remote_id)):
        if text is not None:
            value = text.encode()
            subs += bytes((number, len(value))) + value
    return Tag(TagType.VENDOR_SPECIFIC, DSL_FORUM_VENDOR_ID.to_bytes(4, "big") + subs)
