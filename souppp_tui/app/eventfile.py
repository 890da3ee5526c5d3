"""Every event in a file, whatever the display shows; where some could not be had, the file says so."""

from __future__ import annotations

from pathlib import Path

from engine.api.engine import EngineApi
from souppp_tui.show import eventlines, words


class EventFile:
    """Appends an engine's events to a file, a line each."""

    def __init__(self, path: Path, engine: EngineApi) -> None:
        self.path = path
        self._engine = engine
        self._seq = 0
        """The number of the latest event written."""

    def write(self) -> None:
        """Append what is new. Raises OSError."""
        events, lost = self._engine.events_since(self._seq)
        if events:
            with self.path.open("a", encoding="utf-8") as file:
                if lost:  # the engine keeps the latest only, and we may have been held up
                    file.write(f"({words.plural(lost, 'event')} before this are missing: they came too fast)\n")
                file.writelines(f"{eventlines.text(event)}\n" for event in events)
            self._seq = events[-1].seq
