"""Every screen at three sizes, compared with text files that a reviewer can read.

`UPDATE_SNAPSHOTS=1 pytest tests/console/test_snapshots.py` writes them anew.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from engine.api.commands import Dial, HangUp, Redial
from engine.api.values import SessionState, Severity
from souppp_tui.desk.options import ConsoleOptions
from tests.console.conftest import Both, Start
from tests.console.scripted import ScriptedEngine

FOLDER = Path(__file__).with_name("snapshots")
SCREENS: dict[str, Sequence[str]] = {
    "sessions": ("j", "space", "j"),
    "filtered": ("s", "S", "slash", *"ac:bras-2 !failed", "enter"),
    "filter-typing": ("slash", *"rx>fast"),
    "details": ("enter",),
    "details-failed": ("G", "enter"),
    "fields": ("enter", "g", "enter"),
    "card": ("i",),
    "events": ("e", "k"),
    "confirm": ("h",),
    "confirm-many": ("asterisk", "h", "2"),
    "form": ("E",),
    "form-wrong": ("a", "tab", "tab", "tab", "tab", "tab", *"zz", "ctrl+s"),
    "columns": ("o",),
    "sort-by": ("s", "S", "b"),
    "palette": ("colon", *"sort"),
    "reload": ("L",),
    "help": ("question_mark",),
    "summary": ("1", "g", "j"),
    "masked": ("x",),
    "frozen": ("Z",),
}
OF_TWO: dict[str, Sequence[str]] = {
    "several": ("asterisk", "G"),
    "several-card": ("i",),
    "several-events": ("e",),
    "several-end": ("Q",),
}
"""Of two engines, one of which can't be reached."""


def scene() -> ScriptedEngine:
    """28 sessions in all states, with traffic and events."""
    engine = ScriptedEngine(28, busy=9, failing=13)
    engine.submit(HangUp((4, 5)))
    engine.submit(Redial((12, 6)))
    engine.advance(0.45)
    engine.advance(0.45)
    engine.submit(Dial((5,)))
    engine.change(27, state=SessionState.FAILED, up_since=None, ipv4=None, reason="no answer to 3 PADIs", retry_at=None)
    engine.emit("No answer to 3 PADIs in 14 s. Is the modem in bridge mode?", Severity.ERROR, 27)
    return engine


def scene_of_two() -> Both:
    """The same, and an engine that is lost."""
    both = Both(scene(), ScriptedEngine(12, busy=3))
    both.snapshot()
    both.scripted[1].emit("The link is up.")
    both.scripted[1].lost = "The connection to the engine was lost. Trying again: hub.sock: no engine listens there."
    return both


@pytest.mark.parametrize("size", [(60, 15), (80, 24), (160, 50)], ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("screen", [*SCREENS, *OF_TWO])
async def test_screen(start: Start, screen: str, size: tuple[int, int]) -> None:
    one = screen in SCREENS
    options = ConsoleOptions(theme="dark", load=lambda: (), attached=not one)
    async with start(engine=scene() if one else scene_of_two(), size=size, options=options) as stage:
        await stage.tick(4, 0.05)
        await stage.press(*(SCREENS | OF_TWO)[screen])
        await stage.tick(2, 0.05)
        shown = stage.text() + "\n"
        faint = stage.painted("faint")
    assert not any(map(str.isalnum, faint)), "faint is for lines: nobody can read a word in it"
    assert all(len(line) <= size[0] for line in shown.splitlines())
    file = FOLDER / f"{screen}-{size[0]}x{size[1]}.txt"
    if os.environ.get("UPDATE_SNAPSHOTS"):
        FOLDER.mkdir(exist_ok=True)
        file.write_text(shown, encoding="utf-8")
    assert shown == file.read_text(encoding="utf-8"), (
        f"{file.name}: look at the difference; UPDATE_SNAPSHOTS=1 accepts it"
    )
