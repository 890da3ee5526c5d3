"""Names through a session's own DNS servers, over sockets bound to the session; what they said is kept for its TTL.

Each question is a socket of its own, connected to one server: its port is random, and only that server's answers come
in. What is too long for a datagram, or looks as if somebody were guessing, is asked for by TCP.
"""

from __future__ import annotations

import asyncio
import errno
import random
import socket
from collections import OrderedDict
from collections.abc import Callable
from enum import StrEnum
from functools import partial

from engine.proxy.bound import GONE, SHORT, NotBound, bound
from engine.proxy.exits import Address, Exit
from engine.proxy.questions import Kind, Name, NotAName, Reply, Unfit, name_of, question, read
from engine.proxy.stack import Connection, Line
from engine.proxy.stack import Result as Made
from engine.proxy.watch import Watch
from engine.settings.limits import MAX_NAME_SERVERS

PORT = 53
WAITS = (1.0, 2.0, 4.0)
"""Seconds for an answer by UDP, in the first round of all servers and in those that follow."""
TCP_WAIT = 4.0
AVOIDED = 30.0
"""Seconds for which a server that didn't answer is asked after the others."""
MOST_STRANGE = 20
"""Answers to one question that aren't: then somebody guesses, and TCP is used, which can't be guessed into."""
MOST_AT_ONCE = 4000
"""Questions that wait for an answer."""
KEPT = 20_000
"""Replies that are remembered, of all sessions."""

_chance = random.SystemRandom()


class Failure(StrEnum):
    """Why a name has no address."""

    NO_SUCH_NAME = "there is no such name"
    NO_ADDRESS = "the name has no address of that family"
    NO_SERVER = "the session has no DNS server"
    NO_ANSWER = "no DNS server of the session has an answer"
    GONE = "the session is gone"
    BUSY = "too many names are being looked up"


Result = tuple[Address, ...] | Failure
Done = Callable[[Result], None]
Cancel = Callable[[], None]
_Key = tuple[int, Name, Kind]
"""Of a session."""


class Names:
    """All look-ups of a process. No session is told what another one's servers said."""

    def __init__(self, loop: asyncio.AbstractEventLoop, port: int = PORT) -> None:
        self._loop = loop
        self.watch = Watch(loop)
        self.stack = Line(loop)
        """By which sessions with a stack connect, whatever is connected."""
        self.port = port
        self._kept: OrderedDict[_Key, tuple[Reply, float]] = OrderedDict()
        """Until when, with those used last at the end."""
        self._lookups: dict[_Key, _Lookup] = {}
        self._avoided: dict[tuple[int, Address], float] = {}
        """Until when, by session and server."""
        self._exits: dict[int, Exit] = {}

    def lookup(self, exit_: Exit, name: str, kind: Kind, done: Done) -> Cancel:
        """Looks a name up, and calls `done` once, not before this returns, unless what this returns is called first."""
        if self._exits.setdefault(exit_.key, exit_) != exit_:
            self.forget(exit_.key)
            self._exits[exit_.key] = exit_
        try:
            key = exit_.key, name_of(name), kind
        except NotAName:
            return self._loop.call_soon(done, Failure.NO_SUCH_NAME).cancel
        if (reply := self._remembered(key)) is not None:
            return self._loop.call_soon(done, _result(reply)).cancel
        lookup = self._lookups.get(key)
        if lookup is None:
            if len(self._lookups) >= MOST_AT_ONCE:
                return self._loop.call_soon(done, Failure.BUSY).cancel
            lookup = self._lookups[key] = _Lookup(self, self._loop, exit_, key, self._servers(exit_))
        return lookup.join(done)

    def resolve(self, exit_: Exit, name: str, done: Done) -> Cancel:
        """As `lookup`, for all families that the session has, IPv6's addresses first; a failure if there are none."""
        kinds = [kind for kind in (Kind.AAAA, Kind.A) if exit_.source(6 if kind is Kind.AAAA else 4) is not None]
        results: dict[Kind, Result] = {}

        def note(kind: Kind, result: Result) -> None:
            results[kind] = result
            if len(results) == len(kinds):
                done(_both([results[each] for each in kinds]))

        if not kinds:
            return self._loop.call_soon(done, Failure.GONE).cancel
        cancels = [self.lookup(exit_, name, kind, partial(note, kind)) for kind in kinds]

        def cancel_all() -> None:
            for cancel in cancels:
                cancel()

        return cancel_all

    def forget(self, key: int) -> None:
        """Ends what is being looked up through a session, and forgets all that its servers said."""
        self._exits.pop(key, None)
        for lookup in [lookup for each, lookup in self._lookups.items() if each[0] == key]:
            lookup.finish(Failure.GONE)
        for kept in [each for each in self._kept if each[0] == key]:
            del self._kept[kept]
        for server in [each for each in self._avoided if each[0] == key]:
            del self._avoided[server]

    def close(self) -> None:
        """Ends all look-ups; each is told."""
        for lookup in list(self._lookups.values()):
            lookup.finish(Failure.GONE)
        self.stack.close()
        self.watch.close()

    def _remembered(self, key: _Key) -> Reply | None:
        reply, until = self._kept.get(key, (None, 0.0))
        if reply is None:
            return None
        if until <= self._loop.time():
            del self._kept[key]
            return None
        self._kept.move_to_end(key)
        return reply

    def _servers(self, exit_: Exit) -> list[Address]:
        """In the order in which they are asked."""
        now = self._loop.time()
        usable = [
            each for each in dict.fromkeys(exit_.dns) if exit_.source(each.version) is not None and _askable(each)
        ]
        return sorted(usable[:MAX_NAME_SERVERS], key=lambda server: self._avoided.get((exit_.key, server), 0.0) > now)

    def answers(self, key: int, server: Address, well: bool) -> None:
        """A server answered, or didn't."""
        if well:
            self._avoided.pop((key, server), None)
        else:
            self._avoided[key, server] = self._loop.time() + AVOIDED

    def finished(self, key: _Key, reply: Reply | None) -> None:
        """A look-up is over; what was said is kept."""
        del self._lookups[key]
        if reply is not None and reply.ttl > 0:
            self._kept[key] = reply, self._loop.time() + reply.ttl
            self._kept.move_to_end(key)
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)


class _Lookup:
    """One question until its answer, and those who wait for it."""

    __slots__ = (
        "_asked",
        "_buffer",
        "_cancel",
        "_exit",
        "_key",
        "_loop",
        "_names",
        "_options",
        "_plan",
        "_server",
        "_socket",
        "_strange",
        "_timer",
        "_unsent",
        "_waiters",
        "_worst",
    )

    def __init__(
        self, names: Names, loop: asyncio.AbstractEventLoop, exit_: Exit, key: _Key, servers: list[Address]
    ) -> None:
        self._names, self._loop, self._exit, self._key = names, loop, exit_, key
        self._plan = [(server, wait) for wait in WAITS for server in servers]
        self._waiters: list[Done] = []
        self._socket: socket.socket | None = None
        self._cancel: Cancel | None = None
        """Ends a dial by the stack program."""
        self._timer: asyncio.TimerHandle | None = None
        self._asked = self._unsent = b""
        self._buffer = bytearray()
        self._strange = 0
        self._options = True
        self._worst = Failure.NO_ANSWER if servers else Failure.NO_SERVER
        self._server: Address | None = None
        loop.call_soon(self._next)

    def join(self, done: Done) -> Cancel:
        """One more waits."""
        self._waiters.append(done)
        return partial(self._leave, done)

    def _leave(self, done: Done) -> None:
        if done in self._waiters:
            self._waiters.remove(done)
            if not self._waiters:
                self.finish(Failure.GONE)

    def finish(self, outcome: Reply | Failure) -> None:
        """Tells those who wait."""
        if self._names is None:
            return
        names, waiters = self._names, self._waiters
        self._close()
        self._plan, self._waiters = [], []
        self._names = None  # type: ignore[assignment]
        names.finished(self._key, outcome if isinstance(outcome, Reply) else None)
        result = _result(outcome) if isinstance(outcome, Reply) else outcome
        for done in waiters:
            done(result)

    def _next(self) -> None:
        """Asks the next server."""
        if self._names is None:
            return
        if not self._plan:
            self.finish(self._worst)
            return
        self._server, wait = self._plan.pop(0)
        self._strange = 0
        self._ask(socket.SOCK_DGRAM, wait)

    def _ask(self, kind: socket.SocketKind, wait: float) -> None:
        self._close()
        assert self._server is not None
        _, name, type_ = self._key
        spelling = _chance.getrandbits(255) if kind is socket.SOCK_DGRAM else 0
        self._asked = question(name, type_, _chance.getrandbits(16), spelling, options=self._options)
        if self._exit.stack:
            self._timer = self._loop.call_later(wait, self._silent)
            to = self._server, self._names.port
            self._cancel = self._names.stack.dial(self._exit, kind, to, wait, partial(self._dialled, kind))
            return
        try:
            self._socket = bound(self._exit, self._server.version, kind)
            error = self._socket.connect_ex((str(self._server), self._names.port))
        except NotBound as problem:
            error = problem.errno
        if error in GONE:
            self.finish(Failure.GONE)
            return
        if error not in (0, errno.EINPROGRESS):
            if error in SHORT:
                self._worst = Failure.BUSY
            self._close()
            self._loop.call_soon(self._next)
            return
        self._timer = self._loop.call_later(wait, self._silent)
        self._begin(kind)

    def _dialled(self, kind: socket.SocketKind, made: Made) -> None:
        """What came of a dial by the stack program."""
        self._cancel = None
        if isinstance(made, str):
            self._failed(OSError(errno.EHOSTUNREACH, made))
            return
        self._socket = made.as_socket() if isinstance(made, Connection) else made
        self._begin(kind)

    def _begin(self, kind: socket.SocketKind) -> None:
        assert self._socket is not None
        if kind is socket.SOCK_DGRAM:
            self._names.watch.reads(self._socket.fileno(), self._receive)
            try:
                self._socket.send(self._asked)
            except OSError as problem:
                self._failed(problem)
        else:
            self._unsent = len(self._asked).to_bytes(2) + self._asked
            self._buffer.clear()
            self._names.watch.writes(self._socket.fileno(), self._send)

    def _silent(self) -> None:
        """Nobody answered in time."""
        self._avoid()
        self._next()

    def _failed(self, problem: OSError) -> None:
        """The kernel says that the server can't be reached, or that we can't send."""
        if problem.errno in GONE - {errno.EPERM}:
            self.finish(Failure.GONE)
            return
        self._avoid()
        self._close()
        self._loop.call_soon(self._next)

    def _avoid(self) -> None:
        assert self._server is not None
        self._names.answers(self._exit.key, self._server, well=False)

    def _receive(self) -> None:
        assert self._socket is not None
        try:
            octets = self._socket.recv(4096)
        except BlockingIOError:
            return
        except OSError as problem:
            self._failed(problem)
            return
        self._heard(octets, by_tcp=False)

    def _heard(self, octets: bytes, by_tcp: bool) -> None:
        _, name, kind = self._key
        said = read(octets, self._asked, name, kind, exact=not by_tcp)
        assert self._server is not None
        if isinstance(said, Reply):
            self._names.answers(self._exit.key, self._server, well=True)
            self.finish(said)
        elif said is Unfit.OLD and self._options:
            self._options = False
            self._ask(socket.SOCK_STREAM if by_tcp else socket.SOCK_DGRAM, WAITS[0])
        elif by_tcp:
            self._next()
        elif said is Unfit.STRANGE:
            self._strange += 1
            if self._strange > MOST_STRANGE:
                self._ask(socket.SOCK_STREAM, TCP_WAIT)
        elif said in (Unfit.TRUNCATED, Unfit.SPELLED):
            self._ask(socket.SOCK_STREAM, TCP_WAIT)
        else:
            self._next()

    def _send(self) -> None:
        """By TCP, once it is connected."""
        assert self._socket is not None
        try:
            self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except BlockingIOError:
            return
        except OSError as problem:
            self._failed(problem)
            return
        if not self._unsent:
            self._names.watch.reads(self._socket.fileno(), self._receive_stream)

    def _receive_stream(self) -> None:
        assert self._socket is not None
        try:
            octets = self._socket.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError as problem:
            self._failed(problem)
            return
        self._buffer += octets
        if len(self._buffer) >= 2 and len(self._buffer) >= 2 + (length := int.from_bytes(self._buffer[:2])):
            self._heard(bytes(self._buffer[2 : 2 + length]), by_tcp=True)
        elif not octets:
            self._next()

    def _close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._cancel is not None:
            self._cancel()
            self._cancel = None
        if self._socket is not None:
            self._names.watch.forget(self._socket.fileno())
            self._socket.close()
            self._socket = None


def _result(reply: Reply) -> Result:
    return reply.addresses or (Failure.NO_ADDRESS if reply.exists else Failure.NO_SUCH_NAME)


def _both(results: list[Result]) -> Result:
    """The addresses of all families, or the failure that says most."""
    found = tuple(address for result in results if isinstance(result, tuple) for address in result)
    failures = [result for result in results if isinstance(result, Failure)]
    return found or min(failures, key=list(Failure).index)


def _askable(server: Address) -> bool:
    return not (server.is_loopback or server.is_multicast or server.is_unspecified or server.is_link_local)
