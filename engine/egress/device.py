"""An egress that is a network device: TUN where AF_XDP carries the session, veth where the kernel does."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from ipaddress import IPv6Network

from msgspec import Struct, field

from engine.api.values import TRAFFIC_FIELDS, Severity
from engine.datapath.own import CLOSED, Network, Own
from engine.egress.addresses import Devices
from engine.egress.carriers import Carriers
from engine.egress.elsewhere import Elsewhere, Namespace, Namespaces
from engine.egress.entrance import NOWHERE, Entrance
from engine.egress.instances import Instance
from engine.egress.kept import KeptDevice
from engine.egress.making import Making
from engine.egress.protocol import Addresses, Happening
from engine.egress.veth import HiddenNet
from engine.host.errors import HostError, Trouble
from engine.host.surroundings import NO_TUN, has_ipv6, has_tun
from engine.ipv6.router import MIN_IPV6_MTU
from engine.ppp.judge import Address
from engine.sessions.obstacle import Obstacle
from engine.sessions.policy import Way, routed
from engine.sessions.session import Session
from engine.settings.options import DEVICES
from engine.settings.values import MANY_SESSIONS, DatapathChoice, Inbound, SessionSettings
from engine.wire.place import Place

NO_SUBTREES = "This kernel has no routes of IPv6 by source (CONFIG_IPV6_SUBTREES): sessions have IPv4 only."


class _Opened(Struct):
    """A session that has a device."""

    path: DatapathChoice
    place: Place
    settings: SessionSettings
    mtu: int
    addresses: Addresses = field(default_factory=Addresses)
    flows: Own = CLOSED
    """Whose packets flow. An address is on the device before, and goes after they do."""


class DeviceEgress:
    """The devices of one engine and their connections to its card, while it has one. Implements `Egress`."""

    def __init__(
        self,
        sessions: Callable[[], int],
        tell: Callable[[Severity, str, str], None],
        hidden: HiddenNet | None = None,
        devices: str = DEVICES,
        instance: Instance | None = None,
        namespaces: Namespaces | None = None,
        group: int = 0,
    ) -> None:
        """`sessions` says how many there are, up or not; `tell` takes what concerns them all. Raises HostError.

        `hidden` is a namespace made before the right to make one was given up; it is closed with all else. `devices`
        and a number are devices' names, `group` is their group. `instance` is closed with all else too, and so are
        `namespaces`.
        """
        self.carriers: Carriers | None = None
        """Those of the card, while it is ours."""
        self.hidden = hidden or HiddenNet()
        self._sessions = sessions
        self._named = devices
        self._tell = tell
        self._told: set[str] = set()
        self._devices = Devices(instance, group)
        self.has_ipv6 = has_ipv6() and self._devices.confines_ipv6
        self._namespaces = namespaces or Namespaces()
        self._elsewhere = Elsewhere(self._namespaces, self._devices.undertaker)
        self._lent: dict[int, str] = {}
        """Namespaces that sessions have been put into while the engine runs, whatever their settings say."""
        self.entrance = Entrance()
        self._opened: dict[int, _Opened] = {}
        self._has_inherited = False
        self._inherited: dict[str, tuple[KeptDevice, int]] = {}
        """By name: what an earlier process has left and no session has taken yet, with TUN devices' descriptors."""

    def device(self, key: int) -> str | None:
        """See `Egress.device`."""
        home = self._home(key)
        return home.name(key) if key in home else None

    def netns(self, key: int) -> str | None:
        """See `Egress.netns`."""
        return self._netns(key, self._opened[key].settings) if key in self._elsewhere and key in self._opened else None

    def _netns(self, key: int, settings: SessionSettings) -> str | None:
        return self._lent.get(key, settings.netns)

    def _home(self, key: int) -> Devices | Elsewhere:
        """Where a session's device is, if it has one."""
        return self._elsewhere if key in self._elsewhere else self._devices

    def lend(self, key: int, name: str, namespace: Namespace) -> None:
        """Have a session's device in this namespace from now on, by whoever opened it. Raises Trouble."""
        self._namespaces.add(name, namespace)
        self._devices.forgo(key)
        former = self._opened.get(key)
        self._lent[key] = name
        if former is not None:
            self.close(key)
            self.open(key, former.settings, former.place, former.mtu)
            self.set_addresses(key, former.addresses, former.mtu)

    def path(self, key: int) -> DatapathChoice | None:
        """See `Egress.path`."""
        return self._opened[key].path if key in self._opened else None

    def obstacle(self, key: int, session: Session) -> Obstacle | None:
        """See `Egress.obstacle`."""
        settings = session.settings
        asked = settings.datapath is DatapathChoice.KERNEL
        either = settings.datapath is DatapathChoice.AUTO
        likely = either and (self._sessions() >= MANY_SESSIONS or not has_tun())
        if self.carriers is not None and (asked or likely) and not self.carriers.kernel_known():
            return Obstacle("The in-kernel data path is being loaded.", passing=True)
        if self.carriers is not None and asked and (reason := self.carriers.kernel_obstacle()):
            return Obstacle(f"`datapath: kernel` is not to be had: {reason}. Set it to afxdp or auto.")
        if not asked and not has_tun() and (reason := self._no_kernel_path(either)):
            raise HostError(f"{NO_TUN} {reason}")
        if refused := self._refused(settings):
            return Obstacle(refused)
        if (name := self._netns(key, settings)) is not None:
            return self._obstacle_elsewhere(name, settings)
        if self._devices.undertaker.crowded:
            return Obstacle("Devices of sessions that have ended go first.", passing=True, for_all=True)
        if taken := self._devices.taken(key, self._name(key, settings)):
            raise HostError(f"{taken} `device:` gives the session's another name, `devices:` those of all.")
        self._devices.hold(routed(settings))
        return None

    def _obstacle_elsewhere(self, name: str, settings: SessionSettings) -> Obstacle | None:
        if settings.inbound is Inbound.CLOSED:
            return Obstacle(f"`inbound: closed` is not to be had in the network namespace {name}: close it there.")
        self._namespaces.find(name)
        return None

    def _no_kernel_path(self, either: bool) -> str:
        """Why the in-kernel path, which needs no TUN device, is not to be had instead, in a sentence; mostly empty."""
        if not either:
            return "Or set `datapath: auto`, which does without where the in-kernel path can run."
        reason = self.carriers.kernel_obstacle() if self.carriers is not None else ""
        return f"Nor can the in-kernel path do without: {reason}." if reason else ""

    def _refused(self, settings: SessionSettings) -> str:
        """What this host can't give a session, or needs itself, in a sentence; mostly empty."""
        if settings.inbound is Inbound.CLOSED and (reason := self._devices.inbound_obstacle()):
            return f"`inbound: closed` is not to be had: {reason}."
        for network in routed(settings):
            if why := self._devices.claim(network):
                self._devices.let_go(network)
                return f"The network {network} can't be this session's: it {why}. Change `networks:`."
        return ""

    def hold_marks(self, marks: Iterable[int]) -> None:
        """See `Egress.hold_marks`."""
        self._devices.hold_marks(marks)

    def set_mark(self, key: int, mark: int | None) -> None:
        """See `Egress.set_mark`."""
        self._devices.set_mark(key, mark)

    def forget(self, key: int) -> None:
        """See `Egress.forget`."""
        self.entrance.forget(key)
        self._lent.pop(key, None)
        self._devices.set_mark(key, None)

    def way_to(self, address: Address) -> Way | None:
        """See `Egress.way_to`."""
        return self._devices.way_to(address)

    def claim(self, network: IPv6Network) -> str:
        """See `Egress.claim`."""
        return self._devices.claim(network, whole=True)

    @staticmethod
    def _maker(carriers: Carriers, key: int, path: DatapathChoice, mtu: int) -> Callable[[str], Making]:
        return partial(carriers.making, key, path, max(mtu, MIN_IPV6_MTU))

    def prepare(self, key: int, settings: SessionSettings, mtu: int) -> None:
        """See `Egress.prepare`; what can't be made now is told when it is needed."""
        name = self._name(key, settings)
        if self.carriers is None or self._netns(key, settings) is not None or name in self._inherited:
            return
        path = self._choose(self.carriers, settings.datapath)
        maker, closer = self._maker(self.carriers, key, path, mtu), self.carriers.closer(path)
        with suppress(Trouble):
            self._devices.prepare(key, name, maker, closer, ipv6=settings.ipv6, finish=self.carriers.finish(path))

    def forgo(self) -> None:
        """Delete what was made for sessions that haven't come so far: the card is about to be given back."""
        self._devices.forgo_all()

    def open(self, key: int, settings: SessionSettings, place: Place, mtu: int) -> None:
        """See `Egress.open`; nothing is opened while the card is away."""
        if self.carriers is None or key in self._opened:
            return
        self._tell_once("confinement", self._devices.notice)
        self._tell_once("ipv6", "" if self._devices.confines_ipv6 else NO_SUBTREES)
        name, networks, closed = self._name(key, settings), routed(settings), settings.inbound is Inbound.CLOSED
        metric = settings.default_route.metric
        kept, _ = self._inherited.get(name, (None, -1))
        path = self._choose(self.carriers, settings.datapath) if kept is None else kept.path
        closer = self.carriers.closer(path)
        if (namespace := self._netns(key, settings)) is not None:
            make = partial(self.carriers.open_device, key, path, max(mtu, MIN_IPV6_MTU))
            self._elsewhere.create(key, name, namespace, make, closer)
        elif kept is not None:
            take = partial(self._adopt, self.carriers, key)
            self._devices.adopt(key, name, take, closer, networks, closed=closed, metric=metric, ipv6=settings.ipv6)
        else:
            self._devices.create(
                key,
                name,
                self._maker(self.carriers, key, path, mtu),
                closer,
                networks,
                closed=closed,
                metric=metric,
                ipv6=settings.ipv6,
                finish=self.carriers.finish(path),
            )
        self._opened[key] = _Opened(path, place, settings, mtu)
        try:
            if kept is None and namespace is None:
                self.carriers.connect(key, path, self._devices.fd(key))
            self._connect(key, mtu)
        except BaseException:
            self.close(key)
            raise

    def set_addresses(self, key: int, addresses: Addresses, mtu: int) -> None:
        """See `Egress.set_addresses`."""
        if key not in self._opened:
            return
        self._opened[key].addresses, self._opened[key].mtu = addresses, mtu
        flows = own_of(addresses, self._opened[key].settings)
        self._let_flow(key, self._opened[key].flows.common(flows))
        if key in self._elsewhere:
            self._elsewhere.set_addresses(key, addresses, mtu)
            self._let_flow(key, flows)
            return
        self._devices.set_addresses(key, addresses, mtu)
        self._devices.set_mtu6(key, addresses.mtu6)
        self._devices.set_prefixes6(key, addresses.prefixes6)
        self._hand_on(key)
        self._let_flow(key, flows)
        self.entrance.set(key, self._devices.index(key) if flows != CLOSED else NOWHERE)
        self._tell_of_defaults()

    def _tell_of_defaults(self) -> None:
        while self._devices.news:
            self._tell(Severity.INFO, "default-route", self._devices.news.pop(0))

    def _hand_on(self, key: int) -> None:
        """Put a /64 of what is delegated where the settings want it. If that can't be it costs a word, no session."""
        to = self._opened[key].settings.delegate
        self._tell_once("delegate", self._devices.hand_on(key, to.interface, to.subnet))

    def set_mtu(self, key: int, mtu: int) -> None:
        """See `Egress.set_mtu`."""
        if key in self._opened:
            opened = self._opened[key]
            widened, opened.mtu = opened.mtu < MIN_IPV6_MTU <= mtu, mtu
            if widened:  # IPv6 was gone from it, and is there again
                self.set_addresses(key, opened.addresses, mtu)
            else:
                self._home(key).set_mtu(key, mtu)
            self._connect(key, mtu)

    def close(self, key: int) -> None:
        """See `Egress.close`. A device's descriptor must leave the data path first."""
        self._opened.pop(key, None)
        try:
            self.entrance.set(key, NOWHERE)
            if self.carriers is not None:
                self.carriers.unplug(key)
        finally:
            self._elsewhere.remove(key)
            self._devices.remove(key)
            self._tell_of_defaults()

    # From one process to the next

    def keep(self) -> list[tuple[KeptDevice, int]]:
        """All devices there are, with the descriptors of TUN devices, -1 for others."""
        found = []
        for key, opened in self._opened.items():
            if key in self._elsewhere:  # the next process makes another one
                continue
            name, fd = self._devices.name(key), self._devices.fd(key)
            tun = opened.path is DatapathChoice.AFXDP
            found.append((KeptDevice(name, opened.path, 0 if tun else fd), fd if tun else -1))
        return found

    def part(self) -> None:
        """All sessions are about to end, and `bury` and `close_all` follow."""
        if self.carriers is not None:
            self.carriers.part()
        self._devices.part()

    def bury(self) -> None:
        """All sessions have ended: delete all devices together; `parted` tells when that is done."""
        self._devices.bury()

    @property
    def parted(self) -> bool:
        """Whether no device waits to be deleted."""
        return self._devices.parted

    def leave(self) -> None:
        """From now on `close_all` leaves all devices as they are: another process takes them over."""
        self._opened.clear()
        self._devices.leave()

    def inherit(self, devices: Iterable[tuple[KeptDevice, int]]) -> None:
        """Take over what `keep` told in another process, as sessions with devices of these names are opened.

        The descriptors are ours from now on. What is gone meanwhile is left out.
        """
        for kept, fd in devices:
            self._has_inherited = True
            self._inherited[kept.name] = kept, fd
            try:
                self._devices.expect(kept.name)
            except HostError:
                self._discard(*self._inherited.pop(kept.name))
        self.hidden.spare(kept.end for kept, _ in self._inherited.values())

    def _adopt(self, carriers: Carriers, key: int, name: str) -> int:
        """What makes a session's device where an earlier process has left one. Raises DatapathError."""
        kept, fd = self._inherited.pop(name)
        try:
            return carriers.adopt_device(key, kept, fd, name)
        except BaseException:
            self._discard(kept, fd)
            raise

    def disinherit(self) -> None:
        """See `Egress.disinherit`."""
        while self._inherited:
            self._discard(*self._inherited.popitem()[1])
        self.entrance.disinherit()
        if self._has_inherited:
            self._devices.sweep()

    def _discard(self, kept: KeptDevice, fd: int) -> None:
        if kept.path is DatapathChoice.AFXDP:
            os.close(fd)
        elif self.hidden.is_open:  # else they have gone with the namespace
            with suppress(OSError):  # gone already
                self.hidden.delete(kept.end)

    def counters(self, keys: int) -> array[int]:
        """See `Egress.counters`; they begin anew with each card that is taken."""
        carriers = self.carriers
        return carriers.traffic(keys) if carriers is not None else array("Q", bytes(8 * len(TRAFFIC_FIELDS) * keys))

    def strays(self, key: int) -> Mapping[str, int]:
        """See `Egress.strays`; they begin anew with each card that is taken."""
        return self.carriers.strays(key) if self.carriers is not None else {}

    def filenos(self) -> list[int]:
        """Readable when others may have changed something of ours: then `look`."""
        return self._devices.filenos()

    def look(self) -> list[Happening]:
        """Put back what others have taken away or altered since the last look; a device that is gone is made anew."""
        mended = self._devices.look()
        self._tell_of_defaults()
        self._tell_once("confinement", self._devices.notice)
        happenings = [Happening(text) for text in mended.for_all]
        happenings += (Happening(text, key) for key, text in mended.each.items() if key not in mended.lost)
        happenings += (Happening(text, key, lost=True) for key, text in mended.lost.items())
        happenings += (self._make_anew(key) for key in mended.gone)
        astray = self._elsewhere.astray()
        happenings += (Happening(text, key, lost=True) for key, text in astray.items() if key not in self._lent)
        return happenings

    def _make_anew(self, key: int) -> Happening:
        name, former = self._devices.name(key), self._opened.get(key)
        what = f"Someone deleted the device {name}"
        self.close(key)
        if former is None or self.carriers is None:
            return Happening(f"{what}.", key, lost=True)
        try:
            self.open(key, former.settings, former.place, former.mtu)
            self.set_addresses(key, former.addresses, former.mtu)
        except Trouble as error:
            return Happening(f"{what}, and it can't be made anew: {error}", key, lost=True)
        return Happening(f"{what}: it was made anew. Programs that were bound to it must bind again.", key)

    def tidy(self, now: float, networks: Callable[[], Collection[Network]]) -> bool:
        """Forget what ended sessions had, once its time is over; to be called every few seconds. Raises HostError.

        Some of it: whether there is more, and it is to be called again soon. `networks` tells what is routed to
        sessions, up or not.
        """
        if self._devices.tidy(now, lambda: {*networks(), *self._without_room()}):
            return True
        for key, opened in self._opened.items():
            if opened.settings.delegate.interface is not None:  # which may have come, or lost its address
                self._hand_on(key)
        return False

    def _without_room(self) -> Iterator[Address | Network]:
        """What sessions have of IPv6 whose devices are too narrow for it: it is theirs all the same."""
        for opened in self._opened.values():
            if opened.mtu < MIN_IPV6_MTU and (addresses := opened.addresses).ipv6 is not None:
                yield addresses.ipv6
                yield from addresses.global6
                yield from addresses.prefixes6

    def close_all(self) -> None:
        """Remove all devices; the card must have been given back."""
        try:
            self._elsewhere.close()
            self._devices.close()
        finally:
            self.entrance.close()
            self.hidden.close()

    def _name(self, key: int, settings: SessionSettings) -> str:
        return settings.device or f"{self._named}{key}"

    def _choose(self, carriers: Carriers, wanted: DatapathChoice) -> DatapathChoice:
        path = carriers.choose(wanted, self._sessions())
        self._tell_once("datapath", carriers.kernel_notice)
        if wanted is DatapathChoice.AUTO and path is DatapathChoice.AFXDP and self._sessions() >= MANY_SESSIONS:
            self._tell_once("datapath", f"Sessions with `datapath: auto` go over AF_XDP: {carriers.kernel_obstacle()}.")
        return path

    def _tell_once(self, kind: str, text: str) -> None:
        """What concerns all sessions: the first time."""
        if text and text not in self._told:
            self._told.add(text)
            self._tell(Severity.WARNING, kind, text)

    def _connect(self, key: int, mtu: int) -> None:
        if self.carriers is not None:
            opened = self._opened[key]
            self.carriers.plug(key, opened.path, opened.place, self._home(key).fd(key), mtu, opened.flows)

    def _let_flow(self, key: int, flows: Own) -> None:
        if flows != self._opened[key].flows:
            self._opened[key].flows = flows
            if self.carriers is not None:
                self.carriers.set_own(key, flows)


def own_of(addresses: Addresses, settings: SessionSettings) -> Own:
    """Whose packets are to flow."""
    networks = (*routed(settings), *map(IPv6Network, addresses.global6), *addresses.prefixes6)
    return Own(addresses.ipv4, addresses.ipv6, networks)
