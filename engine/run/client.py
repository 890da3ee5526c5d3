"""An engine in another process, as a console or a script sees it: the public library behind `attach` and `ctl`.

    with Client(open_path(find(None)), program="example") as engine:
        for view in engine.snapshot().sessions:
            print(view.name, view.state, view.ipv4)
        engine.submit(Dial((0, 1))).result()

`Client` implements `EngineApi`. A thread reads what the engine sends; all methods may be called from any thread.
"""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from engine.api.codec import CodecError, Value, decode, encode
from engine.api.commands import Command, Refused, Reply, Request, Safe, ServiceCommand, Watch
from engine.api.hello import HEADER, LIMIT_TO_CLIENT, Hello, decode_hello, encode_hello, framed, length_of, mismatch
from engine.api.messages import (
    AskHours,
    AskLedgers,
    AskSettings,
    ClientView,
    Enter,
    Farewell,
    Follow,
    HoursOf,
    LedgersOf,
    Lend,
    Picture,
    SettingsOf,
)
from engine.api.mirror import Mirror
from engine.api.values import Details, Event, Hour, Ledger, Snapshot
from engine.host import peers
from engine.host.errors import Trouble
from engine.run import sockets
from engine.settings.values import SessionSettings

Connect = Callable[[], socket.socket]
"""Makes a connection to the engine, again after one was lost. Raises Trouble."""

PERIOD = 0.5
"""Seconds between pictures."""
PATIENCE = 10.0
"""Seconds until an engine that says nothing is taken for lost: it sends pictures all the time."""
PAUSES = (0.2, 0.5, 1.0, 2.0)
"""Seconds before each try to connect anew; the last one again and again."""
SIGN = 3.0
"""Seconds from one sign of life in safe mode to the next."""
ASKED = 2.0
"""Seconds that `settings` waits for an answer."""
LOST = "The connection to the engine was lost: nobody knows whether it was done."


class ClientError(Trouble):
    """The engine can't be talked to: one line for the operator."""


def open_path(path: Path) -> Connect:
    """To the engine that listens on a Unix socket."""
    return lambda: sockets.connect(path)


def over_ssh(host: str, card: str | None, command: str = "souppp-tui") -> Connect:
    """To an engine on another host, as ssh reaches that: keys, agents and jump hosts are as ssh knows them.

    Only the first time it may ask for a password; later the terminal is the console's.
    """
    asking = True

    def connect() -> socket.socket:
        nonlocal asking
        silent = [] if asking else ["-o", "BatchMode=yes"]
        ours, theirs = socket.socketpair()
        arguments = ["ssh", "-T", *silent, "--", host, command, "relay", *([card] if card else [])]
        with theirs:
            try:
                there = theirs.fileno()
                subprocess.Popen(arguments, stdin=there, stdout=there, stderr=None if asking else subprocess.DEVNULL)
            except OSError as error:
                ours.close()
                raise ClientError(f"ssh can't be started: {error.strerror}.") from None
        asking = False
        return ours

    return connect


class Client:
    """See the module. Connects anew whenever the connection is lost, until it is closed."""

    def __init__(
        self,
        connect: Connect,
        *,
        program: str,
        release: str = "unknown",
        period: float = PERIOD,
        events: int = 0,
        again: bool = True,
    ) -> None:
        """Connect, and have the first picture. Raises Trouble.

        `events` is the number after which the events are wanted, -1 for only those from now on. With `again` False a
        lost connection stays lost.
        """
        self._connect = connect
        self._release = release
        self._program = program
        self._period = period
        self._events = events
        self._again = again
        self._mirror = Mirror()
        self._ids = count(1)
        self._sending = threading.Lock()
        self._unanswered: dict[int, Future[Reply]] = {}
        self._asked: dict[int, Future[Sequence[tuple[int, Any]]]] = {}
        self._first = threading.Event()
        self._closed = threading.Event()
        self.lost = ""
        """Why there is no connection just now: one line; empty while there is one."""
        self.breaks = (0,)
        """See `EngineApi.breaks`."""
        self._safe = False
        self._signed = 0.0
        self.hello = Hello(release=release)
        """The engine's."""
        self._socket, self.hello = self._begin()
        self._thread = threading.Thread(target=self._run, name="souppp-client", daemon=True)
        self._thread.start()
        self._first.wait()
        if self._mirror.snapshot is None:
            self.close()
            raise ClientError(self.lost or LOST)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Leave the engine, which goes on. A second call does nothing."""
        self._closed.set()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    # EngineApi

    def submit(self, command: Command | ServiceCommand) -> Future[Reply]:
        """See `EngineApi.submit`."""
        request = Request(next(self._ids), command)
        if isinstance(command, Safe):
            self._safe, self._signed = command.on, time.monotonic()
        future = Future[Reply]()
        future.set_running_or_notify_cancel()
        self._unanswered[request.id] = future
        try:
            self._send(request)
        except (OSError, CodecError) as error:
            text = str(error) if isinstance(error, CodecError) else self.lost or LOST
            if self._unanswered.pop(request.id, None):
                future.set_result(Reply(request.id, refused=(Refused(None, text),)))
        return future

    def snapshot(self) -> Snapshot:
        """See `EngineApi.snapshot`."""
        assert self._mirror.snapshot is not None
        return self._mirror.snapshot

    def events_since(self, seq: int) -> tuple[Sequence[Event], int]:
        """See `EngineApi.events_since`."""
        return self._mirror.events_since(seq)

    def details(self, session: int) -> Details | None:
        """See `EngineApi.details`."""
        self.submit(Watch(session))
        return self._mirror.details.get(session)

    def settings(self, session: int) -> SessionSettings | None:
        """See `EngineApi.settings`; waits for the engine's answer, two seconds at most."""
        return self.all_settings((session,)).get(session)

    def all_settings(self, sessions: tuple[int, ...] | None = None) -> Mapping[int, SessionSettings]:
        """See `EngineApi.all_settings`; waits as `settings` does."""
        return dict(self._ask(lambda number: AskSettings(number, sessions)))

    def ledgers(self, sessions: Sequence[int] | None = None) -> Mapping[int, Ledger]:
        """See `EngineApi.ledgers`; waits as `settings` does."""
        keys = tuple(sessions) if sessions is not None else None
        return dict(self._ask(lambda number: AskLedgers(number, keys)))

    def hours(self) -> Mapping[int, Hour]:
        """See `EngineApi.hours`; waits as `settings` does."""
        return dict(self._ask(AskHours))

    def _ask(self, question: Callable[[int], Value]) -> Sequence[tuple[int, Any]]:
        """What the engine answers to a question with a number, nothing if it doesn't."""
        number = next(self._ids)
        future = self._asked[number] = Future()
        try:
            self._send(question(number))
            return future.result(ASKED)
        except (OSError, TimeoutError):
            return ()
        finally:
            self._asked.pop(number, None)

    def enter(self, session: int, cgroup: int) -> Future[Reply]:
        """Have this process run in a session, by a descriptor of its cgroup: see `engine.api.messages.Enter`."""
        return self._send_along(Enter(next(self._ids), session), cgroup)

    def lend(self, session: int, name: str, namespace: int, rtnl: int) -> Future[Reply]:
        """Have a session's device in a network namespace: see `engine.api.messages.Lend`."""
        return self._send_along(Lend(next(self._ids), session, name), namespace, rtnl)

    def _send_along(self, request: Enter | Lend, *descriptors: int) -> Future[Reply]:
        future = self._unanswered[request.id] = Future[Reply]()
        try:
            with self._sending:
                socket.send_fds(self._socket, [framed(encode(request))], descriptors)
        except OSError:
            self._unanswered.pop(request.id, None)
            future.set_result(Reply(request.id, refused=(Refused(request.session, self.lost or LOST),)))
        return future

    @property
    def engine_process(self) -> int:
        """The process that the connection leads to; one of this host where it is by a Unix socket."""
        return peers.peer(self._socket).process

    @property
    def behind(self) -> bool:
        """Whether more events of the past are on their way."""
        return self._mirror.behind

    @property
    def clients(self) -> tuple[ClientView, ...]:
        """Who is attached to the engine."""
        return self._mirror.clients

    # The connection

    def _send(self, message: Value) -> None:
        octets = framed(encode(message, secrets=True))  # to the engine a new password may go
        with self._sending:
            if self.lost:
                raise OSError(self.lost)
            self._socket.sendall(octets)

    def _begin(self) -> tuple[socket.socket, Hello]:
        """A connection after both hellos. Raises Trouble."""
        made = self._connect()
        made.settimeout(PATIENCE)
        own = Hello(release=self._release, program=self._program)
        try:
            hello = decode_hello(_message(made))
            if hello.refused:
                raise ClientError(f"The engine refuses: {hello.refused}")
            made.sendall(framed(encode_hello(own)))
            if why := mismatch(own, hello):
                raise ClientError(why)
            made.sendall(framed(encode(Follow(self._period, self._from(hello)))))
        except (OSError, EOFError) as error:
            made.close()
            text = str(error) or "it says nothing"
            raise ClientError(f"The engine can't be talked to: {text}.") from None
        except (CodecError, ClientError) as error:
            made.close()
            raise ClientError(str(error)) from None
        return made, hello

    def _from(self, hello: Hello) -> int:
        """After which of its events the engine that says this hello is to begin: another one numbers them anew."""
        if self._mirror.snapshot is None:
            return self._events
        if hello.instance != self.hello.instance:
            self._mirror.forget()
        return self._mirror.seen

    def _run(self) -> None:
        while not self._closed.is_set():
            why = self._read_all()
            with self._sending:
                self.lost, self._safe = why, False
                self.breaks = (self.breaks[0] + 1,)
                self._socket.close()
            self._give_up_waiting()
            if self._closed.is_set() or not self._again or self._mirror.snapshot is None:
                break
            self._begin_anew()
        self._first.set()

    def _read_all(self) -> str:
        """Read until the connection ends; returns why it did."""
        try:
            while True:
                message = decode(_message(self._socket))
                if isinstance(message, Farewell):
                    return message.reason
                self._take(message)
        except CodecError as error:
            return str(error)
        except TimeoutError:
            return f"The engine has said nothing for {PATIENCE:.0f} s."
        except (OSError, EOFError):
            return "The connection to the engine was lost."

    def _take(self, message: Value) -> None:
        match message:
            case Picture():
                self._mirror.take(message)
                self._first.set()
                if self._safe and time.monotonic() - self._signed > SIGN:
                    self.submit(Safe(True))
            case Reply(number):
                if future := self._unanswered.pop(number, None):
                    future.set_result(message)
            case SettingsOf(number, found) | LedgersOf(number, found) | HoursOf(number, found):
                if asked := self._asked.get(number):
                    asked.set_result(found)
            case _:
                raise CodecError(f"An engine doesn't send a {type(message).__name__}.")

    def _give_up_waiting(self) -> None:
        for number in [*self._unanswered]:
            if future := self._unanswered.pop(number, None):
                future.set_result(Reply(number, refused=(Refused(None, LOST),)))

    def _begin_anew(self) -> None:
        """Try until there is a connection, or none is wanted any more."""
        tries = 0
        why = self.lost
        while not self._closed.wait(PAUSES[min(tries, len(PAUSES) - 1)]):
            tries += 1
            try:
                made, hello = self._begin()
            except Trouble as error:
                self.lost = f"{why} Trying again: {error}"
                continue
            with self._sending:
                self._socket, self.hello, self.lost = made, hello, ""
            return


def serving(paths: Iterable[Path], card: str) -> Path | None:
    """Which of these sockets is of an engine on this card of the calling thread's network namespace, if any is."""
    card = sockets.kernels_name(card)
    for path in paths:
        with suppress(Trouble, CodecError, OSError, EOFError), sockets.connect(path) as there:
            there.settimeout(ASKED)
            hello = decode_hello(_message(there))
            if hello.card == card and hello.network == sockets.network():
                return path
    return None


def wait_for(client: Client, happened: Callable[[Snapshot], bool], seconds: float) -> bool:
    """Wait until something holds for the engine's state; returns whether it does in time."""
    deadline = time.monotonic() + seconds
    while not happened(client.snapshot()):
        if client.lost or time.monotonic() >= deadline:
            return False
        time.sleep(0.02)
    return True


def _message(connection: socket.socket) -> bytes:
    """The next message's octets. Raises OSError, EOFError, and CodecError where it is too long."""
    return _octets(connection, length_of(_octets(connection, HEADER), LIMIT_TO_CLIENT))


def _octets(connection: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        chunk = connection.recv(min(count - len(data), 1 << 18))
        if not chunk:
            raise EOFError("it has closed the connection")
        data += chunk
    return bytes(data)
