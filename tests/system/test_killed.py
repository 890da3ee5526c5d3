"""SIGKILL while every session sends and receives at full rate: the card is as it was, and the next start takes it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from tests.conftest import run
from tests.program import Said, running, until
from tests.provider import CARD, FAR_CARD, Provider, provider
from tests.system.engines import fetch

from .rig import ipv4, padded, ppp, pppoe

pytestmark = pytest.mark.usefixtures("own_net")

SESSIONS = 4
RATE, SECONDS = 100_000, 60
DEAD_END = f"lookup {0x5000FF00}"
"""Where a rule leads what comes from an address that a session had."""
ELSEWHERE = IPv4Address("192.0.2.1").packed
ENOUGH = 3000
"""Packets each way through every session before the blow."""


def octets(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


@contextmanager
def traffic(far: Provider, flood: Path, sessions: list[Said], folder: Path) -> Iterator[None]:
    """Both cores' worth of packets through every session, up and down, until the block ends."""

    def file(name: str, frames: list[bytes]) -> str:
        path = folder / name
        path.write_text("".join(frame.hex() + "\n" for frame in frames))
        return str(path)

    def start(device: str, frames: list[bytes]) -> list[str]:
        return [str(flood), device, str(RATE), str(SECONDS), file(device, frames)]

    def packets(src: bytes = ELSEWHERE, dst: bytes = ELSEWHERE) -> list[bytes]:
        return [ipv4(bytes(size), src=src, dst=dst, flow=flow) for flow, size in enumerate((20, 600, 1400))]

    own = {s["device"]: IPv4Address(s["ipv4"]).packed for s in sessions}
    down = [
        padded(pppoe(ppp(packet), dst=octets(s["local_mac"]), src=octets(s["ac_mac"]), session_id=s["session_id"]))
        for s in sessions
        for packet in packets(dst=own[s["device"]])
    ]
    up = (start(device, packets(src=address)) for device, address in own.items())
    commands = [far.command(*start(FAR_CARD, down)), *up]
    floods = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for command in commands]
    try:
        until(lambda: all(moved(s["device"]) >= ENOUGH for s in sessions), "traffic both ways")
        yield
    finally:
        for each in floods:
            each.kill()
            each.wait()


def moved(device: str) -> int:
    """Packets that went through a device, in the direction that had fewer."""
    (link,) = json.loads(run("ip", "-s", "-j", "link", "show", device))
    return min(link["stats64"][way]["packets"] for way in ("rx", "tx"))


def left() -> list[str]:
    """What a dead run should not leave: on the card, of devices, of routes."""
    (card,) = json.loads(run("ip", "-d", "-j", "link", "show", CARD))
    found = [line for line in run("ip", "-br", "link").splitlines() if "soup" in line]
    found += [line for line in run("ip", "route", "show", "table", "all").splitlines() if "soup" in line]
    if "xdp" in card:
        found.append(f"XDP program {card['xdp']}")
    if card["promiscuity"]:
        found.append("promiscuous mode")
    return found


def rules() -> set[str]:
    """The addresses that a routing rule of ours leads through a device."""
    return {line.split()[2] for line in run("ip", "rule").splitlines() if "proto 80" in line and DEAD_END not in line}


@pytest.mark.parametrize("patience", ["at once", "when all is clean"])
def test_the_card_is_clean_and_the_next_start_comes_up(flood: Path, tmp_path: Path, patience: str) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        "defaults: {user: anyone, password: lab, autodial: true, datapath: afxdp}\n"
        'sessions: [{name: "card{n}", count: 2}, {name: "own{n}", mac: derived, count: 2}]\n'
    )
    arguments = (CARD, "--config", config, "--state-dir", tmp_path / "state", "--headless", "--until-up", "--hold")
    with provider(max_sessions=SESSIONS) as far:
        for _ in range(3):
            with running(*arguments) as program:
                sessions = list(program.up(SESSIONS).values())
                assert len({said["local_mac"] for said in sessions}) == 3
                assert len(left()) >= 2 * SESSIONS + 2, "what is looked for later can be seen"
                for said in sessions:
                    assert fetch(said["device"]) == said["ipv4"]
                assert rules() == {said["ipv4"] for said in sessions}, "none is left of the run before"
                with traffic(far, flood, sessions, tmp_path):
                    program.process.kill()
                    program.process.wait()
            if patience == "when all is clean":
                until(lambda: not left(), "a clean card")
        with running(*arguments) as program:
            program.up(SESSIONS)
            assert program.end() == 0
        assert left() == []
        assert rules() == set()
