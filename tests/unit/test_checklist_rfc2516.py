"""The protocol checklist, "RFC 2516: PPPoE", with RFC 4638 and TR-101, line by line."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from engine.api.ending import End, EndKind
from engine.api.values import SessionState
from engine.ppp.automaton import State
from engine.ppp.lcp import AUTH_VALUES
from engine.ppp.link_events import MtuVerified, Notice
from engine.pppoe.client import MAX_OFFERS
from engine.sessions.session import PppoeOpened
from engine.settings.values import AcFilter, AuthMethod, KeepaliveSettings, LineId, SessionSettings
from engine.wire import control, ethernet, ppp, pppoe
from engine.wire.control import Code as Lcp
from engine.wire.control import ControlPacket, LcpOption, Option
from engine.wire.ethernet import BROADCAST, ETH_PPPOE_DISCOVERY, ETH_PPPOE_SESSION, VlanTag
from engine.wire.place import Place
from engine.wire.ppp import Protocol
from engine.wire.pppoe import Code, PppoePacket, Tag, TagType

from .peer import AC, COOKIE, MAGIC, OWN, SETTINGS, SID, STRANGER, Heard, Peer

BIG = replace(SETTINGS, mru=1500)
PAYLOAD_1500 = Tag(TagType.PPP_MAX_PAYLOAD, b"\x05\xdc")
ECHO = ppp.encode(Protocol.LCP, control.encode(ControlPacket(Lcp.ECHO_REQUEST, 1, MAGIC)))


def codes(peer: Peer) -> list[int]:
    return [heard.packet.code for heard in peer.heard()]


def values(heard: Heard, kind: TagType) -> list[bytes]:
    return [tag.value for tag in heard.tags if tag.type == kind]


# 1


@pytest.mark.parametrize("first", [0x00, 0x10, 0x01, 0x12, 0x21, 0xFF])
def test_01_version_and_type_are_1(first: int) -> None:
    peer = Peer()
    peer.up()
    frame = bytearray(OWN + AC + b"\x88\x64" + pppoe.encode(PppoePacket(Code.SESSION, SID, ECHO)))
    frame[14] = first
    peer.frame(bytes(frame))
    assert peer.heard() == []
    assert peer.discarded("bad version") == 1


@pytest.mark.parametrize("sid", [0x0000, 0xFFFF])
def test_01_reserved_session_ids_are_never_used(sid: int) -> None:
    """A PADS with one refuses the session, although it should say so in an error tag (section 5.4)."""
    peer = Peer()
    peer.to_padr()
    peer.heard()
    peer.pads(sid=sid)
    peer.sleep(20)
    assert peer.session.place is None
    assert peer.heard() == []
    (end,) = peer.ends
    assert end == End(EndKind.REFUSED, f"ac1 refused the session: its PADS has session id {sid:#x}, and no reason.")


def test_01_what_follows_length_is_not_ppp() -> None:
    peer = Peer()
    peer.up()
    peer.ppp(ECHO, padding=bytes(60) + b"\xc0\x21\x09\x02\x00\x08\0\0\0\0")
    (reply,) = peer.heard_of(Protocol.LCP)
    assert reply.data[4:] == b""


@pytest.mark.parametrize("length", [11, 0xFFFF])
def test_01_a_length_past_the_frame_drops_it(length: int) -> None:
    peer = Peer()
    peer.up()
    frame = bytearray(OWN + AC + b"\x88\x64" + pppoe.encode(PppoePacket(Code.SESSION, SID, ECHO)))
    frame[18:20] = length.to_bytes(2, "big")
    peer.frame(bytes(frame))
    assert peer.heard() == []
    assert peer.discarded("bad length") == 1


# 2


def test_02_unknown_and_zero_length_tags_are_no_trouble() -> None:
    peer = Peer()
    peer.dial()
    peer.pado(Tag(0x7777, b"what?"), Tag(0x7778), Tag(TagType.VENDOR_SPECIFIC), Tag(TagType.RELAY_SESSION_ID))
    peer.pads(Tag(0x7777, b"what?"), Tag(0x7778))
    assert peer.session.place == Place(OWN, AC, SID)


BROKEN_TAG = b"\x01\x02\x00\x09short"


@pytest.mark.parametrize("code", [Code.PADO, Code.PADS])
def test_02_a_tag_past_length_drops_the_frame(code: Code) -> None:
    peer = Peer()
    peer.dial()
    if code != Code.PADO:
        peer.pado()
    before = peer.session.state
    peer.heard()
    broken = pppoe.encode_tags(peer.offer_tags()) + BROKEN_TAG
    peer.say(ETH_PPPOE_DISCOVERY, PppoePacket(code, 0 if code == Code.PADO else SID, broken))
    assert peer.heard() == []
    assert peer.session.state is before
    assert peer.discarded("bad tag") == 1


def test_02_a_padt_with_broken_tags_ends_the_session_all_the_same() -> None:
    peer = Peer()
    peer.up()
    peer.say(ETH_PPPOE_DISCOVERY, PppoePacket(Code.PADT, SID, BROKEN_TAG))
    assert [end.text for end in peer.ends] == ["The concentrator ended the session (PADT)."]
    assert peer.heard() == [], "not one more frame"


# 3


def test_03_the_padi() -> None:
    peer = Peer(replace(SETTINGS, service="internet"))
    peer.dial()
    (padi,) = peer.heard()
    assert (padi.outer.dst, padi.outer.src, padi.outer.ethertype) == (BROADCAST, OWN, ETH_PPPOE_DISCOVERY)
    assert (padi.packet.code, padi.packet.session_id) == (Code.PADI, 0)
    assert values(padi, TagType.SERVICE_NAME) == [b"internet"]
    assert len(values(padi, TagType.HOST_UNIQ)) == 1


def test_03_the_longest_padi_leaves_room_for_a_relay() -> None:
    """With every text as long as the configuration lets it be."""
    line = LineId("c" * 63, "r" * 63)
    peer = Peer(replace(BIG, service="s" * 255, line_id=line))
    peer.dial()
    (padi,) = peer.heard()
    assert len(pppoe.encode(padi.packet)) <= 1484, "the whole packet, its header too"


# 4


@pytest.mark.parametrize("missing", [TagType.AC_NAME, TagType.SERVICE_NAME, TagType.HOST_UNIQ])
def test_04_a_pado_without_one_of_its_tags_is_taken_for_what_it_means(missing: TagType) -> None:
    peer = Peer(replace(SETTINGS, service="gold"))
    peer.dial()
    peer.heard()
    peer.discovery(Code.PADO, [tag for tag in peer.offer_tags() if tag.type != missing])
    assert codes(peer) == [Code.PADR]
    peer.pads()
    assert peer.session.place is not None


def test_04_a_pado_needs_the_service_asked_for() -> None:
    peer = Peer(replace(SETTINGS, service="gold"))
    peer.dial()
    peer.heard()
    peer.pado(service="silver")
    assert peer.heard() == []
    peer.pado(Tag(TagType.SERVICE_NAME, b"gold"), service="silver")
    assert codes(peer) == [Code.PADR]


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        (AcFilter(name="ac2"), STRANGER),
        (AcFilter(mac=STRANGER), STRANGER),
        (AcFilter(name="ac1", mac=STRANGER), None),
        (AcFilter(name="AC1"), None),
        (AcFilter(), AC),
    ],
)
@pytest.mark.parametrize("window", [0.0, 0.5])
def test_04_the_concentrator_is_chosen_by_name_and_mac(wanted: AcFilter, chosen: bytes | None, window: float) -> None:
    peer = Peer(replace(SETTINGS, ac=wanted), pado_window=window)
    peer.dial()
    peer.heard()
    peer.pado(name="ac1")
    peer.pado(name="ac2", src=STRANGER)
    peer.sleep(0.9)
    assert [heard.outer.dst for heard in peer.heard()] == ([chosen] if chosen else [])


def test_04_nobody_wanted_answers() -> None:
    peer = Peer(replace(SETTINGS, ac=AcFilter(name="other")))
    peer.dial()
    peer.pado()
    peer.sleep(20)
    (end,) = peer.ends
    assert end.kind is EndKind.NONE_WANTED
    assert peer.session.state is SessionState.FAILED
    assert "ac1 (02:ac:ac:ac:00:01)" in end.text


def test_04_offers_are_collected_in_the_window_and_the_first_of_equals_is_taken() -> None:
    peer = Peer(pado_window=0.5)
    peer.dial()
    peer.heard()
    began = peer.now
    peer.pado(src=STRANGER)
    peer.sleep(0.4)
    peer.pado(src=AC)
    assert peer.heard() == []
    peer.sleep(0.4)
    (padr,) = peer.heard()
    assert (padr.packet.code, padr.outer.dst, padr.at - began) == (Code.PADR, STRANGER, pytest.approx(0.5))


def test_04_exactly_the_service_asked_for_goes_before_any_other() -> None:
    peer = Peer(pado_window=0.5)
    peer.dial()
    peer.heard()
    peer.pado(service="something else", src=STRANGER)
    peer.pado(service="", src=AC)
    peer.sleep(0.6)
    assert [heard.outer.dst for heard in peer.heard()] == [AC]


def test_04_the_payload_asked_for_goes_before_a_smaller_one() -> None:
    peer = Peer(BIG, pado_window=0.5)
    peer.dial()
    peer.heard()
    peer.pado(src=STRANGER)
    peer.pado(PAYLOAD_1500, src=AC)
    peer.sleep(0.6)
    assert [heard.outer.dst for heard in peer.heard()] == [AC]


def test_04_a_concentrator_that_refused_is_taken_only_if_it_is_the_only_one() -> None:
    peer = Peer(pado_window=0.5)
    for expected, others in ((AC, True), (STRANGER, True), (AC, False)):
        peer.dial()
        peer.heard()
        peer.pado(src=AC)
        if others:
            peer.pado(src=STRANGER)
        peer.sleep(0.6)
        (padr,) = peer.heard()
        assert padr.outer.dst == expected
        peer.pads(Tag(TagType.AC_SYSTEM_ERROR, b"full"), sid=0, src=expected)


def test_04_by_mac_there_is_nothing_to_wait_for() -> None:
    peer = Peer(replace(SETTINGS, ac=AcFilter(mac=AC)), pado_window=0.5)
    peer.dial()
    peer.heard()
    peer.pado()
    assert codes(peer) == [Code.PADR]


def test_04_a_flood_of_offers_is_bounded() -> None:
    peer = Peer(pado_window=0.5)
    peer.dial()
    for number in range(1000):
        peer.pado(src=b"\x02\0\0\0" + number.to_bytes(2, "big"))
    assert peer.discarded("surplus PADO") == 1000 - MAX_OFFERS
    peer.sleep(1)
    assert codes(peer) == [Code.PADI, Code.PADR]


# 5


@pytest.mark.parametrize("cookie", [b"", b"\0", bytes(range(256)) * 2])
def test_05_cookie_and_relay_id_are_copied_unmodified(cookie: bytes) -> None:
    peer = Peer()
    peer.dial()
    relay = Tag(TagType.RELAY_SESSION_ID, b"\xff\0relay\0")
    peer.heard()
    tags = [tag for tag in peer.offer_tags("ac1", "", relay) if tag.type != TagType.AC_COOKIE]
    peer.discovery(Code.PADO, [*tags, Tag(TagType.AC_COOKIE, cookie)])
    (padr,) = peer.heard()
    assert (padr.outer.dst, padr.packet.code, padr.packet.session_id) == (AC, Code.PADR, 0)
    assert values(padr, TagType.AC_COOKIE) == [cookie]
    assert values(padr, TagType.RELAY_SESSION_ID) == [relay.value]
    assert values(padr, TagType.SERVICE_NAME) == [b""]


def test_05_without_cookie_and_relay_id_there_are_none_in_the_padr() -> None:
    peer = Peer()
    peer.dial()
    peer.heard()
    peer.discovery(Code.PADO, [tag for tag in peer.offer_tags() if tag.type != TagType.AC_COOKIE])
    (padr,) = peer.heard()
    assert {tag.type for tag in padr.tags} == {TagType.SERVICE_NAME, TagType.HOST_UNIQ}


def test_05_an_offer_too_long_to_answer_is_passed_over() -> None:
    peer = Peer()
    peer.dial()
    peer.heard()
    peer.pado(Tag(TagType.RELAY_SESSION_ID, bytes(1480)))
    assert peer.heard() == []
    peer.sleep(20)
    assert "others did: ac1 (02:ac:ac:ac:00:01), its PADO is too long to answer." in peer.ends[0].text


@pytest.mark.parametrize("host_uniq", [b"", b"\0", b"guess", bytes(12), bytes(300)])
@pytest.mark.parametrize("code", [Code.PADO, Code.PADS])
def test_05_host_uniq_is_checked(code: Code, host_uniq: bytes) -> None:
    peer = Peer()
    peer.dial()
    if code == Code.PADS:
        peer.pado()
    peer.heard()
    tags = [tag for tag in peer.offer_tags() if tag.type != TagType.HOST_UNIQ]
    peer.discovery(code, [*tags, Tag(TagType.HOST_UNIQ, host_uniq)], SID if code == Code.PADS else 0)
    ours = peer.host_uniq().value
    peer.discovery(code, [*tags, Tag(TagType.HOST_UNIQ, ours[:-1])], SID if code == Code.PADS else 0, src=STRANGER)
    peer.discovery(code, [*tags, Tag(TagType.HOST_UNIQ, ours + b"\0")], SID if code == Code.PADS else 0, src=STRANGER)
    assert (peer.heard(), peer.session.state) == ([], SessionState.DIALLING)


def test_05_host_uniq_is_binary_and_new_each_time() -> None:
    peer = Peer()
    peer.dial()
    first = peer.host_uniq().value
    peer.hang_up()
    peer.dial()
    assert peer.host_uniq().value != first


# 6


@pytest.mark.parametrize(
    ("kind", "text", "shown", "end"),
    [
        (TagType.SERVICE_NAME_ERROR, b"", "no such service", EndKind.REFUSED),
        (TagType.AC_SYSTEM_ERROR, "zu viele Sitzungen: Größe".encode(), "Größe", EndKind.REFUSED),
        (TagType.GENERIC_ERROR, b"Too many sessions", "Too many sessions", EndKind.TOO_MANY),
        (TagType.GENERIC_ERROR, b"\xff\0bad\x1b[31m", "bad", EndKind.REFUSED),
    ],
)
def test_06_a_pads_that_refuses(kind: TagType, text: bytes, shown: str, end: EndKind) -> None:
    peer = Peer()
    peer.to_padr()
    peer.heard()
    peer.pads(Tag(kind, text), sid=0)
    assert [one.kind for one in peer.ends] == [end]
    assert shown in peer.ends[0].text
    assert peer.ends[0].text.isprintable()
    assert (peer.heard(), peer.session.state) == ([], SessionState.FAILED)


def test_06_a_pado_that_refuses_is_told_when_no_better_one_comes() -> None:
    peer = Peer()
    peer.dial()
    peer.pado(Tag(TagType.AC_SYSTEM_ERROR, b"out of resources"))
    peer.sleep(20)
    assert [end.kind for end in peer.ends] == [EndKind.REFUSED]
    assert "out of resources" in peer.ends[0].text


def test_06_a_pado_that_refuses_does_not_spoil_another_ones_offer() -> None:
    peer = Peer()
    peer.dial()
    peer.pado(Tag(TagType.AC_SYSTEM_ERROR, b"out of resources"), src=STRANGER)
    peer.pado()
    peer.pads()
    assert peer.session.place == Place(OWN, AC, SID), "the one that offered, not the one that refused"
    assert peer.ends == []


def test_06_a_padt_that_says_why() -> None:
    peer = Peer()
    peer.up()
    peer.padt(Tag(TagType.GENERIC_ERROR, b"maintenance"))
    assert [end.kind for end in peer.ends] == [EndKind.PEER_ENDED]
    assert "maintenance" in peer.ends[0].text


def test_06_a_padt_during_authentication_is_a_refusal() -> None:
    """Concentrators send it right after a CHAP Failure, and it may arrive first."""
    peer = Peer()
    peer.open_pppoe()
    peer.open_lcp(AUTH_VALUES[AuthMethod.CHAP])
    peer.challenge()
    peer.padt()
    assert [end.kind for end in peer.ends] == [EndKind.REFUSED]
    assert "password" in peer.ends[0].text


@pytest.mark.parametrize("stage", ["up", "authentication", "Stopping"])
def test_06_a_padt_that_speaks_of_a_limit_slows_the_account(stage: str) -> None:
    peer = Peer()
    if stage == "authentication":
        peer.open_lcp(AUTH_VALUES[AuthMethod.CHAP])
        peer.challenge()
    else:
        peer.up()
    if stage == "Stopping":
        peer.lcp(Lcp.TERMINATE_REQUEST, 1)
    peer.padt(Tag(TagType.GENERIC_ERROR, b"Session limit exceeded"))
    assert [end.kind for end in peer.ends] == [EndKind.TOO_MANY]


def test_06_a_pads_with_an_error_and_a_session_id_is_refused_and_given_back() -> None:
    peer = Peer()
    peer.to_padr()
    peer.heard()
    peer.pads(Tag(TagType.GENERIC_ERROR, b"odd"))
    (padt,) = peer.heard()
    assert (padt.packet.code, padt.packet.session_id) == (Code.PADT, SID)
    assert [end.kind for end in peer.ends] == [EndKind.REFUSED]


# 7


def reach(peer: Peer, stage: str) -> None:
    peer.open_pppoe()
    if stage == "Req-Sent":
        return
    peer.open_lcp()
    if stage == "IPCP":
        return
    peer.open_ipcp()
    if stage == "Closing":
        peer.hang_up()
    elif stage == "Stopping":
        peer.lcp(Lcp.TERMINATE_REQUEST, 1)


@pytest.mark.parametrize("stage", ["Req-Sent", "IPCP", "Opened", "Closing", "Stopping"])
def test_07_a_padt_in_any_state_ends_the_session_at_once_and_nothing_follows(stage: str) -> None:
    peer = Peer()
    reach(peer, stage)
    peer.heard()
    peer.padt()
    assert len(peer.ends) == 1
    assert peer.session.next_timer() is None
    peer.ppp(b"\xc0\x21\x05\x01\x00\x04")
    peer.sleep(60)
    assert peer.heard() == []


def test_07_a_padt_in_answer_to_our_hang_up_is_no_loss() -> None:
    """Some concentrators answer a Terminate-Request with it."""
    peer = Peer()
    peer.up()
    peer.hang_up()
    peer.padt()
    assert [end.kind for end in peer.ends] == [EndKind.HUNG_UP]
    assert peer.session.state is SessionState.DOWN


def test_07_a_padt_takes_back_what_was_not_sent_yet() -> None:
    peer = Peer()
    peer.up()
    collect, peer._collect = peer._collect, lambda: None  # type: ignore[method-assign]
    peer.ppp(ECHO)
    peer.padt()
    peer._collect = collect  # type: ignore[method-assign]
    assert peer.session.frames_to_send() == []


def test_07_our_terminate_request_goes_before_our_padt() -> None:
    peer = Peer()
    peer.up()
    peer.hang_up()
    (request,) = peer.heard()
    assert request.control.code == Lcp.TERMINATE_REQUEST
    peer.lcp(Lcp.TERMINATE_ACK, request.control.identifier)
    (padt,) = peer.heard()
    assert (padt.packet.code, padt.packet.session_id, padt.outer.dst) == (Code.PADT, SID, AC)
    assert (padt.outer.ethertype, peer.session.state) == (ETH_PPPOE_DISCOVERY, SessionState.DOWN)


def test_07_a_concentrator_that_is_gone_gets_two_terminate_requests_and_a_padt() -> None:
    peer = Peer()
    peer.up()
    peer.hang_up()
    peer.sleep(10)
    heard = peer.heard()
    assert [one.control.code for one in heard[:-1]] == [Lcp.TERMINATE_REQUEST] * 2
    assert heard[-1].packet.code == Code.PADT


# 8


def test_08_accm_acfc_and_fcs_alternatives_are_rejected_and_never_asked_for() -> None:
    peer = Peer()
    peer.open_pppoe()
    asked = control.decode_options(peer.latest(Protocol.LCP, Lcp.CONFIGURE_REQUEST).data)
    assert {option.type for option in asked} == {LcpOption.MRU, LcpOption.MAGIC}
    peer.heard()
    odd = [Option(LcpOption.ACCM, bytes(4)), Option(LcpOption.ACFC), Option(LcpOption.FCS_ALTERNATIVES, b"\2")]
    peer.request(Protocol.LCP, *odd)
    (reject,) = peer.heard_of(Protocol.LCP)
    assert (reject.code, list(control.decode_options(reject.data))) == (Lcp.CONFIGURE_REJECT, odd)


@pytest.mark.parametrize("settings", [SETTINGS, BIG])
def test_08_the_mru_is_at_most_1492(settings: SessionSettings) -> None:
    peer = Peer(settings)
    peer.open_pppoe()
    mru = control.decode_options(peer.latest(Protocol.LCP, Lcp.CONFIGURE_REQUEST).data)[0]
    assert mru == Option(LcpOption.MRU, (1492).to_bytes(2, "big"))
    peer.heard()
    peer.request(Protocol.LCP, Option(LcpOption.MRU, (1500).to_bytes(2, "big")))
    (ack,) = peer.heard_of(Protocol.LCP)
    assert ack.code == Lcp.CONFIGURE_ACK, "how much the peer takes is its own affair"
    peer.answer(Protocol.LCP, Lcp.CONFIGURE_ACK)
    assert peer.session.mtu == 1492


def test_08_a_peer_without_the_option_still_gets_no_more_than_1492() -> None:
    peer = Peer()
    peer.open_pppoe()
    peer.request(Protocol.LCP)
    peer.answer(Protocol.LCP, Lcp.CONFIGURE_ACK)
    assert peer.session.mtu == 1492


def test_08_a_small_mru_of_our_own_does_not_argue_with_the_peers() -> None:
    peer = Peer(replace(SETTINGS, mru=1400))
    peer.open_lcp()
    assert peer.session.mtu == 1400
    assert not [packet for packet in peer.heard_of(Protocol.LCP) if packet.code == Lcp.CONFIGURE_NAK]


def test_08_the_mtu_is_the_smaller_of_both() -> None:
    peer = Peer()
    peer.open_lcp(mru=1300)
    assert peer.session.mtu == 1300


# 9


def test_09_time_outs_double_and_end() -> None:
    peer = Peer()
    began = peer.now
    peer.dial()
    peer.sleep(60)
    assert [heard.at - began for heard in peer.heard()] == [0, 1, 3, 7]
    assert [end.kind for end in peer.ends] == [EndKind.NO_CONCENTRATOR]


def test_09_an_unanswered_padr_goes_back_to_padi() -> None:
    """To broadcast, with a new Host-Uniq and without the old cookie."""
    peer = Peer()
    peer.to_padr()
    old = peer.host_uniq()
    peer.heard()
    began = peer.now
    peer.sleep(7)
    *padrs, padi = peer.heard()
    assert [heard.at - began for heard in padrs] == [1, 3]
    assert {heard.packet.code for heard in padrs} == {Code.PADR}
    assert (padi.packet.code, padi.outer.dst) == (Code.PADI, BROADCAST)
    assert values(padi, TagType.AC_COOKIE) == []
    assert peer.host_uniq() != old
    peer.discovery(Code.PADO, [*peer.offer_tags()[:-1], old])
    assert peer.heard() == []
    peer.pado(name="ac2", src=STRANGER)
    (padr,) = peer.heard()
    assert padr.outer.dst == STRANGER
    assert values(padr, TagType.AC_COOKIE) == [COOKIE]


def test_09_an_offer_that_is_never_kept_is_given_up() -> None:
    peer = Peer()
    peer.dial()
    for _ in range(60):
        if any(heard.packet.code == Code.PADI for heard in peer.heard()):
            peer.pado()
        peer.sleep(1)
    assert [end.kind for end in peer.ends] == [EndKind.NO_ANSWER]


# 10


def test_10_a_pado_after_the_choice_is_ignored() -> None:
    peer = Peer()
    peer.to_padr()
    peer.heard()
    peer.pado(src=STRANGER)
    assert peer.heard() == []
    peer.pads()
    peer.heard()
    peer.pado(src=STRANGER)
    assert (peer.heard(), peer.lcp_state) == ([], State.REQ_SENT)


def test_10_a_duplicate_pads_is_ignored() -> None:
    peer = Peer()
    peer.open_pppoe()
    peer.heard()
    peer.pads()
    assert (peer.heard(), peer.lcp_state) == ([], State.REQ_SENT)
    assert sum(isinstance(event, PppoeOpened) for event in peer.events) == 1


def test_10_a_pads_from_another_mac_is_ignored() -> None:
    peer = Peer()
    peer.to_padr()
    peer.heard()
    peer.pads(src=STRANGER)
    assert (peer.heard(), peer.session.place) == ([], None)
    assert peer.discarded("PADS from another concentrator") == 1


@pytest.mark.parametrize("src", [BROADCAST, b"\x01\0\x5e\0\0\1", b"\x03" + AC[1:]])
@pytest.mark.parametrize("code", [Code.PADO, Code.PADS, Code.PADT])
def test_10_a_multicast_source_is_ignored(code: Code, src: bytes) -> None:
    peer = Peer()
    peer.dial()
    if code != Code.PADO:
        peer.pado()
    if code == Code.PADT:
        peer.pads()
    peer.heard()
    before = peer.session.place
    peer.discovery(code, peer.offer_tags(), 0 if code == Code.PADO else SID, src=src)
    assert (peer.heard(), peer.session.place) == ([], before)
    assert peer.discarded("not for this session") == 1


@pytest.mark.parametrize("wrong", ["own MAC", "broadcast", "concentrator's MAC", "VLAN", "session id"])
@pytest.mark.parametrize("what", ["PADT", "Terminate-Request"])
def test_10_all_four_keys_are_matched(wrong: str, what: str) -> None:
    peer = Peer(replace(SETTINGS, vlans=(VlanTag(7), VlanTag(33))))
    peer.up()
    sid = SID + 1 if wrong == "session id" else SID
    peer.say(
        ETH_PPPOE_DISCOVERY if what == "PADT" else ETH_PPPOE_SESSION,
        PppoePacket(Code.PADT, sid, b"") if what == "PADT" else PppoePacket(0, sid, b"\xc0\x21\x05\x01\x00\x04"),
        src=STRANGER if wrong == "concentrator's MAC" else AC,
        dst={"own MAC": STRANGER, "broadcast": BROADCAST}.get(wrong, OWN),
        vlans=(VlanTag(7),) if wrong == "VLAN" else None,
    )
    assert (peer.heard(), peer.session.state, peer.ends) == ([], SessionState.UP, [])


def test_10_priority_and_tpid_of_a_vlan_tag_are_no_key() -> None:
    peer = Peer(replace(SETTINGS, vlans=(VlanTag(7, priority=5), VlanTag(33))))
    peer.vlans = (VlanTag(7, priority=0, tpid=0x88A8), VlanTag(33, dei=True))
    peer.up()
    assert peer.session.state is SessionState.UP


def test_10_a_priority_tag_names_no_vlan() -> None:
    peer = Peer()
    peer.vlans = (VlanTag(0, priority=6),)
    peer.up()
    assert peer.session.state is SessionState.UP


def test_10_a_late_pads_is_given_back() -> None:
    """Hung up between PADR and PADS: the concentrator must not be left with a ghost."""
    peer = Peer()
    peer.to_padr()
    peer.hang_up()
    peer.heard()
    peer.pads(sid=77)
    (padt,) = peer.heard()
    assert (padt.packet.code, padt.packet.session_id, padt.outer.dst) == (Code.PADT, 77, AC)
    assert peer.session.state is SessionState.DOWN


def test_10_a_pads_of_an_earlier_round_is_given_back() -> None:
    peer = Peer()
    peer.to_padr()
    old = peer.host_uniq()
    peer.sleep(7)
    peer.heard()
    peer.discovery(Code.PADS, [Tag(TagType.SERVICE_NAME), old], 78)
    assert [(heard.packet.code, heard.packet.session_id) for heard in peer.heard()] == [(Code.PADT, 78)]
    assert peer.session.state is SessionState.DIALLING


def test_10_a_second_session_for_a_repeated_padr_is_given_back() -> None:
    peer = Peer()
    peer.open_pppoe()
    peer.heard()
    peer.pads(sid=79)
    assert [(heard.packet.code, heard.packet.session_id) for heard in peer.heard()] == [(Code.PADT, 79)]
    assert peer.session.place is not None
    assert peer.session.place.session_id == SID


# RFC 4638


def test_4638_the_tag_is_sent_only_if_more_than_1492_is_wanted() -> None:
    for settings, expected in ((SETTINGS, []), (BIG, [b"\x05\xdc"])):
        peer = Peer(settings)
        peer.to_padr()
        for heard in peer.heard():
            assert values(heard, TagType.PPP_MAX_PAYLOAD) == expected


@pytest.mark.parametrize("missing", ["PADO", "PADS", "both"])
def test_4638_missing_in_pado_or_pads_means_1492(missing: str) -> None:
    peer = Peer(BIG)
    peer.dial()
    peer.pado(*([PAYLOAD_1500] if missing == "PADS" else []))
    peer.pads(*([PAYLOAD_1500] if missing == "PADO" else []))
    mru = control.decode_options(peer.latest(Protocol.LCP, Lcp.CONFIGURE_REQUEST).data)[0]
    assert int.from_bytes(mru.value, "big") == 1492


@pytest.mark.parametrize(
    ("value", "mru"),
    [
        (b"\x05\xdc", 1500),
        (b"\x05\xd8", 1496),
        (b"\x23\x28", 1500),
        (b"\x05\x00", 1492),
        (b"\x05", 1492),
        (b"\0\0\5\xdc", 1492),
    ],
)
def test_4638_the_tags_value(value: bytes, mru: int) -> None:
    peer = Peer(BIG)
    peer.open_pppoe(Tag(TagType.PPP_MAX_PAYLOAD, value))
    asked = control.decode_options(peer.latest(Protocol.LCP, Lcp.CONFIGURE_REQUEST).data)[0]
    assert int.from_bytes(asked.value, "big") == mru


def big_link() -> Peer:
    peer = Peer(replace(BIG, keepalive=KeepaliveSettings(0)))
    peer.open_pppoe(PAYLOAD_1500)
    peer.heard()
    peer.open_lcp(mru=1500)
    return peer


def probes(peer: Peer) -> list[Heard]:
    peer.sleep(0)
    return [heard for heard in peer.heard() if heard.in_session and len(heard.packet.payload) > 1000]


def test_4638_a_full_size_echo_proves_the_path() -> None:
    peer = big_link()
    assert peer.session.mtu == 1492
    (probe,) = probes(peer)
    assert len(probe.information) == 1500
    peer.lcp(Lcp.ECHO_REPLY, probe.control.identifier, MAGIC + probe.control.data[4:])
    assert peer.session.mtu == 1500
    assert [event.mtu for event in peer.events if isinstance(event, MtuVerified)] == [1500]
    peer.sleep(30)
    assert probes(peer) == []


def test_4638_a_short_reply_proves_nothing() -> None:
    peer = big_link()
    (probe,) = probes(peer)
    peer.lcp(Lcp.ECHO_REPLY, probe.control.identifier, MAGIC)
    assert peer.session.mtu == 1492


def test_4638_a_black_hole_is_found_out() -> None:
    peer = big_link()
    peer.sleep(10)
    assert len(probes(peer)) == 3
    assert peer.session.mtu == 1492
    assert [event.mtu for event in peer.events if isinstance(event, MtuVerified)] == [1492]
    assert any("1500" in event.text for event in peer.events if isinstance(event, Notice))


def test_4638_the_path_is_checked_again_after_a_renegotiation() -> None:
    peer = big_link()
    (probe,) = probes(peer)
    peer.lcp(Lcp.ECHO_REPLY, probe.control.identifier, MAGIC + probe.control.data[4:])
    peer.now += 10
    peer.open_lcp(mru=1500)
    assert peer.session.mtu == 1492
    assert len(probes(peer)) == 1


def test_4638_without_more_than_1492_nothing_is_probed() -> None:
    peer = Peer(replace(SETTINGS, keepalive=KeepaliveSettings(0)))
    peer.up()
    peer.sleep(10)
    assert peer.heard() == []
    assert peer.session.mtu == 1492


# TR-101


def test_tr101_line_ids_are_sent_only_when_set() -> None:
    vendor = b"\x00\x00\x0d\xe9"
    for line, expected in (
        (LineId(), []),
        (LineId("circuit"), [vendor + b"\x01\x07circuit"]),
        (LineId(None, "remote"), [vendor + b"\x02\x06remote"]),
        (LineId("c", "r"), [vendor + b"\x01\x01c\x02\x01r"]),
    ):
        peer = Peer(replace(SETTINGS, line_id=line))
        peer.to_padr()
        heard = peer.heard()
        assert [one.packet.code for one in heard] == [Code.PADI, Code.PADR]
        assert all(values(one, TagType.VENDOR_SPECIFIC) == expected for one in heard)


def test_tr101_what_comes_back_is_ignored() -> None:
    peer = Peer()
    peer.dial()
    peer.heard()
    peer.pado(Tag(TagType.VENDOR_SPECIFIC, b"\x00\x00\x0d\xe9\x01\xffshort"))
    (padr,) = peer.heard()
    assert values(padr, TagType.VENDOR_SPECIFIC) == []


# What frames carry


@pytest.mark.parametrize("tags", [(), (VlanTag(7, 5),), (VlanTag(100, 0, 0x88A8), VlanTag(7, 5, dei=True))])
def test_every_frame_carries_the_sessions_vlan_tags(tags: tuple[VlanTag, ...]) -> None:
    peer = Peer(replace(SETTINGS, vlans=tags))
    peer.open_network()
    peer.open_ipcp()
    peer.hang_up()
    peer.sleep(10)
    heard = peer.heard()
    assert heard[-1].packet.code == Code.PADT
    assert all(one.outer.vlans == tags for one in heard)
    assert all(ethernet.encode(one.outer)[6:12] == OWN for one in heard)
