"""A session's part in IPv6 beyond IPv6CP: it hears a router, makes itself addresses, asks a DHCPv6 server.

    host.start(now)                  IPv6CP is open
    host.receive(packet, now)        each IPv6 packet that the data path leaves to us
    host.handle_timer(now), next_timer(), packets_to_send(), next_event()
    host.release(now)                the session is about to end

The packets are whole, from and to link-local addresses. The kernel sees none of them.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Address, IPv6Network
from math import inf
from typing import Protocol

from msgspec import Struct

from engine.ipv6.dhcp import DhcpClient, Wishes
from engine.ipv6.identifiers import Identity
from engine.ipv6.router import Router
from engine.ipv6.settled import SettledIpv6
from engine.settings.values import Dhcpv6
from engine.wire import dhcpv6, ipv6
from engine.wire.dhcpv6 import OptionCode
from engine.wire.errors import Malformed, WireError
from engine.wire.ipv6 import ICMPV6, UDP, Datagram, Ipv6Packet

PATIENCE = 3.0
"""Seconds in which a router may say that addresses are to be had by DHCPv6 too, before a prefix alone is asked for."""

CHANGES, CHANGE_PAUSE = 8, 3.0
"""So many changes follow each other at once, then one in so many seconds: no router says anything new more often
(MIN_DELAY_BETWEEN_RAS in RFC 4861 section 10), and each is work for this host."""
MOST_TOLD = 32
"""Things that are offered and not taken, of which the operator hears."""


class Judge(Protocol):
    """Says what speaks against what is offered: the rest of a sentence that begins with "it", or nothing."""

    def ours(self, address: IPv6Address) -> str:
        """Against a global address of our own."""

    def network(self, network: IPv6Network) -> str:
        """Against a network that is delegated to us."""


class Ipv6Config(Struct, frozen=True):
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


class Ipv6Configured(Struct, frozen=True):
    """That has changed."""

    config: Ipv6Config
    before: Ipv6Config = NOTHING


class Ipv6Remark(Struct, frozen=True):
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
        *,
        dhcp: Dhcpv6 = Dhcpv6.AUTO,
        prefix: int | None = None,
    ) -> None:
        """`source` is our link-local address; `prefix` is as in `Wishes`."""
        self.config = NOTHING
        self._source = source
        self._identity = identity
        self._judge = judge
        self._router = Router(source, entropy, now)
        self._dhcp = DhcpClient(identity.duid, entropy)
        self._mode, self._prefix = dhcp, prefix
        self._patient_until = now + PATIENCE
        self._wishes = Wishes()
        """What a server is asked for: the more a router has ever spoken of it."""
        self._judged: dict[IPv6Address | IPv6Network, str] = {}
        """What speaks against what is offered now, by what it is."""
        self._told: set[IPv6Address | IPv6Network] = set()
        """What of that the operator has heard of."""
        self._changes_paid = 0.0
        """When CHANGES may follow each other at once again."""
        self._change_at: float | None = None
        """When the change that waits for its time is made."""
        self._events: list[Ipv6Event] = []

    def receive(self, data: bytes, now: float) -> None:
        """Heed one IPv6 packet. Raises WireError for one that is malformed, or none of ours."""
        packet = ipv6.decode(data)
        if packet.next_header == ICMPV6:
            self._router.receive(packet, now)
        elif packet.next_header == UDP and packet.destination == self._source:
            self._datagram(packet, now)
        else:
            raise WireError(Malformed.NOT_EXPECTED)
        self._settle(now)

    def _datagram(self, packet: Ipv6Packet, now: float) -> None:
        datagram = ipv6.decode_udp(packet)
        if datagram.destination_port != dhcpv6.CLIENT_PORT:
            raise WireError(Malformed.NOT_EXPECTED)
        self._dhcp.receive(datagram.payload, now)

    def release(self, now: float) -> None:
        """Give back what a server has lent: the session is about to end."""
        self._dhcp.release(now)

    @property
    def settled(self) -> SettledIpv6:
        """What another process needs to go on with it."""
        return SettledIpv6(self._router.settled, self._dhcp.settled)

    def resume(self, settled: SettledIpv6, now: float) -> None:
        """Go on with what another process had. None of it is judged again: it is in use."""
        self._router.resume(settled.router, now)
        if settled.dhcp is not None:
            self._dhcp.resume(settled.dhcp)
            self._wishes = Wishes(*settled.dhcp.wishes)
        addresses, prefixes = self._offered()
        self._judged = dict.fromkeys((*addresses, *prefixes), "")
        self._settle(now)

    def next_timer(self) -> float | None:
        """When `handle_timer` is to be called next, None for not at all."""
        timers = [self._router.next_timer(), self._dhcp.next_timer(), self._change_at]
        if self._mode is Dhcpv6.AUTO and self._prefix is not None and not self._wishes.kinds:
            timers.append(self._patient_until)
        return min([at for at in timers if at is not None], default=None)

    def handle_timer(self, now: float) -> None:
        """Do whatever is due by now; calling it early does nothing."""
        self._router.handle_timer(now)
        self._dhcp.handle_timer(now)
        self._settle(now)

    def packets_to_send(self) -> list[bytes]:
        """IPv6 packets for the line, oldest first."""
        ports = dhcpv6.CLIENT_PORT, dhcpv6.SERVER_PORT
        messages = [Datagram(*ports, message) for message in self._dhcp.messages_to_send()]
        asked = [ipv6.encode_udp(self._source, dhcpv6.ALL_SERVERS, datagram) for datagram in messages]
        return self._router.packets_to_send() + asked

    def next_event(self) -> Ipv6Event | None:
        """What happened, oldest first; None when there is nothing more."""
        return self._events.pop(0) if self._events else None

    def _settle(self, now: float) -> None:
        """See what we have now, and tell if that is something else."""
        self._ask(now)
        addresses, prefixes = self._offered()
        self._judged = {each: why for each, why in self._judged.items() if each in addresses or each in prefixes}
        usable = [each for each in addresses if not self._objection(each)]
        config = Ipv6Config(
            tuple(sorted(usable, key=lambda address: addresses[address])),
            frozenset(address for address in usable if addresses[address]),
            tuple(network for network in prefixes if not self._objection(network)),
            tuple(dict.fromkeys((*self._router.servers, *self._dhcp.servers))),
            self._router.mtu,
        )
        self._change(config, now)
        self._events += map(Ipv6Remark, self._dhcp.remarks)
        self._dhcp.remarks.clear()

    def _change(self, config: Ipv6Config, now: float) -> None:
        """Have this from now on, or as soon as there were not too many changes lately."""
        self._change_at = None
        if config == self.config:
            return
        soonest = self._changes_paid - CHANGES * CHANGE_PAUSE
        if now < soonest:
            self._change_at = soonest
            return
        self._changes_paid = max(self._changes_paid, now) + CHANGE_PAUSE
        self._events.append(Ipv6Configured(config, self.config))
        self.config = config

    def _ask(self, now: float) -> None:
        """Ask a DHCPv6 server for what the operator wants, or the router speaks of. It takes nothing of that back."""
        router, had, is_always = self._router, self._wishes, self._mode is Dhcpv6.ALWAYS
        if self._mode is Dhcpv6.NEVER or (self._mode is Dhcpv6.AUTO and not router.heard and now < self._patient_until):
            return
        address, other = is_always or router.managed or had.address, is_always or router.other or had.other
        self._wishes = Wishes(address, self._prefix, other)
        self._dhcp.want(self._wishes, now)

    def _offered(self) -> tuple[dict[IPv6Address, bool], list[IPv6Network]]:
        """The addresses that we could have, each with whether it is deprecated, and the prefixes."""
        made = {self._identity.address(each.network): each.preferred for each in self._router.prefixes.values()}
        leases = self._dhcp.leases.values()
        made |= {each.network[0]: each.preferred for each in leases if each.kind is OptionCode.IA_NA}
        prefixes = [each.network for each in leases if each.kind is OptionCode.IA_PD]
        return {address: preferred == -inf for address, preferred in made.items()}, prefixes

    def _objection(self, offered: IPv6Address | IPv6Network) -> str:
        """Asked, and told, once for each thing that is offered."""
        if offered not in self._judged:
            if isinstance(offered, IPv6Address):
                what, why = "IPv6 address", self._judge.ours(offered)
            else:
                what, why = "delegated prefix", self._judge.network(offered)
            self._judged[offered] = why
            if why and offered not in self._told and len(self._told) < MOST_TOLD:
                self._told.add(offered)
                self._events.append(Ipv6Remark(f"The {what} {offered} isn't taken: it {why}."))
        return self._judged[offered]
