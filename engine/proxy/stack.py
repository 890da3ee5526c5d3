"""Connections through sessions with `egress: stack`: the stack program makes them, over a socket to it.

A session's packets have no other way than that program's stack, which has no other network: what isn't dialled here
isn't dialled at all. While the program is away there are no connections.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from ipaddress import ip_address
from itertools import count
from typing import TYPE_CHECKING

from engine.proxy.channel import Channel
from engine.proxy.exits import Address, Exit
from engine.proxy.stack_protocol import TO_CLIENT, Dial, Dialled, Drop, Ended, Take, Traffic, encode

if TYPE_CHECKING:
    from engine.proxy.clients import Passing

Cancel = Callable[[], None]
GONE = "no such session"
"""What a dial is told to have failed with where there is no program, or it has ended."""


class Connection:
    """One that is connected, until it is handed over; a client of the program's side is named by `id`."""

    def __init__(self, line: Line, id_: int, local: str) -> None:
        self._line = line
        self.id = id_
        host, _, port = local.rpartition(":")
        self.local = host.strip("[]"), int(port)

    def hand_over(self, descriptor: int, first: bytes = b"", idle: float = 0.0) -> None:
        """Have the program pass on what it and a socket say, which is the program's from now on, `first` before."""
        self._line.send(Take(self.id, first, idle), descriptor)

    def as_socket(self) -> socket.socket:
        """A socket that says what the far side says, and the other way round. Raises OSError."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self.hand_over(theirs.detach())
        return ours

    def close(self) -> None:
        """Reset it."""
        self._line.drop(self.id)


Result = Connection | socket.socket | str
Done = Callable[[Result], None]


class Line:
    """The socket to the program, and all that was dialled over it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._channel: Channel | None = None
        self._ids = count(1)
        self._dialling: dict[int, Done] = {}
        self._taken: dict[int, Taken] = {}

    def begin(self, descriptor: int) -> None:
        """There is a program, the first or another one."""
        self._end()
        self._channel = Channel(self._loop, socket.socket(fileno=descriptor), TO_CLIENT, self._hear, self._end, encode)

    def dial(self, exit_: Exit, kind: socket.SocketKind, to: tuple[Address, int], timeout: float, done: Done) -> Cancel:
        """Connect through a session; calls `done` once, not before this returns, unless what this returns is called.

        It takes a Connection; of SOCK_DGRAM a socket each of whose messages is a datagram; or in words why there is
        none.
        """
        return self._dial(exit_, to[0].version, kind, endpoint(*to), timeout, done)

    def associate(self, exit_: Exit, version: int, done: Done) -> Cancel:
        """As `dial` of SOCK_DGRAM, but to anybody: before each datagram its far side stands, see `with_peer`."""
        return self._dial(exit_, version, socket.SOCK_DGRAM, "", 0.0, done)

    def _dial(self, exit_: Exit, version: int, kind: socket.SocketKind, to: str, timeout: float, done: Done) -> Cancel:
        id_, key = next(self._ids), exit_.key
        source = exit_.source(version)
        network = "tcp" if kind is socket.SOCK_STREAM else "udp"
        if self._channel is None or source is None:
            return self._loop.call_soon(done, GONE if self._channel is None else "no address").cancel
        self._dialling[id_] = done
        self._channel.send(Dial(id_, key, network, str(source), to, timeout))
        return lambda: self._cancel(id_)

    def send(self, message: Take | Drop, *descriptors: int) -> None:
        """Say something of a connection."""
        if self._channel is not None:
            self._channel.send(message, *descriptors)
        else:
            for descriptor in descriptors:
                os.close(descriptor)

    def drop(self, id_: int) -> None:
        """Reset a connection, or dial it no more."""
        self._taken.pop(id_, None)
        self.send(Drop(id_))

    def follow(self, id_: int, taken: Taken) -> None:
        """Tell this of what becomes of a connection that was handed over."""
        self._taken[id_] = taken

    def close(self) -> None:
        """Reset all."""
        self._end()

    def _cancel(self, id_: int) -> None:
        if self._dialling.pop(id_, None) is not None:
            self.send(Drop(id_))

    def _end(self) -> None:
        """The program is gone, and all that it had."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()
        dialling, self._dialling = self._dialling, {}
        taken, self._taken = self._taken, {}
        for done in dialling.values():
            done(GONE)
        for each in taken.values():
            each.end()

    def _hear(self, message: Dialled | Ended | Traffic) -> None:
        match message:
            case Dialled(id_, local, error):
                done = self._dialling.pop(id_, None)
                if done is not None:
                    done(error or self._made(id_, local))
                elif not error:  # it was cancelled meanwhile
                    self.send(Drop(id_))
            case Ended(id_, in_, out, _):
                if (taken := self._taken.pop(id_, None)) is not None:
                    taken.passing.down, taken.passing.up = in_, out
                    taken.end()
            case Traffic(connections):
                for id_, (in_, out) in connections.items():
                    if (taken := self._taken.get(id_)) is not None:
                        taken.passing.down, taken.passing.up = in_, out

    def _made(self, id_: int, local: str) -> Connection | socket.socket:
        assert self._channel is not None
        if not self._channel.descriptors:
            return Connection(self, id_, local)
        datagrams = socket.socket(fileno=self._channel.descriptors.pop())
        datagrams.setblocking(False)
        return datagrams


class Taken:
    """A client's connection that the program passes on."""

    def __init__(self, line: Line, connection: Connection, passing: Passing, ended: Callable[[Taken], None]) -> None:
        self._line = line
        self._id = connection.id
        self.passing = passing
        self._ended = ended
        line.follow(connection.id, self)

    def look(self, now: float) -> None:
        """The program itself sees whether it is idle for too long."""

    def close(self) -> None:
        """Its session is gone."""
        self._line.drop(self._id)
        self.end()

    def end(self) -> None:
        """It is over."""
        self._ended(self)


def endpoint(address: Address, port: int) -> str:
    """As the program reads it."""
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


def with_peer(address: Address, port: int, octets: bytes) -> bytes:
    """A datagram of an association, with whom it is to or from."""
    return bytes([address.version]) + address.packed + port.to_bytes(2) + octets


def without_peer(message: bytes) -> tuple[Address, int, bytes]:
    """The reverse. Raises ValueError for what is no such message."""
    end = 5 if message[:1] == b"\4" else 17
    if len(message) < end + 2:
        raise ValueError("a datagram without its sender")
    return ip_address(message[1:end]), int.from_bytes(message[end : end + 2]), message[end + 2 :]
