"""Every event in a file, whatever the display shows; where some could not be had, the file says so."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

from engine.api.engine import EngineApi
from engine.api.plural import plural
from engine.api.values import Event
from souppp_tui.show import words
from souppp_tui.terminal.outlet import AGAIN


class EventFile:
    """Appends an engine's events to a file, a line each."""

    def __init__(self, path: Path, engine: EngineApi) -> None:
        self.path = path
        self.failing = False
        """Whether it could not be written when that was last tried."""
        self._engine = engine
        self._seq = 0
        """The number of the latest event whose line was begun."""
        self._rest = b""
        """What is still to be written of that line."""
        self._again_at = 0.0

    def open(self) -> int:
        """The file, to append to: for its owner alone where it is new, never what a link leads to. Raises OSError."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        return os.open(self.path, flags, 0o600)

    def write(self, *, at_once: bool = False) -> str:
        """Append what is new; returns a sentence for the operator when that fails, and when it works again.

        What could not be written is tried again every second, or `at_once`, as far as the engine still has it.
        """
        if self.failing and not at_once and time.monotonic() < self._again_at:
            return ""
        events, lost = self._engine.events_since(self._seq)
        if not (events or self._rest):
            return ""
        try:
            descriptor = self.open()
            try:
                self._append(descriptor, events, lost)
            finally:
                os.close(descriptor)
        except OSError as error:
            self._again_at = time.monotonic() + AGAIN
            failed_before, self.failing = self.failing, True
            text = f"Events can't be written to {self.path}: {error.strerror}. They are when that works again."
            return "" if failed_before else text
        failed, self.failing = self.failing, False
        return f"Events are written to {self.path} again." if failed else ""

    def _append(self, descriptor: int, events: Iterable[Event], lost: int) -> None:
        """Line by line, so that none stands there twice or in part if it fails in between. Raises OSError."""
        self._go_on(descriptor)
        for event in events:
            if lost:  # the engine keeps the latest only, and we may have been held up
                why = "they could not be written in time" if self.failing else "they came too fast"
                self._rest = f"({plural(lost, 'event')} before this are missing: {why})\n".encode()
                self._seq, lost = event.seq - 1, 0
                self._go_on(descriptor)
            self._rest, self._seq = f"{words.event_line(event)}\n".encode(), event.seq
            self._go_on(descriptor)

    def _go_on(self, descriptor: int) -> None:
        while self._rest:
            self._rest = self._rest[os.write(descriptor, self._rest) :]
