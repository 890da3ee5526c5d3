"""Deletes devices in a thread of its own: the kernel takes 20 ms and more each time."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from engine.egress.requests import delete_doomed, doom, uint32
from engine.host.rtnl import Rtnl


class Doomed(Protocol):
    """A device that is to go."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def fd(self) -> int:
        """The descriptor to be closed when it has gone."""

    @property
    def index(self) -> int:
        """Its interface index."""

    @property
    def close(self) -> Callable[[int], None]:
        """What closes the descriptor."""


class Undertaker:
    """Deletes devices in the background, all that have come together at once.

    The kernel waits for its own readers after each deletion: 20 ms and more for one device, and 0.5 ms for each one
    more in the same request. Requests of other threads wait as well, so no more than BURIAL go together.
    """

    BURIAL = 64

    def __init__(self, gone: Callable[[int], None]) -> None:
        """`gone` is called with the index of each device that is, in the undertaker's thread."""
        self._gone = gone
        self._rtnl = Rtnl()
        self._waiting: dict[str, Doomed] = {}
        self._changed = threading.Condition()
        self._closing = False
        self._at_work = False
        self._deaths: list[str] = []
        self._see_to_it()

    def take(self, device: Doomed) -> None:
        """Delete this device soon."""
        with self._changed:
            self._waiting[device.name] = device
            self._see_to_it()
            self._changed.notify_all()

    def has(self, name: str) -> bool:
        """Whether a device of this name waits to be deleted."""
        with self._changed:
            return name in self._waiting

    def wait_for(self, name: str) -> None:
        """Return when no device of this name waits to be deleted."""
        with self._changed:
            while name in self._waiting:
                self._see_to_it()
                self._changed.wait()

    def deaths(self) -> list[str]:
        """What the thread has died of since the last call; another one is at work by now."""
        with self._changed:
            self._see_to_it()
            deaths, self._deaths = self._deaths, []
            return deaths

    def close(self) -> None:
        """Return when all are deleted."""
        with self._changed:
            self._see_to_it()
            self._closing = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._at_work)
        self._thread.join()
        self._rtnl.close()

    def _see_to_it(self) -> None:
        """Have a thread at work. To be called with the lock held."""
        if not self._at_work:
            self._at_work = True
            self._thread = threading.Thread(target=self._work, name="souppp-undertaker", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        try:
            self._run()
        except BaseException as error:
            # Nobody would hear of it otherwise, and whoever waits would wait for ever.
            self._deaths.append(f"{type(error).__name__}: {error}")
        finally:
            with self._changed:
                self._at_work = False
                self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                devices = list(self._waiting.values())[: self.BURIAL]
            if not devices:
                return
            try:
                self._bury(devices)
            finally:  # what it dies of must not kill the next one too
                with self._changed:
                    for device in devices:
                        del self._waiting[device.name]
                    self._changed.notify_all()

    def _bury(self, devices: list[Doomed]) -> None:
        # Without an index it goes with its descriptor, as all do that can't be deleted.
        with suppress(OSError):
            known = [doom(uint32(device.index)) for device in devices if device.index]
            self._rtnl.do([*known, delete_doomed], (errno.ENODEV,))
        for device in devices:
            with suppress(OSError):  # who waits for others must not wait for ever
                device.close(device.fd)
            self._gone(device.index)
