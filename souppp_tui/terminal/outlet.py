"""Output that nobody waits for: whoever reads it may be slow, stop reading or go away."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable


class Outlet:
    """Writes to a pipe, file or terminal from a thread of its own.

    The thread holds no lock of Python's own streams, so that a write that never returns doesn't keep the program from
    ending.
    """

    def __init__(self, descriptor: int, taken: Callable[[], None] = lambda: None) -> None:
        """`taken` is called from the thread when all was taken, and when the output failed."""
        self.failure: OSError | None = None
        """Why nothing more can be written; what is written from then on is thrown away."""
        self._descriptor = descriptor
        self._taken = taken
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
            if self.failure is None:
                self._pending += octets
                self._changed.notify_all()

    def finish(self, seconds: float) -> bool:
        """Wait until all is taken, but no longer than this, and end the thread if it can; returns whether all was."""
        with self._changed:
            self._finished = True
            self._changed.notify_all()
            return self._changed.wait_for(lambda: not self._pending, seconds)

    def _run(self) -> None:
        while octets := self._next():
            try:
                taken = os.write(self._descriptor, octets)
            except OSError as error:
                self.failure = error
                taken = len(self._pending)
            with self._changed:
                self._pending = b"" if self.failure else self._pending[taken:]
                self._changed.notify_all()
            if not self._pending:
                self._taken()

    def _next(self) -> bytes:
        """What is to be written, as soon as there is something; nothing at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._pending or self._finished or self.failure)
            return self._pending
