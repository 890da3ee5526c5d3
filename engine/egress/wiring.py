"""Keeps the data paths and the devices in step with the sessions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from engine.api.values import Severity
from engine.card.port import MANY_SESSIONS, Port
from engine.datapath import Open
from engine.egress.addresses import Devices
from engine.egress.veth import HiddenNet
from engine.ppp.link import Ipv4Closed, Ipv4Opened, Ipv6Closed, Ipv6Opened, MtuVerified
from engine.sessions.obstacle import Obstacle
from engine.sessions.session import Ended, PppoeOpened, Session, SessionEvent
from engine.settings.values import DatapathChoice, SessionSettings


class Wiring:
    """The devices of one engine and their connections to its card, while it has one."""

    def __init__(self, sessions: Callable[[], int], tell: Callable[[Severity, str, str], None]) -> None:
        """`sessions` says how many there are, up or not; `tell` takes what concerns them all. Raises HostError."""
        self.port: Port | None = None
        self.hidden = HiddenNet()
        self._sessions = sessions
        self._tell = tell
        self._told: set[str] = set()
        self._devices = Devices()
        self._paths: dict[int, DatapathChoice] = {}
        self._open: dict[int, Open] = {}
        """Whose packets flow. An address is on the device before, and goes after they do."""

    def device(self, number: int) -> str | None:
        """The name of a session's device, None while it has none."""
        return self._devices.name(number) if number in self._devices else None

    def path(self, number: int) -> DatapathChoice | None:
        """What carries a session's packets, None while nothing does."""
        return self._paths.get(number)

    def open(self, number: int) -> Open:
        """The network protocols whose packets flow."""
        return self._open.get(number, Open.NONE)

    def obstacle(self, number: int, session: Session) -> Obstacle | None:
        """What keeps a session from being dialled: found out before, it costs nobody anything."""
        settings = session.settings
        if settings.datapath is DatapathChoice.KERNEL and self.port is not None:
            if not self.port.kernel_known():
                return Obstacle("The in-kernel data path is being loaded.", passing=True)
            if reason := self.port.kernel_obstacle():
                return Obstacle(f"`datapath: kernel` is not to be had: {reason}. Set it to afxdp or auto.")
        if taken := self._devices.taken(number, _device_name(number, settings)):
            return Obstacle(f"{taken} Give the session another name for its own with `device:`.")
        return None

    def follow(self, number: int, session: Session, event: SessionEvent) -> None:
        """Do what an event of a session asks for; raises HostError or DatapathError."""
        match event:
            case PppoeOpened(keys) if self.port is not None:
                self.port.make_known(number, keys, session.settings.mru)
            case Ipv4Opened(agreed) if self.port is not None:
                self._need_device(number, session)
                self._devices.set_ipv4(number, agreed.address, agreed.peer, _mtu(session))
                self._set_open(number, self.open(number) | Open.IPV4)
            case Ipv4Closed():
                self._set_open(number, self.open(number) & ~Open.IPV4)
                self._devices.clear_ipv4(number)
            case Ipv6Opened(agreed) if self.port is not None:
                self._need_device(number, session)
                self._devices.set_ipv6(number, agreed.address, _mtu(session))
                self._set_open(number, self.open(number) | Open.IPV6)
            case Ipv6Closed():
                self._set_open(number, self.open(number) & ~Open.IPV6)
                self._devices.clear_ipv6(number)
            case MtuVerified(mtu) if number in self._devices:
                self._devices.set_mtu(number, mtu)
                self._connect(number, session)
            case Ended():
                self.remove(number)

    def remove(self, number: int) -> None:
        """Take a session's device away, if it has one. Its descriptor must leave the data path first."""
        if self.port is not None:
            self.port.unplug(number)
        self._paths.pop(number, None)
        self._open.pop(number, None)
        self._devices.remove(number)

    def close(self) -> None:
        """Remove all devices; the port must be closed."""
        self._devices.close()
        self.hidden.close()

    def _need_device(self, number: int, session: Session) -> None:
        assert self.port is not None
        if number not in self._devices:
            wanted, sessions = session.settings.datapath, self._sessions()
            path = self.port.choose(wanted, sessions)
            self._tell_once(self.port.kernel_notice)
            if wanted is DatapathChoice.AUTO and path is DatapathChoice.AFXDP and sessions >= MANY_SESSIONS:
                self._tell_once(f"Sessions with `datapath: auto` go over AF_XDP: {self.port.kernel_obstacle()}.")
            make = partial(self.port.open_device, number, path)
            self._devices.create(number, _device_name(number, session.settings), make, self.port.closer(path))
            self._paths[number] = path
            self._connect(number, session)

    def _tell_once(self, text: str) -> None:
        """What concerns the data paths of them all, the first time."""
        if text and text not in self._told:
            self._told.add(text)
            self._tell(Severity.WARNING, "datapath", text)

    def _connect(self, number: int, session: Session) -> None:
        if self.port is not None and session.keys is not None:
            path, keys = self._paths[number], session.keys
            self.port.plug(number, path, keys, self._devices.fd(number), _mtu(session), self.open(number))

    def _set_open(self, number: int, opened: Open) -> None:
        self._open[number] = opened
        if self.port is not None:
            self.port.set_open(number, opened)


def _device_name(number: int, settings: SessionSettings) -> str:
    return settings.device or f"soup{number}"


def _mtu(session: Session) -> int:
    return session.mtu or session.settings.mru
