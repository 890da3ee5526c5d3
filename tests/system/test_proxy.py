"""Proxies over real sessions in the lab: each protocol, each way to choose, what is refused, and how it all ends."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.host.surroundings import has_ipv6
from tests.program import Program, Said, descendants, running, until
from tests.system.test_served import ctl

WEB, WEB6 = "http://100.64.0.1/", "http://[3fff:64::1]/"
SEEN_AS = "Your address is 3fff:64:"
CONFIG = """
proxy:
  sessions: {first_port: 20001}
  pool: {listen: "127.0.0.1:1080"}
  allow_private: true
defaults: {user: anyone, password: lab, autodial: true}
sessions: [{name: home-01, tags: [blue]}, {name: home-02}, {name: home-03, proxy: "[::1]:20050"}]
"""


class Scene:
    """A run of the program, and what a client in its network sees."""

    def __init__(self, program: Program, path: Path) -> None:
        self.program = program
        self.path = path
        self.sessions: dict[str, Said] = program.up(3)
        self.within = ("nsenter", "-t", str(program.pid), "-n")

    def address(self, name: str) -> str:
        address: str = self.sessions[name]["ipv4"]
        return address

    def curl(self, proxy: str, url: str = WEB, *more: str) -> tuple[int, str]:
        """Exit code and what was got, or what curl complains of."""
        command = [*self.within, "curl", "-sS", "-m", "20", "-x", proxy, *more, url]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, (done.stdout if done.returncode == 0 else done.stderr).strip()

    def seen_as(self, proxy: str, *more: str) -> str:
        """The address that a server sees."""
        code, said = self.curl(proxy, WEB, *more)
        assert code == 0, said
        return said.removeprefix("Your address is ")

    @property
    def proxies(self) -> int:
        """The process that serves."""
        commands = {
            pid: Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0") for pid in descendants(self.program.pid)
        }
        (found,) = (pid for pid, command in commands.items() if b"engine.proxy" in command)
        return found


@pytest.fixture(scope="module")
def scene(needs_root: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    config = tmp_path_factory.mktemp("proxy") / "config.yaml"
    config.write_text(CONFIG)
    path = config.with_name("socket")
    with running("--lab", "--config", config, "--socket", path, "--headless", "--until-up", "--hold") as program:
        it = Scene(program, path)
        until(lambda: it.curl("socks5h://127.0.0.1:1080")[0] == 0, "the pool")
        yield it
        assert program.end() == 0


@pytest.mark.parametrize("scheme", ["socks5h", "socks5", "socks4", "socks4a", "http"])
def test_each_protocol_on_one_port(scene: Scene, scheme: str) -> None:
    assert scene.seen_as(f"{scheme}://127.0.0.1:20002") == scene.address("home-02")


def test_connect_and_a_session_s_own_port_by_ipv6(scene: Scene) -> None:
    assert scene.seen_as("http://127.0.0.1:20001", "--proxytunnel") == scene.address("home-01")
    assert scene.seen_as("socks5h://[::1]:20050") == scene.address("home-03")
    assert scene.curl("socks5h://127.0.0.1:20003")[0] == 7, "nobody listens there in its place"


def test_the_user_name_chooses(scene: Scene) -> None:
    pool = "127.0.0.1:1080"
    for name in scene.sessions:
        assert scene.seen_as(f"socks5h://app-session-{name}:x@{pool}") == scene.address(name)
    assert scene.seen_as(f"http://app-tag-blue:x@{pool}") == scene.address("home-01")
    kept = {scene.seen_as(f"socks5h://app-sticky-me-ttl-10m:x@{pool}") for _ in range(4)}
    assert len(kept) == 1
    assert {scene.seen_as(f"socks5h://app:x@{pool}") for _ in range(3)} == {
        each["ipv4"] for each in scene.sessions.values()
    }


def test_ipv6_destinations(scene: Scene) -> None:
    if not has_ipv6():
        pytest.skip("this host has no IPv6")
    for proxy in ("socks5h://127.0.0.1:20001", "http://127.0.0.1:20001"):
        until(
            lambda proxy=proxy: scene.curl(proxy, WEB6)[1].startswith("Your address is 3fff:64:"), "an answer by IPv6"
        )
    assert scene.curl("http://127.0.0.1:20001", WEB6, "--proxytunnel")[1].startswith("Your address is 3fff:64:")


def test_the_process_has_no_rights_and_no_files(scene: Scene) -> None:
    status = Path(f"/proc/{scene.proxies}/status").read_text()
    values = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert {values[which] for which in ("CapPrm", "CapEff", "CapInh", "CapBnd", "CapAmb")} == {"0" * 16}
    assert values["NoNewPrivs"] == "1"
    assert set(values["Uid"].split() + values["Gid"].split()) == {"65534"}


def test_what_goes_through_a_session_is_counted_by_host(scene: Scene) -> None:
    assert scene.curl("socks5h://127.0.0.1:20001")[0] == 0

    def busiest() -> str:
        shown: str = json.loads(ctl(scene.path, "--json", "show", "home-01"))["proxied_most"].get("100.64.0.1", "")
        return shown

    assert re.fullmatch(r"\d+ connections?, [1-9]\d* octets up, [1-9]\d* down", until(busiest, "its host"))
    (counted,) = json.loads(ctl(scene.path, "--json", "counters", "home-01"))
    assert 0 < counted["proxied_rx_bytes"] < counted["rx_bytes"]
    assert counted["proxied_connections"] > 0
