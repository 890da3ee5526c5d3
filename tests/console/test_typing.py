"""Keys that arrive all at once, as over a slow line or from a quick hand, do what they would do one by one."""

from __future__ import annotations

import pytest
from textual.events import Key, MouseDown, MouseEvent, MouseUp

from engine.api.commands import Add, Dial, HangUp
from engine.settings.values import SessionSettings
from souppp_tui.screens.confirm import Confirm
from souppp_tui.screens.sessions import SessionsPage
from tests.console.conftest import Start


async def test_a_form_is_filled_line_by_line(start: Start) -> None:
    """A password that lands in the line before is shown."""
    async with start(3) as stage:
        await stage.type_ahead("a", *"new", "tab", *"bob", "enter", *"secret", "down", *"isp", "up", *"s", "ctrl+s")
        assert stage.last == Add(SessionSettings("new", "bob", "secrets", "isp"))


async def test_a_filter_is_typed_not_done(start: Start) -> None:
    async with start(5, up=False) as stage:
        await stage.type_ahead("slash", *"home-0004", "enter", "d")
        assert "filter: home-0004" in stage.text()
        assert stage.engine.commands == [Dial((3,))]
        await stage.type_ahead("escape", "slash", *"dc", "escape", "G", "d")
        assert "5 sessions" in stage.text()
        assert stage.engine.commands == [Dial((3,)), Dial((4,))]


async def test_a_command_is_typed_not_done(start: Start) -> None:
    async with start(5) as stage:
        await stage.type_ahead("colon", *"theme light", "enter", "colon", *"hang", "enter")
        assert stage.app.theme == "light"
        assert isinstance(stage.app.screen, Confirm)
        assert stage.engine.commands == []


async def test_an_answer_is_to_the_question(start: Start) -> None:
    async with start(5) as stage:
        await stage.type_ahead("h", "y", "j", "r", "n", "e", "escape", "question_mark", "escape", "asterisk", "h", "y")
        assert stage.engine.commands == [HangUp((0,)), HangUp((0, 1, 2, 3, 4))]
        assert isinstance(stage.app.screen, SessionsPage)


async def test_keys_and_clicks_are_for_what_they_were_when_they_came(start: Start) -> None:
    """A click overtook the keys before it, and a key behind a click could be for the row of before that."""
    async with start(30, size=(80, 24)) as stage:
        lines = stage.text().splitlines()

        def click(name: str) -> list[MouseEvent]:
            y = next(y for y, line in enumerate(lines) if name in line)
            return [kind(None, 5, y, 0, 0, 1, False, False, False, 5, y) for kind in (MouseDown, MouseUp)]

        j, space = Key("j", "j"), Key("space", " ")
        for each in (j, j, *click("home-0005"), space, j, *click("home-0003"), space):
            stage.app.post_message(each)
        for _ in range(9):
            await stage.pilot.pause()
        assert stage.app.model.marks == {2, 4}


async def test_a_fault_while_keys_are_worked_off_is_told(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """The console must end and say so, rather than be deaf."""

    async def broken(*_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("souppp_tui.app.console.worked_off", broken)
    with pytest.raises(RuntimeError, match="broken"):
        async with start(3) as stage:
            await stage.press("j")


async def test_keys_behind_the_last_one_do_no_harm(start: Start) -> None:
    async with start(3) as stage:
        await stage.type_ahead("q", "y", *"jjjhy")
        assert stage.engine.commands == []
    assert stage.app.return_code == 0


async def test_a_page_that_is_slow_to_stand_gets_its_keys_all_the_same(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy host nobody waits for it for longer than a second."""
    monkeypatch.setattr("souppp_tui.terminal.keyboard.PATIENCE", 0.0)
    async with start(5) as stage:
        await stage.type_ahead("1", "g", "g")
        await stage.tick()
        assert "5 sessions by service" in stage.text()
