"""UDP ASSOCIATE (RFC 1928 sections 4, 6 and 7): datagrams from and to a client while its TCP connection is open.

Ours for the client is on the address that it connected to, and takes datagrams from its address alone. The other ones
are bound to the session as all sockets are, and take answers only from whom the client has written to.
"""

from __future__ import annotations

import asyncio
import socket
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address

from engine.proxy.asked import Host, Refused
from engine.proxy.bound import NotBound, bound
from engine.proxy.clients import Client, Passing
from engine.proxy.dialling import Dialler
from engine.proxy.exits import Address, Exit
from engine.proxy.socks import address, address_octets
from engine.proxy.stack import Result as Made
from engine.proxy.stack import with_peer, without_peer

READ = 65_536
AT_ONCE = 32
"""Datagrams that are dealt with before anything else is looked at."""
MOST_PEERS = 1024
"""Addresses from which answers are taken: those written to last."""
MOST_WAITING = 64
"""Names that are looked up at a time, and datagrams that wait for each."""
ROOM = 1 << 18
"""Octets that may wait in all, as for names: more are lost, as datagrams may be."""

NOBODY: dict[int, Address] = {4: IPv4Address(0), 6: IPv6Address(0)}

Ended = Callable[["Association", Client], None]


class Association:
    """One client's."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        client: Client,
        exit_: Exit,
        dialler: Dialler,
        passing: Passing,
        idle: float,
        ended: Ended,
    ) -> None:
        """Raises OSError."""
        self._loop = loop
        self._client = client
        self._exit = exit_
        self._dialler = dialler
        self._passing = passing
        self._idle = idle
        self._last = loop.time()
        self._ended = ended
        self._open = True
        self._port: tuple[str, int] | None = None
        """Where the client sends from, since it did first."""
        self._peers: OrderedDict[Address, None] = OrderedDict()
        self._room = ROOM
        self._names: dict[str, tuple[list[tuple[int, bytes]], Callable[[], None]]] = {}
        self._out: dict[int, socket.socket] = {}
        """By IP version."""
        self._joining: dict[int, tuple[list[bytes], Callable[[], None]]] = {}
        """Of a session with a stack, until that has a socket: what waits for it, by IP version."""
        here = client.socket.getsockname()[0]
        self._ours = socket.socket(client.socket.family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            self._ours.bind((here, 0))
        except OSError:
            self._ours.close()
            raise

    def begin(self) -> None:
        """Tell the client where to send."""
        assert self._client.machine is not None
        here, port = self._ours.getsockname()[:2]
        try:
            self._client.socket.send(self._client.machine.success((ip_address(here.partition("%")[0]), port)))
        except OSError:
            self.close()
            return
        self._loop.add_reader(self._ours, self._from_client)
        self._loop.add_reader(self._client.socket, self._still_there)

    def look(self, now: float) -> None:
        """Whether it is idle for too long."""
        if self._idle and now - self._last > self._idle:
            self.close()

    def close(self) -> None:
        """It is over: its session or its client is gone. A second call does nothing."""
        if not self._open:
            return
        self._open = False
        self._loop.remove_reader(self._client.socket)
        for each in (self._ours, *self._out.values()):
            self._loop.remove_reader(each)
            each.close()
        for _, cancel in (*self._names.values(), *self._joining.values()):
            cancel()
        self._ended(self, self._client)

    def _still_there(self) -> None:
        """The client says nothing more by TCP: its end is that of the association."""
        with suppress(BlockingIOError):
            try:
                if self._client.socket.recv(READ):
                    return
            except BlockingIOError:
                return
            except OSError:
                pass
            self.close()

    def _from_client(self) -> None:
        for _ in range(AT_ONCE):
            try:
                octets, sender = self._ours.recvfrom(READ)
            except OSError:  # there are no more
                return
            if _plain(sender[0]) != ip_address(self._client.source):
                continue
            if self._port is None:
                self._port = sender
            elif self._port != sender:
                continue  # it is another program on the client's host
            self._last = self._loop.time()
            with suppress(Refused, IndexError):
                self._send(*_taken_apart(octets))
            if not self._open:
                return

    def _send(self, host: Host, port: int, octets: bytes) -> None:
        if not isinstance(host, str):
            self._send_to(host, port, octets)
            return
        waiting = self._names.get(host)
        if waiting is None:
            if len(self._names) >= MOST_WAITING:
                return
            cancel = self._dialler.names.resolve(self._exit, host, partial(self._found, host))
            waiting = self._names[host] = [], cancel
        if self._may_wait(octets, len(waiting[0])):
            waiting[0].append((port, octets))

    def _may_wait(self, octets: bytes, before: int) -> bool:
        """Whether there is room for them behind so many others; taken then."""
        if before >= MOST_WAITING or len(octets) > self._room:
            return False
        self._room -= len(octets)
        return True

    def _found(self, host: str, found: object) -> None:
        waiting, _ = self._names.pop(host)
        self._room += sum(len(octets) for _, octets in waiting)
        if not isinstance(found, tuple):
            return
        reachable = next((each for each in found if self._exit.source(each.version) is not None), None)
        if reachable is not None:
            for port, octets in waiting:
                self._send_to(reachable, port, octets)

    def _send_to(self, host: Address, port: int, octets: bytes) -> None:
        if port == 0 or self._dialler.objection(host):
            return
        out = self._out.get(host.version)
        if out is None and not self._exit.stack:
            try:
                out = self._out[host.version] = bound(self._exit, host.version, socket.SOCK_DGRAM)
            except NotBound:
                return
            self._loop.add_reader(out, self._from_world, out)
        self._peers[host] = None
        self._peers.move_to_end(host)
        if len(self._peers) > MOST_PEERS:
            self._peers.popitem(last=False)
        if self._exit.stack:
            self._send_by_stack(host.version, out, with_peer(host, port, octets))
        elif out is not None:
            with suppress(OSError):  # as a datagram that is lost
                self._passing.up += out.sendto(octets, (str(host), port))

    def _send_by_stack(self, version: int, out: socket.socket | None, message: bytes) -> None:
        """Of a session with a stack, whose program is asked for a socket first."""
        if out is not None:
            with suppress(OSError):
                self._passing.up += out.send(message) - len(with_peer(NOBODY[version], 0, b""))
            return
        if version not in self._joining:
            cancel = self._dialler.names.stack.associate(self._exit, version, partial(self._joined, version))
            self._joining[version] = [], cancel
        waiting, _ = self._joining[version]
        if self._may_wait(message, len(waiting)):
            waiting.append(message)

    def _joined(self, version: int, made: Made) -> None:
        waiting, _ = self._joining.pop(version)
        self._room += sum(map(len, waiting))
        if isinstance(made, socket.socket):
            self._out[version] = made
            self._loop.add_reader(made, self._from_stack, made)
            for message in waiting:
                self._send_by_stack(version, made, message)

    def _from_stack(self, out: socket.socket) -> None:
        for _ in range(AT_ONCE):
            try:
                message = out.recv(READ + 32)
            except BlockingIOError:
                return
            except OSError:
                message = b""
            if not message:  # the program is gone, or the session
                self.close()
                return
            with suppress(ValueError):
                self._take_in(*without_peer(message))

    def _from_world(self, out: socket.socket) -> None:
        for _ in range(AT_ONCE):
            try:
                octets, sender = out.recvfrom(READ)
            except OSError:
                return
            self._take_in(_plain(sender[0]), sender[1], octets)

    def _take_in(self, peer: Address, port: int, octets: bytes) -> None:
        if peer not in self._peers or self._port is None:
            return
        self._last = self._loop.time()
        self._passing.down += len(octets)
        with suppress(OSError):
            self._ours.sendto(bytes(3) + address_octets(peer, port) + octets, self._port)


def _taken_apart(octets: bytes) -> tuple[Host, int, bytes]:
    """Where to, and what: RFC 1928 section 7. Raises Refused and IndexError; a fragment is none of ours."""
    if octets[2] != 0:
        raise IndexError
    host, end = address(octets, 3)
    if end + 2 > len(octets):
        raise IndexError
    return host, int.from_bytes(octets[end : end + 2]), octets[end + 2 :]


def _plain(text: str) -> Address:
    found = ip_address(text.partition("%")[0])
    return getattr(found, "ipv4_mapped", None) or found
