"""What a router says: asked for with Router Solicitations, heeded for as long as it says (RFC 4861, 4862, 8106)."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Address, IPv6Network
from math import inf

from msgspec import Struct

from engine.ipv6.retransmission import Retransmission
from engine.ipv6.settled import SettledRouter
from engine.wire import ndp
from engine.wire.ipv6 import Ipv6Packet, is_one_hosts
from engine.wire.ndp import INFINITY, PrefixInformation, RouterAdvertisement

FIRST_PAUSE, LONGEST_PAUSE = 4.0, 3600.0
"""RFC 7559 section 2.1."""
MOST = 4
"""Prefixes that addresses are made of, and name servers, that are heeded at a time."""
TWO_HOURS = 7200.0
"""A prefix that was heard of lives as long at least: nobody is to kill it by a lie (RFC 4862 section 5.5.3)."""
MIN_IPV6_MTU = 1280
"""Octets that every IPv6 network carries (RFC 8200 section 5): the kernel gives a device with less none."""


class Prefix(Struct, frozen=True):
    """One to make an address of, and until when."""

    network: IPv6Network
    preferred: float
    valid: float


class Router:
    """The router at the other end, as heard of."""

    def __init__(self, source: IPv6Address, entropy: Callable[[int], bytes], now: float) -> None:
        self.heard = False
        """Whether an advertisement ever came."""
        self.managed = self.other = False
        """Whether it said that addresses, or other things, are to be had by DHCPv6."""
        self.mtu: int | None = None
        self.until = 0.0
        """Until when it is a default router."""
        self.prefixes: dict[IPv6Network, Prefix] = {}
        self.servers: dict[IPv6Address, float] = {}
        """Name servers, each with its end."""
        self.surplus = 0
        """Prefixes and name servers passed over: there were MOST already."""
        self._source = source
        self._entropy = entropy
        self._asking: Retransmission | None = Retransmission(entropy, FIRST_PAUSE, LONGEST_PAUSE, now)
        self._asked_at = -inf
        self._out: list[bytes] = []

    def receive(self, packet: Ipv6Packet, now: float) -> None:
        """Heed an advertisement. Raises WireError for what is none, or a wrong one."""
        told = ndp.decode_advertisement(packet)
        self.heard = True
        self.managed, self.other = told.managed, told.other
        self.until = now + told.lifetime
        if told.mtu is not None:
            self.mtu = told.mtu if told.mtu >= MIN_IPV6_MTU else None
        for each in told.prefixes:
            if each.autonomous and _usable(each):
                self._note_prefix(each, now)
        self._note_servers(told, now)
        if told.lifetime:
            self._asking = None

    @property
    def settled(self) -> SettledRouter:
        """What another process needs to go on."""
        prefixes = tuple((str(each.network), each.preferred, each.valid) for each in self.prefixes.values())
        servers = tuple((str(address), end) for address, end in self.servers.items())
        return SettledRouter(self.heard, self.managed, self.other, self.mtu, self.until, prefixes, servers)

    def resume(self, settled: SettledRouter, now: float) -> None:
        """Go on with what another process heard."""
        self.heard, self.managed, self.other = settled.heard, settled.managed, settled.other
        self.mtu, self.until = settled.mtu, settled.until
        for text, preferred, valid in settled.prefixes:
            self.prefixes[IPv6Network(text)] = Prefix(IPv6Network(text), preferred, valid)
        self.servers = {IPv6Address(text): end for text, end in settled.servers}
        if now < self.until:
            self._asking = None

    def next_timer(self) -> float | None:
        """When `handle_timer` is to be called next."""
        ends = [each.valid for each in self.prefixes.values()] + [each.preferred for each in self.prefixes.values()]
        ends += self.servers.values()
        if self._asking is not None:
            ends.append(self._asking.at)
        elif self.heard:
            ends.append(self.until)
        return min((end for end in ends if -inf < end < inf), default=None)

    def handle_timer(self, now: float) -> None:
        """Ask again where nobody says anything, or not any more; forget what its time is over."""
        if self._asking is None and now >= self.until:
            delay = max(self._asked_at + FIRST_PAUSE - now, 0.0)  # whatever a router says, it isn't asked without end
            self._asking = Retransmission(self._entropy, FIRST_PAUSE, LONGEST_PAUSE, now, delay=delay)
        if self._asking is not None and now >= self._asking.at:
            self._out.append(ndp.solicitation(self._source))
            self._asking.note_sent(now)
            self._asked_at = now
        for network, prefix in [*self.prefixes.items()]:
            if now >= prefix.valid:
                del self.prefixes[network]
            elif now >= prefix.preferred > -inf:
                self.prefixes[network] = Prefix(network, -inf, prefix.valid)
        self.servers = {address: end for address, end in self.servers.items() if now < end}

    def packets_to_send(self) -> list[bytes]:
        """IPv6 packets."""
        out, self._out = self._out, []
        return out

    def _note_prefix(self, told: PrefixInformation, now: float) -> None:
        """RFC 4862 section 5.5.3 d and e."""
        network, had = told.prefix, self.prefixes.get(told.prefix)
        valid, preferred = _end(told.valid, now), _end(told.preferred, now)
        if had is None and (not told.valid or len(self.prefixes) >= MOST):
            self.surplus += bool(told.valid)
            return
        if had is not None and valid < min(had.valid, now + TWO_HOURS):
            valid = min(had.valid, now + TWO_HOURS)
        self.prefixes[network] = Prefix(network, preferred if told.preferred else -inf, valid)

    def _note_servers(self, told: RouterAdvertisement, now: float) -> None:
        for servers in told.servers:
            for address in filter(is_one_hosts, servers.addresses):
                if not servers.lifetime:
                    self.servers.pop(address, None)
                elif address in self.servers or len(self.servers) < MOST:
                    self.servers[address] = _end(servers.lifetime, now)
                else:
                    self.surplus += 1


def _end(lifetime: int, now: float) -> float:
    return inf if lifetime == INFINITY else now + lifetime


def _usable(told: PrefixInformation) -> bool:
    """Whether an address can be made of it: RFC 4862 section 5.5.3 b to d."""
    return told.prefix.prefixlen == 64 and told.preferred <= told.valid and not told.prefix.is_link_local
