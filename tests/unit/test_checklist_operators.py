"""The protocol checklist, "What operators of many sessions run into": the lines that belong to the core."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from engine.api.ending import EndKind
from engine.api.values import SessionState
from engine.record.describe import describe
from engine.sessions.redial import RULES
from engine.sessions.session import ECHOES, PppoeOpened, Session
from engine.settings.values import DialSettings, KeepaliveSettings
from engine.wire.control import Code
from engine.wire.ppp import Protocol
from engine.wire.pppoe import Tag, TagType

from .peer import AC, OWN, SETTINGS, SID, Peer

KEEPALIVE = replace(SETTINGS, keepalive=KeepaliveSettings(10.0, 3))


def test_the_four_keys_are_known_before_the_first_packet_of_lcp() -> None:
    """So that whoever notes them on disk can do it in time."""
    peer = Peer()
    peer.to_padr()
    peer._collect = lambda: None  # type: ignore[method-assign]
    peer.pads()
    events = []
    while (event := peer.session.next_event()) is not None:
        events.append(event)
    (opened,) = [event for event in events if isinstance(event, PppoeOpened)]
    assert (opened.place.own_mac, opened.place.peer_mac, opened.place.session_id) == (OWN, AC, SID)
    assert len(peer.session.frames_to_send()) == 1


def test_an_old_padt_does_not_kill_the_new_session() -> None:
    peer = Peer()
    peer.up()
    peer.padt()
    peer.sid = SID + 1
    peer.up()
    peer.padt(sid=SID)
    assert peer.session.state is SessionState.UP


def test_unanswered_echoes_end_the_session() -> None:
    peer = Peer(KEEPALIVE)
    peer.up()
    peer.sleep(39)
    assert len(peer.heard_of(Protocol.LCP, Code.ECHO_REQUEST)) == 3
    peer.sleep(10)
    assert [end.kind for end in peer.ends] == [EndKind.ECHO_TIMEOUT]
    assert peer.ends[0].was_up


@pytest.mark.parametrize("sign", ["echo reply", "echo request", "data"])
def test_received_data_resets_the_miss_count(sign: str) -> None:
    peer = Peer(KEEPALIVE)
    peer.up()
    for _ in range(20):
        peer.sleep(20)
        requests = peer.heard_of(Protocol.LCP, Code.ECHO_REQUEST)
        if sign == "echo reply":
            peer.lcp(Code.ECHO_REPLY, requests[-1].identifier, bytes(4))
        elif sign == "echo request":
            peer.lcp(Code.ECHO_REQUEST, 1, bytes(4))
        else:
            peer.session.note_traffic(peer.now)
    assert peer.session.state is SessionState.UP


def test_the_keepalive_can_be_turned_off() -> None:
    peer = Peer(replace(SETTINGS, keepalive=KeepaliveSettings(0)))
    peer.up()
    assert peer.session.next_timer() is None


@pytest.mark.parametrize(
    "text",
    [
        "Too many sessions",
        "PPPoE session limit reached",
        "too many connections from this MAC address",
        "Maximum number of sessions exceeded",
        "no more sessions available",
    ],
)
def test_a_refusal_for_a_limit_is_told_from_others_and_slows_down(text: str) -> None:
    peer = Peer()
    peer.to_padr()
    peer.pads(Tag(TagType.AC_SYSTEM_ERROR, text.encode()), sid=0)
    assert [end.kind for end in peer.ends] == [EndKind.TOO_MANY]
    slow, ordinary = RULES[EndKind.TOO_MANY], RULES[EndKind.NO_ANSWER]
    assert slow is not None
    assert ordinary is not None
    assert slow.first > ordinary.first


def test_every_kind_of_end_has_a_rule() -> None:
    assert set(RULES) == set(EndKind)


def test_defaults_retry_for_ever_with_a_cap() -> None:
    assert DialSettings().retry_max > DialSettings().retry_min > 0


def test_the_password_is_in_no_text() -> None:
    peer = Peer()
    peer.up()
    assert "wonderland" not in repr(peer.session.settings)
    assert "wonderland" not in str(peer.session.facts.by_name)


def test_hanging_up_at_any_time_leaves_nothing_running() -> None:
    for step in range(6):
        peer = Peer()
        moves = [
            peer.dial,
            peer.pado,
            peer.pads,
            peer.open_lcp,
            peer.open_ipcp,
        ]
        for move in moves[:step]:
            move()
        peer.hang_up()
        peer.sleep(10)
        assert peer.session.state is SessionState.DOWN
        assert peer.session.next_timer() is None
        assert [end.kind for end in peer.ends] == ([EndKind.HUNG_UP] if step else [])


def test_a_session_can_be_dialled_again_and_again() -> None:
    peer = Peer()
    for _ in range(5):
        peer.up()
        peer.hang_up()
        peer.sleep(10)
        assert peer.session.place is None
    assert isinstance(peer.session, Session)


def test_a_long_life_of_echoes_leaves_the_set_up_in_the_ladder() -> None:
    peer = Peer()
    peer.up()
    for _ in range(500):
        peer.lcp(Code.ECHO_REQUEST, 7, b"\x11\x22\x33\x44")
    summaries = [describe(seen.frame).summary for seen in peer.session.ladder()]
    assert summaries[0].startswith("PADI")
    assert 0 < sum("Echo" in summary for summary in summaries) <= ECHOES
