"""Peers that keep to the letter of the RFCs, or nearly, and still bring implementations down.

Each test names the rule that it holds the client to.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address

import pytest
from msgspec.structs import replace

from engine.api.ending import EndKind
from engine.api.values import SessionState
from engine.ppp.ipcp import IpcpConcentrator, Ipv4Grant
from engine.ppp.link import ANEW_WITHIN, MOST_ANEW
from engine.ppp.link_events import Authenticated, Ipv4Opened, ProtocolMissing
from engine.ppp.negotiator import Verdict
from engine.sessions.session import Session
from engine.settings.values import AcFilter, AuthMethod
from engine.wire import control, ppp, pppoe
from engine.wire.auth import ChapCode, PapCode
from engine.wire.control import Code, ControlPacket, IpcpOption, Ipv6cpOption, LcpOption, Option
from engine.wire.ethernet import ETH_PPPOE_SESSION
from engine.wire.ppp import Protocol
from engine.wire.pppoe import PppoePacket, Tag, TagType

from .peer import AC, CHAP, MAGIC, PAP, SETTINGS, SID, STRANGER, Peer

LCP, IPCP, IPV6CP = Protocol.LCP, Protocol.IPCP, Protocol.IPV6CP
WITH_IPV6 = replace(SETTINGS, ipv6=True)
CCP = b"\x80\xfd\x01\x01\x00\x04"


def answered(peer: Peer, protocol: int, *options: Option) -> ControlPacket:
    """What the session answers to a Configure-Request."""
    peer.heard()
    peer.request(protocol, *options, identifier=0x61)
    (answer,) = [packet for packet in peer.heard_of(protocol) if packet.code != Code.CONFIGURE_REQUEST]
    assert answer.identifier == 0x61
    return answer


def options_of(packet: ControlPacket) -> list[Option]:
    return list(control.decode_options(packet.data))


# RFC 1661 section 6: an option with an invalid length gets a Nak with the right one


@pytest.mark.parametrize(
    ("option", "size"),
    [
        (Option(LcpOption.MRU), 2),
        (Option(LcpOption.MRU, b"\x05"), 2),
        (Option(LcpOption.MRU, b"\0\0\x05\xd4"), 2),
        (Option(LcpOption.MAGIC), 4),
        (Option(LcpOption.MAGIC, b"abc"), 4),
        (Option(LcpOption.MAGIC, b"abcde"), 4),
        (Option(LcpOption.AUTHENTICATION), 3),
        (Option(LcpOption.AUTHENTICATION, b"\xc2"), 3),
    ],
)
def test_an_lcp_option_of_a_wrong_length_gets_a_nak_with_the_right_one(option: Option, size: int) -> None:
    peer = Peer()
    peer.open_pppoe()
    nak = answered(peer, LCP, option)
    (wish,) = options_of(nak)
    assert (nak.code, wish.type, len(wish.value)) == (Code.CONFIGURE_NAK, option.type, size)
    assert answered(peer, LCP, wish).code == Code.CONFIGURE_ACK


@pytest.mark.parametrize("value", [b"", b"short", bytes(9)])
def test_an_ipv6_identifier_of_a_wrong_length_gets_a_nak_with_the_right_one(value: bytes) -> None:
    peer = Peer(WITH_IPV6)
    peer.open_network()
    nak = answered(peer, IPV6CP, Option(Ipv6cpOption.INTERFACE_IDENTIFIER, value))
    (wish,) = options_of(nak)
    assert (nak.code, len(wish.value)) == (Code.CONFIGURE_NAK, 8)


@pytest.mark.parametrize("value", [b"", b"\x64\x40\0", b"\x64\x40\0\1\0"])
def test_an_address_of_a_wrong_length_is_rejected(value: bytes) -> None:
    """There is none that we could suggest to a concentrator."""
    peer = Peer()
    peer.open_network()
    assert answered(peer, IPCP, Option(IpcpOption.IP_ADDRESS, value)).code == Code.CONFIGURE_REJECT


@pytest.mark.parametrize("value", [b"", b"\x64\x40\0", b"\x64\x40\0\1\0"])
def test_our_concentrator_answers_an_address_of_a_wrong_length_with_the_clients(value: bytes) -> None:
    client = IPv4Address("100.64.0.9")
    handler = IpcpConcentrator(Ipv4Grant(IPv4Address("100.64.0.1"), client))
    verdict, wish = handler.judge(Option(IpcpOption.IP_ADDRESS, value))
    assert (verdict, wish.value) == (Verdict.NAK, client.packed)


# RFC 1661 section 3.5: packets of other protocols during authentication are silently discarded


def test_an_unknown_protocol_during_authentication_is_discarded() -> None:
    peer = Peer()
    peer.open_lcp(CHAP)
    peer.heard()
    peer.ppp(CCP)
    assert peer.heard() == []
    peer.challenge()
    peer.control(Protocol.CHAP, ChapCode.SUCCESS, 1)
    peer.heard()
    peer.ppp(CCP)
    assert [packet.code for packet in peer.heard_of(LCP)] == [Code.PROTOCOL_REJECT]


# RFC 1661 section 5.7: after a Protocol-Reject nothing more of that protocol is sent


@pytest.mark.parametrize(("number", "left"), [(IPCP, "ipv6"), (IPV6CP, "ipv4")])
def test_a_protocol_reject_of_an_open_protocol_silences_it_at_once(number: int, left: str) -> None:
    peer = Peer(WITH_IPV6)
    peer.open_network()
    peer.open_ipcp()
    peer.open_ipv6cp()
    peer.heard()
    peer.lcp(Code.PROTOCOL_REJECT, 9, number.to_bytes(2, "big") + b"\x05\x01\x00\x04")
    assert [event.protocol for event in peer.events if isinstance(event, ProtocolMissing)] == [number]
    peer.sleep(30)
    assert not any(heard.protocol == number for heard in peer.heard() if heard.in_session)
    assert peer.session.state is SessionState.UP
    assert (peer.session.ipv4 is None, peer.session.ipv6 is None) == (left == "ipv6", left == "ipv4")


def test_a_protocol_reject_of_the_only_protocol_ends_the_session() -> None:
    peer = Peer()
    peer.up()
    peer.lcp(Code.PROTOCOL_REJECT, 9, b"\x80\x21\x05\x01\x00\x04")
    assert not any(heard.protocol == IPCP for heard in peer.heard() if heard.in_session)
    peer.sleep(5)
    assert [end.kind for end in peer.ends] == [EndKind.NO_ADDRESS]


def test_a_protocol_reject_of_authentication_that_is_done_is_no_news() -> None:
    """A PAP request that was repeated may meet a concentrator that has closed PAP already."""
    peer = Peer()
    peer.up(AuthMethod.PAP)
    peer.lcp(Code.PROTOCOL_REJECT, 9, PAP + b"\x01\x02\x00\x04")
    peer.sleep(5)
    assert peer.session.state is SessionState.UP


def test_a_protocol_reject_of_authentication_that_is_due_ends_the_session() -> None:
    peer = Peer()
    peer.open_lcp(PAP)
    peer.lcp(Code.PROTOCOL_REJECT, 9, PAP + b"\x01\x02\x00\x04")
    peer.sleep(5)
    assert [end.kind for end in peer.ends] == [EndKind.AUTH_METHOD]


# RFC 1661 sections 5.6 and 5.7: rejects fit the peer's MRU, which is 1492 while nothing is agreed


def test_a_code_reject_before_lcp_is_open_fits_pppoe() -> None:
    peer = Peer()
    peer.open_pppoe()
    peer.heard()
    peer.lcp(99, 7, bytes(1488))
    (heard,) = peer.heard()
    assert heard.control.code == Code.CODE_REJECT
    assert len(heard.information) == 1492


def test_a_code_reject_after_a_renegotiation_fits_what_is_agreed_then() -> None:
    peer = Peer(replace(SETTINGS, mru=1500))
    peer.open_pppoe(Tag(TagType.PPP_MAX_PAYLOAD, b"\x05\xdc"))
    peer.open_lcp(mru=1500)
    peer.now += 10
    peer.request(LCP, Option(LcpOption.MAGIC, MAGIC), identifier=0x62)
    peer.heard()
    peer.lcp(99, 7, bytes(1496))
    (heard,) = peer.heard()
    assert len(heard.information) == 1492


# What the peer would rather have


def test_an_mru_that_the_peer_wants_larger_is_granted() -> None:
    """It only says what we can take; the operator's wish still bounds what we send (RFC 1661 section 6.1)."""
    peer = Peer(replace(SETTINGS, mru=1400))
    peer.open_pppoe()
    peer.answer(LCP, Code.CONFIGURE_NAK, Option(LcpOption.MRU, b"\x05\xd4"))
    (mru, _) = options_of(peer.latest(LCP, Code.CONFIGURE_REQUEST))
    assert mru == Option(LcpOption.MRU, b"\x05\xd4")
    peer.open_lcp()
    peer.open_ipcp()
    assert peer.session.mtu == 1400


def test_an_mru_that_pppoe_does_not_carry_is_not_asked_for() -> None:
    peer = Peer()
    peer.open_pppoe()
    for value in (b"\x05\xdc", b"\x05", b"\xff\xff", b"\0\0"):
        peer.answer(LCP, Code.CONFIGURE_NAK, Option(LcpOption.MRU, value))
        peer.sleep(3)
        (mru, _) = options_of(peer.latest(LCP, Code.CONFIGURE_REQUEST))
        assert mru == Option(LcpOption.MRU, b"\x05\xd4")


def test_a_peer_that_insists_on_another_mru_of_ours_is_asked_without() -> None:
    peer = Peer()
    peer.open_pppoe()
    for _ in range(4):
        peer.answer(LCP, Code.CONFIGURE_NAK, Option(LcpOption.MRU, b"\x05\xdc"))
        peer.sleep(3)
    (magic,) = options_of(peer.latest(LCP, Code.CONFIGURE_REQUEST))
    assert magic.type == LcpOption.MAGIC
    peer.open_lcp()
    peer.open_ipcp()
    assert peer.session.mtu == 1492


def test_a_nak_with_options_that_were_not_asked_for_adds_none() -> None:
    peer = Peer()
    peer.open_pppoe()
    peer.answer(
        LCP,
        Code.CONFIGURE_NAK,
        Option(LcpOption.AUTHENTICATION, CHAP),
        Option(LcpOption.ACCM, bytes(4)),
        Option(LcpOption.PFC),
        Option(99, b"?"),
    )
    kinds = [option.type for option in options_of(peer.latest(LCP, Code.CONFIGURE_REQUEST))]
    assert kinds == [LcpOption.MRU, LcpOption.MAGIC]


def test_everything_rejected_leaves_an_empty_request() -> None:
    peer = Peer()
    peer.open_pppoe()
    peer.answer(LCP, Code.CONFIGURE_REJECT, *options_of(peer.latest(LCP, Code.CONFIGURE_REQUEST)))
    assert options_of(peer.latest(LCP, Code.CONFIGURE_REQUEST)) == []
    peer.open_lcp()
    peer.open_ipcp()
    assert (peer.session.state, peer.session.mtu) == (SessionState.UP, 1492)


def test_dns_servers_that_a_concentrator_has_none_of_are_not_asked_for_again() -> None:
    """It says so with a Nak of 0.0.0.0, which is what we asked for: another request would get the same answer."""
    peer = Peer()
    peer.open_network()
    naks = [
        Option(IpcpOption.IP_ADDRESS, b"\x64\x40\0\x09"),
        Option(IpcpOption.PRIMARY_DNS, b"\x09\x09\x09\x09"),
        Option(IpcpOption.SECONDARY_DNS, bytes(4)),
    ]
    peer.answer(IPCP, Code.CONFIGURE_NAK, *naks)
    assert options_of(peer.latest(IPCP, Code.CONFIGURE_REQUEST)) == naks[:2]
    peer.answer(IPCP, Code.CONFIGURE_ACK)
    peer.request(IPCP)
    assert peer.session.ipv4 is not None
    assert list(map(str, peer.session.ipv4.dns)) == ["9.9.9.9"]


def test_a_nak_without_the_address_waits_for_one_that_has_it() -> None:
    peer = Peer()
    peer.open_network()
    peer.answer(IPCP, Code.CONFIGURE_NAK, Option(IpcpOption.PRIMARY_DNS, b"\x09\x09\x09\x09"))
    peer.open_ipcp()
    assert [str(event.agreed.address) for event in peer.events if isinstance(event, Ipv4Opened)] == ["100.64.0.9"]


def test_a_concentrator_that_wants_an_address_from_us_gets_a_reject() -> None:
    """RFC 1332 section 3.3: all zeros ask us to suggest one."""
    peer = Peer()
    peer.open_network()
    zero = Option(IpcpOption.IP_ADDRESS, bytes(4))
    reject = answered(peer, IPCP, zero)
    assert (reject.code, options_of(reject)) == (Code.CONFIGURE_REJECT, [zero])


# Discovery


def test_a_padt_leaves_the_goodbye_to_another_session_alone() -> None:
    """A second PADS opened a session that we gave back; its PADT is still on its way when ours ends."""
    peer = Peer()
    peer.up()
    collect, peer._collect = peer._collect, lambda: None  # type: ignore[method-assign]
    peer.discovery(pppoe.Code.PADS, [Tag(TagType.SERVICE_NAME), peer.host_uniq()], SID + 1)
    peer.padt()
    peer._collect = collect  # type: ignore[method-assign]
    peer._collect()
    assert [(heard.packet.code, heard.packet.session_id) for heard in peer.heard()] == [(pppoe.Code.PADT, SID + 1)]


def test_a_concentrator_without_the_service_is_named() -> None:
    """Some offer what they have, whatever was asked for (RFC 2516 section 5.2 forbids it)."""
    peer = Peer(replace(SETTINGS, service="gold"))
    peer.dial()
    peer.pado(service="silver")
    peer.sleep(20)
    (end,) = peer.ends
    assert end.kind is EndKind.NONE_WANTED
    assert 'service "gold"' in end.text
    assert "ac1 (02:ac:ac:ac:00:01)" in end.text


def test_two_concentrators_behind_one_mac_make_two_offers() -> None:
    peer = Peer(replace(SETTINGS, mru=1500), pado_window=0.5)
    peer.dial()
    peer.heard()
    peer.pado(name="small")
    peer.pado(Tag(TagType.PPP_MAX_PAYLOAD, b"\x05\xdc"), name="large")
    peer.sleep(0.9)
    assert [heard.packet.code for heard in peer.heard()] == [pppoe.Code.PADR]
    assert peer.session.ac_name == "large"


@pytest.mark.parametrize("size", [0, 1, 1400])
def test_a_cookie_of_any_size_comes_back_as_it_was(size: int) -> None:
    peer = Peer()
    peer.dial()
    peer.heard()
    cookie, relay = Tag(TagType.AC_COOKIE, b"\xa5" * size), Tag(TagType.RELAY_SESSION_ID, b"\0relay\xff")
    name, service = Tag(TagType.AC_NAME, b"ac1"), Tag(TagType.SERVICE_NAME)
    peer.discovery(pppoe.Code.PADO, [relay, name, Tag(TagType.AC_NAME, b"alias"), service, cookie, peer.host_uniq()])
    (padr,) = peer.heard()
    assert [tag for tag in padr.tags if tag.type in (TagType.AC_COOKIE, TagType.RELAY_SESSION_ID)] == [relay, cookie]
    assert len(padr.packet.payload) <= 1494


def test_a_pado_that_no_padr_could_answer_is_passed_over() -> None:
    peer = Peer()
    peer.dial()
    peer.heard()
    peer.pado(Tag(TagType.AC_COOKIE, bytes(1480)))
    assert peer.heard() == []
    peer.pado(src=STRANGER)
    assert [heard.outer.dst for heard in peer.heard()] == [STRANGER]


def test_what_follows_end_of_list_is_no_tag() -> None:
    peer = Peer()
    peer.dial()
    peer.heard()
    tags = pppoe.encode_tags(peer.offer_tags()) + bytes(4) + b"\x02\x03\x00\x02no and \xff\xff\xff\xff"
    peer.say(0x8863, PppoePacket(pppoe.Code.PADO, 0, tags))
    assert [heard.packet.code for heard in peer.heard()] == [pppoe.Code.PADR]


def test_a_filter_by_name_does_not_mind_other_concentrators_refusals() -> None:
    peer = Peer(replace(SETTINGS, ac=AcFilter(name="ac1")))
    peer.dial()
    peer.heard()
    peer.pado(Tag(TagType.GENERIC_ERROR, b"go away"), name="ac2", src=STRANGER)
    peer.pado()
    assert [heard.outer.dst for heard in peer.heard()] == [AC]


# Frames


@pytest.mark.parametrize("front", [b"", b"\xff\x03"])
@pytest.mark.parametrize("padding", [b"", bytes(40), b"\xc0\x21\x05\x09\0\4"])
def test_address_and_control_in_front_and_padding_behind(front: bytes, padding: bytes) -> None:
    peer = Peer()
    peer.up()
    echo = ppp.encode(LCP, control.encode(ControlPacket(Code.ECHO_REQUEST, 3, MAGIC + b"!")))
    peer.ppp(front + echo, padding=padding)
    (reply,) = peer.heard_of(LCP)
    assert (reply.code, reply.identifier, reply.data[4:]) == (Code.ECHO_REPLY, 3, b"!")


@pytest.mark.parametrize("payload", [b"", b"\xff", b"\xff\x03", b"\xc0", b"\xc1", b"\xc0\x21", b"\x21", b"\x57", b"\0"])
def test_packets_that_end_before_they_begin(payload: bytes) -> None:
    peer = Peer()
    peer.up()
    peer.ppp(payload)
    assert peer.session.state is SessionState.UP
    assert len(peer.heard()) <= 1, "a Protocol-Reject at most"


def test_lcp_before_the_pads_is_nobodys() -> None:
    peer = Peer()
    peer.to_padr()
    peer.heard()
    peer.request(LCP, *peer.lcp_options())
    assert peer.heard() == []
    peer.pads()
    peer.open_lcp()


@pytest.mark.parametrize("data", [b"", b"\0", b"\0\0\0", MAGIC, MAGIC + b"more", b"\xde\xad\xbe\xef"])
def test_an_echo_reply_with_any_magic_but_ours_is_a_sign_of_life(data: bytes) -> None:
    peer = Peer()
    peer.up()
    peer.sleep(10)
    (echo,) = peer.heard_of(LCP, Code.ECHO_REQUEST)
    peer.lcp(Code.ECHO_REPLY, echo.identifier, data)
    assert peer.session.rtt is not None


@pytest.mark.parametrize("size", [0, 1, 3])
def test_an_echo_request_too_short_for_a_magic_number_is_answered_with_ours(size: int) -> None:
    peer = Peer()
    peer.up()
    peer.lcp(Code.ECHO_REQUEST, 1, bytes(size))
    (reply,) = peer.heard_of(LCP)
    assert (reply.code, len(reply.data)) == (Code.ECHO_REPLY, 4)


@pytest.mark.parametrize(
    ("first", "then"),
    [(PAP, PAP), (PAP, CHAP), (CHAP, CHAP), (None, None), (None, PAP), (None, CHAP), (PAP, None), (CHAP, None)],
)
def test_a_renegotiation_may_change_the_authentication(first: bytes | None, then: bytes | None) -> None:
    """As when a line is handed from one gateway to another: nothing of the old agreement is left.

    But no method weaker than before, unless the settings allow none at all, as these do.
    """
    words = {None: None, PAP: AuthMethod.PAP, CHAP: AuthMethod.CHAP}
    peer = Peer()
    peer.up(words[first])
    peer.now += 60
    peer.open_network(words[then])
    peer.open_ipcp("100.64.0.10")
    assert peer.session.state is SessionState.UP
    assert peer.session.ipv4 is not None
    assert str(peer.session.ipv4.address) == "100.64.0.10"
    assert peer.ends == []


def test_a_renegotiation_with_a_method_that_is_not_allowed_says_so() -> None:
    peer = Peer(replace(SETTINGS, auth=(AuthMethod.CHAP,)))
    peer.up(AuthMethod.CHAP)
    peer.now += 60
    peer.request(LCP, *peer.lcp_options(PAP), identifier=0x71)
    peer.padt()
    assert [end.kind for end in peer.ends] == [EndKind.AUTH_METHOD]


def test_a_concentrator_that_rejects_echo_requests_is_alive() -> None:
    peer = Peer()
    peer.up()
    for number in range(20):
        peer.sleep(10)
        for echo in peer.heard_of(LCP, Code.ECHO_REQUEST):
            peer.lcp(Code.CODE_REJECT, number, control.encode(echo))
    assert peer.session.state is SessionState.UP
    peer.sleep(60)
    assert [end.kind for end in peer.ends] == [EndKind.ECHO_TIMEOUT]


def test_an_echo_reply_is_cut_to_what_the_peer_takes() -> None:
    """RFC 1661 section 6.1: its MRU holds for a reply to a longer request, too."""
    peer = Peer()
    peer.open_lcp(mru=200)
    peer.heard()
    peer.lcp(Code.ECHO_REQUEST, 1, MAGIC + bytes(range(256)) * 4)
    (heard,) = peer.heard()
    assert len(heard.information) == 200
    assert heard.control.data[4:] == bytes(range(192))


@pytest.mark.parametrize("stage", ["Req-Sent", "Ack-Rcvd", "Ack-Sent", "authenticating", "addressing", "up", "closing"])
@pytest.mark.parametrize("code", [0, 12, 13, 14, 255])
def test_identification_time_remaining_and_unknown_codes_change_nothing(stage: str, code: int) -> None:
    peer = Peer()
    peer.open_pppoe()
    if stage == "Ack-Rcvd":
        peer.answer(LCP, Code.CONFIGURE_ACK)
    elif stage == "Ack-Sent":
        peer.request(LCP, *peer.lcp_options())
    elif stage == "authenticating":
        peer.open_lcp(CHAP)
    elif stage in ("addressing", "up", "closing"):
        peer.open_network()
        if stage != "addressing":
            peer.open_ipcp()
        if stage == "closing":
            peer.hang_up()
    before = peer.session.state, peer.lcp_state
    peer.heard()
    peer.lcp(code, 1, MAGIC + b"hello")
    assert (peer.session.state, peer.lcp_state) == before
    expected = [] if code in (Code.IDENTIFICATION, Code.TIME_REMAINING) else [Code.CODE_REJECT]
    assert [packet.code for packet in peer.heard_of(LCP)] == expected


@pytest.mark.parametrize("code", [PapCode.REQUEST, 0, 4, 255])
def test_pap_codes_that_a_client_never_gets(code: int) -> None:
    peer = Peer()
    peer.open_lcp(PAP)
    peer.heard()
    peer.control(Protocol.PAP, code, 1, b"\1x\1y")
    assert (peer.heard(), peer.session.state) == ([], SessionState.AUTHENTICATING)


def test_a_session_frame_is_for_one_mac_only() -> None:
    peer = Peer()
    peer.up()
    echo = ppp.encode(LCP, control.encode(ControlPacket(Code.ECHO_REQUEST, 3, MAGIC)))
    for dst in (STRANGER, b"\xff" * 6, AC):
        peer.say(ETH_PPPOE_SESSION, PppoePacket(0, SID, echo), dst=dst)
    assert peer.heard() == []
    assert isinstance(peer.session, Session)


# Without end


def _lcp_anew(peer: Peer, number: int) -> None:
    peer.request(LCP, *peer.lcp_options(), identifier=number)
    peer.answer(LCP, Code.CONFIGURE_ACK)
    peer.open_ipcp()


def _another_address(peer: Peer, number: int) -> None:
    peer.request(IPCP, Option(IpcpOption.IP_ADDRESS, IPv4Address("100.64.0.1").packed), identifier=number)
    peer.answer(IPCP, Code.CONFIGURE_NAK, Option(IpcpOption.IP_ADDRESS, IPv4Address(f"100.64.1.{number}").packed))
    peer.answer(IPCP, Code.CONFIGURE_ACK)


@pytest.mark.parametrize("anew", [_lcp_anew, _another_address])
def test_a_peer_that_negotiates_without_end_is_left(anew: Callable[[Peer, int], None]) -> None:
    """Each time the host's addresses and rules change, and an address that was given up is held for two minutes."""
    peer = Peer()
    peer.up()
    number = 0
    while peer.session.state is SessionState.UP:
        number += 1
        assert number <= MOST_ANEW
        anew(peer, number)
    peer.sleep(60.0)
    (end,) = peer.ends
    assert end.kind is EndKind.NOT_CONVERGING


def test_a_peer_that_negotiates_now_and_then_is_followed() -> None:
    peer = Peer()
    peer.up()
    for number in range(1, MOST_ANEW):
        _lcp_anew(peer, number)
        peer.sleep(ANEW_WITHIN / 10)
        peer.session.note_traffic(peer.now)
    assert peer.session.state is SessionState.UP


@pytest.mark.parametrize("asked", [False, True])
def test_a_protocol_that_is_rejected_without_end_is_told_of_now_and_then(asked: bool) -> None:
    peer = Peer(WITH_IPV6)
    peer.open_network()
    peer.open_ipv6cp()
    for number in range(1000):
        if asked:
            peer.request(Protocol.IPCP, identifier=number % 256)
        peer.lcp(Code.PROTOCOL_REJECT, 1, Protocol.IPCP.to_bytes(2, "big"))
    assert sum(isinstance(event, ProtocolMissing) for event in peer.events) <= MOST_ANEW
    assert peer.session.state is SessionState.UP


def test_a_proof_that_is_asked_for_again_and_again_is_told_once() -> None:
    peer = Peer()
    peer.open_network(AuthMethod.CHAP)
    for _ in range(100):
        peer.challenge()
        peer.control(Protocol.CHAP, 3, 1, b"hello")
    assert sum(isinstance(event, Authenticated) for event in peer.events) == 1
