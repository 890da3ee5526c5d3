"""The engine's socket: shows the engine to clients in other processes, and takes their commands.

It has a thread of its own, so that no client costs the engine any of its time: it reads the board as a console in the
process does. A client that reads slowly misses pictures and gets what is new with the next one; one that sends
rubbish is told so and dropped.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from msgspec import structs

from engine.api.codec import CodecError, decode, encode
from engine.api.commands import Command, Edit, Refused, Remove, Reply, Request, ServiceCommand, Watch
from engine.api.hello import HEADER, LIMIT_TO_ENGINE, Hello, decode_hello, encode_hello, framed, length_of, mismatch
from engine.api.messages import AskSettings, ClientView, Farewell, Follow, Picture, SettingsOf
from engine.api.values import Changes, Details, Event, Snapshot
from engine.host import peers
from engine.host.rtnl import SHORTAGES
from engine.run.sockets import Listening, network
from engine.settings.values import SessionSettings

MAX_CLIENTS = 64
HELLO_TIMEOUT = 5.0
"""Seconds a client has for its hello."""
MIN_PERIOD = 0.05
"""Seconds between two pictures, at least."""
EVENTS_AT_ONCE = 1000
"""How many events one picture holds; the next one goes on."""
WATCHED = 5.0
"""Seconds that a session's details go to a client after it asked to watch it."""
FRESH = 0.04
"""Seconds for which one look at the engine serves all clients."""
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


class Service(Protocol):
    """The process around an engine: what it does beside running it."""

    def carry_out(self, command: ServiceCommand, by: str) -> Reply:
        """Do what is asked of the process; in a thread of its own, and may take its time."""
        ...

    def keep(self, command: Command, reply: Reply, before: Mapping[int, str]) -> tuple[str, ...]:
        """Write what a command changed into the configuration; returns remarks. `before` has the names until then."""
        ...


@dataclass(slots=True, eq=False)
class _Client:
    view: ClientView
    writer: asyncio.StreamWriter
    follow: Follow | None = None
    version: int = 0
    seq: int = 0
    traffic: bytes | None = None
    watched: dict[int, float] = field(default_factory=dict)
    """By session, until when its details go along."""
    shown: dict[int, Details] = field(default_factory=dict)
    wake: asyncio.Event = field(default_factory=asyncio.Event)


class Server:
    """Serves one engine on one socket until it is closed."""

    def __init__(
        self, engine: Served, listening: Listening, *, release: str, card: str, service: Service | None = None
    ) -> None:
        """Nobody is answered before `start`; `close` takes the socket away."""
        self.path = listening.path
        self._listening = listening
        self._engine = engine
        self._service = service
        self._hello = Hello(
            release=release, card=card, network=network(), instance=os.urandom(8).hex(), since=time.time()
        )
        self._uid = os.geteuid()
        self._clients: dict[int, _Client] = {}
        self._last_id = 0
        self._look: tuple[float, Snapshot] | None = None
        self._loop = asyncio.new_event_loop()
        self._closing = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="souppp-served", daemon=True)

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()

    def close(self) -> None:
        """Say goodbye to all clients and take the socket away; a second call does nothing."""
        if self._thread.is_alive():
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._closing.set)
            self._thread.join()
        self._listening.close()

    @property
    def clients(self) -> tuple[ClientView, ...]:
        """Who is attached; any thread."""
        return tuple(client.view for client in self._clients.copy().values())

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._main())
        finally:
            self._loop.close()

    async def _main(self) -> None:
        self._loop.set_exception_handler(_wait_or_complain)
        server = await asyncio.start_unix_server(self._connected, sock=self._listening.socket, limit=LIMIT_TO_ENGINE)
        await self._closing.wait()
        server.close()
        for client in [*self._clients.values()]:
            await self._dismiss(client.writer, AWAY)
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # One client

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._converse(reader, writer)
        except (OSError, asyncio.IncompleteReadError, TimeoutError, CodecError):
            pass  # gone, or told why already
        finally:
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection: socket.socket = writer.get_extra_info("socket")
        who = peers.peer(connection)
        rights = peers.may(who, self._uid, peers.group(peers.WRITE_GROUP), peers.group(peers.LOOK_GROUP))
        refused = ""
        if not rights:
            refused = f"{who.user} is in neither of the groups {peers.WRITE_GROUP} and {peers.LOOK_GROUP}."
        elif len(self._clients) >= MAX_CLIENTS:
            refused = f"{MAX_CLIENTS} clients are attached already."
        answer = structs.replace(self._hello, user=who.user, writes=rights == "write", refused=refused)
        writer.write(framed(encode_hello(answer)))
        await writer.drain()
        if refused:
            return
        async with asyncio.timeout(HELLO_TIMEOUT):
            hello = decode_hello(await _message(reader))
        if why := mismatch(hello, answer):
            await self._dismiss(writer, why)
            return
        self._last_id += 1
        program = hello.program[:32] or "?"
        view = ClientView(self._last_id, who.user, who.process, program, time.time(), answer.writes)
        client = self._clients[view.id] = _Client(view, writer)
        pictures = asyncio.create_task(self._pictures(client))
        try:
            while True:
                try:
                    message = decode(await _message(reader))
                    await self._message(client, message)
                except CodecError as error:
                    await self._dismiss(writer, str(error))
                    return
                await writer.drain()
        finally:
            del self._clients[view.id]
            pictures.cancel()

    async def _dismiss(self, writer: asyncio.StreamWriter, reason: str) -> None:
        with suppress(OSError, TimeoutError):
            writer.write(framed(encode(Farewell(reason))))
            async with asyncio.timeout(1.0):
                await writer.drain()
            writer.close()

    async def _message(self, client: _Client, message: object) -> None:
        match message:
            case Follow():
                client.follow = message
                client.version, client.traffic = 0, None
                client.shown.clear()
                client.seq = message.events if message.events >= 0 else self._engine.snapshot().events
                client.wake.set()
            case Request(number, Watch(key)):
                client.watched[key] = time.monotonic() + WATCHED
                self._engine.submit(Watch(key))
                self._send(client, encode(Reply(number, (key,))))
            case Request():
                reply = await self._carry_out(client, message)
                if client.follow is not None and not _unsent(client):  # who reads the reply sees what it tells of
                    self._send(client, encode(self._picture(client)))
                self._send(client, encode(reply))
            case AskSettings(number, keys):
                asked = keys if keys is not None else [view.id for view in self._engine.snapshot().sessions]
                found = [(key, settings) for key in asked if (settings := self._engine.settings(key)) is not None]
                self._send(client, encode(SettingsOf(number, tuple(found))))
            case _:
                raise CodecError(f"A client doesn't send a {type(message).__name__}.")

    async def _carry_out(self, client: _Client, request: Request) -> Reply:
        command, by = request.command, f"{client.view.user} ({client.view.program} {client.view.process})"
        if not client.view.writes:
            text = f"You may look, not command: {client.view.user} is not in the group {peers.WRITE_GROUP}."
            return Reply(request.id, refused=(Refused(None, text),))
        if isinstance(command, ServiceCommand):
            if self._service is None:
                return replace(await asyncio.wrap_future(self._engine.submit(command, by)), id=request.id)
            reply = await asyncio.to_thread(self._service.carry_out, command, by)
            return replace(reply, id=request.id)
        before = self._names(command) if self._service is not None else {}
        reply = await asyncio.wrap_future(self._engine.submit(command, by))
        remarks: tuple[str, ...] = ()
        if self._service is not None:
            remarks = await asyncio.to_thread(self._service.keep, command, reply, before)
        return replace(reply, id=request.id, remarks=reply.remarks + remarks)

    def _names(self, command: Command) -> dict[int, str]:
        """Of the sessions that a command may rename or remove."""
        keys = (command.key,) if isinstance(command, Edit) else command.keys if isinstance(command, Remove) else ()
        return {key: there.name for key in keys if (there := self._engine.settings(key)) is not None}

    @staticmethod
    def _send(client: _Client, message: bytes) -> None:
        client.writer.write(framed(message))

    # Pictures

    async def _pictures(self, client: _Client) -> None:
        """One after the other, none while the one before is still on its way."""
        due, all_told = 0.0, True
        while True:
            follows = client.follow is not None and (client.follow.period or not all_told)
            wait = max(due - time.monotonic(), 0.0) if follows else None
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await client.wake.wait()
            client.wake.clear()
            if client.follow is None:
                continue
            if _unsent(client):
                await asyncio.sleep(MIN_PERIOD)
                client.wake.set()
                continue
            try:
                picture = self._picture(client)
                self._send(client, encode(picture))
            except CodecError as error:
                await self._dismiss(client.writer, str(error))
                return
            all_told = client.seq >= picture.last_event
            due = time.monotonic() + (max(client.follow.period, MIN_PERIOD) if all_told else MIN_PERIOD)

    def _picture(self, client: _Client) -> Picture:
        """What is new for this client; it is taken for told."""
        snapshot = self._snapshot()
        changes = self._engine.changes_since(client.version)
        events, lost = self._engine.events_since(client.seq)
        events = tuple(events[:EVENTS_AT_ONCE])
        traffic = b"" if snapshot.traffic == client.traffic else snapshot.traffic
        now = time.monotonic()
        client.watched = {key: until for key, until in client.watched.items() if until > now}
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
            clients=self.clients,
        )

    def _snapshot(self) -> Snapshot:
        now = time.monotonic()
        if self._look is None or now - self._look[0] > FRESH:
            self._look = now, self._engine.snapshot()
        return self._look[1]


def _unsent(client: _Client) -> bool:
    return client.writer.transport.get_write_buffer_size() > 0


def _wait_or_complain(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A client that there is no descriptor for waits until there is: asyncio tries again each second."""
    error = context.get("exception")
    if not isinstance(error, OSError) or error.errno not in SHORTAGES:
        loop.default_exception_handler(context)


async def _message(reader: asyncio.StreamReader) -> bytes:
    """The next message's octets. Raises CodecError where it is too long, and what reading raises."""
    return await reader.readexactly(length_of(await reader.readexactly(HEADER), LIMIT_TO_ENGINE))
