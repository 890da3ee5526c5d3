"""The wish that the program ends, by whomever it comes."""

from __future__ import annotations

import os
import select
import signal
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Leaving:
    """Set once; whoever waits for it wakes.

    It is a descriptor, because a signal's handler must take no lock that what it interrupts may hold, and because
    an event loop can watch it.
    """

    def __init__(self) -> None:
        self._process = os.getpid()
        self._descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def heed_signals(self) -> None:
        """From now on SIGINT, SIGTERM and SIGHUP set it, until the program's end."""
        for number in SIGNALS:
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() == self._process:
            self.set()
        else:  # a child that was forked, as libraries do, has our handler, and the descriptor is ours too
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    def adopt(self) -> None:
        """In a child that was forked: from now on its signals set it too, as its parent's do, and either sees it."""
        self._process = os.getpid()

    def set(self) -> None:
        """Wish it."""
        os.eventfd_write(self._descriptor, 1)

    def is_set(self) -> bool:
        """Whether it is wished."""
        return self.wait(0.0)

    def wait(self, seconds: float) -> bool:
        """The same after waiting for it, but no longer than this."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def fileno(self) -> int:
        """A descriptor that can be read from once it is set; not to be read from."""
        return self._descriptor
