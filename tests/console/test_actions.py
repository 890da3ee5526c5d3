"""Every action, by its key, and what it asks of the engine."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from rich.console import RenderableType
from textual.events import MouseScrollDown
from textual.screen import Screen

from engine.api.commands import (
    Add,
    ClearGhosts,
    Dial,
    Edit,
    FixCard,
    HangUp,
    Redial,
    Remove,
    ResetCounters,
    Rotate,
    StartCapture,
    StopCapture,
)
from engine.api.values import CardView, SessionState, Severity
from engine.settings import console as console_settings
from engine.settings.values import SessionSettings, VlanTag
from souppp_tui.app.console import Console, ConsoleError, run
from souppp_tui.desk.actions import ACTIONS, BY_NAME, clash, key_names
from souppp_tui.desk.options import ConsoleOptions
from souppp_tui.screens.confirm import Confirm
from souppp_tui.screens.details import DetailsPage
from souppp_tui.screens.events import EventsPage
from souppp_tui.screens.help import Help
from souppp_tui.screens.palette import Palette
from souppp_tui.screens.sessions import SessionsPage
from souppp_tui.show.columns import COLUMNS, LETTERS, offered
from souppp_tui.show.paint import width_of
from souppp_tui.show.themes import NAMES
from souppp_tui.widgets.lines import Rows
from tests.console.conftest import Start
from tests.console.scripted import HOSTILE_AC, ScriptedEngine

# -- steering


async def test_dial(start: Start) -> None:
    async with start(5, up=False) as stage:
        await stage.press("j", "d")
        assert stage.last == Dial((1,))
        assert "Dialling home-0002." in stage.text()
        await stage.tick(4)
        assert "up" in stage.line("home-0002")


async def test_dial_says_why_not(start: Start) -> None:
    async with start(5) as stage:
        await stage.press("d")
        assert "Nothing to dial: home-0001 is not down." in stage.text()
        assert stage.engine.commands == []


async def test_hang_up_asks_and_no_is_the_default(start: Start) -> None:
    async with start(5) as stage:
        for answer in ("enter", "n", "escape", "q"):
            await stage.press("h")
            assert isinstance(stage.app.screen, Confirm)
            assert "Hang up home-0001?" in stage.text()
            await stage.press(answer)
            assert isinstance(stage.app.screen, SessionsPage)
        assert stage.engine.commands == []
        await stage.press("h", "y")
        assert stage.last == HangUp((0,))
        await stage.tick()
        assert "down · hung up by you" in stage.line("home-0001")


async def test_hanging_up_a_pending_retry_does_not_ask(start: Start) -> None:
    async with start(2, up=False) as stage:
        stage.engine.change(0, state=SessionState.FAILED, reason="no answer", retry_at=stage.engine.wall + 30)
        await stage.tick()
        await stage.press("h")
        assert stage.last == HangUp((0,))


@pytest.mark.parametrize(
    "change",
    [
        {"queued": True, "reason": ""},
        {"state": SessionState.FAILED, "reason": "card is down"},
        {"reason": "card is down"},
        {"reason": "all sessions were stopped"},
    ],
)
async def test_who_waits_to_be_dialled_can_be_hung_up(start: Start, change: dict[str, Any]) -> None:
    """Nothing ends, so nothing is asked; it used to be refused, as if nothing would ever be dialled."""
    async with start(3, up=False) as stage:
        stage.engine.change(0, **change)
        await stage.tick()
        assert "h hang up" in stage.text()
        await stage.press("h")
        assert stage.last == HangUp((0,))
        stage.engine.change(0, state=SessionState.DOWN, reason="hung up by you", queued=False)
        await stage.tick()
        await stage.press("h")
        assert "Nothing to hang up: home-0001 is down." in stage.text()
        assert stage.engine.commands == [HangUp((0,))]


async def test_redial(start: Start) -> None:
    async with start(5) as stage:
        await stage.press("r", "y")
        assert stage.last == Redial((0,))


async def test_rotate(start: Start) -> None:
    async with start(5) as stage:
        await stage.press("R")
        assert "Get another address for home-0001?" in stage.text()
        await stage.press("y")
        assert stage.last == Rotate((0,))
        assert "Getting another address for home-0001." in stage.text()
        await stage.press("space", "space", "R")
        assert "Get another address for 2 sessions: home-0001 and home-0002?" in stage.text()
        await stage.press("y")
        assert stage.last == Rotate((0, 1))


async def test_remove_always_asks(start: Start) -> None:
    saved: list[object] = []
    options = ConsoleOptions(theme="dark", save=saved.extend)
    async with start(5, up=False, options=options) as stage:
        await stage.press("D")
        assert "Remove home-0001?" in stage.text()
        await stage.press("y")
        await stage.tick()
        assert stage.last == Remove((0,))
        assert saved == [("home-0001", None)]
        assert "○ home-0001" not in stage.text()


async def test_marks_are_what_actions_are_for(start: Start) -> None:
    async with start(9) as stage:
        await stage.press("j", "space", "space", "G", "h")
        assert "Hang up 2 sessions: home-0002 and home-0003?" in stage.text()
        assert "All of them are open" in stage.text()
        await stage.press("y")
        assert stage.last == HangUp((1, 2))


async def test_range_all_and_none(start: Start) -> None:
    async with start(9) as stage:
        await stage.press("j", "space", "down", "down", "ctrl+@")
        assert stage.app.model.marks == {1, 2, 3, 4}
        await stage.press("backslash")
        assert not stage.app.model.marks
        await stage.press("asterisk")
        assert "9 marked" in stage.text()
        await stage.press("escape")
        assert not stage.app.model.marks
        await stage.press("backslash")
        assert "Nothing is marked." in stage.text()


async def test_more_than_twenty_must_be_counted(start: Start) -> None:
    async with start(21) as stage:
        await stage.press("asterisk", "h", "y")
        assert isinstance(stage.app.screen, Confirm)
        await stage.press("2", "2", "enter")
        assert "That was not 21." in stage.text()
        assert stage.engine.commands == []
        await stage.press("2", "7", "backspace", "1", "enter")
        assert stage.last == HangUp(tuple(range(21)))


async def test_twenty_need_only_a_yes(start: Start) -> None:
    async with start(20) as stage:
        await stage.press("asterisk", "h", "y")
        assert stage.last == HangUp(tuple(range(20)))


async def test_marks_hidden_by_the_filter_are_told(start: Start) -> None:
    async with start(9) as stage:
        await stage.press("space", "space", "slash", *"0002", "enter", "h")
        assert "2 marked (1 not shown)" in stage.text()
        assert "The filter hides 1 of them." in stage.text()


@pytest.mark.parametrize("seed", range(3))
async def test_the_right_session_goes_down_after_sorting_and_filtering_under_the_cursor(
    start: Start, seed: int
) -> None:
    """The heart of it: between choosing a session and hanging up, the table turns upside down."""
    async with start(200, busy=200) as stage:
        await stage.tick(3)
        for _ in range(17 + seed * 31):
            stage.app.model.move(1)
        await stage.press("j")
        wanted = stage.app.model.cursor
        assert wanted is not None
        name = stage.app.model.views[wanted].name
        await stage.press("s", "S", *"sssss")
        await stage.tick(6)
        await stage.press("slash", *f"ac:bras-{wanted % 3 + 1}", "enter")
        await stage.tick(6)
        stage.engine.submit(Remove((wanted - 1, wanted - 2)))
        await stage.tick(2)
        await stage.press("S", "escape")
        await stage.tick(2)
        assert "▸" in stage.line(name)
        await stage.press("h")
        assert f"Hang up {name}?" in stage.text()
        await stage.tick(4)
        await stage.press("y")
        assert stage.last == HangUp((wanted,))
        await stage.tick()
        down = [view.name for view in stage.engine.snapshot().sessions if view.state is SessionState.DOWN]
        assert down == [name]


async def test_the_answer_is_for_the_sessions_asked_about(start: Start) -> None:
    async with start(5) as stage:
        await stage.press("h")
        stage.app.model.move_to(3)
        await stage.press("y")
        assert stage.last == HangUp((0,))


@pytest.mark.parametrize("key", ["ctrl+r", "ctrl+d", "backspace", "delete", "ctrl+h"])
async def test_slips_of_the_finger_do_nothing(start: Start, key: str) -> None:
    async with start(5) as stage:
        before = stage.text()
        await stage.press("asterisk", key, "backslash", "g", key)
        assert stage.engine.commands == []
        assert stage.text() == before
        assert all(key not in action.keys.split(",") for action in ACTIONS)


async def test_read_only_shows_and_does_nothing(start: Start) -> None:
    async with start(3, up=False, options=ConsoleOptions(theme="dark", read_only=True)) as stage:
        for action in ACTIONS:
            if action.changes and action.keys and "sessions" in action.pages:
                await stage.press(action.keys.split(",")[0])
                assert "The console is read-only." in stage.text(), action.name
        assert stage.engine.commands == []
        await stage.tick(20)
        assert "d dial" not in stage.text()


async def test_capture_starts_and_stops(start: Start, tmp_path: Path) -> None:
    async with start(3, options=ConsoleOptions(theme="dark", capture_folder=tmp_path)) as stage:
        await stage.press("c")
        assert isinstance(stage.last, StartCapture)
        assert (stage.last.keys, Path(stage.last.path).parent) == ((0,), tmp_path)
        assert str(tmp_path)[:40] in stage.text()
        await stage.tick()
        await stage.press("c")
        assert stage.last == StopCapture((0,))
        assert "No longer capturing home-0001." in stage.text()


async def test_keys_can_be_changed(start: Start) -> None:
    async with start(3, up=False, options=ConsoleOptions(theme="dark", keys={"dial": "f5"})) as stage:
        assert "f5 dial" in stage.text()
        await stage.press("d")
        assert stage.engine.commands == []
        await stage.press("f5")
        assert stage.last == Dial((0,))


# -- what the engine replies


async def test_what_was_not_done_is_said_with_the_reason(start: Start) -> None:
    saved: list[object] = []
    options = ConsoleOptions(theme="dark", save=saved.extend)
    async with start(5, options=options) as stage:
        await stage.press("space", "space", "space", "D")
        stage.engine.submit(Remove((1,)))
        await stage.press("y")
        assert "Removing 2 sessions. Not home-0002: There is no such session any more." in stage.text()
        assert saved == [("home-0001", None), ("home-0003", None)]
        await stage.tick()
        await stage.press("h")
        stage.engine.submit(Remove((3,)))
        await stage.press("y")
        assert "home-0004: There is no such session any more." in stage.text()
        assert "Hanging up" not in stage.text()


async def test_a_refused_change_is_neither_claimed_nor_saved(start: Start, tmp_path: Path) -> None:
    """Another console may have been quicker, and a folder may not be writable."""
    saved: list[object] = []
    options = ConsoleOptions(theme="dark", save=saved.extend, load=lambda: ())
    async with start(2, options=options) as stage:
        await stage.press("a", *"new")
        stage.engine.submit(Add(SessionSettings("new")))
        await stage.press("ctrl+s")
        assert "There is already a session called new." in stage.text()
        assert "Added" not in stage.text()
        stage.engine.refuses = "No: not today."
        for keys in (("E", "down", "x", "ctrl+s"), ("D", "y"), ("c",), ("r", "y"), ("R", "y"), ("L", "y")):
            await stage.press(*keys)
            assert "No: not today." in stage.text(), keys
            for claim in ("Changed", "Removing", "Capturing", "Redialling", "Getting", "in force"):
                assert claim not in stage.text()
        assert saved == []


async def test_a_reply_is_shown_when_it_comes(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    """It comes from the engine's thread, perhaps on another page, or never."""
    async with start(2, up=False) as stage:
        stage.engine.dumb = True
        await stage.press("d")
        assert "Dialling" not in stage.text()
        await stage.press("e")
        thread = threading.Thread(target=stage.engine.answer)
        thread.start()
        thread.join()
        await stage.pilot.pause()
        assert isinstance(stage.app.screen, EventsPage)
        assert "Dialling home-0001." in stage.text()
        await stage.press("escape", "d", "q")
    stage.engine.answer()
    assert not caplog.records, "a future logs what goes wrong in its callbacks"


async def test_a_reload_that_is_done_in_part_says_what_was_not(start: Start) -> None:
    engine = ScriptedEngine(2)
    kept = engine.settings(0), engine.settings(1)
    assert kept[0]
    assert kept[1]
    wanted = (kept[0], replace(kept[1], user="other"), SessionSettings("new"))
    async with start(engine=engine, options=ConsoleOptions(theme="dark", load=lambda: wanted)) as stage:
        await stage.press("L")
        engine.submit(Add(SessionSettings("new")))
        engine.submit(Remove((1,)))
        await stage.press("y")
        assert "Taken over in part. Not home-0002: There is no such session any more. (1 more)" in stage.text()


async def test_ghosts_are_counted(start: Start) -> None:
    async with start(2) as stage:
        await stage.press("colon", *"ghosts", "enter")
        assert "An earlier run left no session open." in stage.text()
        stage.engine.ghosts = 3
        await stage.press("colon", *"ghosts", "enter")
        assert "Ending 3 sessions that an earlier run left open." in stage.text()


async def test_replies_are_masked_too(start: Start) -> None:
    async with start(2) as stage:
        stage.engine.refuses = "home-0001 has 100.64.0.0 no more."
        await stage.press("x", "c")
        assert "session 1:" in stage.text()
        assert "home-0001" not in stage.text()
        assert "100.64" not in stage.text()
        stage.engine.refuses = ""
        await stage.press("E", "down", "x", "ctrl+s")
        assert "Changed session 1." in stage.text()
        await stage.press("a", *"new", "ctrl+s")
        assert "Added session 3." in stage.text()


# -- the table


async def test_moving(start: Start) -> None:
    async with start(100) as stage:
        rows = stage.app.screen.query_one("Rows").size.height
        for keys, row in ((["j", "down"], 2), (["k"], 1), (["up", "up"], 0), (["G"], 99), (["g"], 0), (["end"], 99)):
            await stage.press(*keys)
            assert stage.app.model.cursor == row
        await stage.press("home", "pagedown")
        assert stage.app.model.cursor == rows
        await stage.press("pageup")
        assert stage.app.model.cursor == 0
        assert "▸ ● home-0001" in stage.text()


async def test_the_mouse_chooses_and_scrolls(start: Start) -> None:
    async with start(100) as stage:
        await stage.pilot.click("Rows", offset=(10, 4))
        assert stage.app.model.cursor == 4
        table = stage.app.screen.query_one(Rows)
        table.post_message(MouseScrollDown(table, 1, 1, 0, 0, 0, False, False, False))
        await stage.pilot.pause()
        assert table.top == 3
        assert stage.app.model.cursor == 4


async def test_filter_chip_and_escape(start: Start) -> None:
    async with start(30) as stage:
        await stage.press("slash", *"ac:bras-2")
        assert "filter: ac:bras-2  10 of 30" in stage.text()
        await stage.press("enter")
        assert "filter: ac:bras-2  10 of 30" in stage.text()
        await stage.press("escape")
        assert "30 sessions" in stage.text()


async def test_filter_keys_are_text_while_typing(start: Start) -> None:
    async with start(3) as stage:
        await stage.press("slash", *"hdq", "escape")
        assert stage.engine.commands == []
        assert stage.app.is_running
        assert "3 sessions" in stage.text()


async def test_a_wrong_filter_says_why(start: Start) -> None:
    async with start(3) as stage:
        await stage.press("slash", *"rx>fast")
        assert "`fast` is not a number" in stage.text()
        await stage.press("escape")
        assert "not a number" not in stage.text()


async def test_a_filter_that_finds_nothing_says_what_may_be_meant(start: Start) -> None:
    async with start(6, failing=3) as stage:
        await stage.press("slash", *"faild", "enter")
        assert "0 of 6  faild finds none; did you mean `failed`?" in stage.text()
        await stage.press("escape", "slash", *"colour:red")
        assert "no column `colour`" in stage.text()


async def test_what_is_hidden_is_not_offered_either(start: Start) -> None:
    async with start(6) as stage:
        await stage.press("x", "slash", *"user:user2")
        assert "example.net" not in stage.text()
        await stage.press("ctrl+u", *"home-0007")
        assert "home-0007 finds none" in stage.text()
        assert "did you mean" not in stage.text()


async def test_filters_are_completed_and_come_back_with_up(start: Start) -> None:
    async with start(30) as stage:
        await stage.press("slash", *"ac:bras-")
        assert "tab: ac:bras-2  ac:bras-1" in stage.text().replace("ac:bras-1  ac:bras-2", "ac:bras-2  ac:bras-1")
        await stage.press("tab", "enter")
        first = stage.app.model.query.text
        assert len(first) == len("ac:bras-1")
        await stage.press("escape", "slash", *"home-0003", "enter", "escape", "slash", *"x")
        await stage.press("up")
        assert stage.app.model.query.text == "home-0003"
        await stage.press("up")
        assert stage.app.model.query.text == first
        await stage.press("down", "down")
        assert stage.app.model.query.text == "x"


async def test_a_filter_gets_a_name_that_is_written_to_the_file(start: Start) -> None:
    written: list[tuple[str, str | None]] = []
    options = ConsoleOptions(
        theme="dark", filters={"low": "n<3"}, save_filter=lambda name, text: written.append((name, text))
    )
    async with start(6, failing=3, options=options) as stage:
        await stage.press("colon", *"save bad", "enter")
        assert "no filter in force to keep" in stage.text()
        await stage.press("slash", *"failed", "enter", "colon", *"save Bad", "enter")
        assert "@bad stands for this filter, also in the configuration." in stage.text()
        assert written == [("bad", "failed")]
        await stage.press("slash", *" n:3", "enter", "colon", *"save bad!", "enter")
        assert "name is of small letters" in stage.text()
        await stage.press("escape", "colon", *"filter @lo", "enter")
        assert "filter: @low  2 of 6" in stage.text()
        await stage.press("colon", *"save low", "enter")
        assert "@low is in this filter itself" in stage.text()
        await stage.press("colon", *"forget @bad", "enter")
        assert written[1:] == [("bad", None)]
        assert "bad" not in stage.app.model.filters


async def test_top_talkers_now_in_five_minutes_and_in_all(start: Start) -> None:
    async with start(30, busy=9, size=(80, 24)) as stage:
        await stage.tick(8)
        await stage.press("t")
        assert "Top talkers by rate now; t again: in five minutes." in stage.text()
        assert "▼▲ b/s" in stage.text()
        await stage.tick(4)
        model = stage.app.model
        for key in ("both", "recent", "sum"):
            values = [COLUMNS[key].value(model.views[session], model.meter) for session in model.shown]
            assert model.sort == key
            assert values == sorted(values, reverse=True)
            assert values[0] > 0
            await stage.press("t")
        assert model.sort is None


async def test_the_last_hour_stands_in_the_details_and_queues_side_by_side(start: Start) -> None:
    async with start(6, queues=3, size=(100, 60)) as stage:
        await stage.press("enter")
        await stage.tick(2)
        assert "the last hour, means of half a minute" in stage.text()
        assert stage.line("60 min").strip().startswith("60 min")
        assert any(0x2800 < ord(sign) < 0x2900 for sign in stage.text())
        await stage.press("escape", "i")
        await stage.tick()
        assert "all sessions, the last hour" in stage.text()
        assert stage.line("side by side").split()[-3:] == ["q0", "q1", "q2"]
        shares = [int(each.rstrip("%")) for each in stage.line("share of").split()[-3:]]
        assert 99 <= sum(shares) <= 101


async def test_an_empty_table_offers_nothing_to_steer(start: Start) -> None:
    async with start(0) as stage:
        await stage.press("h")
        assert "There is no session here." in stage.text()
        for key in ("d", "r", "D", "E", "c", "enter", "space", "j", "G"):
            await stage.press(key)
        assert stage.engine.commands == []


async def test_sort_and_reverse(start: Start) -> None:
    async with start(30) as stage:
        await stage.press("s")
        assert "sort: name ▲" in stage.text()
        await stage.press("S", "g")
        assert "sort: name ▼" in stage.text()
        assert "▸ ● home-0030" in stage.text()


@pytest.mark.parametrize("several", [False, True])
def test_every_column_has_a_letter_of_its_own(several: bool) -> None:
    letters = [LETTERS[key] for key in offered(several)]
    assert len({*letters, "0"}) == len(letters) + 1
    assert {*LETTERS} == {*COLUMNS}


@pytest.mark.parametrize("size", [(60, 15), (80, 24), (160, 50)])
async def test_any_column_in_two_keys_and_turned_round_by_the_same(start: Start, size: tuple[int, int]) -> None:
    async with start(30, size=size) as stage:
        for key in COLUMNS:
            if key == "engine":
                continue
            await stage.press("b")
            assert f"{LETTERS[key]} {key}" in stage.text(), "all of them fit"
            await stage.press(LETTERS[key])
            before = stage.app.model.sort, stage.app.model.reverse
            assert before == (key, COLUMNS[key].most)
        await stage.press("b", LETTERS["since"])
        assert (stage.app.model.sort, stage.app.model.reverse) == ("since", False)
        await stage.press("b", "escape")
        assert stage.app.model.sort == "since"
        await stage.press("b", "0")
        assert stage.app.model.sort is None
        await stage.press("question_mark")
        assert stage.app.model.sort is None


async def test_a_letter_typed_ahead_sorts(start: Start) -> None:
    async with start(30) as stage:
        await stage.type_ahead("b", "e", "j")
        assert stage.app.model.sort == "rtt"
        assert stage.app.model.cursor is not None


async def test_the_order_of_the_configuration_turned_round_is_said(start: Start) -> None:
    async with start(3) as stage:
        assert "sort:" not in stage.text()
        await stage.press("S")
        assert "sort: configuration ▼" in stage.text()


@pytest.mark.parametrize(
    ("keys", "word"),
    [
        (("h",), "Hang up home-0001?"),
        (("asterisk", "h", "3"), "hang up:  3"),
        (("question_mark",), "esc closes"),
        (("colon",), "hang up"),
        (("o",), "PREFIX"),
        (("enter", "y"), "ip route"),
    ],
)
async def test_boxes_follow_the_size_of_the_terminal(start: Start, keys: tuple[str, ...], word: str) -> None:
    """What is opened in a small window can be read in a large one, and the other way round."""
    async with start(30) as stage:
        for small, large in (((26, 9), (100, 40)), ((100, 40), (26, 9))):
            await stage.pilot.resize_terminal(*small)
            await stage.press(*keys)
            before = stage.text()
            await stage.pilot.resize_terminal(*large)
            await stage.pilot.pause()
            after = stage.text()
            await stage.press("escape", "escape", "escape")
            await stage.press(*keys)
            assert after == stage.text(), before
            await stage.press("escape", "escape", "escape")
        await stage.pilot.resize_terminal(100, 40)
        await stage.press(*keys)
        assert word in stage.text()


async def test_a_question_is_read_in_full_in_a_narrow_terminal(start: Start) -> None:
    async with start(30, size=(36, 20)) as stage:
        await stage.press("asterisk", "h", "3", "0")
        text = " ".join(re.sub("[│▸●✓]", " ", stage.text()).split())
        for part in (
            "Hang up 30 sessions,",
            "such as home-0001, home-0002 and home-0003?",
            "Type 30 and press",
            "to hang up: 30▁",
        ):
            assert part in text


async def test_columns_are_chosen_and_ordered(start: Start) -> None:
    async with start(3) as stage:
        await stage.press("o", "j", "space", "j", "j", "K", "enter")
        header = stage.line("NAME")
        assert "STATE" not in header
        assert header.index("DEVICE") < header.index("ADDRESS")


async def test_details_and_back(start: Start) -> None:
    async with start(5) as stage:
        await stage.press("j", "j", "enter")
        assert isinstance(stage.app.screen, DetailsPage)
        for part in (
            "home-0003  ● up",
            "address         100.64.0.2",
            "refused: VJ",
            "CHAP Challenge",
        ):
            assert part in stage.text()
        assert "frames discarded" not in stage.text()
        await stage.press("tab", "G")
        for part in ("PADR → PADS", "10.3 ms", "curl --interface soup2", "frames discarded"):
            assert part in stage.text()
        await stage.press("tab", "g", "enter")
        assert "Host-Uniq" in stage.text()
        await stage.press("escape", "escape")
        assert isinstance(stage.app.screen, SessionsPage)


async def test_details_act_on_their_session_whatever_is_marked(start: Start) -> None:
    async with start(5) as stage:
        await stage.press("space", "space", "G", "enter", "h", "y")
        assert stage.last == HangUp((4,))


async def test_details_of_a_session_that_goes_away(start: Start) -> None:
    async with start(5) as stage:
        await stage.press("enter")
        stage.engine.submit(Remove((0,)))
        await stage.tick(2)
        assert isinstance(stage.app.screen, SessionsPage)
        assert "This session is gone." in stage.text()


async def test_copy_a_line(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[str] = []
    monkeypatch.setattr(Console, "copy_to_clipboard", lambda self, text: copied.append(text))
    async with start(5) as stage:
        await stage.press("y", "enter", "y", "j", "enter")
        assert copied == ["100.64.0.0", "curl --interface soup0 http://example.net/"]
        await stage.press("x", "y", "enter")
        assert copied[2:] == ["100.64.0.0"], "what is hidden on the screen is copied as it is"


# -- events, card, help, palette


async def test_events_follow_stay_filter_and_jump(start: Start) -> None:
    async with start(60, up=False, failing=4) as stage:
        stage.engine.submit(Dial(tuple(range(40))))
        await stage.tick(4)
        await stage.press("e")
        assert "following" in stage.text()
        assert "home-0039" in stage.line("▸")
        await stage.press("k")
        stage.engine.emit("One more.")
        await stage.tick()
        assert "staying · 1 new" in stage.text()
        assert "home-0038" in stage.line("▸")
        await stage.press("G")
        assert "One more." in stage.line("▸")
        await stage.press("v", "v")
        assert "warning and above" in stage.text()
        assert "opened" not in stage.text()
        await stage.press("slash", *"0012", "enter")
        assert "events" not in stage.line("filter: 0012")
        await stage.press("enter")
        assert isinstance(stage.app.screen, SessionsPage)
        assert stage.app.model.cursor == 11


async def test_the_main_screen_shows_what_matters_and_in_full(start: Start) -> None:
    async with start(3, up=False, size=(80, 24)) as stage:
        stage.engine.emit("No answer to 4 PADIs in 14 s. Is the modem in bridge mode? Trying again in 30 s.", session=1)
        stage.engine.emit("Looking for a concentrator.", Severity.DEBUG, 1)
        await stage.tick()
        assert "Looking" not in stage.text()
        assert stage.line("14 s. Is the").index("No answer") == stage.line("again in 30 s.").index("mode?")
        await stage.press("e")
        assert "Looking" in stage.text()


async def test_the_event_under_the_cursor_is_shown_in_full(start: Start) -> None:
    async with start(3, up=False, size=(80, 24)) as stage:
        stage.engine.emit("No answer to 4 PADIs in 14 s. Is the modem in bridge mode? Trying again in 30 s.", session=1)
        stage.engine.emit("Later.", Severity.ERROR)
        await stage.tick()
        await stage.press("e")
        assert "error" in stage.line("2023-")
        assert "Trying again" not in stage.text()
        await stage.press("k")
        assert "info  home-0002" in stage.line("2023-")
        assert "Trying again in 30 s." in " ".join(stage.text().split())


async def test_details_say_what_happened_to_the_session(start: Start) -> None:
    async with start(3, up=False, size=(80, 24)) as stage:
        stage.engine.emit("Another session's.", session=2)
        stage.engine.emit("No answer to 4 PADIs in 14 s. Is the modem in bridge mode? Trying again in 30 s.", session=0)
        await stage.tick()
        await stage.press("enter")
        assert "again in 30 s." in stage.text()
        assert "Another" not in stage.text()


async def test_counters_are_reset_after_a_question(start: Start) -> None:
    async with start(3) as stage:
        await stage.press("C")
        assert "Count from now on what is carried by home-0001?" in stage.text()
        await stage.press("n")
        assert not stage.engine.commands
        await stage.press("C", "y")
        assert stage.last == ResetCounters((0,))
        assert "Counting from now on what is carried by home-0001." in stage.text()


async def test_the_event_file_may_go_on_while_the_display_is_frozen(start: Start, tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with start(3, event_file=log) as stage:
        await stage.press("Z")
        stage.engine.emit("Meanwhile.")
        await stage.tick()
        assert "Meanwhile." in log.read_text()
        await stage.press("Z")
        await stage.tick()
        assert log.read_text().count("Meanwhile.") == 1


async def test_an_event_file_that_cannot_be_written_is_told_once(start: Start, tmp_path: Path) -> None:
    async with start(3, event_file=tmp_path / "no" / "log") as stage:
        stage.engine.emit("Hello.")
        await stage.tick()
        assert "Events can't be written to" in stage.text()
        await stage.press("j")
        stage.engine.emit("Hello again.")
        await stage.tick()
        assert "can't be written" not in stage.text()


async def test_the_card_warns_when_one_queue_does_it_all(start: Start) -> None:
    card = CardView("eth0", "02:00:00:00:00:01", 1500, True, "generic", notice="The driver has no native XDP.")
    async with start(16, queues=4, busy=16, spread=1, card=card) as stage:
        await stage.tick(4)
        await stage.press("i")
        for part in (
            "generic · copy",
            "The driver has no native XDP.",
            "Queue 0 receives 100% of all frames",
            "One core receives for all: its driver takes no receive rules",
            "CPU  10%",
        ):
            assert part in stage.text()


async def test_what_the_card_does_in_our_way_is_switched_off_with_one_key(start: Start) -> None:
    card = CardView("eth0", "02:00:00:00:00:01", 1500, True, "native", strips=True)
    async with start(3, card=card) as stage:
        await stage.press("i")
        assert "rxvlan is on" not in stage.text(), "nobody has tags"
        stage.engine.submit(Add(SessionSettings("tagged", vlans=(VlanTag(7),))))
        await stage.tick()
        assert "rxvlan is on: tagged frames may lose their VLAN tags" in stage.text()
        assert "F fix" in stage.text()
        await stage.press("F")
        assert "Switch rxvlan off on eth0?" in stage.text()
        assert "put back when the program ends" in stage.text()
        await stage.press("n")
        assert stage.last == Add(SessionSettings("tagged", vlans=(VlanTag(7),)))
        await stage.press("F", "y")
        assert stage.last == FixCard()
        await stage.tick()
        assert "rxvlan is on" not in stage.text()
        await stage.press("F")
        assert "The card does nothing that is in our way." in stage.text()


async def test_what_keeps_xdp_out_of_the_driver_costs_the_open_sessions(start: Start) -> None:
    card = CardView("eth0", "02:00:00:00:00:01", 1500, True, "generic", notice="LRO is on.", fixes="lro")
    async with start(3, card=card) as stage:
        await stage.press("i")
        assert "lro is on: XDP can not run in the driver." in stage.text()
        await stage.press("F")
        assert "3 open sessions will be dialled again" in stage.text()
        await stage.press("y")
        assert stage.last == FixCard()


async def test_a_card_that_waits_for_its_carrier_says_so_on_every_page(start: Start) -> None:
    card = CardView("eth0", "02:00:00:00:00:01", 1500, False, "native", waits=True)
    async with start(3, card=card) as stage:
        assert "waiting for a carrier" in stage.text().splitlines()[0]
        await stage.press("i")
        assert "link      waiting for a carrier" in stage.text()


async def test_one_busy_session_alone_says_nothing_about_the_queues(start: Start) -> None:
    async with start(16, queues=4, busy=1) as stage:
        await stage.tick(4)
        await stage.press("i")
        assert "k pkt/s" in stage.text()
        assert "of all frames" not in stage.text()


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_the_lab_shows_a_line_to_try_it_with(start: Start, size: tuple[int, int]) -> None:
    card = CardView("lab0", "02:00:00:00:00:01", 1500, True, "native", lab=True)
    async with start(3, size=size, card=card) as stage:
        assert "try: curl --interface soup0 http://example.net/" in stage.text()


async def test_help_lists_every_key_of_the_page(start: Start) -> None:
    async with start(3, size=(120, 80)) as stage:
        await stage.press("question_mark")
        for action in ACTIONS:
            if "sessions" in action.pages and action.keys:
                assert action.help in stage.text()
        await stage.press("escape")
        assert isinstance(stage.app.screen, SessionsPage)


async def test_help_is_read_in_full_in_a_narrow_terminal(start: Start) -> None:
    """What keys do was cut at 60 columns, where nothing else tells it."""
    async with start(3, size=(60, 15)) as stage:
        await stage.press("question_mark")
        box = stage.app.screen
        assert isinstance(box, Help)
        assert max(map(width_of, box.lines)) <= box.list.size.width - 1
        told = " ".join("".join(text for text, _ in line) for line in box.lines)
        for action in ACTIONS:
            if "sessions" in action.pages and action.keys:
                assert " ".join(action.help.split()) in " ".join(told.split())


async def test_what_is_wrong_with_the_card_is_read_in_full_at_any_width(start: Start) -> None:
    card = CardView("eth0", "02:00:00:00:00:01", 1500, True, "native", True, "ixgbe", notice="word " * 40 + "end")
    async with start(engine=ScriptedEngine(3, card=card), size=(60, 24)) as stage:
        await stage.press("i")
        assert "…" not in stage.text()
        assert " ".join(["word"] * 40) + " end" in " ".join(stage.text().split())


async def test_the_palette_finds_and_does(start: Start) -> None:
    async with start(3) as stage:
        await stage.press("colon", *"sort uptime", "enter")
        assert stage.app.model.sort == "uptime"
        await stage.press("colon", *"ghosts", "enter")
        assert stage.last == ClearGhosts()
        await stage.press("colon", *"theme light", "enter")
        assert stage.app.theme == "light"
        await stage.press("colon", *"dial")
        assert "Nothing to dial" in stage.text()
        await stage.press("escape")
        assert isinstance(stage.app.screen, SessionsPage)


@pytest.mark.parametrize("size", [(60, 15), (80, 24)])
async def test_the_command_chosen_is_always_on_the_screen_and_read_in_full(start: Start, size: tuple[int, int]) -> None:
    async with start(3, size=size) as stage:
        await stage.press("colon")
        screen = stage.app.screen
        assert isinstance(screen, Palette)
        for command in screen.found:
            rows = [line.split("│")[1] for line in stage.text().splitlines() if line.count("│") > 1]
            assert [row for row in rows if row.startswith(f" ▸ {command.name}")]
            assert (command.why_not or command.help) in " ".join(" ".join(rows[-2:]).split())
            await stage.press("down")
        await stage.press(*"no such thing")
        assert "No command is called so." in stage.text()


# -- the display


async def test_freeze(start: Start) -> None:
    async with start(3) as stage:
        await stage.press("Z")
        assert "display frozen: sessions keep running" in stage.text()
        stage.engine.submit(HangUp((0,)))
        await stage.tick(2)
        assert "down" not in stage.line("home-0001")
        await stage.press("Z")
        assert "down" in stage.line("home-0001")


async def test_zero_sets_counters_back_and_forth(start: Start) -> None:
    async with start(3, busy=3) as stage:
        await stage.tick(4)
        await stage.press("z", "i")
        assert " 0 packets" in stage.text()
        await stage.tick(1)
        assert " 0 packets" not in stage.text()
        assert "since zero" in stage.text()
        await stage.press("z")
        assert "since zero" not in stage.text()


async def test_zero_in_details_is_for_the_session_s_own_counters_too(start: Start) -> None:
    async with start(3, busy=3, size=(160, 70)) as stage:
        await stage.tick(4)
        await stage.press("enter")
        assert "▼" in stage.line("Mb/s now")
        assert "0 B in all" not in stage.text()
        assert re.search(r"Echo-Requests sent +41\d", stage.text())
        await stage.press("z")
        assert "0 B in all" in stage.text()
        assert "counters, since zero" in stage.text()
        assert re.search(r"Echo-Requests sent +0", stage.text())
        await stage.tick(3)
        assert "0 B in all" not in stage.text()
        assert re.search(r"Echo-Requests sent +3", stage.text())
        await stage.press("z")
        assert "since zero" not in stage.text()
        assert re.search(r"Echo-Requests sent +4\d\d", stage.text())


async def test_mask_hides_names_and_addresses_everywhere(start: Start) -> None:
    async with start(3, up=False) as stage:
        await stage.press("d")
        stage.engine.emit("user1@example.net of home-0001 got 100.64.0.0.", session=0)
        await stage.tick(4)
        await stage.press("x")
        for keys in ((), ("enter",), ("y",), ("escape", "escape", "e"), ("escape", "h"), ("escape", "d")):
            await stage.press(*keys)
            for secret in ("home-0001", "user1", "100.64", "02:00:00:00", "2001:db8"):
                assert secret not in stage.text(), keys
        assert "session 1" in stage.text()


async def test_themes_go_round(start: Start) -> None:
    async with start(3) as stage:
        seen = []
        for _ in range(4):
            await stage.press("ctrl+t")
            seen.append(stage.app.theme)
        assert seen == ["light", "contrast", "ansi", "dark"]


async def test_what_a_concentrator_says_cannot_steer_the_terminal_or_the_markup(start: Start) -> None:
    async with start(3) as stage:
        stage.engine.change(0, ac_name=HOSTILE_AC, name="[b]x[/b]\x07", reason="\x1b]0;owned\x07")
        stage.engine.emit("[link=x]\x1b[31mclick[/link]\u202e", session=0)
        await stage.tick()
        for keys in ((), ("enter",), ("escape", "h"), ("escape", "colon"), ("escape", "E"), ("escape", "e")):
            await stage.press(*keys)
            assert not set("\x1b\x07\u202e") & set(stage.text())
        await stage.press("escape")
        assert "bras·[2" in stage.text()
        assert "[b]x[/b]·" in stage.text()


# -- forms, reload, leaving


async def test_add_a_session(start: Start) -> None:
    saved: list[tuple[str | None, SessionSettings | None]] = []
    options = ConsoleOptions(theme="dark", save=saved.extend)
    async with start(2, options=options) as stage:
        await stage.press("a", *"home-0001", "ctrl+s")
        assert "is taken by another session" in stage.text()
        await stage.press(*"x", "enter", *"bob", "enter", *"pa[]ss", "ctrl+s")
        assert saved == [(None, SessionSettings("home-0001x", "bob", "pa[]ss"))]
        assert stage.last == Add(SessionSettings("home-0001x", "bob", "pa[]ss"))
        assert "Added home-0001x." in stage.text()
        await stage.tick()
        assert "home-0001x" in stage.text()


async def test_edit_a_session(start: Start) -> None:
    saved: list[tuple[str | None, SessionSettings | None]] = []
    options = ConsoleOptions(theme="dark", save=saved.extend)
    async with start(2, options=options) as stage:
        await stage.press("E")
        assert "secret" not in stage.text()
        await stage.press("down", *"x", "ctrl+s")
        before = stage.engine.settings(0)
        assert before is not None
        assert before.user == "user1@example.netx"
        assert saved == [("home-0001", before)]
        assert before.password == "secret"
        assert "In force when it is dialled next." in stage.text()
        await stage.press("E", "escape", "E", "ctrl+s")
        assert len(stage.engine.commands) == 1


async def test_a_file_that_cannot_be_written_is_told(start: Start) -> None:
    def save(changes: object) -> None:
        raise OSError("souppp.yaml: Read-only file system")

    async with start(2, options=ConsoleOptions(theme="dark", save=save)) as stage:
        await stage.press("E", "down", *"x", "ctrl+s")
        assert "Not written to the configuration: souppp.yaml: Read-only file system" in stage.text()


async def test_reload_shows_what_changes(start: Start) -> None:
    engine = ScriptedEngine(3)
    kept = engine.settings(1)
    assert kept is not None
    wanted = (replace(kept, user="other"), SessionSettings("new"))
    async with start(engine=engine, options=ConsoleOptions(theme="dark", load=lambda: wanted)) as stage:
        await stage.press("L")
        for part in (
            "Add    1: new",
            "Change 1: home-0002",
            "home-0002: user user2@example.net → other",
            "Remove 2: home-0001, home-0003",
            "hangs up 2 open sessions",
        ):
            assert part in stage.text()
        await stage.press("escape")
        assert stage.engine.commands == []
        await stage.press("L", "y")
        assert stage.engine.commands == [Remove((0, 2)), Edit(1, wanted[0]), Add(wanted[1])]
        assert "The configuration is in force; changed sessions take it at their next dial." in stage.text()
        await stage.tick()
        await stage.press("L")
        assert "The configuration has not changed." in stage.text()


async def test_a_configuration_with_mistakes_changes_nothing(start: Start) -> None:
    def load() -> tuple[SessionSettings, ...]:
        raise ValueError("a.yaml:1:2: unknown key\na.yaml:3:1: wrong")

    async with start(3, options=ConsoleOptions(theme="dark", load=load)) as stage:
        await stage.press("L")
        assert "a.yaml:1:2: unknown key (1 more)" in stage.text()


async def test_quit_asks_while_sessions_are_open(start: Start) -> None:
    async with start(3) as stage:
        await stage.press("q")
        assert "Quit and hang up 3 sessions?" in stage.text()
        await stage.press("enter")
        assert stage.app.is_running
        await stage.press("ctrl+c", "y")
        assert not stage.app.is_running


async def test_quit_offers_to_leave_them_up(start: Start) -> None:
    """Where the engine can go on without this console; `Q` ends it all the same."""
    options = ConsoleOptions(theme="dark", may_go_on=True)
    for sessions, more in ((3, "y quit"), (21, "Type 21 and press enter to quit")):
        async with start(sessions, options=options) as stage:
            await stage.press("Q")
            assert more in stage.text()
            assert "in the background" not in stage.text()
            await stage.press("b")
            assert stage.app.is_running
            await stage.press("escape", "q")
            assert f"Quit and hang up {sessions} sessions?" in stage.text()
            assert "b  leave them up: the engine goes on in the background" in stage.text()
            assert more in stage.text()
            await stage.press("escape")
            assert stage.app.is_running
            await stage.press("q", "b")
            assert not stage.app.is_running
            assert stage.app.return_value is True


async def test_quitting_ends_what_it_does_not_leave_up(start: Start) -> None:
    async with start(3, options=ConsoleOptions(theme="dark", may_go_on=True)) as stage:
        await stage.press("q", "y")
        assert not stage.app.is_running
        assert not stage.app.return_value


async def test_the_offer_fits_a_narrow_screen(start: Start) -> None:
    async with start(3, size=(30, 20), options=ConsoleOptions(theme="dark", may_go_on=True)) as stage:
        await stage.press("q")
        shown = stage.text()
        for words in ("Quit and hang up 3", "sessions?", "b  leave", "engine goes on", "background", "y quit"):
            assert words in shown


async def test_quitting_many_must_be_counted(start: Start) -> None:
    async with start(21) as stage:
        await stage.press("q", "y")
        assert stage.app.is_running
        assert "Type 21 and press enter to quit" in stage.text()
        await stage.press("2", "1", "enter")
        assert not stage.app.is_running


async def test_quit_does_not_ask_when_nothing_is_open(start: Start) -> None:
    async with start(3, up=False) as stage:
        await stage.press("q")
        assert not stage.app.is_running


async def test_escape_always_leads_out(start: Start) -> None:
    openers = ("question_mark", "colon", "e", "i", "enter", "h", "a", "E", "o", "D", "q", "slash")
    async with start(3) as stage:
        for key in openers:
            await stage.press(key, "escape", "escape")
            assert isinstance(stage.app.screen, SessionsPage), key
            assert len(stage.app.screen_stack) == 1
            assert stage.app.screen.focused is stage.app.screen.query_one("Rows"), key
        await stage.press("enter", "e", "i", "e", "escape", "escape", "escape")
        assert isinstance(stage.app.screen, SessionsPage)
        assert stage.engine.commands == []


async def test_pages_do_not_pile_up(start: Start) -> None:
    async with start(3) as stage:
        await stage.press("e", "i", "e", "i", "e")
        assert len(stage.app.screen_stack) <= 3
        assert isinstance(stage.app.screen, EventsPage)


def test_every_action_exists() -> None:
    from souppp_tui.screens.card import CardPage

    for page in (SessionsPage, DetailsPage, EventsPage, CardPage):
        for action in ACTIONS:
            if page.PAGE in action.pages:
                assert callable(getattr(page, f"do_{action.name}", None)), (page.PAGE, action.name)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (ConsoleOptions(theme="pink"), "no theme `pink`"),
        (ConsoleOptions(columns=("name", "shoe")), "no column `shoe`"),
        (ConsoleOptions(keys={"fly": "f"}), "no action `fly`"),
        (ConsoleOptions(keys={"dial": "h"}), "h would be both dial and hang_up"),
    ],
)
def test_options_that_make_no_sense(options: ConsoleOptions, says: str) -> None:
    with pytest.raises(ConsoleError, match=says):
        Console(ScriptedEngine(1), options)


def test_keys_are_named_as_they_are_written() -> None:
    assert key_names({"dial": "f5 ctrl-x", "quit": "Q , ?", "mark": "ctrl-space esc PgUp"}) == {
        "dial": "f5,ctrl+x",
        "quit": "Q,comma,question_mark",
        "mark": "ctrl+@,escape,pageup",
    }
    assert clash({"dial": "h", "hang_up": "X"}) == ""


def test_the_configuration_knows_the_console_s_names() -> None:
    assert ("auto", *NAMES) == console_settings.THEMES
    assert set(console_settings.COLUMNS) == set(offered(several=False))
    assert set(console_settings.ACTIONS) == set(BY_NAME)


def test_a_dumb_terminal_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    with pytest.raises(ConsoleError, match="--headless"):
        run(ScriptedEngine(1))


def test_no_two_actions_of_a_page_share_a_key() -> None:
    for page in ("sessions", "details", "card", "events"):
        keys = [key for action in BY_NAME.values() if page in action.pages for key in action.keys.split(",") if key]
        assert len(keys) == len(set(keys)), page


async def test_an_event_file_that_fails_at_the_very_end_is_no_reason_to_fail(start: Start, tmp_path: Path) -> None:
    """There is no page left then to say so on, and the console has still to return."""
    log = tmp_path / "log"
    async with start(3, event_file=log) as stage:
        stage.engine.emit("Dialled.")
        await stage.tick()
        assert log.read_text().endswith("Dialled.\n")
        log.unlink()
        log.mkdir()
    stage.engine.emit("Hung up.")
    stage.app.write_events()
    text = f"Events can't be written to {log}: Is a directory. They are when that works again."
    assert stage.app.message == (text, "failed")
    assert not stage.app.return_code


async def test_who_is_acted_on_is_asked_once_for_all_keys_of_the_footer(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all of 10,000 sessions marked, asking took four times as long as all else that a key does."""
    async with start(100) as stage:
        await stage.press("asterisk")
        asked: list[int] = []
        targets = stage.app.model.targets
        monkeypatch.setattr(stage.app.model, "targets", lambda: asked.append(1) or targets())  # type: ignore[func-returns-value]
        stage.app.page.show_footer()  # type: ignore[union-attr]
        assert len(asked) == 1
        assert "h hang up" in stage.text()


async def test_the_marked_come_as_they_are_shown_and_then_the_hidden(start: Start) -> None:
    async with start(12) as stage:
        await stage.press(*["space"] * 4)
        stage.app.model.sort_by("name", reverse=True)
        stage.app.model.filter("name~home-0002|home-0003")
        assert [view.id for view in stage.app.model.targets()] == [2, 1, 0, 3]


async def test_where_only_the_cursor_moves_only_its_rows_are_made_anew(start: Start) -> None:
    async with start(100) as stage:
        page = stage.app.page
        assert isinstance(page, SessionsPage)
        made: list[int] = []
        source = page.table._source
        page.table._source = lambda row, width: made.append(row) or source(row, width)  # type: ignore[func-returns-value]
        await stage.press("j")
        assert made == [0, 1]
        assert stage.line("▸").split()[2] == "home-0002"
        await stage.press("space")
        assert made == [0, 1, 1, 2]
        assert "✓" in stage.line("home-0002")
        made.clear()
        await stage.press("G")
        await stage.press("j", "k")
        assert set(made[-2:]) == {98, 99}
        await stage.press(*["k"] * 30)
        assert stage.text().count("▸") == 1
        assert stage.line("▸").split()[2] == "home-0069"


async def test_what_is_drawn_first_is_the_whole_page(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not an empty one, which was filled two drawings later."""
    drawn: list[str] = []
    display = Console._display

    def noted(app: Console, screen: Screen[Any], renderable: RenderableType | None) -> None:
        drawn.append("\n".join(strip.text for strip in screen._compositor.render_strips()))
        display(app, screen, renderable)

    monkeypatch.setattr(Console, "_display", noted)
    async with start(30):
        for part in ("souppp", "q0", "30 sessions", "NAME", "home-0001", "events", "quit"):
            assert part in drawn[0]


async def test_a_field_s_hint_and_an_event_are_read_in_full_in_a_small_window(start: Start) -> None:
    async with start(3, size=(60, 15)) as stage:
        await stage.press("a", "tab", "tab", "tab", "tab")
        assert "Add a session · concentrator: its AC-Name" in stage.text()
        await stage.press("escape")
        stage.engine.emit("A sentence that is longer than what the row has room for says it here.", session=1)
        await stage.tick()
        await stage.press("e")
        assert "longer than what the row has room for says it here." in " ".join(stage.text().split())


@pytest.mark.parametrize("size", [(40, 15), (60, 15), (80, 24)])
async def test_a_message_is_read_in_full_and_takes_its_lines_only_while_it_is_there(
    start: Start, size: tuple[int, int]
) -> None:
    async with start(20, size=size) as stage:
        before = stage.text().splitlines()
        await stage.press("G")
        for text in ("short", "The configuration is in force; changed sessions take it at their next dial."):
            stage.app.say(text)
            await stage.pilot.pause()
            assert text in " ".join(stage.text().split())
            assert [line for line in stage.text().splitlines() if line.startswith("▸")], (
                "the cursor stays on the screen"
            )
        stage.app.say("word " * 200)
        await stage.pilot.pause()
        assert stage.text().splitlines()[-1].endswith("…")
        assert len(stage.text().splitlines()) == len(before)
        await stage.press("g")
        assert [line for line in stage.text().splitlines() if "word" in line] == []
        assert stage.text().splitlines()[-1].startswith(" h hang up")
