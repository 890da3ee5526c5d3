"""One end of a socket that keeps messages apart: messages go out in turn, with descriptors, and never wait."""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from engine.proxy.messages import ENCODER, LARGEST

MOST_WAITING = 4096
"""Messages that the other side hasn't taken: with more it stands still."""
MOST_DESCRIPTORS = 4
AT_ONCE = 64
"""Messages that are heard before others have their turn: the other side may say them faster than they are heard."""


class Decoder(Protocol):
    """What makes messages of octets; raises MsgspecError."""

    def decode(self, octets: bytes, /) -> Any:
        """One."""


class Channel:
    """Handles the socket on the loop until the other side is gone."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        ours: socket.socket,
        decoder: Decoder,
        heard: Callable[[Any], None],
        ended: Callable[[], None],
        encode: Callable[[Any], bytes] = ENCODER.encode,
        most_waiting: int = MOST_WAITING,
    ) -> None:
        """`heard` is called with each message; `ended` once, where the other side is gone or makes no sense."""
        self._loop = loop
        self._socket: socket.socket | None = ours
        self._decoder = decoder
        self._heard = heard
        self._ended = ended
        self._encode = encode
        self._most_waiting = most_waiting
        self._waiting = deque[tuple[bytes, tuple[int, ...]]]()
        self.descriptors: list[int] = []
        """Those that came with the message that is being heard: whoever takes one out owns it."""
        self.made_room = 0
        """How often the other side has taken some of what waited for it."""
        ours.setblocking(False)
        loop.add_reader(ours, self._readable)

    def send(self, message: msgspec.Struct, *descriptors: int) -> None:
        """It goes out now or in turn, with descriptors, which are closed here then."""
        if self._socket is None:
            _close(descriptors)
            return
        self._waiting.append((self._encode(message), descriptors))
        if len(self._waiting) == 1:
            self._writable()
        elif len(self._waiting) > self._most_waiting:
            self._end()

    def close(self) -> None:
        """A second call does nothing."""
        if self._socket is not None:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._socket.close()
            self._socket = None
            self._drop()

    def _drop(self) -> None:
        while self._waiting:
            _close(self._waiting.popleft()[1])

    def _end(self) -> None:
        if self._socket is not None:
            self.close()
            self._ended()

    def _has_room(self) -> None:
        self.made_room += 1
        self._writable()

    def _writable(self) -> None:
        while self._waiting and self._socket is not None:
            octets, descriptors = self._waiting[0]
            try:
                if descriptors:
                    socket.send_fds(self._socket, [octets], descriptors)
                else:
                    self._socket.send(octets)
            except BlockingIOError:
                self._loop.add_writer(self._socket, self._has_room)
                return
            except OSError:
                self._loop.remove_writer(self._socket)
                self._drop()  # the end is read where messages are
                return
            _close(self._waiting.popleft()[1])
        if self._socket is not None:
            self._loop.remove_writer(self._socket)

    def _readable(self) -> None:
        for _ in range(AT_ONCE):
            if self._socket is None:
                return
            try:
                octets, self.descriptors, _, _ = socket.recv_fds(
                    self._socket, LARGEST, MOST_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                return
            except OSError:
                octets, self.descriptors = b"", []
            try:
                message = self._decoder.decode(octets)
            except msgspec.MsgspecError:
                _close(self.descriptors)
                self._end()
                return
            try:
                self._heard(message)
            finally:
                _close(self.descriptors)


def _close(descriptors: tuple[int, ...] | list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
