"""Sessions that another process had up go on: the concentrator can't tell, and nothing is negotiated again."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from engine.api.commands import Dial, HangUp, Redial
from engine.api.values import SessionState
from engine.lab.concentrator import LabSettings
from engine.lab.line import Segment
from engine.pppoe.concentrator import ConcentratorSettings
from engine.sessions.fleet import SHARE
from engine.sessions.session import PppoeOpened, Session
from engine.sessions.settled import KeptMember, SettledSession
from engine.settings.values import AuthMethod, KeepaliveSettings, MacPolicy, SessionSettings, VlanTag
from engine.wire import auth
from engine.wire.control import Code, Option
from engine.wire.ppp import Protocol

from .peer import MAGIC, OWN, SETTINGS, Peer
from .supervisor.world import World, session
from .test_session_cells import GOOD, HAPPENINGS, ONLY_LCP

LCP, IPCP, IPV6CP = Protocol.LCP, Protocol.IPCP, Protocol.IPV6CP


def as_told(settled: SettledSession) -> SettledSession:
    """As the next process reads it."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(settled), type=SettledSession)


def successor(peer: Peer, settings: SessionSettings | None = None) -> Peer:
    """The same concentrator and line, and another process with the session; the first one is as it was."""
    settled = peer.session.settled
    assert settled is not None
    it = Peer(settings or peer.session.settings, vlans=peer.vlans, seed=99)
    it.now, it.sid = peer.now, peer.sid
    assert it.session.resumes(as_told(settled))
    it.session.resume(as_told(settled), it.now)
    it._collect()
    it._history[:0] = peer._history
    return it


def up(*, ipv6: bool = False, ipv4: bool = True, proof: AuthMethod | None = None, **settings: object) -> Peer:
    """A session some time after it came up, so that nothing it hears passes for a duplicate."""
    peer = Peer(replace(SETTINGS, ipv6=ipv6, **settings))  # type: ignore[arg-type]
    peer.open_network(proof)
    if ipv4:
        peer.open_ipcp()
    else:
        peer.control(LCP, Code.PROTOCOL_REJECT, 9, b"\x80\x21\1\1\0\4")
    if ipv6:
        peer.open_ipv6cp()
    assert peer.session.state is SessionState.UP
    peer.sleep(5.0)
    peer.heard()
    return peer


KINDS = {
    "IPv4": {},
    "both": {"ipv6": True},
    "IPv6": {"ipv6": True, "ipv4": False},
    "CHAP": {"proof": AuthMethod.CHAP},
    "PAP": {"proof": AuthMethod.PAP},
}


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_up_at_once_and_says_nothing(kind: str) -> None:
    before = up(**KINDS[kind])  # type: ignore[arg-type]
    after = successor(before)
    ours, theirs = after.session, before.session
    assert ours.state is SessionState.UP
    assert after.heard() == []
    for name in ("place", "ac_name", "ipv4", "ipv6", "mtu", "rtt", "steps", "lack"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert {name: fact.texts for name, fact in ours.facts.by_name.items()} == {
        name: fact.texts for name, fact in theirs.facts.by_name.items()
    }
    assert [event.resumed for event in after.events if isinstance(event, PppoeOpened)] == [True]
    assert as_told(ours.settled) == theirs.settled if ours.settled is not None else False


def said(peer: Peer) -> list[tuple[int, int, int, bytes]]:
    """What a session has said since the last call; all zeros for what is no PPP."""
    return [
        (it.protocol, it.control.code, it.control.identifier, it.control.data) if it.in_session else (0, 0, 0, b"")
        for it in peer.heard()
    ]


@example("both", [(IPCP, "RCA"), (LCP, "TO+")])
@given(
    kind=st.sampled_from(["IPv4", "both"]),
    happenings=st.lists(st.tuples(st.sampled_from([LCP, IPCP, IPV6CP]), st.sampled_from([*HAPPENINGS])), max_size=8),
)
def test_it_answers_as_the_one_before_would(kind: str, happenings: list[tuple[int, str]]) -> None:
    """Word for word, as long as nothing is negotiated anew: that has new magic numbers, and the same packets."""
    # Without a keepalive, whose first Echo-Request comes by chance.
    before = up(keepalive=KeepaliveSettings(0.0, 3), **KINDS[kind])  # type: ignore[arg-type]
    after = successor(before)
    renewed = False
    for number, happening in happenings:
        if (happening in ONLY_LCP and number != LCP) or (number == IPV6CP and kind == "IPv4"):
            continue
        HAPPENINGS[happening](before, number)
        HAPPENINGS[happening](after, number)
        told, meant = said(after), said(before)
        renewed |= any(code == Code.CONFIGURE_REQUEST for _, code, _, _ in meant)
        if renewed:
            assert [each[:3] for each in told] == [each[:3] for each in meant]
        else:
            assert told == meant
        assert after.session.state is before.session.state
        assert [end.kind for end in after.ends] == [end.kind for end in before.ends]


def test_an_echo_has_the_magic_number_that_was_agreed_on() -> None:
    before = up()
    magic = next(option.value for option in before.session.settled.link.lcp.ours if len(option.value) == 4)  # type: ignore[union-attr]
    after = successor(before)
    after.lcp(Code.ECHO_REQUEST, 7, MAGIC + b"data")
    (reply,) = after.heard_of(LCP, Code.ECHO_REPLY)
    assert reply.data == magic + b"data"


def test_a_concentrator_that_lost_the_session_is_found_out() -> None:
    """Nobody answers our Echo-Requests."""
    after = successor(up())
    keepalive = SETTINGS.keepalive
    after.sleep(keepalive.interval)
    assert after.heard_of(LCP, Code.ECHO_REQUEST), "the first one goes out within an interval"
    after.sleep(keepalive.interval * (keepalive.failures + 1))
    assert after.session.state is SessionState.FAILED


def test_it_proves_itself_again_when_it_is_asked() -> None:
    after = successor(up(proof=AuthMethod.CHAP))
    after.challenge(identifier=9, value=bytes(16))
    (response,) = after.heard_of(Protocol.CHAP, auth.ChapCode.RESPONSE)
    assert response.identifier == 9
    after.control(Protocol.CHAP, auth.ChapCode.FAILURE, 9, b"not any more")
    assert "not any more" in after.ends[0].text if after.ends else after.session.state is SessionState.HANGING_UP


def test_what_would_not_come_up_is_tried_again() -> None:
    after = successor(up(ipv6=True, ipv4=False))
    assert after.session.lack == "without IPv4: the peer rejects the protocol"
    after.sleep(31.0)
    assert after.heard_of(IPCP, Code.CONFIGURE_REQUEST)
    after.open_ipcp()
    assert after.session.ipv4 is not None


def test_what_is_being_negotiated_is_negotiated_anew() -> None:
    before = Peer(replace(SETTINGS, ipv6=True))
    before.open_network()
    before.open_ipcp()
    before.request(IPV6CP, GOOD[IPV6CP])
    after = successor(before)
    assert [packet.code for packet in after.heard_of(IPV6CP)] == [Code.CONFIGURE_REQUEST]
    after.open_ipv6cp()
    assert after.session.ipv6 is not None


def test_an_identifier_that_nobody_heard_is_negotiated_anew() -> None:
    """The concentrator rejected the option: nothing that was agreed on tells which identifier is ours."""
    before = Peer(replace(SETTINGS, ipv6=True))
    before.open_network()
    before.open_ipcp()
    latest = before.latest(IPV6CP, Code.CONFIGURE_REQUEST)
    before.control(IPV6CP, Code.CONFIGURE_REJECT, latest.identifier, latest.data)
    before.open_ipv6cp()
    assert before.session.ipv6 is not None
    after = successor(before)
    assert after.session.ipv6 is None
    assert [packet.code for packet in after.heard_of(IPV6CP)] == [Code.CONFIGURE_REQUEST]


@pytest.mark.parametrize("option", [Option(1, b"\x05\xd4"), Option(5, b"")])
def test_options_of_lcp_that_were_rejected_stay_away(option: Option) -> None:
    """A peer without magic numbers gets zeros in their place (RFC 1661 section 6.4)."""
    before = Peer()
    before.open_pppoe()
    latest = before.latest(LCP, Code.CONFIGURE_REQUEST)
    asked = [each for each in (Option(1, b"\x05\xd4"), Option(5, latest.data[-4:])) if each.type == option.type]
    before.answer(LCP, Code.CONFIGURE_REJECT, *asked)
    before.open_lcp()
    before.open_ipcp()
    after = successor(before)
    after.lcp(Code.ECHO_REQUEST, 7, MAGIC)
    (reply,) = after.heard_of(LCP, Code.ECHO_REPLY)
    assert any(reply.data) == (option.type == 1)
    after.now += 5
    after.request(LCP, *after.lcp_options())
    (request,) = after.heard_of(LCP, Code.CONFIGURE_REQUEST)
    assert len(request.data) == 10, "it is a new negotiation, in which we ask for both again"


def test_only_a_session_that_is_up_and_at_rest_is_told_of() -> None:
    peer = Peer()
    assert peer.session.settled is None
    peer.open_network()
    assert peer.session.settled is None
    peer.open_ipcp()
    assert peer.session.settled is not None
    peer.hang_up()
    assert peer.session.settled is None


@pytest.mark.parametrize(
    "changed", [{"user": "bob"}, {"service": "gold"}, {"vlans": (VlanTag(7),)}], ids=["user", "service", "VLAN"]
)
def test_with_other_settings_it_is_another_session(changed: dict[str, object]) -> None:
    settled = up().session.settled
    assert settled is not None
    other = Session(replace(SETTINGS, **changed), OWN, bytes)  # type: ignore[arg-type]
    assert not other.resumes(settled)
    assert not Session(SETTINGS, bytes(6), bytes).resumes(settled), "with another address, too"
    assert Session(replace(SETTINGS, password="other"), OWN, bytes).resumes(settled)


# Whole fleets


def next_world(world: World, settings: list[SessionSettings]) -> World:
    """Another process on the same line, card and disk, with what the first one had up."""
    world.supervisor.part(world.now)
    world.run(0.1)
    kept = world.supervisor.fleet.keep()
    told = msgspec.msgpack.decode(msgspec.msgpack.encode(kept), type=list[KeptMember])
    after = World(settings, ghosts=[*world.disk.noted])
    after.concentrator = world.concentrator
    after.segment = Segment(after.cable, [world.concentrator], random.Random(3))
    after.segment.now = world.now
    after.supervisor.open(after.now, told)
    return after


def some(count: int = 10) -> list[SessionSettings]:
    keepalive = KeepaliveSettings(2.0, 3)
    return [
        session(f"s{n}", keepalive=keepalive, mac_policy=MacPolicy.DERIVED if n % 2 else MacPolicy.CARD)
        for n in range(count)
    ]


def test_a_fleet_goes_on() -> None:
    settings = some()
    first = World(settings, lab=LabSettings(any_account=True, any_password="lab")).open()
    first.until(lambda: first.states() == {SessionState.UP})
    first.do(HangUp((3,)))
    first.run(1.0)
    before = {view.name: view for view in first.supervisor.board.views}
    # In another order, without one, and with a new one before them.
    after = next_world(first, [session("new"), *reversed(settings[1:])])
    views = {view.name: view for view in after.supervisor.board.views}
    after.run(0.1)
    for name in set(before) - {"s0", "s3"}:
        for what in ("id", "state", "ipv4", "ipv6", "session_id", "up_since", "flaps", "mtu", "device"):
            assert getattr(views[name], what) == getattr(before[name], what), (name, what)
    assert after.events("taken-over")[0].text == "8 of 9 sessions that the process before had up go on."
    assert views["s3"].state is SessionState.DOWN, "nobody wanted it up"
    assert views["new"].id == len(settings)
    after.run(60.0)
    assert {view.name for view in after.supervisor.board.views if view.state is SessionState.UP} == {
        *views.keys() - {"s3"}
    }
    assert not after.events("session-down"), after.story()
    assert len(after.concentrator.subscribers) == 9, "that of the one without a place got its PADT"
    after.do(Dial((3,)))
    after.do(HangUp((views["s5"].id,)))
    after.run(5.0)
    assert after.state(views["s5"].id) is SessionState.DOWN
    assert len(after.concentrator.subscribers) == 9


def test_what_is_not_up_yet_ends_and_is_dialled_by_the_next() -> None:
    settings = some(4)
    lab = LabSettings(any_account=True, any_password="lab", discovery=ConcentratorSettings(max_sessions=2))
    first = World(settings, lab=lab).open()
    first.run(5.0)
    up = {view.name for view in first.supervisor.board.views if view.state is SessionState.UP}
    assert len(up) == 2
    first.do(Redial(tuple(view.id for view in first.supervisor.board.views if view.name in up)))
    first.until(lambda: SessionState.NEGOTIATING in first.states(), step=0.001)
    after = next_world(first, settings)
    after.run(5.0)
    assert [view.state for view in after.supervisor.board.views].count(SessionState.UP) == 2
    assert len(after.concentrator.subscribers) == 2


def test_a_loop_of_processes_loses_nothing() -> None:
    """Not even where one ends before it has taken over all that there is."""
    settings = some(3 * SHARE)
    world = World(settings).open()
    world.until(lambda: world.states() == {SessionState.UP})
    ids = {view.name: view.session_id for view in world.supervisor.board.views}
    for seconds in (7.0, 0.0, 0.0, 7.0):
        world = next_world(world, settings)
        if seconds:
            world.run(seconds)
            assert [event.text for event in world.events("taken-over")] == [
                f"{len(settings)} of {len(settings)} sessions that the process before had up go on."
            ]
        else:
            assert world.states() == {SessionState.UP, SessionState.DOWN}
            continue
        assert {view.name: view.session_id for view in world.supervisor.board.views} == ids
        assert world.states() == {SessionState.UP}
