"""The file of every event."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from engine.api.engine import EngineApi
from engine.api.values import Severity
from engine.record.events import EventLog
from souppp_tui.app.eventfile import EventFile


class Keeping:
    """An engine that keeps the latest three events."""

    def __init__(self) -> None:
        self.log = EventLog(3)
        self.events_since = self.log.since

    def tell(self, *texts: str) -> None:
        for text in texts:
            self.log.add(0.0, Severity.INFO, "k", text)


def test_every_event_stands_in_it_once_and_what_could_not_be_had_is_told(tmp_path: Path) -> None:
    engine = Keeping()
    file = EventFile(tmp_path / "log", cast(EngineApi, engine))
    engine.tell("one", "two")
    file.write()
    file.write()
    engine.tell("three", "four", "five", "six", "seven")
    file.write()
    lines = [line.rpartition("  ")[2] for line in (tmp_path / "log").read_text().splitlines()]
    assert lines == ["one", "two", "(2 events before this are missing: they came too fast)", "five", "six", "seven"]
