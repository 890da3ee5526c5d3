"""The C helper on a veth pair: control frames both ways, IP packets between the card and TUN devices, hostile frames.

The far end is a raw socket; the near end has the XDP program and real TUN devices.
"""

from __future__ import annotations

import random
import socket
import struct
import time
from collections.abc import Callable, Iterator
from functools import partial
from select import select

import pytest

from engine.datapath import BATCH_FRAMES, Datapath, DatapathError
from engine.datapath.own import CLOSED, EVERYTHING, Open
from engine.wire.ethernet import VlanTag, vlan_ids
from engine.wire.place import Place
from tests.program import PATIENCE

from .line import NEAR, QUEUES, namespace, needs_root, open_descriptors, run, until
from .rig import (
    AUTOCONFIGURATION,
    LCP_ECHO,
    MTU,
    OWN,
    PEER,
    ROUTER_MESSAGES,
    STRANGER,
    VLANS,
    Rig,
    ipv4,
    ipv6,
    only,
    open_rig,
    padded,
    padi,
    ppp,
    pppoe,
    tags,
)

pytestmark = needs_root

RX_FRAMES = TX_FRAMES = 2048
"""Of a queue: as in port.h."""

over_vlans = pytest.mark.parametrize("vlans", VLANS.values(), ids=VLANS)


@pytest.fixture
def rig() -> Iterator[Rig]:
    with open_rig() as rig:
        yield rig


@over_vlans
def test_control_frames_come_in_whole(rig: Rig, vlans: tuple[VlanTag, ...]) -> None:
    discovery = padi()[:12] + tags(vlans) + padi()[12:] + bytes(40)
    echo = padded(pppoe(LCP_ECHO, vlans=vlans))
    for frame in (discovery, echo):
        rig.wire.send(frame)
        assert select([rig.datapath.control_fd], [], [], PATIENCE)[0]
        assert rig.control(1) == [frame]
    assert not select([rig.datapath.control_fd], [], [], 0)[0]
    assert rig.counters().rx_control == 2


@over_vlans
def test_control_frames_go_out_in_order_and_padded(rig: Rig, vlans: tuple[VlanTag, ...]) -> None:
    frames = [pppoe(LCP_ECHO + bytes([n]) * n, dst=PEER, src=OWN, vlans=vlans) for n in range(100)]
    assert rig.datapath.send_control(frames) == len(frames)
    for frame in frames:
        assert rig.wire.wait_for(lambda seen: True) == padded(frame)
    assert rig.counters().tx_packets == rig.counters().tx_control == len(frames)
    assert rig.counters().tx_bytes == sum(len(padded(frame)) for frame in frames)


def test_what_the_card_has_taken_is_told(rig: Rig) -> None:
    assert rig.datapath.control_taken() == 0
    for n in range(1, 6):
        assert rig.datapath.send_control([padi()] * 100) == 100
        assert until(lambda n=n: rig.datapath.control_taken() == 100 * n)
    run("ip", "-n", rig.line.near, "link", "set", NEAR, "down")
    assert rig.datapath.send_control([padi()] * 100) == 100
    assert not until(lambda: rig.datapath.control_taken() != 500, seconds=0.3), "a card that is down takes none"
    run("ip", "-n", rig.line.near, "link", "set", NEAR, "up")
    assert until(lambda: rig.datapath.control_taken() == 600)


def test_a_control_frame_no_card_can_send_is_refused(rig: Rig) -> None:
    for size in (0, 13, 2049):
        with pytest.raises(ValueError, match=f"{size} octets"):
            rig.datapath.send_control([bytes(size)])


def test_more_control_frames_than_one_batch(rig: Rig) -> None:
    sent = [padi(text=struct.pack("!HHI", 0x0103, 4, n)).ljust(60, b"\0") for n in range(3 * BATCH_FRAMES)]
    for frame in sent:
        rig.wire.send(frame)
    assert rig.settled(len(sent)).rx_control == len(sent)
    batches = []
    while select([rig.datapath.control_fd], [], [], 0)[0]:
        batches.append(rig.datapath.receive_control())
    assert max(map(len, batches)) == BATCH_FRAMES
    assert sorted(frame for batch in batches for frame in batch) == sorted(sent)


def test_farewells_leave_before_the_queues_close(rig: Rig) -> None:
    frames = [pppoe(LCP_ECHO, dst=PEER, src=OWN, session_id=n) for n in range(1000)]
    assert rig.datapath.send_control(frames) == len(frames)
    rig.datapath.close()
    for frame in frames:
        assert rig.wire.wait_for(lambda seen: True) == padded(frame)


@over_vlans
@pytest.mark.parametrize("compressed", [False, True], ids=["two octets", "one octet"])
def test_downlink(rig: Rig, vlans: tuple[VlanTag, ...], compressed: bool) -> None:
    fd, inside = rig.tun("soup0", mtu=1500)
    rig.datapath.add_session(3, Place(OWN, PEER, 1, vlans), fd, 1500, EVERYTHING)
    packets = [ipv4(b""), ipv4(), ipv4(bytes(1500 - 28)), ipv6(b""), ipv6()]
    for packet in packets:
        rig.wire.send(padded(pppoe(ppp(packet)[compressed:], vlans=vlans)) + b"trailer")
        assert inside.wait_for(lambda seen: True) == packet
    octets = sum(map(len, packets))
    assert rig.counters().rx_data == len(packets)
    assert list(rig.datapath.traffic(5)) == [0] * 12 + [len(packets), octets, 0, 0] + [0] * 4


@pytest.mark.parametrize("way", [0, 1], ids=["data", "control"])
@pytest.mark.parametrize(
    ("session", "seen"),
    [
        ((), (VlanTag(0, priority=6),)),
        ((), (VlanTag(0, tpid=0x88A8), VlanTag(0, priority=6))),
        ((VlanTag(7),), (VlanTag(0, priority=6), VlanTag(7))),
        ((VlanTag(7),), (VlanTag(7, priority=6), VlanTag(0))),
        ((VlanTag(7),), (VlanTag(7, tpid=0x88A8, dei=True),)),
        ((VlanTag(0),), ()),
    ],
)
def test_vlan_ids_alone_tell_vlans_apart(
    rig: Rig, session: tuple[VlanTag, ...], seen: tuple[VlanTag, ...], way: int
) -> None:
    """As for `engine.wire.ethernet.vlan_ids`: a tag with id 0 only carries a priority (IEEE 802.1Q section 6.9)."""
    assert vlan_ids(session) == vlan_ids(seen)
    fd, inside = rig.tun("soup0")
    rig.datapath.add_session(0, Place(OWN, PEER, 1, session), fd, MTU, EVERYTHING)
    if way == 0:
        rig.wire.send(padded(pppoe(ppp(ipv4()), vlans=seen)))
        assert inside.wait_for(lambda seen: True) == ipv4()
    else:
        known, stranger = pppoe(LCP_ECHO, vlans=seen), pppoe(LCP_ECHO, vlans=(VlanTag(9),))
        rig.wire.send(padded(stranger))
        rig.wire.send(padded(known))
        rig.settled(2)
        assert rig.control(2) == [padded(known), padded(stranger)], "known sessions' frames come first"


@over_vlans
def test_uplink(rig: Rig, vlans: tuple[VlanTag, ...]) -> None:
    fd, inside = rig.tun("soup0", mtu=1500)
    rig.datapath.add_session(1, Place(OWN, PEER, 0xABCD, vlans), fd, 1500, EVERYTHING)
    packets = [ipv4(b""), ipv4(bytes(1500 - 28)), ipv6(b"")]
    for packet in packets:
        inside.send(packet)
        expected = padded(pppoe(ppp(packet), dst=PEER, src=OWN, session_id=0xABCD, vlans=vlans))
        assert rig.wire.wait_for(lambda seen: True) == expected
    octets = sum(map(len, packets))
    assert list(rig.datapath.traffic(2)) == [0] * 4 + [0, 0, len(packets), octets]
    assert rig.counters().tx_data == rig.counters().tx_packets == len(packets)


def test_a_packet_longer_than_the_mtu_is_not_sent(rig: Rig) -> None:
    fd, inside = rig.tun("soup0", mtu=1500)
    rig.datapath.add_session(0, Place(OWN, PEER, 1), fd, 1400, EVERYTHING)
    inside.send(ipv4(bytes(1373)))
    assert until(lambda: rig.counters().drops["too_long"] == 1)
    inside.send(ipv4(bytes(1372)))
    assert rig.wire.wait_for(lambda seen: len(seen) == 1422)
    assert rig.counters().tx_packets == 1


def test_a_socket_pair_does_as_an_egress(rig: Rig) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        theirs.setblocking(False)
        ours.settimeout(PATIENCE)
        rig.datapath.add_session(0, Place(OWN, PEER, 1), theirs.fileno(), MTU, EVERYTHING)
        rig.wire.send(padded(pppoe(ppp(ipv4()))))
        assert ours.recv(2000) == ipv4()
        ours.send(ipv6())
        assert rig.wire.wait_for(lambda seen: True) == pppoe(ppp(ipv6()), dst=PEER, src=OWN)
        ours.send(b"\x99 no IP packet")
        assert until(lambda: rig.counters().drops["not_ip"] == 1)
        ours.close()
        assert until(lambda: idle(rig)), "a closed socket is always readable"
        assert rig.counters().drops["not_ip"] == 1
        rig.datapath.remove_session(0)


HOSTILE = {
    "LENGTH one past the end": (pppoe(ppp(ipv4()), length=131), "bad_length"),
    "LENGTH of 65535": (pppoe(ppp(ipv4()), length=0xFFFF), "bad_length"),
    "LENGTH zero": (pppoe(ppp(ipv4()), length=0), "bad_length"),
    "half a protocol number": (pppoe(ppp(ipv4()), length=1), "bad_length"),
    "cut in the PPPoE header": (pppoe(b"")[:19], "bad_length"),
    "cut behind a tag": (OWN + PEER + bytes.fromhex("88a80007 8864 0000"), "bad_length"),
    "version 2": (pppoe(ppp(ipv4())).replace(b"\x88\x64\x11", b"\x88\x64\x21"), "bad_header"),
    "type 2": (pppoe(ppp(ipv4())).replace(b"\x88\x64\x11", b"\x88\x64\x12"), "bad_header"),
    "code of discovery": (pppoe(ppp(ipv4())).replace(b"\x88\x64\x11\x00", b"\x88\x64\x11\x09"), "bad_header"),
    "discovery of version 0": (padi().replace(b"\x88\x63\x11", b"\x88\x63\x01"), "bad_header"),
    "discovery with a LENGTH past the end": (padi()[:-2] + b"\xff\xff", "bad_length"),
    "an empty IP packet": (pppoe(b"\0\x21"), "bad_ip"),
    "an IP packet of one octet": (pppoe(b"\x21\x45"), "bad_ip"),
    "an IP packet of version 5": (pppoe(b"\0\x21\x55" + bytes(60)), "bad_ip"),
    "another session id": (pppoe(ppp(ipv4()), session_id=2), "unknown_session"),
    "another peer": (pppoe(ppp(ipv4()), src=STRANGER), "unknown_session"),
    "another destination": (pppoe(ppp(ipv4()), dst=STRANGER), "unknown_session"),
    "broadcast": (pppoe(ppp(ipv4()), dst=b"\xff" * 6), "unknown_session"),
    "in a VLAN": (pppoe(ppp(ipv4()), vlans=(VlanTag(1),)), "unknown_session"),
    "a session without an egress": (pppoe(ppp(ipv4()), session_id=9), "not_open"),
    **{name: (pppoe(ppp(packet)), "router_message") for name, packet in ROUTER_MESSAGES.items()},
}


def test_hostile_frames_are_counted_and_reach_nobody(rig: Rig) -> None:
    fd, inside = rig.tun("soup0")
    rig.datapath.add_session(0, Place(OWN, PEER, 1), fd, MTU, EVERYTHING)
    rig.datapath.add_session(1, Place(OWN, PEER, 9), -1, MTU, EVERYTHING)
    for name, (frame, reason) in HOSTILE.items():
        before = rig.counters()
        rig.wire.send(frame)
        after = rig.settled(before.rx_packets + 1)
        assert {key for key in before.drops if after.drops[key] != before.drops[key]} == {reason}, name
    packet = ipv4(b"the only good one")
    rig.wire.send(padded(pppoe(ppp(packet))))
    assert inside.wait_for(lambda seen: True) == packet
    assert rig.datapath.receive_control() == []


@pytest.mark.parametrize("packet", AUTOCONFIGURATION.values(), ids=AUTOCONFIGURATION)
def test_what_autoconfigures_ipv6_is_the_engines_within_bounds(rig: Rig, packet: bytes) -> None:
    """No device gets it; a flood of it leaves the session room for what keeps it up."""
    fd, inside = rig.tun("soup0")
    rig.datapath.add_session(0, Place(OWN, PEER, 1), fd, MTU, EVERYTHING)
    frame, echo = padded(pppoe(ppp(packet))), padded(pppoe(LCP_ECHO))
    for _ in range(200):
        rig.wire.send(frame)
    rig.wire.send(echo)
    counted = rig.settled(201)
    assert (counted.rx_control, counted.drops["control_flood"], counted.rx_data) == (65, 136, 0)
    assert sorted(rig.control(65)) == sorted([frame] * 64 + [echo])
    rig.wire.send(padded(pppoe(ppp(ipv4()))))
    assert inside.wait_for(lambda seen: True) == ipv4(), "and that is all it gets"


@pytest.mark.parametrize("opened", [Open.NONE, Open.IPV4, Open.IPV6, Open.IPV4 | Open.IPV6])
def test_packets_flow_only_while_their_protocol_is_open(rig: Rig, opened: Open) -> None:
    """Both ways, and with offload or without: a super-packet of a closed protocol is dropped whole."""
    fd, inside = rig.tun("soup0")
    rig.datapath.add_session(0, Place(OWN, PEER, 1), fd, MTU, CLOSED)
    closed = 0
    for now in (opened, Open.NONE, opened):
        rig.datapath.set_own(0, only(now))
        for family, packet in ((Open.IPV4, ipv4()), (Open.IPV6, ipv6())):
            rig.wire.send(padded(pppoe(ppp(packet))))
            inside.send(packet)
            if family in now:
                assert inside.wait_for(lambda seen: True) == packet
                assert rig.wire.wait_for(lambda seen: True) == padded(pppoe(ppp(packet), dst=PEER, src=OWN))
        closed += 2 - len(now)
        wanted = {"closed_in": closed, "closed_out": closed} if closed else {}
        assert until(partial(_has_dropped, rig, wanted)), rig.counters()
        assert inside.receive() is None
        assert rig.wire.receive() is None


def test_a_packet_of_a_closed_protocol_is_shown_to_the_engine_now_and_then(rig: Rig) -> None:
    """It may have to tell the peer; a flood of them is none of the engine's."""
    fd, _ = rig.tun("soup0")
    rig.datapath.add_session(0, Place(OWN, PEER, 1), fd, MTU, only(Open.IPV4))
    frame = padded(pppoe(ppp(ipv6())))
    began = time.monotonic()
    for received in range(50, 501, 50):  # a veth has room for 256
        for _ in range(50):
            rig.wire.send(frame)
        rig.settled(received)
    shown = rig.control(1)
    assert set(shown) == {frame}
    assert len(shown) <= QUEUES * (2 + time.monotonic() - began)


def test_an_unknown_protocol_of_a_session_is_the_engines(rig: Rig) -> None:
    rig.datapath.add_session(0, Place(OWN, PEER, 1), -1, MTU, CLOSED)
    frame = padded(pppoe(b"\x02\x81" + bytes(20)))
    rig.wire.send(frame)
    assert rig.control(1) == [frame]


def _has_dropped(rig: Rig, wanted: dict[str, int]) -> bool:
    """Whether so many packets were dropped, for these reasons and no others."""
    return {reason: count for reason, count in rig.counters().drops.items() if count} == wanted


def test_a_session_that_is_not_there_is_not_opened(rig: Rig) -> None:
    with pytest.raises(DatapathError, match="cannot change session 7"):
        rig.datapath.set_own(7, EVERYTHING)


@pytest.mark.parametrize("seed", range(3))
def test_every_frame_is_accounted_for(rig: Rig, seed: int) -> None:
    chance = random.Random(seed)
    fd, _ = rig.tun("soup0")
    rig.datapath.add_session(0, Place(OWN, PEER, 1), fd, MTU, EVERYTHING)
    good = [padded(pppoe(ppp(ipv4(flow=flow)))) for flow in range(50)]
    bad = [frame for frame, _ in HOSTILE.values()]
    control = [padded(padi()), padded(pppoe(LCP_ECHO)), padded(pppoe(LCP_ECHO, session_id=77))]
    sent = 6000
    for n in range(sent):
        frame = chance.choice(chance.choice((good, good, bad, control)))
        if n % 10 == 0:
            frame = frame[:20] + chance.randbytes(chance.randrange(1, 60)) + frame[80:]
        rig.wire.send(frame)

    def seen() -> int:
        handed = rig.counters()
        return handed.rx_packets + handed.drops["rx_ring_full"] + handed.drops["rx_dropped"]

    redirected = until(lambda: (total := sum(c.redirected for c in rig.program.counters())) == seen() and total)
    assert sent * 0.9 < redirected <= sent
    way_in = ("bad_header", "bad_length", "bad_ip", "unknown_session", "not_open", "closed_in", "router_message")
    strays = ("not_for_us", "forged")
    full = ("egress_full", "egress_refused", "control_full", "control_flood")

    def accounted_for() -> bool:
        """Frames are counted as received before they are looked at, by a thread that may have to wait."""
        now = rig.counters()
        lost = sum(now.drops[reason] for reason in (*way_in, *strays, *full))
        return now.rx_packets == now.rx_data + now.rx_control + lost

    until(accounted_for)
    after = rig.counters()
    assert after.rx_data > sent / 4
    assert after.rx_control > sent / 10
    assert rig.datapath.traffic(1)[0] == after.rx_data
    control_seen = 0
    while frames := rig.datapath.receive_control():
        control_seen += len(frames)
    assert control_seen == after.rx_control
    assert all(queue.rx_packets for queue in rig.datapath.queue_counters())


def test_a_flood_of_strangers_cannot_take_the_keepalives(rig: Rig) -> None:
    rig.datapath.add_session(0, Place(OWN, PEER, 1), -1, MTU)
    junk, sent = padi(text=struct.pack("!HH", 0x0101, 1400) + bytes(1400)), 0
    while rig.counters().drops["control_full"] == 0 and sent < 20000:
        rig.wire.send(junk)
        sent += 1
    echo = padded(pppoe(LCP_ECHO))
    for _ in range(20):
        rig.wire.send(echo)
    rig.settled(sent + 20)
    assert rig.counters().drops["control_full"] > 0
    frames = rig.datapath.receive_control()
    assert frames[:20] == [echo] * 20
    assert junk in frames[20:]


def test_a_flood_in_one_sessions_name_cannot_take_the_keepalives_of_others(rig: Rig) -> None:
    rig.datapath.add_session(0, Place(OWN, PEER, 1), -1, MTU)
    rig.datapath.add_session(1, Place(OWN, PEER, 2), -1, MTU)
    noise, echo = padded(pppoe(b"\xc0\x21\x0b\1\0\4", session_id=1)), padded(pppoe(LCP_ECHO, session_id=2))
    for _ in range(4000):
        rig.wire.send(noise)
    rig.wire.send(echo)
    rig.settled(4001)
    assert rig.counters().drops["control_flood"] > 1000
    frames = []
    while batch := rig.datapath.receive_control():
        frames += batch
    assert frames.count(echo) == 1
    assert 0 < frames.count(noise) < 3000
    rig.wire.send(noise)
    rig.settled(4002)
    assert rig.datapath.receive_control() == [noise], "it has its share again"


def test_a_padt_comes_before_strangers_discovery(rig: Rig) -> None:
    rig.datapath.add_session(0, Place(OWN, PEER, 1), -1, MTU)
    goodbye = padded(OWN + PEER + b"\x88\x63" + struct.pack("!BBHH", 0x11, 0xA7, 1, 0))
    stranger = padded(OWN + PEER + b"\x88\x63" + struct.pack("!BBHH", 0x11, 0xA7, 2, 0))
    offer = padi()
    for frame in (offer, stranger, goodbye):
        rig.wire.send(frame)
    rig.settled(3)
    first, *others = rig.datapath.receive_control()
    assert first == goodbye
    assert sorted(others) == sorted([offer, stranger])


def test_counters_of_a_slot_go_on_when_its_session_comes_back(rig: Rig) -> None:
    fd, inside = rig.tun("soup0")
    for round_number in (1, 2):
        key = Place(OWN, PEER, round_number)
        rig.datapath.add_session(0, key, fd, MTU, EVERYTHING)
        rig.wire.send(padded(pppoe(ppp(ipv4()), session_id=round_number)))
        assert inside.wait_for(lambda seen: True) == ipv4()
        assert rig.datapath.traffic(1)[0] == round_number
        rig.datapath.remove_session(0)


def test_what_cannot_be_added_or_removed(rig: Rig) -> None:
    key = Place(OWN, PEER, 1)
    rig.datapath.add_session(0, key, -1, MTU)
    for attempt in (
        lambda: rig.datapath.add_session(0, Place(OWN, PEER, 2), -1, MTU),
        lambda: rig.datapath.add_session(1, key, -1, MTU),
        lambda: rig.datapath.add_session(256, Place(OWN, PEER, 2), -1, MTU),
        lambda: rig.datapath.add_session(1, Place(OWN, PEER, 2), 9999, MTU, EVERYTHING),
        lambda: rig.datapath.add_routed_session(1, Place(OWN, PEER, 2), MTU, ipv4=b"\x0a\0\0\1"),
        lambda: rig.datapath.remove_session(1),
        lambda: rig.datapath.remove_session(256),
    ):
        with pytest.raises(DatapathError):
            attempt()
    rig.datapath.remove_session(0)
    rig.datapath.add_session(1, key, -1, MTU)


def test_routed_sessions_share_a_device(rig: Rig) -> None:
    fd, inside = rig.tun("soup0")
    rig.datapath.open_routed_egress(fd)
    vlans = VLANS["QinQ"]
    rig.datapath.add_routed_session(
        0, Place(OWN, PEER, 1), MTU, ipv4=bytes([10, 0, 0, 1]), ipv6_prefix=b"\x20\1\r\xb8" + bytes(4)
    )
    rig.datapath.add_routed_session(1, Place(OWN, STRANGER, 2, vlans), MTU, ipv4=bytes([10, 0, 0, 2]))
    with pytest.raises(DatapathError):
        rig.datapath.add_routed_session(2, Place(OWN, PEER, 3), MTU, ipv4=bytes([10, 0, 0, 2]))
    wanted: list[tuple[bytes, Callable[[bytes], bytes]]] = [
        (ipv4(dst=bytes([10, 0, 0, 1])), lambda p: pppoe(ppp(p), dst=PEER, src=OWN)),
        (ipv4(dst=bytes([10, 0, 0, 2])), lambda p: pppoe(ppp(p), dst=STRANGER, src=OWN, session_id=2, vlans=vlans)),
        (ipv6(dst=b"\x20\1\r\xb8" + bytes(11) + b"\7"), lambda p: pppoe(ppp(p), dst=PEER, src=OWN)),
    ]
    for packet, frame_of in wanted:
        inside.send(packet)
        assert rig.wire.wait_for(lambda seen: True) == frame_of(packet)
    inside.send(ipv4(dst=bytes([10, 0, 0, 3])))
    assert until(lambda: rig.counters().drops["no_route"] == 1)
    for session_id, src, tagged in ((1, PEER, ()), (2, STRANGER, vlans)):
        packet = ipv4(b"from %d" % session_id)
        rig.wire.send(padded(pppoe(ppp(packet), src=src, session_id=session_id, vlans=tagged)))
        assert inside.wait_for(lambda seen: True) == packet
    rig.datapath.remove_session(0)
    rig.datapath.add_routed_session(2, Place(OWN, PEER, 3), MTU, ipv4=bytes([10, 0, 0, 1]))
    inside.send(wanted[0][0])
    assert rig.wire.wait_for(lambda seen: True) == pppoe(ppp(wanted[0][0]), dst=PEER, src=OWN, session_id=3)
    assert list(rig.datapath.traffic(3)[2::4]) == [2, 1, 1]


def test_a_device_that_vanishes_harms_nobody_else(rig: Rig) -> None:
    gone, _ = rig.tun("soup0")
    fd, inside = rig.tun("soup1")
    rig.datapath.add_session(0, Place(OWN, PEER, 1), gone, MTU, EVERYTHING)
    rig.datapath.add_session(2, Place(OWN, PEER, 2), fd, MTU, EVERYTHING)  # the same worker reads both
    run("ip", "-n", rig.line.near, "link", "del", "soup0")
    rig.wire.send(padded(pppoe(ppp(ipv4()))))
    assert until(lambda: rig.counters().drops["egress_refused"] == 1)
    rig.wire.send(padded(pppoe(ppp(ipv4()), session_id=2)))
    assert inside.wait_for(lambda seen: True) == ipv4()
    inside.send(ipv6())
    assert rig.wire.wait_for(lambda seen: True) == pppoe(ppp(ipv6()), dst=PEER, src=OWN, session_id=2)
    rig.datapath.remove_session(0)


def idle(rig: Rig, seconds: float = 0.3) -> bool:
    """Whether the workers sleep: no CPU time passes, however long one looks."""
    before = [queue.cpu for queue in rig.datapath.queue_counters()]
    time.sleep(seconds)
    return before == [queue.cpu for queue in rig.datapath.queue_counters()]


def test_idle_workers_sleep(rig: Rig) -> None:
    fd, inside = rig.tun("soup0")
    rig.datapath.add_session(0, Place(OWN, PEER, 1), fd, MTU, EVERYTHING)
    assert until(lambda: idle(rig))
    rig.wire.send(padded(pppoe(ppp(ipv4()))))
    assert inside.wait_for(lambda seen: True) == ipv4()
    inside.send(ipv6())
    assert rig.wire.wait_for(lambda seen: True)
    assert until(lambda: idle(rig))
    run("ip", "-n", rig.line.near, "link", "del", "soup0")
    assert until(lambda: idle(rig)), "a descriptor whose device is gone is always readable"


def test_receive_frames_run_out_and_come_back(rig: Rig) -> None:
    """A worker is held up by a blocking egress: what doesn't fit its rings and UMEM is lost and counted, no more."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        rig.datapath.add_session(0, Place(OWN, PEER, 1), theirs.fileno(), MTU, EVERYTHING)
        sent = 5000
        for number in range(sent):
            rig.wire.send(padded(pppoe(ppp(ipv4(struct.pack("!I", number))))))

        def settled() -> int:
            counters = rig.counters()
            kernel = counters.drops["rx_ring_full"] + counters.drops["rx_dropped"]
            return kernel and sum(c.redirected for c in rig.program.counters()) == sent and kernel

        lost = until(settled)
        assert 0 < lost <= sent - RX_FRAMES
        ours.settimeout(PATIENCE)
        came = [struct.unpack_from("!I", ours.recv(2000), 28)[0] for _ in range(sent - lost)]
        assert came == list(range(sent - lost)), "those that came first, in order"
        assert until(lambda: rig.counters().rx_packets + lost == sent)
        for number in range(3 * RX_FRAMES):  # every frame has come back and is used again
            rig.wire.send(padded(pppoe(ppp(ipv4(struct.pack("!I", number))))))
            assert struct.unpack_from("!I", ours.recv(2000), 28) == (number,)
        came_in = sent - lost + 3 * RX_FRAMES  # the last one is counted a moment after it can be read
        assert until(lambda: rig.datapath.traffic(1)[0] == rig.counters().rx_data == came_in)
        rig.datapath.remove_session(0)


def test_transmit_frames_run_out_and_come_back(rig: Rig) -> None:
    """A card that is down takes nothing: frames wait, in order, until it is up; then all go."""
    fd, inside = rig.tun("soup0")
    rig.datapath.add_session(1, Place(OWN, PEER, 1), fd, MTU, EVERYTHING)
    frames = [padded(pppoe(LCP_ECHO, dst=PEER, src=OWN, session_id=number)) for number in range(2 * TX_FRAMES)]
    for cycle in range(1, 4):
        run("ip", "-n", rig.line.near, "link", "set", NEAR, "down")
        assert rig.datapath.send_control(frames) == len(frames)
        for _ in range(2 * TX_FRAMES):
            inside.send(ipv6())
        assert until(lambda: min(q.tx_ring_fill for q in rig.datapath.queue_counters()) > 0)
        assert until(lambda: rig.datapath.queue_counters()[0].tx_ring_fill == 1)
        assert until(lambda: idle(rig, 0.05)), "nobody asks a card that is down again and again"
        run("ip", "-n", rig.line.near, "link", "set", NEAR, "up")
        for frame in frames:
            assert rig.wire.wait_for(lambda seen: seen[20:22] == LCP_ECHO[:2]) == frame
        assert until(lambda: max(q.tx_ring_fill for q in rig.datapath.queue_counters()) == 0)
        after = rig.counters()
        assert after.tx_control == cycle * len(frames)
        assert after.tx_packets == after.tx_control + after.tx_data
        assert after.tx_data == rig.datapath.traffic(2)[6]


def test_queues_can_be_opened_again_at_once_and_nothing_leaks(rig: Rig) -> None:
    rig.datapath.close()
    before = open_descriptors()
    for _ in range(5):
        with namespace(rig.line.near), Datapath(NEAR, QUEUES, rig.program.xsk_map_fd) as datapath:
            rig.wire.send(padded(padi()))
            assert until(datapath.receive_control) == [padded(padi())]
    assert open_descriptors() == before


def test_a_queue_in_use_is_one_line(rig: Rig) -> None:
    with namespace(rig.line.near), pytest.raises(DatapathError, match="queue 0 of va: another program uses this queue"):
        Datapath(NEAR, QUEUES, rig.program.xsk_map_fd)


def test_a_card_with_too_few_queues_is_one_line(rig: Rig) -> None:
    rig.datapath.close()
    before = open_descriptors()
    with namespace(rig.line.near), pytest.raises(DatapathError, match="queue 2 of va: "):
        Datapath(NEAR, QUEUES + 1, rig.program.xsk_map_fd)
    assert open_descriptors() == before
