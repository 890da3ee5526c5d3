"""The protocol checklist, "RFC 1661: the automaton", line by line; the table itself is in ppp/test_automaton.py."""

from __future__ import annotations

from itertools import pairwise

import pytest
from msgspec.structs import replace

from engine.api.ending import EndKind
from engine.api.values import SessionState
from engine.ppp.automaton import State
from engine.ppp.link_events import Authenticated, Ipv4Closed, Ipv4Opened, Notice, ProtocolMissing
from engine.ppp.negotiator import Timing
from engine.ppp.phases import Phase
from engine.settings.values import AuthMethod, KeepaliveSettings
from engine.wire import control, ethernet, ppp, pppoe
from engine.wire.control import Code, ControlPacket, LcpOption, Option
from engine.wire.ethernet import ETH_PPPOE_SESSION
from engine.wire.ppp import Protocol

from .captures import captured
from .peer import AC, CHAP, MAGIC, PAP, SETTINGS, SID, Heard, Peer

LCP, IPCP, IPV6CP = Protocol.LCP, Protocol.IPCP, Protocol.IPV6CP


def options_of(packet: ControlPacket) -> tuple[Option, ...]:
    return control.decode_options(packet.data)


def kinds_of(packet: ControlPacket) -> list[int]:
    return [option.type for option in options_of(packet)]


def test_00_defaults() -> None:
    timing = Timing()
    assert (timing.restart, timing.max_terminate, timing.max_configure, timing.max_failure) == (3.0, 2, 10, 5)


def test_01_a_request_after_a_reject_does_without_the_rejected_option() -> None:
    peer = Peer()
    peer.open_pppoe()
    request = peer.latest(LCP, Code.CONFIGURE_REQUEST)
    magic = next(option for option in options_of(request) if option.type == LcpOption.MAGIC)
    peer.answer(LCP, Code.CONFIGURE_REJECT, magic)
    again = peer.latest(LCP, Code.CONFIGURE_REQUEST)
    assert again.identifier != request.identifier
    assert kinds_of(again) == [LcpOption.MRU]
    peer.sleep(30)
    assert all(LcpOption.MAGIC not in kinds_of(p) for p in peer.heard_of(LCP, Code.CONFIGURE_REQUEST)[1:])


def test_02_a_reject_lists_only_the_bad_options_in_order_and_unmodified() -> None:
    peer = Peer()
    peer.open_pppoe()
    peer.heard()
    bad = [
        Option(LcpOption.ACFC),
        Option(200, b"what is this"),
        Option(LcpOption.ACCM, b"\0\x0a\0\0"),
        Option(LcpOption.PFC),
    ]
    good = Option(LcpOption.MAGIC, MAGIC)
    peer.request(LCP, bad[0], bad[1], good, bad[2], bad[3], identifier=77)
    (answer,) = peer.heard_of(LCP)
    assert (answer.code, answer.identifier, list(options_of(answer))) == (Code.CONFIGURE_REJECT, 77, bad)


def test_02_reject_goes_before_nak_and_never_both_in_one_packet() -> None:
    peer = Peer()
    peer.open_pppoe()
    peer.heard()
    too_small = Option(LcpOption.MRU, b"\0\x10")
    peer.request(LCP, too_small, Option(LcpOption.PFC))
    (answer,) = peer.heard_of(LCP)
    assert (answer.code, kinds_of(answer)) == (Code.CONFIGURE_REJECT, [LcpOption.PFC])
    peer.request(LCP, too_small, identifier=2)
    (answer,) = peer.heard_of(LCP)
    assert (answer.code, options_of(answer)) == (Code.CONFIGURE_NAK, (Option(LcpOption.MRU, b"\0\x80"),))


@pytest.mark.parametrize("code", [Code.CONFIGURE_ACK, Code.CONFIGURE_NAK, Code.CONFIGURE_REJECT])
def test_03_an_answer_with_the_wrong_identifier_is_discarded(code: Code) -> None:
    peer = Peer()
    peer.open_pppoe()
    request = peer.latest(LCP, Code.CONFIGURE_REQUEST)
    peer.heard()
    peer.lcp(code, request.identifier + 1, request.data)
    assert (peer.heard(), peer.lcp_state) == ([], State.REQ_SENT)
    assert peer.discarded("wrong identifier") == 1


@pytest.mark.parametrize("change", ["value", "missing", "more", "order"])
def test_03_an_ack_of_other_options_is_discarded(change: str) -> None:
    peer = Peer()
    peer.open_pppoe()
    request = peer.latest(LCP, Code.CONFIGURE_REQUEST)
    mru, magic = options_of(request)
    acked = {
        "value": [replace(mru, value=b"\x05\xd0"), magic],
        "missing": [mru],
        "more": [mru, magic, Option(LcpOption.PFC)],
        "order": [magic, mru],
    }[change]
    peer.lcp(Code.CONFIGURE_ACK, request.identifier, control.encode_options(acked))
    assert peer.lcp_state is State.REQ_SENT
    assert peer.discarded("Configure-Ack of other options") == 1


def test_03_a_reject_of_what_was_not_asked_is_discarded() -> None:
    peer = Peer()
    peer.open_pppoe()
    peer.answer(LCP, Code.CONFIGURE_REJECT, Option(LcpOption.ACCM, bytes(4)))
    peer.answer(LCP, Code.CONFIGURE_REJECT)
    assert peer.discarded("Configure-Reject of options not sent") == 2
    assert peer.lcp_state is State.REQ_SENT


@pytest.mark.parametrize("protocol", [LCP, IPCP])
def test_04_an_unknown_code_gets_a_code_reject(protocol: int) -> None:
    peer = Peer()
    peer.up()
    peer.control(protocol, 99, 7, b"what?")
    (reject,) = peer.heard_of(protocol)
    assert (reject.code, reject.data) == (Code.CODE_REJECT, control.encode(ControlPacket(99, 7, b"what?")))
    assert peer.session.state is SessionState.UP


def test_04_a_code_reject_is_cut_to_the_peers_mru() -> None:
    peer = Peer()
    peer.open_lcp(mru=200)
    peer.heard()
    peer.lcp(99, 7, bytes(1000))
    (heard,) = peer.heard()
    assert len(heard.information) == 200


def test_04_lcps_own_codes_are_unknown_to_ipcp() -> None:
    """IPCP knows the first seven codes only."""
    peer = Peer()
    peer.up()
    peer.control(IPCP, Code.ECHO_REQUEST, 7, bytes(4))
    assert [packet.code for packet in peer.heard_of(IPCP)] == [Code.CODE_REJECT]


@pytest.mark.parametrize("code", range(1, 8))
def test_04_a_code_reject_of_a_code_that_everyone_must_know_ends_the_link(code: int) -> None:
    peer = Peer()
    peer.up()
    peer.lcp(Code.CODE_REJECT, 9, bytes((code, 1, 0, 4)))
    assert [packet.code for packet in peer.heard_of(LCP)] == [Code.TERMINATE_REQUEST]
    assert peer.lcp_state is State.STOPPING
    peer.sleep(10)
    assert [end.kind for end in peer.ends] == [EndKind.NOT_CONVERGING]


@pytest.mark.parametrize("code", [Code.ECHO_REQUEST, Code.IDENTIFICATION, 99])
def test_04_a_code_reject_of_another_code_is_survived(code: int) -> None:
    peer = Peer()
    peer.up()
    peer.lcp(Code.CODE_REJECT, 9, bytes((code, 1, 0, 4)))
    assert (peer.heard(), peer.session.state) == ([], SessionState.UP)


def test_04_a_protocol_reject_of_lcp_itself_ends_the_link() -> None:
    peer = Peer()
    peer.up()
    peer.lcp(Code.PROTOCOL_REJECT, 9, b"\xc0\x21")
    assert peer.lcp_state is State.STOPPING
    assert [packet.code for packet in peer.heard_of(LCP)] == [Code.TERMINATE_REQUEST]


def test_05_an_unknown_protocol_is_rejected_only_while_lcp_is_open() -> None:
    peer = Peer()
    peer.open_pppoe()
    peer.heard()
    peer.ppp(b"\x80\xfd\x01\x01\x00\x04")
    assert peer.heard() == []
    peer.open_lcp()
    peer.heard()
    peer.ppp(b"\x80\xfd\x01\x01\x00\x04")
    (reject,) = peer.heard_of(LCP)
    assert (reject.code, reject.data) == (Code.PROTOCOL_REJECT, b"\x80\xfd\x01\x01\x00\x04")


def test_05_a_protocol_reject_is_cut_to_the_peers_mru() -> None:
    peer = Peer()
    peer.open_lcp(mru=256)
    peer.heard()
    peer.ppp(b"\x80\xfd" + bytes(1000))
    (heard,) = peer.heard()
    assert len(heard.information) == 256


def test_05_a_protocol_reject_stops_that_network_protocol_only() -> None:
    peer = Peer(replace(SETTINGS, ipv6=True))
    peer.open_network()
    peer.heard()
    peer.lcp(Code.PROTOCOL_REJECT, 9, b"\x80\x57\x01\x01\x00\x04")
    peer.open_ipcp()
    assert peer.session.state is SessionState.UP
    assert [event.protocol for event in peer.events if isinstance(event, ProtocolMissing)] == [IPV6CP]
    peer.sleep(60)
    assert not any(heard.protocol == IPV6CP for heard in peer.heard() if heard.in_session)


def test_05_without_any_network_protocol_the_link_ends() -> None:
    peer = Peer(replace(SETTINGS, ipv6=True))
    peer.open_network()
    peer.lcp(Code.PROTOCOL_REJECT, 9, b"\x80\x57\x01\x01\x00\x04")
    peer.lcp(Code.PROTOCOL_REJECT, 10, b"\x80\x21\x01\x01\x00\x04")
    peer.sleep(10)
    assert [end.kind for end in peer.ends] == [EndKind.NO_ADDRESS]


def test_05_a_protocol_reject_before_lcp_is_open_is_discarded() -> None:
    peer = Peer()
    peer.open_pppoe()
    peer.lcp(Code.PROTOCOL_REJECT, 9, b"\xc0\x21")
    assert peer.lcp_state is State.REQ_SENT
    assert peer.discarded("unexpected Protocol-Reject") == 1


def test_06_an_echo_request_is_answered_with_our_magic_and_its_data() -> None:
    peer = Peer()
    peer.up()
    magic = options_of(peer.latest(LCP, Code.CONFIGURE_REQUEST))[1].value
    peer.lcp(Code.ECHO_REQUEST, 123, MAGIC + b"some data")
    assert peer.heard_of(LCP) == [ControlPacket(Code.ECHO_REPLY, 123, magic + b"some data")]


def test_06_the_magic_is_zero_if_it_was_not_negotiated() -> None:
    peer = Peer()
    peer.open_pppoe()
    peer.answer(LCP, Code.CONFIGURE_REJECT, options_of(peer.latest(LCP, Code.CONFIGURE_REQUEST))[1])
    peer.open_lcp()
    peer.heard()
    peer.lcp(Code.ECHO_REQUEST, 1, MAGIC + b"x")
    assert peer.heard_of(LCP) == [ControlPacket(Code.ECHO_REPLY, 1, bytes(4) + b"x")]


def test_06_an_echo_request_before_lcp_is_open_gets_no_answer() -> None:
    peer = Peer()
    peer.open_pppoe()
    peer.heard()
    peer.lcp(Code.ECHO_REQUEST, 1, MAGIC)
    assert peer.heard() == []


def test_06_a_reply_answers_our_request_and_never_the_peers() -> None:
    peer = Peer(replace(SETTINGS, keepalive=KeepaliveSettings(10.0, 4)))
    peer.up()
    peer.sleep(10)
    (ours,) = peer.heard_of(LCP, Code.ECHO_REQUEST)
    peer.lcp(Code.ECHO_REQUEST, ours.identifier + 1, MAGIC)
    peer.now += 0.5
    peer.lcp(Code.ECHO_REPLY, ours.identifier + 1, MAGIC)
    assert peer.session.rtt is None
    assert peer.discarded("Echo-Reply to nothing we sent") == 1
    peer.lcp(Code.ECHO_REPLY, ours.identifier, MAGIC)
    assert peer.session.rtt == pytest.approx(0.5)


def test_06_the_captured_echo_request_is_answered() -> None:
    """The frames of the capture, put into a session with their own addresses and session id."""
    frames = [ethernet.decode(frame) for frame in captured("tcpdump-lcp-echo")]
    requests = [
        frame
        for frame in frames
        if control.decode(ppp.decode(pppoe.decode(frame.payload).payload)[1]).code == Code.ECHO_REQUEST
    ]
    assert requests
    for frame in requests:
        packet = pppoe.decode(frame.payload)
        peer = Peer()
        peer.sid = packet.session_id
        peer.up()
        peer.frame(ethernet.encode(replace(frame, dst=peer.session.own_mac, src=AC)))
        asked = control.decode(ppp.decode(packet.payload)[1])
        (reply,) = peer.heard_of(LCP)
        assert (reply.code, reply.identifier, reply.data[4:]) == (Code.ECHO_REPLY, asked.identifier, asked.data[4:])


@pytest.mark.parametrize("code", [Code.DISCARD_REQUEST, Code.IDENTIFICATION, Code.TIME_REMAINING])
def test_06_what_needs_no_answer_gets_none(code: Code) -> None:
    peer = Peer()
    peer.up()
    peer.lcp(code, 1, MAGIC + b"BNG 7 \x1b[2Jready")
    peer.lcp(code, 1)
    assert (peer.heard(), peer.session.state) == ([], SessionState.UP)
    assert all("\x1b" not in fact.offered for fact in peer.session.facts.by_name.values())


def test_07_the_peers_magic_equals_ours_gets_a_nak_with_a_new_one() -> None:
    peer = Peer()
    peer.open_pppoe()
    ours = options_of(peer.latest(LCP, Code.CONFIGURE_REQUEST))[1]
    peer.heard()
    peer.request(LCP, ours)
    (nak,) = peer.heard_of(LCP)
    assert nak.code == Code.CONFIGURE_NAK
    (suggested,) = options_of(nak)
    assert suggested.type == LcpOption.MAGIC
    assert suggested.value not in (ours.value, bytes(4))


def test_07_a_nak_of_the_magic_leads_to_a_new_one() -> None:
    peer = Peer()
    peer.open_pppoe()
    ours = options_of(peer.latest(LCP, Code.CONFIGURE_REQUEST))[1]
    peer.answer(LCP, Code.CONFIGURE_NAK, ours)
    assert options_of(peer.latest(LCP, Code.CONFIGURE_REQUEST))[1].value != ours.value


def test_07_a_line_that_reflects_everything_is_found_out() -> None:
    peer = Peer()
    peer.open_pppoe()
    for _ in range(200):
        if not (said := [heard for heard in peer.heard() if heard.in_session]):
            peer.sleep(1)
        for heard in said:
            peer.ppp(heard.packet.payload)
        if peer.ends:
            break
    assert [end.kind for end in peer.ends] == [EndKind.LOOPED_BACK]
    assert not any(isinstance(event, Ipv4Opened) for event in peer.events)


def test_07_an_echo_with_our_own_magic_is_no_sign_of_life() -> None:
    peer = Peer(replace(SETTINGS, keepalive=KeepaliveSettings(10.0, 2)))
    peer.up()
    for _ in range(4):
        peer.sleep(10)
        for heard in peer.heard():
            if heard.in_session:
                peer.ppp(heard.packet.payload)
        assert peer.heard_of(LCP, Code.ECHO_REPLY) == []
    assert [end.kind for end in peer.ends] == [EndKind.ECHO_TIMEOUT]
    assert sum(isinstance(event, Notice) for event in peer.events) == 1


def test_08_after_max_failure_naks_the_option_is_rejected() -> None:
    peer = Peer()
    peer.open_pppoe()
    peer.heard()
    codes = []
    for number in range(7):
        peer.request(LCP, Option(LcpOption.MRU, b"\0\x10"), identifier=number)
        codes += [packet.code for packet in peer.heard_of(LCP)]
    assert codes == [Code.CONFIGURE_NAK] * 5 + [Code.CONFIGURE_REJECT] * 2


def test_08_the_peers_naks_are_bounded() -> None:
    peer = Peer()
    peer.open_pppoe()
    for _ in range(100):
        if peer.ends:
            break
        peer.answer(LCP, Code.CONFIGURE_NAK, Option(LcpOption.MRU, b"\xff\xff"))
        peer.sleep(3)
    peer.sleep(10)
    assert [end.kind for end in peer.ends] == [EndKind.NOT_CONVERGING]


def test_08_a_peer_that_answers_for_ever_and_never_agrees_is_given_up() -> None:
    """It acknowledges whatever we ask, and never asks itself: the automaton alone would go on for ever."""
    peer = Peer()
    peer.open_pppoe()
    for _ in range(400):
        if peer.ends:
            break
        for packet in peer.heard_of(LCP, Code.CONFIGURE_REQUEST):
            peer.lcp(Code.CONFIGURE_ACK, packet.identifier, packet.data)
        peer.sleep(1)
    assert [end.kind for end in peer.ends] == [EndKind.NOT_CONVERGING]


@pytest.mark.parametrize(
    "information",
    [
        b"",
        b"\x01\x01\x00",
        b"\x01\x01\x00\x03",
        b"\x01\x01\x00\x05",
        b"\x01\x01\xff\xff",
        b"\x01\x01\x00\x06\x01\x01",
        b"\x01\x01\x00\x06\x01\x00",
        b"\x01\x01\x00\x06\x01\x05",
        b"\x01\x01\x00\x05\x01",
        b"\x01\x01\x00\x09\x01\x04\x05\xd4\x05",
    ],
)
def test_09_malformed_packets_are_discarded(information: bytes) -> None:
    peer = Peer()
    peer.up()
    peer.ppp(b"\xc0\x21" + information)
    assert (peer.heard(), peer.session.state) == ([], SessionState.UP)
    assert sum(peer.session.discards().values()) == 1


def test_09_octets_after_length_are_padding() -> None:
    peer = Peer()
    peer.up()
    peer.ppp(b"\xc0\x21" + control.encode(ControlPacket(Code.ECHO_REQUEST, 5, MAGIC + b"x")) + b"padding")
    (reply,) = peer.heard_of(LCP)
    assert reply.data[4:] == b"x"


def test_10_a_terminate_request_in_opened() -> None:
    """tld, Terminate-Ack, then one restart period of patience, then the PADT."""
    peer = Peer()
    peer.up()
    began = peer.now
    peer.lcp(Code.TERMINATE_REQUEST, 66)
    assert peer.heard_of(LCP) == [ControlPacket(Code.TERMINATE_ACK, 66)]
    assert peer.session.state is SessionState.HANGING_UP
    assert any(isinstance(event, Ipv4Closed) for event in peer.events)
    peer.lcp(Code.ECHO_REQUEST, 1, MAGIC)
    peer.lcp(Code.TERMINATE_REQUEST, 67)
    assert peer.heard_of(LCP) == [ControlPacket(Code.TERMINATE_ACK, 67)]
    peer.sleep(2.9)
    assert peer.heard() == []
    peer.sleep(0.2)
    (padt,) = peer.heard()
    assert padt.packet.code == pppoe.Code.PADT
    assert padt.at - began == pytest.approx(3.0)
    assert [end.kind for end in peer.ends] == [EndKind.PEER_ENDED]


def test_10_a_late_terminate_request_does_not_touch_the_new_session() -> None:
    peer = Peer()
    peer.up()
    peer.padt()
    peer.sid = SID + 1
    peer.up()
    peer.ppp(b"\xc0\x21\x05\x01\x00\x04", sid=SID)
    assert (peer.heard(), peer.session.state) == ([], SessionState.UP)
    assert peer.discarded("unknown session id") == 1


def test_11_network_protocols_wait_for_authentication() -> None:
    peer = Peer()
    peer.open_lcp(CHAP)
    peer.heard()
    peer.request(IPCP, Option(3, b"\x64\x40\0\1"))
    assert peer.heard() == []
    assert peer.discarded("network protocol before authentication is finished") == 1


def test_11_lcp_down_takes_network_protocols_and_authentication_down() -> None:
    peer = Peer()
    peer.up(AuthMethod.CHAP)
    peer.lcp(Code.TERMINATE_REQUEST, 1)
    peer.heard()
    peer.challenge(9)
    peer.request(IPCP, Option(3, b"\x64\x40\0\1"))
    assert peer.heard() == []
    assert peer.session.ipv4 is None


def test_12_field_compression_is_never_asked_for() -> None:
    peer = Peer()
    peer.open_pppoe()
    assert kinds_of(peer.latest(LCP, Code.CONFIGURE_REQUEST)) == [LcpOption.MRU, LcpOption.MAGIC]


def test_12_a_compressed_protocol_number_is_accepted() -> None:
    """IP packets are the data path's; here they only must not count as an unknown protocol."""
    peer = Peer()
    peer.up()
    for frame in captured("pppd-compressed-protocol")[:5]:
        peer.ppp(pppoe.decode(ethernet.decode(frame).payload).payload)
    assert peer.heard() == []
    assert "unknown protocol" not in peer.session.discards()


def test_13_a_configure_request_in_opened_renegotiates_everything() -> None:
    peer = Peer(replace(SETTINGS, auth=(AuthMethod.PAP,)))
    peer.up(AuthMethod.PAP)
    first = peer.latest(LCP, Code.CONFIGURE_REQUEST)
    peer.request(LCP, *peer.lcp_options(PAP)[:2], Option(LcpOption.MAGIC, b"new1"), identifier=0x77)
    assert peer.session.state is SessionState.NEGOTIATING
    assert any(isinstance(event, Ipv4Closed) for event in peer.events)
    codes = [packet.code for packet in peer.heard_of(LCP)]
    assert codes == [Code.CONFIGURE_REQUEST, Code.CONFIGURE_ACK]
    second = peer.latest(LCP, Code.CONFIGURE_REQUEST)
    assert second.identifier != first.identifier
    assert kinds_of(second) == kinds_of(first)
    peer.answer(LCP, Code.CONFIGURE_ACK)
    assert peer.link.phase is Phase.AUTHENTICATE
    peer.control(Protocol.PAP, 2, peer.latest(Protocol.PAP, 1).identifier, b"\0")
    assert [event.method for event in peer.events if isinstance(event, Authenticated)] == [AuthMethod.PAP]
    peer.open_ipcp("100.64.0.77")
    assert peer.session.state is SessionState.UP
    assert peer.session.ipv4 is not None
    assert str(peer.session.ipv4.address) == "100.64.0.77"


def test_13_renegotiation_asks_again_for_what_was_rejected_before() -> None:
    peer = Peer()
    peer.open_pppoe()
    peer.answer(LCP, Code.CONFIGURE_REJECT, options_of(peer.latest(LCP, Code.CONFIGURE_REQUEST))[1])
    peer.open_lcp()
    peer.now += 10
    peer.request(LCP, Option(LcpOption.MAGIC, b"new1"), identifier=0x77)
    assert kinds_of(peer.latest(LCP, Code.CONFIGURE_REQUEST)) == [LcpOption.MRU, LcpOption.MAGIC]


def test_14_the_first_restart_is_short_and_grows_to_the_rfcs_three_seconds() -> None:
    peer = Peer()
    peer.session._timing = Timing()
    peer.open_pppoe()
    peer.sleep(120)
    said: list[Heard] = [heard for heard in peer.heard() if heard.in_session]
    requests = [heard for heard in said if heard.control.code == Code.CONFIGURE_REQUEST]
    gaps = [later.at - earlier.at for earlier, later in pairwise(requests)]
    assert gaps == pytest.approx([0.25, 0.5, 1.0, 2.0, 3.0, 3.0, 3.0, 3.0, 3.0])
    assert len({heard.control.identifier for heard in requests}) == 1
    assert [end.kind for end in peer.ends] == [EndKind.NO_ANSWER]


def test_14_the_timer_grows_also_towards_a_peer_that_acknowledges_and_asks_for_nothing() -> None:
    """As a concentrator does that waits for its own back end before it asks."""
    peer = Peer()
    peer.session._timing = Timing()
    peer.open_pppoe()
    times = []
    while peer.now < 120:
        times += [heard.at for heard in peer.heard() if heard.in_session]
        peer.answer(LCP, Code.CONFIGURE_ACK)
        due = peer.session.next_timer()
        assert due is not None
        peer.sleep(due - peer.now)
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert gaps[:7] == pytest.approx([0.25, 0.5, 1.0, 2.0, 3.0, 3.0, 3.0])
    assert peer.session.state is SessionState.NEGOTIATING


def test_a_duplicated_frame_of_the_set_up_does_no_harm() -> None:
    """Every frame of the concentrator comes twice."""
    peer = Peer()
    plain = peer.frame

    def twice(frame: bytes) -> None:
        plain(frame)
        plain(frame)

    peer.frame = twice  # type: ignore[method-assign]
    peer.open_network(AuthMethod.CHAP)
    peer.open_ipcp()
    assert peer.session.state is SessionState.UP
    assert not any(isinstance(event, Ipv4Closed) for event in peer.events)


def test_wrong_ethertype_or_code_is_counted() -> None:
    peer = Peer()
    peer.up()
    peer.say(ETH_PPPOE_SESSION, pppoe.PppoePacket(pppoe.Code.PADT, SID, b""))
    peer.discovery(0, [], SID)
    assert peer.session.state is SessionState.UP
    assert peer.discarded("wrong EtherType for its code") == 1
    assert peer.discarded("unexpected discovery code") == 1
