"""All egresses of one engine: each session has the one that its settings say, and marks and claims are the host's."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from ipaddress import IPv6Network

from engine.egress.bare import BareEgress
from engine.egress.device import DeviceEgress
from engine.egress.protocol import Addresses
from engine.ppp.judge import Address
from engine.sessions.obstacle import Obstacle
from engine.sessions.policy import Way
from engine.sessions.session import Session
from engine.settings.values import DatapathChoice, EgressChoice, SessionSettings
from engine.wire.place import Place


class Egresses:
    """Implements `Egress`."""

    def __init__(self, devices: DeviceEgress, bare: BareEgress) -> None:
        self._devices = devices
        self._bare = bare
        self.has_ipv6 = devices.has_ipv6

    def obstacle(self, key: int, session: Session) -> Obstacle | None:
        """See `Egress.obstacle`."""
        if session.settings.egress is EgressChoice.DEVICE:
            if session.settings.forwards:
                return Obstacle("`forwards` is for `egress: stack`: a program can listen on a session's device itself.")
            return self._devices.obstacle(key, session)
        return self._bare.obstacle(session.settings)

    def prepare(self, key: int, settings: SessionSettings, mtu: int) -> None:
        """See `Egress.prepare`."""
        if settings.egress is EgressChoice.DEVICE:
            self._devices.prepare(key, settings, mtu)

    def open(self, key: int, settings: SessionSettings, place: Place, mtu: int) -> None:
        """See `Egress.open`."""
        (self._devices if settings.egress is EgressChoice.DEVICE else self._bare).open(key, settings, place, mtu)

    def set_addresses(self, key: int, addresses: Addresses, mtu: int) -> None:
        """See `Egress.set_addresses`."""
        if key in self._bare:
            self._bare.set_addresses(key, addresses, mtu)
        else:
            self._devices.set_addresses(key, addresses, mtu)

    def set_mtu(self, key: int, mtu: int) -> None:
        """See `Egress.set_mtu`."""
        (self._bare if key in self._bare else self._devices).set_mtu(key, mtu)

    def close(self, key: int) -> None:
        """See `Egress.close`."""
        (self._bare if key in self._bare else self._devices).close(key)

    def hold_marks(self, marks: Iterable[int]) -> None:
        """See `Egress.hold_marks`."""
        self._devices.hold_marks(marks)

    def set_mark(self, key: int, mark: int | None) -> None:
        """See `Egress.set_mark`; what bears that of a session without a device leaves nowhere."""
        self._devices.set_mark(key, mark)

    def forget(self, key: int) -> None:
        """See `Egress.forget`."""
        self._devices.forget(key)

    def way_to(self, address: Address) -> Way | None:
        """See `Egress.way_to`."""
        return self._devices.way_to(address)

    def claim(self, network: IPv6Network) -> str:
        """See `Egress.claim`."""
        return self._devices.claim(network)

    def disinherit(self) -> None:
        """See `Egress.disinherit`."""
        self._devices.disinherit()

    def device(self, key: int) -> str | None:
        """See `Egress.device`."""
        return self._devices.device(key)

    def netns(self, key: int) -> str | None:
        """See `Egress.netns`."""
        return self._devices.netns(key)

    def path(self, key: int) -> DatapathChoice | None:
        """See `Egress.path`."""
        return DatapathChoice.AFXDP if key in self._bare else self._devices.path(key)

    def strays(self, key: int) -> Mapping[str, int]:
        """See `Egress.strays`."""
        return self._devices.strays(key)

    def counters(self, keys: int) -> array[int]:
        """See `Egress.counters`."""
        return self._devices.counters(keys)
