"""A line with the XDP program and the C helper on its near end, and the frames to try them with."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address, IPv6Address

from msgspec.structs import replace

from engine.card.xdp import XdpProgram
from engine.datapath import Datapath, QueueCounters
from engine.datapath.own import EVERYTHING, Open, Own
from engine.egress.tun import open_tun
from engine.lab import rogue
from engine.wire.ethernet import VlanTag
from engine.wire.ipv6 import Datagram, encode_udp

from .line import NEAR, QUEUES, Line, Wire, namespace, run, until, veth_line

OWN = b"\x02\0\0\0\0\x01"
PEER = b"\x02\0\0\0\0\x02"
STRANGER = b"\x02\0\0\0\0\x03"
MTU = 1492
LCP_ECHO = bytes.fromhex("c0210901000800000000")
VLANS = {
    "untagged": (),
    "tagged": (VlanTag(7),),
    "QinQ": (VlanTag(100, priority=3, tpid=0x88A8), VlanTag(4094, priority=5)),
}


def tags(vlans: tuple[VlanTag, ...]) -> bytes:
    return b"".join(struct.pack("!HH", tag.tpid, tag.tci) for tag in vlans)


def pppoe(
    payload: bytes,
    *,
    dst: bytes = OWN,
    src: bytes = PEER,
    session_id: int = 1,
    vlans: tuple[VlanTag, ...] = (),
    length: int | None = None,
) -> bytes:
    """A session frame with a PPP frame, unpadded."""
    header = struct.pack("!HBBHH", 0x8864, 0x11, 0, session_id, len(payload) if length is None else length)
    return dst + src + tags(vlans) + header + payload


def padi(src: bytes = STRANGER, text: bytes = b"") -> bytes:
    return b"\xff" * 6 + src + struct.pack("!HBBHH", 0x8863, 0x11, 9, 0, len(text)) + text


def ipv4(
    payload: bytes = b"x" * 100, *, dst: bytes = b"\xc0\0\2\1", src: bytes = b"\xc0\0\2\2", flow: int = 9
) -> bytes:
    """An IPv4 packet with UDP; `flow` is the source port, by which a veth spreads frames over its queues."""
    udp = struct.pack("!HHHH", flow, 9, 8 + len(payload), 0) + payload
    return struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, src, dst) + udp


def ipv6(payload: bytes = b"x" * 100, *, dst: bytes = b"\x20\1" + bytes(13) + b"\1") -> bytes:
    return struct.pack("!IHBB16s16s", 6 << 28, len(payload), 59, 64, b"\x20\1" + bytes(13) + b"\2", dst) + payload


def ppp(packet: bytes) -> bytes:
    return (b"\0\x21" if packet[0] >> 4 == 4 else b"\0\x57") + packet


ROUTER_MESSAGES = {
    "a Router Advertisement behind another header": rogue.hidden_router_advertisement(),
    "a Redirect": rogue.redirect(rogue.ROGUE, IPv6Address("2001:db8::1"), IPv6Address("fe80::1")),
    "an ICMP Redirect": rogue.icmp_redirect(
        IPv4Address("192.0.2.9"), ipv4(), IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2")
    ),
}
"""Nothing of that kind may reach a session's device."""
_LINK_LOCAL = IPv6Address("fe80::1")
AUTOCONFIGURATION = {
    "a Router Advertisement": rogue.router_advertisement(),
    "an answer of DHCPv6": encode_udp(rogue.ROGUE, _LINK_LOCAL, Datagram(547, 546, bytes(4))),
}
"""Nor of that: it is the engine's."""


def only(opened: Open) -> Own:
    """All packets of these protocols."""
    none = {name: None for name, protocol in (("ipv4", Open.IPV4), ("ipv6", Open.IPV6)) if protocol not in opened}
    return replace(EVERYTHING, **none)  # type: ignore[arg-type]


def padded(frame: bytes) -> bytes:
    return frame.ljust(60, b"\0")


class Rig:
    """A line with the program and the helper on it."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.wire = line.wire
        self.stack = ExitStack()
        with namespace(line.near):
            self.program = XdpProgram.attach(NEAR, QUEUES)
            self.stack.callback(self.program.close)
            self.datapath = Datapath(NEAR, QUEUES, self.program.xsk_map_fd, max_sessions=256)
            self.stack.callback(self.datapath.close)

    def tun(self, name: str, mtu: int = MTU) -> tuple[int, Wire]:
        """A TUN device that is up: its descriptor, and a wire on its inner side to see and send its packets."""
        with namespace(self.line.near):
            fd = open_tun(name)
        self.stack.callback(os.close, fd)
        run("ip", "-n", self.line.near, "link", "set", name, "mtu", str(mtu), "up")
        inside = Wire(self.line.near, name)
        self.stack.callback(inside.close)
        return fd, inside

    def counters(self) -> QueueCounters:
        """All queues as one."""
        queues = self.datapath.queue_counters()
        drops = {reason: sum(queue.drops[reason] for queue in queues) for reason in queues[0].drops}
        names = ("rx_packets", "rx_bytes", "tx_packets", "tx_bytes", "rx_data", "rx_control", "tx_data", "tx_control")
        sums = {name: sum(getattr(queue, name) for queue in queues) for name in names}
        return QueueCounters(**sums, drops=drops, rx_ring_fill=0.0, tx_ring_fill=0.0, cpu=0.0)

    def control(self, count: int) -> list[bytes]:
        """The next `count` control frames."""
        frames: list[bytes] = []

        def look() -> bool:
            frames.extend(self.datapath.receive_control())
            return len(frames) >= count

        until(look)
        return frames

    def settled(self, seen: int) -> QueueCounters:
        """The counters when `seen` frames have been seen."""
        assert until(lambda: self.counters().rx_packets >= seen), self.counters()
        return self.counters()


@contextmanager
def open_rig() -> Iterator[Rig]:
    with veth_line("dp") as line:
        rig = Rig(line)
        with rig.stack:
            yield rig
