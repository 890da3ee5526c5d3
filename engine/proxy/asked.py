"""What a client of a proxy asks for, in whichever of the protocols it speaks. Values, and nothing that does I/O."""

from __future__ import annotations

import re
from enum import StrEnum
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from engine.wire.value import Veiled

Host = str | IPv4Address | IPv6Address


class How(StrEnum):
    """The protocol that a client speaks."""

    SOCKS4 = "socks4"
    SOCKS5 = "socks5"
    UDP = "udp"
    """SOCKS 5's UDP ASSOCIATE."""
    CONNECT = "connect"
    """HTTP's method of that name."""
    HTTP = "http"
    """A plain request by HTTP."""


class Wanted(Veiled, frozen=True):
    """A connection that a client asks for."""

    VEILED = ("password",)

    how: How
    host: Host
    port: int
    user: str = ""
    """The user name as it was given, with what chooses a session behind it."""
    password: bytes | None = None
    """None where the client gave none."""


class Refusal(StrEnum):
    """Why a client gets nothing. Each protocol has a code of its own for each of them."""

    MALFORMED = "malformed"
    TOO_LONG = "too long"
    NOT_SUPPORTED = "not supported"
    ADDRESS_TYPE = "address type not supported"
    NOT_ALLOWED = "wrong user name or password"
    FORBIDDEN = "not allowed to go there"
    LIMIT = "too many connections"
    DOWN = "no session is up for it"
    NO_NAME = "no such name"
    NAME_FAILED = "the session's DNS servers have no answer"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    TIMED_OUT = "timed out"
    FAULT = "fault"


class Refused(Exception):
    """A client gets nothing."""

    def __init__(self, why: Refusal) -> None:
        super().__init__(str(why))
        self.why = why


def host_of(text: str) -> Host:
    """A host as a client names it, an address as such; raises Refused. IPv6 stands without brackets here.

    An IPv4 address in IPv6's clothes is one of IPv4, by which it is judged.
    """
    try:
        return IPv4Address(text)
    except AddressValueError:
        pass
    if ":" in text:
        try:
            return plain(IPv6Address(text))
        except AddressValueError:
            raise Refused(Refusal.MALFORMED) from None
    if not _NAME.fullmatch(text):
        raise Refused(Refusal.MALFORMED)
    return text


def plain(address: IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that an IPv6 one is mapped from, or itself; raises Refused for one with a zone."""
    if address.scope_id is not None:
        raise Refused(Refusal.MALFORMED)
    return address.ipv4_mapped or address


def target(host: Host, port: int) -> str:
    """As people write it."""
    return f"[{host}]:{port}" if isinstance(host, IPv6Address) else f"{host}:{port}"


_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,253}")
"""What a DNS name is made of, in ASCII."""
