"""The engine's end of the health checks (`engine.proxy.health`): starts their process, orders, hears.

It is started when there is something to check, in a thread, as starting a process takes its time; and again if it ends.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress

import msgspec

from engine.proxy.checks import Check, Finding, Order
from engine.supervisor.health import Target

COMMAND = (sys.executable, "-P", "-m", "engine.proxy.health")
AGAIN = 5.0
"""Seconds until it is started again."""


class HealthChecks:
    """For the loop's thread."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        targets: Callable[[], Mapping[int, Target]],
        found: Callable[[Finding], None],
        ended: Callable[[str], None],
    ) -> None:
        """`targets` are all that there are; `found` takes what came of a check, `ended` why the process had to end."""
        self._loop = loop
        self._targets = targets
        self._found = found
        self._ended = ended
        self._process: subprocess.Popen[bytes] | None = None
        self._ours: socket.socket | None = None
        self._starting = self._closed = False
        self._unsent: dict[int, Target | None] = {}

    def order(self, orders: dict[int, Target | None]) -> None:
        """Have these checked from now on, and those no more that are None; what is here is taken out."""
        if not orders and not self._unsent:
            return
        self._unsent |= orders
        orders.clear()
        if self._ours is not None:
            self._send()
        elif not self._starting and any(self._unsent.values()):
            self._start()

    def close(self) -> None:
        """Let the process end."""
        self._closed = True
        self._drop()

    def _start(self) -> None:
        self._starting = True
        threading.Thread(target=self._launch, name="souppp-health", daemon=True).start()

    def _launch(self) -> None:
        """In a thread."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            process = subprocess.Popen(
                COMMAND,
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            ours.close()
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._failed, error.strerror or str(error))
            return
        finally:
            theirs.close()
        try:
            self._loop.call_soon_threadsafe(self._started, process, ours)
        except RuntimeError:  # the loop has ended
            ours.close()
            process.wait()

    def _failed(self, why: str) -> None:
        self._starting = False
        self._ended(f"can't be started ({why})")
        self._retry()

    def _started(self, process: subprocess.Popen[bytes], ours: socket.socket) -> None:
        self._starting, self._process, self._ours = False, process, ours
        ours.setblocking(False)
        if self._closed:
            self._drop()
            return
        self._loop.add_reader(ours, self._read)
        self._unsent = {**self._targets()}
        self._send()

    def _read(self) -> None:
        assert self._ours is not None
        while True:
            try:
                octets = self._ours.recv(65536)
            except BlockingIOError:
                return
            except OSError:
                octets = b""
            if not octets:
                self._drop()
                self._ended("has ended, and is started again")
                self._retry()
                return
            self._found(msgspec.msgpack.decode(octets, type=Finding))

    def _retry(self) -> None:
        self._unsent = {**self._targets()}
        self._loop.call_later(AGAIN, self.order, {})

    def _drop(self) -> None:
        if self._ours is not None:
            self._loop.remove_reader(self._ours)
            self._ours.close()
            self._ours = None
        process, self._process = self._process, None
        if process is not None:
            threading.Thread(target=_bury, args=(process,), name="souppp-health", daemon=True).start()

    def _send(self) -> None:
        """Tell it what it doesn't know, as far as it takes that now; the rest goes with the next."""
        assert self._ours is not None
        for key in [*self._unsent]:
            target = self._unsent[key]
            check = _check(key, target) if target is not None else None
            try:
                self._ours.send(msgspec.msgpack.encode(Order(key, check)))
            except BlockingIOError:
                return
            except OSError:  # it has ended, which the reader hears
                return
            del self._unsent[key]


def _check(key: int, target: Target) -> Check | None:
    """None where the device is gone already: then there is another target soon."""
    try:
        index = socket.if_nametoindex(target.device)
    except OSError:
        return None
    of = target
    return Check(of.name, of.device, index, of.ipv4, of.ipv6, of.dns, of.serial, of.url, of.every)


def _bury(process: subprocess.Popen[bytes]) -> None:
    """Wait for it, but not for ever."""
    try:
        process.wait(5.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
