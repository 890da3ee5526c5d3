"""Which authentication a session lets a concentrator ask for, and that it isn't talked down; docs/SAFETY.md."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import pytest
from msgspec.structs import replace

from engine.api.ending import End, EndKind
from engine.api.values import SessionState, Severity
from engine.lab.concentrator import LabSettings
from engine.lab.faults import FAULTS
from engine.ppp import mschapv2, strength
from engine.ppp.automaton import State
from engine.ppp.link_events import Authenticated
from engine.ppp.negotiator import MAX_REPEATS
from engine.record.proofs import ProofsError, ProofsFile
from engine.sessions.proofs import MAX_PROOFS, Proofs
from engine.sessions.session import SentInClear
from engine.settings.values import AuthMethod, SessionSettings
from engine.wire import auth, control
from engine.wire.auth import ChapCode
from engine.wire.control import Code, LcpOption, Option
from engine.wire.ppp import Protocol

from .peer import AC, CHAP, MSCHAPV2, PAP, STRANGER, Peer
from .supervisor.world import World, session

M, C, P, NONE = AuthMethod.MSCHAPV2, AuthMethod.CHAP, AuthMethod.PAP, AuthMethod.NONE
USUAL = SessionSettings("test", user="alice", password="wonderland", ipv6=False)
"""With the methods that a session has where its settings name none."""
VALUES = {M: MSCHAPV2, C: CHAP, P: PAP}
UP = SessionState.UP


def usual(*allowed: AuthMethod) -> Peer:
    return Peer(replace(USUAL, auth=allowed) if allowed else USUAL)


def asks_for(peer: Peer, method: AuthMethod | None, identifier: int = 0x21) -> tuple[int, bytes]:
    """What the session answers to a Configure-Request with that method: the code, and the method that it names."""
    peer.heard()
    peer.request(Protocol.LCP, *peer.lcp_options(VALUES[method] if method else None), identifier=identifier)
    answers = (Code.CONFIGURE_ACK, Code.CONFIGURE_NAK, Code.CONFIGURE_REJECT)
    (answer,) = [packet for packet in peer.heard_of(Protocol.LCP) if packet.code in answers]
    named = [it.value for it in control.decode_options(answer.data) if it.type == LcpOption.AUTHENTICATION]
    return answer.code, b"".join(named)


def prove(peer: Peer, method: AuthMethod) -> None:
    """From an open LCP to the network protocols, as a concentrator that knows the password."""
    if method is P:
        peer.control(Protocol.PAP, 2, peer.latest(Protocol.PAP, 1).identifier, b"\0")
        return
    challenge = bytes(range(16))
    peer.challenge(1, challenge)
    value, _ = auth.decode_chap_value(peer.latest(Protocol.CHAP, ChapCode.RESPONSE).data)
    proof = b""
    if method is M:
        proof = mschapv2.authenticator_response(
            mschapv2.nt_password_hash("wonderland"), value[24:48], value[:16], challenge, b"alice"
        ).encode()
    peer.control(Protocol.CHAP, ChapCode.SUCCESS, 1, proof)


def once(peer: Peer, method: AuthMethod) -> None:
    """One whole life of the session with that method, down to its end."""
    peer.open_lcp(VALUES[method])
    prove(peer, method)
    peer.open_ipcp()
    assert peer.session.state is UP
    peer.hang_up()
    peer.sleep(10)
    assert peer.session.state is SessionState.DOWN
    peer.events.clear()


# The strongest that both can do


@pytest.mark.parametrize(
    ("asked", "suggestions"), [(M, []), (C, [MSCHAPV2]), (P, [MSCHAPV2, CHAP])], ids=["mschapv2", "chap", "pap"]
)
def test_each_better_method_is_suggested_once_before_a_lesser_one_is_taken(
    asked: AuthMethod, suggestions: list[bytes]
) -> None:
    peer = usual()
    peer.open_pppoe()
    for number, better in enumerate(suggestions):
        assert asks_for(peer, asked, number) == (Code.CONFIGURE_NAK, better)
    assert asks_for(peer, asked, 99) == (Code.CONFIGURE_ACK, VALUES[asked])


@pytest.mark.parametrize("can", [(P,), (C,), (M,), (P, C), (P, M), (C, M), (P, C, M), (C, P), (C, P, M)])
def test_the_strongest_of_the_concentrators_methods_is_used(can: tuple[AuthMethod, ...]) -> None:
    """Whichever it asks for first."""
    world = World([session("one")], lab=LabSettings(any_account=True, auth=can)).open()
    world.until(lambda: world.states() == {UP})
    (event,) = world.events("authenticated")
    best = next(method for method in AuthMethod if method in can)
    assert event.text.startswith(f"Authenticated by {best}")


def test_a_request_that_crossed_our_nak_is_no_insistence() -> None:
    """A busy concentrator sends it again before it has read the Nak; the best method is not to be lost for that."""
    peer = usual()
    peer.open_pppoe()
    assert asks_for(peer, C, 1) == (Code.CONFIGURE_NAK, MSCHAPV2)
    assert asks_for(peer, C, 1) == (Code.CONFIGURE_NAK, MSCHAPV2)
    assert asks_for(peer, C, 1) == (Code.CONFIGURE_NAK, MSCHAPV2)
    assert asks_for(peer, M, 2) == (Code.CONFIGURE_ACK, MSCHAPV2)


def test_a_refused_request_that_comes_late_renegotiates_nothing() -> None:
    """Frames of a session that is known by now overtake those that came before."""
    peer = usual()
    peer.open_pppoe()
    assert asks_for(peer, C, 1) == (Code.CONFIGURE_NAK, MSCHAPV2)
    assert asks_for(peer, M, 2) == (Code.CONFIGURE_ACK, MSCHAPV2)
    peer.request(Protocol.LCP, *peer.lcp_options(CHAP), identifier=1)
    peer.answer(Protocol.LCP, Code.CONFIGURE_ACK)
    peer.request(Protocol.LCP, *peer.lcp_options(CHAP), identifier=1)
    assert peer.lcp_state is State.OPENED
    assert peer.discarded("Configure-Request from before the one acknowledged") == 2
    prove(peer, M)
    peer.open_ipcp()
    assert peer.session.state is UP


def test_a_concentrator_that_never_changes_its_identifier_comes_up() -> None:
    peer = usual()
    peer.open_pppoe()
    answers = [asks_for(peer, C, 1)[0] for _ in range(MAX_REPEATS + 2)]
    assert answers == [Code.CONFIGURE_NAK] * (MAX_REPEATS + 1) + [Code.CONFIGURE_ACK]


def test_the_operators_order_is_the_order_of_suggestions() -> None:
    peer = usual(C, M)
    peer.open_pppoe()
    assert asks_for(peer, M, 1) == (Code.CONFIGURE_NAK, CHAP)
    assert asks_for(peer, M, 2) == (Code.CONFIGURE_ACK, MSCHAPV2)


@pytest.mark.parametrize("goodbye", ["opens without", "Terminate-Request", "PADT", "silence"])
def test_a_concentrator_that_gives_up_for_a_suggestion_is_not_asked_again(goodbye: str) -> None:
    """As pppd does that has been told PAP and nothing else."""
    peer = usual()
    peer.open_pppoe()
    peer.answer(Protocol.LCP, Code.CONFIGURE_ACK)
    assert asks_for(peer, P) == (Code.CONFIGURE_NAK, MSCHAPV2)
    match goodbye:
        case "opens without":
            assert asks_for(peer, None, 0x22) == (Code.CONFIGURE_ACK, b"")
        case "Terminate-Request":
            peer.lcp(Code.TERMINATE_REQUEST, 9)
        case "PADT":
            peer.padt()
    peer.sleep(60)
    (end,) = peer.ends
    assert (end.kind, end.text) == (
        EndKind.NO_BETTER,
        "The concentrator gave up when it was asked for better than pap. It is not asked again.",
    )
    peer.open_pppoe()
    assert asks_for(peer, P) == (Code.CONFIGURE_ACK, PAP)


# One that asks for nothing


@pytest.mark.parametrize("allowed", [(M,), (M, C, P), (P,)])
def test_a_concentrator_that_asks_for_nothing_is_refused(allowed: tuple[AuthMethod, ...]) -> None:
    peer = usual(*allowed)
    peer.open_pppoe()
    peer.answer(Protocol.LCP, Code.CONFIGURE_ACK)
    assert asks_for(peer, None) == (Code.CONFIGURE_ACK, b"")
    peer.sleep(10)
    assert peer.ends == [
        End(
            EndKind.AUTH_METHOD,
            "The concentrator asks for no authentication: refused. `none` in `auth` would allow that.",
        )
    ]
    assert not peer.heard_of(Protocol.IPCP)


@pytest.mark.parametrize("allowed", [(NONE,), (NONE, M), (M, NONE, P)])
def test_none_allows_it(allowed: tuple[AuthMethod, ...]) -> None:
    peer = usual(*allowed)
    peer.open_network()
    peer.open_ipcp()
    assert peer.session.state is UP


def test_without_a_user_there_is_nothing_to_be_asked_for() -> None:
    peer = Peer(replace(USUAL, user="", password=""))
    peer.open_network()
    peer.open_ipcp()
    assert peer.session.state is UP


def test_none_alone_proves_nothing_to_anybody() -> None:
    peer = usual(NONE)
    peer.open_pppoe()
    assert asks_for(peer, C) == (Code.CONFIGURE_REJECT, CHAP)


# Not talked down


WEAKER = "The concentrator asks for {} now and did {} with this account before: refused. If it is right to do so, set "


@pytest.mark.parametrize(("before", "then"), [(M, P), (C, P), (M, C), (M, None), (C, None), (P, None)])
def test_a_concentrator_that_once_did_better_is_refused(before: AuthMethod, then: AuthMethod | None) -> None:
    peer = usual()
    once(peer, before)
    peer.open_pppoe()
    peer.answer(Protocol.LCP, Code.CONFIGURE_ACK)
    peer.heard()
    for identifier in range(10):
        if peer.session.state is SessionState.NEGOTIATING:
            options = peer.lcp_options(VALUES[then] if then else None)
            peer.request(Protocol.LCP, *options, identifier=identifier)
    sent = peer.heard()
    assert not [it for it in sent if it.in_session and it.protocol in (Protocol.PAP, Protocol.CHAP, Protocol.IPCP)]
    peer.sleep(20)
    (end,) = peer.ends
    wanted = then or "no authentication"
    assert end.kind is EndKind.WEAKER
    assert end.text == WEAKER.format(wanted, before) + f"`auth: [{then or NONE}]` for this session."


@pytest.mark.parametrize("goodbye", ["opens without", "Terminate-Request", "PADT", "silence"])
def test_that_is_the_reason_however_the_concentrator_leaves(goodbye: str) -> None:
    peer = usual()
    once(peer, C)
    peer.open_pppoe()
    peer.answer(Protocol.LCP, Code.CONFIGURE_ACK)
    assert asks_for(peer, P)[0] == Code.CONFIGURE_NAK
    match goodbye:
        case "opens without":
            asks_for(peer, None, 0x22)
        case "Terminate-Request":
            peer.lcp(Code.TERMINATE_REQUEST, 9)
        case "PADT":
            peer.padt()
    peer.sleep(60)
    (end,) = peer.ends
    assert (end.kind, end.text) == (EndKind.WEAKER, WEAKER.format("pap", "chap") + "`auth: [pap]` for this session.")


@pytest.mark.parametrize(("allowed", "then"), [((P,), P), ((NONE, P), P), ((NONE, M), None), ((NONE,), None)])
def test_the_operators_word_allows_it(allowed: tuple[AuthMethod, ...], then: AuthMethod | None) -> None:
    peer = usual()
    once(peer, C)
    peer.session.reconfigure(replace(USUAL, auth=allowed), peer.session.own_mac)
    peer.open_lcp(VALUES[then] if then else None)
    if then is not None:
        prove(peer, then)
    peer.open_ipcp()
    assert peer.session.state is UP


def test_a_concentrator_that_goes_back_to_what_it_did_is_served() -> None:
    peer = usual()
    once(peer, C)
    peer.open_pppoe()
    assert asks_for(peer, P) == (Code.CONFIGURE_NAK, MSCHAPV2)
    peer.open_lcp(CHAP)
    prove(peer, C)
    peer.open_ipcp()
    assert peer.session.state is UP


def test_a_concentrator_is_its_mac_and_its_name_and_an_account_its_user() -> None:
    proofs = Proofs()
    proofs.note((AC, "ac1"), "alice", C)
    assert proofs.done_before((AC, "ac1"), "alice") is C
    for other in [((STRANGER, "ac1"), "alice"), ((AC, "ac2"), "alice"), ((AC, "ac1"), "bob"), ((AC, ""), "ac1alice")]:
        assert proofs.done_before(*other) is None
    proofs.note((AC, "ac1"), "alice", P)
    assert proofs.done_before((AC, "ac1"), "alice") is C


def test_what_was_never_finished_counts_for_nothing() -> None:
    """Whoever asks for CHAP and never lets anybody in would else keep PAP out for ever."""
    peer = usual()
    peer.open_lcp(CHAP)
    peer.challenge()
    peer.control(Protocol.CHAP, ChapCode.FAILURE, 1, b"no")
    peer.sleep(20)
    peer.open_lcp(PAP)
    prove(peer, P)
    peer.open_ipcp()
    assert peer.session.state is UP


def test_what_is_remembered_is_bounded() -> None:
    proofs = Proofs()
    for number in range(MAX_PROOFS + 10):
        proofs.note((AC, "ac1"), f"u{number}", C)
        proofs.note((AC, "ac1"), "regular", M)
    assert len(proofs.strongest) == MAX_PROOFS
    assert proofs.done_before((AC, "ac1"), "u3") is None
    assert proofs.done_before((AC, "ac1"), "regular") is M
    for number in range(3000):
        mac = number.to_bytes(6, "big")
        assert proofs.first_in_clear((mac, "x"))
        proofs.gave_up((mac, "x"))
    assert not proofs.first_in_clear((mac, "x"))
    assert not proofs.takes_suggestions((mac, "x"))
    assert proofs.takes_suggestions((bytes(6), "x"))


def test_the_table_of_what_is_left() -> None:
    assert strength.allowed_after(None, (M, C, P)) == (M, C, P)
    assert strength.allowed_after(P, (M, C, P)) == (M, C, P)
    assert strength.allowed_after(C, (P, C, M)) == (C, M)
    assert strength.allowed_after(M, (NONE, M, C, P)) == (NONE, M)
    assert strength.allowed_after(M, (C, P)) == (C, P)
    assert strength.allowed_after(C, (NONE, P)) == (NONE, P)


# In the middle of a session


@pytest.mark.parametrize(
    ("fault", "wanted"), [("renegotiation with PAP", "pap"), ("renegotiation without authentication", "none")]
)
@pytest.mark.parametrize("method", [M, C])
def test_a_renegotiation_does_not_lower_it(method: AuthMethod, fault: str, wanted: str) -> None:
    lab = LabSettings(any_account=True, auth=(method,))
    world = World([session("one"), session("two", auth=(AuthMethod(wanted), method))], lab=lab).open()
    world.until(lambda: world.states() == {UP})
    for session_id in [*world.concentrator.subscribers]:
        FAULTS[fault](world.concentrator, session_id, world.now)
    world.run(5.0)
    (event,) = world.events("session-down", 0)
    said = "no authentication" if wanted == "none" else wanted
    assert event.text.startswith(WEAKER.format(said, method) + f"`auth: [{wanted}]`")
    down = world.events("session-down", 1)
    assert bool(down) == (wanted == "pap"), "`none` is the operator's word, and PAP beside better ones is not"


def test_a_renegotiation_to_the_same_is_fine() -> None:
    world = World([session("one")], lab=LabSettings(any_account=True, auth=(C,))).open()
    world.until(lambda: world.states() == {UP})
    FAULTS["renegotiation"](world.concentrator, next(iter(world.concentrator.subscribers)), world.now)
    world.until(lambda: len(world.events("authenticated")) == 2 and world.states() == {UP})
    assert not world.events("session-down")


# The concentrator's own proof


@pytest.mark.parametrize("with_method", [M, C, P])
def test_an_impostor_is_known_by_mschapv2_alone(with_method: AuthMethod) -> None:
    lab = LabSettings(auth=(with_method,), impostor=True)
    world = World([session("one", auth=(with_method,))], lab=lab).open()
    if with_method is M:
        world.until(lambda: world.events("dial-failed"))
        assert "could not prove that it knows the password" in world.events("dial-failed")[0].text
        assert not world.egress.devices
    else:
        world.until(lambda: world.states() == {UP})


@pytest.mark.parametrize("message", [b"", b"M=Welcome", b"S=" + b"0" * 40, b"S=" + b"0" * 40 + b" M=Welcome", b"S="])
def test_a_success_without_the_proof_ends_the_session(message: bytes) -> None:
    peer = usual()
    peer.open_lcp(MSCHAPV2)
    peer.challenge(1, bytes(range(16)))
    peer.control(Protocol.CHAP, ChapCode.SUCCESS, 1, message)
    assert not [event for event in peer.events if isinstance(event, Authenticated)]
    peer.sleep(10)
    assert [end.kind for end in peer.ends] == [EndKind.WRONG_PASSWORD]


# A password in clear


def test_a_password_that_went_out_in_clear_is_told_once_for_each_concentrator() -> None:
    world = World([session(f"s{n}") for n in range(3)], lab=LabSettings(any_account=True, auth=(P,))).open()
    world.until(lambda: world.states() == {UP})
    (event,) = world.events("in-clear")
    assert event.severity is Severity.WARNING
    assert event.text == (
        "The password goes to souppp-lab (02:ac:ac:ac:00:01) in clear (PAP), for all on the line to read. "
        "`auth: [mschapv2, chap]` refuses that."
    )


def test_no_other_method_is_told_as_in_clear() -> None:
    peer = usual()
    for method in (C, M):
        once(peer, method)
        assert not [event for event in peer.events if isinstance(event, SentInClear)]


def test_a_method_beyond_the_settings_is_no_reason_to_name_the_past() -> None:
    """EAP was never allowed: the operator can't allow it now."""
    peer = usual()
    once(peer, C)
    peer.open_pppoe()
    peer.request(Protocol.LCP, Option(LcpOption.AUTHENTICATION, b"\xc2\x27"))
    peer.padt()
    assert [end.kind for end in peer.ends] == [EndKind.AUTH_METHOD]


# On disk


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "eth9.proofs"


def saved(path: Path, **methods: AuthMethod) -> Proofs:
    file = ProofsFile(path)
    proofs = file.load()
    for user, method in methods.items():
        proofs.note((AC, "ac1"), user, method)
    file.save(proofs)
    return proofs


def test_a_restart_forgets_nothing(path: Path) -> None:
    saved(path, alice=M, bob=C, carol=P)
    again = ProofsFile(path).load()
    assert [again.done_before((AC, "ac1"), user) for user in ("alice", "bob", "carol", "dave")] == [M, C, P, None]


def test_a_run_begins_with_what_the_last_one_knew() -> None:
    proofs = Proofs()
    proofs.note((AC, "souppp-lab"), "bob", C)
    again = Proofs(proofs.strongest)
    world = World([session("one", user="bob")], lab=LabSettings(any_account=True, auth=(P,)), proofs=again).open()
    world.until(lambda: world.events("dial-failed"))
    assert "did chap with this account before: refused" in world.events("dial-failed")[0].text


def test_the_file_is_for_its_owner_and_has_no_names_in_it(path: Path) -> None:
    saved(path, alice=M)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert re.fullmatch(rb"souppp proofs 1\n[0-9a-f]{32} mschapv2\n", path.read_bytes())
    assert [*path.parent.iterdir()] == [path]


def test_only_what_changed_is_written(path: Path) -> None:
    file = ProofsFile(path)
    proofs = file.load()
    file.save(proofs)
    assert not path.exists()
    proofs.note((AC, "ac1"), "alice", C)
    file.save(proofs)
    before = path.stat()
    proofs.note((AC, "ac1"), "alice", C)
    proofs.note((AC, "ac1"), "alice", P)
    file.save(proofs)
    assert path.stat().st_ino == before.st_ino
    proofs.note((AC, "ac1"), "alice", M)
    file.save(proofs)
    assert path.stat().st_ino != before.st_ino


def test_a_link_is_not_followed(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("souppp proofs 1\n")
    path.symlink_to(other)
    with pytest.raises(ProofsError, match="move it away"):
        ProofsFile(path).load()
    (path.parent / "eth9.proofs.new").symlink_to(other)
    path.unlink()
    saved(path, alice=C)
    assert other.read_text() == "souppp proofs 1\n"


@pytest.mark.parametrize("content", [b"", b"something else\n", b"\xff\xfe", bytes(5_000_000)])
def test_a_file_that_is_none_of_ours_is_told_and_left_alone(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(ProofsError, match="move it away"):
        ProofsFile(path).load()
    assert path.read_bytes() == content


def test_a_fifo_in_its_place_holds_nobody_up(path: Path) -> None:
    os.mkfifo(path)
    with pytest.raises(ProofsError):
        ProofsFile(path).load()


def test_lines_that_say_nothing_are_passed_over(path: Path) -> None:
    proofs = saved(path, alice=M, bob=C)
    good = path.read_text()
    path.write_text(good + "nonsense\n\n" + "0" * 32 + " none\n" + "0" * 32 + " kerberos\n" + "0" * 31 + " chap")
    assert ProofsFile(path).load().strongest == proofs.strongest


def test_a_full_disk_is_told_once_and_made_up_for(path: Path) -> None:
    file = ProofsFile(path)
    proofs = file.load()
    proofs.note((AC, "ac1"), "alice", C)
    (path.parent / "eth9.proofs.new").mkdir()  # what can't be replaced stands for a disk that fails
    with pytest.raises(ProofsError, match="get away with less"):
        file.save(proofs)
    file.save(proofs)
    (path.parent / "eth9.proofs.new").rmdir()
    file.save(proofs)
    assert ProofsFile(path).load().done_before((AC, "ac1"), "alice") is C


def test_the_file_follows_the_cards_name(path: Path) -> None:
    file = ProofsFile(path)
    proofs = file.load()
    proofs.note((AC, "ac1"), "alice", C)
    file.save(proofs)
    file.rename("eth10")
    assert ProofsFile(path.with_name("eth10.proofs")).load().strongest == proofs.strongest
    path.write_bytes(b"another card's")
    file.rename("eth9")
    proofs.note((AC, "ac1"), "bob", C)
    file.save(proofs)
    assert path.read_bytes() == b"another card's"
    assert ProofsFile(path.with_name("eth10.proofs")).load().strongest == proofs.strongest
