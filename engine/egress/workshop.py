"""Where sessions' devices are made: beside the engine, by a thread of the C helper, when they are needed or before.

A device that is made ahead is down and has no address, so nothing can use it. What its session doesn't need after all,
or what somebody has touched, is deleted again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress

from msgspec import Struct

from engine.datapath.errands import Done, ErrandError, Errands
from engine.egress.making import Making
from engine.egress.quiet import quieting
from engine.egress.requests import put_into_group, uint32
from engine.egress.undertaker import Undertaker
from engine.host.errors import HostError, Trouble
from engine.host.links import LinkState, find
from engine.host.rtnl import Rtnl, RtnlError, Template


class Order(Struct, frozen=True):
    """A device that a session needs, or may need."""

    name: str
    make: Callable[[str], Making]
    """What makes one of that name."""
    close: Callable[[int, bool], None]
    """See `engine.egress.undertaker.Doomed`."""
    ipv6: bool
    finish: Sequence[Template]
    """Requests of its index that it needs besides."""


class Made(Struct, frozen=True):
    """A device as it leaves the workshop."""

    name: str
    fd: int
    """What it lives by: see `Making.holds`."""
    index: int
    close: Callable[[int, bool], None]
    routes: tuple[bytes, ...] = ()
    """None yet."""


class _UnderWay(Struct, frozen=True):
    order: Order
    making: Making
    errand: int


class Workshop:
    """That of one engine, in the network namespace of the thread that makes this."""

    def __init__(self, rtnl: Rtnl, undertaker: Undertaker, indexes: set[int], group: int) -> None:
        """Each device's index is put among the `indexes` of ours, and each is in this `group`. Raises DatapathError.

        By `rtnl` it is asked what is there.
        """
        self._rtnl = rtnl
        self._undertaker = undertaker
        self._indexes = indexes
        self._group = group
        self._ahead: dict[int, _UnderWay] = {}
        """By session."""
        self._errands, self._makers = Errands(), Rtnl()

    @property
    def port(self) -> int:
        """What others' notifications of what is made here name it by."""
        return self._makers.port

    def has(self, key: int, name: str) -> bool:
        """Whether a device of this name is made ahead for a session."""
        return key in self._ahead and self._ahead[key].order.name == name

    def prepare(self, key: int, order: Order) -> None:
        """Begin to make what `make` is going to be asked for. Raises what `Order.make` raises, and DatapathError."""
        if key not in self._ahead and not self._undertaker.has(order.name):
            self._ahead[key] = self._begin(order)

    def forgo(self, key: int) -> None:
        """Delete what was made for a session that isn't going to need it, if anything was."""
        if (ahead := self._ahead.pop(key, None)) is not None:
            self._discard(ahead)

    def forgo_all(self) -> None:
        """The same of all: what they hang on is about to go."""
        for key in [*self._ahead]:
            self.forgo(key)

    def make(self, key: int, order: Order) -> Made:
        """The device that is ordered, made by now; waits for it. Raises Trouble, and nothing is left then."""
        made = self._prepared(key, order)
        if made is None:
            self._undertaker.wait_for(order.name)
            made = self._made(self._begin(order))
        return made

    def close(self) -> None:
        """End the thread; what was made ahead must have been forgone."""
        with ExitStack() as steps:
            steps.callback(self._makers.close)
            steps.callback(self._errands.close)

    def _begin(self, order: Order) -> _UnderWay:
        making, blank = order.make(order.name), uint32(0)
        first = [put_into_group(blank, uint32(self._group))] if self._group else []
        first += (each(blank) for each in order.finish)
        steps = *making.steps, *quieting(self._makers, order.name, first, ipv6=order.ipv6)
        return _UnderWay(order, making, self._errands.give(steps))

    def _prepared(self, key: int, order: Order) -> Made | None:
        """What was made ahead, if it is what is wanted and is still there, untouched."""
        ahead = self._ahead.pop(key, None)
        if ahead is None:
            return None
        former = ahead.order
        if (former.name, former.close, former.ipv6) != (order.name, order.close, order.ipv6):
            self._discard(ahead)
            return None
        try:
            made = self._made(ahead)
        except Trouble:  # it may be had now
            return None
        with suppress(RtnlError):
            index, link = find(self._rtnl, made.name)
            if index == made.index and link == LinkState(made.name, link.mtu, up=False):
                return made
        self._undertaker.take(made)
        return None

    def _made(self, it: _UnderWay) -> Made:
        """What comes of an errand. Raises Trouble, and nothing is left then."""
        try:
            done = self._errands.end(it.errand)
        except ErrandError as error:
            self._bury(it, Done(-1, 0))
            if error.step < len(it.making.steps):
                raise it.making.refused(error) from None
            raise HostError(f"The device {it.order.name} can't be set up: {error.strerror}.") from None
        return self._of_ours(it, done)

    def _discard(self, it: _UnderWay) -> None:
        """It may be under way, and is waited for then; also where it has failed something may be there."""
        try:
            done = self._errands.withdraw(it.errand)
        except ErrandError:
            done = Done(-1, 0)
        if done is not None:
            self._bury(it, done)

    def _bury(self, it: _UnderWay, done: Done) -> None:
        if it.making.holds(done.fd) >= 0:
            self._undertaker.take(self._of_ours(it, done))

    def _of_ours(self, it: _UnderWay, done: Done) -> Made:
        if done.index:
            self._indexes.add(done.index)
        return Made(it.order.name, it.making.holds(done.fd), done.index, it.order.close)
