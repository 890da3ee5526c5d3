"""A process of ours without rights that serves the engine: a channel to it, and another process where it ends."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

import msgspec

from engine.host.privileges import keep_right_to_kill
from engine.proxy.channel import MOST_WAITING, Channel, Decoder

AGAIN = (0.1, 1.0, 5.0)
"""Seconds until it is started anew: the first time, the second, and from then on."""
STABLE = 60.0
"""Seconds after which an end counts as the first again."""
LOOK = 0.02
"""Seconds between looks whether it has ended."""
PATIENCE = 2.0
"""Seconds that it has to end by itself."""


class Child:
    """All calls are the engine's thread's, but `start` before there is one."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        command: Sequence[str],
        decoder: Decoder,
        encode: Callable[[Any], bytes],
        heard: Callable[[Any], None],
        ended: Callable[[str], None],
        failed: Callable[[OSError], None],
        wanted: Callable[[], bool],
        most_waiting: int = MOST_WAITING,
    ) -> None:
        """`command` is followed by the number of its end of the channel, and of this process.

        `ended` takes how it ended, as the rest of a sentence, before it is started anew; `failed` why it can't be,
        once: that is tried again.
        """
        self._loop = loop
        self._command = command
        self._decoder = decoder
        self._encode = encode
        self._heard = heard
        self._told_end = ended
        self._failed = failed
        self._wanted = wanted
        self._most_waiting = most_waiting
        self._process: subprocess.Popen[bytes] | None = None
        self._over = threading.Event()
        self._ours: socket.socket | None = None
        self._channel: Channel | None = None
        self._restart: asyncio.TimerHandle | None = None
        self._ends = 0
        self._failing = False
        self._started = 0.0
        self._closing = False

    @property
    def is_there(self) -> bool:
        """Whether it is listened to."""
        return self._channel is not None

    @property
    def pid(self) -> int:
        """The process's number; 0 if there is none."""
        return self._process.pid if self._process is not None else 0

    @property
    def made_room(self) -> int:
        """See `Channel.made_room`."""
        return self._channel.made_room if self._channel is not None else 0

    def start(self) -> None:
        """Start the process; it waits until it is listened to. Does nothing where it is there. Raises OSError."""
        if self._process is not None:
            return
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        over = threading.Event()
        begun = SimpleQueue[subprocess.Popen[bytes] | BaseException]()
        process: subprocess.Popen[bytes] | BaseException
        with theirs:
            try:
                threading.Thread(target=self._keep, args=(theirs.fileno(), begun, over), daemon=True).start()
                process = begun.get()
            except RuntimeError:  # so many threads and processes as there may be
                process = OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        if isinstance(process, BaseException):
            ours.close()
            raise process
        self._process, self._over, self._ours = process, over, ours

    def _keep(
        self, theirs: int, begun: SimpleQueue[subprocess.Popen[bytes] | BaseException], over: threading.Event
    ) -> None:
        """Start the process, and kill it when it is over: with the right to, where that is ours still. It may run as
        another user, and the engine gives that right up."""
        signal.pthread_sigmask(signal.SIG_SETMASK, ())  # which it inherits
        try:
            process = subprocess.Popen(
                [*self._command, str(theirs), str(os.getpid())],
                pass_fds=[theirs],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        except BaseException as error:  # raised where the process was asked for
            begun.put(error)
            return
        signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
        keep_right_to_kill()
        begun.put(process)
        over.wait()
        with suppress(PermissionError):
            process.kill()

    def open(self) -> None:
        """Begin to listen to it, where it is wanted and that hasn't begun: the engine's loop runs."""
        if self._channel is None and self._restart is None:
            self._begin()

    def send(self, message: msgspec.Struct, *descriptors: int) -> None:
        """See `Channel.send`; nothing while it isn't there."""
        if self._channel is not None:
            self._channel.send(message, *descriptors)
        else:
            for descriptor in descriptors:
                os.close(descriptor)

    def close(self) -> None:
        """End it. A second call does nothing."""
        self._closing = True
        if self._restart is not None:
            self._restart.cancel()
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self._ours is not None:
            self._ours.close()
            self._ours = None
        if self._process is not None:  # it ends with its channel, or is killed
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(PATIENCE)
            self._over.set()
            self._process = None

    def give_up(self) -> bool:
        """Have another one in place of that which is there; whether there is one."""
        if self._channel is None:
            return False
        self._channel.close()
        self._ended()
        return True

    def _begin(self) -> None:
        self._restart = None
        if not self._wanted() or self._closing:
            return
        try:
            self.start()
        except OSError as error:
            if not self._failing:
                self._failed(error)
            self._failing = True
            self._restart = self._loop.call_later(AGAIN[-1], self._begin)
            return
        self._failing = False
        assert self._ours is not None
        self._started = self._loop.time()
        ours, self._ours = self._ours, None
        self._channel = Channel(
            self._loop, ours, self._decoder, self._heard, self._ended, self._encode, self._most_waiting
        )

    def _ended(self) -> None:
        """It is gone, or is to go: it says what makes no sense, or takes in nothing."""
        self._channel = None
        if self._process is not None:
            self._over.set()
            self._see_ended(self._process, self._loop.time() + PATIENCE)

    def _see_ended(self, process: subprocess.Popen[bytes], until: float) -> None:
        """Once it has ended, tell so, and have it started again; nor is one waited for that was broken into."""
        code = process.poll()
        if code is None and self._loop.time() < until:
            self._restart = self._loop.call_later(LOOK, self._see_ended, process, until)
            return
        self._process = None
        now = self._loop.time()
        self._ends = 1 if now - self._started > STABLE else self._ends + 1
        wait = AGAIN[min(self._ends, len(AGAIN)) - 1]
        if code is None:
            self._told_end(f"(process {process.pid}) doesn't end, and is heard no more")
        else:
            self._told_end(f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}")
        self._restart = self._loop.call_later(wait, self._begin)
