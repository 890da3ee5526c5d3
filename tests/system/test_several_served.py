"""One console on several engines: real ones, each in a lab of its own, in a real terminal."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.host.peers import LOOK_GROUP
from tests.conftest import ROOT
from tests.program import COMMAND, PATIENCE, Program, running, until
from tests.system.test_served import ENVIRONMENT, PROGRAM, SESSIONS, USAGE, asked, ctl, on_a_terminal, served, states
from tests.terminal import Terminal, needs_tmux

LOOKER = 61234
"""A user and a group that nobody has."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that other users can get through, with short names: a socket's has room for 108 octets."""
    with tempfile.TemporaryDirectory(prefix="souppp-") as path:
        os.chmod(path, 0o755)
        yield Path(path)


def row(terminal: Terminal, engine: str, name: str) -> str:
    """The line of a session, once it is drawn: the screen is written line by line."""
    parts = f" {name} ", f" {engine} "

    def look() -> str | None:
        lines = terminal.screen().splitlines()
        return next((line for line in lines if all(part in line for part in parts)), None)

    return until(look, f"{name} of {engine}") or ""


def ssh(folder: Path, script: str) -> None:
    """A stand-in for ssh, which runs here what it is to run there; `$host` and `$card` are what it was asked for."""
    path = folder / "ssh"
    words = 'while [ "$1" != -- ]; do shift; done; host=${2#*@} card=$5\n[ "$3 $4" = "souppp-tui relay" ] || exit 9\n'
    path.write_text(f"#!/bin/sh\n{words}{script}\n")
    path.chmod(0o755)


@needs_tmux
def test_sessions_of_two_engines_in_one_table(terminal: Terminal, folder: Path) -> None:
    """A dial of marked sessions goes to both; one is killed and comes back; one is ended and the other goes on."""
    gate, hub, log = folder / "gate.sock", folder / "hub.sock", folder / "events"
    with served(gate), served(hub) as ended:
        for path in (gate, hub):
            ctl(path, "wait")
        terminal.start(f"{PROGRAM} attach {gate} {hub} --event-log {log}", 140, 40)
        terminal.shows("2 engines", f"{2 * SESSIONS} up", "ENGINE")
        assert row(terminal, "gate", "lab-01") != row(terminal, "hub", "lab-01")

        terminal.type("*", "h")
        terminal.shows(f"Hang up {2 * SESSIONS} sessions")
        terminal.type("y")
        terminal.shows(f"{2 * SESSIONS} down", f"Hanging up {2 * SESSIONS} sessions.")
        terminal.type("d")
        terminal.shows(f"Dial {2 * SESSIONS} sessions, such as ")
        terminal.type("y")
        terminal.shows(f"{2 * SESSIONS} up", f"Dialling {2 * SESSIONS} sessions.")
        for path in (gate, hub):
            assert states(path) == {f"lab-0{number}": "up" for number in range(1, SESSIONS + 1)}
            assert "by root (console " in ctl(path, "events")
        terminal.type("\\")

        terminal.type("/")
        terminal.type(*"engine:hub", "Enter")
        terminal.shows(f"{SESSIONS} of {2 * SESSIONS}")
        terminal.type("G", "Enter")
        terminal.shows("engine          hub", "lab-04  ● up", "CHAP Success")
        terminal.type("Escape")
        terminal.shows("filter: engine:hub")
        terminal.type("Escape")
        until(lambda: "filter" not in terminal.screen().splitlines()[3], "no filter")
        until(lambda: " hub  lab-04  Up with address" in log.read_text(), "an event of each in the file")
        assert " gate  lab-04  Up with address" in log.read_text()

        ended.process.kill()
        terminal.shows("hub lost", f"{SESSIONS} up · {SESSIONS} unknown", "Trying again")
        assert "lab-03" in row(terminal, "hub", "lab-03"), "the last picture stays"
        terminal.type("*", "h")
        terminal.shows(f"Hang up {2 * SESSIONS} sessions")
        terminal.type("y")
        terminal.shows(f"Hanging up {SESSIONS} sessions. Not {SESSIONS} sessions: hub:", f"{SESSIONS} down")
        with served(hub) as again:
            terminal.shows(f"{SESSIONS} up · {SESSIONS} down")
            terminal.type("d")
            terminal.shows(f"{2 * SESSIONS} up")
            terminal.type("Q")
            terminal.shows("End which engine?", "gate", "hub", "all")
            terminal.type("j", "Enter")
            terminal.shows(f"End hub and hang up {SESSIONS} sessions?")
            terminal.type("y")
            assert again.ended() == 0
            terminal.shows("hub lost")
            assert [*states(gate).values()] == ["up"] * SESSIONS
            terminal.type("q")
            assert terminal.ended() == 0
            assert [*states(gate).values()] == ["up"] * SESSIONS, "leaving ends nothing"


@needs_tmux
def test_an_engine_of_another_host_has_the_hosts_name(terminal: Terminal, folder: Path) -> None:
    """Cards, paths and hosts, mixed; where a host has two engines the card is told too."""
    here, there, other = (folder / f"{name}.sock" for name in ("here", "there", "other"))
    relay = f'exec {PROGRAM} relay --socket {folder}/$([ "$card" = eth1 ] && echo other || echo there).sock'
    ssh(folder, f"{relay}")
    with served(here), served(there), served(other):
        for path in (here, there, other):
            ctl(path, "wait")
        engines = f"{here} me@gate.example.net me@gate.example.net:eth1"
        terminal.start(f"env PATH={folder}:$PATH {PROGRAM} attach {engines}", 140, 40)
        terminal.shows("3 engines", f"{3 * SESSIONS} up")
        assert row(terminal, "lab", "lab-01")
        assert row(terminal, "gate:lab", "lab-01")
        assert row(terminal, "gate:eth1", "lab-01")
        terminal.type("G", "h")
        terminal.shows("Hang up lab-04?")
        terminal.type("y")
        terminal.shows("1 down")
        assert states(other)["lab-04"] == "down"
        terminal.type("Q")
        terminal.shows("End which engine?")
        terminal.type("j", "j", "j", "Enter")
        terminal.shows(f"End all 3 engines and hang up {3 * SESSIONS - 1} sessions?")
        terminal.type("y")
        assert terminal.ended() == 0
        until(lambda: not any(path.exists() for path in (here, there, other)), "the end of all")


def looking(folder: Path, path: Path) -> Program:
    """An engine for which the group of those who may look is there; this process is in a mount namespace of its own."""
    groups = folder / "group"
    groups.write_text(f"root:x:0:\n{LOOK_GROUP}:x:{LOOKER}:\n")
    return running(
        "serve",
        "--lab",
        "--sessions",
        str(SESSIONS),
        "--socket",
        path,
        within=["unshare", "--mount", "sh", "-c", f'mount --bind {groups} /etc/group && exec "$@"', "sh"],
    )


@needs_tmux
def test_one_that_may_be_looked_at_refuses_for_its_own_sessions(
    needs_root: None, terminal: Terminal, folder: Path
) -> None:
    gate, hub = folder / "gate.sock", folder / "hub.sock"
    probe = folder / "probe"
    probe.touch()
    try:
        os.setxattr(probe, "system.posix_acl_access", b"\2\0\0\0")
    except OSError as error:
        pytest.skip(f"no access control lists here: {error}")
    pump = folder / "pump.py"
    pump.write_text(
        "import os, socket, sys, threading\n"
        "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
        "def up():\n    while octets := os.read(0, 65536): s.sendall(octets)\n    os._exit(0)\n"
        "threading.Thread(target=up, daemon=True).start()\n"
        "while octets := s.recv(65536):\n    while octets: octets = octets[os.write(1, octets):]\n"
    )
    ssh(folder, f"exec setpriv --reuid={LOOKER} --regid={LOOKER} --clear-groups /usr/bin/python3 {pump} {hub}")
    with served(gate), looking(folder, hub):
        for path in (gate, hub):
            until(path.exists, "its socket")
            ctl(path, "wait")
        terminal.start(f"env PATH={folder}:$PATH {PROGRAM} attach {gate} looker@hub", 140, 40)
        terminal.shows("2 engines", f"{2 * SESSIONS} up", "may look")
        terminal.type("*", "h")
        terminal.shows(f"Hang up {2 * SESSIONS} sessions")
        terminal.type("y")
        terminal.shows(
            f"Hanging up {SESSIONS} sessions. Not {SESSIONS} sessions: hub: You may look, not command",
            f"{SESSIONS} up · {SESSIONS} down",
        )
        assert [*states(hub).values()] == ["up"] * SESSIONS
        terminal.type("\\", "G", "h")
        terminal.shows("You may look at hub, not command.")
        terminal.type("q")
        assert terminal.ended() == 0


@needs_tmux
def test_one_that_is_not_there_can_be_left_out(terminal: Terminal, folder: Path) -> None:
    gate, hub, node = (folder / f"{name}.sock" for name in ("gate", "hub", "node"))
    with served(gate), served(node):
        for path in (gate, node):
            ctl(path, "wait")
        terminal.start(f"{PROGRAM} attach {gate} {hub} {node}", 140, 40)
        terminal.shows(f"{hub}: no engine listens there", "Go on without it? [Y/n]")
        terminal.type("Enter")
        terminal.shows("2 engines", f"{2 * SESSIONS} up")
        assert row(terminal, "gate", "lab-01") != row(terminal, "node", "lab-01")
        terminal.type("q")
        assert terminal.ended() == 0


def test_a_question_before_the_console_heeds_signals(folder: Path) -> None:
    ours, its = pty.openpty()
    command = [*COMMAND, "attach", str(folder / "gate.sock"), str(folder / "hub.sock")]
    with subprocess.Popen(command, stdin=its, stdout=its, stderr=its, cwd=ROOT) as process:
        said = b""
        while b"Go on without it? [Y/n]" not in said:
            said += os.read(ours, 4096)
        process.send_signal(signal.SIGINT)  # as ctrl-c
        assert process.wait(PATIENCE) == 0
    os.close(ours)
    os.close(its)


def test_what_is_wrong_with_one_of_them_is_said(folder: Path) -> None:
    gate, hub = folder / "gate.sock", folder / "hub.sock"
    with served(gate):
        ctl(gate, "wait")
        code, said = on_a_terminal("attach", gate, hub, typed="n\n")
        assert code == ENVIRONMENT
        said = said.replace("\r\n", "")
        assert f"{hub}: no engine listens there" in said
        assert f"{hub}: {hub}" not in said
        code, said = on_a_terminal("attach", hub, hub, typed="y\ny\n")
        assert code == ENVIRONMENT
        assert "None of these engines can be reached." in said
        (folder / "again.sock").symlink_to(gate)
        code, said = on_a_terminal("attach", gate, folder / "again.sock")
        assert code == ENVIRONMENT
        assert "are the same engine. Name it once." in said.replace("\r\n", "")
        code, said = on_a_terminal("attach", gate, hub, "--socket", gate)
        assert code == USAGE
        assert "--socket names one engine" in said
        assert not asked(gate, "status")["clients"][1:]
