"""A service that is restarted leaves its sessions to the next process: nobody at the concentrator notices."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from engine.host.files import STACK
from engine.host.nft import Nft
from tests.conftest import run
from tests.manager import HANDED_OVER, Manager, managed
from tests.program import PATIENCE, until
from tests.provider import CARD, Provider, provider
from tests.system.flows import HOST
from tests.system.test_exec import PRISONER, Prisoner, exec_command
from tests.system.test_privileges import ALWAYS, with_only
from tests.system.test_promises import MARKED, Flows, link_local, other_card
from tests.system.test_served import ctl

pytestmark = pytest.mark.usefixtures("own_net")

PORT = 7001
ECHO = f"""
import socketserver

class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while octets := self.request.recv(65536):
            self.request.sendall(octets)

socketserver.ThreadingTCPServer.allow_reuse_address = True
with socketserver.ThreadingTCPServer(("", {PORT}), Echo) as server:
    print("there", flush=True)
    server.serve_forever()
"""


def when(told: str) -> float:
    """A time as `ctl` prints it, as Unix time."""
    return datetime.fromisoformat(told).timestamp()


def echo(far: Provider) -> AbstractContextManager[None]:
    """On the provider's side: sends back what comes."""
    return far.serving(ECHO)


class Talk:
    """A connection through a session, on which something is said all the time."""

    def __init__(self, device: str) -> None:
        self.answers = 0
        self.longest = 0.0
        """Seconds until an answer."""
        self.failure = ""
        self._peer = socket.socket()
        self._peer.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        self._peer.settimeout(2 * PATIENCE)  # TCP tries again after as long as nobody was there
        self._peer.connect(("100.64.0.1", PORT))
        self._done = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._done:
                asked, word = time.monotonic(), b"%08d" % self.answers
                self._peer.sendall(word)
                if self._peer.recv(len(word), socket.MSG_WAITALL) != word:
                    raise OSError("another answer")
                self.answers += 1
                self.longest = max(self.longest, time.monotonic() - asked)
                time.sleep(0.01)
        except OSError as error:
            self.failure = str(error)

    def goes_on(self) -> None:
        """It lives, and is answered from now on."""
        before = self.answers
        until(lambda: self.answers > before + 1 or self.failure, "an answer", 2 * PATIENCE)
        assert not self.failure, self.failure

    def end(self) -> None:
        self._done = True
        self._thread.join()
        self._peer.close()


USUAL = "user: someone, password: lab, autodial: true"
CONFIGURATION = f"""\
sessions:
  - {{name: plain, {USUAL}, datapath: afxdp, ipv6: true}}
  - {{name: kernel, {USUAL}, datapath: kernel, inbound: closed}}
  - {{name: own, {USUAL}, datapath: afxdp, mac: derived, vlan: 7}}
  - {{name: idle, {USUAL}, datapath: afxdp}}
marks: 0x5000
"""
CHANGED = f"""\
sessions:
  - {{name: new, {USUAL}, datapath: afxdp}}
  - {{name: own, {USUAL}, datapath: afxdp, mac: derived, vlan: 7}}
  - {{name: idle, {USUAL}, datapath: afxdp}}
  - {{name: kernel, {USUAL}, datapath: kernel, inbound: closed}}
  - {{name: plain, {USUAL}, datapath: afxdp, ipv6: true}}
marks: 0x5000
"""
UP = ("plain", "kernel", "own")
KEPT = (
    "mark",
    "state",
    "ipv4",
    "ipv6",
    "device",
    "datapath",
    "session_id",
    "ac_mac",
    "local_mac",
    "flaps",
    "mtu",
    "setup_ms",
)


class Service:
    """A service on the test's card, with its files."""

    def __init__(self, manager: Manager, path: Path) -> None:
        self.manager = manager
        self.path = path

    def sessions(self) -> dict[str, Any]:
        return {found["name"]: found for found in json.loads(ctl(self.path, "--json", "list"))}

    def events(self) -> str:
        return ctl(self.path, "events")

    def wait_up(self, *names: str) -> dict[str, Any]:
        ctl(self.path, "wait", *names)
        return self.sessions()


@contextmanager
def service(folder: Path, *, keeps: bool = True, configuration: str = CONFIGURATION) -> Iterator[Service]:
    """It ends with the block, and must leave nothing behind then."""
    (folder / "va.yaml").touch(mode=0o600)
    (folder / "va.yaml").write_text(configuration)
    path, state = folder / "va.sock", folder / "state"
    with managed(
        folder, CARD, "--config", folder / "va.yaml", "--state-dir", state, "--socket", path, keeps=keeps
    ) as manager:
        yield Service(manager, path)
    assert "soup" not in run("ip", "link")
    assert "xdp" not in run("ip", "link", "show", CARD)
    assert [line for line in run("ip", "rule").splitlines() if "proto 80" in line] == []
    assert "souppp" not in "".join(tables())
    assert not list(state.glob("*.journal"))


def tables() -> list[str]:
    """The host's nftables tables."""
    nft = Nft()
    try:
        return nft.tables()
    finally:
        nft.close()


def test_connections_live_through_it(tmp_path: Path) -> None:
    """Twice, with the sessions in another order, and nothing that is theirs leaves by another card meanwhile."""
    with provider(mtu=1508) as far, echo(far), other_card() as elsewhere, service(tmp_path) as it:
        it.wait_up()
        ctl(it.path, "hangup", "idle")
        until(lambda: it.sessions()["idle"]["state"] == "down", "it down")
        before = it.sessions()
        for name in UP:
            before[name]["ipv6"] = until(lambda name=name: link_local(before[name]["device"]), "an IPv6 address")
        flows = Flows({name: before[name] for name in UP})
        inside = Prisoner(exec_command(it.path, "plain", *PRISONER))
        assert inside.report()["page"] == before["plain"]["ipv4"], "it runs"
        talks = {name: Talk(before[name]["device"]) for name in UP}
        try:
            for configuration in (CONFIGURATION, CHANGED):
                for talk in talks.values():
                    talk.goes_on()
                counted, seen = it.sessions(), elsewhere.seen[HOST]
                (tmp_path / "va.yaml").write_text(configuration)
                it.manager.restart(signal.SIGUSR2)
                for talk in talks.values():
                    talk.goes_on()
                after = it.sessions()
                for name in UP:
                    assert {key: after[name][key] for key in KEPT} == {key: before[name][key] for key in KEPT}
                    assert abs(when(after[name]["up_since"]) - when(before[name]["up_since"])) < 0.1
                    assert after[name]["rx_packets"] > counted[name]["rx_packets"] > 0
                assert inside.report()["page"] == before["plain"]["ipv4"], "new sockets of a program in a session"
                assert after["idle"]["state"] == "down", "nobody wanted it up"
                assert elsewhere.seen[HOST] > seen, "the host's own traffic went on"
                assert "3 of 3 sessions that the process before had up go on." in it.events()
            it.wait_up("new")
            assert not it.manager.stored
        finally:
            flows.close()
            inside.close()
            for talk in talks.values():
                talk.end()
        assert elsewhere.seen[MARKED] == 0, "nor what bears a mark, or runs in a session"
        assert not {before[name][family] for name in UP for family in ("ipv4", "ipv6")} & elsewhere.seen.keys()
        ctl(it.path, "hangup", "kernel", "plain")
        until(lambda: {it.sessions()[name]["device"] for name in ("kernel", "plain")} == {None}, "their devices gone")
        until(lambda: before["plain"]["device"] not in run("ip", "link"), "it gone")


def test_a_signal_to_end_right_behind_it(tmp_path: Path) -> None:
    """As a manager that restarts a service may send both."""
    with provider(), service(tmp_path) as it:
        before = it.wait_up()
        it.manager.process.send_signal(signal.SIGUSR2)
        it.manager.restart(signal.SIGTERM)
        after = it.wait_up()
        assert [after[name]["session_id"] for name in before] == [before[name]["session_id"] for name in before]


def test_where_nobody_keeps_them_nothing_is_done(tmp_path: Path) -> None:
    with provider(), service(tmp_path, keeps=False) as it:
        before = it.wait_up()
        it.manager.process.send_signal(signal.SIGUSR2)
        until(lambda: "No service manager keeps" in it.events(), "a word about it")
        assert it.sessions().keys() == before.keys()
        assert {each["state"] for each in it.sessions().values()} == {"up"}


def lost(manager: Manager) -> None:
    """A manager that doesn't do what it said."""
    manager.forget()


def rubbish(manager: Manager) -> None:
    for fd in [fd for fd, name in manager.stored.items() if name.endswith(".state")]:
        os.ftruncate(fd, 0)
        os.pwrite(fd, os.urandom(1000), 0)


def devices_lost(manager: Manager) -> None:
    for fd in [fd for fd, name in manager.stored.items() if name.endswith(".devices")]:
        del manager.stored[fd]
        os.close(fd)


@pytest.mark.parametrize("blow", [lost, rubbish, devices_lost])
def test_what_can_not_be_taken_over_is_ended_and_dialled_anew(tmp_path: Path, blow: Callable[[Manager], None]) -> None:
    """The concentrator is left no ghost, the host no device."""
    with provider(max_sessions=4), service(tmp_path) as it:
        before = it.wait_up()
        it.manager.process.send_signal(signal.SIGUSR2)
        it.manager.process.wait(PATIENCE)
        blow(it.manager)
        it.manager.start()
        after = it.wait_up()
        assert {each["state"] for each in after.values()} == {"up"}
        gone_on = [name for name in before if after[name]["session_id"] == before[name]["session_id"]]
        assert gone_on == ([*before] if blow is devices_lost else []), "without a device it gets another"


def test_a_manager_that_does_not_answer_costs_the_sessions_alone(tmp_path: Path) -> None:
    """They are hung up in order, as for any other end."""
    with provider(), service(tmp_path, configuration=f"sessions: [{{name: one, {USUAL}}}]") as it:
        it.wait_up()
        it.manager.hang_up()
        it.manager.process.send_signal(signal.SIGUSR2)
        assert it.manager.process.wait(PATIENCE) == HANDED_OVER
        assert "can't be handed over (Connection refused): hung up" in it.manager.said


def test_without_the_right_to_what_it_would_take_over(tmp_path: Path) -> None:
    """The in-kernel path's namespace may be entered no more: its session ends, and all others go on."""
    with provider(), service(tmp_path) as it:
        before = it.wait_up()
        it.manager.process.send_signal(signal.SIGUSR2)
        it.manager.process.wait(PATIENCE)
        it.manager.start(with_only(*ALWAYS))
        until(lambda: it.sessions()["kernel"]["state"] == "failed", "its end")
        after = it.sessions()
        assert [after[name]["session_id"] for name in before if name != "kernel"] == [
            before[name]["session_id"] for name in before if name != "kernel"
        ]
        assert before["kernel"]["device"] not in run("ip", "link")


def test_with_another_account_it_is_another_session(tmp_path: Path) -> None:
    with provider(), service(tmp_path) as it:
        before = it.wait_up()
        (tmp_path / "va.yaml").write_text(CONFIGURATION.replace("own, user: someone", "own, user: other"))
        it.manager.restart(signal.SIGUSR2)
        after = it.wait_up()
        kept = [name for name in before if after[name]["session_id"] == before[name]["session_id"]]
        assert kept == ["plain", "kernel", "idle"]
        assert "3 of 4 sessions that the process before had up go on." in it.events()


def test_a_concentrator_that_lost_a_session_meanwhile_is_found_out(tmp_path: Path) -> None:
    """The session ends by its keepalive, and comes up anew."""
    one = f"sessions: [{{name: one, {USUAL}, keepalive: {{interval: 1, failures: 2}}}}]"
    with provider(faults=("silent death",)) as far, service(tmp_path, configuration=one) as it:
        before = it.wait_up()
        it.manager.process.send_signal(signal.SIGUSR2)
        it.manager.process.wait(PATIENCE)
        os.kill(far.pid, signal.SIGUSR1)
        it.manager.start()
        assert "1 of 1 session that the process before had up go on." in it.events()
        until(lambda: it.sessions()["one"]["session_id"] not in (None, before["one"]["session_id"]), "another session")


WITHOUT_DEVICES = f"""\
defaults: {{user: someone, password: lab, autodial: true}}
sessions:
  - {{name: bare, egress: none}}
  - {{name: stacked, egress: stack, forwards: [{{listen: tcp/80, to: "127.0.0.1:{PORT}"}}]}}
  - {{name: first, egress: device}}
  - {{name: second, egress: stack}}
proxy: {{sessions: {{first_port: 20001}}, allow_private: true}}
"""


@pytest.mark.skipif(not STACK.exists(), reason="needs the stack program: `make stack`")
def test_sessions_without_a_device_go_on_as_well(tmp_path: Path) -> None:
    """The next process' stack program gets them; and whoever is to have another egress by now has that."""

    def seen(port: int) -> str:
        fetch = ("curl", "-sS", "-m", "5", "-x", f"socks5h://127.0.0.1:{port}", "http://100.64.0.1/")
        said = subprocess.run(fetch, capture_output=True, text=True, check=False).stdout
        return said.removeprefix("Your address is ").strip()

    run("ip", "link", "set", "lo", "up")
    with provider() as far, service(tmp_path, configuration=WITHOUT_DEVICES) as it:
        before = it.wait_up()
        for port, name in ((20002, "stacked"), (20003, "first"), (20004, "second")):
            until(lambda port=port, name=name: seen(port) == before[name]["ipv4"], "its proxy")
        changed = WITHOUT_DEVICES.replace("first, egress: device", "first, egress: stack")
        (tmp_path / "va.yaml").write_text(changed.replace("second, egress: stack", "second, egress: device"))
        it.manager.restart(signal.SIGUSR2)
        after = it.wait_up()
        assert {name: each["session_id"] for name, each in after.items()} == {
            name: each["session_id"] for name, each in before.items()
        }
        for port, name in ((20002, "stacked"), (20003, "first"), (20004, "second")):
            until(lambda port=port, name=name: seen(port) == before[name]["ipv4"], "its proxy")
        assert after["first"]["device"] is None
        assert after["second"]["device"] is not None
        with socket.create_server(("127.0.0.1", PORT)) as server:
            server.settimeout(PATIENCE)
            fetch = far.command("curl", "-sS", "-m", f"{PATIENCE:.0f}", f"http://{before['stacked']['ipv4']}/")
            with subprocess.Popen(fetch, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as client:
                server.accept()[0].close()
                client.wait()
