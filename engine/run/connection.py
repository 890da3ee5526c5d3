"""A client's connection to the server: whole messages in and out, and nobody waits for it.

Who may command may send a descriptor along with a message (SCM_RIGHTS); those of others the kernel closes.
"""

from __future__ import annotations

import os
import socket
from collections import deque

from engine.api.hello import HEADER, LIMIT_TO_ENGINE, length_of

CHUNK = 1 << 16
BEHIND = 8
"""Messages that wait for the other side; one that lets so many wait is heard no further until it takes some."""


class Connection:
    """A socket with what has come and is no whole message yet, and what the other side has not taken yet."""

    def __init__(self, made: socket.socket) -> None:
        made.setblocking(False)
        self.socket = made
        self._came = bytearray()
        self._unsent: deque[memoryview] = deque()
        self._descriptors: list[int] = []
        self.takes_descriptors = False

    def read(self) -> None:
        """Take what there is. Raises EOFError where the other side has closed, and OSError."""
        try:
            if self.takes_descriptors:
                octets, descriptors, _, _ = socket.recv_fds(self.socket, CHUNK, 2, socket.MSG_CMSG_CLOEXEC)
                if descriptors:
                    self._let_go()
                    self._descriptors = descriptors
            else:
                octets = self.socket.recv(CHUNK)
        except BlockingIOError:
            return
        if not octets:
            raise EOFError
        self._came += octets

    def next_message(self) -> bytes | None:
        """The oldest whole message that has come. Raises CodecError where one is too long."""
        if len(self._came) < HEADER:
            return None
        end = HEADER + length_of(bytes(self._came[:HEADER]), LIMIT_TO_ENGINE)
        if len(self._came) < end:
            return None
        message = bytes(memoryview(self._came)[HEADER:end])
        del self._came[:end]
        return message

    def take_descriptor(self) -> int | None:
        """The first of those that came last, if any; the caller's from now on."""
        return self._descriptors.pop(0) if self._descriptors else None

    def _let_go(self) -> None:
        while (descriptor := self.take_descriptor()) is not None:
            os.close(descriptor)

    def send(self, octets: bytes) -> None:
        """Send these after all others, as much as goes now and the rest by `flush`. Raises OSError."""
        self._unsent.append(memoryview(octets))
        if len(self._unsent) == 1:
            self.flush()

    def flush(self) -> None:
        """Send what goes now. Raises OSError."""
        try:
            while self._unsent:
                sent = self.socket.send(self._unsent[0])
                if sent < len(self._unsent[0]):
                    self._unsent[0] = self._unsent[0][sent:]
                else:
                    self._unsent.popleft()
        except BlockingIOError:
            pass

    @property
    def unsent(self) -> bool:
        """Whether the other side has not taken everything yet."""
        return bool(self._unsent)

    @property
    def behind(self) -> bool:
        """Whether the other side has left so much that nothing more is to be made for it."""
        return len(self._unsent) >= BEHIND

    def close(self) -> None:
        """Let go of it, whatever is unsent."""
        self._unsent.clear()
        self._let_go()
        self.socket.close()
