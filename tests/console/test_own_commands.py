"""Programs of the operator's on keys, with the session's values, in a box or with the terminal handed over."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from engine.settings.console import PLACEHOLDERS, OwnCommand
from engine.settings.reading import ConfigError, parse
from souppp_tui.app.console import ConsoleError
from souppp_tui.commands import attach
from souppp_tui.commands.files import own_configuration, who_else_writes
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


@pytest.mark.parametrize(
    "odd", ["-oProxyCommand=x", "a b", "a;b", "$(x)", "a\nb", "`x`", "#x", "~x", "a'b", "a*", "=x"]
)
def test_no_value_becomes_an_option_or_a_shells_text(odd: str) -> None:
    """Names may be given by who may command an engine, and all of it is told by one that may be anybody's."""
    view = replace(ScriptedEngine(1).snapshot().sessions[0], name=odd, device=odd)
    for argument in ("{name}", "on {device}"):
        with pytest.raises(MissingValueError, match="Not run: a program could take the"):
            filled(["sh", "-c", argument], view)


@pytest.mark.parametrize("usual", ["home-01", "1234567#0001@t-online.de", "Grün_7", "[::1]:1080", "2001:db8::/56", ""])
def test_what_values_usually_are_is_filled_in(usual: str) -> None:
    view = replace(ScriptedEngine(1).snapshot().sessions[0], name=usual)
    assert filled(["{name}"], view) == [usual]


async def test_what_means_something_else_here_is_not_run(start: Start) -> None:
    def why(own: OwnCommand, place: int) -> str:
        return attach._why_not_own("", ["on ops@gate"], own, place)

    naming = OwnCommand((sys.executable, "-c", "print('ticket')", "{name}"), "ticket", pane=True)
    options = _options(why_not_own=why)
    async with start(3, options=replace(options, commands={**options.commands, "f6": naming})) as stage:
        await stage.press("f5")
        assert "The session is on ops@gate, and this would be run here: run it there." in stage.text()
        await stage.press("f6")
        await _said(stage, "ticket")


def test_a_file_that_others_write_gives_no_commands(tmp_path: Path) -> None:
    file = tmp_path / "console.yaml"
    file.write_text("sessions: []")
    assert who_else_writes(file) == ""
    file.chmod(0o664)
    assert who_else_writes(file) == f"Others can write {file}, so its commands are not run: chmod go-w."
    if os.geteuid() == 0:
        os.chown(file, 1000, 1000)
        assert who_else_writes(file) == f"{file} is another user's file, so its commands are not run."


def test_where_a_console_looks_for_its_own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert own_configuration() is None
    (tmp_path / "souppp").mkdir()
    (tmp_path / "souppp" / "console.yaml").write_text("sessions: []")
    assert own_configuration() == tmp_path / "souppp" / "console.yaml"
    monkeypatch.setenv("XDG_CONFIG_HOME", ".")
    assert own_configuration() is None


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
