"""`--until-up` ends when all are up, also where the engine's events can be read a moment before its views.

Whatever happens until the engine has stopped is printed, and a reader that goes away wishes the end.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import pytest
from msgspec.structs import replace

from engine.api.values import Changes, Event, SessionState, SessionView, Severity
from souppp_tui.commands import errors, headless
from souppp_tui.commands.headless import EngineHere, HeadlessOptions
from souppp_tui.terminal.leaving import Leaving
from tests.disks import full
from tests.program import until


class Engine:
    """One session that is up, whose view says so from a certain look on."""

    def __init__(self, looks: int) -> None:
        self._looks = looks
        self._events = [Event(1, 0.0, Severity.INFO, "ipv4-up", "Up.", 0, "one")]

    def events_since(self, seq: int) -> tuple[Sequence[Event], int]:
        return self._events[seq:], 0

    def add(self, text: str, kind: str = "ipv4-up") -> None:
        self._events.append(Event(self._events[-1].seq + 1, 1.0, Severity.INFO, kind, text, 0, "one"))

    def stop(self) -> None:
        self.add("Hung up by you.", "session-down")

    def changes_since(self, version: int) -> Changes:
        self._looks -= 1
        state = SessionState.GETTING_ADDRESS if self._looks > 0 else SessionState.UP
        session = SessionView(0, "one", "alice", "", True, state, 0.0, ipv4="100.64.0.2")
        return Changes(version + 1, (session,))


def printed(capfd: pytest.CaptureFixture[str], engine: Engine, options: HeadlessOptions) -> list[dict[str, object]]:
    leaving = Leaving()
    if not options.until_up:
        leaving.set()
    assert headless.run(cast(EngineHere, engine), options, leaving, engine.stop) == 0
    return [json.loads(line) for line in capfd.readouterr().out.splitlines()]


@pytest.mark.parametrize("looks", [1, 2, 5])
def test_views_that_come_after_their_events(looks: int, capfd: pytest.CaptureFixture[str]) -> None:
    up, session, _ = printed(capfd, Engine(looks), HeadlessOptions(until_up=True, timeout=20.0))
    assert up["event"] == "ipv4-up"
    assert session["state"] == "up"


def test_a_session_without_ipv4_is_not_up(capfd: pytest.CaptureFixture[str]) -> None:
    class WithoutIpv4(Engine):
        def changes_since(self, version: int) -> Changes:
            known = super().changes_since(version)
            (view,) = known.views
            return replace(known, views=(replace(view, ipv4=None, reason="without IPv4: refused"),))

    engine = WithoutIpv4(1)
    options = HeadlessOptions(until_up=True, timeout=0.1)
    assert headless.run(cast(EngineHere, engine), options, Leaving(), engine.stop) == errors.EXIT_NOT_DONE
    session = next(each for each in map(json.loads, capfd.readouterr().out.splitlines()) if "ipv4" in each)
    assert (session["state"], session["ipv4"], session["error"]) == ("up", None, "without IPv4: refused")


@pytest.mark.parametrize("until_up", [False, True])
def test_the_farewell_is_printed(until_up: bool, capfd: pytest.CaptureFixture[str]) -> None:
    *_, last = printed(capfd, Engine(1), HeadlessOptions(until_up=until_up))
    assert (last["event"], last["session"]) == ("session-down", "one")


def test_a_reader_that_goes_when_all_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left to be written that would tell."""
    reader, writer = os.pipe()
    leaving, too_late = Leaving(), threading.Event()

    def read_and_go() -> None:
        assert os.read(reader, 4096).endswith(b"}\n")
        os.close(reader)

    def give_up() -> None:
        too_late.set()
        leaving.set()

    monkeypatch.setattr(headless, "STDOUT", writer)
    threading.Thread(target=read_and_go).start()
    deadline = threading.Timer(20.0, give_up)
    deadline.start()
    engine = Engine(1)
    code = headless.run(cast(EngineHere, engine), HeadlessOptions(), leaving, engine.stop)
    deadline.cancel()
    os.close(writer)
    assert not too_late.is_set()
    assert code == errors.EXIT_NOT_DONE


class Forgetful(Engine):
    """It keeps the latest event alone."""

    read = 0
    """The number of the latest event that anybody has had."""

    def events_since(self, seq: int) -> tuple[Sequence[Event], int]:
        last = self._events[-1]
        self.read = last.seq
        return ([last], last.seq - seq - 1) if last.seq > seq else ([], 0)


def test_events_that_nobody_read_in_time_are_counted(capfd: pytest.CaptureFixture[str]) -> None:
    engine = Forgetful(1)
    engine._events.append(Event(7, 1.0, Severity.INFO, "ipv4-up", "Up again.", 0, "one"))
    lost, *_ = printed(capfd, engine, HeadlessOptions(until_up=True))
    assert (lost["event"], lost["severity"], lost["session"]) == ("lost", "warning", None)
    assert lost["text"] == "The 6 events before this are missing: nobody read them in time."


def test_events_stand_in_a_file_too(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    printed(capfd, Engine(1), HeadlessOptions(until_up=True, event_file=tmp_path / "log"))
    assert [line.split("  ")[-1] for line in (tmp_path / "log").read_text().splitlines()] == ["Up.", "Hung up by you."]


def test_a_file_that_fails_is_told_once_and_costs_nothing_else(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    said = printed(capfd, Engine(1), HeadlessOptions(until_up=True, event_file=tmp_path / "nowhere" / "log"))
    (told,) = [each for each in said if each.get("event") == "event-log"]
    assert told["text"].startswith(f"Events can't be written to {tmp_path}/nowhere/log: No such file or directory.")
    assert said[-1]["event"] == "session-down"


def test_a_file_that_works_again_has_all_events(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    engine = Engine(1)
    with full(tmp_path / "log") as make_room:
        stop = engine.stop

        def stop_with_room() -> None:
            make_room()
            stop()

        engine.stop = stop_with_room  # type: ignore[method-assign]
        said = printed(capfd, engine, HeadlessOptions(until_up=True, event_file=tmp_path / "log"))
    texts = [each["text"] for each in said if each.get("event") == "event-log"]
    assert texts == [
        f"Events can't be written to {tmp_path}/log: File too large. They are when that works again.",
        f"Events are written to {tmp_path}/log again.",
    ]
    assert [line.split("  ")[-1] for line in (tmp_path / "log").read_text().splitlines()] == ["Up.", "Hung up by you."]


@pytest.fixture
def output(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Standard output in a file."""
    path = tmp_path / "output"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    monkeypatch.setattr(headless, "STDOUT", descriptor)
    yield path
    os.close(descriptor)


def run_in_background(engine: Engine) -> tuple[threading.Thread, Leaving, list[int]]:
    """Until the `Leaving` is set; then its exit code is in the list."""
    leaving, codes = Leaving(), []
    options = HeadlessOptions()
    thread = threading.Thread(
        target=lambda: codes.append(headless.run(cast(EngineHere, engine), options, leaving, engine.stop))
    )
    thread.start()
    return thread, leaving, codes


def test_an_output_that_works_again_goes_on_and_says_how_many_are_missing(
    capfd: pytest.CaptureFixture[str], output: Path
) -> None:
    """The engine keeps the latest event alone; what waits to be written when it fails is not lost."""
    engine = Forgetful(1)
    with full(output) as make_room:
        thread, leaving, codes = run_in_background(engine)
        complaints = ""

        def complained(what: str) -> bool:
            nonlocal complaints
            complaints += capfd.readouterr().err
            return what in complaints

        until(lambda: complained("File too large"), "the complaint")
        engine.add("x" * headless.LAG)
        until(lambda: engine.read == 2, "as much on its way as may be")
        for _ in range(4):
            engine.add("Up once more.")
        make_room()
        until(lambda: complained("can be written again"), "the other one")
        until(lambda: '"lost"' in output.read_text(), "what is missing")
        leaving.set()
        thread.join()
    assert codes == [errors.EXIT_OK]
    said = [json.loads(line) for line in output.read_text().splitlines()]
    lost = next(number for number, each in enumerate(said) if each["event"] == "lost")
    assert said[lost]["text"] == "The 3 events before this are missing: they could not be written in time."
    assert [each["event"] for each in said] == ["ipv4-up", "ipv4-up", "lost", "ipv4-up", "session-down"]


def test_an_output_that_is_full_to_the_end_holds_nobody_up(capfd: pytest.CaptureFixture[str], output: Path) -> None:
    with full(output):
        thread, leaving, codes = run_in_background(Engine(1))
        leaving.set()
        thread.join()
    assert codes == [errors.EXIT_NOT_DONE]
    assert capfd.readouterr().err.count("\n") == 1
