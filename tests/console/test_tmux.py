"""The console in a real terminal: start, size, quit, hang-up of the terminal, few colours, no colours, no UTF-8."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from shlex import quote

import pytest

from tests.program import alive, until
from tests.terminal import Terminal, needs_tmux

pytestmark = needs_tmux


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    with closing(Terminal(tmp_path)) as terminal:
        yield terminal


def console(arguments: str, environment: str = "") -> str:
    """The command line of a console over an engine that follows a script."""
    return f"env {environment} {quote(sys.executable)} -m tests.console.scripted {arguments}"


def test_dial_hang_up_and_quit(terminal: Terminal) -> None:
    terminal.start(console("--sessions 3 --down"))
    terminal.shows("○ home-0001", "3 down")
    terminal.type("*", "d")
    terminal.shows("Dial 3 sessions: home-0001, home-0002 and home-0003?")
    terminal.type("y")
    terminal.shows("● home-0001", "● home-0003", "3 up")
    terminal.type("\\", "j", "h")
    terminal.shows("Hang up home-0002?")
    terminal.type("y")
    terminal.shows("○ home-0002", "down · hung up by you")
    terminal.type("q")
    terminal.shows("Quit and hang up 2 sessions?")
    terminal.type("y")
    assert terminal.ended() == 0
    assert terminal.screen().strip() == "", "the terminal is as it was"


def test_resize(terminal: Terminal) -> None:
    terminal.start(console("--sessions 50"), 120, 40)
    terminal.shows("DEVICE", "● home-0027")
    terminal.resize(80, 24)

    def fits() -> str | None:
        screen = terminal.screen()
        return screen if "DEVICE" not in screen and screen.rstrip().endswith("q quit") else None

    assert "home-0014" in str(until(fits, "a screen of the new size"))
    terminal.resize(160, 50)
    terminal.shows("IPv6 PREFIX", "home-0030", ": command")


def test_a_tiny_terminal_is_no_reason_to_fall_over(terminal: Terminal) -> None:
    terminal.start(console("--sessions 5"), 20, 6)
    terminal.shows("home-0001")
    terminal.resize(80, 24)
    terminal.shows("home-0005", "q quit")


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP"])
def test_signals_end_it_in_order(terminal: Terminal, name: str) -> None:
    terminal.start(console("--sessions 3"))
    terminal.shows("● home-0001")
    os.kill(terminal.pid, getattr(signal, f"SIG{name}"))
    assert terminal.ended() == 0
    assert terminal.screen().strip() == ""


@pytest.mark.parametrize("name", ["TSTP", "STOP"])
def test_it_goes_on_after_a_stop(terminal: Terminal, name: str) -> None:
    """Whatever the screen shows by then, and more than once. Of a SIGSTOP it hears nothing."""
    terminal.start(console("--sessions 3"))
    terminal.shows("● home-0001")
    pid = terminal.pid
    threads = len(os.listdir(f"/proc/{pid}/task"))
    for key, shown in (("i", "driver"), ("Escape", "● home-0001")):
        os.kill(pid, getattr(signal, f"SIG{name}"))
        until(lambda: state(pid) == "T", "it stopped")
        terminal.tmux("send-keys", "-R")
        os.kill(pid, signal.SIGCONT)
        terminal.shows("q quit" if key == "i" else "driver")
        terminal.type(key)
        terminal.shows(shown)
        until(lambda: len(os.listdir(f"/proc/{pid}/task")) == threads, "one thread that reads keys, as before")
    terminal.type("q", "y")
    assert terminal.ended() == 0
    assert terminal.screen().strip() == ""


def state(pid: int) -> str:
    """Of a process, as ps(1) calls it."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_the_terminal_hangs_up(terminal: Terminal, tmp_path: Path) -> None:
    """As when SSH breaks off: the console must end, so that what started it can end the sessions.

    With its SIGHUP the kernel sends a SIGCONT, which may be heard at any time of the end.
    """
    commands = tmp_path / "commands"
    terminal.start(console(f"--sessions 300 --busy 300 --commands {commands}"))
    terminal.shows("● home-0001")
    pid = terminal.pid
    terminal.tmux("kill-server")

    def ended() -> bool:
        with suppress(ProcessLookupError):
            for _ in range(100):
                os.kill(pid, signal.SIGCONT)
                time.sleep(0.001)
        return not alive(pid)

    until(ended, "its end without a terminal")
    assert commands.exists(), "it did not end in order"


def test_a_crash_shows_no_values(terminal: Terminal) -> None:
    """Textual's own report prints local variables, and one could be a password."""
    terminal.start(console("--sessions 3 --crash wonder'land'"))
    assert terminal.ended() == 1
    screen = terminal.shows("told to crash", "a fault of its own")
    assert "wonderland" not in screen
    assert "wonderland" not in terminal.screen("-S", "-200")


def test_sixteen_colours(terminal: Terminal) -> None:
    terminal.start(console("--sessions 3 --theme auto", "TERM=screen COLORTERM="))
    terminal.shows("● home-0001", "q quit")
    colours = set(re.findall(r"\x1b\[([\d;]*)m", terminal.screen("-e")))
    assert colours
    assert not any("38;" in colour or "48;" in colour for colour in colours)


def test_no_colours(terminal: Terminal) -> None:
    terminal.start(console("--sessions 3", "NO_COLOR=1"))
    terminal.shows("▸ ● home-0001", "q quit")
    codes = {code for found in re.findall(r"\x1b\[([\d;]*)m", terminal.screen("-e")) for code in found.split(";")}
    assert codes <= {"", "0", "1", "2", "7", "39", "49"}
    assert "7" in codes, "the cursor shows without colour"


def test_no_utf8(terminal: Terminal) -> None:
    terminal.start(console("--sessions 3", "LANG=C LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0"))
    assert terminal.shows("> * home-0001", "q quit").isascii()


def test_a_dumb_terminal(terminal: Terminal) -> None:
    terminal.start(console("--sessions 3", "TERM=dumb"))
    assert terminal.ended() == 1
    assert "cannot place text on its screen" in " ".join(terminal.screen().split())
