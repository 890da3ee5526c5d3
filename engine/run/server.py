"""The engine's socket: shows the engine to clients in other processes, and takes their commands.

It has a thread of its own, so that no client costs the engine any of its time: it reads the board as a console in the
process does. A client that reads slowly misses pictures and gets what is new with the next one; one that asks and
doesn't take the answers is not heard until it does; one that sends rubbish is told so and dropped.

Pictures are due for all at the same moments, and who knows as much as another gets the same octets: one wake-up and one
picture serve all consoles that look. Nothing here refers to itself in a circle: this process looks for no garbage.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from math import inf
from selectors import EVENT_READ, EVENT_WRITE, DefaultSelector
from typing import Protocol

from msgspec import Struct, field, structs
from msgspec.structs import replace

from engine.api.codec import CodecError, decode, encode
from engine.api.commands import (
    Add,
    Amend,
    Command,
    Edit,
    Keep,
    Refused,
    Remove,
    Reply,
    Request,
    Safe,
    ServiceCommand,
    Undo,
    Watch,
)
from engine.api.hello import Hello, decode_hello, encode_hello, framed, mismatch
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
from engine.api.values import Changes, Details, Event, Hour, Ledger, Severity, Snapshot
from engine.host import peers
from engine.run.connection import Connection
from engine.run.sockets import Listening, network
from engine.settings.values import HookSettings, SessionSettings
from engine.supervisor.dispatch import GONE
from engine.wire.text import printable

MAX_CLIENTS = 64
"""Connections, whoever they are of and whether they have said anything yet."""
FOR_OWNERS = 8
"""Of them for root and the engine's user alone: nobody else can keep these out."""
HELLO_TIMEOUT = 5.0
"""Seconds a client has for its hello."""
MIN_PERIOD = 0.05
"""Seconds between two pictures, at least."""
LONGEST_PERIOD = 86400.0
"""Seconds between two pictures, at most: the kernel counts a wait's milliseconds in 31 bits."""
EVENTS_AT_ONCE = 1000
"""How many events one picture holds; the next one goes on."""
WATCHED = 5.0
"""Seconds that a session's details go to a client after it asked to watch it."""
FRESH = 0.04
"""Seconds for which one look at the engine serves all clients."""
GOODBYE = 1.0
"""Seconds a client has to take the last message."""
RESPITE = 1.0
"""Seconds until more clients are let in after there were no descriptors for one."""
SILENCE = 15.0
"""Seconds without a word after which a client in safe mode has gone: a broken line may say nothing for long."""
TAKING_BACK = 10.0
"""Seconds that the end waits for what was done in safe mode to be taken back."""
KEPT = (Add, Edit, Amend, Remove, Undo)
"""Commands that change what is configured."""
AWAY = "The engine has ended."


class Served(Protocol):
    """An engine as it can be served: `EngineApi`, with what is new since a version."""

    def submit(self, command: Command | ServiceCommand, by: str = "") -> Future[Reply]:
        """See `EngineApi.submit`; `by` tells who gave it."""
        ...

    def snapshot(self) -> Snapshot:
        """See `EngineApi.snapshot`."""
        ...

    def events_since(self, seq: int) -> tuple[Sequence[Event], int]:
        """See `EngineApi.events_since`."""
        ...

    def changes_since(self, version: int) -> Changes:
        """See `engine.supervisor.board.Board.changes_since`."""
        ...

    def watched(self, session: int) -> Details | None:
        """The details of a session that somebody watches."""
        ...

    def settings(self, session: int) -> SessionSettings | None:
        """See `EngineApi.settings`."""
        ...

    def all_settings(self) -> Mapping[int, SessionSettings]:
        """See `EngineApi.all_settings`."""
        ...

    def undo_touches_hooks(self, number: int, by: str | None = None) -> bool:
        """Whether to take steps back, of all or of one, would have sessions run other programs than now."""
        ...

    def tell(self, severity: Severity, kind: str, text: str) -> None:
        """Put an event into the log."""
        ...

    def ledgers(self, sessions: Sequence[int] | None = None) -> Mapping[int, Ledger]:
        """See `EngineApi.ledgers`."""
        ...

    def hours(self) -> Mapping[int, Hour]:
        """See `EngineApi.hours`."""
        ...

    def lend(self, session: int, name: str, namespace: int, rtnl: int) -> Future[Reply]:
        """Have a session's device in a network namespace, of these descriptors, from now on."""
        ...

    def admit(self, session: int, cgroup: int, who: peers.Peer) -> Reply:
        """Let a process run in a session; in a thread of its own, and may take its time."""
        ...


class Service(Protocol):
    """The process around an engine: what it does beside running it."""

    def carry_out(self, command: ServiceCommand, by: str) -> Reply:
        """Do what is asked of the process; in a thread of its own, and may take its time."""
        ...

    def keep(self, command: Command, reply: Reply, before: Mapping[int, str]) -> tuple[str, ...]:
        """Write what a command changed into the configuration; returns remarks. `before` has the names until then."""
        ...


class _Client(Struct, eq=False):
    connection: Connection
    answer: Hello
    """Our hello."""
    until: float
    """By when its hello must be there, its last message be taken, or in safe mode a sign of life come."""
    who: peers.Peer | None = None
    owns: bool = False
    """Whether it runs as root or as the engine's user."""
    view: ClientView | None = None
    """None before its hello."""
    leaving: bool = False
    """Whether it is only to take what it was sent."""
    safe: int = 0
    """In safe mode: the first step that is taken back if it was its own and it goes."""
    busy: bool = False
    """Whether a command of its is being carried out: the next one has to wait."""
    interest: int = 0
    """What the selector looks for."""
    follow: Follow | None = None
    due: float = inf
    """When it is to get a picture."""
    version: int = 0
    seq: int = 0
    traffic: bytes | None = None
    watched: dict[int, float] = field(default_factory=dict)
    """By session, until when its details go along."""
    shown: dict[int, Details] = field(default_factory=dict)


class _Told(Struct, frozen=True):
    """A picture as octets, and what a client knows that was sent it."""

    octets: bytes
    version: int
    seq: int
    traffic: bytes | None
    all: bool
    """Whether it holds the latest event."""


class Server:
    """Serves one engine on one socket until it is closed."""

    def __init__(
        self, engine: Served, listening: Listening, *, release: str, card: str, service: Service | None = None
    ) -> None:
        """Nobody is answered before `start`; `close` takes the socket away."""
        self.path = listening.path
        self._listening = listening
        self._engine = engine
        self.service = service
        """May be changed at any time."""
        self._hello = Hello(
            release=release, card=card, network=network(), instance=os.urandom(8).hex(), since=time.time()
        )
        self._uid = os.geteuid()
        self._all: dict[_Client, None] = {}
        """Everybody who is connected."""
        self._clients: dict[int, ClientView] = {}
        """Who has said hello, by number."""
        self._last_id = 0
        self._look: tuple[float, Snapshot] | None = None
        self._answers: deque[tuple[_Client, int, Future[Reply]]] = deque()
        """What other threads have finished."""
        self._pool = ThreadPoolExecutor(2, "souppp-service")
        self._accepts_from = 0.0
        self._accepting = False
        self._selector = DefaultSelector()
        self._wakes = threading.Lock()
        self._woken = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._closing = self._closed = False
        self._thread = threading.Thread(target=self._run, name="souppp-served", daemon=True)

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()

    def close(self) -> None:
        """Say goodbye to all clients and take the socket away; a second call does nothing."""
        self._closing = True
        if self._thread.is_alive():
            self._wake()
            self._thread.join()
        self._listening.close()
        with self._wakes:
            if not self._closed:
                self._closed = True
                os.close(self._woken)
                self._selector.close()
                self._pool.shutdown(wait=False)

    @property
    def clients(self) -> tuple[ClientView, ...]:
        """Who is attached; any thread."""
        return tuple(self._clients.copy().values())

    def _wake(self) -> None:
        """Any thread."""
        with self._wakes:
            if not self._closed:
                os.eventfd_write(self._woken, 1)

    # The loop

    def _run(self) -> None:
        self._listening.socket.setblocking(False)
        self._selector.register(self._woken, EVENT_READ)
        while not self._closing:
            self._turn()
        if self._accepting:
            self._selector.unregister(self._listening.socket)
        for client in [*self._all]:
            self._attempt(client, self._dismiss, AWAY)
        end = time.monotonic() + GOODBYE
        while self._all and time.monotonic() < end:
            self._turn()
        for client in [*self._all]:
            self._drop(client)

    def _turn(self) -> None:
        """Wait for something, and do it."""
        now = time.monotonic()
        if not self._accepting and not self._closing and now >= self._accepts_from:
            self._selector.register(self._listening.socket, EVENT_READ)
            self._accepting = True
        for key, events in self._selector.select(self._patience(now)):
            client = key.data
            if isinstance(client, _Client):
                if events & EVENT_WRITE:
                    self._attempt(client, self._flush)
                if events & EVENT_READ:
                    self._attempt(client, self._hear)
            elif key.fileobj is self._listening.socket:
                self._accept()
            else:
                os.eventfd_read(self._woken)
        while self._answers:
            client, number, future = self._answers.popleft()
            self._attempt(client, self._answer, number, future)
            if client not in self._all:
                self._take_back(client)
        now, shared = time.monotonic(), dict[tuple[int, int, int], _Told]()
        for client in [*self._all]:
            if now >= client.until or (client.leaving and not client.connection.unsent):
                self._drop(client)
            elif now >= client.due:
                self._attempt(client, self._show, now, shared)

    def _patience(self, now: float) -> float | None:
        """For how many seconds there is nothing to do if nobody says anything; None for however long."""
        times = [time for client in self._all for time in (client.until, client.due)]
        first = min(times if self._accepting else [*times, self._accepts_from], default=inf)
        return None if first == inf else max(first - now, 0.0)

    def _attempt(self, client: _Client, step: Callable[..., None], *arguments: object) -> None:
        """Do something for one client; what goes wrong with it is nobody else's matter."""
        if client not in self._all:
            return
        try:
            try:
                step(client, *arguments)
            except CodecError as error:
                self._dismiss(client, str(error))
            except (OSError, EOFError):
                raise
            except Exception as error:
                self._dismiss(client, f"Internal error, please report it: {type(error).__name__}: {error}")
        except (OSError, EOFError):  # gone
            self._drop(client)
        else:
            self._look_for(client)

    def _look_for(self, client: _Client) -> None:
        """Have the selector tell what is of interest now."""
        hears = not (client.busy or client.leaving or client.connection.behind)
        wanted = EVENT_READ * hears | EVENT_WRITE * client.connection.unsent
        if wanted == client.interest or client not in self._all:
            return
        if not client.interest:
            self._selector.register(client.connection.socket, wanted, client)
        elif wanted:
            self._selector.modify(client.connection.socket, wanted, client)
        else:
            self._selector.unregister(client.connection.socket)
        client.interest = wanted

    # One client

    def _accept(self) -> None:
        try:
            made, _ = self._listening.socket.accept()
        except BlockingIOError:
            return
        except OSError:  # no descriptors left
            self._selector.unregister(self._listening.socket)
            self._accepting, self._accepts_from = False, time.monotonic() + RESPITE
            return
        client = _Client(Connection(made), self._hello, time.monotonic() + HELLO_TIMEOUT)
        self._all[client] = None
        self._attempt(client, self._welcome)

    def _welcome(self, client: _Client) -> None:
        """Say who we are, and what it may do; who may do nothing, or finds no room, hears why and nothing more."""
        who = peers.peer(client.connection.socket)
        rights = peers.may(who, self._uid, peers.group(peers.WRITE_GROUP), peers.group(peers.LOOK_GROUP))
        client.who = who
        client.connection.takes_descriptors = rights == "write"
        client.owns = who.uid in (0, self._uid)
        room = MAX_CLIENTS if client.owns else MAX_CLIENTS - FOR_OWNERS
        refused = ""
        if not rights:
            refused = f"{who.user} is in neither of the groups {peers.WRITE_GROUP} and {peers.LOOK_GROUP}."
        elif sum(not there.leaving for there in self._all) > room:
            refused = f"{room} clients are attached already."
        client.answer = structs.replace(self._hello, user=who.user, writes=rights == "write", refused=refused)
        client.leaving = bool(refused)
        self._send(client, encode_hello(client.answer))

    def _drop(self, client: _Client) -> None:
        if client.interest:
            self._selector.unregister(client.connection.socket)
            client.interest = 0
        client.connection.close()
        self._all.pop(client, None)
        if client.view is not None:
            self._clients.pop(client.view.id, None)
        if not client.busy:  # else when it is known what the last command did
            self._take_back(client)

    def _dismiss(self, client: _Client, reason: str) -> None:
        """Say why, and let it go once it has heard that."""
        client.leaving, client.until, client.due = True, time.monotonic() + GOODBYE, inf
        self._send(client, encode(Farewell(reason)))

    def _flush(self, client: _Client) -> None:
        client.connection.flush()
        self._heed(client)  # what it asked while it was behind

    @staticmethod
    def _send(client: _Client, message: bytes) -> None:
        client.connection.send(framed(message))

    def _hear(self, client: _Client) -> None:
        client.connection.read()
        if client.safe:
            client.until = time.monotonic() + SILENCE
        self._heed(client)

    def _heed(self, client: _Client) -> None:
        """Do what it has asked for, one thing after the other."""
        while not (client.busy or client.leaving or client.connection.behind):
            if (octets := client.connection.next_message()) is None:
                return
            if client.view is None:
                self._greet(client, decode_hello(octets))
            else:
                self._message(client, client.view, decode(octets))

    def _greet(self, client: _Client, hello: Hello) -> None:
        if why := mismatch(hello, client.answer):
            self._dismiss(client, why)
            return
        self._last_id += 1
        program, answer = printable(hello.program.encode(errors="replace"))[:32] or "?", client.answer
        process = client.who.process if client.who is not None else 0
        client.view = ClientView(self._last_id, answer.user, process, program, time.time(), answer.writes)
        client.until = inf
        self._clients[client.view.id] = client.view

    def _message(self, client: _Client, view: ClientView, message: object) -> None:
        match message:
            case Follow(period) if not 0 <= period <= LONGEST_PERIOD:
                raise CodecError(f"A picture every {period:g} s: it may be 0 to {LONGEST_PERIOD:g}.")
            case Follow():
                client.follow = message
                client.version, client.traffic = 0, None
                client.shown.clear()
                client.seq = message.events if message.events >= 0 else self._engine.snapshot().events
                client.due = 0.0
            case Request(number, Watch(key)) if self._engine.settings(key) is None:
                self._send(client, encode(Reply(number, refused=(Refused(key, GONE),))))
            case Request(number, Watch(key)):
                client.watched[key] = time.monotonic() + WATCHED
                self._engine.submit(Watch(key))
                self._send(client, encode(Reply(number, (key,))))
            case Request(number) | Enter(number) | Lend(number) if not view.writes:
                text = f"You may look, not command: {view.user} is not in the group {peers.WRITE_GROUP}."
                self._send(client, encode(Reply(number, refused=(Refused(None, text),))))
            case Request(number, Safe(on)):
                if on != bool(client.safe):
                    client.safe = self._next_step() if on else 0
                    client.view = self._clients[view.id] = replace(view, safe=on)
                client.until = time.monotonic() + SILENCE if on else inf
                self._send(client, encode(Reply(number)))
            case Request(number, Keep(other)):
                self._send(client, encode(self._keep(number, other, view.who)))
            case Request(number, command) if not client.owns and self._sets_hooks(command, view.who):
                text = "Hooks are run with the engine's rights: only its user and root set them, or its configuration."
                self._send(client, encode(Reply(number, refused=(Refused(None, text),))))
            case Request(number, command):
                self._await(client, number, self._carry_out(command, view.who))
            case Lend(number, key) if not client.owns:
                text = "Only root may put a session into a network namespace."
                self._send(client, encode(Reply(number, refused=(Refused(key, text),))))
            case Lend(number, key, name):
                namespace, rtnl = client.connection.take_descriptor(), client.connection.take_descriptor()
                if namespace is None or rtnl is None:
                    raise CodecError("Who lends a network namespace sends it along.")
                self._await(client, number, self._engine.lend(key, name, namespace, rtnl))
            case Enter(number, key):
                self._await(client, number, self._admit(client, key))
            case AskSettings(number, keys):
                asked = keys if keys is not None else [view.id for view in self._engine.snapshot().sessions]
                once = dict.fromkeys(asked)  # the answer to a small question is no longer than what there is
                found = [(key, settings) for key in once if (settings := self._engine.settings(key)) is not None]
                self._send(client, encode(SettingsOf(number, tuple(found))))
            case AskHours(number):
                self._send(client, encode(HoursOf(number, tuple(self._engine.hours().items()))))
            case AskLedgers(number, keys):
                ledgers = self._engine.ledgers(keys and [*dict.fromkeys(keys)])
                self._send(client, encode(LedgersOf(number, tuple(ledgers.items()))))
            case _:
                raise CodecError(f"A client doesn't send a {type(message).__name__}.")

    # Safe mode

    def _next_step(self) -> int:
        """The number of the step that comes next, if there are any before it."""
        return max((step.number for step in self._engine.snapshot().steps), default=0) + 1

    def _keep(self, number: int, other: int, by: str) -> Reply:
        for client in self._all:
            if client.safe and client.view is not None and client.view.id == other:
                client.safe = self._next_step()
                text = f"What {client.view.who} did in safe mode stays, by {by}."
                self._engine.tell(Severity.INFO, "safe-mode", text)
                return Reply(number, remarks=(text,))
        return Reply(number, refused=(Refused(None, "That one is not in safe mode."),))

    def _take_back(self, client: _Client) -> Future[Reply] | None:
        """What one who has gone did in safe mode."""
        first, view, client.safe = client.safe, client.view, 0
        if not first or view is None:
            return None
        if not client.owns and self._engine.undo_touches_hooks(first, view.who):
            text = f"{view.who} has gone in safe mode. What it did stays: hooks of sessions are among it."
            self._engine.tell(Severity.ERROR, "safe-mode", text)
            return None
        text = f"{view.who} has gone in safe mode: what it did is taken back."
        self._engine.tell(Severity.WARNING, "safe-mode", text)
        return self._carry_out(Undo(first, own=True), view.who)

    def take_back(self) -> None:
        """The engine is about to end: take back what was done in safe mode while that can be done. Any thread."""
        for future in [*filter(None, map(self._take_back, [*self._all]))]:
            with suppress(TimeoutError):
                future.result(TAKING_BACK)

    def _sets_hooks(self, command: Command | ServiceCommand, by: str) -> bool:
        """Whether a command makes a session run another program than before."""
        if isinstance(command, Edit):
            before = self._engine.settings(command.key)
            return before is not None and command.settings.hooks != before.hooks
        if isinstance(command, Undo):
            return self._engine.undo_touches_hooks(command.number, by if command.own else None)
        return isinstance(command, Add) and command.settings.hooks != HookSettings()

    def _await(self, client: _Client, number: int, future: Future[Reply]) -> None:
        client.busy = True
        if future.done():
            self._answer(client, number, future)
        else:
            future.add_done_callback(partial(self._done, client, number))

    def _admit(self, client: _Client, key: int) -> Future[Reply]:
        cgroup, who = client.connection.take_descriptor(), client.who
        if cgroup is None or who is None:
            raise CodecError("Who wants to run in a session sends its cgroup along.")

        def admit() -> Reply:
            try:
                return self._engine.admit(key, cgroup, who)
            finally:
                os.close(cgroup)

        return self._pool.submit(admit)

    def _carry_out(self, command: Command | ServiceCommand, by: str) -> Future[Reply]:
        service = self.service
        if service is not None and isinstance(command, ServiceCommand):
            return self._pool.submit(service.carry_out, command, by)
        if service is not None and isinstance(command, KEPT):
            return self._pool.submit(self._do_and_keep, service, command, by, self._names(command))
        return self._engine.submit(command, by)

    def _do_and_keep(self, service: Service, command: Command, by: str, before: Mapping[int, str]) -> Reply:
        """In a thread of its own."""
        reply = self._engine.submit(command, by).result()
        return replace(reply, remarks=reply.remarks + service.keep(command, reply, before))

    def _names(self, command: Command) -> dict[int, str]:
        """Of the sessions that a command may rename or remove."""
        if isinstance(command, Undo):
            return {key: there.name for key, there in self._engine.all_settings().items()}
        keys = (
            (command.key,) if isinstance(command, Edit) else command.keys if isinstance(command, Remove | Amend) else ()
        )
        return {key: there.name for key in keys if (there := self._engine.settings(key)) is not None}

    def _done(self, client: _Client, number: int, future: Future[Reply]) -> None:
        """In whatever thread a command was carried out."""
        self._answers.append((client, number, future))
        self._wake()

    def _answer(self, client: _Client, number: int, future: Future[Reply]) -> None:
        client.busy = False
        if client.leaving:
            return
        reply = replace(future.result(), id=number)
        if client.follow is not None and not client.connection.unsent:  # who reads the reply sees what it tells of
            self._send(client, encode(self._picture(client)))
        self._send(client, encode(reply))
        self._heed(client)

    # Pictures

    def _show(self, client: _Client, now: float, shared: dict[tuple[int, int, int], _Told]) -> None:
        """Send what is new, unless the picture before is still on its way. `shared` are those that others have got."""
        if client.follow is None or client.connection.unsent:
            client.due = now + MIN_PERIOD
            return
        known = client.version, client.seq, id(client.traffic)
        told = shared.get(known) if not client.watched else None
        if told is None:
            picture = self._picture(client)
            octets = framed(encode(picture))
            told = _Told(octets, client.version, client.seq, client.traffic, client.seq >= picture.last_event)
            if not client.watched:
                shared[known] = told
        client.version, client.seq, client.traffic = told.version, told.seq, told.traffic
        client.connection.send(told.octets)
        period = max(client.follow.period, MIN_PERIOD) if told.all else MIN_PERIOD
        client.due = inf if told.all and not client.follow.period else (now // period + 1) * period

    def _picture(self, client: _Client) -> Picture:
        """What is new for this client; it is taken for told."""
        snapshot = self._snapshot()
        changes = self._engine.changes_since(client.version)
        events, lost = self._engine.events_since(client.seq)
        events = tuple(events[:EVENTS_AT_ONCE])
        traffic = b"" if snapshot.traffic == client.traffic else snapshot.traffic
        now = time.monotonic()
        client.watched = {key: until for key, until in client.watched.items() if until > now}
        client.shown = {key: there for key, there in client.shown.items() if key in client.watched}
        details = []
        for key in client.watched:
            there = self._engine.watched(key)
            if there is not None and there is not client.shown.get(key):
                client.shown[key] = there
                details.append(there)
        client.version, client.traffic = changes.version, snapshot.traffic
        client.seq = events[-1].seq if events else client.seq
        return Picture(
            at=snapshot.at,
            card=snapshot.card,
            queues=snapshot.queues,
            changes=changes,
            traffic=traffic,
            events=events,
            lost=lost,
            last_event=snapshot.events,
            details=tuple(details),
            try_line=snapshot.try_line,
            totals=snapshot.totals,
            halted=snapshot.halted,
            steps=snapshot.steps,
            pace=snapshot.pace,
            clients=self.clients,
        )

    def _snapshot(self) -> Snapshot:
        now = time.monotonic()
        if self._look is None or now - self._look[0] > FRESH:
            self._look = now, self._engine.snapshot()
        return self._look[1]
