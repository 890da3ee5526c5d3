"""Whatever arrives, nothing raises, and no session is lost to a frame that isn't its own.

The concentrator's real frames, recorded from healthy lives, are changed octet by octet, replayed and mixed with others.
"""

from __future__ import annotations

import functools
import random

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from engine.api.values import SessionState
from engine.lab.concentrator import Concentrator, LabSettings
from engine.lab.line import Segment
from engine.sessions.fleet import Fleet
from engine.sessions.session import Session
from engine.settings.values import AuthMethod, DialSettings, KeepaliveSettings, SessionSettings
from engine.wire import ethernet, pppoe
from engine.wire.errors import WireError
from engine.wire.ethernet import ETH_PPPOE_DISCOVERY, ETH_PPPOE_SESSION, EthernetFrame, VlanTag
from engine.wire.pppoe import PppoePacket

AC = bytes.fromhex("02acacac0001")
OWN = bytes.fromhex("020000000001")
LAB = LabSettings(accounts=(("alice", "wonderland"),))
QUIET = KeepaliveSettings(interval=0)

METHODS = [method for method in AuthMethod if method is not AuthMethod.NONE]
junk = st.binary(max_size=120)


def segment(*methods: AuthMethod, mru: int = 1492) -> Segment:
    """One session for each method, on a line of its own."""
    chance = random.Random(5)
    fleet = Fleet(DialSettings(rate=1e6), chance.random)
    for number, method in enumerate(methods):
        settings_ = SessionSettings(f"s{number}", "alice", "wonderland", auth=(method,), mru=mru, keepalive=QUIET)
        fleet.add(number, Session(settings_, OWN[:5] + bytes((number,)), chance.randbytes), 0.0)
    return Segment(fleet, [Concentrator(LAB, AC, chance.randbytes)], chance)


@functools.cache
def recorded() -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """(frames of the fleet, frames of the concentrator) of a few healthy lives."""
    line = segment(*METHODS)
    up: list[bytes] = []
    down: list[bytes] = []
    line.on_sent, line.on_received = up.append, down.append
    for number in line.fleet.members:
        line.fleet.dial(number, 0.0)
    line.run(5.0)
    assert all(member.session.state is SessionState.UP for _, member in line.fleet)
    for number in line.fleet.members:
        line.fleet.hang_up(number, 5.0)
    line.run(10.0)
    return tuple(up), tuple(down)


@st.composite
def mutated(draw: st.DrawFn, own: bool) -> bytes:
    """A recorded frame, changed in a few places or cut, or junk behind a plausible header."""
    frame = bytearray(draw(st.sampled_from(recorded()[0 if own else 1])))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(frame) - 1))
        frame[at] = draw(st.integers(0, 255))
    if draw(st.booleans()):
        del frame[draw(st.integers(0, len(frame))) :]
    if draw(st.booleans()):
        frame += draw(junk)
    return bytes(frame)


@st.composite
def invented(draw: st.DrawFn) -> bytes:
    """A frame with a whole header and anything inside."""
    vlans = tuple(VlanTag(vid) for vid in draw(st.lists(st.integers(0, 4095), max_size=2)))
    ethertype = draw(st.sampled_from((ETH_PPPOE_DISCOVERY, ETH_PPPOE_SESSION)))
    code = draw(st.sampled_from((0x00, 0x07, 0x09, 0x19, 0x65, 0xA7)))
    protocol = draw(
        st.sampled_from((b"", b"\xc0\x21", b"\x80\x21", b"\x80\x57", b"\xc0\x23", b"\xc2\x23", b"\xc2\x27"))
    )
    packet = pppoe.encode(PppoePacket(code, draw(st.integers(0, 4)), protocol + draw(junk)))
    return ethernet.encode(EthernetFrame(OWN, AC, ethertype, packet, vlans))


class Hostile(RuleBasedStateMachine):
    """A fleet and a concentrator that get their own traffic and anything else, in any order."""

    @initialize(method=st.sampled_from(METHODS), mru=st.sampled_from((1492, 1500)))
    def start(self, method: AuthMethod, mru: int) -> None:
        self.line = segment(method, mru=mru)

    @rule()
    def dial(self) -> None:
        self.line.fleet.dial(0, self.line.now)

    @rule()
    def hang_up(self) -> None:
        self.line.fleet.hang_up(0, self.line.now)

    @rule()
    def redial(self) -> None:
        self.line.fleet.redial(0, self.line.now)

    @rule(seconds=st.sampled_from((0.0, 0.002, 0.1, 1.0, 10.0, 100.0)))
    def pass_time(self, seconds: float) -> None:
        self.line.run(self.line.now + seconds)

    @rule(frame=st.one_of(mutated(own=False), invented(), junk))
    def at_the_fleet(self, frame: bytes) -> None:
        self.line.fleet.receive(frame, self.line.now)

    @rule(frame=st.one_of(mutated(own=False), mutated(own=True), invented(), junk))
    def at_the_session(self, frame: bytes) -> None:
        self.line.fleet.members[0].session.receive(frame, self.line.now)
        self.line.fleet._after(0, self.line.fleet.members[0], self.line.now)

    @rule(frame=st.one_of(mutated(own=True), mutated(own=False), invented(), junk))
    def at_the_concentrator(self, frame: bytes) -> None:
        self.line.concentrators[0].receive(frame, self.line.now)

    @rule(payload=junk)
    def in_the_session(self, payload: bytes) -> None:
        """With the right keys, anything."""
        keys = self.line.fleet.members[0].session.place
        if keys is not None:
            packet = pppoe.encode(PppoePacket(0, keys.session_id, payload))
            frame = ethernet.encode(EthernetFrame(keys.own_mac, keys.peer_mac, ETH_PPPOE_SESSION, packet))
            self.line.fleet.receive(frame, self.line.now)

    @invariant()
    def something_moves_it_on(self) -> None:
        if not hasattr(self, "line"):
            return
        session = self.line.fleet.members[0].session
        idle = session.state in (SessionState.DOWN, SessionState.FAILED)
        assert (session.place is None) or not idle
        if idle:
            assert session.next_timer() is None
        elif session.state is not SessionState.UP:
            assert session.next_timer() is not None

    def teardown(self) -> None:
        if not hasattr(self, "line"):
            return
        self.line.fleet.hang_up(0, self.line.now)
        self.line.run(self.line.now + 60)
        assert self.line.fleet.idle
        assert self.line.fleet.next_timer() is None


Hostile.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestHostile = Hostile.TestCase


@functools.cache
def healthy() -> Segment:
    line = segment(AuthMethod.CHAP)
    line.fleet.dial(0, 0.0)
    line.run(5.0)
    assert line.fleet.members[0].session.state is SessionState.UP
    return line


def is_ours(frame: bytes, session: Session) -> bool:
    """Whether a frame has the session's four keys."""
    keys = session.place
    assert keys is not None
    try:
        outer = ethernet.decode(frame)
        packet = pppoe.decode(outer.payload)
    except WireError:
        return False
    place = outer.dst, outer.src, packet.session_id, ethernet.vlan_ids(outer.vlans)
    return place == (keys.own_mac, keys.peer_mac, keys.session_id, ())


@settings(max_examples=300, deadline=None)
@given(frame=st.one_of(mutated(own=False), mutated(own=True), invented(), junk))
def test_a_healthy_session_survives_whatever_has_not_its_four_keys(frame: bytes) -> None:
    line = healthy()
    session = line.fleet.members[0].session
    if is_ours(frame, session):
        return
    before = session.place, session.ipv4, session.next_timer()
    line.fleet.receive(frame, line.now)
    session.receive(frame, line.now)
    assert session.state is SessionState.UP
    assert (session.place, session.ipv4, session.next_timer()) == before
    assert line.fleet.frames_to_send() == []


def test_own_frames_that_come_back_do_not_end_a_session() -> None:
    """A loop in the switch, or a neighbour who replays what he saw us send, as it was and with addresses swapped."""
    line = healthy()
    session = line.fleet.members[0].session
    for frame in recorded()[0]:
        outer = ethernet.decode(frame)
        packet = pppoe.decode(outer.payload)
        if packet.code == pppoe.Code.PADT or packet.payload[2:3] == b"\x05":
            continue  # with swapped addresses these are the concentrator's own right
        swapped = EthernetFrame(outer.src, AC, outer.ethertype, outer.payload)
        for copy in (frame, ethernet.encode(swapped)):
            line.fleet.receive(copy, line.now)
            line.run(line.now + 0.05)
    for frame in recorded()[0]:
        line.fleet.receive(frame, line.now)
    line.run(line.now + 30)
    assert session.state is SessionState.UP
    assert line.fleet.members[0].flaps == 0
    healthy.cache_clear()
