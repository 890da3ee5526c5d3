"""The PPP packet inside a PPPoE session frame: a protocol number and what it carries (RFC 1661 section 2)."""

from __future__ import annotations

from enum import IntEnum

from engine.wire.errors import Malformed, WireError


class Protocol(IntEnum):
    """PPP protocol numbers that this program knows."""

    IPV4 = 0x0021
    IPV6 = 0x0057
    IPCP = 0x8021
    IPV6CP = 0x8057
    LCP = 0xC021
    PAP = 0xC023
    CHAP = 0xC223
    EAP = 0xC227


def decode(payload: bytes) -> tuple[int, bytes]:
    """(protocol number, information field).

    A protocol number compressed to one octet is accepted although it is never asked for (RFC 1661 section 6.5), and so
    is the HDLC address and control field that some peers leave in front (RFC 1662 section 3.1). A number that breaks
    the rule of odd and even octets is returned as it is, to be treated as unknown (RFC 1661 section 2).
    Raises WireError.
    """
    if payload[:2] == b"\xff\x03":
        payload = payload[2:]
    if not payload:
        raise WireError(Malformed.TRUNCATED)
    if payload[0] & 1:  # only the last octet of a number is odd, so this one is the whole of it
        return payload[0], payload[1:]
    if len(payload) < 2:
        raise WireError(Malformed.TRUNCATED)
    return payload[0] << 8 | payload[1], payload[2:]


def encode(protocol: int, information: bytes) -> bytes:
    """The packet with its protocol number in two octets."""
    return protocol.to_bytes(2, "big") + information
