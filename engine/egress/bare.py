"""Sessions without a device: their packets go nowhere, and are counted, or to a network stack in user space.

Of the latter the C helper has one end of a SEQPACKET pair where it has a device's descriptor else, and the stack
program the other one. Nothing of the host's knows their addresses.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from engine.datapath import DatapathError
from engine.egress.carriers import Carriers
from engine.egress.device import own_of
from engine.egress.protocol import Addresses
from engine.host.rtnl import make_room
from engine.sessions.obstacle import Obstacle
from engine.settings.values import DatapathChoice, EgressChoice, Forward, Inbound, SessionSettings
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
)
"""Settings that ask for what a session without a device can't have."""
_TAKES_CONNECTIONS: tuple[tuple[str, Callable[[SessionSettings], object]], ...] = (
    ("proxy", lambda it: it.proxy is not None),
    ("forwards", lambda it: bool(it.forwards)),
)
"""Those that ask for what a session with packets that go nowhere can't have."""
BUFFER = 4 << 20
"""Octets that may wait on their way to the program, and from it."""


class Stack(Protocol):
    """The program that holds the network stacks of sessions."""

    def obstacle(self) -> str:
        """Why it can't be had, in a sentence that says what to do; empty if it can."""

    def tell(self, key: int, mtu: int, addresses: Addresses, end: int = -1) -> None:
        """A session has these; with a descriptor it is new, and packets come and go by that, which is handed over."""

    def forward(self, key: int, forwards: tuple[Forward, ...]) -> None:
        """What comes to a session's ports is to go there, in place of what was said before."""

    def forget(self, key: int) -> None:
        """A session is gone."""


@dataclass(slots=True)
class _Opened:
    settings: SessionSettings
    place: Place
    mtu: int
    addresses: Addresses
    end: socket.socket | None = None
    """Ours of the pair, of a session with a stack."""


class BareEgress:
    """All sessions without a device of one engine; the part of `Egress` that concerns them alone."""

    def __init__(self, carriers: Callable[[], Carriers | None], stack: Stack) -> None:
        """`carriers` gives those of the card, while it is ours."""
        self._carriers = carriers
        self._stack = stack
        self._opened: dict[int, _Opened] = {}

    def __contains__(self, key: int) -> bool:
        return key in self._opened

    def obstacle(self, settings: SessionSettings) -> Obstacle | None:
        """See `Egress.obstacle`."""
        stacked = settings.egress is EgressChoice.STACK
        impossible = _TAKES_DEVICE if stacked else (*_TAKES_DEVICE, *_TAKES_CONNECTIONS)
        if asked := [f"`{name}`" for name, is_asked in impossible if is_asked(settings)]:
            kind = settings.egress
            return Obstacle(f"`egress: {kind}` gives no device, which {', '.join(asked)} needs: drop one of them.")
        if stacked and (missing := self._stack.obstacle()):
            return Obstacle(missing)
        return None

    def open(self, key: int, settings: SessionSettings, place: Place, mtu: int) -> None:
        """See `Egress.open`; nothing is opened while the card is away."""
        if self._carriers() is None or key in self._opened:
            return
        opened = self._opened[key] = _Opened(settings, place, mtu, Addresses())
        try:
            self._join(key, opened)
        except BaseException:
            self.close(key)
            raise

    def _join(self, key: int, opened: _Opened) -> None:
        """Make the pair of a session with a stack, and have its packets flow."""
        if opened.settings.egress is EgressChoice.STACK:
            try:
                opened.end, other = _pair()
            except OSError as error:
                raise DatapathError(f"cannot reach the stack program: {error.strerror}") from None
            with other:
                self._stack.tell(key, opened.mtu, opened.addresses, other.detach())
            self._stack.forward(key, opened.settings.forwards)
        self._plug(key, opened)

    def _plug(self, key: int, opened: _Opened) -> None:
        carriers = self._carriers()
        if carriers is not None:
            own = own_of(opened.addresses, opened.settings)
            end = opened.end.fileno() if opened.end is not None else -1
            carriers.plug_socket(key, opened.place, end, opened.mtu, own)

    @property
    def stacked(self) -> list[int]:
        """Sessions that have a stack."""
        return [key for key, opened in self._opened.items() if opened.settings.egress is EgressChoice.STACK]

    def join_anew(self, key: int) -> None:
        """There is another program, which gets this session, if it has a stack still. Raises DatapathError."""
        opened = self._opened.get(key)
        if opened is not None and opened.settings.egress is EgressChoice.STACK:
            self._unplug(key, opened)
            self._join(key, opened)

    def set_addresses(self, key: int, addresses: Addresses, mtu: int) -> None:
        """See `Egress.set_addresses`."""
        opened, carriers = self._opened.get(key), self._carriers()
        if opened is None or carriers is None:
            return
        opened.addresses = addresses
        carriers.set_own(key, own_of(addresses, opened.settings))
        self._follow(key, opened)
        if mtu != opened.mtu:
            self.set_mtu(key, mtu)

    def set_mtu(self, key: int, mtu: int) -> None:
        """See `Egress.set_mtu`."""
        opened = self._opened.get(key)
        if opened is not None:
            opened.mtu = mtu
            self._plug(key, opened)
            self._follow(key, opened)

    def _follow(self, key: int, opened: _Opened) -> None:
        if opened.end is not None:
            self._stack.tell(key, opened.mtu, opened.addresses)

    def close(self, key: int) -> None:
        """See `Egress.close`."""
        opened = self._opened.pop(key, None)
        if opened is not None:
            self._unplug(key, opened)
            if opened.settings.egress is EgressChoice.STACK:
                self._stack.forget(key)

    def _unplug(self, key: int, opened: _Opened) -> None:
        """The helper must have let go of the socket before it is closed."""
        carriers = self._carriers()
        if carriers is not None:
            carriers.unplug(key)
        if opened.end is not None:
            opened.end.close()
            opened.end = None


def _pair() -> tuple[socket.socket, socket.socket]:
    """Ours, which never waits, and the program's."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    for end in (ours, theirs):
        make_room(end, BUFFER)
    return ours, theirs
