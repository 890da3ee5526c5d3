"""A plain HTTP request on its way: octets between two sockets and the machine that takes them apart (`http.py`).

Neither side can make us keep more than some buffers' worth: nothing is read from one that the other doesn't take.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from engine.proxy.asked import Refusal, Refused
from engine.proxy.clients import Client, Passing
from engine.proxy.http import Http

READ = 65_536
MOST_KEPT = 262_144
"""Octets that wait for one side."""

Ended = Callable[["Plain", Client, Refusal | None], None]


class Plain:
    """One request and its answer."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        client: Client,
        machine: Http,
        server: socket.socket,
        passing: Passing,
        idle: float,
        ended: Ended,
    ) -> None:
        """`server` is connected and ours. `ended` is called once: with a reason where there was no answer."""
        self._loop = loop
        self._client = client
        self._machine = machine
        self._server: socket.socket | None = server
        self._passing = passing
        self._idle = idle
        self._last = loop.time()
        self._ended = ended
        self._reading: set[socket.socket] = set()
        self._writing: set[socket.socket] = set()
        self._over = False
        """Whether the server has said all, or all that it will."""

    def begin(self) -> None:
        """Send the request."""
        self._step(self._machine.begin)

    def look(self, now: float) -> None:
        """Whether it is idle for too long."""
        if self._idle and now - self._last > self._idle:
            self._finish(Refusal.TIMED_OUT)

    def close(self) -> None:
        """Its session is gone."""
        self._finish(Refusal.DOWN)

    def _step(self, work: Callable[[], object]) -> None:
        """Do something, and what it leads to."""
        if self._server is None:
            return
        try:
            work()
            self._write(self._server, self._machine.to_server)
            self._write(self._client.socket, self._machine.to_client)
        except Refused as refused:
            self._finish(refused.why)
            return
        except OSError:
            self._finish(Refusal.UNREACHABLE)
            return
        if (self._over or self._machine.is_answered) and not self._machine.to_client:
            self._finish(None)
            return
        self._follow()

    def _write(self, to: socket.socket, octets: bytearray) -> None:
        """What can be sent at once. Raises OSError."""
        while octets:
            try:
                sent = to.send(octets)
            except BlockingIOError:
                return
            self._last = self._loop.time()
            if to is self._server:
                self._passing.up += sent
            else:
                self._passing.down += sent
            del octets[:sent]

    def _follow(self) -> None:
        """Wait for what can come next."""
        assert self._server is not None
        machine, client = self._machine, self._client.socket
        self._wait(self._reading, client, machine.hears_client and len(machine.to_server) < MOST_KEPT)
        self._wait(self._reading, self._server, not machine.is_answered and len(machine.to_client) < MOST_KEPT)
        self._wait(self._writing, client, bool(machine.to_client))
        self._wait(self._writing, self._server, bool(machine.to_server))

    def _wait(self, waiting: set[socket.socket], for_: socket.socket, wanted: bool) -> None:
        if wanted == (for_ in waiting):
            return
        is_reading = waiting is self._reading
        if wanted:
            waiting.add(for_)
            if is_reading:
                self._loop.add_reader(for_, self._readable, for_)
            else:
                self._loop.add_writer(for_, self._step, lambda: None)
        else:
            waiting.discard(for_)
            (self._loop.remove_reader if is_reading else self._loop.remove_writer)(for_)

    def _readable(self, from_: socket.socket) -> None:
        self._step(lambda: self._hear(from_))

    def _hear(self, from_: socket.socket) -> None:
        """Raises Refused, and OSError."""
        try:
            octets = from_.recv(READ)
        except BlockingIOError:
            return
        self._last = self._loop.time()
        if from_ is self._server:
            self._machine.receive_server(octets)
            if not octets and not self._machine.is_answered:
                raise Refused(Refusal.UNREACHABLE)
        elif octets:
            self._machine.receive(octets)
        else:
            raise Refused(Refusal.MALFORMED)  # the client is gone in the middle of its request

    def _finish(self, why: Refusal | None) -> None:
        if self._server is None:
            return
        for each in self._reading:
            self._loop.remove_reader(each)
        for each in self._writing:
            self._loop.remove_writer(each)
        self._server.close()
        self._server = None
        self._ended(self, self._client, why)
