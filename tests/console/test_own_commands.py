"""Programs of the operator's on keys, with the session's values, in a box or with the terminal handed over."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from engine.settings.console import PLACEHOLDERS, OwnCommand
from engine.settings.reading import ConfigError, parse
from souppp_tui.app.console import ConsoleError
from souppp_tui.desk.options import ConsoleOptions
from souppp_tui.screens.output import Output
from souppp_tui.show.filling import MissingValueError, filled, values
from tests.console.conftest import Stage, Start
from tests.console.scripted import ScriptedEngine


def _options(**more: Any) -> ConsoleOptions:
    program = "import sys; print('told', *sys.argv[1:])"
    own = OwnCommand((sys.executable, "-c", program, "{device}", "x{address}"), "trace", pane=True)
    return ConsoleOptions(theme="dark", commands={"f5": own}, **more)


async def _said(stage: Stage, text: str) -> None:
    """A program has said something; it takes as long as it takes."""
    screen = stage.app.screen
    assert isinstance(screen, Output)
    for _ in range(1000):
        if screen.ended:
            break
        await stage.pilot.pause(0.02)
    await stage.pilot.pause()
    assert text in stage.text()


async def test_its_words_stand_in_a_box_with_the_sessions_values(start: Start) -> None:
    async with start(3, options=_options()) as stage:
        await stage.press("j", "f5")
        await _said(stage, "told soup1 x100.64.0.1")
        assert "It has ended." in stage.text()
        await stage.press("escape")
        assert not isinstance(stage.app.screen, Output)
        await stage.press("colon", *"trace")
        assert "f5" in stage.line("▸ trace")
        await stage.press("enter")
        await _said(stage, "told soup1 x100.64.0.1")


async def test_what_a_session_does_not_have_is_said(start: Start) -> None:
    async with start(3, up=False, options=_options()) as stage:
        await stage.press("f5")
        assert "home-0001 has no device now: it is down." in stage.text()


async def test_it_is_for_one_session_and_not_for_who_may_only_look(start: Start) -> None:
    async with start(3, options=_options()) as stage:
        await stage.press("space", "space", "f5")
        assert "It is for one session, and 2 are marked." in stage.text()
    async with start(3, options=_options(read_only=True)) as stage:
        await stage.press("f5")
        assert "read-only" in stage.text()


async def test_one_that_cannot_be_run_says_so(start: Start) -> None:
    options = ConsoleOptions(theme="dark", commands={"f5": OwnCommand(("/nowhere/program",), pane=True)})
    async with start(3, options=options) as stage:
        await stage.press("f5")
        await _said(stage, "/nowhere/program can't be run: No such file or directory.")


def test_a_key_that_is_taken_is_refused() -> None:
    from souppp_tui.app.console import Console

    with pytest.raises(ConsoleError, match="d would be both a command of yours and dial"):
        Console(ScriptedEngine(1), ConsoleOptions(commands={"d": OwnCommand(("x",))}))


def test_every_placeholder_has_a_value_and_none_is_the_concentrators_text() -> None:
    view = ScriptedEngine(1).snapshot().sessions[0]
    assert set(values(view)) == set(PLACEHOLDERS)
    assert view.ac_name
    assert view.ac_name not in values(view).values()
    assert filled(["{session_id}", "a{name}b", "{}"], view) == ["01a0", "ahome-0001b", "{}"]
    with pytest.raises(MissingValueError, match="has no proxy now"):
        filled(["{proxy}"], view)


def test_the_file_says_which() -> None:
    text = 'sessions: []\nconsole: {commands: {f5: {run: [mtr, -I, "{device}", 192.0.2.1], title: trace}}}'
    made = parse(text, "file", Path()).console.commands
    assert made == {"f5": OwnCommand(("mtr", "-I", "{device}", "192.0.2.1"), "trace")}
    for wrong, why in (
        ('{f5: {run: ["{devise}"]}}', "unknown {devise}"),
        ("{f5: {run: []}}", "1 to 32"),
        ("{f5: {title: x}}", "run is missing"),
        ('{"f5 f6": {run: [x]}}', "one key"),
    ):
        with pytest.raises(ConfigError, match=why.replace("{", r"\{")):
            parse(f"sessions: []\nconsole: {{commands: {wrong}}}", "file", Path())
