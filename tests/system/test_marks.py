"""What bears a session's mark leaves by that session or not at all, and reaches it without any other step."""

from __future__ import annotations

import os
import select
import socket
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from engine.egress.addresses import Devices
from engine.egress.tun import VNET_HEADER
from engine.host.nft import Message, Nft, field, message
from engine.settings.values import DatapathChoice, Marks
from tests.conftest import run
from tests.program import PATIENCE, until
from tests.provider import provider
from tests.system.engines import dialling, fetch, session, views, wait_up
from tests.system.given import give_ipv4, give_ipv6

pytestmark = pytest.mark.usefixtures("own_net")

A, PEER = IPv4Address("100.64.0.2"), IPv4Address("100.64.0.1")
GLOBAL = IPv6Address("2001:db8:5::2")
ELSEWHERE, ELSEWHERE6 = ("198.51.100.7", 9), ("2001:db8:ff::7", 9)
SO_MARK = 36
FIRST = 0x5000


def ip(words: str) -> str:
    return run("ip", *words.split())


def _send(mark: int, source: str = "") -> list[int]:
    """One packet of each family that bears a mark; returns the errors."""
    errors = []
    for family, to in ((socket.AF_INET, ELSEWHERE), (socket.AF_INET6, ELSEWHERE6)):
        with socket.socket(family, socket.SOCK_DGRAM) as sender:
            sender.setsockopt(socket.SOL_SOCKET, SO_MARK, mark)
            if source and family == socket.AF_INET:
                sender.bind((source, 0))
            try:
                sender.sendto(b"marked", to)
            except OSError as error:
                errors.append(error.errno or 0)
    return errors


def _left(heard: socket.socket) -> list[bytes]:
    """What of ours came out of the other card."""
    found = []
    while select.select([heard], [], [], 0.05)[0]:
        packet = heard.recv(2000)
        if b"marked" in packet:
            found.append(packet)
    return found


def _sources(fd: int) -> list[str]:
    """Of the packets that wait at a session's device."""
    found = []
    while select.select([fd], [], [], 0.05)[0]:
        packet = os.read(fd, 2000)[VNET_HEADER:]
        if b"marked" in packet:
            found.append(str(IPv4Address(packet[12:16]) if packet[0] >> 4 == 4 else IPv6Address(packet[8:24])))
    return found


def _flush_rules() -> None:
    for family in ("-4", "-6"):
        ip(f"{family} rule flush")
        ip(f"{family} rule add pref 32766 lookup main")


def _flush_fence() -> None:
    nft = Nft()
    nft.commit([message(Message.DELTABLE, field(1, "souppp"))])
    nft.close()


def _up(devices: Devices, key: int) -> None:
    devices.create(key, f"soup{key}")
    give_ipv4(devices, key, A + key, PEER, 1492)
    give_ipv6(devices, key, IPv6Address("fe80::1234") + key, 1492)
    ip(f"-6 addr add {GLOBAL + key}/128 dev soup{key} nodad")


def test_what_bears_a_mark_leaves_by_its_session_or_not_at_all(lan: socket.socket) -> None:
    """Whatever becomes of the session, of rules or of the firewall's table, and by each of both layers alone."""
    devices = Devices()
    devices.hold_marks([FIRST + key for key in range(3)])
    assert len(_send(FIRST + 1)) == 2, "held, in one step, before there are rules"
    assert _left(lan) == []
    for key in range(3):
        devices.set_mark(key, FIRST + key)
    for key in (0, 1):
        _up(devices, key)
    devices.look()
    for key in (0, 1):
        assert _send(FIRST + key) == []
        assert _sources(devices.fd(key)) == [str(A + key), str(GLOBAL + key)], (
            "and has its address, without being bound"
        )
    assert len(_send(FIRST + 2)) == 2, "one that isn't up has none"
    assert _send(0) == []
    assert len(_left(lan)) == 2, "the host's own packets go where they went"

    for strike, told in ((_flush_rules, "routing rules: put back"), (_flush_fence, "nftables table")):
        strike()
        for mark in range(3):
            _send(FIRST + mark)
        _send(FIRST, source="192.0.2.1")
        assert _left(lan) == [], f"after {strike.__name__}"
        assert told in devices.look().for_all[0]
    for family in ("-4", "-6"):
        for key in (1, 2):
            ip(f"{family} route flush table {0x50000000 + key}")
    _send(FIRST + 2)
    assert _left(lan) == []
    told_of = devices.look().each
    assert "put back" in told_of[1]
    assert "the session's mark" in told_of[2]
    _flush_fence()
    assert len(_send(FIRST + 2)) == 2
    devices.look()

    devices.set_mark(1, None)
    devices.remove(0)
    assert len(_send(FIRST)) == len(_send(FIRST + 1)) == 2, "gone, or another's one day: nowhere"
    devices.set_mark(1, FIRST + 7)
    _sources(devices.fd(1))
    assert _send(FIRST + 7) == []
    assert len(_sources(devices.fd(1))) == 2

    # As when it is killed: devices go, all else stays, and the next one takes that over.
    devices._instance.close()
    os.close(devices._devices.pop(1).fd)
    _send(FIRST + 7)
    assert _left(lan) == []
    heir = Devices()
    assert len(_send(FIRST + 7)) == 2
    _flush_rules()
    _send(FIRST + 7)
    assert _left(lan) == []
    heir.look()
    heir.set_mark(1, FIRST + 7)
    _up(heir, 1)
    assert _send(FIRST + 7) == []
    assert len(_sources(heir.fd(1))) == 2
    heir.close()
    for shown in ("-4 rule", "-6 rule", "-4 route show table all", "-6 route show table all"):
        assert "proto 80" not in ip(shown)


LAB, LAB6 = str(PEER), "3fff:64::1"


def _fetch_marked(mark: int, server: str = LAB) -> str:
    """The address that the lab's web server sees of a socket that has a mark, and is bound to nothing."""
    with socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET) as client:
        client.settimeout(PATIENCE)
        client.setsockopt(socket.SOL_SOCKET, SO_MARK, mark)
        client.connect((server, 80))
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        answer = b""
        with suppress(ConnectionResetError):
            while chunk := client.recv(4096):
                answer += chunk
    return answer.decode().split()[-1]


@pytest.mark.parametrize("path", [DatapathChoice.AFXDP, DatapathChoice.KERNEL])
def test_eight_sessions_give_eight_addresses_by_device_address_and_mark(path: DatapathChoice) -> None:
    """With the same gateway on all, and the reverse path filter as any distribution ships it."""
    ip("link set lo up")
    sessions = [session(f"s{n}", datapath=path) for n in range(8)]
    with provider(), dialling(sessions, marks=Marks(FIRST, 8)) as engine:
        wait_up(engine)
        there = list(views(engine).values())
        own = [view.ipv4 for view in there]
        assert len({*own}) == 8
        for strictness in ("0", "1", "2") if path is DatapathChoice.AFXDP else "2":
            for which in ("all", *(view.device for view in there)):
                Path(f"/proc/sys/net/ipv4/conf/{which}/rp_filter").write_text(strictness)
            for view in there:
                assert view.device is not None
                assert view.ipv4 is not None
                assert view.mark is not None
                got = fetch(view.device), fetch(view.ipv4), _fetch_marked(view.mark)
                assert got == (view.ipv4,) * 3, f"rp_filter={strictness}"
        until(lambda: all(view.ipv6_addresses for view in views(engine).values()), "global IPv6 addresses")
        for view in views(engine).values():
            assert view.mark is not None
            assert _fetch_marked(view.mark, LAB6) in view.ipv6_addresses
