"""Keeps the data path and the TUN devices in step with the sessions."""

from __future__ import annotations

from engine.devices import Devices
from engine.port import Port
from engine.ppp.link import Ipv4Closed, Ipv4Opened, Ipv6Closed, Ipv6Opened, MtuVerified
from engine.session import Ended, PppoeOpened, Session, SessionEvent


class Wiring:
    """The devices of one engine and their connections to its card, while it has one."""

    def __init__(self) -> None:
        """Raises HostError."""
        self.port: Port | None = None
        self._devices = Devices()

    def device(self, number: int) -> str | None:
        """The name of a session's device, None while it has none."""
        return self._devices.name(number) if number in self._devices else None

    def follow(self, number: int, session: Session, event: SessionEvent) -> None:
        """Do what an event of a session asks for; raises HostError or DatapathError."""
        match event:
            case PppoeOpened(keys) if self.port is not None:
                self.port.plug(number, keys, -1, session.settings.mru)
            case Ipv4Opened(agreed):
                self._need_device(number, session)
                self._devices.set_ipv4(number, agreed.address, agreed.peer, _mtu(session))
            case Ipv4Closed():
                self._devices.clear_ipv4(number)
            case Ipv6Opened(agreed):
                self._need_device(number, session)
                self._devices.set_ipv6(number, agreed.address, _mtu(session))
            case Ipv6Closed():
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
        self._devices.remove(number)

    def close(self) -> None:
        """Remove all devices; the port must be closed."""
        self._devices.close()

    def _need_device(self, number: int, session: Session) -> None:
        if number not in self._devices:
            self._devices.create(number, session.settings.device or f"soup{number}")
            self._connect(number, session)

    def _connect(self, number: int, session: Session) -> None:
        if self.port is not None and session.keys is not None:
            self.port.plug(number, session.keys, self._devices.fd(number), _mtu(session))


def _mtu(session: Session) -> int:
    return session.mtu or session.settings.mru
