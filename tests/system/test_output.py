"""Whoever reads the output, or doesn't: signals end the program in order, and a terminal that goes does."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from shlex import join

import pytest

from tests.conftest import ROOT, run
from tests.program import COMMAND, PATIENCE, alive, descendants, goodbyes, refused, running, until
from tests.terminal import Pty, Terminal, needs_tmux, unread

SESSIONS = 12
ENVIRONMENT = 3


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    return tmp_path / "capture"


def lab(capture: Path, *more: str) -> list[str]:
    return [*COMMAND, "--lab", "--sessions", str(SESSIONS), "--capture", str(capture), *more]


def all_up(pid: int) -> bool:
    """Whether each session has its address on its device: the process or a child of its is in the lab's namespace."""
    for each in descendants(pid):
        inside = ["nsenter", "-t", str(each), "-n", "ip", "-4", "-br", "address"]
        if subprocess.run(inside, capture_output=True, text=True, check=False).stdout.count("soup") == SESSIONS:
            return True
    return False


# --- no terminal ---


@pytest.mark.parametrize("missing", [(0,), (1,), (0, 1)], ids=["input", "output", "both"])
def test_without_a_terminal_it_says_what_to_do(missing: tuple[int, ...]) -> None:
    terminal, end = pty.openpty()
    streams = [subprocess.DEVNULL if number in missing else end for number in (0, 1)]
    done = subprocess.run(
        [*COMMAND, "--lab"], stdin=streams[0], stdout=streams[1], stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    os.close(terminal)
    os.close(end)
    assert done.returncode == ENVIRONMENT
    assert done.stderr.count("\n") == 1
    assert "use --headless" in done.stderr


# --- the console ---


@pytest.fixture
def console(own_net: None, capture: Path) -> Iterator[Pty]:
    with closing(Pty(lab(capture), columns=200, rows=60, controls=False)) as terminal:
        yield terminal


@pytest.mark.parametrize("name", ["TERM", "HUP"])
def test_a_terminal_that_nobody_reads(console: Pty, capture: Path, name: str) -> None:
    until(lambda: all_up(console.process.pid), "all sessions")
    assert console.fills() > 0
    console.process.send_signal(getattr(signal, f"SIG{name}"))
    assert console.ended(read=False) == 0
    assert goodbyes(capture) == SESSIONS


@pytest.mark.parametrize("more", [(), ("--headless",)], ids=["console", "headless"])
def test_a_terminal_that_is_held(own_net: None, capture: Path, more: tuple[str, ...]) -> None:
    """As by Ctrl-S: it takes what fits in and shows nothing, and the kernel would wait for it at the end."""
    with closing(Pty(lab(capture, *more), columns=200, rows=60)) as terminal:
        until(lambda: all_up(terminal.process.pid), "all sessions")
        terminal.hold()
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.ended(read=False) == 0
    assert goodbyes(capture) == SESSIONS


@needs_tmux
def test_a_terminal_that_stands_still(own_net: None, capture: Path, tmp_path: Path) -> None:
    """SIGSTOP to what shows the console: a terminal's program, or ssh's on the way to it."""
    with closing(Terminal(tmp_path)) as terminal:
        terminal.start(join(lab(capture)), 200, 50)
        terminal.shows(f"{SESSIONS} up")
        pid = terminal.pid
        with terminal.stopped():
            os.kill(pid, signal.SIGTERM)
            until(lambda: not alive(pid), "its end")
        assert terminal.ended() == 0
    assert goodbyes(capture) == SESSIONS


def test_consoles_that_nobody_reads_hold_up_neither_the_engine_nor_themselves(capture: Path, tmp_path: Path) -> None:
    socket = tmp_path / "socket"
    attach = [*COMMAND, "attach", "--socket", str(socket)]
    words = ("serve", "--lab", "--sessions", str(SESSIONS), "--capture", capture, "--socket", socket)
    with running(*words) as engine:
        until(lambda: all_up(engine.pid), "all sessions")
        with closing(Pty(attach, columns=200, rows=60)) as one, closing(Pty(attach, columns=200, rows=60)) as other:
            for terminal in (one, other):
                terminal.shows(f"{SESSIONS} up")
                assert terminal.fills() > 0
            one.process.send_signal(signal.SIGTERM)
            assert one.ended(read=False) == 0
            assert all_up(engine.pid)
            assert engine.end() == 0
            other.process.send_signal(signal.SIGTERM)
            assert other.ended(read=False) == 0
    assert goodbyes(capture) == SESSIONS


def test_a_terminal_that_goes(console: Pty, capture: Path) -> None:
    """It is not told by SIGHUP, and then it is, more than once, while sessions are being hung up."""
    console.shows(f"{SESSIONS} up")
    console.go_away()
    while all_up(console.process.pid):
        console.process.send_signal(signal.SIGHUP)
    assert console.ended(read=False) == 0
    assert goodbyes(capture) == SESSIONS


def test_a_signal_while_it_starts(console: Pty, capture: Path) -> None:
    until(capture.exists, "a capture, which the engine begins before it has the card")
    console.process.send_signal(signal.SIGTERM)
    assert console.ended() == 0


# --- without a screen ---


@contextmanager
def full_pipe(capture: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The lab without a screen, all sessions up, and a pipe that nobody reads from, which is full."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    process = subprocess.Popen(
        lab(capture, "--headless"), stdin=subprocess.DEVNULL, stdout=writer, stderr=subprocess.PIPE, cwd=ROOT
    )
    os.close(writer)

    try:
        until(lambda: all_up(process.pid), "all sessions")
        until(lambda: unread(reader), "what is said of them, which is more than the pipe holds")
        yield process, reader
    finally:
        process.kill()
        process.wait()
        os.close(reader)


def test_a_pipe_that_nobody_reads(own_net: None, capture: Path) -> None:
    with full_pipe(capture) as (process, _):
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
        assert goodbyes(capture) == SESSIONS


def test_a_pipe_that_is_read_late_tells_everything(own_net: None, capture: Path) -> None:
    with full_pipe(capture) as (process, reader):
        process.send_signal(signal.SIGTERM)
        said = b""
        while octets := os.read(reader, 4096):
            said += octets
        assert process.wait(PATIENCE) == 0
    assert said.count(b'"ipv4-up"') == SESSIONS
    assert said.count(b'"session-down"') == SESSIONS
    assert said.endswith(b"}\n")


def test_a_reader_that_goes(own_net: None, capture: Path) -> None:
    """As with `| head`: it ends without a word."""
    reader, writer = os.pipe()
    process = subprocess.Popen(lab(capture, "--headless"), stdout=writer, stderr=subprocess.PIPE, cwd=ROOT)
    os.close(writer)
    try:
        os.read(reader, 1)
        os.close(reader)
        _, complaints = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert (process.returncode, complaints) == (1, b"")


LATER = "what happens is told when that works again, and all else goes on.\n"
FULL = f"souppp-tui: can't write to standard output: No space left on device: {LATER}"
TOO_LARGE = f"souppp-tui: can't write to standard output: File too large: {LATER}"
CLOSED = "souppp-tui: standard output is closed: nothing of what happens is told, and all else goes on.\n"
AGAIN = "souppp-tui: standard output can be written again: it goes on with what could not be told.\n"


@pytest.mark.parametrize(
    ("redirection", "said", "code"),
    [
        ("> /dev/full", FULL, 1),
        ('>> "$LOG"', TOO_LARGE, 1),
        ("<&- >&-", CLOSED, 0),  # what is opened first must not take its number
        ("> /dev/full 2> /dev/full", "", 1),
        (">&- 2>&-", "", 0),
    ],
    ids=["full disk", "size limit", "none", "full disk for both", "none at all"],
)
def test_without_an_output_it_goes_on(
    own_net: None, capture: Path, tmp_path: Path, redirection: str, said: str, code: int
) -> None:
    """It is said once, the sessions come up all the same, and end in order when it is asked to end."""
    limit = 1 << 26
    with (tmp_path / "log").open("wb") as log:
        log.truncate(limit)
    command = ["prlimit", f"--fsize={limit}", "sh", "-c", f'exec "$@" {redirection}', "sh", *lab(capture, "--headless")]
    environment = {**os.environ, "LOG": str(tmp_path / "log")}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment)
    try:
        until(lambda: all_up(process.pid), "all sessions")
        process.send_signal(signal.SIGTERM)
        _, complaints = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, complaints) == (code, said)
    assert goodbyes(capture) == SESSIONS


FULL_DISK = """
mount -t tmpfs -o size=64k disk "$DISK"
head -c 1M /dev/zero 2>/dev/null > "$DISK/ballast"
exec "$@" >> "$DISK/output"
"""


def test_a_full_disk_that_has_room_again(own_net: None, capture: Path, tmp_path: Path) -> None:
    """Nothing of what happened meanwhile is missing, in the output or in the event log."""
    (tmp_path / "disk").mkdir()
    command = lab(capture, "--headless", "--event-log", str(tmp_path / "disk" / "log"))
    process = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", FULL_DISK, "sh", *command],
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "DISK": str(tmp_path / "disk")},
    )
    disk = -1

    def read(name: str) -> str:
        with open(name, opener=lambda path, flags: os.open(path, flags, dir_fd=disk)) as file:
            return file.read()

    try:
        assert process.stderr is not None
        assert process.stderr.readline() == FULL
        disk = os.open(f"/proc/{process.pid}/root{tmp_path}/disk", os.O_PATH)  # it stays when the program has ended
        until(lambda: all_up(process.pid), "all sessions")
        assert read("output") + read("log") == ""
        os.unlink("ballast", dir_fd=disk)
        assert process.stderr.readline() == AGAIN
        until(lambda: all(read(name).count("Up with address") == SESSIONS for name in ("output", "log")), "all of it")
        process.send_signal(signal.SIGTERM)
        _, complaints = process.communicate(timeout=PATIENCE)
        assert [read(name).count("Hung up") for name in ("output", "log")] == [SESSIONS, SESSIONS]
    finally:
        process.kill()
        process.wait()
        os.close(disk)
    assert (process.returncode, complaints) == (0, "")
    assert goodbyes(capture) == SESSIONS


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_output_that_lacks_a_character(own_net: None, tmp_path: Path, encoding: str) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("sessions: [{name: Zürich-中, user: lab, password: lab, autodial: true}]\n")
    more = ("--headless", "--until-up", "--config", config)
    with running("--lab", *more, PYTHONIOENCODING=encoding) as program:
        assert program.up(1)["Zürich-中"]["state"] == "up"
        assert program.ended() == 0


# --- many ---


@pytest.mark.timeout(300)
def test_hundreds_of_sessions_end_while_nobody_reads_and_signals_come_again(own_net: None, tmp_path: Path) -> None:
    """Their goodbyes fill every buffer there is; the event log has them all."""
    many = 500
    config, log = tmp_path / "config.yaml", tmp_path / "log"
    config.write_text(
        f'sessions: [{{name: "s{{n}}", user: a, password: lab, autodial: true, ipv6: false, count: {many}}}]\n'
        "dial: {rate: 500, max_outstanding: 200}\n"
    )
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    words = [*COMMAND, "--lab", "--config", str(config), "--headless", "--event-log", str(log)]
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=writer, stderr=subprocess.PIPE, cwd=ROOT)
    os.close(writer)

    def told(what: str) -> int:
        return log.read_text().count(what) if log.exists() else 0

    try:
        until(lambda: told("Up with address") >= many, "all sessions", 2 * PATIENCE)
        process.send_signal(signal.SIGTERM)
        until(lambda: told("Hung up") > 0, "the first goodbyes")
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        assert process.wait(2 * PATIENCE) == 0
        assert told("Hung up") == many
        assert process.stderr is not None
        assert process.stderr.read() == b""
    finally:
        process.kill()
        process.wait()
        os.close(reader)


def test_a_signal_while_hundreds_are_dialled(own_net: None, tmp_path: Path) -> None:
    config, capture = tmp_path / "config.yaml", tmp_path / "capture"
    config.write_text('sessions: [{name: "s{n}", user: a, password: lab, autodial: true, count: 800}]\n')
    with running("--lab", "--config", config, "--headless", "--capture", capture) as program:
        program.event("ipv4-up")
        assert program.end() == 0
    # Not that it waited for the concentrator's answers: that has as much to do, and may be late.
    assert "PADT" in run("tcpdump", "-nr", capture)


@pytest.mark.parametrize("to", ["nowhere/log", "link", "folder"])
def test_an_event_log_that_cant_be_written_is_told_at_the_start(own_net: None, tmp_path: Path, to: str) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "folder").mkdir()
    code, complaints = refused("--lab", "--headless", "--event-log", tmp_path / to)
    assert code == ENVIRONMENT
    (line,) = complaints
    assert line.startswith(f"souppp-tui: events can't be written to {tmp_path / to}: ")
    assert not (tmp_path / "elsewhere").exists()
