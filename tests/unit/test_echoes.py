"""The short way for LCP echoes tells and does just what the long one does (RFC 1661 section 5.8)."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from engine.ppp.echoes import BEAT
from engine.ppp.link import Link
from engine.ppp.link_events import RoundTrip
from engine.ppp.phases import Phase
from engine.settings.values import KeepaliveSettings
from engine.wire import control, ppp, pppoe
from engine.wire.control import Code, ControlPacket
from engine.wire.ppp import Protocol
from tests.unit.peer import MAGIC, SETTINGS, Peer

OFTEN = replace(SETTINGS, keepalive=KeepaliveSettings(2.0, 5))


def heed(link: Link, packet: bytes, now: float, *, shortly: bool) -> tuple[list[bytes], list[object], bool]:
    """What a link says and tells after a packet, and whether that went the short way."""
    told = link.receive_echo(packet, now) if shortly and packet[:3] in pppoe.ECHOES else None
    if told is None:
        link.receive(packet, now)
    out = [*link.packets_to_send(), *([told] if isinstance(told, bytes) else [])]
    events: list[object] = [told] if isinstance(told, RoundTrip) else []
    while (event := link.next_event()) is not None:
        events.append(event)
    return out, events, told is not None


def state(link: Link, now: float) -> tuple[object, ...]:
    """All that shows of it."""
    return link.rtt, link.silent_since, link.counters, link.phase, link.next_timer(), link.timers(now)


def echo(code: int, identifier: int, data: bytes) -> bytes:
    return ppp.encode(Protocol.LCP, control.encode(ControlPacket(code, identifier, data)))


packets = st.tuples(
    st.sampled_from((Code.ECHO_REQUEST, Code.ECHO_REPLY)),
    st.integers(0, 6),
    st.sampled_from((MAGIC, MAGIC, b"own", bytes(4), b"", b"\1\2")),
    st.binary(max_size=70),
    st.sampled_from((0, 0, 0, -1, 1, 300)),
    st.sampled_from((b"", b"", b"\0" * 9)),
)
"""Code, identifier, magic number, data, by how much Length is wrong, and what comes behind it."""
steps = st.lists(st.tuples(st.sampled_from((0.0, 0.1, 2.0, 3.5)), packets), max_size=30)


@given(steps)
def test_the_short_way_for_echoes_is_the_long_one(
    steps: list[tuple[float, tuple[int, int, bytes, bytes, int, bytes]]],
) -> None:
    peers = short, long = Peer(OFTEN), Peer(OFTEN)
    for peer in peers:
        peer.up()
    for wait, (code, identifier, magic, data, wrong, behind) in steps:
        own = short.link._options.magic
        packet = bytearray(echo(code, identifier, (own if magic == b"own" else magic) + data))
        packet[4:6] = (int.from_bytes(packet[4:6], "big") + wrong).to_bytes(2, "big")
        for peer in peers:
            peer.sleep(wait)
        if short.session.place is None:
            break
        said = [heed(peer.link, bytes(packet) + behind, peer.now, shortly=peer is short)[:2] for peer in peers]
        assert said[0] == said[1]
        assert state(short.link, short.now) == state(long.link, long.now)
        assert (short.link.phase is Phase.NETWORK) == (short.lcp_state.name == "OPENED")
    assert short.heard() == long.heard()


def test_keepalives_go_the_short_way() -> None:
    peer = Peer(OFTEN)
    peer.up()
    peer.heard()
    peer.sleep(2.0)
    (asked,) = peer.heard_of(Protocol.LCP, Code.ECHO_REQUEST)
    *_, shortly = heed(peer.link, echo(Code.ECHO_REPLY, asked.identifier, MAGIC), peer.now + 0.1, shortly=True)
    assert shortly
    assert peer.session.rtt == pytest.approx(0.1)
    out, _, shortly = heed(peer.link, echo(Code.ECHO_REQUEST, 9, MAGIC + b"data"), peer.now, shortly=True)
    assert shortly
    assert out == [echo(Code.ECHO_REPLY, 9, peer.link._options.magic + b"data")]


def test_echoes_are_none_of_the_short_way_s_before_the_link_is_up() -> None:
    peer = Peer(OFTEN)
    peer.open_pppoe()
    assert peer.link.receive_echo(echo(Code.ECHO_REQUEST, 1, MAGIC), peer.now) is None
    peer.open_lcp()
    assert peer.link.phase is not Phase.DEAD
    if peer.link.phase is not Phase.NETWORK:
        assert peer.link.receive_echo(echo(Code.ECHO_REQUEST, 1, MAGIC), peer.now) is None


@pytest.mark.parametrize("interval", [0.01, BEAT, 0.3, 1.0, 7.3])
def test_echo_requests_are_neither_later_each_time_nor_all_at_once(interval: float) -> None:
    peer = Peer(replace(SETTINGS, keepalive=KeepaliveSettings(interval, 100)))
    peer.up()
    peer.heard()
    sent: list[float] = []
    for _ in range(10):
        due = peer.session.next_timer()
        assert due is not None
        peer.now = due + 0.01  # the loop is never there in time
        peer.sleep(0.0)
        sent.append(due)
        for request in peer.heard_of(Protocol.LCP, Code.ECHO_REQUEST):
            peer.lcp(Code.ECHO_REPLY, request.identifier, MAGIC)
    apart = [later - earlier for earlier, later in pairwise(sent)]
    assert all(max(BEAT, interval - BEAT / 2) <= each <= max(BEAT, interval + BEAT / 2) for each in apart)
