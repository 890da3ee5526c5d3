"""One end of the socket between the engine and the process of its proxies: messages go out in turn and never wait."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from engine.proxy.messages import ENCODER, LARGEST, Message

MOST_WAITING = 4096
"""Messages that the other side hasn't taken: with more it stands still."""


class Channel:
    """Handles the socket on the loop until the other side is gone."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        ours: socket.socket,
        decoder: msgspec.msgpack.Decoder[Any],
        heard: Callable[[Any], None],
        ended: Callable[[], None],
    ) -> None:
        """`heard` is called with each message; `ended` once, where the other side is gone or makes no sense."""
        self._loop = loop
        self._socket: socket.socket | None = ours
        self._decoder = decoder
        self._heard = heard
        self._ended = ended
        self._waiting = deque[bytes]()
        ours.setblocking(False)
        loop.add_reader(ours, self._readable)

    def send(self, message: Message) -> None:
        """It goes out now or in turn."""
        if self._socket is None:
            return
        self._waiting.append(ENCODER.encode(message))
        if len(self._waiting) == 1:
            self._writable()
        elif len(self._waiting) > MOST_WAITING:
            self._end()

    def close(self) -> None:
        """A second call does nothing."""
        if self._socket is not None:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._socket.close()
            self._socket = None

    def _end(self) -> None:
        if self._socket is not None:
            self.close()
            self._ended()

    def _writable(self) -> None:
        while self._waiting and self._socket is not None:
            try:
                self._socket.send(self._waiting[0])
            except BlockingIOError:
                self._loop.add_writer(self._socket, self._writable)
                return
            except OSError:
                self._loop.remove_writer(self._socket)
                self._waiting.clear()  # the end is read where messages are
                return
            self._waiting.popleft()
        if self._socket is not None:
            self._loop.remove_writer(self._socket)

    def _readable(self) -> None:
        while self._socket is not None:
            try:
                octets = self._socket.recv(LARGEST)
            except BlockingIOError:
                return
            except OSError:
                octets = b""
            try:
                message = self._decoder.decode(octets)
            except msgspec.MsgspecError:
                self._end()
                return
            self._heard(message)
