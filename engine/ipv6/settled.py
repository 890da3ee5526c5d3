"""What a session has settled in IPv6, as values: with this another process goes on. Times are by time.monotonic()."""

from __future__ import annotations

from msgspec import Struct


class SettledRouter(Struct, frozen=True):
    """What was heard of the router."""

    heard: bool
    managed: bool
    other: bool
    mtu: int | None
    until: float
    prefixes: tuple[tuple[str, float, float], ...] = ()
    """Networks, until when addresses of them are preferred, and valid."""
    servers: tuple[tuple[str, float], ...] = ()
    """Name servers, each with its end."""


class SettledLeases(Struct, frozen=True):
    """What a DHCPv6 server has given."""

    server: bytes
    t1: float
    t2: float
    leases: tuple[tuple[int, str, float, float], ...]
    """Kinds of association, networks, until when they are preferred, and valid."""
    servers: tuple[str, ...]
    """Name servers."""
    wishes: tuple[bool, int | None, bool]
    """What was asked for; see `engine.ipv6.dhcp.Wishes`."""


class SettledIpv6(Struct, frozen=True):
    """All of it."""

    router: SettledRouter
    dhcp: SettledLeases | None = None
