"""The console in a real terminal: start, size, quit, hang-up of the terminal, few colours, no colours, no UTF-8."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux")
ROOT = Path(__file__).resolve().parents[2]


class Tmux:
    """A tmux server of its own with one window."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "tmux"
        self.status = folder / "status"

    def __call__(self, *arguments: str) -> str:
        """Run a tmux command and return what it prints."""
        command = ["tmux", "-S", str(self.socket), "-f", "/dev/null", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout

    def start(self, arguments: str = "", columns: int = 80, rows: int = 24, environment: str = "") -> None:
        """Start the console; its exit status is written when it ends."""
        python = f"env LANG=C.UTF-8 {environment} {sys.executable} -m tests.console.scripted {arguments}"
        script = f"cd {ROOT} && {python}; echo $? > {self.status}; sleep 30"
        self("new-session", "-d", "-x", str(columns), "-y", str(rows), "sh", "-c", script)

    def screen(self, *options: str) -> str:
        """What the terminal shows."""
        return self("capture-pane", "-p", *options)

    def wait_for(self, *parts: str) -> str:
        """Wait until all these texts are on the screen, and return it."""
        end = time.monotonic() + 20
        while True:
            screen = self.screen()
            if all(part in screen for part in parts):
                return screen
            assert time.monotonic() < end, f"never saw {parts} but\n{screen}"
            time.sleep(0.05)

    def ended(self) -> int:
        """Wait for the console's end and return its exit status."""
        end = time.monotonic() + 20
        while not (self.status.exists() and self.status.read_text().strip()):
            assert time.monotonic() < end, f"still running:\n{self.screen()}"
            time.sleep(0.05)
        return int(self.status.read_text())

    def pid(self) -> int:
        """The console's process."""
        shell = self("list-panes", "-F", "#{pane_pid}").strip()
        return int(Path(f"/proc/{shell}/task/{shell}/children").read_text().split()[0])


@pytest.fixture
def tmux(tmp_path: Path) -> Iterator[Tmux]:
    """A tmux server that is ended after the test."""
    server = Tmux(tmp_path)
    yield server
    subprocess.run(["tmux", "-S", str(server.socket), "kill-server"], check=False, capture_output=True, timeout=10)


def test_dial_hang_up_and_quit(tmux: Tmux) -> None:
    tmux.start("--sessions 3 --down")
    tmux.wait_for("○ home-0001", "3 down")
    tmux("send-keys", "*", "d")
    tmux.wait_for("● home-0001", "● home-0003", "3 up")
    tmux("send-keys", "\\", "j", "h")
    tmux.wait_for("Hang up home-0002?")
    tmux("send-keys", "y")
    tmux.wait_for("○ home-0002", "down · hung up by you")
    tmux("send-keys", "q")
    tmux.wait_for("Quit and hang up 2 sessions?")
    tmux("send-keys", "y")
    assert tmux.ended() == 0
    assert tmux.screen().strip() == "", "the terminal is as it was"


def test_resize(tmux: Tmux) -> None:
    tmux.start("--sessions 50", 120, 40)
    tmux.wait_for("DEVICE", "● home-0027")
    tmux("resize-window", "-x", "80", "-y", "24")
    screen = tmux.wait_for("q quit")
    end = time.monotonic() + 10
    while "DEVICE" in screen or not screen.rstrip().endswith("q quit"):
        assert time.monotonic() < end, screen
        time.sleep(0.1)
        screen = tmux.screen()
    assert "home-0014" in screen
    tmux("resize-window", "-x", "160", "-y", "50")
    tmux.wait_for("IPv6 PREFIX", "home-0030", ": command")


def test_a_tiny_terminal_is_no_reason_to_fall_over(tmux: Tmux) -> None:
    tmux.start("--sessions 5", 20, 6)
    tmux.wait_for("home-0001")
    tmux("resize-window", "-x", "80", "-y", "24")
    tmux.wait_for("home-0005", "q quit")


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP"])
def test_signals_end_it_in_order(tmux: Tmux, name: str) -> None:
    tmux.start("--sessions 3")
    tmux.wait_for("● home-0001")
    os.kill(tmux.pid(), getattr(__import__("signal"), f"SIG{name}"))
    assert tmux.ended() == 0
    assert tmux.screen().strip() == ""


def test_the_terminal_hangs_up(tmux: Tmux, tmp_path: Path) -> None:
    """As when SSH breaks off: the console must end, so that what started it can end the sessions."""
    commands = tmp_path / "commands"
    tmux.start(f"--sessions 300 --busy 300 --commands {commands}")
    tmux.wait_for("● home-0001")
    process = Path(f"/proc/{tmux.pid()}")
    tmux("kill-server")
    end = time.monotonic() + 10
    while process.exists() and "Z" not in (process / "stat").read_text().split(")")[1][:3]:
        assert time.monotonic() < end, "still running without a terminal"
        time.sleep(0.1)
    assert commands.exists(), "it did not end in order"


def test_a_crash_shows_no_values(tmux: Tmux) -> None:
    """Textual's own report prints local variables, and one could be a password."""
    tmux.start("--sessions 3 --crash wonder'land'")
    assert tmux.ended() == 1
    screen = tmux.wait_for("told to crash", "a fault of its own")
    assert "wonderland" not in screen
    assert "wonderland" not in tmux.screen("-S", "-200")


def test_sixteen_colours(tmux: Tmux) -> None:
    tmux.start("--sessions 3 --theme auto", environment="TERM=screen COLORTERM=")
    tmux.wait_for("● home-0001", "q quit")
    colours = set(re.findall(r"\x1b\[([\d;]*)m", tmux.screen("-e")))
    assert colours
    assert not any("38;" in colour or "48;" in colour for colour in colours)


def test_no_colours(tmux: Tmux) -> None:
    tmux.start("--sessions 3", environment="NO_COLOR=1")
    tmux.wait_for("▸ ● home-0001", "q quit")
    codes = {code for found in re.findall(r"\x1b\[([\d;]*)m", tmux.screen("-e")) for code in found.split(";")}
    assert codes <= {"", "0", "1", "2", "7", "39", "49"}
    assert "7" in codes, "the cursor shows without colour"


def test_no_utf8(tmux: Tmux) -> None:
    tmux.start("--sessions 3", environment="LANG=C LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0")
    assert tmux.wait_for("> * home-0001", "q quit").isascii()


def test_a_dumb_terminal(tmux: Tmux) -> None:
    tmux.start("--sessions 3", environment="TERM=dumb")
    assert tmux.ended() == 1
    assert "cannot place text on its screen" in " ".join(tmux.screen().split())
