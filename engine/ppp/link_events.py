"""What a link tells, of its phases, its layers and its peer."""

from __future__ import annotations

from msgspec import Struct

from engine.api.ending import End
from engine.ppp.ipcp import Ipv4Agreed
from engine.ppp.ipv6cp import Ipv6Agreed
from engine.ppp.phases import Phase
from engine.settings.values import AuthMethod
from engine.wire.ppp import Protocol


class PhaseChanged(Struct, frozen=True):
    """The link entered another phase."""

    phase: Phase


class Authenticated(Struct, frozen=True):
    """Our authentication or the peer's succeeded."""

    method: AuthMethod
    message: str
    """As in `Result`."""
    user: bytes
    """Who the peer proved to be; empty for our own."""


class PasswordInClear(Struct, frozen=True):
    """PAP was agreed: our password goes out as it is (RFC 1334 section 2.2.1)."""


class Ipv4Opened(Struct, frozen=True):
    """IPCP is open."""

    agreed: Ipv4Agreed


class Ipv4Closed(Struct, frozen=True):
    """IPCP is not open any more."""


class Ipv6Opened(Struct, frozen=True):
    """IPv6CP is open."""

    agreed: Ipv6Agreed


class Ipv6Closed(Struct, frozen=True):
    """IPv6CP is not open any more."""


class MtuVerified(Struct, frozen=True):
    """A full-size echo came back, or never did (RFC 4638): `mtu` is what the link carries."""

    mtu: int


class ProtocolMissing(Struct, frozen=True):
    """IPCP or IPv6CP will not come up, and the link lives on with the other one."""

    protocol: Protocol
    why: str


class RoundTrip(Struct, frozen=True):
    """An Echo-Request was answered."""

    seconds: float
    asked: int
    """Octets of the LCP packet that asked, and of the one that answered."""
    answered: int


class Silence(Struct, frozen=True):
    """Echo-Requests go unanswered since then, or the peer was heard again."""

    since: float | None


class Notice(Struct, frozen=True):
    """Something the operator may want to know; it changes nothing."""

    text: str


class LinkEnded(Struct, frozen=True):
    """The link is over; nothing more is sent."""

    end: End


LinkNews = (
    Authenticated
    | Ipv4Opened
    | Ipv4Closed
    | Ipv6Opened
    | Ipv6Closed
    | MtuVerified
    | ProtocolMissing
    | RoundTrip
    | Silence
    | Notice
)
"""What is of interest beyond the session that owns the link."""

LinkEvent = LinkNews | PasswordInClear | PhaseChanged | LinkEnded
