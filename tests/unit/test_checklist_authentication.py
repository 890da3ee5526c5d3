"""The protocol checklist, "Authentication", line by line."""

from __future__ import annotations

import hashlib

import pytest
from msgspec.structs import replace

from engine.api.ending import End, EndKind
from engine.api.values import SessionState
from engine.ppp import mschapv2
from engine.ppp.automaton import State
from engine.ppp.link_events import Authenticated
from engine.ppp.phases import Phase
from engine.settings.values import AuthMethod
from engine.wire import auth, control
from engine.wire.auth import ChapCode, PapCode
from engine.wire.control import Code, ControlPacket, LcpOption, Option
from engine.wire.ppp import Protocol
from engine.wire.pppoe import Tag, TagType

from .peer import CHAP, EAP, MSCHAPV2, PAP, SETTINGS, Peer

USER, PASSWORD = b"alice", "wonderland"
CHALLENGE = bytes(range(16))
MS_FAILURE = b"E=691 R=%d C=" + b"0F" * 16 + b" V=3 M=Wrong, sorry"


def authenticated(peer: Peer) -> list[AuthMethod]:
    return [event.method for event in peer.events if isinstance(event, Authenticated)]


# PAP


def test_pap_resends_until_it_is_answered() -> None:
    peer = Peer()
    peer.open_lcp(PAP)
    peer.sleep(10)
    requests = peer.heard_of(Protocol.PAP)
    assert [packet.identifier for packet in requests] == [1, 2, 3, 4]
    assert all(auth.decode_pap_request(packet.data) == (USER, PASSWORD.encode()) for packet in requests)
    peer.control(Protocol.PAP, PapCode.ACK, 4, b"\0")
    peer.sleep(10)
    assert peer.heard_of(Protocol.PAP) == []
    assert authenticated(peer) == [AuthMethod.PAP]


def test_pap_takes_the_answer_to_an_earlier_request() -> None:
    """A concentrator that waits for its RADIUS server answers the first request after the second has been sent."""
    peer = Peer()
    peer.open_lcp(PAP)
    peer.sleep(4)
    peer.control(Protocol.PAP, PapCode.ACK, 1, b"\0")
    assert authenticated(peer) == [AuthMethod.PAP]


@pytest.mark.parametrize("identifier", [0, 2, 255])
def test_pap_an_answer_to_no_request_is_discarded(identifier: int) -> None:
    peer = Peer()
    peer.open_lcp(PAP)
    peer.control(Protocol.PAP, PapCode.NAK, identifier, b"\0")
    peer.control(Protocol.PAP, PapCode.ACK, identifier, b"\0")
    assert peer.link.phase is Phase.AUTHENTICATE
    assert peer.discarded("unexpected PAP packet") == 2


def test_pap_gives_up_in_the_end() -> None:
    peer = Peer()
    peer.open_lcp(PAP)
    peer.sleep(60)
    assert [end.kind for end in peer.ends] == [EndKind.NO_ANSWER]


@pytest.mark.parametrize("data", [b"", b"\0", b"\x05hello", b"\xffhello", b"\x02hello", b"hello"])
def test_pap_the_messages_length_may_be_wrong_or_missing(data: bytes) -> None:
    peer = Peer()
    peer.open_lcp(PAP)
    peer.control(Protocol.PAP, PapCode.ACK, 1, data)
    assert authenticated(peer) == [AuthMethod.PAP]


def test_pap_a_nak_says_why_and_never_the_password() -> None:
    peer = Peer()
    peer.open_lcp(PAP)
    peer.control(Protocol.PAP, PapCode.NAK, 1, b"\x0cGo away\x1b[2J!")
    peer.sleep(10)
    (end,) = peer.ends
    assert end.kind is EndKind.WRONG_PASSWORD
    assert "Go away" in end.text
    assert "\x1b" not in end.text
    assert PASSWORD not in repr(peer.events) + repr(peer.session.settings) + repr(peer.session.facts.by_name)


# CHAP


def response_to(value: bytes, identifier: int = 1) -> ControlPacket:
    digest = hashlib.md5(bytes((identifier,)) + PASSWORD.encode() + value).digest()
    return ControlPacket(ChapCode.RESPONSE, identifier, auth.encode_chap_value(digest, USER))


def test_chap_answers_a_challenge() -> None:
    peer = Peer()
    peer.open_lcp(CHAP)
    peer.challenge(17, b"any length")
    assert peer.heard_of(Protocol.CHAP) == [response_to(b"any length", 17)]
    peer.control(Protocol.CHAP, ChapCode.SUCCESS, 17, b"Welcome")
    assert authenticated(peer) == [AuthMethod.CHAP]


@pytest.mark.parametrize("method", [CHAP, MSCHAPV2])
def test_chap_a_repeated_challenge_gets_the_same_response(method: bytes) -> None:
    peer = Peer()
    peer.open_lcp(method)
    peer.challenge(5)
    peer.challenge(5)
    first, second = peer.heard_of(Protocol.CHAP)
    assert first == second


def test_chap_a_new_challenge_at_any_time_is_answered() -> None:
    peer = Peer()
    peer.up(AuthMethod.CHAP)
    peer.challenge(9, b"prove it again")
    assert peer.heard_of(Protocol.CHAP) == [response_to(b"prove it again", 9)]
    peer.control(Protocol.CHAP, ChapCode.SUCCESS, 9)
    assert peer.session.state is SessionState.UP


def test_chap_a_lost_verdict_on_a_later_challenge_is_no_failure() -> None:
    peer = Peer(replace(SETTINGS, keepalive=replace(SETTINGS.keepalive, interval=0)))
    peer.up(AuthMethod.CHAP)
    peer.challenge(9, b"prove it again")
    peer.sleep(600)
    assert peer.session.state is SessionState.UP


def test_chap_a_failure_of_a_later_challenge_ends_the_session() -> None:
    peer = Peer()
    peer.up(AuthMethod.CHAP)
    peer.challenge(9, b"prove it again")
    peer.control(Protocol.CHAP, ChapCode.FAILURE, 9, b"expired")
    peer.sleep(10)
    assert [end.kind for end in peer.ends] == [EndKind.WRONG_PASSWORD]
    assert "expired" in peer.ends[0].text


@pytest.mark.parametrize("code", [ChapCode.SUCCESS, ChapCode.FAILURE])
def test_chap_a_verdict_with_the_wrong_identifier_is_ignored(code: ChapCode) -> None:
    peer = Peer()
    peer.open_lcp(CHAP)
    peer.control(Protocol.CHAP, code, 1)
    peer.challenge(1)
    peer.control(Protocol.CHAP, code, 2)
    assert peer.link.phase is Phase.AUTHENTICATE
    assert peer.discarded("unexpected CHAP verdict") == 2


def test_chap_a_second_verdict_is_ignored() -> None:
    peer = Peer()
    peer.up(AuthMethod.CHAP)
    peer.control(Protocol.CHAP, ChapCode.FAILURE, 1, b"too late")
    assert peer.session.state is SessionState.UP


@pytest.mark.parametrize("data", [b"", b"\0name", b"\x10short", b"\xff" + bytes(200)])
def test_chap_a_value_past_the_end_is_discarded(data: bytes) -> None:
    peer = Peer()
    peer.open_lcp(CHAP)
    peer.heard()
    peer.control(Protocol.CHAP, ChapCode.CHALLENGE, 1, data)
    assert peer.heard() == []
    assert sum(peer.session.discards().values()) == 1


@pytest.mark.parametrize("agreed", [None, PAP])
def test_chap_a_challenge_that_was_not_negotiated_is_not_answered(agreed: bytes | None) -> None:
    peer = Peer()
    peer.open_lcp(agreed)
    peer.heard()
    peer.challenge()
    assert peer.heard() == []
    assert peer.discarded("authentication that was not negotiated") == 1


def test_chap_never_falls_back_to_pap_and_never_resends_by_itself() -> None:
    peer = Peer()
    peer.open_lcp(CHAP)
    peer.challenge()
    assert len(peer.heard_of(Protocol.CHAP)) == 1
    peer.sleep(25)
    assert not any(heard.protocol in (Protocol.CHAP, Protocol.PAP) for heard in peer.heard())
    peer.sleep(30)
    assert [end.kind for end in peer.ends] == [EndKind.NO_ANSWER]


def test_chap_endless_challenges_without_a_verdict_are_given_up() -> None:
    peer = Peer()
    peer.open_lcp(CHAP)
    for number in range(60):
        peer.challenge(number)
        peer.sleep(1)
        if peer.ends:
            break
    peer.sleep(10)
    assert [end.kind for end in peer.ends] == [EndKind.NO_ANSWER]


@pytest.mark.parametrize("method", [AuthMethod.PAP, AuthMethod.CHAP])
def test_a_verdict_lost_and_then_a_terminate_request_tells_of_authentication(method: AuthMethod) -> None:
    peer = Peer()
    peer.open_lcp({AuthMethod.PAP: PAP, AuthMethod.CHAP: CHAP}[method])
    if method is AuthMethod.CHAP:
        peer.challenge()
    peer.lcp(Code.TERMINATE_REQUEST, 1)
    peer.sleep(10)
    (end,) = peer.ends
    assert end.kind is EndKind.REFUSED
    assert "during authentication (Terminate-Request). Are user name and password right?" in end.text


@pytest.mark.parametrize("method", [AuthMethod.PAP, AuthMethod.CHAP])
@pytest.mark.parametrize("padt", [False, True])
def test_a_verdict_that_a_terminate_request_overtook_is_the_reason(method: AuthMethod, padt: bool) -> None:
    peer = Peer()
    peer.open_lcp({AuthMethod.PAP: PAP, AuthMethod.CHAP: CHAP}[method])
    if method is AuthMethod.CHAP:
        peer.challenge()
    peer.lcp(Code.TERMINATE_REQUEST, 99)
    peer.heard()
    if method is AuthMethod.CHAP:
        peer.control(Protocol.CHAP, 4, 1, b"no")
    else:
        peer.control(Protocol.PAP, 3, peer.latest(Protocol.PAP, 1).identifier, b"\2no")
    assert peer.heard() == [], "nothing more is said in its name"
    if padt:
        peer.padt()
    peer.sleep(10)
    assert peer.ends == [End(EndKind.WRONG_PASSWORD, f'The password was refused ({method}): "no".')]


# The choice of the protocol


@pytest.mark.parametrize(
    ("allowed", "wanted", "suggested"),
    [
        ((AuthMethod.CHAP, AuthMethod.PAP), EAP, CHAP),
        ((AuthMethod.CHAP,), PAP, CHAP),
        ((AuthMethod.PAP,), CHAP, PAP),
        ((AuthMethod.MSCHAPV2, AuthMethod.CHAP), PAP, MSCHAPV2),
        ((AuthMethod.CHAP,), b"\xc2\x23\x80", CHAP),
        ((AuthMethod.CHAP,), b"\xc2\x23", CHAP),
        ((AuthMethod.CHAP,), MSCHAPV2 + b"\0", CHAP),
    ],
)
def test_a_method_that_is_not_allowed_gets_a_nak_with_one_that_is(
    allowed: tuple[AuthMethod, ...], wanted: bytes, suggested: bytes
) -> None:
    peer = Peer(replace(SETTINGS, auth=allowed))
    peer.open_pppoe()
    peer.heard()
    peer.request(Protocol.LCP, Option(LcpOption.AUTHENTICATION, wanted))
    (nak,) = peer.heard_of(Protocol.LCP)
    assert nak.code == Code.CONFIGURE_NAK
    assert control.decode_options(nak.data) == (Option(LcpOption.AUTHENTICATION, suggested),)


def test_a_method_that_is_asked_for_again_gets_a_nak_with_the_next_one_that_is_allowed() -> None:
    """A concentrator may know none but the last of them, and take nothing but what a Nak suggests."""
    peer = Peer()
    peer.open_pppoe()
    suggested = []
    for number in range(4):
        peer.heard()
        peer.request(Protocol.LCP, Option(LcpOption.AUTHENTICATION, EAP), identifier=number)
        (nak,) = peer.heard_of(Protocol.LCP)
        suggested += [option.value for option in control.decode_options(nak.data)]
    assert suggested == [MSCHAPV2, CHAP, PAP, MSCHAPV2]


def test_a_concentrator_that_insists_is_left_with_a_reason() -> None:
    peer = Peer(replace(SETTINGS, auth=(AuthMethod.CHAP,)))
    peer.open_pppoe()
    peer.answer(Protocol.LCP, Code.CONFIGURE_ACK)
    codes = []
    for number in range(8):
        peer.request(Protocol.LCP, Option(LcpOption.AUTHENTICATION, PAP), identifier=number)
        codes += [packet.code for packet in peer.heard_of(Protocol.LCP) if packet.code != Code.CONFIGURE_REQUEST]
    assert codes == [Code.CONFIGURE_NAK] * 5 + [Code.CONFIGURE_REJECT] * 3
    peer.padt()
    assert [end.kind for end in peer.ends] == [EndKind.AUTH_METHOD]
    assert peer.session.facts.by_name["authentication"].refused == "pap"


def test_a_concentrator_that_gives_in_at_first_and_then_leaves_has_the_same_reason() -> None:
    """As pppd does: it drops the option that was refused, opens LCP, and terminates."""
    peer = Peer(replace(SETTINGS, auth=(AuthMethod.CHAP,)))
    peer.open_pppoe()
    peer.answer(Protocol.LCP, Code.CONFIGURE_ACK)
    peer.request(Protocol.LCP, Option(LcpOption.AUTHENTICATION, PAP))
    peer.request(Protocol.LCP, identifier=2)
    peer.lcp(Code.TERMINATE_REQUEST, 200)
    peer.sleep(5)
    assert [end.kind for end in peer.ends] == [EndKind.AUTH_METHOD]
    assert "pap" in peer.ends[0].text


def test_without_a_user_authentication_is_rejected() -> None:
    peer = Peer(replace(SETTINGS, user="", password=""))
    peer.open_pppoe()
    peer.heard()
    peer.request(Protocol.LCP, Option(LcpOption.AUTHENTICATION, CHAP))
    assert [packet.code for packet in peer.heard_of(Protocol.LCP)] == [Code.CONFIGURE_REJECT]


@pytest.mark.parametrize("stage", ["before LCP", "authenticating", "up"])
@pytest.mark.parametrize(
    "packet", [b"\x01\x01\x00\x05\x01", b"\x01\x01\x00\x04", bytes(1000), b"\x03\x01\xff\xff" + bytes(1200)]
)
def test_eap_is_discarded_at_any_time(stage: str, packet: bytes) -> None:
    peer = Peer()
    peer.open_pppoe()
    if stage == "authenticating":
        peer.open_lcp(CHAP)
    elif stage == "up":
        peer.open_network(AuthMethod.CHAP)
        peer.open_ipcp()
    before = peer.session.state
    peer.heard()
    peer.ppp(EAP + packet)
    assert (peer.heard(), peer.session.state) == ([], before)
    assert peer.discarded("authentication that was not negotiated") == 1


# MS-CHAPv2


def ms_response(peer: Peer, identifier: int = 1) -> tuple[bytes, bytes, bytes]:
    """(peer challenge, NT-Response, name) of the one Response heard."""
    (packet,) = peer.heard_of(Protocol.CHAP)
    assert (packet.code, packet.identifier) == (ChapCode.RESPONSE, identifier)
    value, name = auth.decode_chap_value(packet.data)
    assert len(value) == 49
    assert value[16:24] == bytes(8)
    assert value[48] == 0
    return value[:16], value[24:48], name


def ms_proof(ours: bytes, response: bytes, challenge: bytes = CHALLENGE, password: str = PASSWORD) -> bytes:
    return mschapv2.authenticator_response(
        mschapv2.nt_password_hash(password), response, ours, challenge, USER
    ).encode()


def test_mschapv2_the_whole_exchange() -> None:
    peer = Peer()
    peer.open_lcp(MSCHAPV2)
    peer.challenge(1, CHALLENGE)
    ours, response, name = ms_response(peer)
    assert name == USER
    assert response == mschapv2.nt_response(CHALLENGE, ours, USER, mschapv2.nt_password_hash(PASSWORD))
    peer.control(Protocol.CHAP, ChapCode.SUCCESS, 1, ms_proof(ours, response) + b" M=Welcome home")
    (event,) = [event for event in peer.events if isinstance(event, Authenticated)]
    assert (event.method, event.message) == (AuthMethod.MSCHAPV2, "Welcome home")


def test_mschapv2_the_domain_is_sent_but_not_hashed() -> None:
    peer = Peer(replace(SETTINGS, user="BIGCO\\alice"))
    peer.open_lcp(MSCHAPV2)
    peer.challenge(1, CHALLENGE)
    ours, response, name = ms_response(peer)
    assert name == b"BIGCO\\alice"
    assert response == mschapv2.nt_response(CHALLENGE, ours, USER, mschapv2.nt_password_hash(PASSWORD))


@pytest.mark.parametrize("message", [b"", b"S=", b"M=Welcome", b"S=" + b"0" * 40 + b" M=Welcome"])
def test_mschapv2_without_the_concentrators_proof_the_session_ends(message: bytes) -> None:
    peer = Peer()
    peer.open_lcp(MSCHAPV2)
    peer.challenge(1, CHALLENGE)
    peer.control(Protocol.CHAP, ChapCode.SUCCESS, 1, message)
    peer.sleep(10)
    assert [end.kind for end in peer.ends] == [EndKind.WRONG_PASSWORD]
    assert "prove" in peer.ends[0].text


@pytest.mark.parametrize("size", [1, 8, 15, 17, 255])
def test_mschapv2_a_challenge_of_another_size_is_discarded(size: int) -> None:
    peer = Peer()
    peer.open_lcp(MSCHAPV2)
    peer.heard()
    peer.challenge(1, bytes(size))
    assert peer.heard() == []


def test_mschapv2_retry_uses_the_new_challenge() -> None:
    peer = Peer()
    peer.open_lcp(MSCHAPV2)
    peer.challenge(1, CHALLENGE)
    ms_response(peer)
    peer.control(Protocol.CHAP, ChapCode.FAILURE, 1, MS_FAILURE % 1)
    ours, response, _ = ms_response(peer, identifier=2)
    assert response == mschapv2.nt_response(b"\x0f" * 16, ours, USER, mschapv2.nt_password_hash(PASSWORD))
    peer.control(Protocol.CHAP, ChapCode.SUCCESS, 2, ms_proof(ours, response, b"\x0f" * 16))
    assert authenticated(peer) == [AuthMethod.MSCHAPV2]


@pytest.mark.parametrize("goodbye", ["Terminate-Request", "PADT", "PADT with a text", "silence"])
@pytest.mark.parametrize(("error", "retry"), [(691, 1), (691, 0), (648, 0), (648, 1), (649, 0), (649, 1)])
def test_mschapv2_a_refused_password_is_the_reason_however_the_concentrator_leaves(
    error: int, retry: int, goodbye: str
) -> None:
    peer = Peer()
    peer.open_lcp(MSCHAPV2)
    peer.challenge(1, CHALLENGE)
    failure = b"E=%d R=%d C=%s V=3 M=Wrong, sorry" % (error, retry, b"0F" * 16)
    peer.control(Protocol.CHAP, ChapCode.FAILURE, 1, failure)
    match goodbye:
        case "Terminate-Request":
            peer.lcp(Code.TERMINATE_REQUEST, 77)
        case "PADT":
            peer.padt()
        case "PADT with a text":
            peer.padt(Tag(TagType.GENERIC_ERROR, b"pppd has ended"))
    peer.sleep(60)
    (end,) = peer.ends
    assert (end.kind, end.text) == (EndKind.WRONG_PASSWORD, 'The password was refused (mschapv2): "Wrong, sorry".')


@pytest.mark.parametrize("method", [PAP, CHAP])
def test_a_padt_after_a_refusal_does_not_hide_it(method: bytes) -> None:
    """It comes before our Terminate-Request can be acknowledged; the account must be slowed down all the same."""
    peer = Peer()
    peer.open_lcp(method)
    if method == PAP:
        peer.control(Protocol.PAP, PapCode.NAK, 1, b"\x02no")
    else:
        peer.challenge()
        peer.control(Protocol.CHAP, ChapCode.FAILURE, 1, b"no")
    peer.padt()
    assert [end.kind for end in peer.ends] == [EndKind.WRONG_PASSWORD]


def test_mschapv2_retries_are_bounded() -> None:
    peer = Peer()
    peer.open_lcp(MSCHAPV2)
    peer.challenge(1, CHALLENGE)
    for number in range(1, 10):
        if peer.session.state is not SessionState.AUTHENTICATING:
            break
        failure = b"E=691 R=1 C=" + bytes((48 + number,)) * 32 + b" V=3 M=no"
        peer.control(Protocol.CHAP, ChapCode.FAILURE, number, failure)
    assert len(peer.heard_of(Protocol.CHAP)) == 3
    peer.sleep(10)
    assert [end.kind for end in peer.ends] == [EndKind.WRONG_PASSWORD]


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (MS_FAILURE % 0, "Wrong, sorry"),
        (b"E=648 R=0 C=" + b"00" * 16 + b" V=3", "expired"),
        (b"E=647", "disabled"),
        (b"E=12345 R=0", "E=12345"),
        (b"R=1 C=zz M=no", "no"),
        (b"\xff\xfe", "\ufffd"),
    ],
)
def test_mschapv2_a_failure_says_why(message: bytes, shown: str) -> None:
    peer = Peer()
    peer.open_lcp(MSCHAPV2)
    peer.challenge(1, CHALLENGE)
    peer.control(Protocol.CHAP, ChapCode.FAILURE, 1, message)
    peer.sleep(10)
    (end,) = peer.ends
    assert end.kind is EndKind.WRONG_PASSWORD
    assert shown in end.text


def test_the_concentrator_refuses_a_client_that_refuses_to_prove_itself() -> None:
    """`auth: [chap]` against a concentrator that accepts PAP only: neither side gives in."""
    peer = Peer(replace(SETTINGS, auth=(AuthMethod.CHAP,)))
    peer.open_pppoe()
    peer.request(Protocol.LCP, Option(LcpOption.AUTHENTICATION, PAP))
    assert peer.lcp_state is State.REQ_SENT
