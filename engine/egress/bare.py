"""Sessions without a device: their packets go nowhere, and are counted, or to a network stack in user space.

Of the latter the C helper's workers and the stack program have memory together, the ducts, where there is a device's
descriptor else. Nothing of the host's knows their addresses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from engine.egress.carriers import Carriers
from engine.egress.device import own_of
from engine.egress.protocol import Addresses
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
)
"""Settings that ask for what a session without a device can't have."""
_TAKES_CONNECTIONS: tuple[tuple[str, Callable[[SessionSettings], object]], ...] = (
    ("proxy", lambda it: it.proxy is not None),
    ("forwards", lambda it: bool(it.forwards)),
    ("health", lambda it: it.health.url is not None),
)
"""Those that ask for what a session with packets that go nowhere can't have."""
DUCTS = 16 << 20
"""Octets that may wait on their way to the program, and so many from it, of all ducts together."""
SMALLEST_DUCT = 1 << 20


class Stack(Protocol):
    """The program that holds the network stacks of sessions."""

    def obstacle(self) -> str:
        """Why it can't be had, in a sentence that says what to do; empty if it can."""

    def join(self, worker: int, given: tuple[int, ...]) -> None:
        """Packets go by this duct to a worker and back; the descriptors are handed over."""

    def tell(self, key: int, mtu: int, addresses: Addresses) -> None:
        """A session, which may be new, has these."""

    def forward(self, key: int, forwards: tuple[Forward, ...]) -> None:
        """What comes to a session's ports is to go there, in place of what was said before."""

    def forget(self, key: int) -> None:
        """A session is gone."""

    def give_up(self, why: str) -> None:
        """The program is of no use any more; another one is to be had."""


class _Opened(Struct):
    settings: SessionSettings
    place: Place
    mtu: int
    addresses: Addresses

    @property
    def ducted(self) -> bool:
        """Whether it has a stack."""
        return self.settings.egress is EgressChoice.STACK


class BareEgress:
    """All sessions without a device of one engine; the part of `Egress` that concerns them alone."""

    def __init__(self, carriers: Callable[[], Carriers | None], stack: Stack) -> None:
        """`carriers` gives those of the card, while it is ours."""
        self._carriers = carriers
        self._stack = stack
        self._opened: dict[int, _Opened] = {}
        self._stacked: dict[int, None] = {}
        """Those that have a stack, in order: they are asked for again and again, and mostly there are none."""
        self._joined: tuple[Carriers, int] | None = None
        """Whose workers the program has ducts to, and how many."""

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
        if opened.ducted:
            self._stacked[key] = None
        try:
            self._join(key, opened)
        except BaseException:
            self.close(key)
            raise

    def _join(self, key: int, opened: _Opened) -> None:
        """Have a session's packets flow, by the program if it has a stack."""
        if opened.ducted:
            self.follow_workers()
            self._stack.tell(key, opened.mtu, opened.addresses)
            self._stack.forward(key, opened.settings.forwards)
        self._plug(key, opened)

    def follow_workers(self) -> None:
        """Have a duct to each worker there is, as long as there are sessions with a stack. Raises DatapathError."""
        carriers = self._carriers()
        if carriers is None or not self._stacked:
            return
        if self._joined == (now := (carriers, carriers.workers)):
            if carriers.duct_broken():
                self._stack.give_up("has put what makes no sense into the memory that the data path has too")
            return
        size = max(SMALLEST_DUCT, DUCTS >> (carriers.workers - 1).bit_length())
        for worker in range(carriers.workers):
            self._stack.join(worker, carriers.open_duct(worker, size))
        self._joined = now

    def begin_anew(self) -> list[int]:
        """There is another program, which has nothing; whose sessions are to be joined anew."""
        self._joined = None
        return [*self._stacked]

    def _plug(self, key: int, opened: _Opened) -> None:
        carriers = self._carriers()
        if carriers is not None:
            own = own_of(opened.addresses, opened.settings)
            carriers.plug_bare(key, opened.place, opened.mtu, own, ducted=opened.ducted)

    def join_anew(self, key: int) -> None:
        """There is another program, which gets this session, if it has a stack still. Raises DatapathError."""
        opened = self._opened.get(key)
        if opened is not None and opened.ducted:
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
        if opened.ducted:
            self._stack.tell(key, opened.mtu, opened.addresses)

    def close(self, key: int) -> None:
        """See `Egress.close`."""
        opened = self._opened.pop(key, None)
        self._stacked.pop(key, None)
        if opened is not None:
            carriers = self._carriers()
            if carriers is not None:
                carriers.unplug(key)
            if opened.ducted:
                self._stack.forget(key)
