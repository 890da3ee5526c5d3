"""Which addresses a concentrator may hand out: none that the host has or uses, and none that no host can have.

A session's address becomes one of the host's own: whatever the host sent to it before, it would send to itself from
then on. Pure: what is known of the host and of other sessions goes in as values, a reason comes out.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Callable
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

from msgspec import Struct

from engine.ppp.ipcp import Ipv4Agreed
from engine.ppp.ipv6cp import Ipv6Agreed
from engine.ppp.judge import Address
from engine.settings.limits import MIN_ROUTED6
from engine.settings.values import SessionSettings

NO_HOSTS: dict[IPv4Network, str] = {
    IPv4Network(network): what
    for network, what in (
        ("0.0.0.0/8", "stands for no host"),
        ("127.0.0.0/8", "is a loopback address"),
        ("169.254.0.0/16", "is for a single link (RFC 3927)"),
        ("224.0.0.0/4", "is a multicast address"),
        ("255.255.255.255/32", "is the broadcast address"),
        ("240.0.0.0/4", "is reserved"),
    )
}
"""Networks without a unicast address that a provider could give."""
NO_HOSTS6: dict[IPv6Network, str] = {
    IPv6Network(network): what
    for network, what in (
        ("::/8", "stands for no host of the Internet"),
        ("fe80::/10", "is for a single link"),
        ("fec0::/10", "is for a site of old (RFC 3879)"),
        ("ff00::/8", "is a multicast address"),
    )
}
_THEIR_FIRST_OCTETS = frozenset(
    octet for network in NO_HOSTS for octet in range(network[0].packed[0], network[-1].packed[0] + 1)
)
"""Every dial asks for several addresses, and to look them up in the networks takes ten times as long."""
SHORTEST_PREFIX = 8
"""A route straight into a device is to a connected network if its prefix is as long; shorter ones stand for the
Internet, as those that tunnels lay (0.0.0.0/0, or 0.0.0.0/1 and 128.0.0.0/1)."""


class Whose(Enum):
    """For whom an address is meant."""

    OURS = "ours"
    PEERS = "the peer's"


class Way(Struct, frozen=True):
    """How the host reaches an address at the moment: what its own routes say, those of sessions left out."""

    device: str
    network: IPv4Network | IPv6Network
    """What the route is for."""
    local: bool = False
    """It leads nowhere but to the host itself, or to all of a network."""
    gateway: IPv4Address | IPv6Address | None = None
    point_to_point: bool = False
    """The device has but one other end."""


def objection(address: Address, whose: Whose, way: Way | None, holder: str = "") -> str:
    """What speaks against an address, as the rest of a sentence that begins with "it"; empty if nothing does.

    `holder` names another session that has or uses it.
    """
    if isinstance(address, IPv6Address):
        if not address.is_link_local and (what := next((NO_HOSTS6[each] for each in NO_HOSTS6 if address in each), "")):
            return what
    elif address.packed[0] in _THEIR_FIRST_OCTETS:
        for network, what in NO_HOSTS.items():
            if address in network:
                return what
    if holder:
        return f"belongs to session {holder}"
    if way is None:
        return ""
    if way.local:
        return f"is this host's own, on {way.device}"
    if address.is_link_local:
        return ""  # of no network in particular
    if way.gateway == address:
        return f"is this host's gateway on {way.device}"
    if way.gateway is not None or way.network.prefixlen < SHORTEST_PREFIX:
        return ""
    if whose is Whose.PEERS and way.point_to_point and way.network.prefixlen == address.max_prefixlen:
        return ""  # a concentrator that this host has a link to by other means too
    return f"is in {way.network}, a network of this host on {way.device}"


Network = IPv4Network | IPv6Network


def routed(settings: SessionSettings) -> tuple[Network, ...]:
    """The networks that are routed to a session."""
    return tuple(map(ip_network, settings.networks))


def overlaps(one: Network, other: Network) -> bool:
    """Whether two networks have an address in common."""
    return one[0] in other or other[0] in one


Claim = Callable[[IPv6Network], str]
"""Asks the host what of its own speaks against a network's being a session's."""


def objection_to_network(network: IPv6Network) -> str:
    """What speaks against a network that is delegated, whosever it is; as `objection`."""
    if not MIN_ROUTED6 <= network.prefixlen <= 64:
        return f"has a prefix of {network.prefixlen} bits, not {MIN_ROUTED6} to 64"
    return next((what for each, what in NO_HOSTS6.items() if network.overlaps(each)), "")


class InUse:
    """Which session has which addresses and networks, and which the concentrators at their other ends have."""

    def __init__(self) -> None:
        self._routed: dict[int, tuple[Network, ...]] = {}
        self._agreed: dict[tuple[int, type[Address]], tuple[Address, Address | None]] = {}
        self._ours: dict[Address, int] = {}
        self._in_order: dict[type[Address], list[int]] = {IPv4Address: [], IPv6Address: []}
        """The same as numbers, in order: those of one network stand together."""
        self._peers: defaultdict[Address, set[int]] = defaultdict(set)
        self._globals: dict[int, tuple[IPv6Address, ...]] = {}
        self._delegated: defaultdict[int, dict[IPv6Network, int]] = defaultdict(dict)
        """Whose networks are, by the length of their prefix: thousands of sessions may have some."""
        self._delegated_to: dict[int, tuple[IPv6Network, ...]] = {}

    def note(self, key: int, agreed: Ipv4Agreed | Ipv6Agreed) -> None:
        """A session has these from now on, in place of those of the same protocol that it had."""
        self.forget(key, type(agreed.address))
        self._agreed[key, type(agreed.address)] = agreed.address, agreed.peer
        self._take(key, agreed.address)
        if agreed.peer is not None:
            self._peers[agreed.peer].add(key)

    def forget(self, key: int, *protocols: type[Address]) -> None:
        """It has none any more, of these protocols."""
        for protocol in protocols:
            address, peer = self._agreed.pop((key, protocol), (None, None))
            if address is not None:
                self._give_up(key, address)
            if peer is not None:
                self._peers[peer].discard(key)
                if not self._peers[peer]:
                    del self._peers[peer]

    def note_routed(self, key: int, networks: tuple[Network, ...]) -> None:
        """These are routed to a session from now on, and no others."""
        self._routed.pop(key, None)
        if networks:
            self._routed[key] = networks

    def note_global(self, key: int, addresses: tuple[IPv6Address, ...]) -> None:
        """A session has these global addresses from now on, and no others."""
        for address in self._globals.pop(key, ()):
            self._give_up(key, address)
        if addresses:
            self._globals[key] = addresses
            for address in addresses:
                self._take(key, address)

    def _take(self, key: int, address: Address) -> None:
        if address not in self._ours:
            insort(self._in_order[type(address)], int(address))
        self._ours[address] = key

    def _give_up(self, key: int, address: Address) -> None:
        """Unless another session has it by now."""
        if self._ours.get(address) == key:
            del self._ours[address]
            order = self._in_order[type(address)]
            del order[bisect_left(order, int(address))]

    def _within(self, network: Network, key: int) -> tuple[Address, int] | None:
        """An address of a network that another session has, and that one."""
        kind = type(network.network_address)
        order, last = self._in_order[kind], int(network.broadcast_address)
        at = bisect_left(order, int(network.network_address))
        while at < len(order) and order[at] <= last:
            address = kind(order[at])
            if (other := self._ours[address]) != key:
                return address, other
            at += 1
        return None

    def note_delegated(self, key: int, networks: tuple[IPv6Network, ...]) -> None:
        """These are delegated to a session from now on, and no others."""
        for network in self._delegated_to.pop(key, ()):
            self._delegated[network.prefixlen].pop(network, None)
        if networks:
            self._delegated_to[key] = networks
            for network in networks:
                self._delegated[network.prefixlen][network] = key

    def has_delegated(self, network: IPv6Network, key: int) -> int | None:
        """Another session than this that has something of a network."""
        for length, owners in self._delegated.items():
            if length <= network.prefixlen:
                found = [owners.get(network.supernet(new_prefix=length))]
            else:
                found = [owner for each, owner in owners.items() if each[0] in network]
            other = next((owner for owner in found if owner not in (None, key)), None)
            if other is not None:
                return other
        for other, networks in self._routed.items():
            if other != key and any(each.version == 6 and overlaps(network, each) for each in networks):
                return other
        within = self._within(network, key)
        return within[1] if within is not None else None

    def overlap(self, key: int, networks: tuple[Network, ...]) -> tuple[Network, int, Address | Network] | None:
        """Which of a session's networks another one has, or has something of: that one, and what it is."""
        for network in networks:
            if (found := self._within(network, key)) is not None:
                address, other = found
                return network, other, address
            for other, theirs in self._routed.items():
                for each in theirs:
                    if other != key and overlaps(network, each):
                        return network, other, each
        return None

    def holder(self, address: Address, whose: Whose, key: int) -> int | None:
        """Another session than this that has an address; for ourselves, also one whose concentrator has it.

        One concentrator may be the peer of many.
        """
        owner = self._ours.get(address)
        if owner is not None and owner != key:
            return owner
        for other, networks in self._routed.items():
            if other != key and any(address in network for network in networks):
                return other
        if isinstance(address, IPv6Address):
            for length, owners in self._delegated.items():
                found = owners.get(IPv6Network((address, length), strict=False), key) if owners else key
                if found != key:
                    return found
        if whose is Whose.PEERS:
            return None
        return next((other for other in self._peers.get(address, ()) if other != key), None)


WayTo = Callable[[Address], Way | None]
"""Asks the host."""


def nowhere(address: Address) -> None:
    """A host without a route."""


class Judge:
    """Judges for one session; implements `engine.ppp.judge.AddressJudge`."""

    def __init__(
        self,
        way_to: WayTo = nowhere,
        holder: Callable[[Address, Whose], str] = lambda _, __: "",
        claim: Claim = lambda _: "",
    ) -> None:
        """`holder` names the other session that has an address; `claim` says what speaks against a network."""
        self._way_to = way_to
        self._holder = holder
        self._claim = claim

    def ours(self, address: Address) -> str:
        """See `AddressJudge.ours`."""
        return self._judge(address, Whose.OURS)

    def peers(self, address: Address) -> str:
        """See `AddressJudge.peers`."""
        return self._judge(address, Whose.PEERS)

    def network(self, network: IPv6Network) -> str:
        """See `AddressJudge.network`."""
        return objection_to_network(network) or self._claim(network)

    def _judge(self, address: Address, whose: Whose) -> str:
        return objection(address, whose, self._way_to(address), self._holder(address, whose))
