"""A line that tells how far the end has come, where the console's screen was until a moment ago."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

from souppp_tui.terminal.driver import size_of

STDOUT = 1
PATIENCE, LOOK = 0.5, 0.2
"""Seconds until there is anything to tell, and from look to look."""
BAR = 20


class Farewell:
    """While it is entered, it tells how many sessions are `left` of those that there were, if that takes a while.

    Whoever ends them waits for no terminal: the line is written from a thread of its own. Nor does anything else here
    keep them from being ended, as after a fault of the console's own: then nothing is told.
    """

    def __init__(self, left: Callable[[], int], descriptor: int = STDOUT) -> None:
        self._left, self._descriptor = left, descriptor
        self._of, self._began = 0, time.monotonic()
        with suppress(Exception):
            self._of = left()
        self._over = threading.Event()
        self._told = False
        self._thread = threading.Thread(target=self._tell, name="farewell", daemon=True)

    def __enter__(self) -> None:
        if self._of and os.isatty(self._descriptor):
            self._thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(LOOK)

    def _tell(self) -> None:
        with suppress(Exception):
            self._go_on_telling()

    def _go_on_telling(self) -> None:
        wait = PATIENCE
        while not self._over.wait(wait):
            room = size_of(self._descriptor)[0] - 1  # a line that wraps is not written over by the next one
            self._write(f"\r{line(self._left(), self._of)[:room]}\x1b[K")
            self._told, wait = True, LOOK
        if self._told:
            self._write(f"\rHung up {_sessions(self._of)} in {time.monotonic() - self._began:.0f} s.\x1b[K\r\n")

    def _write(self, text: str) -> None:
        with suppress(OSError):  # nobody is there to read it any more
            os.write(self._descriptor, text.encode())


def line(left: int, of: int) -> str:
    """`Hanging up 2,000 sessions [#########-----------] 1,100 left`."""
    done = BAR * (of - min(left, of)) // of
    what = f"{left:,} left" if left else "done; giving back the card"
    return f"Hanging up {_sessions(of)} [{'#' * done}{'-' * (BAR - done)}] {what}"


def _sessions(number: int) -> str:
    return f"{number:,} session{'' if number == 1 else 's'}"
