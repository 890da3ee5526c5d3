"""What the data path believes of another process that has memory together with it: nothing."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv4Address

import pytest

from engine.datapath.own import Own
from engine.wire.place import Place

from .duct import SKIP, TAIL, Duct
from .line import QUEUES, needs_root, until
from .rig import MTU, OWN, PEER, Rig, ipv4, open_rig, padded, ppp, pppoe
from .test_datapath import idle

pytestmark = needs_root

RING = 1 << 20
VNET = bytes(10)
RECORD = 152
"""Octets that a packet of these takes in the ring."""
DUCTED, DEVICE, GONE, BEYOND = 0, 1, 2, 1 << 31
OURS, ANOTHER, FAR = b"\xc0\0\2\1", b"\xc0\0\2\x03", b"\xc0\0\2\2"
IN, OUT, FORGED = ipv4(src=FAR, dst=OURS), ipv4(src=OURS, dst=FAR), ipv4(src=ANOTHER, dst=FAR)
COMES, LEAVES = padded(pppoe(ppp(IN))), padded(pppoe(ppp(OUT), dst=PEER, src=OWN))


class Program:
    """The other process, which has a duct to each worker."""

    def __init__(self, rig: Rig) -> None:
        self.ducts, self.bells = [], []
        for queue in range(QUEUES):
            memory, bell = rig.datapath.open_duct(queue, RING)
            self.ducts.append(Duct(memory, of_program=True))
            self.bells.append(socket.socket(fileno=bell))
            os.close(memory)

    def heard(self) -> list[tuple[int, bytes]]:
        return [each for duct in self.ducts for each in duct.take()]

    def put(self, key: int, packet: bytes) -> None:
        assert self.ducts[0].put(key, packet)
        self.bells[0].send(b"x")

    def close(self) -> None:
        for each in (*self.ducts, *self.bells):
            each.close()


@pytest.fixture
def rig() -> Iterator[Rig]:
    with open_rig() as rig:
        own = Own(IPv4Address(OURS))
        rig.datapath.add_session(DUCTED, Place(OWN, PEER, 1), -1, MTU, own, ducted=True)
        yield rig


@pytest.fixture
def program(rig: Rig) -> Iterator[Program]:
    program = Program(rig)
    yield program
    program.close()


def expect_both_ways(rig: Rig, program: Program) -> None:
    rig.wire.send(COMES)
    assert until(program.heard) == [(DUCTED, VNET + IN)]
    program.put(DUCTED, VNET + OUT)
    assert rig.wire.wait_for(lambda seen: True) == LEAVES


def test_a_session_has_its_packets_and_no_other_ones(rig: Rig, program: Program) -> None:
    fd, _ = rig.tun("soup0")
    rig.datapath.add_session(DEVICE, Place(OWN, PEER, 2), fd, MTU, Own(IPv4Address(ANOTHER)))
    rig.datapath.add_session(GONE, Place(OWN, PEER, 3), -1, MTU, Own(IPv4Address(ANOTHER)), ducted=True)
    rig.datapath.remove_session(GONE)
    for key, packet, reason in (
        (DEVICE, VNET + FORGED, "no_route"),
        (GONE, VNET + FORGED, "no_route"),
        (BEYOND, VNET + OUT, "no_route"),
        (DUCTED, VNET + FORGED, "not_from_us"),
        (DUCTED, VNET, "not_ip"),
        (DUCTED, VNET[1:], "not_ip"),
        (DUCTED, VNET + bytes(65536), "not_ip"),
        (DUCTED, b"\1\1" + VNET[2:] + OUT, "bad_offload"),
    ):
        before = rig.counters().drops
        program.put(key, packet)
        assert until(lambda before=before: rig.counters().drops != before), reason
        after = rig.counters().drops
        assert {name for name in after if after[name] != before[name]} == {reason}
    expect_both_ways(rig, program)
    assert rig.counters().tx_packets == 1
    assert rig.datapath.traffic(1)[0] == rig.datapath.traffic(1)[2] == 1


def test_a_full_duct_loses_packets_and_fills_anew(rig: Rig, program: Program) -> None:
    """More than it holds comes while nobody looks; one session alone doesn't have all of it."""

    def all_of_it() -> bool:  # some are lost on their way to the card, where the machine is busy
        rig.wire.send_burst([COMES] * 200)
        return rig.counters().rx_packets >= RING // len(IN)

    def quiet() -> bool:
        before = rig.counters().rx_packets
        time.sleep(0.1)
        return rig.counters().rx_packets == before

    assert until(all_of_it)
    assert until(quiet)
    lost = rig.counters().drops["egress_full"]
    heard = program.heard()
    assert len(heard) + lost == rig.counters().rx_packets
    assert RING // 2 < len(heard) * RECORD < RING * 3 // 4
    expect_both_ways(rig, program)


def nothing_there(duct: Duct) -> None:
    duct.mark(0, 0, DUCTED)
    duct.show(8)


def too_much_there(duct: Duct) -> None:
    duct.show(RING + 8)


def half_a_word(duct: Duct) -> None:
    duct.show(12)


def longer_than_what_is_there(duct: Duct) -> None:
    duct.mark(0, 100, DUCTED)
    duct.show(64)


def longer_than_any(duct: Duct) -> None:
    duct.mark(0, 65547, DUCTED)
    duct.show(RING)


def only_skipped(duct: Duct) -> None:
    duct.mark(0, SKIP, DUCTED)
    duct.show(RING)


@pytest.mark.parametrize(
    "nonsense",
    [nothing_there, too_much_there, half_a_word, longer_than_what_is_there, longer_than_any, only_skipped],
)
def test_nonsense_ends_the_duct_and_nothing_else(rig: Rig, program: Program, nonsense: object) -> None:
    fd, inside = rig.tun("soup0")
    rig.datapath.add_session(DEVICE, Place(OWN, PEER, 2), fd, MTU, Own(IPv4Address(ANOTHER)))
    assert not rig.datapath.duct_broken()
    assert callable(nonsense)
    nonsense(program.ducts[0])
    program.bells[0].send(b"x")
    assert until(rig.datapath.duct_broken)
    inside.send(FORGED)
    assert rig.wire.wait_for(lambda seen: True) == padded(pppoe(ppp(FORGED), dst=PEER, src=OWN, session_id=2))
    another = Program(rig)
    assert not rig.datapath.duct_broken()
    expect_both_ways(rig, another)
    another.close()


def test_what_is_said_to_have_been_taken_harms_nobody(rig: Rig, program: Program) -> None:
    for said in (8, RING, 0xFFFFFFF8, 3):
        for duct in program.ducts:
            duct.say(TAIL, said)
        rig.wire.send(COMES)
    rig.settled(4)
    another = Program(rig)
    expect_both_ways(rig, another)
    another.close()


def test_a_bell_that_rings_for_ever_or_never_is_no_work_for_ever(rig: Rig, program: Program) -> None:
    bell = program.bells[0]
    bell.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            bell.send(bytes(1000))
    bell.setblocking(True)
    expect_both_ways(rig, program)
    for each in program.bells:
        each.close()
    assert until(lambda: idle(rig)), "a closed socket is always readable"
    rig.wire.send(COMES)
    assert until(program.heard) == [(DUCTED, VNET + IN)]


def test_the_memory_keeps_its_size(rig: Rig) -> None:
    memory, bell = rig.datapath.open_duct(0, RING)
    with pytest.raises(PermissionError):
        os.ftruncate(memory, 4096)
    os.close(memory)
    os.close(bell)
