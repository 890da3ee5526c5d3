"""The real console on the real lab in a real terminal: what an operator sees and types, and what a lost line leaves."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT, run
from tests.program import COMMAND, Traces, until

pytestmark = [
    pytest.mark.usefixtures("own_net"),
    pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux"),
]


class Terminal:
    """A tmux server of its own with one window, in which the console runs."""

    def __init__(self, folder: Path) -> None:
        self.capture = folder / "capture"
        self._name = f"souppp-test-{os.getpid()}"
        self._status = folder / "status"

    def tmux(self, *arguments: str) -> str:
        """Run a tmux command."""
        return run("tmux", "-L", self._name, "-f", "/dev/null", *arguments)

    def start(self, columns: int, rows: int, *arguments: str) -> None:
        """Start the console; its exit code is written when it ends."""
        words = " ".join([*COMMAND, "--lab", "--capture", str(self.capture), *arguments])
        script = f"cd {ROOT}; env LANG=C.UTF-8 {words}; echo $? > {self._status}; sleep 60"
        self.tmux("new-session", "-d", "-x", str(columns), "-y", str(rows), "sh", "-c", script)

    def type(self, *keys: str) -> None:
        """Press keys, by tmux's names."""
        self.tmux("send-keys", *keys)

    def screen(self) -> str:
        """What the terminal shows."""
        return self.tmux("capture-pane", "-p")

    def shows(self, *parts: str) -> str:
        """Wait until the screen shows all this, and return it."""
        try:
            until(lambda: all(part in self.screen() for part in parts), "it")
        except AssertionError:
            raise AssertionError(f"never saw {parts} but\n{self.screen()}") from None
        return self.screen()

    @property
    def pid(self) -> int:
        """The console's process."""
        shell = self.tmux("list-panes", "-F", "#{pane_pid}").strip()
        return int(Path(f"/proc/{shell}/task/{shell}/children").read_text().split()[0])

    def ended(self) -> int:
        """Wait for the console's end; its exit code."""
        until(lambda: self._status.exists() and self._status.read_text().strip(), f"its end, but\n{self.screen()}")
        return int(self._status.read_text())

    def close(self) -> None:
        """End the tmux server and all in it."""
        subprocess.run(["tmux", "-L", self._name, "kill-server"], check=False, capture_output=True, timeout=10)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path)
    yield terminal
    terminal.close()


def goodbyes(terminal: Terminal) -> int:
    """How many sessions were ended in order: Terminate-Request, Terminate-Ack, PADT."""
    frames = run("tcpdump", "-nr", terminal.capture).splitlines()
    sessions = {frame.split("[ses ")[1].split("]")[0] for frame in frames if "[ses 0x" in frame and "0x0]" not in frame}
    ends = [[frame for frame in frames if f"[ses {number}]" in frame][-3:] for number in sessions]
    order = ("Term-Request", "Term-Ack", "PADT")
    return sum(all(word in frame for word, frame in zip(order, end, strict=True)) for end in ends)


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (120, 40)])
def test_an_operators_round(terminal: Terminal, columns: int, rows: int) -> None:
    terminal.start(columns, rows, "--sessions", "5")
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
    until(lambda: not traces.left(), "everything gone", 10)
    assert goodbyes(terminal) == 8, "five at the end, and three before"


def test_the_line_it_shows_works(terminal: Terminal) -> None:
    terminal.start(120, 40, "--sessions", "2")
    screen = terminal.shows("2 up", "curl --interface")
    line = next(line for line in screen.splitlines() if "curl --interface" in line)
    words = line[line.index("nsenter") :].split()
    command = words[: next(n for n, word in enumerate(words) if word.startswith("http://")) + 1]
    assert run(*command).startswith("Your address is 100.64.0.")


@pytest.mark.parametrize("way", ["hang-up", "ctrl-c", "ctrl-q", "TERM", "HUP"])
def test_each_way_out_ends_the_sessions_in_order(terminal: Terminal, way: str) -> None:
    """A hang-up is what happens when SSH breaks off: the terminal is gone, and nobody can be asked."""
    terminal.start(80, 24, "--sessions", "4")
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
    until(lambda: not traces.left(), "everything gone", 20)
    assert goodbyes(terminal) == 4


def test_sigkill_leaves_nothing(terminal: Terminal) -> None:
    terminal.start(80, 24, "--sessions", "2")
    terminal.shows("2 up")
    traces = Traces(terminal.pid)
    os.kill(terminal.pid, signal.SIGKILL)
    until(lambda: not traces.left(), "everything gone", 20)


def test_it_stays_responsive_while_a_hundred_sessions_dial(terminal: Terminal) -> None:
    terminal.start(80, 24, "--sessions", "100")
    terminal.shows("lab-001", "q quit")
    terminal.type("G")
    terminal.shows("lab-100")
    terminal.type("g")
    terminal.shows("lab-001")
    terminal.shows("100 up")
