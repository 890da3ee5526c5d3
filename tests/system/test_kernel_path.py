"""The in-kernel data path: what the XDP programs do to frames on a wire, and whole sessions on the lab."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from engine.api.commands import Add, Dial, Edit, HangUp, Redial
from engine.api.values import SessionState, Severity, unpack_traffic
from engine.card import xdp
from engine.card.facts import read_card
from engine.card.xdp import Loading, XdpError, XdpProgram
from engine.datapath import Datapath, DatapathError
from engine.datapath.own import EVERYTHING, Open
from engine.egress import losses
from engine.egress.veth import HiddenNet, KernelPath, obstacle
from engine.host import kthreads, netns
from engine.run.thread import Engine
from engine.settings.values import DatapathChoice, XdpMode
from engine.wire.ethernet import VlanTag
from engine.wire.place import Place
from tests.conftest import ROOT, run
from tests.program import Traces, running, until
from tests.provider import CARD, BridgedProvider, Provider, provider

from .engines import dialling, events, fetch, pings, session, story, too_long, view, views, wait_state, wait_up
from .line import FAR, NEAR, QUEUES, Line, Wire, namespace, open_descriptors, veth_line
from .line import until as soon
from .rig import LCP_ECHO, MTU, OWN, PEER, ROUTER_MESSAGES, STRANGER, VLANS, ipv4, ipv6, only, padded, ppp, pppoe
from .test_offload import SYN, tcp

KERNEL, AFXDP, AUTO = DatapathChoice.KERNEL, DatapathChoice.AFXDP, DatapathChoice.AUTO
over_vlans = pytest.mark.parametrize("vlans", VLANS.values(), ids=VLANS)
over_versions = pytest.mark.parametrize("packet", [ipv4(), ipv6()], ids=["IPv4", "IPv6"])

pytestmark = pytest.mark.usefixtures("needs_root")


# On a wire


class Rig:
    """The programs and the helper on the near end of a line, and one session, number 5."""

    NUMBER = 5

    def __init__(self, line: Line, vlans: tuple[VlanTag, ...] = (), mtu: int = MTU) -> None:
        self.line, self.wire, self.vlans = line, line.wire, vlans
        run("ip", "netns", "exec", line.far, "ethtool", "-K", FAR, "gro", "on")
        self.hidden = HiddenNet()
        with namespace(line.near):
            self.program = XdpProgram.attach(NEAR, QUEUES, loading=Loading(kernel_path=True))
            self.path = KernelPath(read_card(NEAR), self.program, self.hidden)
            self.datapath = Datapath(NEAR, QUEUES, self.program.xsk_map_fd)
            self.link = self.path.open_device(self.NUMBER, "soup5")
            self.open(vlans, mtu)
        run("ip", "-n", line.near, "link", "set", "soup5", "mtu", str(mtu), "up")
        self.device = Wire(line.near, "soup5")

    def open(self, vlans: tuple[VlanTag, ...], mtu: int) -> None:
        keys = Place(OWN, PEER, 1, vlans)
        self.datapath.add_session(self.NUMBER, keys, -1, mtu)
        self.path.add_session(self.NUMBER, keys, mtu, EVERYTHING)

    def drops(self) -> dict[str, int]:
        """By reason, of both the programs and the helper; only those that occurred."""
        found: dict[str, int] = {}
        for queue in [*self.path.queue_counters(QUEUES), *self.datapath.queue_counters()]:
            for reason, lost in queue.drops.items():
                found[reason] = found.get(reason, 0) + lost
        return {reason: lost for reason, lost in found.items() if lost}

    def has_dropped(self, wanted: dict[str, int]) -> bool:
        """Whether so many packets were dropped, for these reasons and no others."""
        return self.drops() == wanted

    def traffic(self) -> list[int]:
        return list(self.path.traffic(self.NUMBER + 1)[4 * self.NUMBER :])

    def arrived(self, packet: bytes) -> bool:
        """Whether this packet, and not an octet more, arrives on the device."""
        return self.device.wait_for(lambda frame: frame[14:] == packet) is not None

    def leaves(self, frame: bytes) -> bool:
        """Whether this frame, and not an octet more, leaves on the line."""
        return self.wire.wait_for(lambda seen: seen == frame) is not None

    def send(self, packet: bytes) -> None:
        """Send a packet by the device."""
        ethertype = b"\x08\0" if packet[0] >> 4 == 4 else b"\x86\xdd"
        self.device.send(bytes(12) + ethertype + packet)

    def close(self) -> None:
        self.device.close()
        self.datapath.close()
        self.path.close()
        self.program.close()
        self.hidden.remove(self.link)
        self.hidden.close()


def outgoing(packet: bytes, vlans: tuple[VlanTag, ...] = ()) -> bytes:
    """The frame that a packet leaves in."""
    return padded(pppoe(ppp(packet), dst=PEER, src=OWN, vlans=vlans))


@contextmanager
def rig(vlans: tuple[VlanTag, ...] = (), mtu: int = MTU, name: str = "kp") -> Iterator[Rig]:
    with veth_line(name) as line:
        it = Rig(line, vlans, mtu)
        try:
            yield it
        finally:
            it.close()


@over_vlans
@over_versions
def test_packets_go_both_ways(vlans: tuple[VlanTag, ...], packet: bytes) -> None:
    with rig(vlans) as it:
        it.wire.send(pppoe(ppp(packet), vlans=vlans))
        assert it.arrived(packet)
        it.send(packet)
        assert it.leaves(outgoing(packet, vlans))
        assert it.traffic() == [1, len(packet)] * 2
        assert it.drops() == {}


def hidden_end(it: Rig) -> tuple[str, str]:
    """The name of the hidden end's device, and whether a kernel thread of its own serves it, as sysfs says it."""
    with netns.visiting(it.hidden.descriptor):
        sysfs = netns.open_sysfs()
    try:
        net = Path(f"/proc/self/fd/{sysfs}/class/net")
        (device,) = {each.name for each in net.iterdir()} - {"lo"}
        return device, (net / device / "threaded").read_text()
    finally:
        os.close(sysfs)


def running_processes() -> Iterator[tuple[int, str]]:
    """The number and name of each, kernel threads included."""
    for comm in Path("/proc").glob("[0-9]*/comm"):
        with suppress(OSError):
            yield int(comm.parent.name), comm.read_text()


def test_a_session_has_a_thread_that_keeps_its_packets_in_order() -> None:
    with rig() as it:
        assert hidden_end(it)[1] == "1\n"


@pytest.mark.skipif(not kthreads.visible(), reason="kernel threads can't be seen from this process namespace")
def test_the_thread_stays_on_one_cpu() -> None:
    with rig() as it:
        name = f"napi/{hidden_end(it)[0][:10]}"
        (thread,) = [process for process, comm in running_processes() if comm.startswith(name)]
        assert len(os.sched_getaffinity(thread)) == 1


def test_a_session_works_where_kernel_threads_cannot_be_seen() -> None:
    """As in a container: in a process namespace of its own, which has a /proc of its own or still that of the host."""
    look = (
        "from engine.host import kthreads\n"
        "from tests.system.test_kernel_path import hidden_end, rig\n"
        "assert not kthreads.visible() and kthreads.newest('') == 0\n"
        f"with rig(name='kp{os.getpid()}') as it:\n"
        "    assert hidden_end(it)[1] == '1\\n'\n"
    )
    for proc in ("--mount-proc", "--mount"):
        command = ["unshare", "--pid", "--fork", "--kill-child", proc, sys.executable, "-c", look]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr


def test_lengths_and_short_forms() -> None:
    """Padding is taken off and put on, and protocol numbers of one octet are known (RFC 1661 section 6.5)."""
    with rig() as it:
        short, full, six = ipv4(b""), ipv4(b"x" * (MTU - 28)), ipv6(b"")
        for packet in (short, full, six):
            it.wire.send(padded(pppoe(ppp(packet))) + b"trailing")
            assert it.arrived(packet)
            it.wire.send(padded(pppoe(ppp(packet)[1:])))
            assert it.arrived(packet)
            it.send(packet)
            assert it.leaves(outgoing(packet))
        octets = len(short) + len(full) + len(six)
        assert it.traffic() == [6, 2 * octets, 3, octets]


def test_every_length_up_to_fifteen_hundred() -> None:
    with rig(VLANS["QinQ"], 1500) as it:
        for size in [*range(28, 120, 7), *range(1480, 1501)]:
            packet = ipv4(bytes(size - 28))
            it.wire.send(padded(pppoe(ppp(packet), vlans=it.vlans)))
            assert it.arrived(packet), size
            it.send(packet)
            assert it.leaves(outgoing(packet, it.vlans)), size


def test_priorities_name_no_vlan() -> None:
    with rig((VlanTag(7),)) as it:
        for vlans in [
            (VlanTag(7, 5),),
            (VlanTag(7, tpid=0x88A8),),
            (VlanTag(0, 3), VlanTag(7)),
            (VlanTag(7), VlanTag(0)),
        ]:
            it.wire.send(pppoe(ppp(ipv4()), vlans=vlans))
            assert it.arrived(ipv4()), vlans


GOOD = ppp(ipv4())
HEADER = 20
"""Octets before the PPP frame."""


def changed(at: int, octet: int) -> bytes:
    frame = pppoe(GOOD)
    return frame[:at] + bytes([octet]) + frame[at + 1 :]


HOSTILE = {
    "LENGTH past the end": (pppoe(GOOD, length=len(GOOD) + 1), "bad_length"),
    "LENGTH 0xffff": (pppoe(GOOD, length=0xFFFF), "bad_length"),
    "LENGTH 0": (pppoe(GOOD, length=0), "bad_length"),
    "LENGTH 1": (pppoe(b"\0" + GOOD[1:], length=1), "bad_length"),
    "nothing but a protocol": (pppoe(GOOD, length=2), "bad_ip"),
    "an IPv4 header cut short": (pppoe(GOOD, length=21), "bad_ip"),
    "an IPv6 header cut short": (pppoe(ppp(ipv6()), length=41), "bad_ip"),
    "neither IPv4 nor IPv6": (pppoe(GOOD[:2] + b"\x55" + GOOD[3:]), "bad_ip"),
    "longer than the MTU": (pppoe(ppp(ipv4(b"x" * (MTU - 27)))), "too_long"),
    **{name: (pppoe(ppp(packet)), "router_message") for name, packet in ROUTER_MESSAGES.items()},
    "version 2": (changed(14, 0x21), "bad_header"),
    "type 2": (changed(14, 0x12), "bad_header"),
    "a code": (changed(15, 0xA7), "bad_header"),
    "another session id": (pppoe(GOOD, session_id=2), "unknown_session"),
    "session id 0": (pppoe(GOOD, session_id=0), "unknown_session"),
    "another concentrator": (pppoe(GOOD, src=STRANGER), "unknown_session"),
    "another own MAC": (pppoe(GOOD, dst=STRANGER), "unknown_session"),
    "another VLAN": (pppoe(GOOD, vlans=(VlanTag(8),)), "unknown_session"),
    "three tags": (pppoe(GOOD, vlans=(VlanTag(1), VlanTag(2), VlanTag(3))), "passed"),
    **{f"cut after {n} octets": (pppoe(GOOD)[:n], "bad_length") for n in (HEADER, HEADER + 1, HEADER + 2, 60, 147)},
    **{f"cut after {n} octets": (pppoe(GOOD)[:n], "bad_length") for n in range(14, HEADER)},
}


@pytest.fixture(scope="module")
def hostile_rig() -> Iterator[Rig]:
    with rig(name="kp-hostile") as it:
        yield it


@pytest.mark.parametrize(("frame", "reason"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_frames_reach_no_device_and_are_counted(hostile_rig: Rig, frame: bytes, reason: str) -> None:
    it = hostile_rig
    before, passed, received = it.drops(), sum(c.passed for c in it.program.counters()), it.traffic()
    it.wire.send(frame)

    def counted() -> bool:
        if reason == "passed":
            return sum(c.passed for c in it.program.counters()) > passed
        return it.drops().get(reason, 0) > before.get(reason, 0)

    assert soon(counted), (before, it.drops())
    after = it.drops()
    assert sum(after.values()) - sum(before.values()) == (reason != "passed")
    assert it.traffic() == received
    it.wire.send(pppoe(ppp(ipv4(b"the next one"))))
    seen = it.device.wait_for(lambda _: True)
    assert seen is not None
    assert seen[14:] == ipv4(b"the next one"), "nothing else has arrived"


def test_packets_flow_only_while_their_protocol_is_open() -> None:
    with rig() as it:
        for opened in (Open.IPV4, Open.IPV6, Open.NONE, Open.IPV4 | Open.IPV6):
            it.path.set_own(it.NUMBER, only(opened))
            before = it.drops()
            for family, packet in ((Open.IPV4, ipv4()), (Open.IPV6, ipv6())):
                it.wire.send(pppoe(ppp(packet)))
                it.send(packet)
                if family in opened:
                    assert it.arrived(packet)
                    assert it.leaves(outgoing(packet))
            closed = 2 - len(opened)
            wanted = {reason: before.get(reason, 0) + closed for reason in ("closed_in", "closed_out")}
            assert soon(partial(it.has_dropped, wanted)), (opened, it.drops())
        it.path.remove_session(it.NUMBER)
        it.path.set_own(it.NUMBER, EVERYTHING)
        it.send(ipv4())
        assert soon(lambda: it.drops().get("not_open") == 1), "who is gone is not opened again"


@over_versions
def test_a_packet_of_a_closed_protocol_is_shown_to_the_engine_now_and_then(packet: bytes) -> None:
    """It may have to tell the peer; a flood of them is none of the engine's. Each is counted once."""
    with rig() as it:
        it.path.set_own(it.NUMBER, only(Open.IPV6 if packet[0] >> 4 == 4 else Open.IPV4))
        began, frame, shown = time.monotonic(), padded(pppoe(ppp(packet))), []
        for counted in range(50, 501, 50):  # a veth has room for 256
            for _ in range(50):
                it.wire.send(frame)
            assert soon(partial(it.has_dropped, {"closed_in": counted})), it.drops()
        assert soon(lambda: shown.extend(it.datapath.receive_control()) or shown)
        assert set(shown) == {frame}
        assert len(shown) <= 2 + time.monotonic() - began
        assert it.traffic() == [0, 0, 0, 0]


def test_control_frames_go_to_the_engine_as_ever() -> None:
    with rig() as it:
        it.wire.send(padded(pppoe(LCP_ECHO)))
        frames: list[bytes] = []
        assert soon(lambda: frames.extend(it.datapath.receive_control()) or frames)
        assert frames == [padded(pppoe(LCP_ECHO))]
        assert it.traffic() == [0, 0, 0, 0]


def test_what_a_device_may_not_send_is_counted() -> None:
    with rig() as it:
        run("ip", "-n", it.line.near, "link", "set", "soup5", "mtu", "1500")
        before = it.drops()
        assert before == {}
        it.send(ipv4(b"x" * (MTU - 27)))
        it.device.send(bytes(12) + b"\x08\x06" + bytes(28))
        it.device.send(bytes(12) + b"\x08\0" + b"\x45" + bytes(10))
        assert soon(lambda: it.drops() == {"too_long": 1, "not_ip": 2}), it.drops()
        it.path.remove_session(it.NUMBER)
        it.send(ipv4())
        assert soon(lambda: it.drops() == {"too_long": 1, "not_ip": 2, "not_open": 1}), it.drops()
        assert it.wire.wait_for(lambda frame: frame[12:14] == b"\x88\x64", seconds=0.2) is None


def test_frames_too_long_for_the_card_are_counted() -> None:
    with rig(VLANS["QinQ"], 1500) as it:
        run("ip", "-n", it.line.near, "link", "set", NEAR, "mtu", "1500")
        with namespace(it.line.near):
            it.path.add_session(it.NUMBER, Place(OWN, PEER, 1, it.vlans), 1500, EVERYTHING)
        it.send(ipv4(b"x" * (1500 + 4 - 16 - 28)))
        assert it.leaves(outgoing(ipv4(b"x" * (1500 + 4 - 16 - 28)), it.vlans))
        it.send(ipv4(b"x" * (1500 + 5 - 16 - 28)))
        assert soon(lambda: it.drops() == {"too_long_for_card": 1}), it.drops()


def test_counters_equal_what_was_sent() -> None:
    with rig() as it:
        packets = [ipv4(bytes(size), flow=size) for size in range(100, 1100, 5)]
        for packet in packets:
            it.wire.send(pppoe(ppp(packet)))
            it.send(packet)
        octets = sum(map(len, packets))
        wanted = [len(packets), octets] * 2
        assert soon(lambda: it.traffic() == wanted), (it.traffic(), it.drops())
        queues = it.path.queue_counters(QUEUES)
        frames = (len(packets), octets + len(packets) * (HEADER + 2))
        assert (sum(q.rx_packets for q in queues), sum(q.rx_bytes for q in queues)) == frames
        assert (sum(q.tx_packets for q in queues), sum(q.tx_bytes for q in queues)) == frames
        assert it.drops() == {}


def test_a_device_that_is_behind_or_gone_is_counted() -> None:
    with rig() as it:
        run("ip", "-n", it.line.near, "link", "set", "soup5", "down")
        it.wire.send(pppoe(GOOD))
        assert soon(lambda: it.drops().get("egress_full") == 1), it.drops()
        run("ip", "-n", it.line.near, "link", "del", "soup5")
        it.wire.send(pppoe(GOOD))
        assert soon(lambda: it.drops().get("egress_refused") == 1), it.drops()
        assert it.drops()["egress_full"] == 1, "it isn't forgotten"


def test_thousands_of_devices_are_looked_at_a_share_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "SHARE", 2)
    with rig() as it:
        more = [it.path.open_device(it.NUMBER + 1 + n, f"more{n}") for n in range(5)]
        run("ip", "-n", it.line.near, "link", "set", "soup5", "down")
        it.hidden.lost()  # of the first share nothing is lost yet
        it.wire.send(pppoe(GOOD))
        looks = [it.hidden.lost() for _ in range(2)]
        assert looks == [0, 0], "not all have been looked at"
        assert soon(lambda: it.hidden.lost() == 1)
        for link in more:
            it.hidden.remove(link)
        assert soon(lambda: it.hidden.lost() == 1)


def test_sockets_by_ipv6() -> None:
    with rig() as it:
        run("ip", "netns", "exec", it.line.near, "sysctl", "-qw", "net.ipv6.conf.soup5.disable_ipv6=0")
        run("ip", "-n", it.line.near, "addr", "add", "fe80::1/64", "dev", "soup5", "nodad")
        # A worker of the kernel's makes the route by which packets reach an address, some time after that is there.
        local = ("ip", "-n", it.line.near, "-6", "route", "show", "table", "local", "dev", "soup5")
        until(lambda: "local fe80::1 " in run(*local), "the route to the address")
        with namespace(it.line.near), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as near:
            scope = socket.if_nametoindex("soup5")
            near.bind(("fe80::1", 5000, 0, scope))
            near.settimeout(20)
            near.sendto(b"there", ("fe80::2", 5001, 0, scope))
            frame = it.wire.wait_for(lambda frame: frame[-5:] == b"there")
            assert frame is not None
            packet = frame[HEADER + 2 :]
            assert frame == outgoing(packet)
            back = packet[:8] + packet[24:40] + packet[8:24] + packet[42:44] + packet[40:42] + packet[44:]
            it.wire.send(pppoe(ppp(back)))  # addresses and ports change places: the checksum stays
            assert near.recv(100) == b"there"


def test_super_packets_are_cut_before_they_leave() -> None:
    with rig() as it:
        run("ip", "-n", it.line.near, "addr", "add", "192.0.2.1", "peer", "192.0.2.2", "dev", "soup5")
        with namespace(it.line.near), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as near:
            near.setsockopt(socket.IPPROTO_UDP, 103, 1000)  # UDP_SEGMENT
            near.sendto(b"".join(bytes([n]) * 1000 for n in range(20)), ("192.0.2.2", 9))
        for n in range(20):
            frame = it.wire.wait_for(lambda frame: frame[12:14] == b"\x88\x64")
            assert frame is not None
            packet = frame[HEADER + 2 :]
            assert packet[28:] == bytes([n]) * 1000
            udp = packet[12:20] + struct.pack("!HH", 17, 1008) + packet[20:]
            total = sum(struct.unpack(f"!{len(udp) // 2}H", udp))
            assert total % 0xFFFF == 0, "the checksum"
        assert it.drops() == {}


def mss_of(packet: bytes) -> int:
    """The MSS of a SYN; its checksum must be right."""
    six = packet[0] >> 4 == 6
    segment = packet[40 if six else 20 :]
    places = packet[8:40] if six else packet[12:20]
    words = places + struct.pack("!HH", 6, len(segment)) + segment
    total = sum(struct.unpack(f"!{len(words) // 2}H", words))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    assert total == 0xFFFF, "the checksum"
    options = segment[20:]
    while options[0] != 2:
        options = options[1 if options[0] == 1 else options[1] :]
    return int.from_bytes(options[2:4], "big")


OPTIONS = {
    "alone": b"\2\4\5\xb4",
    "behind others": b"\4\2\1\3\3\7\1\2\4\5\xb4\0",
    "at an odd place": b"\1\2\4\5\xb4\1\1\1",
    "after many": b"\1" * 36 + b"\2\4\5\xb4",
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("six", [False, True], ids=["IPv4", "IPv6"])
def test_mss_is_clamped_both_ways(options: bytes, six: bool) -> None:
    packet, most = tcp(b"", six=six, flags=SYN, options=options), MTU - (60 if six else 40)
    with rig() as it:
        it.wire.send(pppoe(ppp(packet)))
        seen = it.device.wait_for(lambda frame: len(frame) == 14 + len(packet))
        assert seen is not None
        assert mss_of(seen[14:]) == most
        it.send(packet)
        left = it.wire.wait_for(lambda frame: frame[12:14] == b"\x88\x64")
        assert left is not None
        assert mss_of(left[HEADER + 2 :]) == most


@pytest.mark.parametrize(
    "packet",
    [
        tcp(b"", flags=SYN, options=b"\2\4\5\x00"),
        tcp(b"", options=OPTIONS["alone"]),
        tcp(b"", flags=SYN, options=b"\2\2\5\xb4"),
        tcp(b"", flags=SYN, options=b"\3\0\2\4\5\xb4\0\0"),
        tcp(b"", flags=SYN, options=b"\0\0\0\0\2\4\5\xb4"),
        tcp(b"", flags=SYN, options=b"\3\xff\2\4\5\xb4\0\0"),
        tcp(b"", flags=SYN, options=b"\1\1\2\4"),
        tcp(b"", flags=SYN)[:33],
    ],
    ids=["small enough", "no SYN", "size 2", "size 0", "behind the end", "size 255", "cut off", "no whole header"],
)
def test_what_is_no_mss_to_clamp_is_left_alone(packet: bytes) -> None:
    with rig() as it:
        it.wire.send(padded(pppoe(ppp(packet))))
        assert it.arrived(packet)


def test_a_pair_that_can_not_be_set_up_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with rig() as it, monkeypatch.context() as patch, namespace(it.line.near):
        patch.setitem(it.path._maps, "push", 1 << 20)
        before = open_descriptors(), socket.if_nameindex()
        with pytest.raises(DatapathError, match=r"cannot make the device soup6: .*Bad file descriptor"):
            it.path.open_device(6, "soup6")
        assert (open_descriptors(), socket.if_nameindex()) == before


def test_a_device_takes_no_descriptor() -> None:
    with rig() as it, namespace(it.line.near):
        before = open_descriptors()
        end = it.path.open_device(6, "soup6")
        assert open_descriptors() == before
        it.hidden.remove(end)
        it.hidden.remove(end)  # as where it went with its device
        assert "soup6" not in {name for _, name in socket.if_nameindex()}


def test_a_hidden_end_that_is_gone_when_packets_are_to_flow_is_said() -> None:
    """Who lives in its namespace connects it to the card, and is waited for only then."""
    with rig() as it, namespace(it.line.near):
        end = it.hidden.pair(6, "soup6")
        it.hidden.remove(end)
        it.path.connect(6, end)
        it.path.add_session(6, Place(OWN, PEER, 2, ()), MTU)
        with pytest.raises(XdpError, match="cannot fill the XDP program's map"):
            it.path.set_own(6, EVERYTHING)


def test_no_clamp_with_an_mtu_of_fifteen_hundred() -> None:
    with rig(mtu=1500) as it:
        packet = tcp(b"", flags=SYN, options=OPTIONS["alone"])
        it.wire.send(pppoe(ppp(packet)))
        assert it.arrived(packet)


def test_a_card_that_sends_no_redirected_frames_is_said_in_a_line() -> None:
    with veth_line("kp") as line, namespace(line.near):
        assert "no ndo_xdp_xmit" in obstacle(read_card(NEAR), "native"), "the far end of the veth pair has no NAPI"
        run("ip", "netns", "exec", line.far, "ethtool", "-K", FAR, "gro", "on")
        assert obstacle(read_card(NEAR), "native") == ""
        assert "generic mode" in obstacle(read_card(NEAR), "generic")


# Whole sessions

SINK = """
import hashlib, socket
listener = socket.create_server(("", 7000))
print(flush=True)
while True:
    peer, _ = listener.accept()
    digest = hashlib.sha256()
    while octets := peer.recv(1 << 16):
        digest.update(octets)
    peer.sendall(digest.hexdigest().encode())
    peer.close()
"""


def sink(far: Provider) -> AbstractContextManager[None]:
    """On the provider's side: answers each connection with the digest of what came."""
    return far.serving(SINK)


def upload(device: str, octets: bytes) -> str:
    """The digest of what has arrived of this."""
    with socket.socket() as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        peer.settimeout(60)
        peer.connect(("100.64.0.1", 7000))
        peer.sendall(octets)
        peer.shutdown(socket.SHUT_WR)
        return peer.recv(100).decode()


def download(device: str, size: int) -> bytes:
    command = ["curl", "-sS", "--fail", "--max-time", "60", "--interface", device, f"http://100.64.0.1/{size}"]
    return subprocess.run(command, check=True, capture_output=True, timeout=70).stdout


CASES = {
    "untagged": {},
    "tagged": {"vlans": (VlanTag(7),)},
    "QinQ": {"vlans": (VlanTag(100, tpid=0x88A8), VlanTag(200))},
    "own MAC": {"mac_policy": "derived"},
}


@pytest.mark.usefixtures("own_net")
def test_sessions_of_both_kinds_at_once_carry_the_same() -> None:
    sessions = [session(f"{path}-{n}", datapath=path, **more) for n, more in CASES.items() for path in (KERNEL, AFXDP)]
    size = 3_000_000
    octets = os.urandom(size)
    digest = hashlib.sha256(octets).hexdigest()
    with provider(mtu=1528) as far, sink(far), dialling(sessions) as engine:
        wait_up(engine)
        found = list(views(engine).values())
        assert [each.datapath for each in found] == [each.datapath for each in sessions]
        # Packets wait before a device that is behind.
        queued = ["qdisc pfifo " in run("tc", "qdisc", "show", "dev", each.device) for each in found]
        assert queued == [each.datapath is KERNEL for each in sessions]
        wrong: list[str] = []

        def use(name: str, device: str, address: str) -> None:
            if not (
                fetch(device) == fetch(address) == address
                and pings(device, MTU - 28)
                and too_long(device, MTU - 27)
                and upload(device, octets) == digest
                and download(device, size) == bytes(size)
            ):
                wrong.append(name)

        threads = [threading.Thread(target=use, args=(v.name, v.device, v.ipv4)) for v in found]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == [], story(engine)
        snapshot = engine.snapshot()
        for each in found:
            rx_packets, rx_bytes, tx_packets, tx_bytes = unpack_traffic(snapshot.traffic)[4 * each.id : 4 * each.id + 4]
            assert min(rx_bytes, tx_bytes) > size, each.name
            assert min(rx_packets, tx_packets) > size // 1492, each.name


@pytest.mark.usefixtures("own_net")
def test_fifteen_hundred_octets() -> None:
    with provider(mtu=1508, max_payload=1500), dialling([session("big", mru=1500, datapath=KERNEL)]) as engine:
        wait_up(engine)
        until(lambda: view(engine, "big").mtu == 1500, "an MTU of 1500")
        assert pings("soup0", 1500 - 28), (story(engine), engine.snapshot().queues, run("ip", "-s", "link"))


@pytest.mark.usefixtures("own_net")
def test_a_session_that_the_programs_keep_is_dialled_again_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step of its end is taken, whatever becomes of the others: else the helper would still have it."""

    def stuck(*_: object) -> None:
        raise XdpError("cannot fill the XDP program's map")

    with provider(), dialling([session("one", datapath=KERNEL, ipv6=False)]) as engine:
        wait_up(engine)
        with monkeypatch.context() as patch:
            patch.setattr(KernelPath, "remove_session", stuck)
            engine.submit(HangUp((0,)))
            wait_state(engine, SessionState.DOWN)
        assert [event.text for event in events(engine, "device")] == ["cannot fill the XDP program's map"]
        engine.submit(Dial((0,)))
        wait_up(engine)
        assert pings("soup0", 100, count=1)


def test_pings_are_counted_and_nothing_else() -> None:
    with provider(), dialling([session("one", datapath=KERNEL, ipv6=False)]) as engine:
        wait_up(engine)
        before = unpack_traffic(engine.snapshot().traffic)
        assert pings("soup0", 100, count=10)
        after = engine.snapshot()
        assert [b - a for a, b in zip(before, unpack_traffic(after.traffic), strict=True)] == [10, 1280] * 2
        assert not any(queue.drops for queue in after.queues)


@pytest.mark.usefixtures("own_net")
def test_the_device_comes_and_goes_with_the_session() -> None:
    with provider(), dialling([session("one", datapath=KERNEL, device="wan")]) as engine:
        wait_up(engine)
        first = socket.if_nametoindex("wan")
        engine.submit(HangUp((0,)))
        wait_state(engine, SessionState.DOWN)
        until(lambda: "wan" not in dict(map(reversed, socket.if_nameindex())), "the device go")  # type: ignore[arg-type]
        assert view(engine, "one").datapath is None
        engine.submit(Dial((0,)))
        wait_up(engine)
        engine.submit(Redial((0,)))
        until(lambda: len(events(engine, "ipv4-up")) == 3, "a third time")
        wait_up(engine)
        assert socket.if_nametoindex("wan") != first
        assert pings("wan")
        assert not events(engine, "internal-error")
    assert {name for _, name in socket.if_nameindex()} <= {"lo", "va"}


@pytest.mark.usefixtures("own_net")
def test_a_device_moved_to_another_namespace_goes_with_the_session_too() -> None:
    elsewhere = netns.new_net()
    try:
        with provider(), dialling([session("one", datapath=KERNEL)]) as engine:
            wait_up(engine)
            run("ip", "link", "set", "soup0", "netns", f"/proc/{os.getpid()}/fd/{elsewhere}")

            def there() -> set[str]:
                with netns.visiting(elsewhere):
                    return {name for _, name in socket.if_nameindex()}

            assert there() == {"lo", "soup0"}
            engine.submit(HangUp((0,)))
            wait_state(engine, SessionState.DOWN)
            until(lambda: there() == {"lo"}, "the device go")
            engine.submit(Dial((0,)))
            wait_up(engine)
            assert pings("soup0")
    finally:
        os.close(elsewhere)


@pytest.mark.usefixtures("own_net")
def test_another_data_path_from_the_next_dial_on() -> None:
    """The programs for it are loaded while others are in use."""
    with provider(), dialling([session("one"), session("other")]) as engine:
        wait_up(engine)
        engine.submit(Edit(0, session("one", datapath=KERNEL)))
        assert view(engine, "one").datapath == AFXDP
        engine.submit(Redial((0,)))
        until(lambda: view(engine, "one").datapath == KERNEL, "the other path")
        wait_up(engine)
        assert pings("soup0")
        assert pings("soup1")
        assert len(events(engine, "ipv4-up", "other")) == 1
        assert sum(queue.redirected for queue in engine.snapshot().queues) > 0


@pytest.mark.usefixtures("own_net")
def test_the_card_comes_back() -> None:
    sessions = [session(path, datapath=path) for path in (KERNEL, AFXDP)]
    with provider() as far:
        run("ethtool", "-L", "va", "tx", "1")
        with dialling(sessions) as engine:
            come_back(far, engine)


def come_back(far: Provider, engine: Engine) -> None:
    """The card loses its carrier and gets it back, then it gets another queue."""
    wait_up(engine)
    far.run("ip", "link", "set", "vb", "down")
    wait_state(engine, SessionState.FAILED)
    far.run("ip", "link", "set", "vb", "up")
    wait_up(engine)
    assert pings("soup0")
    assert pings("soup1")
    run("ethtool", "-L", "va", "tx", "2")
    until(lambda: len(engine.snapshot().queues) == 2, "the other queue")
    wait_up(engine)
    assert pings("soup0")
    assert len(events(engine, "ipv4-up")) == 4, "another queue ends no session"
    assert not events(engine, "internal-error"), story(engine)


def why_not(engine: Engine, name: str) -> str:
    """What a session is told that can't have the in-kernel path: one line, with what to do instead.

    It was never on the line, and won't be.
    """
    until(lambda: events(engine, "dial-failed", name), "why")
    told = events(engine, "dial-failed", name)
    assert len(told) == 1
    assert told[0].text.startswith("`datapath: kernel` is not to be had: ")
    assert told[0].text.endswith(" Set it to afxdp or auto.")
    assert "\n" not in told[0].text
    assert not events(engine, "dialling", name)
    found = view(engine, name)
    assert (found.state, found.reason, found.retry_at) == (SessionState.FAILED, "not possible here", None)
    return told[0].text


def why_afxdp(engine: Engine) -> str:
    """Why `auto` does without the in-kernel path, which is said once."""
    told = [event for event in events(engine, "datapath") if event.severity is Severity.WARNING]
    assert len(told) == 1
    return told[0].text


NEVER_AND_FOUR = [session("never", datapath=KERNEL), *(session(f"auto-{n}", datapath=AUTO) for n in range(4))]
FOUR = [f"auto-{n}" for n in range(4)]


def refused(engine: Engine, why: str) -> None:
    """See that this is why a session that asked for the kernel failed, and four with `auto` are up over AF_XDP."""
    wait_up(engine, *FOUR)
    assert {view(engine, name).datapath for name in FOUR} == {AFXDP}
    assert why in why_not(engine, "never")
    assert why in why_afxdp(engine)
    engine.submit(Redial(tuple(view(engine, name).id for name in FOUR)))
    until(lambda: len(events(engine, "ipv4-up")) == 8, "all up once more")
    why_afxdp(engine)
    engine.submit(Dial((view(engine, "never").id,)))
    until(lambda: len(events(engine, "dial-failed", "never")) == 2, "the same answer to whoever asks again")


@pytest.mark.usefixtures("own_net")
def test_generic_mode_can_not_and_auto_does_without() -> None:
    with provider(), dialling(NEVER_AND_FOUR, xdp=XdpMode.GENERIC) as engine:
        refused(engine, "generic mode")


@pytest.mark.usefixtures("own_net")
def test_a_driver_that_sends_no_redirected_frames_can_not_and_auto_does_without() -> None:
    """The far end of its cable is a port of a bridge: then a veth takes no redirected frames."""
    far = BridgedProvider()
    try:
        with dialling(NEVER_AND_FOUR) as engine:
            assert engine.snapshot().card.mode == "native"
            refused(engine, "no ndo_xdp_xmit")
    finally:
        far.kill()


@pytest.mark.usefixtures("own_net")
@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("int push(struct xdp_md *ctx) { return nonsense; }", "nonsense"),
        (
            "static int strip(struct xdp_md *ctx, struct session_key *key, u8 *at) { return NOT_TAKEN; }\n"
            "int push(struct xdp_md *ctx) { return *(int *)(long)ctx->data; }",
            "the kernel refuses the XDP program `push`: invalid access to packet",
        ),
    ],
    ids=["compiler", "verifier"],
)
def test_a_kernel_that_refuses_the_program_is_said_and_auto_does_without(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str, why: str
) -> None:
    source = tmp_path / "broken.c"
    source.write_text(program + "\n")
    monkeypatch.setattr(xdp, "KERNEL_PATH_SOURCE", source)
    with provider(), dialling(NEVER_AND_FOUR) as engine:
        refused(engine, why)


@pytest.mark.usefixtures("own_net")
def test_a_privilege_that_is_missing_is_found_out_before_the_dial(tmp_path: Path) -> None:
    """The program runs without CAP_SYS_ADMIN; the hidden ends of the veth pairs need a namespace, and that needs it."""
    config = tmp_path / "config.yaml"
    config.write_text(
        "defaults: {user: anyone, password: lab, autodial: true}\n"
        'sessions: [{name: never, datapath: kernel}, {name: "auto-{n}", count: 4, datapath: auto}]\n'
    )
    arguments = (CARD, "--config", config, "--state-dir", tmp_path / "state", "--headless")
    with provider(), running(*arguments, within=("setpriv", "--bounding-set", "-sys_admin")) as program:
        assert "CAP_SYS_ADMIN is needed" in program.event("dial-failed", "never")["text"]
        for n in range(1, 5):
            program.event("ipv4-up", f"auto-{n}")
        assert "CAP_SYS_ADMIN is needed" in program.event("datapath")["text"]
        assert not [said for said in program.said if (said["event"], said["session"]) == ("dialling", "never")]
        assert program.end() == 0


@pytest.mark.usefixtures("own_net")
def test_auto_takes_the_kernel_for_many() -> None:
    with provider(), dialling([session(f"auto-{n}", datapath=AUTO) for n in range(3)]) as engine:
        wait_up(engine)
        assert {found.datapath for found in views(engine).values()} == {AFXDP}
        engine.submit(Add(session("auto-3", datapath=AUTO)))
        until(lambda: "auto-3" in views(engine), "the fourth")
        wait_up(engine)
        assert view(engine, "auto-3").datapath == KERNEL
        engine.submit(Redial((0, 1, 2)))
        until(lambda: {found.datapath for found in views(engine).values()} == {KERNEL}, "the kernel for all")
        wait_up(engine)
        assert all(pings(f"soup{n}") for n in range(4))


@pytest.mark.usefixtures("own_net")
def test_a_device_name_that_is_taken() -> None:
    """Found out before anything is on the line, and looked at again by itself: it may go with whatever has made it."""
    run("ip", "link", "add", "wan", "type", "veth", "peer", "nothing")
    with provider(), dialling([session("one", datapath=KERNEL, device="wan")]) as engine:
        until(lambda: events(engine, "dial-failed"), "the complaint")
        text, again = events(engine, "dial-failed")[0].text.split(" Trying again in ")
        assert text == (
            "There is a device wan already, and it is not ours. "
            "`device:` gives the session's another name, `devices:` those of all."
        )
        assert again.endswith(" s.")
        assert not events(engine, "dialling")
        assert view(engine, "one").reason == "local error"
        run("ip", "link", "del", "wan")
        wait_up(engine)
        assert pings("wan")


KILLED = """
from tests.system.engines import *
from engine.settings.values import DatapathChoice
import time
with dialling([session(f"s{n}", datapath=DatapathChoice.KERNEL) for n in range(8)]) as engine:
    wait_up(engine)
    print("up", flush=True)
    time.sleep(60)
"""


@pytest.mark.usefixtures("own_net")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_program_leaves_no_device_and_no_program(number: int) -> None:
    with provider():
        child = subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE)
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        assert len(socket.if_nameindex()) == 10
        assert "xdp" in run("ip", "link", "show", "va")
        child.send_signal(number)
        child.wait()
        until(lambda: {name for _, name in socket.if_nameindex()} == {"lo", "va"}, "the devices go")
        until(lambda: "xdp" not in run("ip", "link", "show", "va"), "the program go")


@pytest.mark.usefixtures("own_net")
def test_the_lab_in_the_kernel(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        "defaults: {user: anyone, password: lab, autodial: true}\n"
        'sessions: [{name: "k{n}", count: 3, datapath: kernel}, {name: a}]\n'
    )
    with running("--lab", "--headless", "--until-up", "--hold", "--config", config) as program:
        for said in program.up(4).values():
            command = ("nsenter", "-t", str(program.pid), "-n", "curl", "-sS", "--max-time", "30", "--interface")
            assert run(*command, said["device"], "http://100.64.0.1/").split()[-1] == said["ipv4"]
        assert "veth" in run("nsenter", "-t", str(program.pid), "-n", "ip", "-d", "link", "show", "soup0")
        traces = Traces(program.pid)
        program.process.kill()
        program.process.wait()
        until(lambda: not traces.left(), "everything gone")
