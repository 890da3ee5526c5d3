"""What PAP and CHAP packets carry (RFC 1334 section 2.2, RFC 1994 section 4); their frame is a `ControlPacket`."""

from __future__ import annotations

from enum import IntEnum

from engine.wire.errors import Malformed, WireError


class PapCode(IntEnum):
    """PAP's codes (RFC 1334 section 2.2)."""

    REQUEST = 1
    ACK = 2
    NAK = 3


class ChapCode(IntEnum):
    """CHAP's codes (RFC 1994 section 4)."""

    CHALLENGE = 1
    RESPONSE = 2
    SUCCESS = 3
    FAILURE = 4


class ChapAlgorithm(IntEnum):
    """The octet after 0xC223 in LCP's authentication option (RFC 1994 section 3, RFC 2759 section 2)."""

    MD5 = 5
    MSCHAPV2 = 0x81


def encode_pap_request(peer_id: bytes, password: bytes) -> bytes:
    """The data of an Authenticate-Request (RFC 1334 section 2.2.1); each at most 255 octets."""
    return bytes((len(peer_id),)) + peer_id + bytes((len(password),)) + password


def decode_pap_request(data: bytes) -> tuple[bytes, bytes]:
    """(peer id, password) of an Authenticate-Request (RFC 1334 section 2.2.1); raises WireError."""
    if not data or len(data) < 2 + data[0]:
        raise WireError(Malformed.TRUNCATED)
    end = 1 + data[0]
    if len(data) < end + 1 + data[end]:
        raise WireError(Malformed.BAD_LENGTH)
    return data[1:end], data[end + 1 : end + 1 + data[end]]


def encode_pap_message(message: bytes) -> bytes:
    """The data of an Authenticate-Ack or -Nak (RFC 1334 section 2.2.2); the message has at most 255 octets."""
    return bytes((len(message),)) + message


def decode_pap_message(data: bytes) -> bytes:
    """The message of an Ack or Nak (RFC 1334 section 2.2.2).

    A missing length, or one past the end, is forgiven, because peers get it wrong.
    """
    return data[1 : 1 + data[0]] if data else b""


def encode_chap_value(value: bytes, name: bytes) -> bytes:
    """The data of a Challenge or Response (RFC 1994 section 4.1); the value has 1 to 255 octets."""
    return bytes((len(value),)) + value + name


def decode_chap_value(data: bytes) -> tuple[bytes, bytes]:
    """(value, name) of a Challenge or Response (RFC 1994 section 4.1).

    Raises WireError if the value is empty or runs past the end.
    """
    if not data:
        raise WireError(Malformed.TRUNCATED)
    end = 1 + data[0]
    if end == 1 or end > len(data):
        raise WireError(Malformed.BAD_LENGTH)
    return data[1:end], data[end:]
