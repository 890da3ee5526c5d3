"""SIGKILL while every session sends and receives at full rate: the card is as it was, and the next start takes it."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from engine.egress.requests import put_into_group, uint32
from engine.egress.together import group_of
from engine.egress.tun import open_tun
from engine.host.rtnl import Rtnl
from engine.record.journal import journal_of
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
STRANGER = "198.51.100.7"
"""No session's address: the host's own way is for it."""
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


DYING = """
import ctypes, fcntl, os, sys, threading, time
fcntl.flock(os.open(sys.argv[1], os.O_RDWR), fcntl.LOCK_EX)
threading.Thread(target=time.sleep, args=(600,)).start()
print(flush=True)
ctypes.CDLL(None).syscall({"x86_64": 60}.get(os.uname().machine, 93), 0)
"""
"""Has a journal's lock, and no first thread any more: as a process has whose last thread closes its files."""


@contextmanager
def dying(journal: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends for as long as it isn't killed once more."""
    process = subprocess.Popen([sys.executable, "-c", DYING, journal], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        stat = Path(f"/proc/{process.pid}/stat")
        until(lambda: stat.read_text().rpartition(") ")[2][0] == "Z", "its first thread's end")
        yield process
    finally:
        process.kill()
        process.communicate()


def held(process: int) -> list[int]:
    """Descriptors of our own of a process' TUN devices: the kernel doesn't take them away with it then."""
    pidfd, found = os.pidfd_open(process), []
    for each in Path(f"/proc/{process}/fd").iterdir():
        with suppress(FileNotFoundError):
            if os.readlink(each) == "/dev/net/tun":
                found.append(_getfd(pidfd, int(each.name)))
    os.close(pidfd)
    return found


def _getfd(pidfd: int, number: int) -> int:
    descriptor = int(ctypes.CDLL(None).syscall(438, pidfd, number, 0))  # pidfd_getfd(2), the same on all machines
    assert descriptor >= 0
    return descriptor


def devices() -> set[str]:
    return {name for _, name in socket.if_nameindex() if name.startswith("soup")}


def survivors(group: int) -> list[str]:
    """The processes that wait for an engine's end."""
    found = []
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = each.read_text().split("\0")
            if str(group) in words and any("survivor" in word for word in words):
                found.append(each.parent.name)
    return found


@contextmanager
def talk_elsewhere(addresses: list[str]) -> Iterator[list[str]]:
    """Send from these addresses as fast as it goes; what is seen of it on the host's default route is in the list."""
    run("ip", "link", "add", "other", "type", "veth", "peer", "name", "another")
    run("ip", "link", "set", "another", "up")
    run("ip", "link", "set", "other", "arp", "off", "up")
    run("ip", "route", "add", "default", "dev", "other")
    seen: list[str] = []
    line = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
    line.bind(("another", 0x0800))
    line.setblocking(False)
    over = threading.Event()
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in addresses]
    for each, address in zip(sockets, addresses, strict=True):
        each.setsockopt(socket.SOL_IP, 19, 1)  # IP_TRANSPARENT: from there even if it is gone
        each.bind((address, 0))

    def talk() -> None:
        while not over.wait(0.001):
            for each in sockets:
                with suppress(OSError):
                    each.sendto(b"?", ("192.0.2.1", 9))
            with suppress(BlockingIOError):
                seen.append(socket.inet_ntoa(line.recv(100)[12:16]))

    talking = threading.Thread(target=talk)
    talking.start()
    try:
        yield seen
    finally:
        over.set()
        talking.join()
        for each in (line, *sockets):
            each.close()


def of_many(folder: Path) -> tuple[tuple[str | Path, ...], Path]:
    """Arguments for a run with SESSIONS sessions, and its state's folder."""
    config, state = folder / "config.yaml", folder / "state"
    config.write_text(
        "defaults: {user: anyone, password: lab, autodial: true, datapath: afxdp}\n"
        f'sessions: [{{name: "card{{n}}", count: {SESSIONS}}}]\n'
    )
    return (CARD, "--config", config, "--state-dir", state, "--headless", "--until-up", "--hold"), state


def test_devices_go_at_once_and_nothing_leaves_elsewhere(tmp_path: Path) -> None:
    """By whoever outlives the engine; and where nobody does, by the next start, which says why it waits."""
    arguments, state = of_many(tmp_path)
    journal = journal_of(state, CARD)
    group = group_of(journal)
    with provider(max_sessions=SESSIONS), running(*arguments) as program:
        addresses = [said["ipv4"] for said in program.up(SESSIONS).values()]
        with talk_elsewhere([STRANGER, *addresses]) as seen:
            until(lambda: STRANGER in seen, "what is looked for")
            assert len(survivors(group)) == 1
            descriptors = held(program.pid)
            assert len(descriptors) == len(devices()) == SESSIONS
            program.process.kill()
            program.process.wait()
            until(lambda: not devices(), "no device, though their descriptors are open")
            until(lambda: not survivors(group), "the end of who saw to that")
            descriptors += map(open_tun, ("soup0", "soup1"))
            rtnl = Rtnl()
            rtnl.do([put_into_group(uint32(socket.if_nametoindex(name)), uint32(group)) for name in devices()])
            rtnl.close()
            with dying(journal) as process, running(*arguments) as later:
                until(lambda: not devices(), "no device of those that a dying engine left")
                until(lambda: any("is still ending" in line for line in later.complaints), "a line that says why")
                assert later.process.poll() is None, "it waits"
                assert not later.said, "nor has it begun"
                process.kill()
                later.up(SESSIONS)
                assert str(process.pid) in later.event("earlier")["text"]
                assert {*seen} == {STRANGER}, "not a packet by the host's own way"
                assert later.end() == 0
            assert not survivors(group)
        assert left() == []
    for descriptor in descriptors:
        os.close(descriptor)


def test_who_outlives_an_engine_and_is_late_takes_none_of_the_next_ones_devices(tmp_path: Path) -> None:
    """Both have the same group. The next one waits, and says why."""
    arguments, state = of_many(tmp_path)
    group = group_of(journal_of(state, CARD))
    with provider(max_sessions=SESSIONS), running(*arguments) as program:
        program.up(SESSIONS)
        (late,) = map(int, survivors(group))
        os.kill(late, signal.SIGSTOP)
        program.process.kill()
        program.process.wait()
        with running(*arguments) as later:
            until(lambda: any("was killed" in line for line in later.complaints), "a line that says why it waits")
            assert not later.said, "it has not begun"
            os.kill(late, signal.SIGCONT)
            later.up(SESSIONS)
            assert "Waited" in later.event("earlier")["text"]
            assert str(late) not in survivors(group)
            assert len(devices()) == SESSIONS
            assert later.end() == 0
        assert left() == []
