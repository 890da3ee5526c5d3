"""Peers as people report them: what others' clients can't do with them, or tell wrongly."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest
from msgspec.structs import astuple, replace

from engine.api.ending import EndKind
from engine.api.values import SessionState, Severity
from engine.ppp.echoes import LATE
from engine.ppp.link_events import Ipv4Opened, Notice, ProtocolMissing, Silence
from engine.record import narrate
from engine.record.describe import describe
from engine.sessions.fleet import MANY_EARLY, Fleet
from engine.sessions.session import PppoeOpened, Session
from engine.settings.values import AcFilter, DialSettings, KeepaliveSettings, SessionSettings
from engine.wire import control, ethernet, ppp, pppoe
from engine.wire.control import Code, IpcpOption, Ipv6cpOption, Option
from engine.wire.ethernet import ETH_PPPOE_DISCOVERY, ETH_PPPOE_SESSION, EthernetFrame
from engine.wire.ppp import Protocol
from engine.wire.pppoe import PppoePacket, Tag, TagType

from .peer import AC, MAGIC, OWN, SETTINGS, STRANGER, Peer

LCP, IPCP, IPV6CP = Protocol.LCP, Protocol.IPCP, Protocol.IPV6CP
DUAL = replace(SETTINGS, ipv6=True)
NO_ADDRESS = Option(IpcpOption.IP_ADDRESS, bytes(4))


def asked(peer: Peer) -> list[bytes]:
    """Whom the latest PADRs went to."""
    return [heard.outer.dst for heard in peer.heard() if heard.packet.code == pppoe.Code.PADR]


# Offers


def asked_when_bras_1_is_wanted(name: bytes) -> list[bytes]:
    """Whom a PADR goes to after an offer with this AC-Name."""
    peer = Peer(replace(SETTINGS, ac=AcFilter(name="BRAS-1")))
    peer.dial()
    peer.discovery(pppoe.Code.PADO, [Tag(TagType.AC_NAME, name), Tag(TagType.SERVICE_NAME), peer.host_uniq()])
    return asked(peer)


@pytest.mark.parametrize("name", [b"BRAS-1\0", b"BRAS-1 ", b" BRAS-1", b"BRAS-1"])
def test_a_name_copied_from_the_screen_matches(name: bytes) -> None:
    assert asked_when_bras_1_is_wanted(name) == [AC]


@pytest.mark.parametrize("name", [b"bras-1", b"BRAS-12", b"BRAS 1", b"\0"])
def test_another_name_does_not(name: bytes) -> None:
    assert asked_when_bras_1_is_wanted(name) == []


def test_an_offer_without_the_service_is_told_as_that() -> None:
    peer = Peer(replace(SETTINGS, service="gold"))
    peer.dial()
    peer.pado(service="silver")
    peer.sleep(20)
    (end,) = peer.ends
    assert end.kind is EndKind.NONE_WANTED
    assert 'ac1 (02:ac:ac:ac:00:01), without the service "gold", but "silver".' in end.text


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ((TagType.AC_NAME,), "02:ac:ac:ac:00:01. Its offer has no AC-Name."),
        ((TagType.SERVICE_NAME,), "ac1 (02:ac:ac:ac:00:01). Its offer has no Service-Name."),
        ((TagType.AC_NAME, TagType.SERVICE_NAME), "02:ac:ac:ac:00:01. Its offer has no AC-Name and no Service-Name."),
        ((), "ac1 (02:ac:ac:ac:00:01)."),
    ],
)
def test_an_offer_that_lacks_a_tag_is_taken_and_that_is_said(missing: tuple[TagType, ...], said: str) -> None:
    peer = Peer()
    peer.dial()
    peer.discovery(pppoe.Code.PADO, [tag for tag in peer.offer_tags() if tag.type not in missing])
    peer.pads()
    (opened,) = (event for event in peer.events if isinstance(event, PppoeOpened))
    story = narrate.tell(opened, peer.session.ac_name, None)
    assert story is not None
    assert story.text == f"Session 0011 opened with {said}"


def unfit(peer: Peer, code: pppoe.Code) -> dict[str, bytes]:
    """Answers that can't be used, as the tags of a frame, by what is said of them."""
    tags = pppoe.encode_tags(tag for tag in peer.offer_tags() if tag.type != TagType.HOST_UNIQ)
    return {
        f"its {code.name} has another Host-Uniq than ours": tags + b"\x01\x03\x00\x04ours",
        f"its {code.name} is malformed (bad tag)": tags + b"\x01\x03\x00\x04our",
    }


@pytest.mark.parametrize("which", [0, 1], ids=["Host-Uniq", "malformed"])
def test_an_offer_that_can_not_be_used_is_not_told_as_silence(which: int) -> None:
    """From one that no filter lets pass as well: it is its answer that is told of."""
    peer = Peer()
    peer.dial()
    why, tags = list(unfit(peer, pppoe.Code.PADO).items())[which]
    peer.say(ETH_PPPOE_DISCOVERY, PppoePacket(pppoe.Code.PADO, 0, tags))
    peer.sleep(20)
    (end,) = peer.ends
    assert end.kind is EndKind.NONE_WANTED
    assert end.text.startswith("No wanted concentrator answered 4 PADIs in 15 s; others did: ")
    assert end.text.endswith(f"02:ac:ac:ac:00:01, {why}.") or end.text.endswith(f"(02:ac:ac:ac:00:01), {why}.")


@pytest.mark.parametrize(
    ("settings", "asked_for"),
    [
        ({}, "for any service"),
        ({"service": "gold", "host_uniq": b"\x12\x34"}, 'for the service "gold", with the Host-Uniq 0x1234'),
    ],
)
def test_a_concentrator_deaf_to_padrs_is_named_with_what_was_asked(settings: dict[str, object], asked_for: str) -> None:
    assert deaf(settings, lambda peer: None) == f"ac1 made an offer but doesn't answer the PADR {asked_for}."


@pytest.mark.parametrize("which", [0, 1], ids=["Host-Uniq", "malformed"])
def test_a_pads_that_can_not_be_used_is_not_told_as_silence(which: int) -> None:
    told = []

    def spoil(peer: Peer) -> None:
        why, tags = list(unfit(peer, pppoe.Code.PADS).items())[which]
        peer.say(ETH_PPPOE_DISCOVERY, PppoePacket(pppoe.Code.PADS, 7, tags))
        told[:] = [f"ac1 made an offer but {why}."]

    assert [deaf({}, spoil)] == told


def deaf(settings: dict[str, object], answer: Callable[[Peer], None]) -> str:
    """What is said in the end of a concentrator that makes offers, and answers each PADR like that."""
    peer = Peer(replace(SETTINGS, **settings))  # type: ignore[arg-type]
    peer.dial()
    for _ in range(60):
        for heard in peer.heard():
            if heard.packet.code == pppoe.Code.PADI:
                peer.pado()
            elif heard.packet.code == pppoe.Code.PADR:
                answer(peer)
        peer.sleep(0.5)
    (end,) = peer.ends
    assert end.kind is EndKind.NO_ANSWER
    return end.text


# Several concentrators


@pytest.mark.parametrize("others", ["none", "before the choice", "after it", "not wanted"])
def test_that_others_are_asked_first_is_said_where_there_are_any(others: str) -> None:
    peer = Peer(
        replace(SETTINGS, ac=AcFilter(name="ac1") if others == "not wanted" else AcFilter()),
        pado_window=1.0 if others == "before the choice" else 0.0,
    )
    peer.to_padr()
    if others != "none":
        peer.pado(name="ac2", src=STRANGER)
    peer.sleep(1.5)
    peer.pads(Tag(TagType.AC_SYSTEM_ERROR, b"out of resources"), sid=0)
    (end,) = peer.ends
    assert end.text.endswith(" Another concentrator on this line is asked first next time.") == (
        others in ("before the choice", "after it")
    )


@pytest.mark.parametrize("deaf", [False, True])
@pytest.mark.parametrize("window", [0.0, 1.0])
def test_a_concentrator_that_failed_is_asked_after_all_others(deaf: bool, window: float) -> None:
    peer = Peer(pado_window=window)

    def offers(*macs: bytes) -> list[bytes]:
        for mac in macs:
            peer.pado(name=mac.hex(), src=mac)
        peer.sleep(1.0)
        return asked(peer)

    peer.dial()
    assert offers(AC, STRANGER) == [AC] * (1 if window else 2)
    if deaf:
        peer.sleep(7.5)  # until it is given up, and a new round begins
    else:
        peer.pads(Tag(TagType.AC_SYSTEM_ERROR, b"out of resources"), sid=0)
        peer.dial()
    peer.heard()
    assert offers(AC, STRANGER)[:1] == [STRANGER]


def test_the_only_concentrator_is_asked_again_although_it_refused() -> None:
    peer = Peer()
    peer.to_padr()
    peer.pads(Tag(TagType.AC_SYSTEM_ERROR, b"out of resources"), sid=0)
    peer.dial()
    peer.heard()
    peer.pado()
    assert asked(peer) == [], "another one may answer yet"
    peer.sleep(1)
    assert AC in asked(peer)


# Host-Uniq


@pytest.mark.parametrize("wanted", [b"\x12\x34", b"provider-says-so", b""])
def test_host_uniq_as_the_provider_wants_it(wanted: bytes) -> None:
    peer = Peer(replace(SETTINGS, host_uniq=wanted))
    peer.to_padr()
    sent = {pppoe.find(heard.tags, TagType.HOST_UNIQ) for heard in peer.heard()}
    assert sent == {wanted} if wanted else len(sent) == 1
    peer.pads()
    assert peer.session.place is not None


class Forgetful:
    """A concentrator that returns no Host-Uniq, and a fleet on one MAC address, or on several."""

    def __init__(self, sessions: int, macs: Sequence[bytes] = ()) -> None:
        self.now = 0.0
        self.opened: list[int] = []
        self.askers: dict[int, bytes] = {}
        """Whose PADR opened which session."""
        self.fleet = Fleet(DialSettings(rate=1000), lambda: 0.5)
        for key in range(sessions):
            self.fleet.add(
                key, Session(replace(SETTINGS, name=str(key)), macs[key] if macs else OWN, _entropy(key)), 0.0
            )
            self.fleet.dial(key, 0.0)

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        self._deliver()
        while (due := self.fleet.next_timer()) is not None and due <= until:
            self.now = max(self.now, due)
            self.fleet.handle_timer(self.now)
            self._deliver()
        self.now = until

    def _deliver(self) -> None:
        while frames := self.fleet.frames_to_send():
            for frame in frames:
                self._answer(ethernet.decode(frame))

    def _answer(self, outer: EthernetFrame) -> None:
        packet = pppoe.decode(outer.payload)
        if outer.ethertype != ETH_PPPOE_DISCOVERY:
            return
        tags = [Tag(TagType.AC_NAME, b"ac1"), Tag(TagType.SERVICE_NAME)]
        if packet.code == pppoe.Code.PADI:
            self._say(PppoePacket(pppoe.Code.PADO, 0, pppoe.encode_tags(tags)), outer.src)
        elif packet.code == pppoe.Code.PADR:
            self.opened.append(len(self.opened) + 1)
            self.askers[self.opened[-1]] = outer.src
            self._say(PppoePacket(pppoe.Code.PADS, self.opened[-1], pppoe.encode_tags(tags)), outer.src)

    def _say(self, packet: PppoePacket, to: bytes = OWN) -> None:
        self.fleet.receive(ethernet.encode(EthernetFrame(to, AC, ETH_PPPOE_DISCOVERY, pppoe.encode(packet))), self.now)


def _entropy(seed: int) -> Callable[[int], bytes]:
    return random.Random(seed).randbytes


@pytest.mark.parametrize("sessions", [1, 4])
def test_a_concentrator_that_returns_no_host_uniq_serves_one_session_after_another(sessions: int) -> None:
    line = Forgetful(sessions)
    line.run(14)
    ids = [member.session.place.session_id for _, member in line.fleet if member.session.place is not None]
    assert sorted(ids) == line.opened == list(range(1, sessions + 1)), (
        "each has its own, and none was opened for nobody"
    )


# Several queues


@pytest.mark.parametrize("sessions", [2, 5])
def test_sessions_with_addresses_of_their_own_are_told_apart_without_host_uniq(sessions: int) -> None:
    """All at once, and not one after another."""
    line = Forgetful(sessions, macs=[bytes((2, 0, 0, 0, 7, number)) for number in range(sessions)])
    line.run(0.1)
    places = [member.session.place for _, member in line.fleet]
    assert sorted(place.session_id for place in places if place is not None) == list(range(1, sessions + 1))
    assert all(place is not None and line.askers[place.session_id] == place.own_mac for place in places)


class Hasty(Forgetful):
    """Its first Configure-Requests overtake the PADS, by so many seconds, and it never repeats them."""

    def __init__(self, sessions: int, ahead: float, src: bytes = AC) -> None:
        self._ahead, self._src = ahead, src
        self.acks = 0
        super().__init__(sessions)

    def _answer(self, outer: EthernetFrame) -> None:
        packet = pppoe.decode(outer.payload)
        if packet.code == pppoe.Code.PADR:
            request = control.encode(control.ControlPacket(Code.CONFIGURE_REQUEST, 7, b""))
            early = PppoePacket(pppoe.Code.SESSION, len(self.opened) + 1, ppp.encode(LCP, request))
            frame = EthernetFrame(OWN, self._src, ETH_PPPOE_SESSION, pppoe.encode(early))
            self.fleet.receive(ethernet.encode(frame), self.now)
            self.now += self._ahead
        elif outer.ethertype == ETH_PPPOE_SESSION:
            protocol, information = ppp.decode(packet.payload)
            self.acks += protocol == LCP and control.decode(information).code == Code.CONFIGURE_ACK
        super()._answer(outer)


@pytest.mark.parametrize("sessions", [1, 3])
@pytest.mark.parametrize("ahead", [0.0, 0.1])
def test_a_configure_request_that_overtook_its_pads_is_answered(sessions: int, ahead: float) -> None:
    line = Hasty(sessions, ahead)
    line.run(5)
    assert line.acks == len(line.opened) == sessions


@pytest.mark.parametrize(("ahead", "src"), [(2.0, AC), (0.0, STRANGER)], ids=["too early", "a stranger's"])
def test_what_belongs_to_no_session_to_come_is_not_kept(ahead: float, src: bytes) -> None:
    line = Hasty(1, ahead, src)
    line.run(5)
    assert line.acks == 0
    assert line.fleet.counters["discarded: for no session"] == 1


def test_a_flood_that_might_be_early_is_not_kept_for_ever() -> None:
    line = Hasty(1, 0.0)
    frame = ethernet.encode(
        EthernetFrame(OWN, AC, ETH_PPPOE_SESSION, pppoe.encode(PppoePacket(pppoe.Code.SESSION, 9, b"\xc0\x21x")))
    )
    line.fleet.handle_timer(0.0)
    line.fleet.frames_to_send()
    offer = pppoe.encode_tags([Tag(TagType.AC_NAME, b"ac1"), Tag(TagType.SERVICE_NAME)])
    line._say(PppoePacket(pppoe.Code.PADO, 0, offer))
    for _ in range(1000):
        line.fleet.receive(frame, 0.0)
    assert line.fleet.counters["discarded: for no session"] == 1000 - MANY_EARLY
    line.fleet.receive(frame, 1.0)
    assert line.fleet.counters["discarded: for no session"] == 1000


def test_a_storm_while_many_ask_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames of sessions that an earlier run has left, while hundreds are in discovery; then one that is early."""
    asked = 0

    def awaits(session: Session, code: int, source: bytes, really: Callable[..., bool] = Session.awaits) -> bool:
        nonlocal asked
        asked += 1
        return really(session, code, source)

    line = Hasty(60, 0.0)
    frame = ethernet.encode(
        EthernetFrame(OWN, AC, ETH_PPPOE_SESSION, pppoe.encode(PppoePacket(pppoe.Code.SESSION, 999, b"\xc0\x21x")))
    )
    line.fleet.handle_timer(0.0)
    monkeypatch.setattr(Session, "awaits", awaits)
    for _ in range(1000):
        line.fleet.receive(frame, 0.0)
    assert asked <= 60
    assert line.fleet.counters["discarded: for no session"] == 1000
    line.run(5)
    assert line.acks == len(line.opened) == 60


# IPv4 alone fails


def test_naks_that_suggest_nothing_new_are_not_answered_as_fast_as_they_come() -> None:
    peer = Peer(DUAL)
    peer.open_network()
    peer.open_ipv6cp()
    peer.heard()
    requests = 0
    for _ in range(40):
        peer.answer(IPCP, Code.CONFIGURE_NAK, NO_ADDRESS)
        requests += len(peer.heard_of(IPCP, Code.CONFIGURE_REQUEST))
    assert requests <= 2
    peer.sleep(10)
    assert 2 <= len(peer.heard_of(IPCP, Code.CONFIGURE_REQUEST)) <= 6


def without_ipv4() -> Peer:
    """Up with IPv6, while IPv4 never converges."""
    peer = Peer(DUAL)
    peer.open_network()
    peer.open_ipv6cp()
    for _ in range(20):
        if any(isinstance(event, ProtocolMissing) for event in peer.events):
            break
        peer.answer(IPCP, Code.CONFIGURE_NAK, NO_ADDRESS)
        peer.sleep(3)
    assert peer.session.state is SessionState.UP
    assert peer.session.lack == "without IPv4: the peer's Configure-Naks never end"
    (story,) = (narrate.tell(event, None, None) for event in peer.events if isinstance(event, ProtocolMissing))
    assert story is not None
    assert story.severity is Severity.WARNING
    peer.heard()
    return peer


def test_ipv4_is_asked_for_again_after_a_pause() -> None:
    peer = without_ipv4()
    peer.sleep(25)
    assert peer.heard_of(IPCP) == []
    peer.sleep(6)
    assert peer.heard_of(IPCP, Code.CONFIGURE_REQUEST)
    peer.open_ipcp()
    assert any(isinstance(event, Ipv4Opened) for event in peer.events)
    assert peer.session.lack == ""


def test_ipv4_is_taken_when_the_peer_asks_for_it() -> None:
    peer = without_ipv4()
    peer.open_ipcp()
    assert any(isinstance(event, Ipv4Opened) for event in peer.events)
    assert peer.session.lack == ""


def test_an_ipcp_that_opens_without_an_address_closes_alone() -> None:
    peer = Peer(DUAL)
    peer.open_network()
    peer.open_ipv6cp()
    peer.request(IPCP, Option(IpcpOption.IP_ADDRESS, b"\x64\x40\0\1"), identifier=0x41)
    peer.answer(IPCP, Code.CONFIGURE_ACK)
    peer.sleep(5)
    assert peer.session.state is SessionState.UP
    assert peer.session.lack == "without IPv4: the concentrator gave no usable address"
    assert not peer.ends


@pytest.mark.parametrize("why", ["Naks", "Protocol-Reject"])
def test_ipv6_alone_fails(why: str) -> None:
    """IPv4 stays, and IPv6 is asked for again after a pause, or when the peer asks."""
    peer = Peer(DUAL)
    peer.open_network()
    peer.open_ipcp()
    for number in range(20):
        if why == "Protocol-Reject" and number == 0:
            peer.lcp(Code.PROTOCOL_REJECT, 9, b"\x80\x57\x01\x01\x00\x04")
        if any(isinstance(event, ProtocolMissing) for event in peer.events):
            break
        suggestion = Option(Ipv6cpOption.INTERFACE_IDENTIFIER, bytes((2, 0, 0, 0, 0, 0, 0, number + 1)))
        peer.answer(IPV6CP, Code.CONFIGURE_NAK, suggestion)
        peer.sleep(3)
    (missing,) = (event for event in peer.events if isinstance(event, ProtocolMissing))
    assert missing.protocol is IPV6CP
    assert (peer.session.state, peer.ends, peer.session.ipv4 is not None) == (SessionState.UP, [], True)
    peer.heard()
    peer.open_ipv6cp()
    assert peer.session.ipv6 is not None


# Signs of life


@pytest.mark.parametrize("identifier", [None, 0xEE])
@pytest.mark.parametrize("own_magic", [False, True])
def test_any_echo_reply_is_a_sign_of_life(identifier: int | None, own_magic: bool) -> None:
    peer = Peer(replace(SETTINGS, keepalive=KeepaliveSettings(1.0, 3)))
    peer.up()
    for _ in range(10):
        peer.sleep(1.0)
        for echo in peer.heard_of(LCP, Code.ECHO_REQUEST):
            data = echo.data if own_magic else MAGIC
            peer.lcp(Code.ECHO_REPLY, echo.identifier if identifier is None else identifier, data)
    assert not peer.ends


def test_a_late_answer_is_told_until_the_peer_is_heard() -> None:
    peer = Peer(replace(SETTINGS, keepalive=KeepaliveSettings(10.0, 4)))
    peer.up()
    peer.sleep(10.0)
    asked = peer.now
    peer.sleep(LATE - 0.5)
    assert peer.session.silent_since is None
    peer.sleep(1.0)
    assert peer.session.silent_since == asked
    peer.sleep(10.0)
    assert peer.session.silent_since == asked, "of the first one that has no answer"
    assert [event for event in peer.events if isinstance(event, Silence)] == [Silence(asked)]
    peer.lcp(Code.ECHO_REPLY, 0xEE, MAGIC)
    assert peer.session.silent_since is None
    assert peer.events[-1] == Silence(None)
    peer.sleep(20.0)
    peer.session.note_traffic(peer.now)
    assert peer.session.silent_since is None


# What we have no use for


@pytest.mark.parametrize("number", [0x0281, 0x002D, Protocol.IPV6])
def test_what_we_have_no_use_for_is_rejected_now_and_then(number: int) -> None:
    peer = Peer(SETTINGS)
    peer.up()
    packet = number.to_bytes(2, "big") + b"\x60" + bytes(47)
    for _ in range(100):
        peer.ppp(packet)
    peer.sleep(1.0)
    peer.ppp(packet)
    rejects = peer.heard_of(LCP, Code.PROTOCOL_REJECT)
    assert [reject.data for reject in rejects] == [packet] * 2


@pytest.mark.parametrize(("settings", "number"), [(SETTINGS, Protocol.IPV4), (DUAL, Protocol.IPV6)])
def test_packets_of_a_protocol_that_may_yet_open_are_discarded(settings: SessionSettings, number: int) -> None:
    """RFC 1661 section 3.5: silently."""
    peer = Peer(settings)
    peer.open_network()
    peer.heard()
    peer.ppp(number.to_bytes(2, "big") + b"\x60" + bytes(47))
    assert peer.heard_of(LCP) == []


# Ends


@pytest.mark.parametrize("padt", [False, True])
def test_what_a_terminate_request_says_is_the_reason(padt: bool) -> None:
    peer = Peer()
    peer.up()
    peer.lcp(Code.TERMINATE_REQUEST, 7, b"Connect time expired")
    if padt:
        peer.padt()
    peer.sleep(10)
    (end,) = peer.ends
    assert end.text == 'The concentrator ended the session (Terminate-Request): "Connect time expired".'


def test_naks_and_rejects_are_counted_apart() -> None:
    """Nine Naks of what the peer would rather have, and two Rejects, lead to an agreement in the end."""
    peer = Peer()
    peer.open_network()
    for number in range(9):
        peer.answer(IPCP, Code.CONFIGURE_NAK, Option(IpcpOption.IP_ADDRESS, bytes((100, 64, 0, number + 2))))
    for kind in (IpcpOption.PRIMARY_DNS, IpcpOption.SECONDARY_DNS):
        latest = control.decode_options(peer.latest(IPCP, Code.CONFIGURE_REQUEST).data)
        peer.answer(IPCP, Code.CONFIGURE_REJECT, next(option for option in latest if option.type == kind))
    peer.request(IPCP, identifier=0x41)
    peer.answer(IPCP, Code.CONFIGURE_ACK)
    assert peer.session.ipv4 is not None
    assert str(peer.session.ipv4.address) == "100.64.0.10"
    assert not any(isinstance(event, Notice) for event in peer.events)


# Text


HOSTILE = "Dr\x1b[2J\x9b31m\u202e\r\n\0\x07x"
STEERED = HOSTILE.encode()


def _refused(peer: Peer) -> None:
    peer.to_padr()
    peer.pads(Tag(TagType.AC_SYSTEM_ERROR, STEERED), sid=0)


def _without_service(peer: Peer) -> None:
    peer.dial()
    peer.pado(name=HOSTILE, service=HOSTILE)
    peer.sleep(20)


def _open(peer: Peer, auth: bytes | None = None) -> None:
    peer.dial()
    peer.pado(name=HOSTILE, service="")
    peer.pads()
    peer.open_lcp(auth)


def _dismissed(peer: Peer) -> None:
    _open(peer)
    peer.lcp(Code.IDENTIFICATION, 3, MAGIC + STEERED)
    peer.lcp(Code.TERMINATE_REQUEST, 7, STEERED)
    peer.sleep(10)


def _cut(peer: Peer) -> None:
    _open(peer)
    peer.padt(Tag(TagType.GENERIC_ERROR, STEERED))


def _denied(protocol: int, value: bytes, code: int, data: bytes) -> Callable[[Peer], None]:
    def deny(peer: Peer) -> None:
        _open(peer, value)
        if protocol == Protocol.CHAP:
            peer.challenge()
        peer.control(protocol, code, 1, data)
        peer.sleep(10)

    return deny


@pytest.mark.parametrize(
    "talk",
    [
        *(_refused, _without_service, _dismissed, _cut),
        _denied(Protocol.PAP, b"\xc0\x23", 3, bytes((len(STEERED),)) + STEERED),
        _denied(Protocol.CHAP, b"\xc2\x23\x05", 4, STEERED),
        _denied(Protocol.CHAP, b"\xc2\x23\x05", 3, STEERED),
        _denied(Protocol.CHAP, b"\xc2\x23\x81", 4, b"E=691 R=0 M=" + STEERED),
        _denied(Protocol.CHAP, b"\xc2\x23\x81", 4, b"E=" + STEERED),
    ],
    ids=["PADS", "PADO", "Terminate-Request", "PADT", "PAP", "CHAP", "CHAP's welcome", "MS-CHAPv2", "MS-CHAPv2's code"],
)
def test_no_text_from_the_line_can_steer_a_terminal(talk: Callable[[Peer], None]) -> None:
    """Wherever it is shown: in events, as the concentrator's name, among the facts, in the ladder of frames."""
    peer = Peer(SETTINGS if talk is not _without_service else replace(SETTINGS, service="gold"))
    talk(peer)
    session = peer.session
    shown = [story.text for event in peer.events if (story := narrate.tell(event, session.ac_name, None)) is not None]
    shown += [session.ac_name or ""]
    shown += [text for fact in session.facts.by_name.values() for text in astuple(fact)]
    for seen in session.ladder():
        told = describe(seen.frame)
        shown += [told.summary, *(value for _, value in told.fields)]
    assert any("Dr" in text for text in shown)
    assert [text for text in shown if not text.isprintable()] == []
