"""A console that is left while its engine goes on, and the process that the shell waits for until then."""

from __future__ import annotations

import os
import re
import signal
import socket
from contextlib import closing
from pathlib import Path
from shlex import join

import pytest

from engine.host import netns
from tests.conftest import ROOT
from tests.program import COMMAND, Traces, alive, goodbyes, until
from tests.system.test_privileges import ALWAYS, confined_to, states
from tests.system.test_served import asked, configuration, ctl
from tests.terminal import Terminal, needs_tmux

pytestmark = [pytest.mark.usefixtures("own_net"), needs_tmux]

SESSIONS = 3
PAGE = 3_000_000
"""Octets: more than sockets and queues hold, so that most of it comes after the console was left."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lab.sock"


def console(tmp_path: Path, *more: str | Path) -> str:
    sessions = () if "--config" in more else ("--sessions", SESSIONS)
    usual = ("--lab", "--capture", tmp_path / "capture", "--socket", tmp_path / "lab.sock")
    return join(map(str, (*COMMAND, *usual, *sessions, *more)))


def worker(terminal: Terminal) -> int:
    """The process that has the engine and the screen: the child of the one that the shell waits for."""
    waiting = terminal.pid
    return int(Path(f"/proc/{waiting}/task/{waiting}/children").read_text().split()[0])


def state(pid: int) -> str:
    """Of a process, as ps(1) calls it."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def download(pid: int, device: str) -> socket.socket:
    """A connection through a session, over which a page has begun to come."""
    with netns.inside(pid):
        made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    made.settimeout(45)
    made.connect(("100.64.0.1", 80))
    made.sendall(f"GET /{PAGE} HTTP/1.0\r\n\r\n".encode())
    assert made.recv(1000)
    return made


def rest(connection: socket.socket) -> int:
    """How many octets come until the other end closes it."""
    return sum(map(len, iter(lambda: connection.recv(1 << 16), b"")))


def facts(path: Path) -> dict[str, tuple[str, int, str]]:
    """What no session may lose: its address, its id, since when it is up."""
    return {each["name"]: (each["ipv4"], each["session_id"], each["up_since"]) for each in asked(path, "list")}


def test_connections_live_on_when_the_console_is_left(terminal: Terminal, path: Path, tmp_path: Path) -> None:
    log, config = tmp_path / "events", tmp_path / "lab.yaml"
    config.write_text(configuration(1, 2, 3))
    terminal.start(console(tmp_path, "--config", config, "--event-log", log))
    terminal.shows("3 up")
    before, traces, engine = facts(path), Traces(terminal.pid), worker(terminal)
    assert "belongs to a console" in ctl(path, "reload", code=1)
    with closing(download(engine, asked(path, "show", "home-02")["device"])) as connection:
        terminal.type("q")
        terminal.shows("Quit and hang up 3 sessions?", "b  leave them up")
        terminal.type("Escape", "q", "b")
        assert terminal.ended() == 0
        (line,) = terminal.screen("-J").strip().splitlines()
        assert line.startswith("The engine goes on in the background. Attach to it with `souppp-tui attach --socket")
        assert os.getsid(engine) == engine, "it has left the terminal"
        assert {os.readlink(f"/proc/{engine}/fd/{number}") for number in range(3)} == {os.devnull}
        confined_to(engine, *ALWAYS)
        terminal.close()
        assert rest(connection) >= PAGE - 1000
    assert facts(path) == before

    config.write_text(configuration(2, 3, 4))
    os.kill(engine, signal.SIGHUP)
    until(lambda: [*facts(path)] == ["home-02", "home-03", "home-04"], "the difference")
    ctl(path, "wait")
    ctl(path, "add", "name=more", "user=me", "autodial=no", "--password-file", "-", given="lab\n")
    assert "more" in config.read_text(), "what is added is kept in the file"
    ctl(path, "stop")
    until(lambda: not traces.left(), "everything gone")
    assert not path.exists()
    assert goodbyes(tmp_path / "capture") == 3, "one was removed before"
    lines = log.read_text().splitlines()
    assert len(set(lines)) == len(lines), "none is written twice"
    assert len([line for line in lines if line.endswith("Hung up: the program ends.")]) == 3, "the last ones too"


def test_an_engine_that_was_left_is_attached_to(terminal: Terminal, path: Path, tmp_path: Path) -> None:
    terminal.start(console(tmp_path))
    terminal.shows(f"{SESSIONS} up")
    engine = worker(terminal)
    terminal.type("q", "b")
    assert terminal.ended() == 0
    again = Terminal(tmp_path / "again")
    (tmp_path / "again").mkdir()
    with closing(again):
        again.start(join([*COMMAND, "attach", "--socket", str(path)]))
        again.shows(f"{SESSIONS} up")
        again.type("q")
        assert again.ended() == 0
        assert alive(engine)
    os.kill(engine, signal.SIGTERM)
    until(lambda: not alive(engine), "its end")
    assert goodbyes(tmp_path / "capture") == SESSIONS


def test_who_waits_for_it_may_nothing_and_holds_nothing(terminal: Terminal, tmp_path: Path) -> None:
    terminal.start(console(tmp_path))
    terminal.shows(f"{SESSIONS} up")
    waiting = terminal.pid
    confined_to(waiting)
    (thread,) = states(waiting)
    assert thread["Threads"] == "1"
    open_files = [os.readlink(each) for each in Path(f"/proc/{waiting}/fd").iterdir()]
    kinds = sorted(re.sub(r"[:\d/].*", "", name.removeprefix("/dev/")) for name in open_files)
    assert kinds == ["anon_inode", "pipe", "pts", "pts", "pts"], open_files
    terminal.type("q", "y")
    assert terminal.ended() == 0


def test_the_engine_killed_under_its_console(terminal: Terminal, tmp_path: Path) -> None:
    terminal.start(console(tmp_path))
    terminal.shows(f"{SESSIONS} up")
    traces = Traces(terminal.pid)
    os.kill(worker(terminal), signal.SIGKILL)
    assert terminal.ended() == 128 + signal.SIGKILL, "as the shell has it of a program that was killed"
    until(lambda: not traces.left(), "everything gone")


def test_who_waits_for_it_is_killed(terminal: Terminal, tmp_path: Path) -> None:
    """Then nobody waits: the sessions end in order, as when the terminal goes."""
    terminal.start(console(tmp_path))
    terminal.shows(f"{SESSIONS} up")
    traces = Traces(terminal.pid)
    os.kill(terminal.pid, signal.SIGKILL)
    assert terminal.ended() == 128 + signal.SIGKILL
    until(lambda: not traces.left(), "everything gone")
    assert goodbyes(tmp_path / "capture") == SESSIONS


@pytest.mark.parametrize("whom", ["group", "stand-in", "engine"])
@pytest.mark.parametrize("name", ["TSTP", "STOP"])
def test_a_shell_stops_it_and_has_it_go_on(terminal: Terminal, tmp_path: Path, name: str, whom: str) -> None:
    """Whichever of the two is told to stop; of a SIGSTOP to one the other hears nothing."""
    terminal.tmux("new-session", "-d", "-x", "80", "-y", "24", "-c", str(ROOT), "env", "PS1=$ ", "bash", "--norc", "-i")
    terminal.shows("$")
    command = tmp_path / "command"
    command.write_text(f"exec {console(tmp_path)}\n")
    terminal.type(f"sh {command}", "Enter")
    terminal.shows(f"{SESSIONS} up")
    waiting, engine = terminal.pid, worker(terminal)
    number = getattr(signal, f"SIG{name}")
    for _ in range(2):
        if whom == "group":
            os.killpg(waiting, number)
        else:
            os.kill(waiting if whom == "stand-in" else engine, number)
        terminal.shows("Stopped")
        until(lambda: state(waiting) == state(engine) == "T", "both stop")
        terminal.type("clear; fg", "Enter")
        terminal.shows(f"{SESSIONS} up", "q quit")
        until(lambda: "T" not in map(state, (waiting, engine)), "both go on")
    terminal.type("q", "y")
    until(lambda: not alive(waiting), "its end")
    terminal.type("clear; echo it ended with $?", "Enter")
    terminal.shows("it ended with 0")
    assert goodbyes(tmp_path / "capture") == SESSIONS
