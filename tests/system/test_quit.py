"""The end of a run with IPv4 alone: devices go while other sessions still end, and nothing leaves elsewhere."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from ipaddress import IPv4Address, IPv6Address

import pytest

from engine.egress.addresses import Devices
from engine.egress.together import Earlier
from engine.egress.undertaker import Undertaker
from engine.host.nft import Message, Nft, field, message
from tests.conftest import run
from tests.program import until
from tests.system.given import give_ipv4, give_ipv6

pytestmark = pytest.mark.usefixtures("own_net")

OWN, PEER, ELSEWHERE = IPv4Address("100.64.0.2"), IPv4Address("100.64.0.1"), ("198.51.100.7", 9)
SESSIONS, GROUP = 6, 78
OURS = b"of a session"


@pytest.fixture(autouse=True)
def few_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each device is reason enough for a request."""
    monkeypatch.setattr(Undertaker, "LAST_BURIAL", 1)


def up(devices: Devices, key: int) -> None:
    devices.create(key, f"soup{key}", ipv6=False)
    give_ipv4(devices, key, OWN + key, PEER, 1492)


def sender(source: IPv4Address) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_IP, 15, 1)  # IP_FREEBIND
    made.bind((str(source), 0))
    return made


def left_elsewhere(lan: socket.socket) -> list[bytes]:
    """What left by the host's own card, of all that a session's address sent."""
    found = []
    with suppress(BlockingIOError):
        while True:
            packet = lan.recv(2000, socket.MSG_DONTWAIT)
            if OURS in packet:
                found.append(packet)
    return found


@contextmanager
def all_sending() -> Iterator[Callable[[], None]]:
    """What has each session's socket send a packet, if it can."""
    with ExitStack() as senders:
        bound = [senders.enter_context(sender(OWN + key)) for key in range(SESSIONS)]

        def send() -> None:
            for each in bound:
                with suppress(OSError):
                    each.sendto(OURS, ELSEWHERE)

        yield send


def there() -> str:
    return run("ip", "-o", "link") + run("ip", "rule") + run("ip", "route", "show", "table", "all")


def fence_gone() -> None:
    with closing(Nft()) as nft:
        nft.commit([message(Message.DELTABLE, field(1, "souppp"))])


def rules_gone() -> None:
    run("ip", "rule", "flush")
    run("ip", "rule", "add", "pref", "32766", "lookup", "main")


def another_is_gone() -> None:
    run("ip", "link", "delete", "soup4")


def test_devices_go_while_others_are_up(lan: socket.socket) -> None:
    devices = Devices()
    for key in range(SESSIONS):
        up(devices, key)
    devices.part()
    devices.remove(0)
    until(lambda: devices.parted, "the first go")
    links = run("ip", "-o", "link")
    assert ("soup0" in links, "soup1" in links) == (False, True)
    assert "local 100.64.0.2 " not in there(), "nothing is left to be read for it"
    with sender(OWN + 1) as bound:
        bound.sendto(OURS, ELSEWHERE)
        assert OURS in os.read(devices.fd(1), 2000)
    assert left_elsewhere(lan) == []
    devices.close()
    assert "proto 80" not in there()


@pytest.mark.parametrize("strike", [None, fence_gone, rules_gone, another_is_gone])
def test_nothing_leaves_elsewhere_while_sessions_end_one_by_one(
    lan: socket.socket, strike: Callable[[], None] | None
) -> None:
    """Each layer is enough until all have ended, whoever flushes the other."""
    devices = Devices()
    for key in range(SESSIONS):
        up(devices, key)
    with all_sending() as send:
        devices.part()
        for key in range(SESSIONS):
            devices.remove(key)
            send()
            if key == 2 and strike is not None:
                strike()
                send()
                devices.look()
            send()
        devices.bury()
        devices.look()
        while not devices.parted:
            send()
        send()
        assert left_elsewhere(lan) == []
        assert "soup" not in run("ip", "-o", "link")
    devices.close()
    assert "proto 80" not in there()


def test_the_fence_that_is_flushed_when_all_have_ended_is_put_back(lan: socket.socket) -> None:
    """By then it stands alone."""
    devices = Devices()
    up(devices, 0)
    devices.part()
    devices.remove(0)
    devices.bury()
    until(lambda: devices.parted, "its end")
    fence_gone()
    assert devices.look().for_all == ["Someone changed the nftables table that keeps sessions' packets in: put back."]
    with sender(OWN) as bound, suppress(OSError):
        bound.sendto(OURS, ELSEWHERE)
    assert left_elsewhere(lan) == []
    devices.close()


def test_what_is_done_to_devices_that_go_is_not_heard(lan: socket.socket) -> None:
    """It would be looked at for each of thousands, and nothing of it is to be put back; rules are."""
    devices = Devices()
    for key in range(SESSIONS):
        up(devices, key)
    devices.look()
    devices.part()
    another_is_gone()
    run("ip", "link", "set", "soup1", "down")
    run("ip", "addr", "flush", "dev", "soup2")
    run("ip", "route", "flush", "table", str(0x50000000 + 3))
    found = devices.look()
    assert (found.each, found.gone, found.lost, found.for_all) == ({}, [], {}, [])
    rules_gone()
    assert "routing rules: put back" in devices.look().for_all[0]
    for key in range(SESSIONS):
        devices.remove(key)
    devices.bury()
    until(lambda: devices.parted, "their end")
    assert devices.look().for_all == []
    devices.close()
    assert "proto 80" not in there()


@pytest.mark.parametrize("metric", [None, 50])
def test_the_hosts_default_route_goes_back_as_its_session_ends(lan: socket.socket, metric: int | None) -> None:
    """What is the host's own is not left to the end."""
    devices = Devices()
    devices.create(0, "soup0", ipv6=False, metric=metric)
    give_ipv4(devices, 0, OWN, PEER, 1492)
    up(devices, 1)
    assert ("default dev soup0" in run("ip", "route")) == (metric is not None)
    devices.part()
    devices.remove(0)
    assert "soup0" not in run("ip", "route")
    devices.close()


def test_where_any_has_ipv6_all_wait_for_each_other(lan: socket.socket) -> None:
    devices = Devices()
    up(devices, 0)
    devices.create(1, "soup1")
    give_ipv6(devices, 1, IPv6Address("fe80::1234"), 1492)
    devices.part()
    devices.remove(0)
    assert not devices.parted
    assert "soup0" in run("ip", "-o", "link")
    devices.remove(1)
    devices.bury()
    until(lambda: devices.parted, "their end")
    assert "soup" not in run("ip", "-o", "link")
    devices.close()


QUITTING = f"""
from ipaddress import IPv4Address
from engine.egress.addresses import Devices
from engine.egress.instances import Instance
from engine.egress.together import Survivor
from engine.egress.undertaker import Undertaker
from tests.system.test_quit import SESSIONS, up
instance = Instance()
survivor = Survivor({GROUP}, instance)
devices = Devices(instance, {GROUP})
for key in range(SESSIONS):
    up(devices, key)
devices.part()
devices.remove(0)
devices.undertaker.wait_for("soup0")
Undertaker._bury = lambda *_: (print(flush=True), input())
devices.remove(1)
devices.undertaker.wait_for("soup1")
"""


@pytest.mark.parametrize("strike", [None, fence_gone, rules_gone])
def test_killed_while_some_devices_have_gone(lan: socket.socket, strike: Callable[[], None] | None) -> None:
    """The rest goes, what their sessions had leads nowhere, and the next start clears it up."""
    child = subprocess.Popen([sys.executable, "-c", QUITTING], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    assert ("soup0" in there(), "soup2" in there()) == (False, True), "that is the moment"
    if strike is not None:
        strike()
    child.kill()
    child.communicate()
    with all_sending() as send:
        with closing(Earlier(GROUP)) as earlier:
            while earlier.at_work:
                send()
                earlier.wait(0.001)
        send()
        assert "soup" not in run("ip", "-o", "link")
        heir = Devices()
        send()
        assert left_elsewhere(lan) == []
    heir.close()
    if strike is not rules_gone:  # by which what stays behind is found
        assert "proto 80" not in there()
