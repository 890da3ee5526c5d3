"""Connections through a session to an address or a name, by RFC 8305 ("happy eyeballs"): callbacks, no task for any.

Every socket is bound to the session's device and address before it is connected, or is the stack program's, and every
address is judged just before it is connected to: what a name resolves to changes nothing.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Container, Iterable
from enum import StrEnum
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import zip_longest

from engine.proxy import forbidden
from engine.proxy.bound import GONE, SHORT, NotBound, bound
from engine.proxy.exits import Address, Exit
from engine.proxy.names import Failure, Names, Result
from engine.proxy.questions import Kind
from engine.proxy.stack import GONE as STACK_GONE
from engine.proxy.stack import Connection
from engine.proxy.stack import Result as Made

RESOLUTION_DELAY = 0.05
"""Seconds for which IPv4's addresses wait for IPv6's (RFC 8305 section 3)."""
ATTEMPT_DELAY = 0.25
"""Seconds after which the next address is tried as well (section 5)."""
LATE = 0.2
"""Seconds that a deadline may be missed by."""
MOST_ATTEMPTS = 16
"""Addresses that are tried for one connection."""


class DialKind(StrEnum):
    """Why there is no connection; what it was is said for an operator."""

    FORBIDDEN = "not allowed to go there"
    SESSION_GONE = "the session is gone"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    TIMED_OUT = "timed out"
    NO_SUCH_NAME = "no such name"
    NO_ADDRESS = "no address of a family that the session has"
    NAME_FAILED = "the session's DNS servers have no answer"
    SHORT = "descriptors, ports or memory are short"


class DialError(Exception):
    """There is no connection."""

    def __init__(self, kind: DialKind, text: str = "") -> None:
        super().__init__(text or str(kind))
        self.kind = kind


Host = str | IPv4Address | IPv6Address
Done = Callable[[socket.socket | Connection | DialError], None]
Early = Callable[[socket.socket], None]
Cancel = Callable[[], None]

_OF_ERRNO = {
    errno.ECONNREFUSED: DialKind.REFUSED,
    errno.ECONNRESET: DialKind.REFUSED,
    errno.ETIMEDOUT: DialKind.TIMED_OUT,
    errno.EAFNOSUPPORT: DialKind.NO_ADDRESS,
    **dict.fromkeys(SHORT, DialKind.SHORT),
    **dict.fromkeys(GONE, DialKind.SESSION_GONE),
}
"""All others mean that it can't be reached."""
_OF_WORDS = {
    STACK_GONE: DialKind.SESSION_GONE,
    "refused": DialKind.REFUSED,
    "timed out": DialKind.TIMED_OUT,
    "no address": DialKind.NO_ADDRESS,
    "too many": DialKind.SHORT,
}
"""The stack program's; likewise."""
_OF_FAILURE = {
    Failure.NO_SUCH_NAME: DialKind.NO_SUCH_NAME,
    Failure.NO_ADDRESS: DialKind.NO_ADDRESS,
    Failure.NO_SERVER: DialKind.NAME_FAILED,
    Failure.NO_ANSWER: DialKind.NAME_FAILED,
    Failure.GONE: DialKind.SESSION_GONE,
    Failure.BUSY: DialKind.SHORT,
}
_SEVERITY = list(DialKind)
"""Of several reasons the first in this order is told."""


def kind_of(number: int) -> DialKind:
    """What an errno of a connection that came to nothing means."""
    return _OF_ERRNO.get(number, DialKind.UNREACHABLE)


class Dialler:
    """All that are being connected in a process."""

    def __init__(
        self,
        names: Names,
        loop: asyncio.AbstractEventLoop,
        allow_private: bool = False,
        own: Container[Address] = frozenset(),
    ) -> None:
        """`own` are this host's addresses, those of sessions among them."""
        self.names = names
        self._loop = loop
        self._own = own
        self.allow_private = allow_private
        """Whether clients may go to private networks."""
        self._dials: set[_Dial] = set()
        self._look: asyncio.TimerHandle | None = None

    def connect(
        self, exit_: Exit, host: Host, port: int, deadline: float, done: Done, early: Early | None = None
    ) -> Cancel:
        """Connects, by TCP, until the loop's time is `deadline`.

        Calls `done` once, not before this returns, unless what this returns is called first: with a connected,
        non-blocking socket, which is the caller's from then on, with a connection of a session with a stack, or with
        what went wrong. Where only one address is left to be tried `early` is called in its place, with a socket that
        is being connected, which is the caller's from then on.
        """
        dial = _Dial(self, self._loop, exit_, port, deadline, done, early)
        self._dials.add(dial)
        dial.begin(host)
        if self._look is None:
            self._look = self._loop.call_later(LATE, self._end_late)
        return dial.cancel

    def begin(self, exit_: Exit, address: Address, port: int) -> socket.socket:
        """A non-blocking socket that is being connected to one address, by a session's device; raises DialError."""
        if objection := self.objection(address):
            raise DialError(DialKind.FORBIDDEN, f"{address} {objection}")
        try:
            attempt = bound(exit_, address.version, socket.SOCK_STREAM)
        except NotBound as problem:
            raise _failure(address, kind_of(problem.errno), problem.errno) from None
        error = attempt.connect_ex((str(address), port))
        if error not in (0, errno.EINPROGRESS):
            attempt.close()
            kind = DialKind.SHORT if error == errno.EADDRNOTAVAIL else kind_of(error)
            raise _failure(address, kind, error)
        return attempt

    def objection(self, address: Address) -> str:
        """What speaks against connecting to an address, as the rest of a sentence that begins with "it"."""
        said = forbidden.objection(address, self.allow_private)
        if said or self.allow_private:
            return said
        own = address in self._own or any(each in self._own for each in forbidden.meant(address))
        return "is this host's own" if own else ""

    def drop(self, key: int) -> None:
        """A session is gone, or has other addresses: ends all that is being connected or looked up through it."""
        for dial in [dial for dial in self._dials if dial.exit.key == key]:
            dial.fail(DialKind.SESSION_GONE)
        self.names.forget(key)

    def close(self) -> None:
        """Ends all; each is told that the session is gone."""
        if self._look is not None:
            self._look.cancel()
        for dial in list(self._dials):
            dial.fail(DialKind.SESSION_GONE)

    def _end_late(self) -> None:
        """One timer for all: most dials are over long before their deadline."""
        now = self._loop.time()
        for dial in [dial for dial in self._dials if dial.deadline <= now]:
            dial.fail(DialKind.TIMED_OUT)
        self._look = self._loop.call_later(LATE, self._end_late) if self._dials else None

    def over(self, dial: _Dial) -> None:
        """One has been told, or was cancelled."""
        self._dials.discard(dial)


class _Dial:
    """One connection that is being made, until it is."""

    __slots__ = (
        "__weakref__",
        "_at_stack",
        "_attempts",
        "_begun",
        "_cancels",
        "_dialler",
        "_done",
        "_early",
        "_failures",
        "_loop",
        "_may_begin",
        "_next_timer",
        "_port",
        "_results",
        "_tried",
        "_waiting",
        "deadline",
        "exit",
    )

    def __init__(
        self,
        dialler: Dialler,
        loop: asyncio.AbstractEventLoop,
        exit_: Exit,
        port: int,
        deadline: float,
        done: Done,
        early: Early | None,
    ) -> None:
        self._dialler, self._loop, self.exit, self._port = dialler, loop, exit_, port
        self.deadline = deadline
        self._early = early
        self._done: Done | None = done
        self._next_timer: asyncio.TimerHandle | None = None
        self._cancels: list[Cancel] = []
        self._results: dict[Kind, Result | None] = {}
        """None while a family's addresses are being looked up."""
        self._waiting: list[Address] = []
        self._tried = set[Address]()
        self._attempts = set[socket.socket]()
        self._at_stack: dict[Address, Cancel] = {}
        """Attempts of the stack program."""
        self._failures: list[DialError] = []
        self._may_begin = False
        self._begun = False

    def begin(self, host: Host) -> None:
        """Connect to an address, or look a name up."""
        self._begin(host)
        self._begun = True

    def _begin(self, host: Host) -> None:
        if isinstance(host, str) and (address := _address(host)) is not None:
            host = address
        if not isinstance(host, str):
            self._waiting, self._may_begin = [forbidden.plain(host)], True
            self._go_on()
            return
        kinds = [kind for kind, version in ((Kind.AAAA, 6), (Kind.A, 4)) if self.exit.source(version) is not None]
        if not kinds:
            self.fail(DialKind.SESSION_GONE)
            return
        self._results = dict.fromkeys(kinds)
        for kind in kinds:
            self._cancels.append(self._dialler.names.lookup(self.exit, host, kind, partial(self._found, kind)))

    def _found(self, kind: Kind, result: Result) -> None:
        """What a name resolves to in one family."""
        if self._done is None:
            return
        self._results[kind] = result
        if isinstance(result, Failure):
            self._failures.append(DialError(_OF_FAILURE[result], str(result)))
        else:
            families = [found for found in self._results.values() if isinstance(found, tuple)]
            self._waiting = [each for each in interleaved(families) if each not in self._tried]
        if kind is Kind.AAAA or self._results.get(Kind.AAAA, ()) is not None:
            self._begin_attempts()
        elif self._waiting and self._next_timer is None:
            self._next_timer = self._loop.call_later(RESOLUTION_DELAY, self._begin_attempts)

    def _begin_attempts(self) -> None:
        if not self._may_begin and self._next_timer is not None:
            self._next_timer.cancel()
            self._next_timer = None
        self._may_begin = True
        if self._next_timer is None:
            self._go_on()

    def _go_on(self) -> None:
        """Tries the next address, or fails once there is none and nothing is under way."""
        self._next_timer = None
        while self._waiting and self._done is not None and len(self._tried) < MOST_ATTEMPTS:
            address = self._waiting.pop(0)
            self._tried.add(address)
            if self._attempt(address):
                if (self._waiting or self._results) and self._done is not None:
                    self._next_timer = self._loop.call_later(ATTEMPT_DELAY, self._go_on)
                return
        if self._done is None or self._attempts or self._at_stack or None in self._results.values():
            return
        worst = min(self._failures, key=lambda error: _SEVERITY.index(error.kind), default=None)
        self._tell(worst or DialError(DialKind.UNREACHABLE))

    def _attempt(self, address: Address) -> bool:
        """Whether a connection to an address is under way."""
        if self.exit.stack:
            if objection := self._dialler.objection(address):
                self._failures.append(DialError(DialKind.FORBIDDEN, f"{address} {objection}"))
                return False
            patience = max(self.deadline - self._loop.time(), LATE)
            dial = self._dialler.names.stack.dial
            to, done = (address, self._port), partial(self._dialled, address)
            self._at_stack[address] = dial(self.exit, socket.SOCK_STREAM, to, patience, done)
            return True
        try:
            attempt = self._dialler.begin(self.exit, address, self._port)
        except DialError as failure:
            self._failures.append(failure)
            return False
        alone = not (self._waiting or self._attempts or self._failures or None in self._results.values())
        self._attempts.add(attempt)
        if self._early is not None and alone:
            self._hand_over(attempt, self._early)
            return True
        self._dialler.names.watch.writes(attempt.fileno(), self._writable, attempt, address)
        return True

    def _dialled(self, address: Address, made: Made) -> None:
        """An attempt of the stack program has come to an end."""
        self._at_stack.pop(address, None)
        if not isinstance(made, str):
            self._tell(made)
            return
        self._failures.append(_failure(address, _OF_WORDS.get(made, DialKind.UNREACHABLE)))
        self._go_on_at_once()

    def _writable(self, attempt: socket.socket, address: Address) -> None:
        """An attempt has come to an end."""
        self._dialler.names.watch.forget(attempt.fileno())
        self._attempts.discard(attempt)
        error = attempt.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if not error:
            self._tell(attempt)
            return
        attempt.close()
        self._failures.append(_failure(address, kind_of(error), error))
        self._go_on_at_once()

    def _go_on_at_once(self) -> None:
        if self._next_timer is not None:
            self._next_timer.cancel()
        self._go_on()

    def fail(self, kind: DialKind) -> None:
        """Ends it with a reason."""
        self._tell(DialError(kind))

    def _tell(self, what: socket.socket | Connection | DialError) -> None:
        if not self._begun:
            self._loop.call_soon(self._tell, what)
            return
        done = self._done
        self.cancel()
        if done is not None:
            done(what)

    def _hand_over(self, attempt: socket.socket, early: Early) -> None:
        """It is somebody else who waits for it from here on."""
        if not self._begun:
            self._loop.call_soon(self._hand_over, attempt, early)
        elif self._done is not None:
            self._attempts.discard(attempt)
            self.cancel()
            early(attempt)

    def cancel(self) -> None:
        """Ends it without a word."""
        if self._done is None:
            return
        self._done = None
        if self._next_timer is not None:
            self._next_timer.cancel()
        for cancel in self._cancels:
            cancel()
        for attempt in self._attempts:
            self._dialler.names.watch.forget(attempt.fileno())
            attempt.close()
        self._attempts.clear()
        for cancel in self._at_stack.values():
            cancel()
        self._at_stack.clear()
        self._waiting.clear()
        self._dialler.over(self)


def _failure(address: Address, kind: DialKind, number: int = 0) -> DialError:
    return DialError(kind, f"{address}: {os.strerror(number) if number else kind}")


def interleaved(families: Iterable[Iterable[Address]]) -> list[Address]:
    """Addresses of several families in turn, the first one's first (RFC 8305 section 4)."""
    return [address for row in zip_longest(*families) for address in row if address is not None]


def _address(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None
