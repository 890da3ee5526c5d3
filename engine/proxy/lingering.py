"""Sockets whose clients have the time to read what they were told last, before what they still say resets them."""

from __future__ import annotations

import socket
from collections import OrderedDict
from collections.abc import Callable

from engine.proxy.watch import Watch

LINGER = 2.0
"""Seconds."""
MOST = 4096
READ = 4096


class Lingering:
    """All of them: nothing that they say is heard."""

    def __init__(self, watch: Watch, clock: Callable[[], float]) -> None:
        self._watch = watch
        self._clock = clock
        self._until: OrderedDict[socket.socket, float] = OrderedDict()

    def take(self, its_socket: socket.socket) -> None:
        """It is closed when its client closes it, or some time later."""
        try:
            its_socket.shutdown(socket.SHUT_WR)
        except OSError:
            its_socket.close()
            return
        self._until[its_socket] = self._clock() + LINGER
        self._watch.reads(its_socket.fileno(), self._drain, its_socket)
        if len(self._until) > MOST:
            self._close(next(iter(self._until)))

    def sweep(self) -> None:
        """Close those that have had their time."""
        now = self._clock()
        while self._until:
            its_socket, until = next(iter(self._until.items()))
            if until > now:
                break
            self._close(its_socket)

    def close(self) -> None:
        """Close all."""
        for its_socket in [*self._until]:
            self._close(its_socket)

    def _drain(self, its_socket: socket.socket) -> None:
        try:
            octets = its_socket.recv(READ)
        except BlockingIOError:
            return
        except OSError:
            octets = b""
        if not octets:
            self._close(its_socket)

    def _close(self, its_socket: socket.socket) -> None:
        del self._until[its_socket]
        self._watch.forget(its_socket.fileno())
        its_socket.close()
