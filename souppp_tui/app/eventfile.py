"""Every event in a file, whatever the display shows; where some could not be had, the file says so."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO

from engine.api.engine import EngineApi
from souppp_tui.show import words


class EventFile:
    """Appends an engine's events to a file, a line each."""

    def __init__(self, path: Path, engine: EngineApi) -> None:
        self.path = path
        self._engine = engine
        self._seq = 0
        """The number of the latest event written."""

    def open(self) -> IO[str]:
        """The file, to append to: for its owner alone where it is new, never what a link leads to. Raises OSError."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        return os.fdopen(os.open(self.path, flags, 0o600), "a", encoding="utf-8")

    def write(self) -> None:
        """Append what is new. Raises OSError."""
        events, lost = self._engine.events_since(self._seq)
        if events:
            with self.open() as file:
                if lost:  # the engine keeps the latest only, and we may have been held up
                    file.write(f"({words.plural(lost, 'event')} before this are missing: they came too fast)\n")
                file.writelines(f"{words.event_line(event)}\n" for event in events)
            self._seq = events[-1].seq
