"""The devices of the sessions, with their addresses.

A session's device gets its address without a route in the main table: the host's own routing stays as it is. A table of
the session's own has a default route into the device, and a rule sends what comes from the session's address there: see
`engine.egress.confinement`. Sockets bound to the device need neither: on a point-to-point device the kernel takes every
destination as on the link.
"""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import ExitStack, suppress
from ipaddress import IPv4Address, IPv6Address, IPv6Network

from msgspec import Struct, field

from engine.datapath.own import Network
from engine.egress import tun
from engine.egress.confinement import HARMLESS, Confinement, put
from engine.egress.defaults import FAMILIES, HostDefaults, Wish
from engine.egress.guard import Guard, Touched
from engine.egress.inbound import Inbound
from engine.egress.instances import Instance
from engine.egress.making import Making
from engine.egress.marks import Mark
from engine.egress.protocol import Addresses
from engine.egress.quiet import has_ipv6, is_switched_off, keep_quiet, limit_ipv6
from engine.egress.requests import (
    add_global6,
    add_ipv4,
    add_ipv6,
    delete_global6,
    delete_ipv4,
    delete_ipv6,
    delete_lan6,
    give_deprecated6,
    give_global6,
    give_ipv4,
    give_ipv6,
    give_lan6,
    nothing_there,
    put_into_group,
    rename,
    resize,
    routes_through,
    set_down,
    set_free,
    set_mac,
    set_up,
    uint32,
)
from engine.egress.tun import close_tun
from engine.egress.undertaker import Undertaker
from engine.egress.ways import claim, way_to
from engine.egress.workshop import Order, Workshop
from engine.host.errors import HostError
from engine.host.links import LinkState, find, index_of, link_at, state_at
from engine.host.rtnl import Rtnl, RtnlError, Template
from engine.ipv6.router import MIN_IPV6_MTU
from engine.ppp.judge import Address
from engine.sessions.policy import Way

PATIENCE, AMNESTY = 10, 60.0
"""So often in so many seconds a device is put back; then its session ends rather than quarrel."""


Gift = tuple[Address, bytes]
"""An address for a device, and the request that puts it there."""


class Device(Struct):
    """A session's device."""

    name: str
    fd: int
    """Of a TUN device, it carries whole IP packets; else it is something that the device hangs on."""
    index: int
    """Its interface index."""
    table: int
    """Its routing table's number."""
    close: Callable[[int, bool], None]
    """See `engine.egress.undertaker.Doomed`."""
    may_have_ipv6: bool = True
    mtu: int | None = None
    ipv4: tuple[IPv4Address, IPv4Address | None] | None = None
    """Our address and the peer's."""
    ipv6: IPv6Address | None = None
    """The link-local address."""
    global6: tuple[IPv6Address, ...] = ()
    """Global ones; there is a link-local one then too."""
    deprecated6: frozenset[IPv6Address] = frozenset()
    """These of them are deprecated."""
    mtu6: int | None = None
    """The longest IPv6 packet, where that is shorter than the MTU."""
    prefixes6: tuple[IPv6Network, ...] = ()
    """Those of `networks` that are delegated."""
    walls: frozenset[tuple[IPv6Network, IPv6Address | IPv6Network | None]] = frozenset()
    """Those that are nowhere for what comes from a source of the session's; or bears its mark, without one."""
    networks: tuple[Network, ...] = ()
    """What is routed to the session: confined as the addresses are, each while there is one of its family."""
    handed_on: tuple[int, IPv6Address] | None = None
    """The device of the host's that has a /64 of what is delegated, by its index, and its address there."""
    closed: bool = False
    """Whether nothing comes in that the host hasn't begun."""

    metric: int | None = None
    """Of the host's default route, which goes through it if it is the first one that has such."""
    away: bool = False
    """Someone has moved it to another namespace, and does there with it what he likes."""
    mends: int = 0
    """How often it has been put back lately."""
    rising: bool = False
    """It was made or set down, and nothing has been heard since of its being up."""
    barred: bool = False
    """Someone has switched IPv6 off on it, and its addresses have gone."""
    narrowed: bool = False
    """Someone has made it too narrow for IPv6 for a while, so that the kernel has begun with that anew or will."""

    @property
    def routes(self) -> list[bytes]:
        """See `engine.egress.undertaker.Doomed`."""
        return routes_through(self.index, self.addresses(), self.table) if self.index else []

    def addresses(self) -> list[Address]:
        """Those that it has."""
        return [each for each in (self.ipv4 and self.ipv4[0], *self.global6, self.ipv6) if each is not None]

    def differs(self, link: LinkState) -> bool:
        """Whether what is said of it can't come of what we have done. What it was while we made it is of no account."""
        if link.up and self.rising:
            self.rising = False
        if self.rising or self.mtu is None:
            return False
        self.narrowed |= link.mtu < MIN_IPV6_MTU <= self.mtu
        return link != LinkState(self.name, self.mtu, True)

    def carries(self, family: int) -> bool:
        """Whether packets to anywhere may leave by it."""
        version = 4 if family == socket.AF_INET else 6
        return any(each.version == version and not each.is_link_local for each in self.addresses())

    def beside(self, address: Address) -> list[Network]:
        """The networks that are confined as long as it has this address: of IPv6 it is the link-local one."""
        leading = address.version == 4 or address == self.ipv6
        return [network for network in self.networks if leading and network.version == address.version]


class Mended(Struct):
    """What others had changed, and what was done about it."""

    for_all: list[str] = field(default_factory=list)
    """In sentences, what concerns all sessions."""
    each: dict[int, str] = field(default_factory=dict)
    """What was put back for a session, by its key."""
    gone: list[int] = field(default_factory=list)
    """Those whose device isn't there any more."""
    lost: dict[int, str] = field(default_factory=dict)
    """What can't be put back."""


class Devices:
    """All devices of one engine, by session key, in the network namespace of the thread that makes this."""

    def __init__(self, instance: Instance | None = None, group: int = 0) -> None:
        """Take the first free instance, if none is given, and clear up after dead ones; raises HostError.

        All devices are in this group: see `engine.egress.together`.
        """
        self._rtnl = Rtnl()
        self._group = group
        self._devices: dict[int, Device] = {}
        self._instance = instance or Instance()
        self._keys: dict[int, int] = {}
        """By the indexes of the devices."""
        self._named: dict[str, int] = {}
        """By their names."""
        self._indexes: set[int] = set()
        """Of all our devices, those that wait to be deleted among them."""
        self.undertaker = Undertaker(self._indexes.discard)
        """Deletes devices, of whatever namespace."""
        self._workshop = Workshop(self._rtnl, self.undertaker, self._indexes, group)
        # Before the dead ones' addresses are taken over: whose they are is told then.
        self._guard = Guard(self._rtnl.port, self.undertaker.port, self._workshop.port)
        try:
            self._confinement = Confinement(self._rtnl, self._instance, time.monotonic())
        except RtnlError as error:
            raise HostError(f"The routing rules can't be read: {error.strerror}.") from None
        self._inbound = Inbound(self._instance)
        self._defaults = HostDefaults(self._rtnl)
        self._wishing: set[int] = set()
        """Sessions with a device that the host's default route may go through."""
        self.news: list[str] = []
        """What has become of that, in sentences; whoever tells it clears this."""
        self._marks: dict[int, Mark] = {}
        """By session, whether it has a device or not."""
        self._next_amnesty = 0.0
        self._parting = self._ended = False
        """Whether they are about to end, and what confines them then goes together; and whether they all have:
        then only the second layer is put back."""

    @property
    def notice(self) -> str:
        """What is less safe on this host than it could be, in one line; mostly empty."""
        return self._confinement.obstacle

    @property
    def confines_ipv6(self) -> bool:
        """Whether sessions can have IPv6 here."""
        return self._confinement.has_ipv6

    def __contains__(self, key: int) -> bool:
        return key in self._devices

    def name(self, key: int) -> str:
        """The device's name."""
        return self._devices[key].name

    def index(self, key: int) -> int:
        """The device's interface index."""
        return self._devices[key].index

    def fd(self, key: int) -> int:
        """The device's descriptor."""
        return self._devices[key].fd

    def taken(self, key: int, name: str) -> str:
        """Why a session can't have a device of this name, in a sentence; empty if it can, or has it."""
        if self._named.get(name, key) != key:
            return f"The device {name} belongs to another session."
        if key in self._devices or self.undertaker.has(name) or self._workshop.has(key, name):
            return ""
        try:
            socket.if_nametoindex(name)
        except OSError:
            return ""
        return f"There is a device {name} already, and it is not ours."

    def expect(self, name: str) -> None:
        """There is a device of ours already, which an earlier process has left. Raises HostError."""
        try:
            self._indexes.add(index_of(self._rtnl, name))
        except RtnlError as error:
            raise HostError(f"The device {name} can't be taken over: {error.strerror}.") from None

    def prepare(
        self,
        key: int,
        name: str,
        make: Callable[[str], Making] = tun.making,
        close: Callable[[int, bool], None] = close_tun,
        *,
        ipv6: bool = True,
        finish: Sequence[Template] = (),
    ) -> None:
        """Begin to make what `create` is going to be asked for, beside the engine. Raises what `make` raises."""
        if key not in self._devices:
            self._workshop.prepare(key, Order(name, make, close, ipv6, finish))

    def forgo(self, key: int) -> None:
        """Delete what was made for a session that isn't going to need it, if anything was."""
        self._workshop.forgo(key)

    def forgo_all(self) -> None:
        """The same of all: what they hang on is about to go."""
        self._workshop.forgo_all()

    def create(
        self,
        key: int,
        name: str,
        make: Callable[[str], Making] = tun.making,
        close: Callable[[int, bool], None] = close_tun,
        networks: tuple[Network, ...] = (),
        *,
        closed: bool = False,
        metric: int | None = None,
        ipv6: bool = True,
        finish: Sequence[Template] = (),
    ) -> None:
        """Have a session's device made, down and without an address; raises DatapathError or HostError.

        `networks` are confined to it for as long as it has an address of their family. If it is `closed`, nothing
        comes in that the host hasn't begun. With a `metric` the host's default route may go through it. Without
        `ipv6` it will never have an address of that.

        `make` says what makes one of that name, and requests of its index `finish` it; `close` closes its descriptor
        in another thread, when the device has been deleted, as it is told. If that isn't so, as the device is in
        another namespace by then, it must take it away.
        """
        self._expect_free(name)
        made = self._workshop.make(key, Order(name, make, close, ipv6, finish))
        device = Device(name, made.fd, made.index, self._instance.table(key), close, ipv6, rising=True)
        self._admit(key, device, networks, closed, metric)

    def adopt(
        self,
        key: int,
        name: str,
        take: Callable[[str], int],
        close: Callable[[int, bool], None],
        networks: tuple[Network, ...] = (),
        *,
        closed: bool = False,
        metric: int | None = None,
        ipv6: bool = True,
    ) -> None:
        """The same with a device that an earlier process has left, and has seen to: `take` gives its descriptor."""
        self._expect_free(name)
        device = Device(name, take(name), 0, self._instance.table(key), close, ipv6)
        try:
            device.index, link = find(self._rtnl, name)
            device.rising = not link.up
            self._indexes.add(device.index)
            self._rtnl.do([put_into_group(uint32(device.index), uint32(self._group))] if self._group else [])
            if device.rising:
                keep_quiet(self._rtnl, name, device.index, ipv6=ipv6)
        except RtnlError as error:
            self.undertaker.take(device)
            raise _trouble(device, error) from None
        self._admit(key, device, networks, closed, metric)

    def _expect_free(self, name: str) -> None:
        """Raises HostError."""
        self.undertaker.wait_for(name)
        if name in self._named:
            raise HostError(f"The device {name} belongs to another session.")

    def _admit(self, key: int, device: Device, networks: tuple[Network, ...], closed: bool, metric: int | None) -> None:
        """A device is a session's from now on. Raises HostError, and it goes then."""
        device.networks, device.closed = networks, closed
        try:
            if closed:
                self._inbound.shut(device.index)
            if (mark := self._marks.get(key)) is not None:
                self._confinement.open_mark(mark, device.index)
        except RtnlError as error:
            self.undertaker.take(device)
            raise _trouble(device, error) from None
        except BaseException:
            self.undertaker.take(device)
            raise
        device.metric = metric
        self._devices[key] = device
        self._keys[device.index] = key
        self._named[device.name] = key
        if metric is not None:
            self._wishing.add(key)

    def hold_marks(self, numbers: Iterable[int]) -> None:
        """Let nothing leave that bears one of these, all in one step; rules follow by `set_mark`. Raises HostError."""
        try:
            self._confinement.hold_marks([Mark(number) for number in numbers])
        except RtnlError as error:
            raise HostError(f"The nftables table of sessions can't be changed: {error.strerror}.") from None

    def set_mark(self, key: int, number: int | None) -> None:
        """Let what bears this mark leave by a session or not at all, in place of any other; None: it has none.

        Whether it has a device or not. Raises HostError.
        """
        former, table = self._marks.pop(key, None), self._instance.table(key)
        mark = Mark(number) if number is not None else None
        if mark is not None:
            self._marks[key] = mark
        if former == mark:
            return
        index = self._devices[key].index if key in self._devices else 0
        try:
            if mark is not None:
                self._confinement.claim(mark, table)
                if index:
                    self._confinement.open_mark(mark, index)
            if former is not None:
                self._confinement.shut_mark(former, index)
                self._confinement.disclaim(former, table)
            if index:
                self._build_walls(key, self._devices[key])
        except RtnlError as error:
            raise HostError(f"The routing rules of marks can't be changed: {error.strerror}.") from None

    def way_to(self, address: Address) -> Way | None:
        """How the host reaches an address by other devices than ours; None if it doesn't. Raises HostError."""
        try:
            return way_to(self._rtnl, address, self._indexes)
        except RtnlError as error:
            raise HostError(f"How this host reaches {address} can't be asked: {error.strerror}.") from None

    def claim(self, network: Network, *, whole: bool = False) -> str:
        """What of the host's speaks against a network's being a session's, as the rest of a sentence; mostly empty.

        With `whole` nothing of the host's may be in it at all. Raises HostError.
        """
        try:
            return claim(self._rtnl, network, self._indexes, whole=whole)
        except RtnlError as error:
            raise HostError(f"How this host reaches {network} can't be asked: {error.strerror}.") from None

    def hold(self, networks: Iterable[Network]) -> None:
        """Confine what is routed to a session that isn't up yet. Raises HostError."""
        try:
            for network in networks:
                self._confinement.hold(network, time.monotonic())
        except RtnlError as error:
            raise HostError(f"The routing rules can't be changed: {error.strerror}.") from None

    def let_go(self, network: Network) -> None:
        """Leave what is routed to a session, and not in use, to the host. Raises RtnlError."""
        self._confinement.forget(network)

    def inbound_obstacle(self) -> str:
        """Why no session can be closed to what the host hasn't begun, in a few words; empty if it can."""
        return self._inbound.obstacle()

    def set_addresses(self, key: int, wanted: Addresses, mtu: int) -> None:
        """Set the device up with these addresses, if any, and no others; `mtu` in octets. Raises HostError.

        All new ones by the same few messages to the kernel. Those of IPv6 are left out where the host has it switched
        off or can't confine them, or the MTU is too small. What is deprecated is the source of nothing new that isn't
        bound to it.
        """
        device = self._devices[key]
        if wanted.ipv4 is None:
            self.clear_ipv4(key)
        if wanted.ipv6 is None:
            self.clear_ipv6(key)
        first = self._set_up(device, mtu) if wanted.ipv4 is not None or wanted.ipv6 is not None else []
        gifts = self._new_ipv4(key, device, wanted.ipv4, wanted.peer) if wanted.ipv4 is not None else []
        gifts += self._new_ipv6(key, device, wanted.ipv6, mtu) if wanted.ipv6 is not None else []
        gifts += self._new_global6(device, wanted.global6, wanted.deprecated6)
        self._give(device, first, gifts)
        self._build_walls(key, device)

    def _new_ipv4(self, key: int, device: Device, address: IPv4Address, peer: IPv4Address | None) -> list[Gift]:
        if device.ipv4 == (address, peer):
            return []
        self.clear_ipv4(key)
        device.ipv4 = address, peer
        return [(address, give_ipv4(uint32(device.index), address.packed, (peer or address).packed))]

    def clear_ipv4(self, key: int) -> None:
        """Take the address away, if there is one; raises HostError."""
        device = self._devices.get(key)
        if device is not None and device.ipv4 is not None:
            (address, peer), device.ipv4 = device.ipv4, None
            self._take(device, address, delete_ipv4(uint32(device.index), address.packed, (peer or address).packed))

    def _new_ipv6(self, key: int, device: Device, address: IPv6Address, mtu: int) -> list[Gift]:
        if device.ipv6 == address or mtu < MIN_IPV6_MTU or not self.confines_ipv6 or not has_ipv6(device.name):
            return []
        self.clear_ipv6(key)
        device.ipv6 = address
        return [(address, give_ipv6(uint32(device.index), address.packed))]

    def clear_ipv6(self, key: int) -> None:
        """Take the link-local address away, if there is one; raises HostError."""
        device = self._devices.get(key)
        if device is not None and device.ipv6 is not None:
            self._new_global6(device, (), frozenset())
            self.set_prefixes6(key, ())
            address = device.ipv6
            try:
                self._take(device, address, delete_ipv6(uint32(device.index), address.packed))
                self._confinement.shut_device(device.index, device.table)
            except RtnlError as error:
                raise _trouble(device, error) from None
            finally:
                device.ipv6 = None

    def _new_global6(
        self, device: Device, addresses: tuple[IPv6Address, ...], deprecated: frozenset[IPv6Address]
    ) -> list[Gift]:
        if device.ipv6 is None:
            return []
        for address in set(device.global6).difference(addresses):
            device.global6 = tuple(each for each in device.global6 if each != address)
            self._take(device, address, delete_global6(uint32(device.index), address.packed))
        gifts: list[Gift] = []
        for address in addresses:
            is_new = address not in device.global6
            if is_new or (address in device.deprecated6) != (address in deprecated):
                device.global6 += (address,) if is_new else ()
                give = give_deprecated6 if address in deprecated else give_global6
                gifts.append((address, give(uint32(device.index), address.packed)))
        device.deprecated6 = deprecated
        return gifts

    def set_mtu6(self, key: int, mtu: int | None) -> None:
        """Keep IPv6 packets that the host sends by the device shorter than others, or not any more."""
        device = self._devices[key]
        if device.mtu6 != mtu and device.mtu is not None:
            device.mtu6 = mtu
            limit_ipv6(device.name, min(mtu or device.mtu, device.mtu))

    def set_prefixes6(self, key: int, networks: tuple[IPv6Network, ...]) -> None:
        """Have these networks, and no others, be delegated to the session, if it has IPv6; raises HostError.

        What comes from there is confined to the device. What goes to a part of them that is on no network of the
        host's doesn't go back to where it came from: that is unreachable.
        """
        device = self._devices.get(key)
        if device is None or device.ipv6 is None:
            return
        try:
            for network in set(device.prefixes6).difference(networks):
                device.prefixes6 = tuple(each for each in device.prefixes6 if each != network)
                device.networks = tuple(each for each in device.networks if each != network)
                self._confinement.shut_network(network, device.table, device.index, time.monotonic())
            new = [network for network in networks if network not in device.networks]
            device.prefixes6, device.networks = (*device.prefixes6, *new), (*device.networks, *new)
            self._build_walls(key, device)
            for network in new:
                self._confinement.open_network(network, device.table, device.index, device.name)
        except RtnlError as error:
            raise _trouble(device, error) from None

    def _build_walls(self, key: int, device: Device) -> None:
        """What is delegated is nowhere for the session's own packets. Raises HostError."""
        sources = [source for source in (device.ipv6, *device.global6, *device.prefixes6) if source is not None]
        by_mark = [None] if key in self._marks else []
        self._set_walls(device, [(network, source) for network in device.prefixes6 for source in [*sources, *by_mark]])

    def _set_walls(
        self, device: Device, wanted: Iterable[tuple[IPv6Network, IPv6Address | IPv6Network | None]]
    ) -> None:
        former, device.walls = device.walls, frozenset(wanted)
        changes = [self._wall(device, each) for each in device.walls - former]
        changes += [self._wall(device, each, False) for each in former - device.walls]
        self._do(device, *changes)

    def _wall(
        self, device: Device, wall: tuple[IPv6Network, IPv6Address | IPv6Network | None], there: bool = True
    ) -> bytes:
        network, source = wall
        table = device.table if source is None else self._confinement.table6(source)
        return nothing_there(network, table, there, source)

    def hand_on(self, key: int, interface: str | None, subnet: int) -> str:
        """Give a device of the host's the first address of a /64 of the session's delegated prefix, or take it away.

        Why it can't be, as a sentence; empty if all is as it is to be.
        """
        device = self._devices.get(key)
        if device is None:
            return ""
        wanted, why = None, ""
        if interface is not None and device.prefixes6:
            prefix = device.prefixes6[0]
            try:
                if subnet >> (64 - prefix.prefixlen):
                    raise HostError(f"{prefix} has no /64 with the number {subnet}.")
                address = IPv6Address(int(prefix[0]) + (subnet << 64) + 1)
                wanted = index_of(self._rtnl, interface), address
            except (RtnlError, HostError) as error:
                why = str(error) if isinstance(error, HostError) else f"{error.strerror}."
        try:
            self._hand_on(device, wanted)
        except RtnlError as error:
            why = f"{error.strerror}."
        return f"Nothing of the delegated prefix of {device.name} is on {interface}: {why}" if why else ""

    def _hand_on(self, device: Device, wanted: tuple[int, IPv6Address] | None) -> None:
        if device.handed_on is not None and device.handed_on != wanted:
            (index, address), device.handed_on = device.handed_on, None
            self._rtnl.do([delete_lan6(uint32(index), address.packed)], (*HARMLESS, errno.ENODEV))
        if wanted is not None:
            self._rtnl.do([give_lan6(uint32(wanted[0]), wanted[1].packed)])
            device.handed_on = wanted

    def set_mtu(self, key: int, mtu: int) -> None:
        """Change the device's MTU, in octets of IP packet; raises HostError."""
        device = self._devices[key]
        self._give(device, self._set_up(device, mtu), [])

    def remove(self, key: int) -> None:
        """Delete the device and close its descriptor, if there is one: what led there now, the rest some 50 ms later.

        Nobody may use the descriptor any more. Raises HostError.
        """
        self.forgo(key)
        device = self._devices.pop(key, None)
        if device is not None:
            self._keys.pop(device.index, None)
            self._named.pop(device.name, None)
            if self._goes_alone(key, device):
                self.undertaker.take(device)
                return
            try:
                with ExitStack() as steps:  # each whatever becomes of the others, the last one here first
                    steps.callback(self.undertaker.take, device)
                    if device.closed:
                        steps.callback(self._inbound.forget, device.index)
                    if key in self._marks:
                        steps.callback(self._confinement.shut_mark, self._marks[key], device.index)
                    steps.callback(self._confinement.shut_device, device.index, device.table)
                    steps.callback(self._hand_on, device, None)
                    steps.callback(self._set_walls, device, ())
                    for address in reversed(device.addresses()):
                        steps.callback(self._shut, device, address)
                    if key in self._wishing:
                        self._wishing.discard(key)
                        steps.callback(self._lead_host)
            except RtnlError as error:
                raise _trouble(device, error) from None

    def _goes_alone(self, key: int, device: Device) -> bool:
        """Whether all else that it has had goes with what others had, when all have ended."""
        own = device.closed or device.handed_on is not None or device.walls or key in self._wishing
        return not own and self._confinement.keeps(device.addresses())

    def filenos(self) -> list[int]:
        """Readable when others may have changed something of ours: then `look`."""
        return [self._guard.fileno(), *self._confinement.news]

    def look(self) -> Mended:
        """Put back what others have taken away or altered since the last look."""
        first, dead_end = self._instance.tables, self._instance.dead_end
        touched = self._guard.listen(self._keys, range(first, dead_end), range(dead_end, first + (1 << 16)))
        result = Mended()
        if self._ended:
            touched = Touched()  # of what is on its way out
        try:
            if touched.rules and (missing := self._confinement.mend_rules()):
                result.for_all.append(f"Someone deleted {missing} of the sessions' routing rules: put back.")
        except RtnlError as error:
            result.for_all.append(f"Deleted routing rules of sessions can't be put back: {error.strerror}.")
        try:
            if self._confinement.mend_fence():
                result.for_all.append("Someone changed the nftables table that keeps sessions' packets in: put back.")
        except RtnlError as error:
            result.for_all.append(f"The sessions' nftables table can't be put back yet: {error.strerror}.")
        if touched.default:
            self._mend_default(result)
        for address, index in touched.gained.items():
            if index not in self._indexes:
                self._leave_to_host(address, index, result)
        for index in touched.moved & self._keys.keys():
            key = self._keys[index]
            device = self._devices[key]
            device.away = True
            result.each[key] = f"{device.name} is in another namespace now: what it has there is up to you."
        for index, links in touched.links.items():
            # All of them: who was down for a moment has lost his routes, which nobody is told of.
            if any([self._devices[self._keys[index]].differs(link) for link in links]):  # noqa: C419
                touched.devices.add(index)
        for index in touched.wakened & self._keys.keys():
            if self._devices[self._keys[index]].barred:
                touched.devices.add(index)
        keys = {self._keys[index] for index in touched.devices & self._keys.keys()}
        if touched.shared:
            try:
                touched.tables |= self._confinement.mend_shared(None if touched.everything else touched.sources)
            except RtnlError as error:
                result.for_all.append(f"The sessions' common routing tables can't be put back: {error.strerror}.")
        keys |= {self._instance.key(table) for table in touched.tables} & self._devices.keys()
        for key in sorted(self._devices if touched.everything else keys):
            self._mend_for(key, touched, result)
        marked = {self._instance.key(table) for table in touched.tables} if not touched.everything else {*self._marks}
        for key in sorted((marked & self._marks.keys()) - self._devices.keys()):
            self._mend_end(key, result)
        return result

    def _mend_default(self, result: Mended) -> None:
        """That the host's default route goes through a session that it is to go through."""
        try:
            for key in sorted(self._wishing):
                device = self._devices[key]
                if self._defaults.mend(device.index):
                    device.mends += 1
                    result.each[key] = "Someone deleted the host's default route through the session: put back."
                    if device.mends > PATIENCE:
                        result.lost[key] = "Someone deletes the host's default route again and again."
            self._lead_host()
        except RtnlError as error:
            result.for_all.append(f"The host's default route can't be put back: {error.strerror}.")

    def _lead_host(self) -> None:
        """Have the host's default routes go through the first session that wants that. Raises RtnlError."""
        wishing = [self._devices[key] for key in sorted(self._wishing)]
        for family in FAMILIES:
            first = next((device for device in wishing if device.carries(family)), None)
            wish = Wish(first.name, first.index, first.metric or 0) if first is not None else None
            if text := self._defaults.follow(family, wish):
                self.news.append(text)

    def sweep(self) -> None:
        """Take away what an earlier process has led the host through, and nobody wants any more. Raises RtnlError."""
        self._defaults.sweep(self._indexes)

    def _mend_end(self, key: int, result: Mended) -> None:
        """That what bears the mark of a session without a device leads nowhere."""
        try:
            if self._confinement.mend_end(self._instance.table(key)):
                result.each[key] = "Someone flushed the routing table of the session's mark: put back."
        except RtnlError as error:
            result.for_all.append(f"The routing table of a session's mark can't be put back: {error.strerror}.")

    def _leave_to_host(self, address: Address, index: int, result: Mended) -> None:
        try:
            self._confinement.leave_to_host(address)
            where = link_at(self._rtnl, index).name
        except RtnlError as error:
            result.for_all.append(f"What keeps {address} to a session can't be taken away: {error.strerror}.")
            return
        for key, device in self._devices.items():
            if address in device.addresses():
                result.lost[key] = f"This host has the session's address {address} itself now, on {where}."

    def _mend_for(self, key: int, touched: Touched, result: Mended) -> None:
        device = self._devices[key]
        was_barred = device.barred
        try:
            found = self._mend(device, device.table in touched.tables)
        except RtnlError as error:
            if error.errno == errno.ENODEV:
                # Whether it was deleted or moved, its last notification says, which may be still on its way.
                if touched.everything or device.index in touched.left:
                    result.gone.append(key)
            else:
                result.lost[key] = f"The device {device.name} can't be put back as it was: {error.strerror}."
            return
        if found:
            device.mends += 1
            result.each[key] = f"Someone changed the device {device.name}: put back {', '.join(found)}."
        if device.barred and not was_barred:
            text = f"Someone has switched IPv6 off on {device.name} (`sysctl net.ipv6.conf.{device.name}.disable_ipv6`)"
            result.each[key] = f"{text}: the session has none until it is on again."
        if device.mends > PATIENCE:
            result.lost[key] = f"Someone changes the device {device.name} again and again: {', '.join(found)}."

    def _mend(self, device: Device, altered: bool) -> list[str]:
        """What was not as it must be, and is again; `altered` if its routes may be. Raises RtnlError."""
        if device.mtu is None or device.away:
            return []
        index, found = uint32(device.index), []
        link = state_at(self._rtnl, device.index)
        if link.master or link.arp:
            found += ["that it belongs to no other device"] if link.master else []
            found += ["that it asks for no MAC addresses"] if link.arp else []
            self._rtnl.do([set_free(device.index)])
        if link.strange:
            found.append("its MAC address")
            self._rtnl.do([set_mac(device.index)])
        if is_renamed := link.name != device.name:
            found.append("its name")
            self._free_name(device.name)
            self._rtnl.do([set_down(index), rename(device.index, device.name)])
        if is_renamed or not link.up:
            found.append("it is up")
        if link.mtu != device.mtu or device.narrowed:
            found.append("its MTU")
        if device.narrowed or link.mtu < MIN_IPV6_MTU <= device.mtu:
            self._widen(device, device.mtu)
        elif found:
            self._rtnl.do([set_up(index, uint32(device.mtu))])
        if device.ipv4 is not None:
            address, peer = device.ipv4
            if put(self._rtnl, add_ipv4(index, address.packed, (peer or address).packed)):
                found.append(f"its address {address}")
        device.barred = device.ipv6 is not None and is_switched_off(device.name)
        if device.ipv6 is not None and put(self._rtnl, add_ipv6(index, device.ipv6.packed)):
            found.append(f"its address {device.ipv6}")
        for each6 in device.global6:
            found += [f"its address {each6}"] * put(self._rtnl, add_global6(index, each6.packed))
        lacking = {wall[0] for wall in device.walls if put(self._rtnl, self._wall(device, wall))}
        found += [f"its unreachable route to {network}" for network in sorted(lacking)]
        sources6 = [network for network in device.networks if isinstance(network, IPv6Network)] if device.ipv6 else []
        for each in [*device.addresses(), *sources6]:
            found += self._confinement.mend(each, device.table, device.index, altered)
        if self._keys.get(device.index) in self._marks and self._confinement.mend_end(device.table):
            found.append("that there is no other way for its mark")
        if device.metric is not None and self._defaults.mend(device.index):
            found.append("the host's default route")
        return found

    def _free_name(self, name: str) -> None:
        """Where another session's device has been given this name, take it away: its own is put back as well."""
        with suppress(RtnlError):  # nobody has it
            index = index_of(self._rtnl, name)
            if index in self._keys and self._devices[self._keys[index]].name != name:
                self._rtnl.do([set_down(uint32(index)), rename(index, f"swapped{index}")])

    def tidy(self, now: float, theirs: Callable[[], Collection[Address | Network]] = tuple) -> bool:
        """Forget what sessions had and nobody can use any more; to be called every few seconds. Raises HostError.

        Some of it: whether there is more, and it is to be called again soon.

        `theirs` tells what is routed to sessions, up or not, and what they have though no device has it.
        """
        if now >= self._next_amnesty:
            self._next_amnesty = now + AMNESTY
            for device in self._devices.values():
                device.mends = 0
        try:
            more = not self._ended and self._confinement.tidy(now, theirs)
        except RtnlError as error:
            raise HostError(f"A routing rule can't be deleted: {error.strerror}.") from None
        if deaths := self.undertaker.deaths():
            text = f"The thread that deletes devices died ({deaths[-1]}), and another one is at work."
            raise HostError(f"{text} Please report it.")
        return more

    def part(self) -> None:
        """All sessions are about to end, and `bury` and `close` follow.

        Devices go as they come, where nothing of the others' is read for them; else they wait for each other.
        """
        self._parting = self._confinement.part()
        if self._parting:
            self._guard.part()
        if self._parting and all(device.ipv6 is None for device in self._devices.values()):
            self.undertaker.hasten()
        else:
            self.undertaker.gather()

    def bury(self) -> None:
        """All sessions have ended: delete all devices together; `parted` tells when that is done."""
        self._ended = self._parting
        self.undertaker.release(self._confinement.clear if self._parting else None)

    @property
    def parted(self) -> bool:
        """Whether no device waits to be deleted."""
        return not self.undertaker.busy

    def leave(self) -> None:
        """Let all devices be, with what keeps their packets in: another process takes them over."""
        self.forgo_all()
        self._devices.clear()
        self._keys.clear()
        self._named.clear()
        self._confinement.leave()

    def close(self) -> None:
        """Remove all devices; returns when they are gone."""
        held = self._inbound, self._confinement, self._guard, self.undertaker
        mine = self._instance, self._rtnl, self._workshop, *held
        with ExitStack() as steps:  # each whatever becomes of the others, the last one here first
            for each in mine:
                steps.callback(each.close)
            for key in self._devices:
                steps.callback(self.remove, key)
            steps.callback(self.forgo_all)

    def _set_up(self, device: Device, mtu: int) -> list[bytes]:
        """The requests that are still to be made for that. Raises HostError."""
        former, device.mtu = device.mtu, mtu
        request = set_up(uint32(device.index), uint32(mtu))
        if former is None:
            return [request]
        if former != mtu:
            if mtu < MIN_IPV6_MTU and device.ipv6 is not None:  # the kernel takes it away
                self.clear_ipv6(self._keys[device.index])
            if former < MIN_IPV6_MTU <= mtu:
                try:
                    self._widen(device, mtu)
                except RtnlError as error:
                    raise _trouble(device, error) from None
            else:
                self._do(device, request)
            if device.mtu6 is not None:  # the kernel forgets it
                limit_ipv6(device.name, min(device.mtu6, mtu))
        return []

    def _widen(self, device: Device, mtu: int) -> None:
        """Make a device wide enough for IPv6, down: the kernel begins anew with that. Raises RtnlError.

        If it were up it would get an address of the kernel's making, and heed routers.
        """
        index = uint32(device.index)
        device.rising, device.narrowed = True, False
        self._rtnl.do([set_down(index), resize(index, uint32(mtu))])
        keep_quiet(self._rtnl, device.name, device.index, ipv6=device.may_have_ipv6)
        self._rtnl.do([set_up(index, uint32(mtu))])
        if device.ipv4 is not None:  # its routes have gone
            self._confinement.mend(device.ipv4[0], device.table, device.index, False)
        self._defaults.mend(device.index)

    def _give(self, device: Device, first: Sequence[bytes], gifts: Sequence[Gift]) -> None:
        """Give a device addresses, after nothing can leave from there by another device; some requests come first."""
        addresses = [address for address, _ in gifts]
        try:
            requests = self._confinement.open(addresses, device.table, device.index, first)
            for address in addresses:
                for network in device.beside(address):
                    self._confinement.open_network(network, device.table, device.index, device.name)
            requests += (request for _, request in gifts)
            if device.ipv6 in addresses:
                requests += self._confinement.open_device(device.index, device.table)
        except RtnlError as error:
            raise _trouble(device, error) from None
        self._do(device, *requests)
        if gifts:
            self._follow_wishes(device)

    def _follow_wishes(self, device: Device) -> None:
        if device.metric is not None:
            try:
                self._lead_host()
            except RtnlError as error:
                raise _trouble(device, error) from None

    def _take(self, device: Device, address: Address, request: bytes) -> None:
        self._follow_wishes(device)
        try:
            self._shut(device, address)
        except RtnlError as error:
            raise _trouble(device, error) from None
        self._do(device, request)

    def _shut(self, device: Device, address: Address) -> None:
        now = time.monotonic()
        with ExitStack() as steps:  # each whatever becomes of the others, the last one here first
            steps.callback(self._confinement.shut, address, device.table, device.index, now)
            for network in device.beside(address):
                steps.callback(self._confinement.shut_network, network, device.table, device.index, now)

    def _do(self, device: Device, *requests: bytes) -> None:
        try:
            self._rtnl.do(requests, HARMLESS)
        except RtnlError as error:
            raise _trouble(device, error) from None


def _trouble(device: Device, error: RtnlError) -> HostError:
    return HostError(f"The device {device.name} can't be set up: {error.strerror}.")
