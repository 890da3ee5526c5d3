"""What stops everything, or redials alone: asked once, told at the top of every page while so."""

from __future__ import annotations

from engine.api.commands import Stop
from engine.api.values import Halt
from souppp_tui.desk.options import ConsoleOptions
from souppp_tui.screens.confirm import Confirm
from tests.console.conftest import Both, Start
from tests.console.scripted import ScriptedEngine


async def test_all_is_ended_after_one_question_whatever_their_number(start: Start) -> None:
    async with start(300, size=(80, 24)) as stage:
        await stage.press("H")
        assert isinstance(stage.app.screen, Confirm)
        assert "End all sessions, and dial nobody until you take that back?" in stage.text()
        await stage.press("enter")
        assert stage.engine.commands == []
        await stage.press("H", "y")
        assert stage.last == Stop(Halt.ALL)
        assert "All is stopped: nobody is dialled." in stage.text()
        await stage.tick()
        for page in ("i", "e"):
            assert "ALL STOPPED" in stage.painted_on("alarm")
            await stage.press(page)
        await stage.press("escape", "escape")
        await stage.tick(13)
        assert "H go on" in stage.text()
        await stage.press("p")
        assert "take that back first" in stage.text()
        await stage.press("H", "y")
        assert stage.last == Stop(Halt.NOTHING)
        await stage.tick()
        assert "ALL STOPPED" not in stage.text()


async def test_redials_are_paused_by_one_key_and_go_on_by_it(start: Start) -> None:
    async with start(3, size=(80, 24)) as stage:
        await stage.press("p")
        assert stage.last == Stop(Halt.REDIALS)
        await stage.tick()
        assert "redials paused" in stage.painted_on("alarm")
        await stage.press("p")
        assert stage.last == Stop(Halt.NOTHING)
        await stage.tick()
        assert "redials paused" not in stage.text()


async def test_who_may_only_look_stops_nothing(start: Start) -> None:
    async with start(3, options=ConsoleOptions(theme="dark", read_only=True)) as stage:
        await stage.press("H", "p")
        assert stage.engine.commands == []
        assert "read-only" in stage.text()


async def test_it_is_for_every_engine_that_is_looked_at(start: Start) -> None:
    both = Both(ScriptedEngine(2), ScriptedEngine(2))
    async with start(engine=both) as stage:
        await stage.press("H")
        assert "On every engine." in stage.text()
        await stage.press("y")
        assert [each.commands for each in both.scripted] == [[Stop(Halt.ALL)]] * 2
        await stage.tick()
        assert "ALL STOPPED" in stage.text()
