"""The engine's end of the stack program (`engine/egress/stack`): which sessions there are, and who dials by it."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
import time
from collections.abc import Callable, Iterable
from itertools import count

from engine.api.values import Connection, Severity
from engine.egress.protocol import Addresses
from engine.host.files import STACK, STACK_REMEDY
from engine.proxy.stack_protocol import (
    PROTOCOL,
    TO_ENGINE,
    Arrival,
    Beat,
    Client,
    Connections,
    Duct,
    Forwards,
    Gone,
    Hello,
    List,
    Ping,
    Pong,
    Refuse,
    Session,
    Take,
    encode,
)
from engine.proxy.stack_protocol import Connection as Told
from engine.proxy.stack_protocol import Forward as ToldForward
from engine.run.child import Child
from engine.run.pulse import Pulse
from engine.settings.limits import MAX_SESSIONS
from engine.settings.own_kinds import ANY_PORT, split_endpoint
from engine.settings.values import EgressChoice, Forward, Settings

CONNECTED_IN = 5.0
"""Seconds for what a port is forwarded to."""
MOST_CONNECTING = 256
"""Who comes to ports that are forwarded while so many others wait for that is refused: anybody on the Internet can."""
BUDGET = 128 << 20
"""Octets of the buffers of all connections together."""


def asks_for_stack(settings: Settings) -> bool:
    """Whether a configuration does."""
    return any(session.egress is EgressChoice.STACK for session in settings.sessions)


class StackProgram:
    """Implements `engine.egress.bare.Stack`. All calls are the engine's thread's, but `start` before there is one."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        tell: Callable[[Severity, str, str, int | None], None],
        begun: Callable[[], None],
        listed: Callable[[int], None],
    ) -> None:
        """`begun` is called when there is a program, the first one or another: it knows no session yet.

        `listed` is called when there is news of a session in `forwarded`.
        """
        self._loop = loop
        self._tell_event = tell
        self._begun = begun
        self._told_list = listed
        self._child = Child(
            loop,
            (sys.executable, "-P", "-m", "engine.host.launch", str(STACK)),
            TO_ENGINE,
            encode,
            self._hear,
            self._ended,
            lambda error: tell(Severity.ERROR, "stack", f"The stack program can't be started: {error.strerror}.", None),
            lambda: not self._refused,
            4 * MAX_SESSIONS,
        )
        self._pulse: Pulse | None = None
        self._refused = ""
        self._ready = False
        self._forwards: dict[int, dict[int, str]] = {}
        """Where what comes to a port may go, by session: the program is believed nothing else."""
        self._listing: dict[int, int] = {}
        """Whose connections were asked for."""
        self.forwarded: dict[int, tuple[Connection, ...]] = {}
        """Those that came in, of sessions that somebody looks at."""
        self._ids = count(1)
        self._asked: dict[int, tuple[int, str]] = {}
        """Which session was to ask whom for an echo."""
        self._connecting: dict[socket.socket, asyncio.TimerHandle] = {}
        """For what came in, to where it goes."""

    def start(self) -> None:
        """See `Child.start`. Raises OSError."""
        if os.access(STACK, os.X_OK):
            self._child.start()

    def open(self) -> None:
        """See `Child.open`."""
        if os.access(STACK, os.X_OK):
            self._child.open()

    def obstacle(self) -> str:
        """See `Stack.obstacle`."""
        if self._refused:
            return self._refused
        return "" if os.access(STACK, os.X_OK) else f"`egress: stack` takes a program of its own: {STACK_REMEDY}."

    def join(self, worker: int, given: tuple[int, ...]) -> None:
        """See `Stack.join`."""
        if self._ready:
            self._child.send(Duct(worker), *given)
            return
        for each in given:
            os.close(each)

    def tell(self, key: int, mtu: int, addresses: Addresses) -> None:
        """See `Stack.tell`; whoever is told `begun` tells all sessions."""
        own = (addresses.ipv4, *addresses.global6)
        if self._ready:
            told = tuple(str(each) for each in own if each)
            self._child.send(Session(key, mtu, told, str(addresses.ipv6 or "")))
        else:
            self._child.open()

    def forward(self, key: int, forwards: tuple[Forward, ...]) -> None:
        """See `Stack.forward`."""
        self._forwards[key] = {each.port: each.to for each in forwards}
        if self._ready and forwards:
            self._child.send(Forwards(key, tuple(ToldForward(each.protocol, each.port, each.to) for each in forwards)))

    def forget(self, key: int) -> None:
        """See `Stack.forget`."""
        self._forwards.pop(key, None)
        if self._ready:
            self._child.send(Gone(key))

    def give_up(self, why: str) -> None:
        """See `Stack.give_up`."""
        self._watch_no_more()
        if self._child.give_up():
            self._tell_event(Severity.ERROR, "stack", f"The stack program {why}: it is ended.", None)

    def look(self, keys: Iterable[int]) -> None:
        """Ask for connections that came in through these sessions, which somebody looks at."""
        looked_at = [key for key in keys if self._forwards.get(key)]
        self.forwarded = {key: self.forwarded.get(key, ()) for key in looked_at}
        for key in looked_at if self._ready else ():
            id_ = next(self._ids)
            self._listing[id_] = key
            self._child.send(List(id_, key))

    def _list(self, key: int, connections: Iterable[Told]) -> None:
        ports, now = self._forwards.get(key, {}), time.time()
        came_in = ((int(each.local.rpartition(":")[2] or 0), each) for each in connections)
        self.forwarded[key] = tuple(
            Connection(now - it.since, it.remote, ports[port], "forward", up=it.out, down=it.in_)
            for port, it in came_in
            if port in ports
        )
        self._told_list(key)

    def ping(self, key: int, to: str) -> None:
        """Ask for an echo through a session; an event tells what came."""
        if not self._ready:
            self._tell_event(Severity.WARNING, "ping", f"No echo from {to}: the stack program isn't there.", key)
            return
        id_ = next(self._ids)
        self._asked[id_] = key, to
        self._child.send(Ping(id_, key, to))

    def line(self) -> int:
        """A descriptor for another process that dials through the program, the caller's; -1 while there is none."""
        if not self._ready:
            return -1
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._child.send(Client(), theirs.detach())
        return ours.detach()

    def close(self) -> None:
        """End it. A second call does nothing."""
        self._ready = False
        self._watch_no_more()
        for made in [*self._connecting]:
            self._let_go(made)
        self._child.close()

    def _hear(self, message: object) -> None:
        match message:
            case Hello() if not self._ready:
                self._greet(message)
            case Pong(id_, ms, error) if id_ in self._asked:
                key, to = self._asked.pop(id_)
                came = f"No echo from {to}: {error}." if error else f"Echo from {to}: {ms:.1f} ms."
                self._tell_event(Severity.WARNING if error else Severity.INFO, "ping", came, key)
            case Beat(id_) if self._pulse is not None:
                self._pulse.answered(id_)
            case Connections(id_, connections) if id_ in self._listing:
                self._list(self._listing.pop(id_), connections)
            case Arrival():
                self._connect(message)

    def _connect(self, arrival: Arrival) -> None:
        """Somebody has come to a port that is forwarded."""
        asked_for = arrival.to in self._forwards.get(arrival.key, {}).values()
        if not asked_for or len(self._connecting) >= MOST_CONNECTING:
            self._child.send(Refuse(arrival.id))
            return
        address, port = split_endpoint(arrival.to, ANY_PORT)
        try:
            made = socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6)
        except OSError:  # no descriptor is left
            self._child.send(Refuse(arrival.id))
            return
        made.setblocking(False)
        self._connecting[made] = self._loop.call_later(CONNECTED_IN, self._fail, made, arrival.id)
        if made.connect_ex((str(address), port)) not in (0, errno.EINPROGRESS):
            self._fail(made, arrival.id)
        else:
            self._loop.add_writer(made, self._connected, made, arrival.id)

    def _connected(self, made: socket.socket, id_: int) -> None:
        """Or not."""
        if made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._fail(made, id_)
            return
        self._let_go(made, close=False)
        self._child.send(Take(id_), made.detach())

    def _fail(self, made: socket.socket, id_: int) -> None:
        """It can't be connected, or not in time."""
        self._let_go(made)
        self._child.send(Refuse(id_))

    def _let_go(self, made: socket.socket, *, close: bool = True) -> None:
        self._connecting.pop(made).cancel()
        self._loop.remove_writer(made)
        if close:
            made.close()

    def _greet(self, hello: Hello) -> None:
        if hello.protocol != PROTOCOL:
            self._refused = (
                f"The stack program {hello.release} speaks protocol {hello.protocol}, this engine {PROTOCOL}:"
                f" {STACK_REMEDY} of the same release."
            )
            self._tell_event(Severity.ERROR, "stack", self._refused, None)
            self._child.close()
            return
        self._child.send(Hello(PROTOCOL, budget=BUDGET))
        self._ready = True
        self._pulse = Pulse(
            self._loop,
            self._child.pid,
            lambda number: self._child.send(Beat(number)),
            lambda: self._child.made_room,
            lambda: self.give_up("stands still"),
        )
        self._begun()

    def _watch_no_more(self) -> None:
        if self._pulse is not None:
            self._pulse.close()
            self._pulse = None

    def _ended(self, how: str) -> None:
        was, self._ready = self._ready, False
        self._watch_no_more()
        self._asked.clear()
        self._listing.clear()
        self.forwarded.clear()
        cut = "all connections through sessions with `egress: stack` are cut. " if was else ""
        self._tell_event(Severity.ERROR, "stack-ended", f"The stack program {how}: {cut}It is started again.", None)
