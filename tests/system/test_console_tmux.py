"""The real console on the real lab in a real terminal: what an operator sees and types, and what a lost line leaves."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from shlex import join

import pytest

from tests.conftest import run
from tests.program import COMMAND, Traces, goodbyes, until
from tests.terminal import Terminal, needs_tmux

pytestmark = [pytest.mark.usefixtures("own_net"), needs_tmux]


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    return tmp_path / "capture"


def console(capture: Path, sessions: int) -> str:
    """The command line of a console on the lab."""
    return join([*COMMAND, "--lab", "--capture", str(capture), "--sessions", str(sessions)])


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (120, 40)])
def test_an_operators_round(terminal: Terminal, capture: Path, columns: int, rows: int) -> None:
    terminal.start(console(capture, 5), columns, rows)
    screen = terminal.shows("5 up", "● lab-01", "● lab-05", "100.64.0.2", "q0", "q1", "q quit")
    lines = screen.splitlines()
    assert len(lines) <= rows
    assert max(map(len, lines)) <= columns
    assert "souppp-lab" in screen or columns == 80

    terminal.type("j", "h")
    terminal.shows("Hang up lab-02?")
    terminal.type("Escape")
    terminal.shows("5 up", "q quit")
    terminal.type("h")
    terminal.shows("Hang up lab-02?")
    terminal.type("y")
    terminal.shows("○ lab-02", "down · hung up by you", "4 up")
    terminal.type("Enter")
    terminal.shows("why it is not up", "Hung up by you.", "`d` dials it.")
    terminal.type("Escape")
    terminal.shows("NAME", "4 up")
    terminal.type("d")
    terminal.shows("● lab-02", "5 up")

    terminal.type("Space", "Space", "h")
    terminal.shows("2 sessions")
    terminal.type("y")
    terminal.shows("3 up", "2 down")
    terminal.type("\\", "*", "d")
    terminal.shows("5 up")
    terminal.type("\\")

    terminal.type("Enter")
    terminal.shows("session id", "ladder" if columns == 80 else "negotiated", "LCP")
    terminal.type("Escape")
    terminal.shows("NAME", "lab-05", "5 up")
    terminal.type("1")
    terminal.shows("5 sessions by state", "GROUP", "SESSIONS")
    terminal.type("g")
    terminal.shows("5 sessions by reason")
    terminal.type("2")
    terminal.shows("NAME", "lab-05")
    terminal.type("/", *"n:2-3")
    terminal.shows("2 of 5", "● lab-03")
    terminal.type("C-u", *"faild")
    terminal.shows("faild finds none; did you mean `failed`?")
    terminal.type("Escape")
    terminal.shows("5 sessions", "lab-05")
    terminal.type("?")
    terminal.shows(": keys", "esc closes")
    terminal.type("Escape")
    until(lambda: "esc closes" not in terminal.screen(), "the help gone")

    traces = Traces(terminal.pid)
    terminal.type("q")
    terminal.shows("Quit and hang up 5 sessions?")
    terminal.type("y")
    assert terminal.ended() == 0
    assert terminal.screen().strip() == "", "the terminal is as it was"
    until(lambda: not traces.left(), "everything gone")
    assert goodbyes(capture) == 8, "five at the end, and three before"


def test_the_line_it_shows_works(terminal: Terminal, capture: Path) -> None:
    terminal.start(console(capture, 2), 120, 40)
    screen = terminal.shows("2 up", "curl --interface")
    line = next(line for line in screen.splitlines() if "curl --interface" in line)
    words = line[line.index("nsenter") :].split()
    command = words[: next(n for n, word in enumerate(words) if word.startswith("http://")) + 1]
    assert run(*command).startswith("Your address is 100.64.0.")


@pytest.mark.parametrize("way", ["hang-up", "ctrl-c", "ctrl-q", "TERM", "HUP"])
def test_each_way_out_ends_the_sessions_in_order(terminal: Terminal, capture: Path, way: str) -> None:
    """A hang-up is what happens when SSH breaks off: the terminal is gone, and nobody can be asked.

    Whichever it was, nobody is told that he hung up.
    """
    log = capture.with_name("events")
    terminal.start(f"{console(capture, 4)} --event-log {log}", 80, 24)
    terminal.shows("4 up")
    traces = Traces(terminal.pid)
    if way == "hang-up":
        terminal.tmux("kill-server")
    elif way.startswith("ctrl-"):
        terminal.type(f"C-{way[-1]}")
        if "Quit and hang up" in terminal.screen():
            terminal.type("y")
    else:
        os.kill(terminal.pid, getattr(signal, f"SIG{way}"))
    if way != "hang-up":
        until(lambda: terminal.screen().strip() == "" or "Quit and" in terminal.screen(), "its end")
        if "Quit and" in terminal.screen():
            terminal.type("y")
        assert terminal.ended() == 0
    until(lambda: not traces.left(), "everything gone")
    assert goodbyes(capture) == 4
    ends = [line.split("  ")[-1] for line in log.read_text().splitlines() if "Hung up" in line]
    assert ends == ["Hung up: the program ends."] * 4


def test_sigkill_leaves_nothing(terminal: Terminal, capture: Path) -> None:
    terminal.start(console(capture, 2), 80, 24)
    terminal.shows("2 up")
    traces = Traces(terminal.pid)
    os.kill(terminal.pid, signal.SIGKILL)
    until(lambda: not traces.left(), "everything gone")


def test_it_stays_responsive_while_a_hundred_sessions_dial(terminal: Terminal, capture: Path) -> None:
    terminal.start(console(capture, 100), 80, 24)
    terminal.shows("lab-001", "q quit")
    terminal.type("G")
    terminal.shows("lab-100")
    terminal.type("g")
    terminal.shows("lab-001")
    terminal.shows("100 up")


def test_the_event_file_tells_how_it_ended(terminal: Terminal, capture: Path, tmp_path: Path) -> None:
    """Also what happens when the screen has gone, and what happened while it stood still."""
    log = tmp_path / "events"
    terminal.start(f"{console(capture, 3)} --event-log {log}")
    terminal.shows("3 up")
    terminal.type("Z")
    terminal.shows("display frozen")
    terminal.type("h", "y", "q", "y")
    assert terminal.ended() == 0
    lines = log.read_text().splitlines()
    ended = {line.split()[2]: line.split("  ")[-1] for line in lines if "Hung up" in line}
    by_the_end = "Hung up: the program ends."
    assert ended == {"lab-01": "Hung up by you.", "lab-02": by_the_end, "lab-03": by_the_end}
    assert len(set(lines)) == len(lines), "none is written twice"


DAY = """\
sessions:
  - {name: "lab-{n:02}", user: "lab-{n:02}", password: lab, count: 4, autodial: true}  # a street
console:
  commands: {f5: {run: [sh, -c, "echo on {device}; read line; echo so $line; sleep 0.2"]}}
"""


def test_an_emergency_changes_and_what_is_taken_back(terminal: Terminal, tmp_path: Path) -> None:
    """Also in the file, which keeps its comments; and what was done in safe mode goes with the terminal."""
    config = tmp_path / "lab.yaml"
    config.write_text(DAY)
    config.chmod(0o600)
    terminal.start(join([*COMMAND, "--lab", "--config", str(config)]))
    terminal.shows("4 up")
    terminal.type("H")
    terminal.shows("End all sessions, and dial nobody until you take that back?")
    terminal.type("y")
    terminal.shows("ALL STOPPED", "○ 4", "down · all sessions were stopped")
    terminal.type("d")
    terminal.shows("nobody is dialled until you take that back")
    terminal.type("H")
    terminal.shows("Dial again?")
    terminal.type("y")
    terminal.shows("4 up", "q quit")

    terminal.type("F5")
    terminal.shows("on soup0")
    terminal.type("home", "Enter")
    terminal.shows("4 up", "● lab-01", "q quit")

    terminal.type("Space", "Space", "E")
    terminal.shows("Edit 2 sessions", "several values")
    terminal.type("Down", "Down", "gold", "C-s")
    terminal.shows("service none → gold")
    terminal.type("y")
    until(lambda: "except: {1: {service: gold}, 2: {service: gold}}" in config.read_text(), "that in the file")
    terminal.type("u")
    terminal.shows("edit: 2 sessions")
    terminal.type("Enter")
    until(lambda: "gold" not in config.read_text(), "that it is taken back in the file too")

    terminal.type("\\", ":")
    terminal.shows("type a part of a command's name")
    terminal.type("safe", "Enter")
    terminal.shows("safe mode")
    terminal.type("D")
    terminal.shows("Remove lab-")
    terminal.type("y")
    until(lambda: ": no" in config.read_text(), "that in the file")
    terminal.tmux("kill-server")
    until(lambda: ": no" not in config.read_text(), "that it is taken back with the terminal")
    assert "# a street" in config.read_text()
