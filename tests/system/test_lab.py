"""The program on its embedded lab, as a newcomer runs it: sessions carry traffic, and nothing stays behind."""

from __future__ import annotations

import hashlib
import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from jsonschema import validate

from tests.conftest import ROOT, run
from tests.program import COMMAND, Program, Said, Traces, running, until

pytestmark = pytest.mark.usefixtures("needs_root")

KEYS = [
    "type",
    "time",
    "name",
    "state",
    "ipv4",
    "ipv6",
    "ipv6_addresses",
    "ipv6_prefixes",
    "dns",
    "device",
    "session_id",
    "ac_name",
    "ac_mac",
    "local_mac",
    "mtu",
    "setup_ms",
    "retry_at",
    "error",
]
SCHEMA = json.loads((ROOT / "docs" / "headless.schema.json").read_text())
UNTIL_UP = ("--lab", "--headless", "--until-up")
SESSIONS = 4


def devices() -> list[str]:
    """The devices in this thread's namespace."""
    return [name for _, name in socket.if_nameindex()]


def lab(*arguments: str | Path) -> tuple[str, ...]:
    return (*UNTIL_UP, *map(str, arguments))


def fetch(program: Program, interface: str, path: str = "") -> bytes:
    """What the lab's web server answers to the session with this device or address."""
    curl = ("curl", "--silent", "--show-error", "--fail", "--max-time", "30", "--interface", interface)
    command = ("nsenter", "-t", str(program.pid), "-n", *curl, f"http://100.64.0.1/{path}")
    return subprocess.run(command, check=True, capture_output=True, timeout=40).stdout


@pytest.fixture(scope="module")
def held(needs_root: None) -> Iterator[Program]:
    with running(*lab("--hold", "--sessions", str(SESSIONS))) as program:
        program.sessions(SESSIONS)
        yield program


@pytest.fixture(scope="module")
def sessions(held: Program) -> dict[str, Said]:
    return held.up(SESSIONS)


def test_session_objects_have_the_documented_keys(sessions: dict[str, Said]) -> None:
    for n, (name, said) in enumerate(sorted(sessions.items())):
        assert list(said) == KEYS
        assert name == said["name"] == f"lab-0{n + 1}"
        assert (said["state"], said["error"]) == ("up", None)
        assert said["dns"][:2] == ["100.64.0.53", "100.64.0.54"]
        assert (said["device"], said["mtu"], said["ac_name"]) == (f"soup{n}", 1492, "souppp-lab")
        assert said["setup_ms"] > 0
    for key in ("ipv4", "session_id", "device"):
        assert len({said[key] for said in sessions.values()}) == SESSIONS
    assert len({said["local_mac"] for said in sessions.values()}) == 1
    assert len({said["ac_mac"] for said in sessions.values()}) == 1


def test_events_are_json_with_the_documented_keys(held: Program, sessions: dict[str, Said]) -> None:
    events = [said for said in held.said if "event" in said]
    assert events
    for said in events:
        validate(said, SCHEMA)
        assert said["text"][-1] in ".!?"
    assert {said["session"] for said in events} == {None, *sessions}
    for said in sessions.values():
        validate(said, SCHEMA)
    told = {kind: [each for each in events if each["event"] == kind] for kind in ("pppoe-open", "ipv4-up")}
    assert {each["session_id"] for each in told["pppoe-open"]} == {said["session_id"] for said in sessions.values()}
    assert {each["address"] for each in told["ipv4-up"]} == {said["ipv4"] for said in sessions.values()}
    assert {each["ac_name"] for each in told["pppoe-open"]} == {"souppp-lab"}


@pytest.mark.parametrize("by", ["device", "ipv4"])
def test_each_session_answers_from_its_own_address(held: Program, sessions: dict[str, Said], by: str) -> None:
    for said in sessions.values():
        assert fetch(held, said[by]) == f"Your address is {said['ipv4']}\n".encode()


def test_downloads_at_once_through_different_sessions(held: Program, sessions: dict[str, Said]) -> None:
    size = 20_000_000
    curls = []
    for said in sessions.values():
        curl = ("curl", "-sS", "--fail", "--max-time", "60", "--interface", said["device"])
        command = ("nsenter", "-t", str(held.pid), "-n", *curl, f"http://100.64.0.1/{size}")
        curls.append(subprocess.Popen(command, stdout=subprocess.PIPE))
    wanted = hashlib.sha256(bytes(size)).hexdigest()
    got = []
    for process in curls:
        assert process.stdout is not None
        got.append(hashlib.file_digest(process.stdout, "sha256").hexdigest())  # type: ignore[arg-type]
        process.stdout.close()
    assert [process.wait(60) for process in curls] == [0] * SESSIONS
    assert got == [wanted] * SESSIONS


def test_devices_carry_the_session_and_nothing_else_is_routed(held: Program, sessions: dict[str, Said]) -> None:
    inside = ("nsenter", "-t", str(held.pid), "-n")
    addresses = run(*inside, "ip", "-br", "-4", "address")
    links = run(*inside, "ip", "-o", "link")
    for said in sessions.values():
        assert f"{said['ipv4']} peer 100.64.0.1/32" in addresses or f"{said['ipv4']}/32" in addresses
        assert f"{said['device']}: <POINTOPOINT" in links
    assert "default" not in run(*inside, "ip", "route"), "the host's own routing is left alone"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_in_order(own_net: None, tmp_path: Path, number: int) -> None:
    with running(*lab("--hold", "--sessions", "3", "--capture", tmp_path / "capture")) as program:
        program.up(3)
        traces = Traces(program.pid)
        assert len(traces.processes) >= 2, "the program and the provider"
        assert len(traces.namespaces) == 2, "each in a namespace of its own"
        assert program.end(number) == 0
        assert program.complaints == []
        until(lambda: not traces.left(), "everything gone")
    frames = run("tcpdump", "-nr", tmp_path / "capture").splitlines()
    for session in ("0x1", "0x2", "0x3"):
        goodbye = [frame for frame in frames if f"[ses {session}]" in frame][-3:]
        assert ["Term-Request" in goodbye[0], "Term-Ack" in goodbye[1], "PADT" in goodbye[2]] == [True] * 3
    assert devices() == ["lo"]


def test_a_signal_while_it_dials_ends_it_in_order(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        'sessions: [{name: "s{n}", user: u, password: lab, autodial: true, count: 50}]\ndial: {rate: 5}\n'
    )
    with running(*lab("--config", config)) as program:
        program.event("pppoe-open")
        traces = Traces(program.pid)
        assert program.end(signal.SIGINT) == 1, "not every session was up"
        until(lambda: not traces.left(), "everything gone")


def test_sigkill_leaves_nothing(own_net: None) -> None:
    with running(*lab("--hold", "--sessions", "3")) as program:
        program.up(3)
        traces = Traces(program.pid)
        program.process.kill()
        program.process.wait()
        until(lambda: not traces.left(), "everything gone")
    assert devices() == ["lo"]


def test_until_up_without_hold_ends_by_itself() -> None:
    with running(*lab("--sessions", "2")) as program:
        assert program.ended() == 0
        assert set(program.up(2)) == {"lab-01", "lab-02"}


def test_a_hundred_sessions_come_up() -> None:
    with running(*lab("--sessions", "100", "--hold")) as program:
        sessions = program.up(100)
        assert len({said["ipv4"] for said in sessions.values()}) == 100
        assert fetch(program, sessions["lab-100"]["device"]).decode().split()[-1] == sessions["lab-100"]["ipv4"]
        assert program.end() == 0


@pytest.mark.parametrize("method", ["pap", "chap", "mschapv2"])
def test_the_authentication_that_the_configuration_allows(tmp_path: Path, method: str) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"sessions: [{{name: one, user: anyone, password: lab, auth: [{method}], autodial: true}}]\n")
    with running(*lab("--config", config)) as program:
        assert program.ended() == 0
        program.up(1)
        assert program.event("authenticated", "one")["text"].startswith(f"Authenticated by {method}")


def test_a_wrong_password_is_said_and_the_others_come_up(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        "defaults: {user: anyone, autodial: true}\n"
        "sessions:\n"
        "  - {name: right, password: lab}\n"
        "  - {name: wrong, password: not-the-labs-secret}\n"
        "  - {name: idle, password: lab, autodial: false}\n"
    )
    with running(*lab("--config", config, "--timeout", "3")) as program:
        assert program.ended() == 1
        sessions = program.sessions(2)
        assert sessions["right"]["state"] == "up"
        wrong = sessions["wrong"]
        assert wrong["state"] == "failed"
        assert wrong["error"] == "wrong password"
        assert (wrong["ipv4"], wrong["device"], wrong["mtu"], wrong["setup_ms"]) == (None, None, None, None)
        said = program.event("dial-failed", "wrong")["text"]
        assert 'refused (mschapv2): "the lab takes any user name, with the password lab"' in said
        assert "not-the-labs-secret" not in str(program.said) + str(program.complaints)


def test_a_reader_that_goes_away_is_no_reason_to_complain(own_net: None) -> None:
    """As in `souppp-tui … | head -1`."""
    command = [*COMMAND, *lab("--hold", "--sessions", "2")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert "card-ready" in process.stdout.readline()
        traces = Traces(process.pid)
        process.stdout.close()
        assert process.wait(30) == 1
        assert process.stderr.read() == ""
        until(lambda: not traces.left(), "everything gone")
    assert devices() == ["lo"]
