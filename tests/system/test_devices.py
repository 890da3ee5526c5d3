"""The sessions' TUN devices: addresses, tables and rules as `ip` shows them, packets as the devices carry them."""

from __future__ import annotations

import errno
import os
import re
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from pathlib import Path

import pytest

from engine.datapath import DatapathError, errands
from engine.egress.addresses import Devices
from engine.egress.confinement import FORGOTTEN, GRACE
from engine.egress.device import DeviceEgress
from engine.egress.tun import VNET_HEADER, open_tun
from engine.host import netns
from engine.host.descriptors import RESERVE
from engine.host.errors import HostError
from engine.host.nft import Message, Nft, field, message, nest
from engine.sessions.session import Session
from engine.settings.values import SessionSettings
from tests.conftest import run
from tests.program import PATIENCE, until
from tests.system.given import give_global6, give_ipv4, give_ipv6

pytestmark = pytest.mark.usefixtures("own_net")

A, B = IPv4Address("100.64.0.2"), IPv4Address("100.64.0.3")
PEER = IPv4Address("100.64.0.1")
LL = IPv6Address("fe80::1234:5678:9abc:def0")
ELSEWHERE = ("198.51.100.7", 9)
TABLE = 0x50000000
DEAD_END = TABLE + 0xFF00
BY_SOURCE, BY_NETWORK, NO_SOURCE = TABLE + 0xFF02, TABLE + 0xFF03, TABLE + 0xFF04


def ip(words: str) -> str:
    return run("ip", *words.split())


def rules(family: str = "-4") -> list[str]:
    """Those of addresses in use."""
    lines = [line for line in ip(f"{family} rule").splitlines() if "lookup" in line and "proto 80" in line]
    return [line for line in lines if f"lookup {DEAD_END} " not in line]


def dead_ends(family: str = "-4") -> list[str]:
    """The addresses that sessions had."""
    found = [line.split()[2] for line in ip(f"{family} rule").splitlines() if f"lookup {DEAD_END}" in line]
    return found + [source for source, ways in ways_from().items() if ways == ["lo"]] if family == "-6" else found


def ways_from(table: int = BY_SOURCE) -> dict[str, list[str]]:
    """The devices by which what comes from each IPv6 source goes; by `lo` nothing goes."""
    found: dict[str, list[str]] = {}
    for line in ip(f"-6 route show table {table}").splitlines():
        words = line.removeprefix("unreachable ").split()
        if words[0] == "default":
            found.setdefault(words[words.index("from") + 1], []).append(words[words.index("dev") + 1])
    return found


@pytest.fixture
def devices() -> Iterator[Devices]:
    ip("link set lo up")
    devices = Devices()
    yield devices
    devices.close()
    assert "proto 80" not in ip("-4 rule") + ip("-6 rule") + ip("-4 route show table all") + ip(
        "-6 route show table all"
    )
    assert [line for line in ip("-o link").splitlines() if "soup" in line] == []


def destinations(fd: int) -> list[tuple[str, str]]:
    """Source and destination of the IPv4 packets that wait at a device."""
    found = []
    while select.select([fd], [], [], 0.05)[0]:
        packet = os.read(fd, 2000)[VNET_HEADER:]
        if packet[0] >> 4 == 4:
            found.append((str(IPv4Address(packet[12:16])), str(IPv4Address(packet[16:20]))))
    return found


def datagram(*, source: IPv4Address | None = None, device: str | None = None) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        if device is not None:
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        if source is not None:
            sender.bind((str(source), 0))
        sender.sendto(b"x", ELSEWHERE)


def test_device_with_an_ipv4_address(devices: Devices) -> None:
    devices.create(7, "soup7")
    assert 7 in devices
    assert devices.name(7) == "soup7"
    assert "state DOWN" in ip("link show soup7")
    give_ipv4(devices, 7, A, PEER, 1492)
    shown = ip("addr show soup7")
    assert ",UP," in shown
    assert "mtu 1492" in shown
    assert f"inet {A} peer {PEER}/32 " in shown
    assert "inet6" not in shown
    assert rules() == [f"10000:\tfrom {A} lookup {TABLE + 7} proto 80"]
    assert ip(f"route show table {TABLE + 7}").split() == [
        *("default", "dev", "soup7", "proto", "80", "scope", "link"),
        *("unreachable", "default", "proto", "80", "metric", str(0xFFFFFFFF - 7)),
    ]


def test_host_routes_are_left_alone(devices: Devices) -> None:
    ip("link add va type veth peer name vb")
    ip("addr add 192.0.2.1/24 dev va")
    ip("link set va up")
    ip("route add default via 192.0.2.254")
    before = ip("route"), ip("-6 route")
    devices.create(1, "soup1")
    give_ipv4(devices, 1, A, PEER, 1492)
    assert (ip("route"), ip("-6 route")) == before
    devices.remove(1)
    assert (ip("route"), ip("-6 route")) == before


def test_packets_leave_by_the_device_of_their_source(devices: Devices) -> None:
    for number, address in ((1, A), (2, B)):
        devices.create(number, f"soup{number}")
        give_ipv4(devices, number, address, PEER, 1492)
    datagram(source=A)
    datagram(source=B)
    assert destinations(devices.fd(1)) == [(str(A), ELSEWHERE[0])]
    assert destinations(devices.fd(2)) == [(str(B), ELSEWHERE[0])]


def test_packets_of_sockets_bound_to_a_device_leave_by_it(devices: Devices) -> None:
    """Also where the host has a default route, and where both sessions have the same address."""
    ip("link add va type veth peer name vb")
    ip("link set va up")
    ip("route add default dev va")
    for number in (1, 2):
        devices.create(number, f"soup{number}")
        give_ipv4(devices, number, A, PEER, 1492)
    datagram(device="soup2")
    datagram(device="soup2", source=A)
    assert destinations(devices.fd(2)) == [(str(A), ELSEWHERE[0])] * 2
    assert destinations(devices.fd(1)) == []


def test_traffic_of_a_session_that_is_down_leaves_nowhere(devices: Devices) -> None:
    ip("link add va type veth peer name vb")
    ip("link set va up")
    ip("link set vb up")
    ip("route add default dev va")
    devices.create(1, "soup1")
    give_ipv4(devices, 1, A, PEER, 1492)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.bind((str(A), 0))
        sender.sendto(b"x", ELSEWHERE)
        devices.clear_ipv4(1)
        with pytest.raises(OSError, match=r"Invalid argument|Network is unreachable"):
            sender.sendto(b"x", ELSEWHERE)


def test_packets_to_the_address_come_in_under_strict_reverse_path_filtering(devices: Devices) -> None:
    devices.create(1, "soup1")
    give_ipv4(devices, 1, A, PEER, 1492)
    for where in ("all", "soup1"):
        Path(f"/proc/sys/net/ipv4/conf/{where}/rp_filter").write_text("1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind((str(A), 0))
        receiver.settimeout(PATIENCE)
        port = receiver.getsockname()[1]
        udp = b"\0\7" + port.to_bytes(2, "big") + (8 + 5).to_bytes(2, "big") + b"\0\0" + b"hello"
        head = bytes.fromhex("4500 0021 0000 4000 4011 0000") + socket.inet_aton(ELSEWHERE[0]) + A.packed
        total = sum(int.from_bytes(head[at : at + 2], "big") for at in range(0, 20, 2))
        checksum = ~(total + (total >> 16)) & 0xFFFF
        os.write(devices.fd(1), bytes(VNET_HEADER) + head[:10] + checksum.to_bytes(2, "big") + head[12:] + udp)
        assert receiver.recv(100) == b"hello"


def test_new_address_takes_the_place_of_the_old(devices: Devices) -> None:
    """IPCP was opened again; nothing of the device is made anew."""
    devices.create(1, "soup1")
    give_ipv4(devices, 1, A, PEER, 1492)
    index = socket.if_nametoindex("soup1")
    give_ipv4(devices, 1, B, None, 1400)
    assert socket.if_nametoindex("soup1") == index
    shown = ip("addr show soup1")
    assert f"inet {B}/32" in shown
    assert str(A) not in shown
    assert "mtu 1400" in shown
    assert rules() == [f"10000:\tfrom {B} lookup {TABLE + 1} proto 80"]
    give_ipv4(devices, 1, B, PEER, 1400)
    assert f"inet {B} peer {PEER}/32" in ip("addr show soup1")
    datagram(source=B)
    assert destinations(devices.fd(1)) == [(str(B), ELSEWHERE[0])]
    devices.clear_ipv4(1)
    assert "inet " not in ip("addr show soup1")
    assert rules() == []
    devices.clear_ipv4(1)
    devices.clear_ipv4(99)


def test_link_local_address_is_the_one_agreed(devices: Devices) -> None:
    Path("/proc/sys/net/ipv6/conf/default/accept_ra").write_text("2")
    devices.create(1, "soup1")
    give_ipv6(devices, 1, LL, 1492)
    assert ip("-o -6 addr show soup1").split("inet6 ")[1:][0].split()[0] == f"{LL}/64"
    assert ip("-o -6 addr show soup1").count("inet6") == 1
    # The concentrator's router advertisements must not add a default route to the host.
    assert Path("/proc/sys/net/ipv6/conf/soup1/accept_ra").read_text() == "0\n"
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", ("fe80::1", 9, 0, devices.index(1)))
    assert "soup1" not in ip("-6 route"), "what names no device has no way through a session's"
    fd = devices.fd(1)
    packets = [os.read(fd, 2000)[VNET_HEADER:] for _ in range(5) if select.select([fd], [], [], 0.05)[0]]
    assert LL.packed + IPv6Address("fe80::1").packed in {packet[8:40] for packet in packets}
    give_ipv6(devices, 1, IPv6Address("fe80::2"), 1492)
    assert str(LL) not in ip("addr show soup1")
    assert "fe80::2/64" in ip("addr show soup1")
    devices.clear_ipv6(1)
    devices.clear_ipv6(99)
    assert "inet6" not in ip("addr show soup1")


def test_a_session_without_ipv6_has_none_of_its_routes(devices: Devices) -> None:
    devices.create(1, "soup1", ipv6=False)
    give_ipv4(devices, 1, A, PEER, 1492)
    assert "soup1" not in ip("-6 route show table all")
    assert "inet6" not in ip("addr show soup1")


def test_global_addresses_and_what_is_delegated(devices: Devices) -> None:
    """In the session's table and rules as all else; deprecated, shorter packets, and gone again, one by one."""
    one, two = IPv6Address("3fff:1::1"), IPv6Address("3fff:1::2")
    network = IPv6Network("3fff:2::/56")
    devices.create(1, "soup1")
    give_global6(devices, 1, (one,))
    assert "3fff:" not in ip("-6 addr show soup1"), "not without a link-local one"
    give_ipv6(devices, 1, LL, 1492)
    give_global6(devices, 1, (one, two), frozenset((two,)))
    devices.set_prefixes6(1, (network,))
    devices.set_mtu6(1, 1400)
    shown = {line.split()[1]: line for line in ip("-6 addr show soup1").splitlines() if "inet6" in line}
    assert {*shown} == {f"{one}/128", f"{two}/128", f"{LL}/64"}
    assert [address for address, line in shown.items() if "deprecated" in line] == [f"{two}/128"]
    assert Path("/proc/sys/net/ipv6/conf/soup1/mtu").read_text() == "1400\n"
    assert rules("-6")[0] == f"9999:\tfrom all lookup {BY_SOURCE} proto 80"
    assert f"from {network} lookup {BY_NETWORK} proto 80" in " ".join(ip("-6 rule").split())
    assert ways_from() == {str(each): ["soup1", "lo"] for each in (one, two, LL)}
    assert ways_from(BY_NETWORK) == {str(network): ["soup1", "lo"]}
    for source, table in ((one, BY_SOURCE), (two, BY_SOURCE), (LL, BY_SOURCE), (network, BY_NETWORK)):
        assert f"unreachable {network} from {source} " in ip(f"-6 route show table {table}")
    devices.set_mtu(1, 1480)
    assert Path("/proc/sys/net/ipv6/conf/soup1/mtu").read_text() == "1400\n"
    devices.set_mtu6(1, None)
    assert Path("/proc/sys/net/ipv6/conf/soup1/mtu").read_text() == "1480\n"
    give_global6(devices, 1, (two,))
    assert "deprecated" not in ip("-6 addr show soup1")
    assert str(one) not in ip("-6 addr show soup1")
    assert ways_from() == {str(one): ["lo"], str(two): ["soup1", "lo"], str(LL): ["soup1", "lo"]}
    devices.set_prefixes6(1, ())
    assert f"unreachable {network}" not in ip("-6 route show table all")
    assert f"from {network} lookup {DEAD_END} proto 80" in " ".join(ip("-6 rule").split())
    devices.set_prefixes6(1, (network,))
    devices.remove(1)
    assert str(network) not in ip("-6 route show table all")


@pytest.mark.parametrize("why", ["switched off", "MTU too small"])
def test_no_link_local_address_where_there_can_be_none(devices: Devices, why: str) -> None:
    Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1" if why == "switched off" else "0")
    devices.create(1, "soup1")
    give_ipv6(devices, 1, LL, 1492 if why == "switched off" else 1000)
    give_ipv4(devices, 1, A, PEER, 1492 if why == "switched off" else 1000)
    assert "inet6" not in ip("addr show soup1")
    assert str(A) in ip("addr show soup1")


def test_a_device_that_becomes_wide_enough_for_ipv6_begins_quietly(devices: Devices) -> None:
    """An MTU is verified after the device is up: the kernel would make up an address, and heed a router."""
    Path("/proc/sys/net/ipv6/conf/default/accept_ra").write_text("2")
    devices.create(1, "soup1", metric=50)
    give_ipv4(devices, 1, A, PEER, 1000)
    before = ip("-4 route show table all")
    devices.set_mtu(1, 1492)
    assert "inet6" not in ip("addr show soup1")
    assert Path("/proc/sys/net/ipv6/conf/soup1/accept_ra").read_text() == "0\n"
    assert ip("-4 route show table all") == before
    give_ipv6(devices, 1, LL, 1492)
    assert ip("-o -6 addr show soup1").split("inet6 ")[1:][0].split()[0] == f"{LL}/64"
    devices.look()
    assert ip("-4 route show table all") == before


def test_mtu_alone(devices: Devices) -> None:
    devices.create(1, "soup1")
    give_ipv4(devices, 1, A, PEER, 1492)
    devices.set_mtu(1, 1500)
    assert "mtu 1500" in ip("link show soup1")
    assert str(A) in ip("addr show soup1")


def test_name_can_be_had_again_at_once(devices: Devices) -> None:
    devices.create(1, "wan")
    give_ipv4(devices, 1, A, PEER, 1492)
    devices.remove(1)
    assert 1 not in devices
    devices.create(1, "wan")
    give_ipv4(devices, 1, B, PEER, 1492)
    assert str(B) in ip("addr show wan")
    devices.remove(1)
    devices.remove(1)


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_device_that_can_not_be_closed_keeps_no_other_from_going(devices: Devices) -> None:
    def close(fd: int, _: bool) -> None:
        os.close(fd)
        raise OSError("no such thing")

    devices.create(1, "wan", close=close)
    devices.create(2, "wan2")
    devices.remove(1)
    devices.remove(2)
    devices.create(1, "wan")
    devices.create(2, "wan2")
    for number in (1, 2):
        give_ipv4(devices, number, (A, B)[number - 1], PEER, 1492)


def test_who_closes_a_device_is_told_whether_the_kernel_has_deleted_it(devices: Devices) -> None:
    told: dict[str, bool] = {}
    for number in range(3):
        name = f"soup{number}"

        def close(fd: int, deleted: bool, name: str = name) -> None:
            told[name] = deleted
            os.close(fd)

        devices.create(number, name, close=close)
    devices.remove(0)
    devices.undertaker.wait_for("soup0")
    assert told == {"soup0": True}
    elsewhere = netns.new_net()
    ip(f"link set soup1 netns /proc/{os.getpid()}/fd/{elsewhere}")
    devices.part()
    for number in (1, 2):
        devices.remove(number)
    devices.bury()
    for number in (1, 2):
        devices.undertaker.wait_for(f"soup{number}")
    assert told["soup1"] is False
    os.close(elsewhere)


def test_a_device_goes_although_the_rules_cant_be_changed(devices: Devices, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise HostError("No rules today.")

    devices.create(1, "wan")
    give_ipv4(devices, 1, A, PEER, 1492)
    monkeypatch.setattr(devices._confinement, "shut", fails)
    with pytest.raises(HostError):
        devices.remove(1)
    monkeypatch.undo()
    devices.create(1, "wan")
    give_ipv4(devices, 1, A, PEER, 1492)


def test_name_that_is_taken(devices: Devices) -> None:
    devices.create(1, "wan")
    with pytest.raises(HostError, match="The device wan belongs to another session"):
        devices.create(2, "wan")
    ip("link add va type veth peer name vb")
    with pytest.raises(DatapathError, match="va"):
        devices.create(2, "va")
    assert 2 not in devices


OTHER_CARD = (
    "link add va type veth peer name vb",
    "link set va up",
    "link set vb up",
    "addr add 192.0.2.1/24 dev va",
    "route add default dev va",
    f"neigh add {ELSEWHERE[0]} lladdr 02:00:00:00:00:01 dev va",
)
"""A default route by another card."""
IP_TRANSPARENT = 19


def link_down_up(devices: Devices) -> None:
    ip("link set soup1 down")
    ip("link set soup1 up")


@pytest.mark.parametrize(
    "way",
    [
        link_down_up,
        lambda devices: ip("link del soup1"),
        lambda devices: devices.clear_ipv4(1),
        lambda devices: devices.remove(1),
    ],
    ids=["link down and up", "device deleted", "address given back", "session ended"],
)
def test_without_nftables_the_rules_are_enough(
    monkeypatch: pytest.MonkeyPatch, way: Callable[[Devices], object]
) -> None:
    """A transparent socket may send from any address at all: it is told that there is no way."""

    def none(self: Nft, groups: int = 0) -> None:
        raise OSError(errno.EPROTONOSUPPORT, os.strerror(errno.EPROTONOSUPPORT))

    monkeypatch.setattr(Nft, "__init__", none)
    for words in OTHER_CARD:
        ip(words)
    devices = Devices()
    assert devices.notice.startswith("No nftables (Protocol not supported): routing rules alone keep")
    devices.create(1, "soup1")
    give_ipv4(devices, 1, A, PEER, 1492)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.IPPROTO_IP, IP_TRANSPARENT, 1)
        sender.bind((str(A), 0))
        sender.sendto(b"x", ELSEWHERE)
        way(devices)
        with pytest.raises(OSError, match=r"Network is unreachable|No route to host"):
            sender.sendto(b"x", ELSEWHERE)
        assert devices.way_to(IPv4Address(ELSEWHERE[0])), "the host's own way is open"
        devices.tidy(time.monotonic() + GRACE + 1)
        if way is not link_down_up and 1 not in devices:
            sender.sendto(b"x", ELSEWHERE)
    devices.close()


def test_news_is_read_also_where_our_table_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the descriptor would be readable for ever, and the loop would turn without end."""

    def refuse(self: Nft, batch: object) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    with monkeypatch.context() as refused:
        refused.setattr(Nft, "commit", refuse)
        devices = Devices()
    assert devices.notice.startswith("No nftables (Operation not supported): routing rules alone keep")
    others = Nft()
    others.commit([message(Message.NEWTABLE, field(1, "others"))])
    devices.look()
    assert select.select(devices.filenos(), [], [], 0)[0] == []
    others.commit([message(Message.DELTABLE, field(1, "others"))])
    others.close()
    devices.close()


def test_masquerading_on_another_card_hides_nothing() -> None:
    """What has a session's address is dropped before that is translated, and after."""
    for words in OTHER_CARD:
        ip(words)
    table, hook = field(1, "n"), nest(4, field(1, 4), field(2, 100))
    masquerade = nest(4, nest(1, field(1, "masq"), nest(2)))
    nft = Nft()
    nft.commit(
        [
            message(Message.NEWTABLE, table),
            message(Message.NEWCHAIN, table, field(3, "c"), hook, field(7, "nat")),
            message(Message.NEWRULE, table, field(2, "c"), masquerade),
        ]
    )
    nft.close()
    devices = Devices()
    devices.create(1, "soup1")
    give_ipv4(devices, 1, A, PEER, 1492)
    for family in ("rule flush", "rule add pref 32766 lookup main"):
        ip(family)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.bind((str(A), 0))
        with pytest.raises(OSError, match="Operation not permitted"):
            sender.sendto(b"x", ELSEWHERE)
    devices.close()


def test_someone_elses_tun_device_is_left_alone(devices: Devices) -> None:
    """Persistent, and so there without anyone who holds it; or another program's, as long as that holds it."""
    ip("tuntap add mode tun wan")
    held = open_tun("vpn")
    for name in ("wan", "vpn"):
        with pytest.raises(DatapathError, match=f"cannot make the TUN device {name}: Device or resource busy"):
            devices.create(1, name)
        devices.remove(1)
        assert name in ip("-br link")
    os.close(held)
    devices.create(1, "soup1")
    devices.remove(1)
    devices.create(1, "soup1")
    assert "wan" in ip("-br link")


def all_that_can_be_opened() -> list[int]:
    found = []
    with suppress(OSError):
        while True:
            found.append(os.open("/dev/null", os.O_RDONLY))
    return found


@pytest.mark.parametrize("left", [-RESERVE, 0, 1, 2])
def test_out_of_descriptors_nothing_leaks(devices: Devices, left: int) -> None:
    """As many as are left beside the reserve are enough for a device or not: then the next try, with more, is."""
    devices.create(1, "soup1")
    give_ipv4(devices, 1, A, PEER, 1492)
    before, (soft, hard) = os.listdir("/proc/self/fd"), resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, before)) + 1 + RESERVE + left, hard))
    fillers = all_that_can_be_opened()
    try:
        for _ in range(RESERVE + left):
            os.close(fillers.pop())
        if left <= 0:
            with pytest.raises(HostError, match="Too many open files: raise the limit of"):
                devices.create(2, "soup2")
        else:
            devices.create(2, "soup2")
            give_ipv4(devices, 2, B, PEER, 1492)
            devices.remove(2)
        assert 2 not in devices
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for each in fillers:
            os.close(each)
    devices.create(2, "soup2")
    give_ipv4(devices, 2, B, PEER, 1492)
    devices.remove(2)
    devices.create(2, "soup2")  # now the first is gone
    assert len(os.listdir("/proc/self/fd")) == len(before) + 1


def refused(*arguments: object, **more: object) -> list[bytes]:
    return [errands.find(-1, "lo")]


def test_device_that_cant_be_made_quiet_is_gone(devices: Devices, monkeypatch: pytest.MonkeyPatch) -> None:
    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr("engine.egress.workshop.quieting", refused)
    with pytest.raises(HostError, match="The device soup1 can't be set up: Bad file descriptor"):
        devices.create(1, "soup1")
    assert 1 not in devices
    monkeypatch.undo()
    devices.create(1, "soup1")
    give_ipv4(devices, 1, A, PEER, 1492)
    assert len(os.listdir("/proc/self/fd")) == before + 1


def index_of(name: str) -> int:
    return int(ip(f"-o link show {name}").split(":")[0])


def prepared(devices: Devices, key: int, name: str) -> int:
    """The index of a device that is made ahead, once it is there."""
    devices.prepare(key, name)
    until(lambda: f" {name}: " in ip("-o link"), "the device")
    return index_of(name)


def test_a_device_that_is_made_ahead_is_down_and_becomes_the_sessions(devices: Devices) -> None:
    index = prepared(devices, 1, "soup1")
    assert "state DOWN" in ip("link show soup1")
    assert "inet" not in ip("addr show soup1")
    assert 1 not in devices
    assert devices.taken(1, "soup1") == ""
    assert rules() == []
    with pytest.raises(OSError, match=r"unreachable|down"):
        datagram(device="soup1")
    devices.prepare(1, "soup1")
    devices.create(1, "soup1")
    give_ipv4(devices, 1, A, PEER, 1492)
    assert index_of("soup1") == index
    assert destinations(devices.fd(1)) == []
    datagram(device="soup1")
    assert destinations(devices.fd(1)) == [(str(A), ELSEWHERE[0])]


def test_a_device_that_nobody_came_for_goes(devices: Devices) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for number in range(20):
        devices.prepare(number, f"soup{number}")
        if number % 2:
            devices.remove(number)
    devices.remove(4)
    until(lambda: len(re.findall(r" soup\d+: ", ip("-o link"))) == 9, "those that are wanted")
    devices.forgo_all()
    until(lambda: "soup" not in ip("-o link"), "an empty host")
    until(lambda: len(os.listdir("/proc/self/fd")) == before, "no more descriptors")
    prepared(devices, 1, "soup1")
    devices.prepare(2, "soup2")  # the fixture looks for what is left of them


@pytest.mark.parametrize(
    "done",
    [
        "link del soup1",
        "link set soup1 name mine",
        "link set soup1 up",
        "link set soup1 arp on",
        "link del soup1; link add soup1 type veth peer name far",
    ],
)
def test_what_others_did_to_a_device_made_ahead_is_nobodys_trouble(devices: Devices, done: str) -> None:
    index = prepared(devices, 1, "soup1")
    for each in done.split("; "):
        ip(each)
    if "far" in done:
        with pytest.raises(DatapathError, match="cannot make the TUN device soup1"):
            devices.create(1, "soup1")
        ip("link del soup1")
    devices.create(1, "soup1")
    give_ipv4(devices, 1, A, PEER, 1492)
    assert index_of("soup1") != index
    until(lambda: "mine" not in ip("-o link"), "the old one has gone")
    ip("link set soup1 down")
    devices.look()
    assert ",UP," in ip("link show soup1"), "it is looked after like any other"


def test_another_device_than_was_foreseen(devices: Devices) -> None:
    prepared(devices, 1, "soup1")
    devices.create(1, "wan")
    until(lambda: "soup1" not in ip("-o link"), "the other one has gone")
    prepared(devices, 2, "soup2")
    devices.create(2, "soup2", ipv6=False)
    assert Path("/proc/sys/net/ipv6/conf/soup2/disable_ipv6").read_text() == "1\n"


def test_the_next_process_is_left_no_device_that_nobody_came_for() -> None:
    devices = Devices()
    try:
        prepared(devices, 1, "soup1")
        devices.create(2, "soup2")
        kept = os.dup(devices.fd(2))
        devices.leave()
    finally:
        devices.close()
    assert "soup1" not in ip("-o link")
    assert "soup2" in ip("-o link")
    os.close(kept)


def test_what_could_not_be_made_ahead_is_made_when_it_is_needed(
    devices: Devices, monkeypatch: pytest.MonkeyPatch
) -> None:
    ip("link add soup1 type veth peer name far")
    devices.prepare(1, "soup1")
    monkeypatch.setattr("engine.egress.workshop.quieting", refused)
    devices.prepare(2, "soup2")
    monkeypatch.undo()
    ip("link del soup1")
    for key in (1, 2):
        devices.create(key, f"soup{key}")
        assert "NOARP" in ip(f"link show soup{key}")


def test_device_deleted_by_someone_else(devices: Devices) -> None:
    devices.create(1, "soup1")
    ip("link del soup1")
    with pytest.raises(HostError, match="The device soup1 can't be set up: No such device"):
        give_ipv4(devices, 1, A, PEER, 1492)
    devices.remove(1)


def test_many_come_and_go(devices: Devices) -> None:
    descriptors = len(os.listdir("/proc/self/fd"))
    for number in range(200):
        devices.create(number, f"soup{number}")
        give_ipv4(devices, number, PEER + 1 + number, PEER, 1492)
    assert len(rules()) == 200
    for number in range(200):
        devices.remove(number)
    assert rules() == []
    calls = 1
    while devices.tidy(time.monotonic() + 1000):
        calls += 1
    assert calls == 1 + 200 // FORGOTTEN, "whoever waits behind it waits for a share only"
    assert "proto 80" not in ip("rule")
    # Those that come last are deleted last.
    devices.create(0, "soup199")
    assert ip("-br link").count("soup") == 1
    assert len(os.listdir("/proc/self/fd")) == descriptors + 1


def test_nobody_is_dialled_while_the_devices_of_many_wait_to_be_deleted() -> None:
    """A thousand sessions whose line was lost for a moment: each device made meanwhile would wait for one that goes."""
    ip("link set lo up")
    egress = DeviceEgress(lambda: 1, lambda *_: None)
    session = Session(SessionSettings("one", "user", "secret"), b"\2\0\0\0\0\1", os.urandom)
    devices, undertaker = egress._devices, egress._devices.undertaker
    assert egress.obstacle(1, session) is None
    undertaker.gather()
    for number in range(undertaker.BURIAL + 1):
        devices.create(number, f"soup{number}")
    for number in range(undertaker.BURIAL + 1):
        devices.remove(number)
    in_the_way = egress.obstacle(1, session)
    assert in_the_way is not None
    assert in_the_way.passing
    assert in_the_way.for_all
    undertaker.release(None)
    until(lambda: egress.obstacle(1, session) is None, "the end of the devices")
    egress.close_all()


# --- instances ---

OTHER_INSTANCE = """
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from engine.egress.addresses import Devices
from tests.system.given import give_global6, give_ipv4, give_ipv6
devices = Devices()
devices.create(3, "other")
give_ipv4(devices, 3, IPv4Address("100.64.9.9"), None, 1492)
give_ipv6(devices, 3, IPv6Address("fe80::9"), 1492)
give_global6(devices, 3, (IPv6Address("3fff:9::9"),))
devices.set_prefixes6(3, (IPv6Network("3fff:9:100::/56"),))
print(flush=True)
input()
"""


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    """Another instance of this program, with a session of its own."""
    child = subprocess.Popen([sys.executable, "-c", OTHER_INSTANCE], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    yield child
    child.kill()
    child.communicate()


def test_two_instances_don_t_meet(other: subprocess.Popen[bytes], devices: Devices) -> None:
    devices.create(3, "soup3")
    give_ipv4(devices, 3, A, PEER, 1492)
    assert sorted(rules()) == [
        f"10000:\tfrom 100.64.9.9 lookup {TABLE + 3} proto 80",
        f"14096:\tfrom 100.64.0.2 lookup {TABLE + 0x10000 + 3} proto 80",
    ]
    other.send_signal(signal.SIGKILL)
    other.wait()
    Devices().close()


def test_rules_of_a_killed_instance_are_cleared_up(other: subprocess.Popen[bytes]) -> None:
    ip("rule add from 203.0.113.0/24 lookup 77 protocol 80")
    ip(f"rule add from 203.0.113.7 lookup {TABLE}")
    foreign = {line for line in ip("rule").splitlines() if "203.0.113" in line}
    first = Devices()
    assert len(rules()) == 2
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert "100.64.9.9" in ip("rule")
    second = Devices()
    assert dead_ends() == ["100.64.9.9"], "its programs may still be sending"
    assert {*dead_ends("-6")} == {"fe80::9", "3fff:9::9", "3fff:9:100::/56"}
    for_all = [f"9999:\tfrom all lookup {BY_SOURCE} proto 80", f"14095:\tfrom all lookup {NO_SOURCE} proto 80"]
    assert [line for line in rules("-6") if "from all" in line] == for_all
    assert "3fff:9:100::" not in ip("-6 route show table all")
    assert {line for line in ip("rule").splitlines()[1:-2] if str(DEAD_END) not in line} == foreign
    second.close()
    assert set(ip("rule").splitlines()[1:-2]) == foreign
    first.close()


def test_devices_belong_to_the_namespace_of_the_thread_that_made_them(devices: Devices) -> None:
    seen: list[str] = []

    def elsewhere() -> None:
        netns.unshare_net()
        mine = Devices()
        mine.create(1, "soup1")
        seen.append(ip("-br link"))
        mine.close()
        seen.append(ip("-br link"))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert "soup1" in seen[0]
    assert "soup1" not in seen[1]
    assert "soup1" not in ip("-br link")


def test_close_is_done_when_it_returns(devices: Devices) -> None:
    before = len(os.listdir("/proc/self/fd"))
    more = Devices()
    for number in range(20):
        more.create(number, f"more{number}")
    more.close()
    assert "more" not in ip("-br link")
    assert len(os.listdir("/proc/self/fd")) == before
