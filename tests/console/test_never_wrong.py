"""The operator never acts on another session than the one meant, and never reads what isn't so."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from engine.api.commands import Dial, HangUp, Redial, StartCapture
from engine.api.values import Event, Halt, Halted, SessionState, Severity
from souppp_tui.desk.options import ConsoleOptions
from souppp_tui.model.doing import Doing
from souppp_tui.model.model import Model
from souppp_tui.screens.confirm import Confirm
from souppp_tui.show.overview import alarm_line, overview
from souppp_tui.show.words import LIVES
from tests.console.conftest import Start
from tests.console.scripted import ScriptedEngine

# -- the cursor


async def test_a_filter_that_hides_the_cursors_session_takes_it_to_the_first_match(start: Start) -> None:
    async with start(30) as stage:
        await stage.press("G", "slash", *"home-000", "enter")
        assert stage.app.model.cursor == 0
        await stage.press("y")
        assert f"Copied: {stage.app.model.views[0].ipv4}" in stage.text()


async def test_the_cursor_goes_to_the_session_that_was_added(start: Start) -> None:
    async with start(3, up=False) as stage:
        await stage.press("a", *"new", "ctrl+s")
        await stage.tick()
        assert "▸" in stage.line("new")
        await stage.press("D")
        assert "Remove new?" in stage.text()


async def test_the_cursor_stays_where_the_filter_hides_what_was_added(start: Start) -> None:
    async with start(3, up=False) as stage:
        await stage.press("slash", *"home", "enter", "j", "a", *"new", "ctrl+s")
        await stage.tick(2)
        assert "▸" in stage.line("home-0002")
        await stage.press("escape")
        await stage.tick()
        assert "▸" in stage.line("home-0002"), "nor does it jump later"


async def test_a_question_means_what_it_names_whatever_comes_meanwhile(start: Start) -> None:
    async with start(4) as stage:
        await stage.press("j", "h")
        stage.app.model.sort_by("name", reverse=True)
        stage.app.model.filter("home-0004")
        await stage.tick()
        assert "Hang up home-0002?" in stage.text()
        await stage.press("y")
        assert stage.last == HangUp((1,))


# -- many at once


@pytest.mark.parametrize(("key", "command"), [("d", Dial), ("c", StartCapture)])
async def test_what_is_done_to_many_is_asked_first(start: Start, key: str, command: type[Dial | StartCapture]) -> None:
    async with start(30, up=False) as stage:
        await stage.press(*["space"] * 11, key)
        assert isinstance(stage.app.screen, Confirm)
        assert "11 sessions, such as home-0001, home-0002 and home-0003?" in stage.text()
        await stage.press("enter")
        assert stage.engine.commands == []
        await stage.press(key, "y")
        assert isinstance(stage.last, command)
        assert stage.last.keys == tuple(range(11))


async def test_few_of_many_are_dialled_at_once_and_the_limit_can_be_set(start: Start) -> None:
    async with start(30, up=False) as stage:
        await stage.press(*["space"] * 10, "d")
        assert stage.last == Dial(tuple(range(10)))
    async with start(30, up=False, options=ConsoleOptions(theme="dark", confirm_above=2)) as stage:
        await stage.press(*["space"] * 3, "d")
        assert "Dial 3 sessions: home-0001, home-0002 and home-0003?" in stage.text()


async def test_more_than_half_are_asked_for_however_few(start: Start) -> None:
    async with start(3, up=False) as stage:
        await stage.press("space", "space", "d")
        assert "Dial 2 sessions: home-0001 and home-0002?" in stage.text()


async def test_the_addresses_of_several_are_copied_a_line_each(start: Start) -> None:
    async with start(4) as stage:
        stage.engine.change(2, ipv4=None)
        await stage.tick()
        await stage.press("space", "space", "space", "y")
        views = stage.app.model.views
        assert stage.app.clipboard == f"{views[0].ipv4}\n{views[1].ipv4}"
        assert "Copied the addresses of 2 sessions. 1 session without one left out." in stage.text()


@pytest.mark.parametrize("size", [(60, 15), (80, 24)])
async def test_a_long_filter_leaves_room_for_what_it_finds_and_for_the_marks(
    start: Start, size: tuple[int, int]
) -> None:
    """Marks that the filter hides are what the next key is for."""
    async with start(30, size=size) as stage:
        await stage.press("space", "space", "space")
        stage.app.model.filter("state=up|down|failed|negotiating !is:queued !is:silent name~home-001|home-002")
        await stage.tick()
        (line,) = [line for line in stage.text().splitlines() if "filter: state=up" in line]
        assert "20 of 30" in line
        assert "3 marked (3 not shown)" in line
        stage.app.model.filter("state=up is:failed name~home-001")
        await stage.tick()
        (line,) = [line for line in stage.text().splitlines() if "filter: " in line]
        assert "0 of 30" in line
        assert "3 marked (3 not shown)" in line


async def test_a_capture_and_a_console_that_changes_nothing_are_seen_at_every_size(start: Start) -> None:
    options = ConsoleOptions(theme="dark", read_only=True)
    async with start(28, size=(60, 15), options=options) as stage:
        stage.engine.change(3, capturing=True)
        stage.engine.change(4, capturing=True)
        await stage.tick()
        for page in ("i", "e", "1"):
            first = stage.text().splitlines()[0]
            assert "capturing 2" in first
            assert "read-only" in first
            await stage.press(page)
        stage.engine.change(3, capturing=False)
        stage.engine.change(4, capturing=False)
        await stage.tick()
        assert "capturing" not in stage.text().splitlines()[0]


# -- the header's words


def told(engine: ScriptedEngine, width: int, **changes: dict[str, object]) -> str:
    model = Model()
    snapshot = engine.snapshot()
    views = [replace(view, **changes.get(view.name, {})) for view in snapshot.sessions]  # type: ignore[arg-type]
    model.take(replace(snapshot, sessions=tuple(views)))
    return "".join(text for text, _ in overview(model.snapshot, model.totals(), frozen=False, width=width))


@pytest.mark.parametrize("width", [200, 120, 80, 60, 50, 40])
def test_what_is_stopped_or_frozen_is_said_at_every_width(width: int) -> None:
    model = Model()
    halted = Halted(Halt.ALL, since=0.0, by="someone on a terminal with a long name")
    snapshot = replace(ScriptedEngine(28, failing=13).snapshot(), halted=halted)
    model.take(snapshot)
    for frozen in (False, True):
        line = "".join(text for text, _ in overview(model.snapshot, model.totals(), frozen=frozen, width=width))
        assert "ALL STOPPED" in line
        assert len(line) <= width
        assert ("frozen" in line) == frozen


@pytest.mark.parametrize("width", [200, 120, 80, 50])
def test_the_header_counts_each_session_once_by_the_word_of_its_row(width: int) -> None:
    changes: dict[str, dict[str, object]] = {
        "home-0002": {"silent_since": 1.0},
        "home-0003": {"state": SessionState.HANGING_UP},
        "home-0004": {"state": SessionState.DOWN, "queued": True},
        "home-0005": {"state": SessionState.FAILED, "queued": True},
        "home-0006": {"state": SessionState.DOWN},
        "home-0007": {"state": SessionState.AUTHENTICATING},
    }
    line = told(ScriptedEngine(8), width, **changes)
    numbers = {"up": 2, "no answer": 1, "coming up": 1, "hanging up": 1, "queued": 2, "down": 1}
    for word, number in numbers.items():
        assert f"{number} {word}" in line or f"{LIVES[word][0]} {number}" in line, line
    assert "dialling" not in line
    assert "failed" not in line


def test_flaps_are_told_before_the_cards_mode_and_the_pace() -> None:
    for width in (160, 110, 80):
        line = told(ScriptedEngine(8), width, **{"home-0001": {"flaps": 7}, "home-0002": {"silent_since": 1.0}})
        assert "7 flaps" in line
        assert "no answer" in line or "! 1" in line


@pytest.mark.parametrize(("width", "time"), [(100, True), (60, False)])
def test_an_alarm_is_told_before_its_time(width: int, time: bool) -> None:
    """At 60 columns it was `lab0 lost its carrie…  15:49:18 · e shows them`."""
    event = Event(1, 0.0, Severity.ERROR, "card-down", "lab0 lost its carrier. 69 sessions lost.")
    line = "".join(text for text, _ in alarm_line([event], 1.0, width))
    assert len(line) <= width
    assert line.endswith(" e shows them ")
    assert "lab0 lost its carrier. 69 sess" in line
    assert (":00 · e" in line) == time


# -- messages


async def test_a_message_goes_when_it_is_no_longer_so(start: Start) -> None:
    async with start(5) as stage:
        await stage.press("h", "y")
        assert "Hanging up home-0001." in stage.text()
        await stage.tick(2)
        assert "Hanging up" not in stage.text()


async def test_how_far_many_dials_have_come_is_told_and_escape_stops_the_rest(start: Start) -> None:
    engine = ScriptedEngine(30, up=False)
    async with start(engine=engine) as stage:
        await stage.press("asterisk", "d", "y")
        assert "Dialling 30 sessions. 30 waiting · esc stops" in stage.text()
        stage.engine.change(0, state=SessionState.UP, up_since=engine.wall, since=engine.wall)
        stage.app.tick()
        await stage.pilot.pause()
        assert "Dialling 30 sessions. 1 up · 29 coming up" in stage.text()
        await stage.press("escape")
        assert stage.last == HangUp(tuple(range(1, 30)))
        assert "Stopped: hanging up 29 sessions." in stage.text()
        await stage.press("escape")
        assert stage.last == HangUp(tuple(range(1, 30))), "once"


@pytest.mark.parametrize("width", [200, 120, 80, 60, 48])
def test_how_to_stop_is_told_at_every_width(width: int) -> None:
    """At 80 columns it was what was cut off while four states were counted."""
    engine = ScriptedEngine(2000, up=False)
    before = {view.id: view for view in engine.snapshot().sessions}
    doing = Doing("Dialling 2,000 sessions.", before, dials=True, began=engine.now)
    states = (*[SessionState.UP] * 1026, *[SessionState.DIALLING] * 60, *[SessionState.FAILED] * 20)
    views = {**before, **{key: replace(before[key], state=state, since=1.0) for key, state in enumerate(states)}}
    assert doing.look(views, engine.now + 20)
    line = doing.line(engine.now + 20, "esc", width)
    assert len(line) <= width
    assert line.startswith("Dialling 2,000 sessions. ")
    assert line.endswith(" · esc stops")
    assert ("894 waiting" in line) == (width > 60)


async def test_what_came_of_it_is_told_at_its_end(start: Start) -> None:
    async with start(10, up=False, failing=5) as stage:
        await stage.press("asterisk", "d", "y")
        await stage.tick(6)
        assert "Dialling 10 sessions. 8 up · 2 failed" in stage.text()
        assert "stops" not in stage.text()


async def test_who_was_down_before_a_hang_up_is_not_waited_for(start: Start) -> None:
    """It was counted as waiting, for a minute, beside a header that had all of them down."""
    async with start(4) as stage:
        stage.engine.change(3, state=SessionState.DOWN, up_since=None)
        await stage.tick()
        await stage.press("asterisk", "h", "y")
        await stage.tick(3)
        assert stage.last == HangUp((0, 1, 2, 3))
        assert "Hanging up 4 sessions. 4 down" in stage.text()
        assert "waiting" not in stage.text()


def test_a_redial_is_not_done_where_its_sessions_are_down_for_a_moment() -> None:
    """600 were hung up: `374 left`, while 226 of them were down and waited to be dialled."""
    engine = ScriptedEngine(600)
    before = {view.id: view for view in engine.snapshot().sessions}
    doing = Doing("Redialling 600 sessions.", before, dials=True, began=engine.now)
    states = (*[SessionState.DOWN] * 226, *[SessionState.HANGING_UP] * 374)
    views = {key: replace(before[key], state=state, since=1.0) for key, state in enumerate(states)}
    assert doing.look(views, engine.now + 2)
    assert doing.left == len(doing.unfinished(views)) == 600
    assert doing.look({key: replace(view, state=SessionState.DOWN) for key, view in views.items()}, engine.now + 3)


def test_no_end_is_foretold_from_the_pace_of_others() -> None:
    """Two that get no answer were to be up in `~0 s` for a quarter of a minute."""
    engine = ScriptedEngine(77, up=False)
    before = {view.id: view for view in engine.snapshot().sessions}
    doing = Doing("Dialling 77 sessions.", before, dials=True, began=engine.now)
    states = (*[SessionState.UP] * 75, *[SessionState.DIALLING] * 2)
    doing.look({key: replace(before[key], state=state, since=1.0) for key, state in enumerate(states)}, engine.now + 9)
    assert doing.line(engine.now + 9, "esc", 80) == "Dialling 77 sessions. 75 up · 2 coming up · esc stops"


# -- keys


@pytest.mark.parametrize("key", ["h", "q", "colon", "question_mark", "a", "E", "w", "o", "b", "H"])
async def test_no_key_of_a_page_is_promised_while_a_box_has_them(start: Start, key: str) -> None:
    async with start(30, size=(80, 24)) as stage:
        assert "h hang up" in stage.text().splitlines()[-1]
        await stage.press(key)
        await stage.tick()
        assert stage.text().split("\n")[-1] == ""
        await stage.press("escape")
        await stage.tick()
        assert "h hang up" in stage.text().splitlines()[-1]


async def test_a_line_that_is_typed_in_says_its_own_keys(start: Start) -> None:
    async with start(30, size=(60, 15)) as stage:
        await stage.press("slash", *"home", "enter", "slash")
        assert stage.text().splitlines()[-1].split("  ") == [
            " enter keep",
            "esc clear",
            "tab take over",
            "↑ ↓ typed before",
        ]
        await stage.press("enter")
        assert "h hang up" in stage.text().splitlines()[-1]
        await stage.press("e", "slash")
        assert stage.text().splitlines()[-1] == " enter keep  esc clear"
        await stage.press("escape")
        assert "f stay" in stage.text().splitlines()[-1]


async def test_what_went_wrong_is_not_pushed_aside_by_what_went_well(start: Start) -> None:
    def full(changes: object) -> None:
        raise OSError(28, "No space left on device")

    async with start(5, up=False, options=ConsoleOptions(theme="dark", save=full)) as stage:
        await stage.press("D", "y")
        stage.app.say("Removing home-0001.")
        await stage.tick()
        assert "Not written to the configuration" in stage.text()
        await stage.press("j")
        assert "Not written" not in stage.text()


# -- events


async def test_commands_outlive_what_is_told_to_be_gone(start: Start) -> None:
    """The page of actions had `11,250 older ones are gone` beside all that there had been."""
    async with start(4) as stage:
        await stage.press("h", "y")
        stage.app.log_of_events.lost = 7
        await stage.press("e")
        assert "7 older ones are gone" in stage.text()
        await stage.press("escape", "A")
        assert "actions: " in stage.text()
        assert "older ones" not in stage.text()


async def test_what_has_one_cause_is_one_line_and_its_sessions_can_be_acted_on(start: Start) -> None:
    async with start(30, up=False, failing=5) as stage:
        await stage.press("asterisk", "d", "y")
        await stage.tick(6)
        await stage.press("e", "b")
        assert "causes:" in stage.text()
        (line,) = [line for line in stage.text().splitlines() if "Login incorrect" in line]
        assert "6 sessions" in line
        await stage.press("G")
        while "Login incorrect" not in stage.line("▸"):
            await stage.press("k")
        await stage.press("enter")
        assert "filter: is:marked" in stage.text()
        assert "6 marked" in stage.text()
        await stage.press("r", "y")
        assert stage.last == Redial((4, 9, 14, 19, 24, 29))


async def test_warnings_outlive_what_comes_after_them(start: Start) -> None:
    async with start(2) as stage:
        stage.engine.emit("The card was lost.", Severity.ERROR)
        for _ in range(7):
            for number in range(1900):
                stage.engine.emit(f"Up {number}.")
            await stage.tick()
        await stage.press("e", "b")
        assert "The card was lost." in stage.text()
