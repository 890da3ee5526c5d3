"""Sessions with `egress: stack`: the proxies connect through them, and the host knows nothing of them.

One run of the program, where there are no TUN devices, does all that a user of the proxies can; then it, the stack
program and the host are struck while clients go on, and what leaves by the host's other card is counted at that cable's
far end.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from engine.api.commands import Dial, Redial
from engine.api.values import Severity
from engine.host import privileges
from engine.host.files import STACK
from engine.run.client import Client, open_path
from engine.settings.values import EgressChoice, ProxySettings, SessionPorts
from souppp_tui import __version__
from tests.conftest import run
from tests.program import COMMAND, PATIENCE, Program, Said, descendants, running, until
from tests.provider import CARD, Provider, provider
from tests.system import flows
from tests.system.duct import HEAD, OTHER
from tests.system.engines import dialling, session, story, view, wait_up
from tests.system.test_odd_hosts import NO_TUN
from tests.system.test_promises import LAN, flush_rules, other_card, padt

PORTS = {"one": 20001, "two": 20002}
CONFIG = """
defaults: {user: anyone, password: lab, autodial: true, egress: stack, dns: [100.64.0.1]}
dial: {retry_min: 0.5, retry_max: 2}
sessions:
- name: one
  forwards: [{listen: tcp/8080, to: "127.0.0.1:8000"}, {listen: tcp/81, to: "127.0.0.1:1"}]
- name: two
marks: 0x5000
proxy: {sessions: {first_port: 20001}, pool: {listen: "127.0.0.1:1080"}, allow_private: true}
"""
NAMES = """
import socket
own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
own.bind(("", 53))
print("ready", flush=True)
while True:
    asked, sender = own.recvfrom(512)
    end = asked.index(0, 12) + 5
    found = asked[end - 4 : end - 2] == bytes((0, 1))
    answer = bytes.fromhex("c00c00010001000000000004") + socket.inet_aton("100.64.0.1") if found else b""
    own.sendto(asked[:2] + bytes((0x85, 0x80, 0, 1, 0, found, 0, 0, 0, 0)) + asked[12:end] + answer, sender)
"""
"""Every name is the web server's."""
ECHO = """
import socket
own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
own.bind(("", 7007))
print("ready", flush=True)
while True:
    said, sender = own.recvfrom(2048)
    own.sendto(sender[0].encode() + b" " + said, sender)
"""

CAP_NET_ADMIN = 12

pytestmark = pytest.mark.skipif(not STACK.exists(), reason="needs the stack program: `make stack`")


def curl(proxy: str, url: str = "http://100.64.0.1/", *more: str) -> str:
    """What was got; empty for nothing."""
    done = subprocess.run(
        ["curl", "-sS", "-m", "10", "-x", proxy, *more, url], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else ""


def seen_as(name: str) -> str:
    return curl(f"socks5h://127.0.0.1:{PORTS[name]}").removeprefix("Your address is ")


def stack_program(program: Program) -> int:
    """Its process."""
    (found,) = (
        each for each in descendants(program.pid) if Path(f"/proc/{each}/comm").read_text().strip() == STACK.name
    )
    return found


def spoil(program: Program) -> None:
    """Write what makes no sense where a process has memory together with the data path, as one broken into could.

    Again and again, for it writes what is right there itself.
    """
    pid = stack_program(program)
    starts = [
        int(line.partition("-")[0], 16)
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines()
        if "souppp-duct" in line
    ]

    def told() -> bool:
        with suppress(OSError), open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
            for start in starts:
                memory.seek(start + OTHER + HEAD)
                memory.write(b"\xff" * 4)
        return any("has put what makes no sense" in said.get("text", "") for said in program.said)

    until(told, "that it was noticed")


def associated(port: int) -> bytes:
    """What an echo server says by UDP ASSOCIATE."""
    with (
        socket.create_connection(("127.0.0.1", port), PATIENCE) as control,
        socket.socket(type=socket.SOCK_DGRAM) as own,
    ):
        control.sendall(bytes((5, 1, 0, 5, 3, 0, 1)) + bytes(6))
        answer = b""
        while len(answer) < 12:
            answer += control.recv(12 - len(answer)) or b"\0" * 12
        own.settimeout(PATIENCE)
        own.connect(("127.0.0.1", int.from_bytes(answer[10:12], "big")))
        own.send(bytes((0, 0, 0, 1)) + socket.inet_aton("100.64.0.1") + (7007).to_bytes(2, "big") + b"hello")
        return own.recv(2048)[10:]


def came_in(path: Path, name: str) -> list[str]:
    """Where connections from the line go to, as the details page has them."""
    with Client(open_path(path), program="test", release=__version__) as engine:
        (key,) = (view.id for view in engine.snapshot().sessions if view.name == name)
        details = until(lambda: engine.details(key), "details")
        return [each.target for each in details.connections if each.how == "forward"]


class Clients:
    """Who connects by each session's proxy, by TCP and by UDP, to where only the host's other card leads."""

    def __init__(self) -> None:
        self.tried = dict.fromkeys(PORTS, 0)
        self._ending = False
        self._threads = [threading.Thread(target=self._run, args=each, daemon=True) for each in PORTS.items()]
        for each in self._threads:
            each.start()

    def _run(self, name: str, port: int) -> None:
        mark = flows._marked(socket.AF_INET, 0x5000 + port - PORTS["one"])
        ways: tuple[Callable[[], object], ...] = (flows._connections(port), flows._Datagrams(port), mark)
        while not self._ending:
            for way in ways:
                with suppress(OSError, flows.NotYet):
                    way()
                self.tried[name] += 1
            time.sleep(flows.PAUSE)

    def close(self) -> None:
        self._ending = True
        for each in self._threads:
            each.join()


@contextmanager
def scene(folder: Path) -> Iterator[tuple[Program, Provider, dict[str, Said]]]:
    config = folder / "config.yaml"
    config.write_text(CONFIG)
    arguments = (
        CARD,
        "--config",
        config,
        "--state-dir",
        folder / "state",
        "--socket",
        folder / "sock",
        "--headless",
        "--until-up",
        "--hold",
    )
    with ExitStack() as stack:
        far = stack.enter_context(provider())
        program = stack.enter_context(running(*arguments, within=NO_TUN))
        yield program, far, program.up(len(PORTS))


@pytest.mark.usefixtures("own_net")
def test_connections_go_through_their_session_and_nowhere_else(tmp_path: Path) -> None:
    with other_card() as capture, scene(tmp_path) as (program, far, sessions):
        own = {name: said["ipv4"] for name, said in sessions.items()}
        for name in PORTS:
            until(lambda name=name: seen_as(name) == own[name], "the proxies")
        assert {name for _, name in socket.if_nameindex()} == {"lo", CARD, LAN, "lan1"}
        assert not any(address in run("ip", "addr") + run("ip", "rule") for address in own.values())
        expect_no_rights(program)

        proxy, pool = f"127.0.0.1:{PORTS['one']}", "127.0.0.1:1080"
        assert curl(f"http://{proxy}") == curl(f"http://{proxy}", "http://100.64.0.1/", "--proxytunnel")
        assert curl(f"http://{proxy}") == f"Your address is {own['one']}"
        assert curl(f"socks5h://app-session-two:x@{pool}") == f"Your address is {own['two']}"
        assert until(lambda: curl(f"socks5h://{proxy}", "http://[3fff:64::1]/"), "IPv6").startswith(
            "Your address is 3fff:"
        )
        assert len(curl(f"socks5h://{proxy}", "http://100.64.0.1/3000000", "-o", str(tmp_path / "got"), "-w", "x")) == 1
        assert (tmp_path / "got").stat().st_size == 3_000_000
        with far.serving(NAMES), far.serving(ECHO):
            assert curl(f"socks5h://{proxy}", "http://www.example/") == f"Your address is {own['one']}"
            assert associated(PORTS["one"]) == f"{own['one']} hello".encode()

        with socket.create_server(("127.0.0.1", 8000)) as server:
            fetch = f"http://{own['one']}:8080/"
            client = subprocess.Popen(
                far.command("curl", "-sS", "-m", f"{PATIENCE:.0f}", fetch), stdout=subprocess.PIPE
            )
            server.settimeout(PATIENCE)
            it, _ = server.accept()
            with it:
                assert it.recv(4096).startswith(b"GET / ")
                until(lambda: came_in(tmp_path / "sock", "one"), "the connection among the session's")
                it.sendall(b"HTTP/1.0 200 OK\r\n\r\nwelcome")
            assert client.communicate(timeout=PATIENCE)[0] == b"welcome"
        for port in (81, 82):
            refused = far.command("curl", "-sS", "-m", "10", f"http://{own['one']}:{port}/")
            assert subprocess.run(refused, check=False, capture_output=True).returncode in (7, 56)
        said = run(*COMMAND, "proxychain", "--socket", tmp_path / "sock", "two")
        fetch = f"{said}unset no_proxy NO_PROXY; curl -sS -m 10 http://100.64.0.1/"
        assert run("sh", "-c", fetch).strip() == f"Your address is {own['two']}"

        mark = len(program.said)
        run(*COMMAND, "ctl", "--socket", tmp_path / "sock", "ping", "one")
        echo = program.wait_for(lambda said: said.get("event") == "ping", since=mark)
        assert echo["session"] == "one"
        assert echo["text"].startswith("Echo from 100.64.0.1: ")

        clients = Clients()
        try:
            seen = own.copy()
            for strike in (
                flush_rules,
                lambda: os.kill(stack_program(program), signal.SIGKILL),
                lambda: spoil(program),
                lambda: stand_still(program),
                lambda: padt(sessions["one"], far),
            ):
                tried = clients.tried.copy()
                strike()
                until(lambda tried=tried: all(clients.tried[name] > tried[name] + 100 for name in PORTS), "the clients")
                for name in PORTS:
                    seen[name] = until(lambda name=name: seen_as(name), f"{name} again")
            assert seen["two"] == own["two"], "that its stack was another program's cost it no address"
            program.wait_for(lambda said: said.get("event") == "stack-ended")
            program.process.kill()
            tried = clients.tried.copy()
            until(lambda: all(clients.tried[name] > tried[name] + 100 for name in PORTS), "the clients")
        finally:
            clients.close()
        with socket.socket(type=socket.SOCK_DGRAM) as host:
            until(lambda: host.sendto(b"x", (flows.TARGET, 9)) and capture.seen[flows.HOST], "the host's own packets")
        assert not {*own.values(), *seen.values()} & {*capture.seen}
        others = {each for each in capture.seen if not each.startswith(("fe80:", "::"))}
        assert others <= {flows.HOST, flows.HOST6}


def stand_still(program: Program) -> None:
    """The stack program does nothing any more, and holds all that it has: it gets another one in its place."""
    mark, stopped = len(program.said), stack_program(program)
    os.kill(stopped, signal.SIGSTOP)
    program.wait_for(lambda said: "stands still" in str(said.get("text")), since=mark)
    program.wait_for(lambda said: said.get("event") == "stack-ended", since=mark)
    until(lambda: not Path(f"/proc/{stopped}").exists(), "the end of one that stands still")


def expect_no_rights(program: Program) -> None:
    status = Path(f"/proc/{stack_program(program)}/status").read_text()
    values = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert {values[which] for which in ("CapPrm", "CapEff", "CapInh", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (values["NoNewPrivs"], values["Seccomp"]) == ("1", "2")
    assert set(values["Uid"].split() + values["Gid"].split()) == {"65534"}
    links = run("nsenter", "-t", str(stack_program(program)), "-n", "ip", "-o", "link")
    assert [line.split()[1] for line in links.splitlines()] == ["lo:"]


@pytest.mark.usefixtures("own_net")
def test_a_session_takes_no_right_over_the_networks_of_the_host() -> None:
    """Once the card is taken: a dial, its connections and its end without CAP_NET_ADMIN."""
    sessions = [session(name, egress=EgressChoice.STACK, autodial=name == "one") for name in PORTS]
    run("ip", "link", "set", "lo", "up")
    proxies = ProxySettings(SessionPorts(first_port=PORTS["one"]), allow_private=True)
    with provider(), dialling(sessions, proxy=proxies) as engine:
        wait_up(engine, "one")
        left: Future[list[str]] = Future()
        engine._loop.call_soon_threadsafe(lambda: left.set_result(shed_and_look(CAP_NET_ADMIN)))
        assert left.result(PATIENCE) == ["CAP_NET_ADMIN"]
        engine.submit(Dial((view(engine, "two").id,)))
        wait_up(engine, "two")
        for name in PORTS:
            assert until(lambda name=name: seen_as(name), "the proxy") == view(engine, name).ipv4
        former = view(engine, "one").ipv4
        engine.submit(Redial((view(engine, "one").id,)))
        until(lambda: view(engine, "one").ipv4 not in (None, former), "another address of one")
        until(lambda: seen_as("one") == view(engine, "one").ipv4, "the proxy with that")
        assert not [event for event in engine.events_since(0)[0] if event.severity >= Severity.ERROR], story(engine)


def shed_and_look(capability: int) -> list[str]:
    """Give up a right of this thread's; which of those it needs it lacks then."""
    privileges.shed((capability,))
    return privileges.missing_capabilities()
