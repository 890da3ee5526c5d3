"""Many sessions at once: who is dialled when, who gets which frame, and what strangers can't do."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable
from itertools import pairwise

import pytest
from msgspec.structs import replace

from engine.api.ending import End, EndKind
from engine.api.values import SessionState
from engine.host.errors import Trouble
from engine.lab.concentrator import Concentrator, LabSettings
from engine.lab.faults import REFUSALS
from engine.lab.line import Line, LineQuality, Segment
from engine.pppoe.concentrator import ConcentratorSettings
from engine.sessions import obstacle
from engine.sessions.fleet import ON_THE_WAY, Fleet
from engine.sessions.obstacle import Obstacle, Obstacles
from engine.sessions.pace import FIRST, LEAST, Pace
from engine.sessions.redial import RULES, pause
from engine.sessions.session import Ended, PppoeOpened, Session, SessionEvent, StateChanged
from engine.settings.values import AcFilter, AuthMethod, DialSettings, KeepaliveSettings, SessionSettings
from engine.wire import control, ethernet, ppp, pppoe
from engine.wire.control import ControlPacket
from engine.wire.ethernet import BROADCAST, ETH_PPPOE_DISCOVERY, ETH_PPPOE_SESSION, EthernetFrame, VlanTag
from engine.wire.ppp import Protocol
from engine.wire.pppoe import Code, PppoePacket, Tag, TagType

AC1 = bytes.fromhex("02acacac0001")
AC2 = bytes.fromhex("02acacac0002")
STRANGER = bytes.fromhex("02bad0bad001")
LAB = LabSettings(accounts=(("alice", "wonderland"),))
QUICK = DialSettings(rate=10_000.0, max_outstanding=10_000)
UP, FAILED, DOWN = SessionState.UP, SessionState.FAILED, SessionState.DOWN


def own_mac(number: int) -> bytes:
    return b"\x02\x00\x00\x00" + number.to_bytes(2, "big")


class Field:
    """A fleet, its concentrators and what happened."""

    def __init__(
        self,
        count: int = 1,
        dial: DialSettings = QUICK,
        settings: SessionSettings | None = None,
        concentrators: tuple[tuple[bytes, LabSettings], ...] = ((AC1, LAB),),
        macs: int | None = None,
        obstacles: Obstacles = obstacle.none,
    ) -> None:
        self.random = random.Random(7)
        base = settings or SessionSettings("", user="alice", password="wonderland", auth=(AuthMethod.CHAP,))
        self.fleet = Fleet(dial, self.random.random, obstacles)
        self.acs = [Concentrator(lab, mac, self.random.randbytes) for mac, lab in concentrators]
        self.segment = Segment(self.fleet, self.acs, self.random)
        self.segment.after_step = self._take_events
        self.events: list[tuple[float, int, SessionEvent]] = []
        self.most_on_the_way = 0
        for number in range(count):
            mac = own_mac(number if macs is None else number % macs)
            session = Session(replace(base, name=f"s{number}"), mac, self.random.randbytes)
            self.fleet.add(number, session, 0.0)

    def count_on_the_way(self) -> None:
        """Have `most_on_the_way` be the most at any time from now on."""

        def look() -> None:
            self._take_events()
            on_the_way = sum(member.session.state in ON_THE_WAY for _, member in self.fleet)
            self.most_on_the_way = max(self.most_on_the_way, on_the_way)

        self.segment.after_step = look

    def lead_nowhere(self, numbers: Iterable[int]) -> None:
        """Have these sessions look for a concentrator that isn't there."""
        for number in numbers:
            session = self.fleet.members[number].session
            session.reconfigure(replace(session.settings, ac=AcFilter(name="nowhere")), session.own_mac)

    def _take_events(self) -> None:
        while (item := self.fleet.next_event()) is not None:
            self.events.append((self.segment.now, *item))

    @property
    def now(self) -> float:
        return self.segment.now

    def run(self, seconds: float) -> None:
        self.segment.run(self.segment.now + seconds)

    def dial_all(self) -> None:
        for number in self.fleet.members:
            self.fleet.dial(number, self.now)

    def states(self) -> set[SessionState]:
        return {member.session.state for _, member in self.fleet}

    def dials(self, number: int | None = None) -> list[float]:
        """When sessions, or one of them, began to dial."""
        return [
            at
            for at, who, event in self.events
            if event == StateChanged(SessionState.DIALLING) and number in (None, who)
        ]

    def ends(self, number: int) -> list[EndKind]:
        return [event.end.kind for _, who, event in self.events if who == number and isinstance(event, Ended)]

    def sid(self, number: int) -> int:
        keys = self.fleet.members[number].session.place
        assert keys is not None
        return keys.session_id

    def inject(self, src: bytes, dst: bytes, packet: PppoePacket, vlans: tuple[VlanTag, ...] = ()) -> None:
        ethertype = ETH_PPPOE_SESSION if packet.code == Code.SESSION else ETH_PPPOE_DISCOVERY
        self.fleet.receive(ethernet.encode(EthernetFrame(dst, src, ethertype, pppoe.encode(packet), vlans)), self.now)


# Pacing


def test_dials_keep_to_the_rate() -> None:
    field = Field(50, DialSettings(rate=10.0, max_outstanding=1000))
    field.dial_all()
    field.run(10)
    dials = field.dials()
    assert len(dials) == 50
    assert dials[-1] - dials[0] == pytest.approx(4.9, abs=0.01)
    for first, later in zip(dials, dials[10:], strict=False):
        assert later - first > 0.89
    assert field.states() == {UP}


def test_no_more_than_max_outstanding_are_on_their_way() -> None:
    field = Field(40, DialSettings(rate=10_000, max_outstanding=4))
    field.count_on_the_way()
    field.dial_all()
    field.run(10)
    assert field.most_on_the_way == 4
    assert field.states() == {UP}


def test_a_dead_session_never_delays_another() -> None:
    """Three sessions look for a concentrator that isn't there; the others come up as if they were alone."""
    field = Field(30, DialSettings(rate=10_000, max_outstanding=4))
    field.lead_nowhere(range(3))
    field.dial_all()
    field.run(1)
    assert {field.fleet.members[number].session.state for number in range(3, 30)} == {UP}
    field.run(600)
    assert {field.fleet.members[number].session.state for number in range(3, 30)} == {UP}
    assert len(field.dials(0)) > 5


def test_a_queue_full_of_dead_sessions_moves_on() -> None:
    field = Field(8, DialSettings(rate=10_000, max_outstanding=2))
    field.lead_nowhere(range(6))
    field.dial_all()
    field.run(120)
    assert {field.fleet.members[number].session.state for number in (6, 7)} == {UP}


def test_many_dead_sessions_do_not_hold_up_a_live_one_that_is_dialled_again() -> None:
    field = Field(300, DialSettings(rate=10_000, max_outstanding=16))
    field.lead_nowhere(range(295))
    field.dial_all()
    field.run(600)
    assert {field.fleet.members[number].session.state for number in range(295, 300)} == {UP}
    for number in range(295, 300):
        field.acs[0].cut(field.sid(number), field.now)
        field.run(0.5)
        assert field.fleet.members[number].session.state is UP


def test_sessions_that_a_concentrator_does_not_answer_hold_up_none_that_it_lets_in() -> None:
    """Half of 200, as when one line card of two is back: 15 s for each eight of them that no one answers is long."""
    field = Field(200, DialSettings(rate=10_000, max_outstanding=16))
    field.lead_nowhere(range(0, 200, 2))
    field.count_on_the_way()
    field.dial_all()
    field.run(30)
    assert {field.fleet.members[number].session.state for number in range(1, 200, 2)} == {UP}
    assert field.most_on_the_way < 100


def test_while_nobody_is_let_in_no_more_ask_than_may_be_on_their_way() -> None:
    field = Field(200, DialSettings(rate=10_000, max_outstanding=16), concentrators=())
    sent = list[float]()
    field.segment.on_sent = lambda _: sent.append(field.now)
    field.dial_all()
    field.run(60)
    assert len(sent) <= 4 * 4 * 16 + 16


# Back-off


def test_the_pause_doubles_up_to_its_cap_with_jitter_around_it() -> None:
    settings = DialSettings(retry_min=1.0, retry_max=60.0, jitter=0.25)
    end = End(EndKind.NO_ANSWER, "")
    middle = [pause(end, 0, failures, settings, 0.5) for failures in range(1, 10)]
    assert middle == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert pause(end, 0, 3, settings, 0.0) == 3.0
    assert pause(end, 0, 3, settings, 1.0) == 5.0
    assert pause(end, 0, 10_000, settings, 0.5) == 60.0


@pytest.mark.parametrize("kind", EndKind)
def test_every_pause_is_bounded_for_ever(kind: EndKind) -> None:
    settings = DialSettings()
    waits = [pause(End(kind, "", was_up=up), n, n, settings, 1.0) for n in (1, 5, 100_000) for up in (True, False)]
    if RULES[kind] is None:
        assert set(waits) == {None}
    else:
        assert all(wait is not None and 0 <= wait <= 10 * settings.retry_max * 1.25 for wait in waits)


def test_sessions_that_failed_together_are_spread() -> None:
    field = Field(20, replace(QUICK, retry_min=10.0), concentrators=())
    field.dial_all()
    field.run(16)
    redials = [member.redial_at for _, member in field.fleet]
    assert len(set(redials)) == 20
    assert all(at is not None and 15 + 15 <= at <= 15.1 + 25 for at in redials)


def test_a_session_without_a_concentrator_is_retried_for_ever() -> None:
    field = Field(1, concentrators=())
    field.dial_all()
    field.run(4 * 3600)
    dials = field.dials()
    gaps = [later - earlier for earlier, later in pairwise(dials)]
    assert len(dials) > 150
    assert max(gaps) < 15 + 60 * 1.25 + 0.1


def test_when_a_concentrator_is_back_nobody_waits_for_the_end_of_a_pause() -> None:
    """The first one that is let in tells the others: each has its own pause by then, of up to 75 s."""
    field = Field(50)
    field.dial_all()
    field.run(5)
    concentrators, field.segment.concentrators = field.segment.concentrators, []
    field.run(600)
    assert field.states() <= {FAILED, SessionState.DIALLING}
    field.acs[0].restart()
    field.segment.concentrators = concentrators
    while not [at for at, _, event in field.events if event == StateChanged(UP) and at > 600]:
        field.run(0.5)
    field.run(8)  # the longest that a dial that is under way waits before it asks once more
    assert field.states() == {UP}


def test_who_is_not_answered_while_others_are_keeps_to_its_pauses() -> None:
    lab = replace(LAB, discovery=ConcentratorSettings(services=("internet",)))
    field = Field(5, concentrators=((AC1, lab),))
    session = field.fleet.members[0].session
    session.reconfigure(replace(session.settings, service="voice"), session.own_mac)
    field.dial_all()
    for _ in range(120):
        field.run(5)
        field.fleet.redial(1, field.now)
    assert {*field.ends(0)} == {EndKind.NO_CONCENTRATOR}
    assert len(field.dials(0)) < 15


def test_however_long_nobody_answered_a_first_refusal_is_a_first_refusal() -> None:
    """A concentrator that is back may have the old sessions still; the pause, doubled ten times, was ten minutes."""
    field = Field(1, concentrators=((AC1, LAB),))
    concentrators, field.segment.concentrators = field.segment.concentrators, []
    field.dial_all()
    field.run(600)
    field.segment.concentrators = concentrators
    field.acs[0].discovery.refusal = REFUSALS["session limit"]
    while EndKind.TOO_MANY not in field.ends(0):
        field.run(1)
    redial_at = field.fleet.members[0].redial_at
    assert redial_at is not None
    assert redial_at - field.now < 30 * 1.25 + 1


def test_a_card_that_flaps_lengthens_no_pause() -> None:
    """That the card was lost is no failure of any session's."""
    field = Field(1)
    field.dial_all()
    field.run(5)
    for _ in range(10):
        field.fleet.hold()
        field.fleet.stop(0, End(EndKind.CARD_DOWN, "The card is gone."), field.now)
        field.run(2)
        field.fleet.release(field.now)
        field.fleet.dial_again(0, field.now)
        field.run(2)
        assert field.states() == {UP}
    field.segment.concentrators.clear()
    field.fleet.redial(0, field.now)
    field.run(19)
    assert field.ends(0)[-1] is EndKind.NO_CONCENTRATOR
    assert field.fleet.members[0].failures == 1


def test_a_refusal_slows_that_account_only() -> None:
    lab = replace(LAB, discovery=ConcentratorSettings(max_sessions_per_mac=1))
    field = Field(4, concentrators=((AC1, lab),), macs=2)
    field.dial_all()
    field.run(600)
    refused = [n for n in range(4) if field.fleet.members[n].session.state is not UP]
    assert len(refused) == 2
    for number in refused:
        assert set(field.ends(number)) == {EndKind.TOO_MANY}
        assert 3 <= len(field.dials(number)) <= 7
    for number in set(range(4)) - set(refused):
        assert len(field.dials(number)) == 1


def test_once_the_refusals_end_everyone_comes_up() -> None:
    field = Field(5)
    for refusal in REFUSALS.values():
        field.acs[0].discovery.refusal = refusal
        field.dial_all()
        field.run(20)
        assert UP not in field.states()
        assert {field.ends(0)[-1]} <= {EndKind.REFUSED, EndKind.TOO_MANY}
        field.acs[0].discovery.refusal = None
        field.run(1000)
        assert field.states() == {UP}
        for number in range(5):
            field.fleet.hang_up(number, field.now)
        field.run(10)


# Sessions that are lost


def test_a_healthy_session_that_is_hung_up_on_is_redialled_at_once() -> None:
    field = Field(1)
    field.dial_all()
    field.run(5)
    field.acs[0].cut(field.sid(0), field.now)
    field.run(0.1)
    assert field.states() == {UP}
    assert len(field.dials()) == 2


def test_unless_that_happens_over_and_over() -> None:
    field = Field(1, replace(QUICK, max_flaps=3))
    field.dial_all()
    began = field.now
    losses = 0
    while field.now < began + 120:
        field.run(0.5)
        if field.fleet.members[0].session.state is UP:
            field.acs[0].cut(field.sid(0), field.now)
            losses += 1
    dials = field.dials()
    gaps = [later - earlier for earlier, later in pairwise(dials)]
    assert all(gap < 0.6 for gap in gaps[:3])
    assert gaps[3] > 0.75
    assert gaps[-1] > 10
    assert losses < 12


def test_being_up_for_long_enough_forgives_earlier_losses() -> None:
    dial = replace(QUICK, max_flaps=1)
    field = Field(1, dial)
    field.dial_all()
    for _ in range(6):
        field.run(dial.retry_max + 1)
        assert field.states() == {UP}
        before = field.now
        field.acs[0].cut(field.sid(0), field.now)
        field.run(0.2)
        assert field.states() == {UP}
        assert field.dials()[-1] - before < 0.1
    assert field.fleet.members[0].flaps == 6


def test_a_concentrator_that_dies_silently_is_noticed_and_dialled_again() -> None:
    settings = SessionSettings("", "alice", "wonderland", keepalive=KeepaliveSettings(10, 3))
    field = Field(10, settings=settings)
    field.dial_all()
    field.run(5)
    field.acs[0].restart()
    field.run(60)
    assert field.states() == {UP}
    assert field.ends(3) == [EndKind.ECHO_TIMEOUT]


def test_a_session_number_given_to_another_session_ends_the_former_one_without_a_word() -> None:
    """One MAC address for all: the concentrator forgot everything, and counts from 1 again."""
    field = Field(3, macs=1)
    field.fleet.dial(0, 0.0)
    field.run(5)
    assert field.sid(0) == 1
    field.acs[0].restart()
    field.fleet.dial(1, field.now)
    sent: list[bytes] = []
    field.segment.on_sent = sent.append
    field.run(0.1)
    assert field.ends(0) == [EndKind.PEER_ENDED]
    assert field.fleet.members[1].session.state is UP
    assert field.fleet.members[0].session.state is UP
    assert {field.sid(0), field.sid(1)} == {1, 2}
    packets = [pppoe.decode(ethernet.decode(frame).payload) for frame in sent]
    assert not any(packet.code == Code.PADT for packet in packets)


def test_an_old_pads_once_more_does_not_give_back_a_session_that_is_another_ones_by_now() -> None:
    """One MAC address for both, and a concentrator that gives out the number anew: four keys that are the same."""
    field = Field(2, macs=1)
    sent: list[bytes] = []
    field.segment.on_sent = sent.append
    field.fleet.dial(0, field.now)
    field.run(5)
    requests = [pppoe.decode(ethernet.decode(frame).payload) for frame in sent]
    tags = next(packet.payload for packet in requests if packet.code == Code.PADR)
    field.fleet.hang_up(0, field.now)
    field.run(5)
    field.acs[0].restart()
    field.fleet.dial(1, field.now)
    field.run(5)
    assert field.sid(1) == 1
    field.inject(AC1, own_mac(0), PppoePacket(Code.PADS, 1, tags))
    assert field.fleet.frames_to_send() == []
    assert field.fleet.members[1].session.state is UP


# What crosses


@pytest.mark.parametrize("removed", [False, True])
def test_a_padt_takes_back_a_farewell_that_has_not_gone_out_yet(removed: bool) -> None:
    """RFC 2516 section 5.5: after a PADT no further PPP traffic is allowed, not even a Terminate-Request."""
    field = Field(2)
    field.dial_all()
    field.run(5)
    sid = field.sid(0)
    reject = ppp.encode(Protocol.LCP, control.encode(ControlPacket(control.Code.CODE_REJECT, 1, b"\1\1\0\4")))
    for _ in range(2):
        field.inject(AC1, own_mac(0), PppoePacket(Code.SESSION, sid, reject))
    assert field.fleet.members[0].session.state is FAILED
    if removed:
        field.fleet.remove(0, field.now)
    field.inject(AC1, own_mac(0), PppoePacket(Code.PADT, sid, b""))
    assert removed or field.fleet.frames_to_send() == []
    assert field.fleet.members[1].session.state is UP


# Commands that cross


@pytest.mark.parametrize("delay", [0.0, 0.0005, 0.0015, 0.0025, 0.004, 0.006, 0.008, 0.5])
@pytest.mark.parametrize("first", ["hang_up", "redial", "remove", "dial", "stop"])
@pytest.mark.parametrize("second", ["hang_up", "redial", "remove", "dial", "stop"])
def test_commands_at_any_moment(delay: float, first: str, second: str) -> None:
    field = Field(2)
    field.dial_all()
    field.run(delay)
    end = End(EndKind.CARD_DOWN, "The card is down.")
    for command in (first, second):
        if 0 not in field.fleet.members:
            break
        if command == "stop":
            field.fleet.stop(0, end, field.now)
        else:
            getattr(field.fleet, command)(0, field.now)
        if command == first:
            field.run(delay)
    field.run(200)
    assert field.fleet.members[1].session.state is UP
    if "remove" in (first, second):
        assert 0 not in field.fleet.members
    else:
        wanted = {
            "hang_up": {DOWN, FAILED},
            "stop": {DOWN, FAILED},
            "redial": {UP},
            "dial": {UP},
        }[second]
        assert field.fleet.members[0].session.state in wanted
    expected = sum(member.session.state is UP for _, member in field.fleet)
    assert len(field.acs[0].subscribers) == expected
    assert not field.fleet._outstanding


def test_a_removed_session_says_goodbye() -> None:
    field = Field(1)
    field.dial_all()
    field.run(5)
    field.fleet.remove(0, field.now)
    field.run(1)
    assert field.acs[0].subscribers == {}
    assert field.fleet.next_timer() is None


def test_a_hang_up_takes_a_session_out_of_the_queue() -> None:
    field = Field(3, DialSettings(rate=1.0, max_outstanding=10))
    field.dial_all()
    field.fleet.hang_up(2, field.now)
    field.run(10)
    assert field.fleet.members[2].session.state is DOWN
    assert field.dials(2) == []


def test_a_hang_up_stops_a_pending_retry() -> None:
    field = Field(1, concentrators=())
    field.dial_all()
    field.run(15.5)
    assert field.fleet.members[0].redial_at is not None
    field.fleet.hang_up(0, field.now)
    assert field.fleet.next_timer() is None
    field.run(1000)
    assert len(field.dials()) == 1


def test_a_stopped_session_waits_until_it_is_dialled() -> None:
    """The card is down: it stays wanted, but nothing is sent for it."""
    field = Field(1)
    field.dial_all()
    field.run(5)
    field.fleet.stop(0, End(EndKind.CARD_DOWN, "The card is down."), field.now)
    field.run(1000)
    assert field.states() == {FAILED}
    assert field.fleet.members[0].wanted
    field.fleet.dial(0, field.now)
    field.run(1)
    assert field.states() == {UP}


# Who gets which frame


def test_the_same_session_id_on_two_concentrators() -> None:
    field = Field(2, macs=1, concentrators=((AC1, LAB), (AC2, replace(LAB, network="100.65.0.0/16"))))
    for number, mac in enumerate((AC1, AC2)):
        session = field.fleet.members[number].session
        session.reconfigure(replace(session.settings, ac=AcFilter(mac=mac)), session.own_mac)
    field.dial_all()
    field.run(1)
    assert field.states() == {UP}
    assert field.sid(0) == field.sid(1) == 1
    field.inject(AC2, own_mac(0), PppoePacket(Code.PADT, 1, b""))
    assert field.fleet.members[0].session.state is UP
    assert field.fleet.members[1].session.state is FAILED


def test_the_same_session_id_on_two_vlans() -> None:
    """Two concentrators that share a MAC address, as a gateway with one address on all VLANs does."""
    field = Field(2, macs=1)
    other = Concentrator(replace(LAB, network="100.65.0.0/16"), AC1, random.Random(3).randbytes)
    by_vlan = {(7,): field.acs[0], (8,): other}
    for number, vid in enumerate((7, 8)):
        session = field.fleet.members[number].session
        session.reconfigure(replace(session.settings, vlans=(VlanTag(vid),)), session.own_mac)
        field.fleet.dial(number, 0.0)
    field.fleet.handle_timer(0.01)
    for _ in range(30):
        for frame in field.fleet.frames_to_send():
            by_vlan[ethernet.vlan_ids(ethernet.decode(frame).vlans)].receive(frame, 0.01)
        for concentrator in by_vlan.values():
            for frame in concentrator.frames_to_send():
                field.fleet.receive(frame, 0.01)
    assert field.states() == {UP}
    assert field.sid(0) == field.sid(1) == 1
    field.inject(AC1, own_mac(0), PppoePacket(Code.PADT, 1, b""), (VlanTag(8),))
    assert [field.fleet.members[n].session.state for n in (0, 1)] == [UP, FAILED]


def test_the_same_session_id_on_two_macs() -> None:
    field = Field(2)
    field.dial_all()
    field.run(1)
    sid = field.sid(1)
    field.inject(AC1, own_mac(0), PppoePacket(Code.PADT, sid, b""))
    assert field.states() == {UP}
    assert field.fleet.counters["discarded: for no session"] == 1
    field.inject(AC1, own_mac(1), PppoePacket(Code.PADT, sid, b""))
    assert [field.fleet.members[n].session.state for n in (0, 1)] == [UP, FAILED]


def test_sessions_that_share_a_mac_find_their_own_answers() -> None:
    field = Field(100, macs=1)
    field.dial_all()
    field.run(2)
    assert field.states() == {UP}
    assert len({field.sid(n) for n in range(100)}) == 100
    addresses = {str(m.session.ipv4.address) for _, m in field.fleet if m.session.ipv4 is not None}
    assert len(addresses) == 100


# Strangers


@pytest.mark.parametrize("lure", [b"", b"\x01\x03\x00\x0c", b"\x01\x03\x00\x0c" + bytes(12), b"\x01\x03" * 40])
def test_an_answer_is_found_by_its_host_uniq_whatever_else_looks_like_one(lure: bytes) -> None:
    fleet = Fleet(DialSettings(), lambda: 0.5)
    fleet.add(0, Session(SessionSettings("s"), own_mac(0), random.Random(1).randbytes), 0.0)
    fleet.dial(0, 0.0)
    (padi,) = fleet.frames_to_send()
    own = next(t for t in pppoe.decode_tags(pppoe.decode(padi[14:]).payload) if t.type == TagType.HOST_UNIQ)
    name, service = Tag(TagType.AC_NAME, b"ac"), Tag(TagType.SERVICE_NAME)
    hidden = Tag(TagType.AC_COOKIE, lure + pppoe.encode_tags([own]))

    def hear(*tags: Tag) -> list[int]:
        packet = PppoePacket(Code.PADO, 0, pppoe.encode_tags([name, service, *tags]))
        outer = EthernetFrame(own_mac(0), AC1, ETH_PPPOE_DISCOVERY, pppoe.encode(packet))
        fleet.receive(ethernet.encode(outer), 0.1)
        return [pppoe.decode(frame[14:]).code for frame in fleet.frames_to_send()]

    other = Tag(TagType.HOST_UNIQ, bytes(12))
    assert hear(hidden, other) == [], "in a cookie it is none"
    assert hear(Tag(TagType.AC_COOKIE, lure), own) == [Code.PADR]


def test_floods_from_strangers_change_nothing() -> None:
    field = Field(3)
    field.dial_all()
    field.run(1)
    field.fleet.dial(2, field.now)
    field.fleet.hang_up(2, field.now)
    field.run(5)
    before = [member.session.place for _, member in field.fleet]
    tags = pppoe.encode_tags([Tag(TagType.AC_NAME, b"evil"), Tag(TagType.SERVICE_NAME)])
    for count in range(3000):
        source = STRANGER[:4] + count.to_bytes(2, "big")
        for dst in (own_mac(count % 3), BROADCAST):
            guess = pppoe.encode_tags([Tag(TagType.HOST_UNIQ, field.random.randbytes(12))])
            field.inject(source, dst, PppoePacket(Code.PADO, 0, tags + guess))
            field.inject(source, dst, PppoePacket(Code.PADS, count, tags + guess))
            field.inject(source, dst, PppoePacket(Code.PADT, count % 8, b""))
            field.inject(AC1, dst, PppoePacket(Code.PADT, 4 + count, b""))
    assert [member.session.place for _, member in field.fleet] == before
    assert sum(field.fleet.counters.values()) == 3000 * 8
    assert field.fleet.frames_to_send() == []
    assert len(field.fleet._alarms) < 20


def test_a_flood_of_challenges_does_not_grow_the_heap_of_timers() -> None:
    field = Field(1)
    field.dial_all()
    field.run(1)
    for _ in range(1000):
        field.acs[0].challenge(field.sid(0), field.now)
        field.run(0.01)
    assert len(field.fleet._alarms) < 5
    assert len(field.acs[0]._alarms) < 50


def test_events_tell_the_whole_story() -> None:
    field = Field(1)
    field.dial_all()
    field.run(1)
    field.fleet.hang_up(0, field.now)
    field.run(5)
    states = [event.state for _, _, event in field.events if isinstance(event, StateChanged)]
    assert states == [
        SessionState.DIALLING,
        SessionState.NEGOTIATING,
        SessionState.AUTHENTICATING,
        SessionState.GETTING_ADDRESS,
        SessionState.UP,
        SessionState.HANGING_UP,
        SessionState.DOWN,
    ]
    assert sum(isinstance(event, PppoeOpened) for _, _, event in field.events) == 1
    assert field.ends(0) == [EndKind.HUNG_UP]
    assert field.fleet.idle


# What is in the way of a dial


def test_what_is_not_possible_here_fails_before_a_frame_is_sent_and_is_not_tried_again() -> None:
    in_the_way = {1: Obstacle("No such thing here: use something else.")}
    field = Field(3, obstacles=lambda key, session: in_the_way.get(key))
    field.dial_all()
    field.run(1000)
    assert [member.session.state for _, member in field.fleet] == [UP, FAILED, UP]
    assert field.dials(1) == []
    assert field.ends(1) == [EndKind.NOT_POSSIBLE]
    assert field.fleet.members[1].redial_at is None
    assert [event.end.text for _, key, event in field.events if key == 1 and isinstance(event, Ended)] == [
        "No such thing here: use something else."
    ]
    field.fleet.dial(1, field.now)
    field.run(1)
    assert field.ends(1) == [EndKind.NOT_POSSIBLE] * 2, "whoever dials again is told again"
    in_the_way.clear()
    field.fleet.dial(1, field.now)
    field.run(1)
    assert field.states() == {UP}


def test_what_the_host_lacks_is_looked_for_again_ever_more_seldom() -> None:
    lacks = [True]

    def obstacle(key: int, session: Session) -> None:
        if lacks:
            raise Trouble("There is no network namespace lan: `ip netns add lan`.")

    field = Field(2, obstacles=obstacle)
    field.dial_all()
    field.run(1000)
    assert field.states() == {FAILED}
    assert field.dials(0) == []
    tries = [at for at, key, event in field.events if key == 0 and isinstance(event, Ended)]
    assert set(field.ends(0)) == {EndKind.LOCAL_ERROR}
    waits = [later - earlier for earlier, later in pairwise(tries)]
    assert len(waits) in range(3, 8)
    assert waits == sorted(waits)
    lacks.clear()
    field.run(1000)
    assert field.states() == {UP}


def test_a_session_that_failed_on_the_line_can_fail_here_the_next_time() -> None:
    in_the_way: dict[int, Obstacle] = {}
    field = Field(1, obstacles=lambda key, session: in_the_way.get(key), concentrators=())
    field.dial_all()
    field.run(16)
    assert field.fleet.members[0].reason == EndKind.NO_CONCENTRATOR
    in_the_way[0] = Obstacle("Not here.")
    field.run(16)
    assert field.fleet.members[0].reason == EndKind.NOT_POSSIBLE
    assert field.fleet.next_timer() is None


def test_a_passing_obstacle_is_waited_for_and_holds_up_nobody_else() -> None:
    in_the_way = {0: Obstacle("Still loading.", passing=True)}
    field = Field(2, obstacles=lambda key, session: in_the_way.get(key))
    field.dial_all()
    field.run(3)
    assert [member.session.state for _, member in field.fleet] == [DOWN, UP]
    in_the_way.clear()
    field.run(1)
    assert field.states() == {UP}
    assert field.ends(0) == []


def test_what_is_in_everybodys_way_is_looked_at_now_and_then_and_keeps_their_order() -> None:
    """Not once for each of thousands, over and over."""
    clock: list[Field] = []
    looked: list[int] = []

    def obstacles(key: int, session: Session) -> Obstacle | None:
        looked.append(key)
        return Obstacle("Others go first.", passing=True, for_all=True) if clock[0].now < 1.0 else None

    field = Field(50, obstacles=obstacles)
    clock.append(field)
    field.dial_all()
    field.run(0.99)
    assert field.states() == {DOWN}
    assert {*looked} == {0}
    assert len(looked) <= 1 + 1.0 / obstacle.SOON
    field.run(2)
    assert field.states() == {UP}
    began = [who for _, who, event in field.events if event == StateChanged(SessionState.DIALLING)]
    assert began == [*range(50)]


def test_nobody_is_dialled_while_the_line_is_down() -> None:
    field = Field(3)
    field.fleet.hold()
    field.fleet.dial(0, field.now)
    field.fleet.dial(1, field.now)
    field.run(100)
    assert field.states() == {DOWN}
    assert field.dials() == []
    assert field.fleet.next_timer() is None, "there is nothing to wake up for"
    assert field.fleet.members[0].reason == EndKind.CARD_DOWN
    field.fleet.hang_up(1, field.now)
    field.fleet.release(field.now)
    field.run(1)
    assert [member.session.state for _, member in field.fleet] == [UP, DOWN, DOWN]


# Pacing by what is answered


class Busy(Line):
    """A line to somebody who takes so many frames a second, and lets the others wait."""

    def __init__(self, random: random.Random, capacity: float, delay: float = 0.001) -> None:
        super().__init__(random, LineQuality(delay))
        self._capacity = capacity
        self._free = 0.0

    def put(self, frames: Iterable[bytes], now: float) -> None:
        for frame in frames:
            self._free = max(self._free, now) + 1.0 / self._capacity
            super().put([frame], self._free)


@pytest.mark.parametrize("busy", ["the concentrator", "this host"])
def test_a_rate_set_too_high_costs_neither_frames_nor_time(busy: str) -> None:
    """All at once, half as many frames more are sent, and the first session is up three times as late."""
    count, capacity = 200, 1000.0
    field, sent = Field(count), list[float]()
    slow = Busy(field.random, capacity)
    if busy == "the concentrator":
        field.segment.upstream = slow
    else:
        field.segment.downstream = slow
    field.segment.on_sent = lambda _: sent.append(field.now)
    field.dial_all()
    field.run(20)
    ups = [at for at, _, event in field.events if event == StateChanged(UP)]
    assert len(ups) == count
    assert max(ups) < 20 * count / capacity
    assert sum(at <= max(ups) for at in sent) < 20 * count
    assert not any(isinstance(event, Ended) for _, _, event in field.events)
    assert "sessions at once" in field.fleet.pace.news()
    assert not field.fleet.pace.news(), "once"
    assert LEAST <= field.fleet.at_once < count


def test_who_is_quick_gets_as_many_as_were_asked_for() -> None:
    field = Field(500)
    field.dial_all()
    field.run(1)
    assert field.states() == {UP}
    assert field.fleet.pace.cuts == 0
    assert FIRST + 250 < field.fleet.at_once <= FIRST + 500, "as long as so many were made use of"


def test_what_a_concentrator_took_at_once_says_nothing_of_the_one_that_comes_back() -> None:
    """It may be another one, or have all to do at once that it does one after the other else."""
    field = Field(400)
    field.dial_all()
    field.run(10)
    assert field.fleet.at_once > 200
    at_once = 0

    def look() -> None:
        nonlocal at_once
        field._take_events()
        at_once = max(at_once, sum(member.session.state in ON_THE_WAY for _, member in field.fleet))

    for number in range(400):
        field.acs[0].cut(field.sid(number), field.now)
    field.segment.after_step = look
    field.run(0.004)
    assert 0 < at_once <= FIRST
    field.run(5)
    assert field.states() == {UP}
    assert field.fleet.pace.cuts == 0


def test_the_number_does_not_grow_with_sessions_that_come_one_by_one() -> None:
    field = Field(100)
    for number in range(100):
        field.fleet.dial(number, field.now)
        field.run(0.1)
    assert field.states() == {UP}
    assert field.fleet.at_once == FIRST


def test_no_more_come_up_at_once_than_the_operator_allows() -> None:
    field = Field(100, replace(QUICK, max_outstanding=40))
    assert field.fleet.at_once == FIRST
    field.dial_all()
    field.run(2)
    assert field.fleet.at_once == 40


def test_a_concentrator_that_takes_its_time_is_not_overloaded() -> None:
    field = Field(200)
    field.segment.downstream = Busy(field.random, 1e6, delay=0.08)
    field.dial_all()
    field.run(5)
    assert field.states() == {UP}
    assert field.fleet.pace.cuts == 0
    assert not field.fleet.pace.news()


class SlowHost:
    """A fleet on a host that takes its time for each frame; those that come meanwhile wait."""

    def __init__(self, fleet: Fleet, seconds: float) -> None:
        self._fleet = fleet
        self._seconds = seconds
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._free = 0.0
        self.longest = 0.0
        """For how long a frame had to wait."""

    def receive(self, frame: bytes, now: float) -> None:
        self._waiting.append((now, frame))

    def handle_timer(self, now: float) -> None:
        if self._waiting and now >= self._free:
            came, frame = self._waiting.popleft()
            self.longest = max(self.longest, now - came)
            self._fleet.receive(frame, now)
            self._free = now + self._seconds
        self._fleet.handle_timer(now, self._waiting[0][0] if self._waiting else now)

    def next_timer(self) -> float | None:
        if self._waiting:
            return self._free
        due = self._fleet.next_timer()
        return due if due is None else max(due, self._free)

    def frames_to_send(self) -> list[bytes]:
        return self._fleet.frames_to_send()


@pytest.mark.parametrize("milliseconds", [1, 3])
def test_a_slow_host_dials_what_it_can_and_asks_nobody_twice(milliseconds: int) -> None:
    """What waits here for its turn has come: it is no reason to ask again, nor is there time for more dials."""
    count, field = 200, Field(200)
    host = field.segment.fleet = SlowHost(field.fleet, milliseconds / 1000)
    sent = list[float]()
    field.segment.on_sent = lambda _: sent.append(field.now)
    field.dial_all()
    field.run(20)
    assert field.states() == {UP}
    assert len(field.dials()) == count, "nobody had to begin anew"
    ups = [at for at, _, event in field.events if event == StateChanged(UP)]
    assert sum(at <= max(ups) for at in sent) < 12 * count, "nor to ask again"
    assert len(ups) == count
    assert max(ups) < 1.3 * count * 13 * milliseconds / 1000
    assert host.longest < 0.25, "the concentrator would ask again"


def test_a_host_that_is_hardly_ever_idle_dials_all_the_same() -> None:
    """As under a flood of frames that are for nobody."""
    field = Field(64)
    host = field.segment.fleet = SlowHost(field.fleet, 0.01)
    packet = pppoe.encode(PppoePacket(Code.SESSION, 7, b""))
    junk = ethernet.encode(EthernetFrame(own_mac(1), STRANGER, ETH_PPPOE_SESSION, packet))
    field.dial_all()
    for _ in range(300):
        for _ in range(6):
            host.receive(junk, field.now)
        field.run(0.1)
    assert field.states() == {UP}


def test_who_comes_up_late_was_slow() -> None:
    """A concentrator that takes longer than a session counts is not thought of as quick."""
    pace, now = Pace(), 0.0
    for key in range(16):
        pace.begun(key, now)
        pace.up(key, now + 0.1)
    for key in range(16, 48):
        pace.begun(key, now)
    assert pace.full_until(3.0) is None, "they don't count any more"
    for key in range(16, 48):
        pace.up(key, 4.0)
    assert pace.cuts >= 1


def test_a_concentrator_that_has_become_slow_for_good_is_dialled_by_what_it_does_now() -> None:
    pace, now, key = Pace(), 0.0, 0

    def rounds(many: int, took: float) -> None:
        nonlocal now, key
        for _ in range(many):
            for each in range(16):
                pace.begun(key + each, now)
            now += took
            for each in range(16):
                pace.up(key + each, now)
            key += 16

    rounds(2, 0.1)
    rounds(6, 1.0)
    cuts, window = pace.cuts, pace.window
    assert cuts
    rounds(10, 1.0)
    assert pace.cuts == cuts, "it is as quick as it is"
    assert pace.window > window
