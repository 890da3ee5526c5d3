"""Output that nobody waits for: whoever reads it may be slow, stop reading or go away."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable

AGAIN = 1.0
"""Seconds until an output that could not be written may be tried again: a disk may have room by then."""
HOPELESS = (errno.EPIPE, errno.EBADF)
"""Errors of an output that will never work again."""


class Outlet:
    """Writes to a pipe, file or terminal from a thread of its own.

    The thread holds no lock of Python's own streams, so that a write that never returns doesn't keep the program from
    ending.
    """

    def __init__(
        self, descriptor: int, taken: Callable[[], None] = lambda: None, *, again: float | None = None
    ) -> None:
        """`taken` is called from the thread when all was taken, and when the output failed for good.

        What fails is tried `again` after so many seconds, from the octet on that was not taken; None: never.
        """
        self.failure: OSError | None = None
        """Why nothing can be written, at present or for good; for good, what is written from then on is thrown away."""
        self._descriptor = descriptor
        self._taken = taken
        self._again = again
        self._given_up = False
        self._changed = threading.Condition()
        self._pending = b""
        self._finished = False
        threading.Thread(target=self._run, name="output", daemon=True).start()

    @property
    def waiting(self) -> int:
        """How many octets nobody has taken yet."""
        return len(self._pending)

    def write(self, octets: bytes) -> None:
        """Hand octets over; returns at once."""
        with self._changed:
            if not self._given_up:
                self._pending += octets
                self._changed.notify_all()

    def finish(self, seconds: float) -> bool:
        """Wait until all is taken, but no longer than this, and end the thread if it can; returns whether all was.

        What fails at the end is tried once more, and not waited for.
        """
        with self._changed:
            self._finished = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._pending or self._given_up, seconds)
            return not self._pending

    def _run(self) -> None:
        while octets := self._next():
            last = self._finished
            try:
                taken, self.failure = os.write(self._descriptor, octets), None
            except OSError as error:
                taken, self.failure = 0, error
            with self._changed:
                self._pending = self._pending[taken:]
                if self.failure is not None:
                    self._bear(self.failure, last)
                self._changed.notify_all()
            if not self._pending:
                self._taken()

    def _bear(self, failure: OSError, last: bool) -> None:
        """Wait until it is time to try again, or give up."""
        if last or self._again is None or failure.errno in HOPELESS:
            self._given_up, self._pending = True, b""
        else:
            self._changed.wait_for(lambda: self._finished, self._again)

    def _next(self) -> bytes:
        """What is to be written, as soon as there is something; nothing at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._pending or self._finished or self._given_up)
            return self._pending
