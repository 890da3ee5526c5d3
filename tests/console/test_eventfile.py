"""The file of every event."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import cast

import pytest

from engine.api.engine import EngineApi
from engine.api.values import Severity
from engine.record.events import EventLog
from souppp_tui.app.eventfile import EventFile
from tests.program import until

WHEN = "They are when that works again."


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


def test_a_new_one_is_for_its_owner_alone_and_an_old_one_stays_as_it_is(tmp_path: Path) -> None:
    engine = Keeping()
    engine.tell("one")
    EventFile(tmp_path / "new", cast(EngineApi, engine)).write()
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o600
    (tmp_path / "old").touch()
    (tmp_path / "old").chmod(0o640)
    EventFile(tmp_path / "old", cast(EngineApi, engine)).write()
    assert stat.S_IMODE((tmp_path / "old").stat().st_mode) == 0o640


@pytest.mark.parametrize("what", ["link", "fifo"])
def test_a_link_is_not_followed_and_a_fifo_holds_nobody_up(tmp_path: Path, what: str) -> None:
    engine = Keeping()
    engine.tell("one")
    if what == "link":
        (tmp_path / "log").symlink_to(tmp_path / "elsewhere")
    else:
        os.mkfifo(tmp_path / "log")
    told = EventFile(tmp_path / "log", cast(EngineApi, engine)).write()
    assert "symbolic links" in told or "No such device" in told
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_that_works_again_has_each_line_once_and_whole(tmp_path: Path) -> None:
    """The reader of a fifo takes as much as it likes, so that a line is written in part."""
    engine, path = Keeping(), tmp_path / "log"
    file = EventFile(path, cast(EngineApi, engine))
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    engine.tell("one", "x" * 100_000, "three")
    assert file.write() == f"Events can't be written to {path}: Resource temporarily unavailable. {WHEN}"
    engine.tell("four", "five", "six", "seven")
    said = b""

    def all_there() -> bool:
        nonlocal said
        assert file.write(at_once=True) in ("", f"Events are written to {path} again.")
        with suppress(BlockingIOError):
            said += os.read(reader, 1 << 20)
        return b"seven" in said

    assert file.write() == "", "not tried again at once, nor told again"
    until(all_there, "the rest")
    os.close(reader)
    lines = [line.rpartition("  ")[2] for line in said.decode().splitlines()]
    missing = "(2 events before this are missing: they could not be written in time)"
    assert lines == ["one", "x" * 100_000, missing, "five", "six", "seven"]
    assert not file.failing
