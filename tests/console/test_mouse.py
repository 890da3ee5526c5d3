"""The mouse where people expect it: rows, heads, keys in the footer, twice on a row, drawn over rows, the wheel."""

from __future__ import annotations

from textual.events import MouseMove, MouseScrollDown

from engine.api.values import Severity
from souppp_tui.screens.confirm import Confirm
from souppp_tui.screens.details import DetailsPage
from souppp_tui.screens.sessions import SessionsPage
from tests.console.conftest import Stage, Start
from tests.console.scripted import ScriptedEngine


def _at(stage: Stage, text: str) -> tuple[int, int]:
    """Where a text stands on the screen."""
    for y, line in enumerate(stage.text().splitlines()):
        if text in line:
            return line.index(text), y
    raise AssertionError(f"{text} is not on the screen")


async def _click(stage: Stage, text: str, times: int = 1) -> None:
    await stage.pilot.click(offset=_at(stage, text), times=times)
    await stage.pilot.pause()


async def test_a_row_the_head_and_the_footer(start: Start) -> None:
    async with start(30, size=(100, 30)) as stage:
        await _click(stage, "home-0005")
        assert stage.app.model.cursor == 4
        await _click(stage, "UPTIME")
        assert stage.app.model.sort == "uptime"
        first = stage.app.model.shown[0]
        await _click(stage, "UPTIME")
        assert stage.app.model.shown[0] != first, "once more turns it round"
        await _click(stage, "hang up")
        assert isinstance(stage.app.screen, Confirm)
        assert "home-0005" in stage.text()
        await stage.press("n")
        await _click(stage, "details")
        assert isinstance(stage.app.screen, DetailsPage)


async def test_twice_on_a_row_opens_it(start: Start) -> None:
    async with start(30) as stage:
        await _click(stage, "home-0007", times=2)
        screen = stage.app.screen
        assert isinstance(screen, DetailsPage)
        assert screen.session == 6
        stage.engine.emit("Look here.", session=2)
        await stage.press("escape", "e")
        await stage.tick()
        await _click(stage, "Look here.", times=2)
        assert isinstance(stage.app.screen, SessionsPage)
        assert stage.app.model.cursor == 2


async def test_drawn_over_rows_it_marks_them(start: Start) -> None:
    async with start(30, size=(100, 40)) as stage:
        await stage.press("G", "space", "g")
        x, y = _at(stage, "home-0003")
        pilot = stage.pilot
        await pilot.mouse_down(offset=(x, y))
        for row in (y + 2, y + 4, y + 3):
            await pilot._post_mouse_events([MouseMove], offset=(x, row), button=1)
        await pilot.mouse_up(offset=(x, y + 3))
        await pilot.pause()
        assert stage.app.model.marks == {2, 3, 4, 5, 29}, "no more than it was drawn over in the end"
        await pilot._post_mouse_events([MouseMove], offset=(x, y + 9), button=0)
        assert len(stage.app.model.marks) == 5, "nor without the button"


async def test_the_wheel_scrolls_and_an_alarm_leads_to_the_events(start: Start) -> None:
    engine = ScriptedEngine(200)
    async with start(engine=engine, size=(80, 24)) as stage:
        await stage.pilot._post_mouse_events([MouseScrollDown], "SessionsPage > Rows", offset=(5, 3))
        await stage.pilot.pause()
        assert "home-0001" not in stage.text()
        engine.emit("eth0 is down.", Severity.ERROR)
        await stage.tick()
        await _click(stage, "1 alarm")
        assert "events: 1" in stage.text()


async def test_a_letter_of_the_sort_chooser(start: Start) -> None:
    async with start(30, size=(100, 30)) as stage:
        await stage.press("b")
        await _click(stage, "e rtt")
        assert stage.app.model.sort == "rtt"
