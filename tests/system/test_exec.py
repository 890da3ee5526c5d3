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
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.api.values import SessionState
from engine.egress.entrance import SPENT, Entrance
from engine.host import bpf, cgroups, netns
from engine.host.errors import Trouble
from engine.host.peers import Peer
from engine.run.server import Server
from engine.run.sockets import listen
from souppp_tui.commands.exec import _enter, hosts_by_dns
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
        before = capture.caught_up()[MARKED]
        root = stack.enter_context(prisoner(exec_command(path, "s1", *PRISONER)))
        user = stack.enter_context(prisoner(exec_command(path, "s2", *PRISONER, user="nobody")))
        other = stack.enter_context(prisoner(exec_command(path, "kernel", *PRISONER)))
        assert root.report()["page"] == there["s1"]["ipv4"]
        assert user.report()["page"] == there["s2"]["ipv4"]
        until(lambda: user.report()["page6"] in json.loads(ctl(path, "--json", "show", "s2"))["ipv6_addresses"], "IPv6")
        assert other.report()["page"] == there["kernel"]["ipv4"]

        def went_on(each: Prisoner, first: dict[str, Any]) -> bool:
            last = each.report()
            return all(sum(last[way]) > sum(first[way]) + 5 for way in first.keys() - {"page", "page6"})

        def nothing_leaves(*whose: Prisoner) -> None:
            reports = [each.report() for each in whose]
            time.sleep(AFTER)
            for each, first in zip(whose, reports, strict=True):
                until(lambda each=each, first=first: went_on(each, first), f"all ways to send on from {first}")
            assert capture.caught_up()[MARKED] == before

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
        engine.process.kill()
        engine.process.wait()
        nothing_leaves(root, user)


def _in_cgroup(entrance: Entrance, key: int, steps: Callable[[], list[object]]) -> list[object]:
    """What steps find that a process takes in a session."""
    parent = os.open(cgroups.own(), os.O_RDONLY)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            made = cgroups.make(parent, key, os.getpid())
            entrance.admit(key, made, Peer(os.getpid(), 0, frozenset()))
            cgroups.enter(made)
            os.write(writing, json.dumps(steps()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as told:
        found: list[object] = json.loads(told.read() or b"null")
    os.waitpid(child, 0)
    cgroups.remove(parent, key, child)
    os.close(parent)
    return found


def test_what_a_session_has_counts_and_never_what_another_one_has() -> None:
    """A session's next device is its programs' too; that of another session with its key, one day, is not."""
    for name in ("one", "two"):
        run("ip", "link", "add", "name", name, "type", "veth", "peer", "name", f"{name}-far")
        run("ip", "link", "set", "dev", name, "up")
    one, two = (socket.if_nametoindex(name) for name in ("one", "two"))
    entrance = Entrance()
    entrance.set(3, one)
    entrance.set(4, two)
    for program in entrance._programs(3):  # and the map, which is the children's too
        os.close(program)

    def bound() -> object:
        try:
            with socket.socket() as made:
                return made.getsockopt(socket.SOL_SOCKET, 62)
        except PermissionError:
            return "refused"

    def local(kind: socket.SocketKind) -> str:
        """What becomes of a word to this host's own address."""
        try:
            with socket.socket(type=kind) as sender:
                sender.settimeout(5)
                if kind == socket.SOCK_STREAM:
                    sender.connect(("127.0.0.1", 9))
                else:
                    sender.sendto(b"out", ("127.0.0.1", 9))
        except OSError as error:
            return str(error.strerror)
        return "sent"

    def steps() -> list[object]:
        found = [bound(), local(socket.SOCK_STREAM), local(socket.SOCK_DGRAM)]
        entrance.set(3, 0)
        found.append(bound())
        entrance.set(3, two)
        found.append(bound())
        netns.unshare_net()
        found.append(bound())
        return found

    refused = "Operation not permitted"
    try:
        assert _in_cgroup(entrance, 3, steps) == [one, refused, refused, "refused", two, "refused"]
        entrance.set(3, one)
        entrance.forget(3)
        entrance.set(3, one)
        with pytest.raises(OSError, match="another session had its number"):
            entrance._programs(3)
        heir = Entrance()
        heir.inherit(os.dup(entrance.descriptor))
        heir.set(4, two)
        heir.disinherit()
        assert _in_cgroup(heir, 4, lambda: [bound()]) == [two]
        assert bpf.number_at(heir.descriptor, 3) == SPENT
        with pytest.raises(OSError, match="no cgroup"):
            heir.admit(4, os.open("/tmp", os.O_RDONLY), Peer(os.getpid(), 0, frozenset()))
        for uid in (0, NOBODY):  # not even root takes others along, by mistake
            with pytest.raises(OSError, match="not the one that the program is in"):
                heir.admit(4, os.open(cgroups.own(), os.O_RDONLY), Peer(1 << 22, uid, frozenset()))
        heir.close()
    finally:
        entrance.close()


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


def test_a_cgroup_that_is_not_to_be_seen_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where another file system lies over /sys/fs/cgroup: "No such file or directory" was all that was said."""
    monkeypatch.setattr(cgroups, "own", lambda: tmp_path / "gone")
    with pytest.raises(Trouble, match=f"its folder {tmp_path}/gone is not to be seen here: No such file"):
        _enter(None, None)  # type: ignore[arg-type]  # it comes to neither
