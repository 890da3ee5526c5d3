"""What a link that is up has settled with its peer: with this another process goes on with it, and asks for nothing."""

from __future__ import annotations

from msgspec import Struct

from engine.wire.control import Option


class Settled(Struct, frozen=True):
    """An open control protocol (RFC 1661 section 4.2, Opened)."""

    ours: tuple[Option, ...]
    """The options of ours that the peer acknowledged."""
    peers: tuple[Option, ...]
    """Those of the peer that we did."""
    asked: int
    """The identifier of our Configure-Request."""
    identifier: int
    """The latest that was used."""
    sent: int = 1
    """Configure-Requests in a row: the more, the slower comes the next."""


class SettledLink(Struct, frozen=True):
    """A link whose network protocols have nothing left to negotiate."""

    mru: int
    """The longest packet that we could take when it began, which bounds what was agreed on."""
    path_mtu: int
    """What the path was found to carry (RFC 4638)."""
    lcp: Settled
    open: tuple[tuple[int, Settled], ...]
    """Network protocols that are open, by number."""
    missing: tuple[tuple[int, str], ...] = ()
    """Those that would not come up, and why; they are tried again."""
    rtt: float | None = None
    """Seconds that the latest answered echo took."""
