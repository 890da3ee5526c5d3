"""`souppp-tui exec`: what a program sends leaves through the session that it runs in, or not at all."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.api.values import SessionState
from engine.run.server import Server
from engine.run.sockets import listen
from souppp_tui.commands.exec import hosts_by_dns
from tests.conftest import ROOT, run
from tests.program import COMMAND, Program, running, until
from tests.provider import CARD, provider
from tests.system.engines import dialling, session, views, wait_up
from tests.system.test_promises import LAN, MARKED, Capture, flush_rules, other_card
from tests.system.test_served import ctl

pytestmark = pytest.mark.usefixtures("own_net")

SESSIONS = 8
NOBODY, GROUP = 65534, 4242
AFTER = 1.0
PRISONER = (sys.executable, "-m", "tests.system.prisoner", LAN)


def exec_command(path: Path, name: str, *program: str | Path, user: str = "") -> list[str]:
    chosen = ["--user", user] if user else []
    return [*COMMAND, "exec", "--socket", str(path), *chosen, name, "--", *map(str, program)]


class Prisoner:
    """See prisoner.py."""

    def __init__(self, command: list[str]) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, bufsize=1, cwd=ROOT)

    def report(self) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("?\n")
        found: dict[str, Any] = json.loads(self._process.stdout.readline())
        return found

    def tries(self) -> None:
        """For a while, by each way."""
        before = self.report()
        time.sleep(AFTER)
        after = self.report()
        for way in before.keys() - {"page", "page6"}:
            assert sum(after[way]) > sum(before[way]) + 5, way

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@contextmanager
def prisoner(command: list[str]) -> Iterator[Prisoner]:
    it = Prisoner(command)
    try:
        yield it
    finally:
        it.close()


def test_nothing_that_a_program_does_leaves_elsewhere(tmp_path: Path) -> None:
    """Whatever it tries, whatever becomes of the session, of rules and of the engine; root's, and another user's."""
    path, config = tmp_path / "engine.sock", tmp_path / "config.yaml"
    usual = "user: anyone, password: lab, autodial: true"
    config.write_text(
        "dial: {retry_min: 0.5, retry_max: 2}\n"
        f"sessions: [{{name: 's{{n}}', count: {SESSIONS}, {usual}}}, {{name: kernel, datapath: kernel, {usual}}}]\n"
    )
    arguments = ("serve", CARD, "--config", config, "--socket", path, "--state-dir", tmp_path / "state")
    with ExitStack() as stack:
        stack.enter_context(provider())
        capture: Capture = stack.enter_context(other_card())
        engine: Program = stack.enter_context(running(*arguments))
        until(lambda: path.exists(), "its socket")
        ctl(path, "wait")
        there = {view["name"]: view for view in json.loads(ctl(path, "--json", "list"))}

        curl = ("curl", "-sS", "--fail", "--max-time", "10", "http://100.64.0.1/")
        fetching = {
            name: subprocess.Popen(exec_command(path, name, *curl), stdout=subprocess.PIPE, text=True, cwd=ROOT)
            for name in there
        }
        seen = {name: process.communicate()[0].split()[-1] for name, process in fetching.items()}
        assert seen == {name: view["ipv4"] for name, view in there.items()}
        assert len({*seen.values()}) == SESSIONS + 1

        free = Prisoner([*PRISONER])
        until(lambda: capture.seen[MARKED] > 50, "packets of a program that runs in no session")
        free.close()
        time.sleep(0.3)
        before = capture.seen[MARKED]
        root = stack.enter_context(prisoner(exec_command(path, "s1", *PRISONER)))
        user = stack.enter_context(prisoner(exec_command(path, "s2", *PRISONER, user="nobody")))
        other = stack.enter_context(prisoner(exec_command(path, "kernel", *PRISONER)))
        assert root.report()["page"] == there["s1"]["ipv4"]
        assert user.report()["page"] == there["s2"]["ipv4"]
        until(lambda: user.report()["page6"] in json.loads(ctl(path, "--json", "show", "s2"))["ipv6_addresses"], "IPv6")
        assert other.report()["page"] == there["kernel"]["ipv4"]

        def nothing_leaves(*whose: Prisoner) -> None:
            for each in whose:
                each.tries()
            assert capture.seen[MARKED] == before

        nothing_leaves(root, user, other)
        assert root.report()["below IP"][0] == 0
        flush_rules()
        run("ip", "link", "del", there["s1"]["device"])
        nothing_leaves(root, user)
        until(lambda: root.report()["page"] == there["s1"]["ipv4"], "a page by the device that was made anew")
        ctl(path, "hangup", "s2", "kernel")
        nothing_leaves(user, other)
        assert "not permitted" in user.report()["page"]
        ctl(path, "dial", "s2")
        ctl(path, "wait", "s2")
        address = json.loads(ctl(path, "--json", "show", "s2"))["ipv4"]
        until(lambda: user.report()["page"] == address, "a page by the session that is back")
        ctl(path, "remove", "s2")
        ctl(path, "add", "name=s2", "user=anyone", "--password-file", "-", given="lab\n")
        ctl(path, "dial", "s2")
        ctl(path, "wait", "s2")
        nothing_leaves(user)
        assert user.report()["page"] != address, "another session of its name is another one"
        engine.process.kill()
        engine.process.wait()
        nothing_leaves(root, user)
        assert capture.seen["192.0.2.1"] == 0 or capture.seen[MARKED] == before


def _run(path: Path, *program: str, given: str = "", session: str = "s1") -> subprocess.CompletedProcess[str]:
    command = exec_command(path, session, *program)
    return subprocess.run(command, input=given, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)


def test_whoever_may_command_runs_programs_as_who_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where they may make no cgroup themselves; terminal, folder, environment and exit code are the program's."""
    monkeypatch.setattr("engine.host.peers.group", {"souppp": GROUP, "souppp-ro": GROUP + 1}.get)
    folder = Path(tempfile.mkdtemp(dir="/run"))
    folder.chmod(0o755)
    path = folder / "engine.sock"
    run("ip", "link", "set", "lo", "up")

    def as_user(group: int, *program: str) -> subprocess.CompletedProcess[str]:
        who = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", f"--groups={group}", "env", "WHO=me"]
        command = [*who, *exec_command(path, "s1", *program)]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)

    with provider(), dialling([session("s1"), session("s2", autodial=False)]) as engine:
        server = Server(engine, listen(path), release="0", card=CARD)
        server.start()
        try:
            wait_up(engine, "s1")
            view = views(engine)["s1"]
            script = (
                "id -u; pwd; echo $WHO; cat /etc/resolv.conf; grep ^hosts /etc/nsswitch.conf; cat /proc/self/cgroup"
            )
            done = as_user(GROUP, "sh", "-c", f"{script}; curl -sS http://100.64.0.1/; exit 7")
            assert (done.returncode, done.stderr) == (7, "")
            lines = done.stdout.splitlines()
            assert lines[:3] == [str(NOBODY), str(ROOT), "me"]
            assert [line.split()[1] for line in lines if line.startswith("nameserver")] == list(view.dns)
            assert "hosts: files dns" in lines
            assert any(line.startswith("0::") and f"/souppp-{view.id}-" in line for line in lines)
            assert lines[-1].split()[-1] == view.ipv4

            assert "you may look, not command" in as_user(GROUP + 1, "true").stderr.lower()
            assert _run(path, "cat", given="through").stdout == "through"
            assert _run(path, "sh", "-c", "kill -TERM $$").returncode == -signal.SIGTERM
            assert _run(path, "sh", "-c", "kill -PIPE $$").returncode == -signal.SIGPIPE
            done = _run(path, "no-such-program")
            assert done.returncode == 127
            assert done.stderr == "souppp-tui exec: there is no program no-such-program.\n"
            assert "there is no session called nobody" in _run(path, "true", session="nobody").stderr
            assert "s2 is down: dial it first" in _run(path, "true", session="s2").stderr
            inner = exec_command(path, "s1", "true")
            assert "in a session already" in _run(path, *inner).stderr
            assert view.state is SessionState.UP
            with socket.socket() as lent:
                command = exec_command(path, "s1", "true")
                lent.set_inheritable(True)
                done = subprocess.run(command, pass_fds=[lent.fileno()], capture_output=True, text=True, cwd=ROOT)
                assert f"descriptor {lent.fileno()} is a socket of the host's" in done.stderr
            other = subprocess.run(["unshare", "-n", *inner], capture_output=True, text=True, cwd=ROOT)
            assert other.returncode == 0, "root's goes to where the engine is"
        finally:
            server.close()
            shutil.rmtree(folder)
    assert os.path.exists("/etc/resolv.conf")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            "hosts: files mymachines resolve [!UNAVAIL=return] dns\nnetworks: files\n",
            "networks: files\nhosts: files dns\n",
        ),
        ("# hosts: x\npasswd: files", "# hosts: x\npasswd: files\nhosts: files dns\n"),
    ],
)
def test_names_are_asked_of_nobody_else(given: str, told: str) -> None:
    assert hosts_by_dns(given) == told
