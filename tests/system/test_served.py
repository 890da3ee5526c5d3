"""`serve`, `attach`, `ctl` and `relay` as their users run them: processes of their own, against the lab."""

from __future__ import annotations

import json
import os
import pty
import select
import shlex
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from engine.host.peers import peer
from engine.run import sockets
from tests.conftest import ROOT, run
from tests.program import COMMAND, PATIENCE, Program, goodbyes, running, until
from tests.provider import provider
from tests.terminal import Terminal, needs_tmux

SESSIONS = 4
PROGRAM = shlex.join(COMMAND)

USAGE, ENVIRONMENT = 2, 3


def configuration(*numbers: int) -> str:
    sessions = [f"  - {{name: home-0{number}, user: someone, password: lab, autodial: true}}\n" for number in numbers]
    return "sessions:\n" + "".join(sessions)


@contextmanager
def served(path: Path, *more: str | Path, **environment: str) -> Iterator[Program]:
    """An engine in a lab, which answers when the block begins."""
    usual = () if "--config" in more else ("--sessions", str(SESSIONS))
    with running("serve", "--lab", *usual, "--socket", path, *more, **environment) as program:
        until(lambda: path.exists() or program.process.poll() is not None, "its socket")
        yield program


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lab.sock"


def ctl(path: Path, *arguments: str | Path, given: str = "", code: int = 0) -> str:
    """What it prints; on standard error where it is to fail."""
    done = subprocess.run(
        [*COMMAND, "ctl", "--socket", path, *arguments], input=given, capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == code, f"{done.returncode}: {done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr
    return done.stderr if code else done.stdout


def asked(path: Path, *arguments: str) -> Any:
    return json.loads(ctl(path, "--json", *arguments))


def states(path: Path) -> dict[str, str]:
    return {session["name"]: session["state"] for session in asked(path, "list")}


def test_scripts_ask_and_steer_it(path: Path, tmp_path: Path) -> None:
    with served(path) as program:
        ctl(path, "wait")
        sessions = asked(path, "list")
        assert [session["name"] for session in sessions] == [f"lab-0{number}" for number in range(1, SESSIONS + 1)]
        assert {session["state"] for session in sessions} == {"up"}
        assert len({session["ipv4"] for session in sessions}) == SESSIONS
        assert {"name", "state", "ipv4", "ipv6", "device", "reason"} <= sessions[0].keys()
        shown = asked(path, "show", "lab-02")
        assert shown["name"] == "lab-02"
        assert shown["negotiated"]["address"] == shown["ipv4"]

        assert asked(path, "hangup", "lab-02", "lab-03")["done"] == ["lab-02", "lab-03"]
        until(lambda: [*states(path).values()].count("down") == 2, "both down")
        assert [session["name"] for session in asked(path, "list", "state:down")] == ["lab-02", "lab-03"]
        assert "hung up by you" in ctl(path, "list", "lab-02")
        ctl(path, "dial", "state:down")
        ctl(path, "wait")

        ctl(path, "add", "name=more", "user=me", "autodial=yes", "--password-file", "-", given="lab\n")
        ctl(path, "wait", "more")
        ctl(path, "edit", "more", "service=")
        ctl(path, "remove", "more")
        assert "more" not in states(path)

        frames = tmp_path / "frames.pcapng"
        ctl(path, "capture", "lab-01", "--to", frames)
        ctl(path, "redial", "lab-01")
        ctl(path, "wait")
        ctl(path, "capture", "lab-01", "--stop")
        assert goodbyes(frames) == 1

        status = asked(path, "status")
        assert status["states"] == {"up": SESSIONS}
        assert [client["program"] for client in status["clients"]] == ["ctl"]
        events = [json.loads(line) for line in ctl(path, "--json", "events").splitlines()]
        assert any(event["text"].startswith("Hang up: 2 sessions, by root (ctl ") for event in events)
        assert not any("lab\n" in event["text"] for event in events)
        ctl(path, "stop")
        assert program.ended() == 0
    assert not path.exists()


def test_what_is_wrong_is_said_with_an_exit_code(path: Path) -> None:
    assert "no engine listens there. Start one" in ctl(path, "list", code=ENVIRONMENT)
    with served(path):
        ctl(path, "wait")
        for wrong in (["hangup"], ["hangup", "nosuchcolumn>3"], ["add", "rubbish"], ["add", "mru=x"]):
            assert ctl(path, *wrong, code=USAGE).count("\n") == 1
        assert "can be seen by everybody" in ctl(path, "add", "password=secret", code=USAGE)
        assert "no session called" in ctl(path, "show", "nobody", code=1)
        assert "no such session" in ctl(path, "dial", "nobody-has-this-name", code=1)
        for what in ("list", "history", "counters"):
            assert "faild finds none; did you mean `failed`?\n" in ctl(path, what, "faild", code=1)
            assert len(asked(path, what, "lab-01")) == 1
        assert asked(path, "counters", "lab-01")[0]["since"].endswith("Z")
        ctl(path, "edit", "lab-01", "--password-file", "-", given="wrong\n")
        ctl(path, "redial", "lab-01")
        until(lambda: states(path)["lab-01"] == "failed", "a refusal")
        assert "wrong password (retry in " in ctl(path, "list", "lab-01")
        assert "already a session" in ctl(path, "add", "name=lab-01", "user=x", code=1)
        ctl(path, "hangup", "lab-01")
        assert "lab-01: still down" in ctl(path, "wait", "--timeout", "0.2", code=1)
        assert "without a configuration file" in ctl(path, "reload", code=1)
        assert states(path)["lab-02"] == "up"


def test_events_as_they_happen(path: Path) -> None:
    with served(path):
        command = [*COMMAND, "ctl", "--json", "--socket", str(path), "events", "--follow"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as following:
            assert following.stdout is not None
            lines = (json.loads(line) for line in following.stdout)
            try:
                next(line for line in lines if line["event"] == "ipv4-up")
                ctl(path, "hangup", "lab-01")
                next(line for line in lines if line["text"].startswith("Hang up: lab-01"))
                ctl(path, "stop")
                assert following.wait(PATIENCE) == ENVIRONMENT
            finally:
                following.kill()


def test_the_configuration_read_again_and_written(path: Path, tmp_path: Path) -> None:
    config = tmp_path / "lab.yaml"
    config.write_text(configuration(1, 2, 3))
    config.chmod(0o600)
    with served(path, "--config", config) as program:
        ctl(path, "wait")
        before = {session["name"]: session["session_id"] for session in asked(path, "list")}
        config.write_text(configuration(2, 3, 4))
        program.process.send_signal(signal.SIGHUP)
        until(lambda: [*states(path)] == ["home-02", "home-03", "home-04"], "the difference")
        ctl(path, "wait")
        after = {session["name"]: session["session_id"] for session in asked(path, "list")}
        assert after["home-02"] == before["home-02"], "what stays is left alone"
        assert after["home-03"] == before["home-03"]

        config.write_text("sessions: nonsense")
        assert "Nothing was changed" in ctl(path, "reload", code=1)
        assert [*states(path)] == ["home-02", "home-03", "home-04"]

        config.write_text(configuration(2, 3, 4))
        ctl(path, "add", "name=office", "user=me", "autodial=no", "--password-file", "-", given="open sesame\n")
        assert "office" in config.read_text()
        assert "open sesame" in config.read_text()
        assert "nothing is different" in ctl(path, "reload")
        ctl(path, "edit", "office", "user=you")
        assert "open sesame" in config.read_text(), "an edit that says nothing of the password keeps it"
        ctl(path, "remove", "office")
        assert "office" not in config.read_text()
        config.chmod(0o644)
        assert "everybody can read it, and the passwords in it" in ctl(path, "reload")
        assert "everybody can read it" in ctl(path, "events")
        config.unlink()
        config.mkdir()
        assert "Not written to the configuration" in ctl(path, "add", "name=more", "user=me", "autodial=no")


@needs_tmux
def test_consoles_come_and_go(path: Path, tmp_path: Path) -> None:
    """One leaves, one is killed: the sessions stay. What one does the other sees."""
    with served(path) as program:
        ctl(path, "wait")
        folders = [tmp_path / name for name in ("one", "two")]
        for folder in folders:
            folder.mkdir()
        one, two = (Terminal(folder) for folder in folders)
        command = f"{PROGRAM} attach --socket {path}"
        try:
            for terminal in (one, two):
                terminal.start(command, 120, 30)
                terminal.shows(f"{SESSIONS} up")
            one.type("h")
            one.shows("Hang up lab-01?")
            one.type("y")
            two.shows("1 down")
            two.type("i")
            two.shows("attached", "root: console ")
            two.type("Escape")
            two.shows("Hang up: lab-01, by root (console ")
            one.type("q")
            assert one.ended() == 0
            (client,) = until(lambda: _consoles(path, 1), "one console")
            os.kill(client["process"], signal.SIGKILL)
            until(lambda: not _consoles(path, 0), "no console")
            assert [*states(path).values()].count("up") == SESSIONS - 1
            assert program.process.poll() is None
        finally:
            one.close()
            two.close()


@needs_tmux
def test_a_console_killed_in_safe_mode_leaves_nothing_of_it(path: Path, tmp_path: Path) -> None:
    config = tmp_path / "lab.yaml"
    config.write_text(configuration(1, 2, 3))
    config.chmod(0o600)
    terminal = Terminal(tmp_path)
    with served(path, "--config", config):
        ctl(path, "wait")
        try:
            terminal.start(f"{PROGRAM} attach --socket {path}", 120, 30)
            terminal.shows("3 up")
            terminal.type(":")
            terminal.shows("type a part of a command's name")
            terminal.type("safe", "Enter")
            terminal.shows("safe mode")
            terminal.type("D")
            terminal.shows("Remove home-01?")
            terminal.type("y")
            until(lambda: [*states(path)] == ["home-02", "home-03"], "that it is removed")
            until(lambda: "home-01" not in config.read_text(), "that in the file")
            ctl(path, "hangup", "home-03")
            (client,) = until(lambda: _consoles(path, 1), "one console")
            os.kill(client["process"], signal.SIGKILL)
            until(lambda: "home-01" in config.read_text(), "that it is taken back in the file")
            wanted = {"home-01": "up", "home-02": "up", "home-03": "down"}
            until(lambda: states(path) == wanted, "that it is up again, and what others did stays")
            assert f"root (console {client['process']}) has gone in safe mode" in ctl(path, "events")
        finally:
            terminal.close()


@needs_tmux
def test_own_commands_run_here_with_the_users_rights(path: Path, tmp_path: Path) -> None:
    own = tmp_path / "console.yaml"
    tells = "echo {device}; grep CapEff: /proc/self/status"
    own.write_text(f'sessions: []\nconsole: {{commands: {{f5: {{run: [sh, -c, "{tells}"], pane: yes}}}}}}\n')
    rights = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff:"))
    with served(path) as program:
        ctl(path, "wait")
        inside = f"nsenter -t {program.process.pid} -n {PROGRAM} attach --socket {path} --config {own}"
        for number, (command, told) in enumerate(
            ((inside, ("soup0", rights.split()[1], "It has ended.")), (inside.partition("-n ")[2], ("run it there",)))
        ):
            (tmp_path / str(number)).mkdir()
            terminal = Terminal(tmp_path / str(number))
            try:
                terminal.start(command, 120, 30)
                terminal.shows(f"{SESSIONS} up")
                terminal.type("F5")
                terminal.shows(*told)
            finally:
                terminal.close()


def _consoles(path: Path, wanted: int) -> list[dict[str, Any]]:
    found = [client for client in asked(path, "status")["clients"] if client["program"] == "console"]
    return found if len(found) == wanted else [{}] * (wanted == 0)


@needs_tmux
def test_an_engine_killed_under_a_console(path: Path, tmp_path: Path) -> None:
    terminal = Terminal(tmp_path)
    try:
        with served(path):
            ctl(path, "wait")
            terminal.start(f"{PROGRAM} attach --socket {path}", 120, 30)
            terminal.shows(f"{SESSIONS} up")
        terminal.shows("Trying again")
        assert "lab-03" in terminal.screen(), "the last picture stays"
        with served(path):
            terminal.shows(f"{SESSIONS} up")
            terminal.type("Q")
            terminal.shows(f"End the engine and hang up {SESSIONS} sessions?")
            terminal.type("y")
            assert terminal.ended() == 0
            until(lambda: not path.exists(), "the engine's end")
    finally:
        terminal.close()


@needs_tmux
def test_an_engine_in_the_background_goes_on(path: Path, tmp_path: Path) -> None:
    terminal = Terminal(tmp_path)
    try:
        terminal.start(f"{PROGRAM} --lab --sessions {SESSIONS} --background --socket {path}", 120, 30)
        terminal.shows(f"{SESSIONS} up")
        terminal.type("q")
        assert terminal.ended() == 0
        assert [*states(path).values()] == ["up"] * SESSIONS
        assert not asked(path, "status")["clients"][1:], "ctl alone"
    finally:
        terminal.close()
        ctl(path, "stop")
    until(lambda: not path.exists(), "its end")


def test_what_keeps_an_engine_from_the_background_is_said(path: Path) -> None:
    path.mkdir()
    code, complaints = on_a_terminal("--lab", "--background", "--socket", path)
    assert code == ENVIRONMENT
    assert "something is there already" in complaints


def on_a_terminal(*arguments: str | Path, typed: str = "") -> tuple[int, str]:
    """Exit code and output of a run on a terminal; it must end by itself."""
    ours, its = pty.openpty()
    try:
        process = subprocess.Popen([*COMMAND, *map(str, arguments)], stdin=its, stdout=its, stderr=its, cwd=ROOT)
        os.write(ours, typed.encode())
        os.close(its)
        code = process.wait(PATIENCE)
        said = b""
        with suppress(OSError):  # EIO, behind the last of it: one read gives what the terminal has passed on so far
            while select.select([ours], [], [], PATIENCE)[0]:
                said += os.read(ours, 65536)
        return code, said.decode()
    finally:
        os.close(ours)


def test_a_console_offers_to_attach(own_net: None, path: Path, tmp_path: Path) -> None:
    """Where the other one is on this card of this namespace, and asks nothing where it isn't."""
    card = ["va", "--state-dir", tmp_path / "state"]
    with provider(), running("serve", *card, "--socket", path):
        until(path.exists, "its socket")
        ctl(path, "status")
        code, said = on_a_terminal(*card, "--socket", path, typed="n\n")
        assert code == ENVIRONMENT
        assert "An engine works on va already. Attach to it? [Y/n]" in said
        assert "ctl stop" in said
        run("ip", "link", "property", "add", "dev", "va", "altname", "line-of-the-house")
        assert (
            "An engine works on line-of-the-house already."
            in on_a_terminal("line-of-the-house", *card[1:], "--socket", path, typed="n\n")[1]
        )
        code, said = on_a_terminal("eth9", "--socket", path)
        assert code == ENVIRONMENT
        assert "Attach" not in said


def test_an_engine_is_found_by_any_name_of_its_card(own_net: None, tmp_path: Path) -> None:
    run("ip", "link", "add", "va", "type", "veth", "peer", "vb")
    run("ip", "link", "property", "add", "dev", "va", "altname", "line-of-the-house")
    with socket.socket(socket.AF_UNIX) as there:
        there.bind(str(tmp_path / "va.sock"))
        there.listen()
        for name in ("va", "line-of-the-house"):
            assert sockets.find(name, [tmp_path]) == tmp_path / "va.sock"
            assert sockets.usual_paths(name, lab=False, fallback=tmp_path)[0].name == "va.sock"
        with pytest.raises(sockets.SocketError, match="No engine runs on vb"):
            sockets.find("vb", [tmp_path])


def test_a_relay_hands_the_conversation_on(path: Path) -> None:
    """What `attach user@host` runs on the other side: here in place of ssh, by a command of that name."""
    from engine.run.client import Client

    with served(path):
        ctl(path, "wait")

        def connect() -> socket.socket:
            ours, theirs = socket.socketpair()
            with theirs:
                command = [*COMMAND, "relay", "--socket", str(path)]
                subprocess.Popen(command, stdin=theirs.fileno(), stdout=theirs.fileno(), cwd=ROOT)
            return ours

        from souppp_tui import __version__

        with Client(connect, program="test", release=__version__) as client:
            assert len(client.snapshot().sessions) == SESSIONS


def test_ssh_is_asked_for_the_other_hosts_engine(path: Path, tmp_path: Path) -> None:
    """A stand-in for ssh runs here what it is to run there."""
    ssh = tmp_path / "ssh"
    ssh.write_text(
        f'#!/bin/sh\necho "$@" >>{tmp_path}/asked\nshift 3\n[ "$1 $2" = "souppp-tui relay" ] || exit 9\n'
        f"cd {shlex.quote(str(ROOT))} && exec {PROGRAM} relay --socket {path}\n"
    )
    ssh.chmod(0o755)
    with served(path):
        ctl(path, "wait")
        done = subprocess.run(
            [*COMMAND, "ctl", "--on", "me@there:eth0", "--json", "list"],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        )
        assert done.returncode == 0, done.stderr
        assert len(json.loads(done.stdout)) == SESSIONS
    assert (tmp_path / "asked").read_text() == "-T -- me@there souppp-tui relay eth0\n"


@pytest.mark.parametrize("watched", [True, False])
def test_a_supervisor_of_services_is_told(path: Path, tmp_path: Path, watched: bool) -> None:
    """READY only when it is, WATCHDOG from the loop while it answers, STOPPING at the end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind(str(tmp_path / "notify"))
        notified.settimeout(PATIENCE)

        def told(wanted: Callable[[str], bool]) -> str:
            while not wanted(said := notified.recv(4096).decode()):
                pass
            return said

        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        if watched:
            environment["WATCHDOG_USEC"] = "600000"
        with served(path, **environment) as program:
            told(lambda said: said.startswith("READY=1"))
            ctl(path, "wait")
            told(lambda said: "WATCHDOG=1" in said and f"STATUS={SESSIONS} of {SESSIONS} sessions up" in said)
            program.process.send_signal(signal.SIGHUP)
            told(lambda said: said.startswith("RELOADING=1\nMONOTONIC_USEC="))
            told(lambda said: said == "READY=1")
            program.process.send_signal(signal.SIGTERM)
            told(lambda said: said.startswith("STOPPING=1"))
            assert program.ended() == 0


def test_every_engine_can_be_attached_to(path: Path) -> None:
    """That of a run without a screen too; it belongs to its own process, and is not ended from outside."""
    with running("--lab", "--sessions", "2", "--headless", "--socket", path) as program:
        until(path.exists, "its socket")
        ctl(path, "wait")
        assert "belongs to a console" in ctl(path, "stop", code=1)
        assert ctl(path, "hangup", "lab-01") == "hangup: lab-01\n"
        assert program.end() == 0
    assert not path.exists()


def test_all_groups_of_who_connects_are_known(needs_root: None, tmp_path: Path) -> None:
    """Who is in `souppp` has it beside a group of his own, as `usermod -aG` and a unit's SupplementaryGroups= do it."""
    groups = [*range(70_000, 70_256)]
    one = ["setpriv", "--reuid=61234", "--regid=61234", f"--groups={','.join(map(str, groups))}"]
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"\0{tmp_path}")  # in no folder, so that nobody's rights to it matter
        listening.listen()
        listening.settimeout(PATIENCE)
        connect = f"import socket; s = socket.socket(socket.AF_UNIX); s.connect('\\0{tmp_path}'); s.recv(1)"
        with subprocess.Popen([*one, "/usr/bin/python3", "-c", connect]) as process:
            with listening.accept()[0] as connection:
                there = peer(connection)
            assert process.wait(PATIENCE) == 0
    assert (there.uid, there.groups) == (61234, frozenset({61234, *groups}))


def test_a_second_engine_on_the_same_socket_is_refused(path: Path) -> None:
    with served(path):
        ctl(path, "wait")
        done = subprocess.run([*COMMAND, "serve", "--lab", "--socket", path], capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == ENVIRONMENT
        assert "something is there already" in done.stderr
        assert asked(path, "status")["states"] == {"up": SESSIONS}
