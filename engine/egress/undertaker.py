"""Deletes devices in a thread of its own: the kernel takes 20 ms and more each time.

With IPv6 the kernel reads all routes of all tables several times for each device that goes. To delete a route it reads
nothing. So the routes through all that wait go first, and what is read then is nearly empty.

At the end of a run those with IPv6 are gathered before the first is deleted, and then all that the kernel would read
goes in one go. Otherwise those that come late are deleted among the routes of those that come later still. With IPv4
alone nothing is read for a device that has no route left: each goes as it comes, while other sessions still end.
"""

from __future__ import annotations

import errno
import math
import threading
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import Protocol

from engine.egress.requests import delete_doomed, doom, join_doomed, uint32
from engine.host.rtnl import Rtnl, RtnlError

_GONE = (errno.ESRCH, errno.ENODEV, errno.EAFNOSUPPORT, errno.EOPNOTSUPP)


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
    def close(self) -> Callable[[int, bool], None]:
        """What closes the descriptor; it is told whether the kernel has deleted the device."""

    @property
    def routes(self) -> Sequence[bytes]:
        """Requests that delete the routes through it."""


class Undertaker:
    """Deletes devices in the background, all that have come together at once.

    The kernel waits for its own readers after each deletion: 20 ms and more for one device, and 0.5 ms for each one
    more in the same request. Requests of other threads wait as well, so no more than BURIAL go together.
    """

    BURIAL, LAST_BURIAL = 64, 256
    """Devices to a request; and when nothing is left for the kernel to read, nor anybody here who would wait."""
    PAUSE, PATIENCE = 0.1, 10.0
    """Seconds: for so long none must have come before the first is deleted, but it waits no longer than that."""

    def __init__(self, gone: Callable[[int], None]) -> None:
        """`gone` is called with the index of each device that is, in the undertaker's thread."""
        self._gone = gone
        self._rtnl = Rtnl()
        self._waiting: dict[str, Doomed] = {}
        self._unread: list[Doomed] = []
        """Those of them whose routes are still there."""
        self._hurried = 0
        """So many wait for a name."""
        self._changed = threading.Condition()
        self._least = 1.0
        """So many have to wait before any goes."""
        self._hastening = self._closing = False
        self._clear: Callable[[Rtnl, Collection[int]], None] | None = None
        """Does all that is to be done before those go that wait."""
        self._clearing = self._cleared = False
        self._at_work = False
        self._deaths: list[str] = []
        self._see_to_it()

    @property
    def port(self) -> int:
        """What others' notifications of what it deletes name it by."""
        return self._rtnl.port

    def take(self, device: Doomed) -> None:
        """Delete this device soon."""
        with self._changed:
            self._waiting[device.name] = device
            self._unread.append(device)
            self._see_to_it()
            self._changed.notify_all()

    def gather(self) -> None:
        """Keep all that come from now on until `release`, or until somebody waits for a name."""
        with self._changed:
            self._least = math.inf

    def hasten(self) -> None:
        """Delete those that come from now on as soon as they are enough for a request: nobody has routes of IPv6."""
        with self._changed:
            self._least, self._hastening = self.LAST_BURIAL, True

    def release(self, clear: Callable[[Rtnl, Collection[int]], None] | None) -> None:
        """All have come: delete those that wait, when `clear` has taken away what the kernel reads for each of them.

        It is called in the undertaker's thread, with a socket and the devices' indexes. If it raises OSError, or there
        is none, the routes through the devices go one by one.
        """
        with self._changed:
            self._least, self._clear, self._clearing = 1, clear, clear is not None
            self._see_to_it()
            self._changed.notify_all()

    def has(self, name: str) -> bool:
        """Whether a device of this name waits to be deleted."""
        with self._changed:
            return name in self._waiting

    @property
    def crowded(self) -> bool:
        """Whether more devices wait to be deleted than go together."""
        with self._changed:
            return len(self._waiting) > self.BURIAL

    @property
    def busy(self) -> bool:
        """Whether any device waits to be deleted, or what was to be done before."""
        with self._changed:
            self._see_to_it()
            return bool(self._waiting) or self._clearing

    def wait_for(self, name: str) -> None:
        """Return when no device of this name waits to be deleted."""
        with self._changed:
            self._hurried += 1
            try:
                while name in self._waiting:
                    self._see_to_it()
                    self._changed.notify_all()
                    self._changed.wait()
            finally:
                self._hurried -= 1

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
                self._changed.wait_for(self._is_due)
            self._take_all_away()
            self._take_routes_away()
            with self._changed:
                devices = list(self._waiting.values())[: self.LAST_BURIAL if self._ending else self.BURIAL]
                if not devices and self._closing:
                    return
            if not devices:
                continue
            try:
                self._bury(devices)
            finally:  # what it dies of must not kill the next one too
                with self._changed:
                    for device in devices:
                        del self._waiting[device.name]
                    self._changed.notify_all()

    def _is_due(self) -> bool:
        waits = bool(self._waiting) and (self._hurried > 0 or len(self._waiting) >= self._least)
        return self._closing or self._clearing or waits

    @property
    def _ending(self) -> bool:
        """Whether the kernel reads nothing for those that go now, and the run is at its end."""
        return self._cleared or self._hastening

    def _take_all_away(self) -> None:
        """At the end of a run."""
        with self._changed:
            clear, self._clear = self._clear, None
            indexes = {device.index for device in self._waiting.values()} - {0}
        try:
            if clear is not None:
                with suppress(OSError):  # then it takes longer
                    clear(self._rtnl, indexes)
                    self._cleared = True
                    with self._changed:
                        self._unread = [device for device in self._unread if device.index not in indexes]
        finally:
            self._clearing = False

    def _take_routes_away(self) -> None:
        """Of all that wait, and of those that come right behind them."""
        until = time.monotonic() + self.PATIENCE
        while True:
            with self._changed:
                devices, self._unread = self._unread, []
            if not devices:
                return
            with suppress(OSError):  # then it takes longer
                self._rtnl.do([each for device in devices for each in device.routes], _GONE)
            if self._hastening:
                return
            with self._changed:
                left = min(self.PAUSE, until - time.monotonic())
                self._changed.wait_for(lambda: self._unread or self._closing or self._hurried, max(left, 0))

    def _bury(self, devices: list[Doomed]) -> None:
        # Without an index it goes with its descriptor, as all do that can't be deleted.
        mark, known = join_doomed if self._ending else doom, [device.index for device in devices if device.index]
        deleted = False
        with suppress(OSError):
            found = True
            try:
                self._rtnl.do([mark(uint32(index)) for index in known])
            except RtnlError as error:
                if error.errno != errno.ENODEV:
                    raise
                found = False  # one of them is in another namespace, or gone: which, is not told
            self._rtnl.do([delete_doomed])
            deleted = found
        for device in devices:
            with suppress(OSError):  # who waits for others must not wait for ever
                device.close(device.fd, deleted and device.index > 0)
            self._gone(device.index)
