"""Thousands of session lifetimes under random faults, in virtual time, with invariants checked at every step.

Sixty sessions on shared and own MAC addresses, with and without VLAN tags, live against two concentrators. Every few
seconds the line becomes better or worse, concentrators do something out of the table of faults, and the operator gives
commands. In the end the faults stop: everyone must come up, and then go down without a trace.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator

import pytest

from engine.api.ending import EndKind
from engine.api.values import SessionState
from engine.lab.concentrator import Concentrator, LabSettings
from engine.lab.faults import FAULTS, REFUSALS
from engine.lab.line import PERFECT, LineQuality, Segment
from engine.pppoe.concentrator import ConcentratorSettings
from engine.sessions.fleet import ON_THE_WAY, Fleet, Match
from engine.sessions.session import SETUP_LIMIT, Ended, PppoeOpened, Session, SessionEvent, StateChanged
from engine.settings.values import AuthMethod, DialSettings, KeepaliveSettings, SessionSettings
from engine.wire import ethernet, pppoe
from engine.wire.control import Option
from engine.wire.errors import WireError
from engine.wire.ethernet import ETH_PPPOE_DISCOVERY, ETH_PPPOE_SESSION, VlanTag

LIFETIMES = int(os.environ.get("SOAK_LIFETIMES", "2000"))
"""More of them: `make soak`."""
SESSIONS = 60
EPOCH = 4.0
DIAL = DialSettings(rate=200.0, max_outstanding=25, retry_min=0.25, retry_max=4.0, max_flaps=3)
METHODS = [method for method in AuthMethod if method is not AuthMethod.NONE]
IDLE = (SessionState.DOWN, SessionState.FAILED)

QUALITIES = (
    PERFECT,
    PERFECT,
    LineQuality(delay=0.02, jitter=0.05),
    LineQuality(delay=0.4),
    LineQuality(loss=0.1),
    LineQuality(loss=0.4, jitter=0.1),
    LineQuality(duplication=0.3),
    LineQuality(duplication=1.0, jitter=0.01),
    LineQuality(corruption=0.1),
    LineQuality(replay=0.2, jitter=0.02),
    LineQuality(delay=0.01, jitter=0.2, loss=0.05, duplication=0.05, corruption=0.02, replay=0.05),
)


class Soak:
    """The segment, and a model of it built from events alone."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.fleet = Fleet(DIAL, self.random.random)
        self.macs: set[bytes] = set()
        for number in range(SESSIONS):
            self.fleet.add(number, self._session(number), 0.0)
        self.acs = [self._concentrator(number) for number in (1, 2)]
        self.segment = Segment(self.fleet, self.acs, self.random)
        self.segment.after_step = self._take_events
        self.segment.on_sent = self._sent
        self.segment.on_received = self._received
        self.lifetimes = 0
        self.ends: Counter[EndKind] = Counter()
        self.ups = 0
        self.places: dict[int, Match] = {}
        """The PADS in force, by session."""
        self.cut: set[Match] = set()
        """Where the concentrator sent a PADT: nothing more may be said there."""
        self.alive: set[int] = set()
        """Sessions that were dialled and have not ended."""
        self.since: dict[int, float] = {}

    def _session(self, number: int) -> Session:
        mac = b"\x02\0\0\0\0" + bytes((0 if number % 3 == 0 else number,))
        self.macs.add(mac)
        settings = SessionSettings(
            f"s{number}",
            user="alice",
            password="wonderland",
            auth=tuple(self.random.sample(METHODS, 3)),
            vlans=((), (VlanTag(7),), (VlanTag(100, tpid=0x88A8), VlanTag(7)))[number % 3],
            mru=1500 if number % 4 == 0 else 1492,
            keepalive=KeepaliveSettings(interval=5.0, failures=3),
        )
        return Session(settings, mac, self.random.randbytes, pado_window=0.05 + 0.05 * (number % 2))

    def _concentrator(self, number: int) -> Concentrator:
        settings = LabSettings(
            ConcentratorSettings(name=f"ac{number}", max_payload=(1492, 1500)[number - 1], max_sessions=50),
            accounts=(("alice", "wonderland"),),
            auth=tuple(self.random.sample(METHODS, 3)),
            network=f"100.6{number}.0.0/16",
            odd_options=(Option(0xC9, b"odd"), Option(2, bytes(4))) if number == 1 else (),
            keepalive=KeepaliveSettings(interval=7.0, failures=3),
        )
        return Concentrator(settings, b"\x02\xac\xac\xac\0" + bytes((number,)), self.random.randbytes)

    # The model

    def _take_events(self) -> None:
        while (item := self.fleet.next_event()) is not None:
            self._note(*item)

    def _note(self, number: int, event: SessionEvent) -> None:
        match event:
            case StateChanged(state):
                self.since[number] = self.segment.now
                if state is SessionState.DIALLING:
                    assert number not in self.alive, "dialled twice without an end in between"
                    self.alive.add(number)
                self.ups += state is SessionState.UP
            case PppoeOpened(keys):
                assert number not in self.places, "a second PADS while one is in force"
                place = keys.own_mac, keys.peer_mac, ethernet.vlan_ids(keys.vlans), keys.session_id
                assert place not in self.places.values(), "two sessions at one place"
                self.places[number] = place
                self.cut.discard(place)
            case Ended(end):
                assert number in self.alive, "an end without a beginning"
                self.alive.remove(number)
                self.places.pop(number, None)
                self.lifetimes += 1
                self.ends[end.kind] += 1
                assert end.text.isprintable()

    def _sent(self, frame: bytes) -> None:
        outer = ethernet.decode(frame)
        assert outer.src in self.macs, "a frame with a MAC address that is not ours"
        assert not ethernet.is_multicast(outer.src)
        packet = pppoe.decode(outer.payload)
        assert len(packet.payload) <= 2 + 1500
        if outer.ethertype == ETH_PPPOE_SESSION:
            place = outer.src, outer.dst, ethernet.vlan_ids(outer.vlans), packet.session_id
            assert place not in self.cut, "a frame after the concentrator's PADT"

    def _received(self, frame: bytes) -> None:
        try:
            outer = ethernet.decode(frame)
            packet = pppoe.decode(outer.payload)
            pppoe.decode_tags(packet.payload)
        except WireError:
            return
        place = outer.dst, outer.src, ethernet.vlan_ids(outer.vlans), packet.session_id
        padt = outer.ethertype == ETH_PPPOE_DISCOVERY and packet.code == pppoe.Code.PADT
        if padt and place in self.places.values():
            self.cut.add(place)

    def check(self) -> None:
        """What must hold whenever nothing is being done."""
        now = self.segment.now
        fleet = self.fleet
        on_the_way = {number for number, member in fleet if member.session.state in ON_THE_WAY}
        looking = {number for number in on_the_way if fleet.members[number].session.state is SessionState.DIALLING}
        assert fleet._outstanding <= on_the_way
        assert on_the_way - fleet._outstanding <= looking, "who was answered counts"
        assert fleet._looking.keys() == looking & fleet._outstanding
        assert all(fleet.members[number].redial_at is not None for number in fleet._in_vain)
        assert len(fleet._outstanding) <= DIAL.max_outstanding + sum(member.up_since is not None for _, member in fleet)
        assert fleet._by_match == {place: number for number, place in self.places.items()}
        assert len(fleet._alarms) <= 4 * SESSIONS, "timers pile up"
        for number, member in fleet:
            session = member.session
            assert (number in self.alive) == (session.state not in IDLE)
            assert (session.place is not None) == (number in self.places)
            if session.state in IDLE:
                assert session.next_timer() is None, "a timer of a session that is down"
                queued = number in self.fleet._queue or number in self.fleet._retries
                assert not member.wanted or queued or member.redial_at is not None, "forgotten"
                assert member.redial_at is None or member.redial_at - now < 10 * DIAL.retry_max * 1.3
            else:
                due = session.next_timer()
                assert due is not None, "nothing will ever move this session on"
                assert due <= now + min(left for _, left in session.timers(now)) + 1e-6, "a timer that nobody sees to"
            if session.state is SessionState.UP:
                assert session.ipv4 is not None or session.ipv6 is not None
            elif session.state in ON_THE_WAY:
                assert now - self.since[number] <= SETUP_LIMIT + 1, "stuck on its way up"
            elif session.state is SessionState.HANGING_UP:
                assert now - self.since[number] <= 10, "stuck on its way down"

    # The faults

    def epoch(self) -> None:
        """A few seconds of trouble."""
        chance = self.random
        self.segment.set_quality(chance.choice(QUALITIES))
        for ac in self.acs:
            ac.discovery.refusal = chance.choice(list(REFUSALS.values())) if chance.random() < 0.05 else None
        for _ in range(4):
            for fault, ac, session_id in list(self._ordered()):
                if session_id in ac.subscribers:
                    FAULTS[fault](ac, session_id, self.segment.now)
            for _ in range(4):
                self._command()
            self.segment.run(self.segment.now + EPOCH / 4)
            self.check()

    def _ordered(self) -> Iterator[tuple[str, Concentrator, int]]:
        for ac in self.acs:
            for session_id in list(ac.subscribers):
                if self.random.random() < 0.25:
                    fault = self.random.choice(list(FAULTS))
                    if fault == "restart" and self.random.random() < 0.9:
                        continue
                    yield fault, ac, session_id
                    if self.random.random() < 0.1:
                        yield "PADT", ac, session_id

    def _command(self) -> None:
        number = self.random.randrange(SESSIONS)
        command = self.random.choice((self.fleet.dial, self.fleet.redial, self.fleet.hang_up))
        command(number, self.segment.now)
        self.fleet.dial(self.random.randrange(SESSIONS), self.segment.now)


@pytest.mark.timeout(600)
def test_thousands_of_lifetimes() -> None:
    soak = Soak(seed=20261123)
    for number in range(SESSIONS):
        soak.fleet.dial(number, 0.0)
    while soak.lifetimes < LIFETIMES:
        soak.epoch()
    assert soak.ups > LIFETIMES / 4
    assert len(soak.ends) >= 8, soak.ends

    # The faults stop: everyone comes up.
    soak.segment.set_quality(PERFECT)
    for ac in soak.acs:
        ac.discovery.refusal = None
    for number in range(SESSIONS):
        soak.fleet.dial(number, soak.segment.now)
    for _ in range(60):
        soak.segment.run(soak.segment.now + 10)
        soak.check()
    assert {member.session.state for _, member in soak.fleet} == {SessionState.UP}
    assert soak.fleet._outstanding == set()
    assert sum(len(ac.subscribers) for ac in soak.acs) == SESSIONS

    # Everyone hangs up: nothing is left.
    for number in range(SESSIONS):
        soak.fleet.hang_up(number, soak.segment.now)
    soak.segment.run(soak.segment.now + 10)
    soak.check()
    assert {member.session.state for _, member in soak.fleet} == {SessionState.DOWN}
    assert soak.fleet.next_timer() is None
    assert soak.places == {}
    assert soak.alive == set()
    assert [ac.next_timer() for ac in soak.acs] == [None, None]
    assert [len(ac.subscribers) for ac in soak.acs] == [0, 0]
