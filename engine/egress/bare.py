"""Sessions without a device: their packets go nowhere. PPP is up, echoes are answered, what comes in is counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from engine.egress.carriers import Carriers
from engine.egress.device import own_of
from engine.egress.protocol import Addresses
from engine.sessions.obstacle import Obstacle
from engine.settings.values import DatapathChoice, Inbound, SessionSettings
from engine.wire.place import Place

_TAKES_DEVICE: tuple[tuple[str, Callable[[SessionSettings], object]], ...] = (
    ("device", lambda it: it.device is not None),
    ("netns", lambda it: it.netns is not None),
    ("default_route", lambda it: it.default_route.metric is not None),
    ("delegate", lambda it: it.delegate.interface is not None),
    ("inbound: closed", lambda it: it.inbound is Inbound.CLOSED),
    ("datapath: kernel", lambda it: it.datapath is DatapathChoice.KERNEL),
    ("mark", lambda it: it.mark is not None),
    ("resolved", lambda it: it.resolved),
    ("health", lambda it: it.health.url is not None),
    ("proxy", lambda it: it.proxy is not None),
)
"""Settings that ask for what a session without a device can't have."""


@dataclass(slots=True)
class _Opened:
    settings: SessionSettings
    place: Place
    addresses: Addresses


class BareEgress:
    """All sessions without a device of one engine; the part of `Egress` that concerns them alone."""

    def __init__(self, carriers: Callable[[], Carriers | None]) -> None:
        """`carriers` gives those of the card, while it is ours."""
        self._carriers = carriers
        self._opened: dict[int, _Opened] = {}

    def __contains__(self, key: int) -> bool:
        return key in self._opened

    def obstacle(self, settings: SessionSettings) -> Obstacle | None:
        """See `Egress.obstacle`."""
        asked = [f"`{name}`" for name, is_asked in _TAKES_DEVICE if is_asked(settings)]
        if not asked:
            return None
        kind = settings.egress
        return Obstacle(f"`egress: {kind}` gives no device, which {', '.join(asked)} needs: drop one of them.")

    def open(self, key: int, settings: SessionSettings, place: Place, mtu: int) -> None:
        """See `Egress.open`; nothing is opened while the card is away."""
        if self._carriers() is None or key in self._opened:
            return
        self._opened[key] = _Opened(settings, place, Addresses())
        self.set_mtu(key, mtu)

    def set_addresses(self, key: int, addresses: Addresses) -> None:
        """See `Egress.set_addresses`."""
        opened, carriers = self._opened.get(key), self._carriers()
        if opened is None or carriers is None:
            return
        opened.addresses = addresses
        carriers.set_own(key, own_of(addresses, opened.settings))

    def set_mtu(self, key: int, mtu: int) -> None:
        """See `Egress.set_mtu`."""
        opened, carriers = self._opened.get(key), self._carriers()
        if opened is not None and carriers is not None:
            own = own_of(opened.addresses, opened.settings)
            carriers.plug(key, DatapathChoice.AFXDP, opened.place, -1, mtu, own)

    def close(self, key: int) -> None:
        """See `Egress.close`."""
        carriers = self._carriers()
        if self._opened.pop(key, None) is not None and carriers is not None:
            carriers.unplug(key)
