"""Who is connected to a proxy, and what goes through a session for them: what the rest of the room works on."""

from __future__ import annotations

import socket
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Protocol

from msgspec import Struct

from engine.proxy.asked import How, Refusal, Wanted, target

HEARD_OUT = 10.0
"""Seconds in which a client has to say what it wants."""


class Machine(Protocol):
    """What hears a client out, in one of the protocols."""

    @property
    def rest(self) -> bytes: ...

    def receive(self, octets: bytes) -> Wanted | None: ...

    def octets_to_send(self) -> bytes: ...

    def refusal(self, why: Refusal) -> bytes: ...

    def success(self, bound: tuple[IPv4Address | IPv6Address, int]) -> bytes: ...


class Port(Struct, eq=False):
    """Where clients connect: a session's own, or the pool's."""

    endpoint: str
    key: int | None
    """None for the pool's."""
    socket: socket.socket | None = None
    told: bool = False
    """Whether it was told that the port is taken."""


class Passing(Struct, eq=False):
    """A connection, from when it is let in to its end."""

    key: int
    user: str
    source: str
    peer: str
    target: str
    how: How
    since: float
    id: int = -1
    """The relay's, once it has it."""
    up: int = 0
    down: int = 0


class Client:
    """One that is heard out, or waits for what it wants."""

    __slots__ = ("cancel", "let_in", "listening", "machine", "peer", "port", "since", "socket", "source", "wanted")

    def __init__(self, port: Port, its_socket: socket.socket, address: tuple[str, int], now: float) -> None:
        self.port = port
        self.socket = its_socket
        if ":" in address[0]:
            host = _host(address[0])
            self.source, self.peer = str(host), target(host, address[1])
        else:
            self.source, self.peer = address[0], f"{address[0]}:{address[1]}"
        self.since = now
        self.machine: Machine | None = None
        self.wanted: Wanted | None = None
        self.cancel: Callable[[], None] | None = None
        self.listening = False
        self.let_in: Passing | None = None


def _host(text: str) -> IPv4Address | IPv6Address:
    """As the kernel tells it: a zone is left out, and an IPv4 address in IPv6's clothes is one of IPv4."""
    address = ip_address(text.partition("%")[0])
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
