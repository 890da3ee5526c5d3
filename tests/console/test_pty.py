"""The console on terminals that are not as they should be: without a size, read by nobody, gone."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.program import until
from tests.terminal import Pty

Open = Callable[..., Pty]


@pytest.fixture
def opened() -> Iterator[Open]:
    """Starts a console over an engine that follows a script: `opened("--sessions 3", **for Pty)`."""
    terminals: list[Pty] = []

    def start(arguments: str, **more: object) -> Pty:
        command = [sys.executable, "-m", "tests.console.scripted", *arguments.split()]
        terminals.append(Pty(command, **more))  # type: ignore[arg-type]
        return terminals[-1]

    yield start
    for terminal in terminals:
        terminal.close()


QUIET = "--sessions 30 --busy 0"


@pytest.mark.parametrize(("columns", "rows"), [(0, 0), (80, 0), (0, 24), (1, 1)])
def test_whatever_size_it_says_it_comes_to_rest(opened: Open, columns: int, rows: int) -> None:
    terminal = opened(QUIET, columns=columns, rows=rows)
    until(lambda: b"\x1b[1;1H" in terminal.written or (terminal.read() and False), "a screen")
    terminal.rests()
    if columns != 1:
        terminal.shows("home-0014")
        assert terminal.height == 24
    terminal.type(b"q")
    if columns != 1:
        terminal.shows("Quit and hang up 30 sessions?")
    terminal.process.send_signal(signal.SIGTERM)
    assert terminal.ended() == 0


def test_columns_and_lines_count_where_the_terminal_says_nothing(opened: Open) -> None:
    terminal = opened(QUIET, columns=0, rows=0, COLUMNS="120", LINES="40")
    terminal.shows("DEVICE")
    terminal.rests()
    assert terminal.height == 40
    terminal.resize(80, 24)
    os.kill(terminal.process.pid, signal.SIGWINCH)
    terminal.rests()
    terminal.forget()
    terminal.type(b"\x0c")
    terminal.shows("home-0014")
    assert terminal.height == 24


def test_columns_and_lines_are_not_believed_against_the_terminal(opened: Open) -> None:
    terminal = opened(QUIET, COLUMNS="120", LINES="40")
    terminal.shows("home-0014")
    terminal.rests()
    assert terminal.height == 24
    assert "DEVICE" not in terminal.screen()


def test_a_size_that_comes_among_the_keys(opened: Open) -> None:
    """As from a terminal that reports each change itself; here one that starts with no idea of it."""
    terminal = opened(QUIET, columns=0, rows=0)
    terminal.shows("home-0014")
    terminal.type(b"\x1b[?2048;1$y\x1b[48;0;0;0;0t")
    terminal.rests()
    terminal.type(b"\x1b[48;40;120;0;0t")
    terminal.shows("DEVICE")
    terminal.rests()
    assert terminal.height == 40


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP"])
def test_nobody_reads_and_a_signal_ends_it_in_order(opened: Open, tmp_path: Path, name: str) -> None:
    commands = tmp_path / "commands"
    terminal = opened(f"--sessions 50 --hz 40 --commands {commands}", columns=200, rows=60)
    assert terminal.fills() > 4000
    terminal.process.send_signal(getattr(signal, f"SIG{name}"))
    assert terminal.ended(read=False) == 0
    assert commands.exists(), "it did not end in order"


def test_keys_are_heeded_while_nobody_reads_and_the_latest_is_shown(opened: Open) -> None:
    terminal = opened("--sessions 50 --hz 40", columns=200, rows=60)
    terminal.fills()
    terminal.type(b"e")
    terminal.fills()
    terminal.shows("following")
    terminal.type(b"\x1b")
    terminal.forget()
    terminal.shows("ADDRESS")


@pytest.mark.parametrize("controls", [True, False], ids=["SIGHUP", "no SIGHUP"])
def test_a_terminal_that_goes_ends_it_in_order(opened: Open, tmp_path: Path, controls: bool) -> None:
    commands = tmp_path / "commands"
    terminal = opened(f"{QUIET} --commands {commands}", controls=controls)
    terminal.shows("home-0014")
    terminal.go_away()
    assert terminal.ended(read=False) == 0
    assert commands.exists(), "it did not end in order"


def test_keys_that_are_not_utf8(opened: Open) -> None:
    terminal = opened(QUIET)
    terminal.shows("home-0014")
    terminal.type(b"\xe9\xff\xc3")
    terminal.type(b"e")
    terminal.shows("following")
