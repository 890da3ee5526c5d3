"""Where clients connect: the pool's port and sessions' own, each tried again and again while another program has it."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable

from engine.proxy.clients import HEARD_OUT, Port
from engine.proxy.complaints import WARNING, Complaints
from engine.proxy.messages import Tell
from engine.proxy.watch import Watch
from engine.settings.own_kinds import split_endpoint

AT_ONCE = 64
"""Clients that are let in before anything else is looked at."""
BACKLOG = 1024
AGAIN = 5.0
"""Seconds until a port that is taken is tried again."""
INFO = 1
_KIND = "proxy-port"

_TCP_DEFER_ACCEPT = 9
_RESOURCES = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS))

Came = Callable[[Port, socket.socket, tuple[str, int]], None]


class Listening:
    """All ports."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        watch: Watch,
        send: Callable[[Tell], None],
        complaints: Complaints,
        name: Callable[[int], str],
        came: Came,
        changed: Callable[[int], None],
    ) -> None:
        """`name` is a session's; `came` takes a client; `changed` hears whose own port is open, or is no more."""
        self._loop = loop
        self._watch = watch
        self._send = send
        self._complaints = complaints
        self._name = name
        self._came = came
        self._changed = changed
        self._open_to_all = True
        self._ports: dict[str, Port] = {}
        """By endpoint."""
        self._own: dict[int, Port] = {}
        """By session."""
        self._short = False
        """Whether descriptors are: nobody is let in until the next look."""
        self._retry_timer = loop.call_later(AGAIN, self._retry)

    def serve(self, pool: str, open_to_all: bool) -> None:
        """Where the pool's port is to be, empty for nowhere, and whether nobody needs a password."""
        self._open_to_all = open_to_all
        for port in [port for port in self._ports.values() if port.key is None and port.endpoint != pool]:
            self._close(port)
        for port in self._ports.values():
            if port.socket is not None and not self._may_be_open(port):
                self._silence(port)
        if pool and pool not in self._ports:
            self._open(Port(pool, None))

    def move(self, key: int, endpoint: str) -> None:
        """Where a session's own port is to be; empty for nowhere."""
        self.drop(key)
        if not endpoint:
            return
        taken = self._ports.get(endpoint)
        if taken is not None:
            whose = f"session {self._name(taken.key)}" if taken.key is not None else "the pool"
            text = f"The proxy of session {self._name(key)} can't listen on {endpoint}: {whose} does already."
            self._send(Tell(WARNING, _KIND, text, key))
            return
        self._open(Port(endpoint, key))

    def drop(self, key: int) -> None:
        """A session has no port of its own any more."""
        if key in self._own:
            self._close(self._own[key])

    def own(self, key: int) -> str:
        """Where a session's own port is open; empty if it isn't."""
        port = self._own.get(key)
        return port.endpoint if port is not None and port.socket is not None else ""

    def sweep(self) -> None:
        """Let clients in again where descriptors were short."""
        if self._short:
            self._short = False
            for port in self._ports.values():
                if port.socket is not None:
                    self._watch.reads(port.socket.fileno(), self._accept, port)

    def close(self) -> None:
        """Close all."""
        self._retry_timer.cancel()
        for port in [*self._ports.values()]:
            self._close(port)

    def _open(self, port: Port) -> None:
        self._ports[port.endpoint] = port
        if port.key is not None:
            self._own[port.key] = port
        self._listen(port)
        self._tell(port)

    def _close(self, port: Port) -> None:
        del self._ports[port.endpoint]
        if port.key is not None:
            del self._own[port.key]
        self._silence(port)
        self._tell(port)

    def _silence(self, port: Port) -> None:
        """Listen there no more."""
        if port.socket is not None:
            self._watch.forget(port.socket.fileno())
            port.socket.close()
            port.socket = None

    def _may_be_open(self, port: Port) -> bool:
        """Beyond loopback only where clients need a password."""
        return split_endpoint(port.endpoint)[0].is_loopback or not self._open_to_all

    def _tell(self, port: Port) -> None:
        if port.key is not None:
            self._changed(port.key)

    def _listen(self, port: Port) -> None:
        """Raises nothing: where it can't, that is told once and tried again."""
        whose = f"session {self._name(port.key)}" if port.key is not None else "the pool"
        if not self._may_be_open(port):
            lack = "beyond loopback it needs `proxy: users:`"
            self._tell_once(port, f"The proxy of {whose} doesn't listen on {port.endpoint}: {lack}.")
            return
        try:
            port.socket = _listening(port.endpoint)
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            why = "another program has that port" if taken else (error.strerror or str(error)).lower()
            text = f"The proxy of {whose} can't listen on {port.endpoint}: {why}; it is tried again and again."
            self._tell_once(port, text)
            return
        if port.told:
            port.told = False
            self._send(Tell(INFO, _KIND, f"The proxy of {whose} listens on {port.endpoint} now.", port.key))
        self._watch.reads(port.socket.fileno(), self._accept, port)

    def _tell_once(self, port: Port, text: str) -> None:
        if not port.told:
            self._send(Tell(WARNING, _KIND, text, port.key))
            port.told = True

    def _retry(self) -> None:
        self._retry_timer = self._loop.call_later(AGAIN, self._retry)
        for port in [port for port in self._ports.values() if port.socket is None]:
            self._listen(port)
            self._tell(port)

    def _accept(self, port: Port) -> None:
        for _ in range(AT_ONCE):
            if port.socket is None:
                return
            try:
                its_socket, address = port.socket.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno in _RESOURCES:
                    self._pause()
                return
            its_socket.setblocking(False)
            self._came(port, its_socket, address)

    def _pause(self) -> None:
        self._short = True
        self._complaints.tell("proxy-short", "The proxies are short of descriptors: new clients wait (`ulimit -n`).")
        for port in self._ports.values():
            if port.socket is not None:
                self._watch.forget(port.socket.fileno())


def _listening(endpoint: str) -> socket.socket:
    """Raises OSError."""
    address, number = split_endpoint(endpoint)
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if address.version == 6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(not address.is_unspecified))
        made.setsockopt(socket.IPPROTO_TCP, _TCP_DEFER_ACCEPT, int(HEARD_OUT))
        made.bind((str(address), number))
        made.listen(BACKLOG)
    except OSError:
        made.close()
        raise
    return made
