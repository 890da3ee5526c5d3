"""A session's packets leave through that session or not at all, whatever happens to it, to the host or to the program.

One run of the program for each data path: its sessions are broken one by one, each in its own way and all within
seconds, then the run itself is. Meanwhile a program of the host's sends through each session by sockets of every kind,
and what leaves by the host's other card is counted at that cable's far end.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import pytest

from engine.host import netns
from tests.conftest import run
from tests.program import PATIENCE, Program, Said, descendants, running, until
from tests.provider import CARD, FAR_CARD, Provider, provider
from tests.system import flows
from tests.terminal import unread

ETH_P_ALL, PACKET_IGNORE_OUTGOING = 3, 23
LAN, FAR_LAN = "lan0", "lan1"
CHANGES = 4000
AFTER = 1.0
"""Seconds that the flows go on after each blow at least: some hundred packets of each kind, on an idle machine."""
ENOUGH = 20
"""Packets of each kind, and of the host's own, by which it is seen that they go on."""

MARKED, MARKED_PORT = "marked", flows.MARKED.to_bytes(2, "big")
FIRST_MARK = 0x5000
FIRST_PORT = 20001

PROGRAM_WAYS = ("ip rule flush", "notifications lost", "proxies killed", "SIGSTOP", "SIGKILL", "the next start")
"""What hits all sessions of a run, in this order."""


def ip(words: str) -> None:
    run("ip", *words.split())


def link_local(device: str, scope: str = "link") -> str:
    """A device's IPv6 address, once it has one."""
    (link,) = json.loads(run("ip", "-6", "-j", "addr", "show", "dev", device))
    return next((each["local"] for each in link.get("addr_info", ()) if each["scope"] == scope), "")


# --- ways to break one session ---


def link_down_up(session: Said, far: Provider) -> None:
    ip(f"link set {session['device']} down")
    ip(f"link set {session['device']} up")


def routes_flushed(session: Said, far: Provider) -> None:
    (rule,) = (line for line in run("ip", "rule").splitlines() if f"from {session['ipv4']} " in line)
    table = rule.split("lookup ")[1].split()[0]
    for family in ("-4", "-6"):
        subprocess.run(["ip", family, "route", "flush", "table", table], check=False, capture_output=True)


def device_deleted(session: Said, far: Provider) -> None:
    ip(f"link del {session['device']}")


def addresses_deleted(session: Said, far: Provider) -> None:
    ip(f"addr flush dev {session['device']}")


def padt(session: Said, far: Provider) -> None:
    macs = bytes.fromhex((session["local_mac"] + session["ac_mac"]).replace(":", ""))
    frame = macs + bytes.fromhex("886311a7") + session["session_id"].to_bytes(2, "big") + bytes(40)
    send = f"import socket; s = socket.socket(17, 3); s.bind(('{FAR_CARD}', 0)); s.send(bytes.fromhex('{frame.hex()}'))"
    far.run(sys.executable, "-c", send)


def moved_away(session: Said, far: Provider) -> None:
    ip(f"link set {session['device']} netns {far.pid}")


SESSION_WAYS: dict[str, Callable[[Said, Provider], None]] = {
    "link set down and up": link_down_up,
    "route flush": routes_flushed,
    "device deleted": device_deleted,
    "addresses deleted": addresses_deleted,
    "moved to another namespace": moved_away,
    "PADT": padt,
}


# --- what is measured ---


class Capture:
    """Counts what comes out of a cable, by source address."""

    def __init__(self, device: str) -> None:
        self.seen: Counter[str] = Counter()
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
        self._socket.setsockopt(263, PACKET_IGNORE_OUTGOING, 1)
        self._socket.bind((device, ETH_P_ALL))
        self._socket.settimeout(0.1)
        self._closing = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._closing:
            try:
                packet = self._socket.recv(2048)
            except TimeoutError:
                continue
            ports = packet[20:24] if packet[0] >> 4 == 4 else packet[40:44]
            if packet[9 if packet[0] >> 4 == 4 else 6] == socket.IPPROTO_UDP and ports[2:] == MARKED_PORT:
                self.seen[MARKED] += 1
            elif packet[0] >> 4 == 4:
                self.seen[str(IPv4Address(packet[12:16]))] += 1
            elif packet[0] >> 4 == 6 and packet[6] != 58:  # neighbours are asked for by ICMPv6
                self.seen[str(IPv6Address(packet[8:24]))] += 1

    def caught_up(self) -> Counter[str]:
        """What was seen, once all that has come out until now is counted."""
        until(lambda: not unread(self._socket.fileno()), "what has come out counted")
        time.sleep(0.02)  # for the last one, which is taken and not counted yet
        return self.seen.copy()

    def close(self) -> None:
        self._closing = True
        self._thread.join()
        self._socket.close()


class Flows:
    """The program that sends; see flows.py."""

    def __init__(self, sessions: dict[str, Said]) -> None:
        command = [sys.executable, Path(flows.__file__)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        keys = ("device", "ipv4", "ipv6", "mark", "proxy")
        self._say(
            json.dumps({name: {key: said[key] for key in keys if key in said} for name, said in sessions.items()})
        )

    def counts(self) -> dict[str, dict[str, list[int]]]:
        """By session and kind of socket: packets taken, packets refused."""
        self._say("?")
        assert self.process.stdout is not None
        counts: dict[str, dict[str, list[int]]] = json.loads(self.process.stdout.readline())
        return counts

    def _say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@dataclass
class Result:
    """What a blow led to."""

    leaked: Counter[str] = field(default_factory=Counter)
    """Packets that came out of the host's other card, by source."""
    tried: dict[str, int] = field(default_factory=dict)
    """Packets that were to be sent meanwhile, by kind of socket: none is to be idle."""
    host: int = 0
    """The host's own packets that came out meanwhile."""

    @property
    def went_on(self) -> bool:
        """Whether each kind of socket went on trying, and the host's own traffic as well."""
        return min(self.host, *self.tried.values()) > ENOUGH


@contextmanager
def other_card() -> Iterator[Capture]:
    """A LAN with the host's default routes, and what is seen on its cable."""
    ip(f"link add {LAN} type veth peer name {FAR_LAN}")
    for device in ("lo", LAN, FAR_LAN):
        ip(f"link set {device} up")
    mac = json.loads(run("ip", "-j", "link", "show", FAR_LAN))[0]["address"]
    for family, own, gateway in (
        ("-4", f"{flows.HOST}/24", "192.0.2.254"),
        ("-6", f"{flows.HOST6}/64", "2001:db8:99::fe"),
    ):
        ip(f"{family} addr add {own} dev {LAN}" + (" nodad" if family == "-6" else ""))
        ip(f"{family} neigh add {gateway} lladdr {mac} dev {LAN}")
        ip(f"{family} route add default via {gateway} dev {LAN}")
    capture = Capture(FAR_LAN)
    try:
        yield capture
    finally:
        capture.close()


class Scene:
    """One run of the program, and what goes on around it."""

    def __init__(self, stack: ExitStack, folder: Path, path: str, names: tuple[str, ...], **order: Any) -> None:
        """`order` is a LabOrder's."""
        config = folder / "config.yaml"
        sessions = ", ".join(f"{{name: {json.dumps(name)}}}" for name in names)
        config.write_text(
            f"defaults: {{user: anyone, password: lab, autodial: true, datapath: {path}}}\n"
            "dial: {retry_min: 0.5, retry_max: 2}\n"
            f"sessions: [{sessions}]\nmarks: {FIRST_MARK}\n"
            f"proxy: {{sessions: {{first_port: {FIRST_PORT}}}}}\n"
        )
        self.arguments = (
            CARD,
            "--config",
            config,
            "--state-dir",
            folder / "state",
            "--headless",
            "--until-up",
            "--hold",
        )
        self.far = stack.enter_context(provider(**order))
        self.capture = stack.enter_context(other_card())
        self.program: Program = stack.enter_context(running(*self.arguments))
        self.sessions = self.program.up(len(names))
        for name, session in self.sessions.items():
            session["mark"] = FIRST_MARK + names.index(name)
            session["proxy"] = FIRST_PORT + names.index(name)
            session["ipv6"] = until(lambda device=session["device"]: link_local(device, "global"), "an IPv6 address")
        self.send(stack)

    def send(self, stack: ExitStack) -> None:
        """Begin to, through all sessions."""
        self.flows = Flows(self.sessions)
        stack.callback(self.flows.close)
        until(lambda: all(kind[0] > 20 for kind in self.flows.counts()["host"].values()), "flows")
        until(lambda: all(self.flows.counts()[name]["proxied"][0] > 20 for name in self.sessions), "proxied ones")

    def blow(self, strike: Callable[[], object], seconds: float = AFTER) -> dict[str, Result]:
        """What it leads to, by session, in some seconds, or as many more as everything takes to go on."""
        before, seen = self.flows.counts(), self.capture.caught_up()
        strike()
        time.sleep(seconds)
        end = time.monotonic() + PATIENCE
        while True:
            results = self._since(before, seen)
            if all(each.went_on for each in results.values()) or time.monotonic() > end:
                return results
            time.sleep(0.1)

    def _since(self, before: dict[str, dict[str, list[int]]], seen: Counter[str]) -> dict[str, Result]:
        after, now = self.flows.counts(), self.capture.caught_up()
        results = {}
        for name, session in self.sessions.items():
            tried = {kind: sum(after[name][kind]) - sum(before[name][kind]) for kind in after[name]}
            own = (session["ipv4"], session["ipv6"], MARKED)
            leaked = Counter({source: now[source] - seen[source] for source in own if now[source] > seen[source]})
            results[name] = Result(leaked, tried, min(now[host] - seen[host] for host in (flows.HOST, flows.HOST6)))
        return results


def together(results: dict[str, Result]) -> Result:
    """Of all sessions."""
    first = next(iter(results.values()))
    kinds = {kind: min(each.tried[kind] for each in results.values()) for kind in first.tried}
    return Result(sum((each.leaked for each in results.values()), Counter()), kinds, first.host)


def expect_kept_in(result: Result, kinds: int) -> None:
    """Nothing left elsewhere, while so many kinds of socket and the host itself went on."""
    assert result.leaked == Counter(), "packets with a session's address on the host's other card"
    assert len(result.tried) >= kinds
    assert min(result.tried.values()) > ENOUGH, f"each kind of socket went on trying: {result.tried}"
    assert result.host > ENOUGH, "the host's own traffic went on"


def flush_rules() -> None:
    """With the host's own, which come back at once."""
    for family in ("-4", "-6"):
        ip(f"{family} rule flush")
        ip(f"{family} rule add pref 32766 lookup main")


def _dropped(pid: int) -> int:
    """How many notifications a process's netlink sockets had no room for."""
    links = [os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()]
    own = {link[8:-1] for link in links if link.startswith("socket:[")}
    rows = (line.split() for line in Path("/proc/thread-self/net/netlink").read_text().splitlines()[1:])
    return sum(int(row[8]) for row in rows if row[9] in own)


def _lose_notifications(program: Program, mark: int) -> None:
    """So many that it has no room for the last of them, which tell that its rules are gone."""
    program.process.send_signal(signal.SIGSTOP)
    changes = "addr add 198.18.0.1/32 dev lo\naddr del 198.18.0.1/32 dev lo\n" * CHANGES
    for _ in range(10):
        if _dropped(program.pid):
            break
        subprocess.run(["ip", "-batch", "-"], input=changes, text=True, check=True)
    assert _dropped(program.pid)
    flush_rules()
    program.process.send_signal(signal.SIGCONT)
    program.wait_for(lambda said: "routing rules: put back" in said.get("text", ""), since=mark)


def _proxies(program: int) -> int:
    """The process that serves them."""
    (found,) = (each for each in descendants(program) if b"engine.proxy" in Path(f"/proc/{each}/cmdline").read_bytes())
    return found


def _try_all(folder: Path, path: str) -> dict[str, Result]:
    """By way."""
    found: dict[str, Result] = {}
    with ExitStack() as stack:
        scene = Scene(stack, folder, path, tuple(SESSION_WAYS))
        found["nothing at all"] = together(scene.blow(lambda: None))

        def strike() -> None:
            for name, way in SESSION_WAYS.items():
                way(scene.sessions[name], scene.far)

        found.update(scene.blow(strike))
        found["ip rule flush"] = together(scene.blow(flush_rules))
        process, mark = scene.program.process, len(scene.program.said)
        found["notifications lost"] = together(scene.blow(lambda: _lose_notifications(scene.program, mark)))
        found["proxies killed"] = together(scene.blow(lambda: os.kill(_proxies(process.pid), signal.SIGKILL)))
        found["SIGSTOP"] = together(scene.blow(lambda: process.send_signal(signal.SIGSTOP)))
        process.send_signal(signal.SIGCONT)
        found["SIGKILL"] = together(scene.blow(process.kill))

        def start() -> None:
            scene.program = stack.enter_context(running(*scene.arguments))
            scene.program.up(len(SESSION_WAYS))

        found["the next start"] = together(scene.blow(start))
        assert scene.program.end() == 0
    return found


def _try_card(folder: Path, path: str) -> dict[str, Result]:
    with ExitStack() as stack:
        scene = Scene(stack, folder, path, ("one", "two"))
        return {"card removed": together(scene.blow(lambda: ip(f"link del {CARD}")))}


@pytest.fixture(scope="module", params=["afxdp", "kernel"])
def broken(
    needs_root: None, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[dict[str, Result]]:
    """What came of each way, on one data path."""
    found = {}
    before = netns.open_net()
    try:
        for each in (_try_all, _try_card):
            netns.unshare_net()
            found.update(each(tmp_path_factory.mktemp("run"), request.param))
        yield found
    finally:
        netns.set_net(before)
        os.close(before)


@pytest.mark.parametrize("way", ["nothing at all", *SESSION_WAYS, *PROGRAM_WAYS, "card removed"])
def test_nothing_leaves_elsewhere(broken: dict[str, Result], way: str) -> None:
    expect_kept_in(broken[way], kinds=12)
