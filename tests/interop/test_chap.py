"""Against rp-pppoe's pppoe-server and pppd with CHAP: everything that one concentrator is enough for."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engine.host.files import STACK
from tests.conftest import joined_namespaces
from tests.interop.dialling import HOLD, QUICK, SERVER, dial, pings, pppds, wait_pppds, wait_refused
from tests.interop.kit import Aclab, concentrators
from tests.program import noted, until
from tests.system.test_put_to_use import paste
from tests.system.test_served import asked

WEB = "/run/web"
WHO = r"#!/bin/sh\necho Content-Type: text/plain\necho\necho $REMOTE_ADDR\n"
USES = """
proxy: {sessions: {first_port: 20001}, pool: {listen: "127.0.0.1:1080"}, allow_private: true}
marks: 0x5000
"""
FULL = 1492 - 28
"""Data octets of the largest ping."""


@pytest.fixture(scope="module")
def server(needs_root: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aclab]:
    with joined_namespaces() as line, concentrators(line, tmp_path_factory.mktemp("chap")) as start:
        yield start(AUTH="chap", AC="real-one", SVC="internet", SESSIONS="16")


@pytest.fixture(autouse=True)
def quiet(server: Aclab) -> None:
    """Sessions that an earlier test may have left are ended."""
    server.exec("kill $(pidof pppd) 2>/dev/null || true")
    wait_pppds(server, 0)


def test_eight_sessions_ping_the_concentrator(server: Aclab, tmp_path: Path) -> None:
    with dial(server.line, tmp_path, '{name: "s{n}", count: 8}', *HOLD) as program:
        sessions = program.up(8)
        wait_pppds(server, 8)
        assert len({said["ipv4"] for said in sessions.values()}) == 8
        for said in sessions.values():
            assert said["ipv4"].startswith("10.67.1.")
            assert said["dns"] == ["10.67.0.53", "10.67.0.54"]
            assert (said["ac_name"], said["ac_mac"], said["mtu"]) == ("real-one", "02:ac:ac:ac:00:01", 1492)
            assert pings(server.line, said["device"])
        assert pings(server.line, sessions["s8"]["device"], FULL)
        assert not pings(server.line, sessions["s8"]["device"], FULL + 1)
        assert program.end() == 0
    wait_pppds(server, 0)
    assert not noted(tmp_path / "state")


@pytest.mark.timeout(400)
def test_eight_addresses_by_each_way_to_use_a_session(server: Aclab, tmp_path: Path) -> None:
    """As the details page offers them, against a server that answers with the address that it sees; and as many more
    of sessions without a device.
    """
    server.exec(f"mkdir -p {WEB}/cgi-bin; printf '{WHO}' >{WEB}/cgi-bin/who; chmod +x {WEB}/cgi-bin/who")
    server.exec(f"busybox httpd -p 0.0.0.0:80 -h {WEB}")
    ways = {"fetch a page through it", "bind to its address", "run a program in it", "use its proxy"}
    ways |= {"choose it in the pool", "send with its mark"}
    by_proxy = {"use its proxy", "choose it in the pool"}
    path = tmp_path / "engine"
    shell = ("nsenter", f"--net=/run/netns/{server.line.near}", "sh", "-c")

    def uses(name: str, address: str) -> None:
        usage = asked(path, "show", name)["usage"]
        stacked = name.startswith("t")
        assert not stacked or {*usage} == by_proxy
        for way in by_proxy if stacked else ways:
            line = usage[way].replace("http://example.com/", f"http://{SERVER}/cgi-bin/who")
            line = line.replace(f"--on {server.line.card}", f"--socket {path}").replace("ping ", "ping -c 1 -W 10 ")
            told = paste(line, shell)
            assert told == address or way == "send with its mark", (way, told)

    sessions = '{name: "s{n}", count: 8}'
    if STACK.exists():
        sessions += '\n{name: "t{n}", count: 8, egress: stack}'
    count = 16 if STACK.exists() else 8
    with dial(server.line, tmp_path, sessions, *HOLD, "--socket", path, besides=USES) as program:
        addresses = {name: said["ipv4"] for name, said in program.up(count).items()}
        assert len({*addresses.values()}) == count
        until(lambda: all(view["proxy"] for view in asked(path, "list")), "all proxies")
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(uses, addresses, addresses.values()))
        assert program.end() == 0


def test_addresses_of_their_own(server: Aclab, tmp_path: Path) -> None:
    with dial(server.line, tmp_path, '{name: "s{n}", count: 3, mac: derived}\n{name: card}', *HOLD) as program:
        sessions = program.up(4)
        assert len({said["local_mac"] for said in sessions.values()}) == 4
        for said in sessions.values():
            assert pings(server.line, said["device"])


def test_a_wrong_password(server: Aclab, tmp_path: Path) -> None:
    sessions = """
        {name: wrong, password: no-such-secret}
        {name: right}
        {name: quoted, user: user@isp.example, password: 'p@ss w"ord'}
    """
    with dial(server.line, tmp_path, sessions) as program:
        program.event("ipv4-up", "right")
        program.event("ipv4-up", "quoted")
        wait_refused(program, "wrong")
        assert program.end() == 0
        assert "no-such-secret" not in str(program.said)


def test_names_of_service_and_concentrator(server: Aclab, tmp_path: Path) -> None:
    sessions = """
        {name: any}
        {name: service, service: internet}
        {name: ac, ac: real-one}
        {name: mac, ac: {mac: "02:ac:ac:ac:00:01"}}
        {name: other-service, service: iptv}
        {name: other-ac, ac: other}
        {name: other-mac, ac: {mac: "02:ac:ac:ac:00:02"}}
    """
    with dial(server.line, tmp_path, sessions) as program:
        for name in ("any", "service", "ac", "mac"):
            program.event("ipv4-up", name)
        for name in ("other-ac", "other-mac"):
            assert "others did: real-one (02:ac:ac:ac:00:01)" in program.event("dial-failed", name)["text"]
        program.event("dial-failed", "other-service")
        assert program.end() == 0


@pytest.mark.parametrize("signal", ["TERM", "KILL"])
def test_the_concentrator_ends_a_session(server: Aclab, tmp_path: Path, signal: str) -> None:
    """By a Terminate-Request, or by a PADT alone because its pppd died; the other session takes no notice."""
    with dial(server.line, tmp_path, "{name: one}\n{name: two}", *HOLD) as program:
        sessions = program.up(2)
        files = " ".join(f"/proc/{pid}/cmdline" for pid in pppds(server))
        victim = server.exec(f"grep -lw {sessions['one']['ipv4']} {files}").split("/")[2]
        seen = len(program.said)
        server.exec(f"kill -{signal} {victim}")
        assert program.event("session-down", "one", seen)["text"].endswith("Dialling again now.")
        program.event("ipv4-up", "one", seen)
        wait_pppds(server, 2)
        assert not any(said.get("session") == "two" for said in program.said[seen:])
        assert pings(server.line, "soup0")
        assert pings(server.line, "soup1")
        assert program.end() == 0


def test_ghosts_of_a_killed_run_are_ended(server: Aclab, tmp_path: Path) -> None:
    sessions = '{name: "s{n}", count: 3}'
    with dial(server.line, tmp_path, sessions, *HOLD) as program:
        program.up(3)
        ghosts = pppds(server)
        program.process.kill()
        program.process.wait()
    assert pppds(server) == ghosts, "the concentrator knows nothing of it"
    with dial(server.line, tmp_path, sessions, *HOLD) as program:
        assert program.event("ghosts")["text"] == "Ended 3 sessions that an earlier run had left open."
        program.up(3)
        until(lambda: not ghosts & pppds(server), "the ghosts gone")
        wait_pppds(server, 3)
        assert program.end() == 0


def test_capture_of_a_real_session(server: Aclab, tmp_path: Path) -> None:
    capture = tmp_path / "capture"
    with dial(server.line, tmp_path, "{name: one}", "--until-up", "--capture", str(capture)) as program:
        assert program.ended() == 0
    shown = server.exec(f"tcpdump -nr {capture} 2>/dev/null")
    for word in ("PADI", "PADO", "PADR", "PADS", "Challenge", "Response", "Success", "IPCP", "Term-Request", "PADT"):
        assert word in shown, word


def test_the_concentrator_is_killed_and_comes_back(server: Aclab, tmp_path: Path) -> None:
    """Silence is noticed by echo, long before the concentrator would; sessions come back with it by themselves."""
    with dial(server.line, tmp_path, f'{{name: "s{{n}}", count: 3, {QUICK}}}', *HOLD) as program:
        program.up(3)
        seen = len(program.said)
        server.stop()
        for name in ("s1", "s2", "s3"):
            assert "echo" in program.event("session-down", name, seen)["text"].lower()
        seen = len(program.said)
        server.start()
        for name in ("s1", "s2", "s3"):
            program.event("ipv4-up", name, seen)
        until(lambda: all(pings(server.line, f"soup{n}") for n in range(3)), "pings")
        assert program.end() == 0
