"""Segmentation offload between the card and a TUN device: super-packets as the kernel gives and takes them."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from engine.datapath.own import EVERYTHING
from engine.egress.tun import open_tun
from engine.wire.place import Place

from .line import CARD_MTU, ETH_P_ALL, NEAR, PACKET_IGNORE_OUTGOING, SOL_PACKET, namespace, needs_root, run, until
from .rig import MTU, OWN, PEER, VLANS, Rig, ipv4, open_rig, padded, ppp, pppoe

pytestmark = needs_root

PACKET_VNET_HDR = 15
NEEDS_CSUM, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4 = 1, 1, 4, 5
ACK, PSH, SYN = 0x10, 0x08, 0x02
MSS = 1000
A, B = "192.0.2.1", "192.0.2.2"


@pytest.fixture
def rig() -> Iterator[Rig]:
    with open_rig() as rig:
        yield rig


def checksum(octets: bytes) -> int:
    total = sum(struct.unpack(f"!{len(octets) // 2 + len(octets) % 2}H", octets + b"\0" * (len(octets) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def pseudo(packet: bytes, length: int) -> bytes:
    return (packet[12:20] if packet[0] >> 4 == 4 else packet[8:40]) + struct.pack("!HH", 6, length)


def tcp(data: bytes, *, six: bool = False, sequence: int = 1, flags: int = ACK, options: bytes = b"") -> bytes:
    """A TCP packet with right checksums."""
    segment = struct.pack("!HHIIBBHHH", 5000, 9, sequence, 1, (20 + len(options)) // 4 << 4, flags, 500, 0, 0)
    segment += options + data
    if six:
        head = struct.pack("!IHBB16s16s", 6 << 28, len(segment), 6, 64, b"\x20\1" + bytes(14), b"\x20\2" + bytes(14))
    else:
        head = struct.pack(
            "!BBHHHBBH4s4s", 0x45, 0, 20 + len(segment), 0, 0x4000, 64, 6, 0, b"\xc0\0\2\2", b"\xc0\0\2\1"
        )
        head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
    sum_ = checksum(pseudo(head, len(segment)) + segment)
    return head + segment[:16] + struct.pack("!H", sum_) + segment[18:]


def is_correct(packet: bytes) -> bool:
    start = 20 if packet[0] >> 4 == 4 else 40
    head_is = start == 40 or checksum(packet[:20]) == 0
    return head_is and checksum(pseudo(packet, len(packet) - start) + packet[start:]) == 0


def super_packet(data: bytes, *, six: bool, mss: int = MSS) -> bytes:
    """With the header that says: cut me, and finish my checksums."""
    packet, start = tcp(data, six=six, flags=ACK | PSH), 40 if six else 20
    partial = 0xFFFF & ~checksum(pseudo(packet, len(packet) - start))
    packet = packet[: start + 16] + struct.pack("!H", partial) + packet[start + 18 :]
    return struct.pack("=BBHHHH", NEEDS_CSUM, GSO_TCPV6 if six else GSO_TCPV4, start + 20, mss, start, 16) + packet


class Inside:
    """The inner side of a TUN device, where packets have offload headers too."""

    def __init__(self, rig: Rig, name: str) -> None:
        with namespace(rig.line.near):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
            self._socket.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
            self._socket.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
            self._socket.bind((name, ETH_P_ALL))
        self._socket.setsockopt(socket.SOL_SOCKET, 33, 1 << 23)  # SO_RCVBUFFORCE
        self._socket.setblocking(False)
        rig.stack.callback(self._socket.close)

    def send(self, packet: bytes) -> None:
        self._socket.send(packet)

    def receive(self) -> tuple[int, bytes] | None:
        """GSO type and packet."""
        with suppress(BlockingIOError):
            octets = self._socket.recv(70000)
            return octets[1], octets[10:]
        return None


def open_inside(rig: Rig, mtu: int = MTU) -> Inside:
    fd, _ = rig.tun("soup0", mtu=mtu)
    rig.datapath.add_session(0, Place(OWN, PEER, 1), fd, mtu, EVERYTHING)
    return Inside(rig, "soup0")


def data_of(packet: bytes) -> bytes:
    return packet[40:] if packet[0] >> 4 == 4 else packet[60:]


versions = pytest.mark.parametrize("six", [False, True], ids=["IPv4", "IPv6"])


@versions
def test_a_super_packet_leaves_in_segments(rig: Rig, six: bool) -> None:
    inside, data = open_inside(rig), os.urandom(40 * MSS + 7)
    inside.send(super_packet(data, six=six))
    got, packets = b"", []
    while len(got) < len(data):
        frame = rig.wire.wait_for(lambda seen: True)
        assert frame
        length = struct.unpack_from("!H", frame, 18)[0] - 2
        packets.append(frame[22 : 22 + length])
        assert is_correct(packets[-1])
        got += data_of(packets[-1])
    assert got == data
    assert len(packets) == 41
    start = 40 if six else 20
    assert [packet[start + 13] & PSH for packet in packets] == [0] * 40 + [PSH]
    assert until(lambda: rig.counters().tx_data == 41)
    assert list(rig.datapath.traffic(1)[2:]) == [41, sum(map(len, packets))]


@versions
def test_segments_arrive_joined(rig: Rig, six: bool) -> None:
    """How many wait together is the scheduler's: bursts are sent until some were joined."""
    inside, data = open_inside(rig), os.urandom(200 * MSS)
    packets = [tcp(data[at : at + MSS], six=six, sequence=1 + at) for at in range(0, len(data), MSS)]
    bursts = 0

    def burst() -> set[int]:
        """The GSO types of what was joined."""
        nonlocal bursts
        bursts += 1
        rig.wire.send_burst([padded(pppoe(ppp(packet))) for packet in packets])
        seen: list[tuple[int, bytes]] = []

        def all_there() -> bool:
            while (one := inside.receive()) is not None:
                seen.append(one)
            return sum(len(data_of(packet)) for _, packet in seen) >= len(data)

        assert until(all_there)
        assert b"".join(data_of(packet) for _, packet in seen) == data
        return {kind for kind, packet in seen if len(packet) > MTU}

    assert until(burst) == {GSO_TCPV6 if six else GSO_TCPV4}
    assert rig.counters().rx_data == len(packets) * bursts
    assert list(rig.datapath.traffic(1)[:2]) == [len(packets) * bursts, sum(map(len, packets)) * bursts]


def test_a_wrong_checksum_is_left_to_the_kernel(rig: Rig) -> None:
    inside = open_inside(rig)
    packet = tcp(b"x" * 100)[:-1] + b"y"
    rig.wire.send(padded(pppoe(ppp(packet))))
    assert until(inside.receive) == (0, packet)


def test_a_stream_through_a_session_and_back(rig: Rig) -> None:
    """Real TCP over two sessions of the same card that are each other's peers, by way of a mirror at the far end."""
    fd, _ = rig.tun("soup0")
    rig.datapath.add_session(0, Place(OWN, PEER, 1), fd, MTU, EVERYTHING)
    with namespace(rig.line.far):
        far = open_tun("soup1")
    rig.stack.callback(os.close, far)
    rig.datapath.add_session(1, Place(PEER, OWN, 1), far, MTU, EVERYTHING)
    for where, name, address, peer in ((rig.line.near, "soup0", A, B), (rig.line.far, "soup1", B, A)):
        run("ip", "-n", where, "link", "set", name, "mtu", str(MTU), "up")
        run("ip", "-n", where, "addr", "add", f"{address}/32", "peer", peer, "dev", name)
    data, received = os.urandom(1 << 20), bytearray()
    with namespace(rig.line.far):
        listener = socket.create_server((B, 9))
    with namespace(rig.line.near):
        client = socket.socket()
    with listener, client:
        client.setblocking(False)
        with suppress(BlockingIOError):
            client.connect((B, 9))
        listener.settimeout(0.0)
        server: socket.socket | None = None
        sent = 0

        def turn() -> bool:
            """Everything that came to the far end goes back to the card."""
            nonlocal server, sent
            for _ in range(200):
                frame = rig.wire.receive()
                if frame is None:
                    break
                rig.wire.send(frame)
            if server is None:
                with suppress(BlockingIOError):
                    server = listener.accept()[0]
                    server.setblocking(False)
            with suppress(BlockingIOError, OSError):
                sent += client.send(data[sent : sent + 100000])
            if server is not None:
                with suppress(BlockingIOError):
                    received.extend(server.recv(1 << 20))
            return len(received) == len(data)

        assert until(turn)
        assert received == data
        if server is not None:
            server.close()
    assert rig.counters().drops["bad_offload"] == 0


@pytest.mark.parametrize("mtu", [1492, 1500])
@versions
def test_mss_is_held_to_the_mtu_of_a_short_session(rig: Rig, six: bool, mtu: int) -> None:
    inside = open_inside(rig, mtu)
    syn = tcp(b"", six=six, flags=SYN, options=b"\2\4\5\xb4")
    fits = min(1460, mtu - (60 if six else 40)) if mtu < 1500 else 1460
    rig.wire.send(padded(pppoe(ppp(syn))))
    received = until(inside.receive)
    assert received
    inside.send(bytes(10) + syn)
    frame = rig.wire.wait_for(lambda seen: True)
    assert frame
    for packet in (received[1], frame[22 : 22 + len(syn)]):
        assert is_correct(packet)
        assert struct.unpack("!H", packet[-2:]) == (fits,)


def test_a_frame_too_long_for_the_card_is_counted(rig: Rig) -> None:
    fd, inner = rig.tun("soup0", mtu=1500)
    run("ip", "-n", rig.line.near, "link", "set", NEAR, "mtu", "1500")
    rig.datapath.add_session(0, Place(OWN, PEER, 1, VLANS["QinQ"]), fd, 1492, EVERYTHING)
    inner.send(ipv4(bytes(1492 - 28)))
    assert until(lambda: rig.counters().drops["too_long_for_card"] == 1)
    inner.send(ipv4(bytes(1488 - 28)))
    assert rig.wire.wait_for(lambda seen: len(seen) == 14 + 8 + 8 + 1488)
    rig.datapath.remove_session(0)
    run("ip", "-n", rig.line.near, "link", "set", NEAR, "mtu", str(CARD_MTU))
    rig.datapath.add_session(0, Place(OWN, PEER, 1, VLANS["QinQ"]), fd, 1492, EVERYTHING)
    inner.send(ipv4(bytes(1492 - 28)))
    assert rig.wire.wait_for(lambda seen: len(seen) == 14 + 8 + 8 + 1492)


def accounted(rig: Rig) -> bool:
    """Every frame that the XDP program handed over was counted by somebody."""
    counters = rig.counters()
    kernel = counters.drops["rx_ring_full"] + counters.drops["rx_dropped"]
    return sum(queue.redirected for queue in rig.program.counters()) == counters.rx_packets + kernel


def test_more_than_the_rings_hold_is_accounted_for(rig: Rig) -> None:
    inside = open_inside(rig)
    frames = [padded(pppoe(ppp(tcp(bytes(MSS), sequence=1 + at * MSS)))) for at in range(1000)]
    for _ in range(20):
        rig.wire.send_burst(frames)
    assert until(lambda: accounted(rig))
    after = rig.counters()
    lost = sum(after.drops[reason] for reason in ("egress_full", "egress_refused"))
    assert after.rx_packets == after.rx_data + lost
    assert rig.datapath.traffic(1)[0] == after.rx_data

    packet = super_packet(bytes(60 * MSS), six=False)
    for _ in range(100):
        inside.send(packet)
    assert until(lambda: rig.counters().tx_data + rig.counters().drops["tx_full"] == 100 * 60)
    assert rig.counters().tx_packets == rig.counters().tx_data == rig.datapath.traffic(1)[2]


def test_a_super_packet_of_more_segments_than_there_are_frames(rig: Rig) -> None:
    """On a card that is down: as many go as find room, the others are counted, and those that wait arrive later."""
    inside = open_inside(rig)
    run("ip", "-n", rig.line.near, "link", "set", NEAR, "down")
    inside.send(super_packet(bytes(60000), six=False, mss=10))
    assert until(lambda: rig.counters().drops["tx_full"])
    after = rig.counters()
    assert 0 < after.tx_data < 6000
    assert after.tx_data + after.drops["tx_full"] == 6000
    run("ip", "-n", rig.line.near, "link", "set", NEAR, "up")
    for _ in range(after.tx_data):
        assert rig.wire.wait_for(lambda seen: True)
    assert rig.counters().tx_data == rig.datapath.traffic(1)[2] == after.tx_data


def test_a_device_removed_under_traffic_harms_nobody_else(rig: Rig) -> None:
    inside = open_inside(rig)
    other, other_inside = rig.tun("soup1")
    rig.datapath.add_session(2, Place(OWN, PEER, 2), other, MTU, EVERYTHING)
    frames = [padded(pppoe(ppp(tcp(bytes(MSS), sequence=1 + at * MSS)))) for at in range(1000)]
    packet = super_packet(bytes(60 * MSS), six=False)
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            rig.wire.send_burst(frames)
            with suppress(OSError):  # the device goes
                inside.send(packet)

    loader = threading.Thread(target=load)
    loader.start()
    try:
        assert until(lambda: rig.counters().rx_data > 2000)
        run("ip", "-n", rig.line.near, "link", "del", "soup0")
        assert until(lambda: rig.counters().drops["egress_refused"] > 2000)
        rig.datapath.remove_session(0)
        assert until(lambda: rig.counters().drops["unknown_session"] > 2000)
    finally:
        stop.set()
        loader.join()
    rig.wire.send(padded(pppoe(ppp(ipv4()), session_id=2)))
    assert other_inside.wait_for(lambda seen: True) == ipv4()
    assert until(lambda: accounted(rig))
