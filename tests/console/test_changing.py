"""Many sessions changed at once, steps taken back, safe mode: with the real supervisor behind the real screen."""

from __future__ import annotations

from array import array
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from engine.api.commands import Command, Dial, HangUp, Reply, Request, Undo
from engine.api.messages import ClientView
from engine.api.values import COMMAND, CardView, Details, Event, Hour, Ledger, Severity, Snapshot, pack_traffic
from engine.record.events import EventLog
from engine.settings.reading import load
from engine.settings.values import SessionSettings
from engine.supervisor import dispatch
from souppp_tui.app.console import Console
from souppp_tui.commands.files import saver
from souppp_tui.desk.options import ConsoleOptions
from souppp_tui.screens.confirm import Confirm
from tests.console.conftest import Stage
from tests.unit.supervisor.world import World


class Behind:
    """`EngineApi` on a supervisor in virtual time."""

    lost = ""
    breaks = ()
    clients: Sequence[ClientView] = ()

    def __init__(self, world: World) -> None:
        self.world = world
        self.commands: list[Command] = []

    def submit(self, command: Command) -> Future[Reply]:
        self.commands.append(command)
        future = Future[Reply]()
        future.set_result(self.world.do(command))
        return future

    def advance(self, seconds: float) -> None:
        self.world.run(seconds)

    def snapshot(self) -> Snapshot:
        supervisor = self.world.supervisor
        return Snapshot(
            supervisor.wall(self.world.now),
            CardView("eth9", "02:00:00:00:00:01", 1500, True),
            (),
            supervisor.board.views,
            pack_traffic(array("Q", [0] * 4 * supervisor.board.keys)),
            supervisor.log.last,
            halted=supervisor.halted,
            steps=supervisor.undoing.shown,
        )

    def events_since(self, seq: int) -> tuple[Sequence[Event], int]:
        return self.world.supervisor.log.since(seq)

    def details(self, session: int) -> Details | None:
        return None

    def settings(self, session: int) -> SessionSettings | None:
        return self.world.supervisor.board.settings.get(session)

    def all_settings(self) -> Mapping[int, SessionSettings]:
        return self.world.supervisor.board.settings.copy()

    def hours(self) -> Mapping[int, Hour]:
        return {}

    def ledgers(self, sessions: Sequence[int] | None = None) -> Mapping[int, Ledger]:
        return {}


FILE = """\
sessions:
  - name: "s{n}"     # all of one street
    service: gold
    user: me
    password: lab
    count: 4
    autodial: true
  - {name: own, mru: 1400, user: me, password: lab, autodial: true}   # mine
"""


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "eth9.yaml"
    path.write_text(FILE)
    path.chmod(0o600)
    yield path
    assert path.read_text().count("#") == 2, "comments stay"


@asynccontextmanager
async def _stage(file: Path, size: tuple[int, int] = (100, 30)) -> AsyncIterator[Stage]:
    engine = Behind(World(load(file).sessions).open())
    engine.advance(2.0)
    app = Console(engine, ConsoleOptions(theme="dark", save=saver(file), period=0))
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        yield Stage(app, engine, pilot)  # type: ignore[arg-type]


def _read(file: Path) -> dict[str, SessionSettings]:
    return {each.name: each for each in load(file).sessions}


async def test_only_what_is_typed_changes_after_a_look_at_it(file: Path) -> None:
    before = _read(file)
    async with _stage(file) as stage:
        await stage.press("space", "space", "G", "space", "E")
        assert "Edit 3 sessions" in stage.text()
        assert "several values" in stage.line("MRU")
        assert "gold" not in stage.line("service"), "one of them has none"
        await stage.press("down", "down", *"silver", "ctrl+s")
        assert isinstance(stage.app.screen, Confirm)
        assert "service 2 different values → silver" in stage.text()
        assert "Change 3 sessions: s1, s2 and own?" in stage.text()
        await stage.press("y")
        assert "Changed 3 sessions." in stage.text()
    after = _read(file)
    assert [each.service for each in after.values()] == ["silver", "silver", "gold", "gold", "silver"]
    assert after == {
        name: replace(each, service="silver") if name in ("s1", "s2", "own") else each for name, each in before.items()
    }
    assert "except: {1: {service: silver}, 2: {service: silver}}" in file.read_text()


async def test_what_is_wrong_is_said_and_nothing_changes_by_leaving(file: Path) -> None:
    async with _stage(file) as stage:
        await stage.press("asterisk", "E", *["down"] * 7, *"9000", "ctrl+s")
        assert "out of range" in stage.text()
        await stage.press("escape")
        await stage.press("E", "ctrl+s")
        assert stage.engine.commands == []


async def test_a_removal_is_taken_back_in_two_keys_and_in_the_file_too(file: Path) -> None:
    before = _read(file)
    async with _stage(file) as stage:
        await stage.press("space", "space", "D", "y")
        await stage.tick(4)
        assert [*_read(file)] == ["s3", "s4", "own"]
        await stage.press("u")
        assert "remove: 2 sessions" in stage.text()
        await stage.press("enter")
        assert "Taken back for 2 sessions." in stage.text()
        await stage.tick(6)
        assert {view.name: str(view.state) for view in stage.app.model.views.values()} == dict.fromkeys(before, "up")
        assert _read(file) == before
        await stage.press("u")
        assert "There is nothing to take back." in stage.text()


async def test_what_goes_with_a_step_can_be_read_at_80_columns(file: Path) -> None:
    async with _stage(file, (80, 24)) as stage:
        await stage.press("h", "y", "u")
        assert "Take back which? What was done after it, the lines above, goes too." in stage.text()


async def test_safe_mode_is_seen_and_taken_back_at_once(file: Path) -> None:
    before = _read(file)
    async with _stage(file, (80, 24)) as stage:
        await stage.press("h", "y", "colon", *"safe", "enter")
        await stage.tick()
        assert "safe mode" in stage.painted_on("chip")
        await stage.press("j", "D", "y", "j", "E", *["down"] * 3, *"x", "ctrl+s")
        await stage.tick(2)
        assert _read(file) != before
        await stage.press("q")
        assert ":unsafe" in stage.text()
        await stage.press("colon", *"unsafe!", "enter")
        await stage.tick(6)
        assert _read(file) == before
        states = {view.name: str(view.state) for view in stage.app.model.views.values()}
        assert states == {**dict.fromkeys(before, "up"), "s1": "down"}, "what was before it stays"
        assert "safe mode" not in stage.painted_on("chip")


async def test_when_the_terminal_goes_so_does_what_was_done_in_safe_mode(file: Path) -> None:
    before = _read(file)
    async with _stage(file) as stage:
        await stage.press("colon", *"safe", "enter", "D", "y")
        await stage.tick()
        assert _read(file) != before
        stage.app.on_driver_gone()
    stage.app.take_back()
    assert _read(file) == before
    assert isinstance(stage.engine.commands[-1], Undo)


async def test_what_is_kept_stays(file: Path) -> None:
    async with _stage(file) as stage:
        await stage.press("colon", *"safe", "enter", "D", "y", "colon", *"unsafe", "enter")
        await stage.tick()
        stage.app.take_back()
    assert "s1" not in _read(file)


async def test_what_was_commanded_and_what_came_of_it_is_a_log_of_its_own(file: Path) -> None:
    async with _stage(file) as stage:
        world = stage.engine.world  # type: ignore[attr-defined]
        await stage.press("space", "space", "h", "y", "\\", "G", "r", "y")
        dispatch.do(world.supervisor, Request(8, Dial((77,)), "mia (console 12)"), world.now)
        dispatch.do(world.supervisor, Request(9, HangUp((0, 77)), "mia (console 12)"), world.now)
        await stage.tick(4)
        await stage.press("A")
        assert "Hang up: 2 sessions, by the console here: done." in stage.text()
        assert "Redial: own, by the console here." in stage.text()
        told = "Hang up: 2 sessions, by mia (console 12): not done to 1 session: There is no such"
        assert told in stage.text()
        assert "by mia (console 12): not done: There is no such" in stage.text()
        await stage.press("g")
        assert "now: 2 down" in stage.text()
        await stage.press("enter")
        assert stage.app.model.marks == {0, 1}
        assert "2 of 5" in stage.text()


def test_no_flood_takes_what_was_commanded() -> None:
    log = EventLog(10)
    log.add(0.0, Severity.INFO, COMMAND, "Dial: one, by mia.")
    for number in range(100):
        log.add(1.0, Severity.WARNING if number % 50 == 0 else Severity.INFO, "flood", str(number))
    kept, lost = log.since(0)
    assert [event.text for event in kept] == ["Dial: one, by mia.", "0", "50", *map(str, range(90, 100))]
    assert lost == 88


async def test_the_page_of_actions_says_that_there_is_none_and_how_many_of_them_are_shown(file: Path) -> None:
    async with _stage(file) as stage:
        await stage.press("A")
        assert "Nothing has been commanded yet" in stage.text()
        await stage.press("escape", "h", "y")
        await stage.tick(4)
        await stage.press("A")
        commands = len(stage.app.log_of_events.commands)
        assert commands >= 1
        await stage.press("slash", *"no such thing", "enter")
        assert f"0 of {commands}" in stage.text()
        assert "None of them matches." in stage.text()
        await stage.press("slash", *["backspace"] * 13, "enter", "v", "v", "v")
        assert "error and above" in stage.text()
        assert "None of them matches." in stage.text()


async def test_an_error_stays_at_the_top_of_every_page_until_it_is_seen(file: Path) -> None:
    async with _stage(file, (80, 24)) as stage:
        supervisor = stage.engine.world.supervisor  # type: ignore[attr-defined]
        for _ in range(2):
            supervisor.tell(Severity.ERROR, "card-down", "eth9 is down: 5 sessions lost.")
        await stage.tick()
        for key in ("i", "escape", "enter", "escape", "A", "escape"):
            assert "2 alarms" in stage.painted_on("alarm")
            assert "eth9 is down: 5 sessions lost." in stage.text().splitlines()[1]
            await stage.press(key)
        await stage.tick(40)
        assert "2 alarms" in stage.text(), "time alone takes none away"
        await stage.press("e", "escape")
        assert "alarm" not in stage.text()
        assert "events" not in stage.text().splitlines()[1]
