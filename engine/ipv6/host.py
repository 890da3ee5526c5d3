"""A session's part in IPv6 beyond IPv6CP: it hears a router, makes itself addresses, asks a DHCPv6 server.

    host.start(now)                  IPv6CP is open
    host.receive(packet, now)        each IPv6 packet that the data path leaves to us
    host.handle_timer(now), next_timer(), packets_to_send(), next_event()
    host.release(now)                the session is about to end

The packets are whole, from and to link-local addresses. The kernel sees none of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network
from math import inf
from typing import Protocol

from engine.ipv6.identifiers import Identity
from engine.ipv6.router import Router
from engine.wire import ipv6
from engine.wire.errors import Malformed, WireError
from engine.wire.ipv6 import ICMPV6


class Judge(Protocol):
    """Says what speaks against what is offered: the rest of a sentence that begins with "it", or nothing."""

    def ours(self, address: IPv6Address) -> str:
        """Against a global address of our own."""

    def network(self, network: IPv6Network) -> str:
        """Against a network that is delegated to us."""


@dataclass(frozen=True, slots=True)
class Ipv6Config:
    """What a session has of IPv6 beside its link-local address."""

    addresses: tuple[IPv6Address, ...] = ()
    """Global ones; those that new connections had better not use any more come last."""
    deprecated: frozenset[IPv6Address] = frozenset()
    """These (RFC 4862 section 5.5.4)."""
    prefixes: tuple[IPv6Network, ...] = ()
    """Delegated ones."""
    dns: tuple[IPv6Address, ...] = ()
    mtu: int | None = None
    """The longest IPv6 packet, in octets, if the router said so."""


NOTHING = Ipv6Config()


@dataclass(frozen=True, slots=True)
class Ipv6Configured:
    """That has changed."""

    config: Ipv6Config


@dataclass(frozen=True, slots=True)
class Ipv6Remark:
    """Something that the operator may want to know."""

    text: str


Ipv6Event = Ipv6Configured | Ipv6Remark


class Ipv6Host:
    """One session's, from IPv6CP's opening to its close."""

    def __init__(
        self,
        source: IPv6Address,
        identity: Identity,
        entropy: Callable[[int], bytes],
        judge: Judge,
        now: float,
    ) -> None:
        """`source` is our link-local address."""
        self.config = NOTHING
        self._source = source
        self._identity = identity
        self._judge = judge
        self._router = Router(source, entropy, now)
        self._judged: dict[IPv6Address | IPv6Network, str] = {}
        """What speaks against what is offered now, by what it is."""
        self._events: deque[Ipv6Event] = deque()

    def receive(self, data: bytes, now: float) -> None:
        """Heed one IPv6 packet. Raises WireError for one that is malformed, or none of ours."""
        packet = ipv6.decode(data)
        if packet.next_header == ICMPV6:
            self._router.receive(packet, now)
        else:
            raise WireError(Malformed.NOT_EXPECTED)
        self._settle()

    def next_timer(self) -> float | None:
        """When `handle_timer` is to be called next, None for not at all."""
        return self._router.next_timer()

    def handle_timer(self, now: float) -> None:
        """Do whatever is due by now; calling it early does nothing."""
        self._router.handle_timer(now)
        self._settle()

    def packets_to_send(self) -> list[bytes]:
        """IPv6 packets for the line, oldest first."""
        return self._router.packets_to_send()

    def next_event(self) -> Ipv6Event | None:
        """What happened, oldest first; None when there is nothing more."""
        return self._events.popleft() if self._events else None

    def _settle(self) -> None:
        """See what we have now, and tell if that is something else."""
        made = {self._identity.address(each.network): each for each in self._router.prefixes.values()}
        offered = {address: each.preferred == -inf for address, each in made.items()}
        self._judged = {each: self._judged[each] for each in self._judged if each in offered}
        usable = {address: late for address, late in offered.items() if not self._objection(address)}
        config = Ipv6Config(
            tuple(sorted(usable, key=lambda address: usable[address])),
            frozenset(address for address, late in usable.items() if late),
            (),
            tuple(self._router.servers),
            self._router.mtu,
        )
        if config != self.config:
            self.config = config
            self._events.append(Ipv6Configured(config))

    def _objection(self, address: IPv6Address) -> str:
        """Asked, and told, once for each address that is offered."""
        if address not in self._judged:
            why = self._judged[address] = self._judge.ours(address)
            if why:
                self._events.append(Ipv6Remark(f"The IPv6 address {address} isn't taken: it {why}."))
        return self._judged[address]
