"""What the details page offers for each session works as it is pasted: eight sessions are eight addresses, each way."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.program import running, until
from tests.system.test_served import asked

SESSIONS = 8
CONFIG = f"""
proxy: {{sessions: {{first_port: 20001}}, pool: {{listen: "127.0.0.1:1080"}}, allow_private: true}}
marks: 0x5000
defaults: {{user: anyone, password: lab, autodial: true}}
sessions: [{{name: "home {{n}}", count: {SESSIONS}}}]
"""
FETCH = (
    "fetch a page through it",
    "bind to its address",
    "run a program in it",
    "use its proxy",
    "choose it in the pool",
)
PING = ("ping through it", "send with its mark")
SAID = "Your address is "


@pytest.fixture(scope="module")
def lines(needs_root: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, dict[str, str]]]:
    """What is offered, by the sessions' addresses."""
    folder = tmp_path_factory.mktemp("use")
    config, path = folder / "config.yaml", folder / "engine"
    config.write_text(CONFIG)
    with running("--lab", "--config", config, "--socket", path, "--headless", "--until-up", "--hold") as program:
        addresses = {name: said["ipv4"] for name, said in program.up(SESSIONS).items()}
        assert len(set(addresses.values())) == SESSIONS
        until(lambda: all(view["proxy"] for view in asked(path, "list")), "all proxies")
        told = {name: asked(path, "show", name)["usage"] for name in addresses}
        yield {
            addresses[name]: {what: line.replace("--on lab", f"--socket {path}") for what, line in usage.items()}
            for name, usage in told.items()
        }
        assert program.end() == 0


def paste(line: str, shell: Sequence[str] = ("sh", "-c")) -> str:
    """What a shell makes of a line, in which our own program is called as it can be: no PATH leads to a checkout."""
    done = subprocess.run([*shell, line], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, (line, done.stdout, done.stderr)
    return done.stdout.strip()


@pytest.mark.parametrize("what", FETCH)
def test_each_session_is_an_address_of_its_own(lines: dict[str, dict[str, str]], what: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        seen = list(pool.map(lambda address: paste(lines[address][what]), lines))
    assert [each.removeprefix(SAID) for each in seen] == list(lines)


@pytest.mark.parametrize("what", PING)
def test_pings(lines: dict[str, dict[str, str]], what: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda address: paste(lines[address][what].replace("ping ", "ping -c 1 -W 10 ")), lines))


def test_a_route_and_a_look_at_its_packets(lines: dict[str, dict[str, str]]) -> None:
    offered = next(iter(lines.values()))
    paste(offered["route a network through it"].replace("NETWORK", "198.51.100.0/24"))
    watch = offered["watch its packets"]
    if shutil.which("tcpdump"):
        paste(watch.replace("tcpdump ", "timeout -s INT 2 tcpdump ") + "; test $? = 124 -o $? = 0")
    assert {*offered} == {*FETCH, *PING, "route a network through it", "watch its packets"}
