"""The lab's concentrator: what it offers, grants, refuses and ignores."""

from __future__ import annotations

import random

import pytest
from msgspec.structs import replace

from engine.lab.concentrator import Concentrator, LabSettings
from engine.pppoe.concentrator import ConcentratorSettings
from engine.wire import control, ethernet, ppp, pppoe
from engine.wire.control import ControlPacket
from engine.wire.ethernet import BROADCAST, ETH_PPPOE_DISCOVERY, ETH_PPPOE_SESSION, EthernetFrame, VlanTag
from engine.wire.ppp import Protocol
from engine.wire.pppoe import Code, PppoePacket, Tag, TagType

from .captures import captured

AC = bytes.fromhex("02acacac0001")
CLIENT = bytes.fromhex("020000000001")
OTHER = bytes.fromhex("020000000002")
LAB = LabSettings(ConcentratorSettings(name="lab"))
ECHO = ppp.encode(Protocol.LCP, control.encode(ControlPacket(9, 1, bytes(4))))


class Client:
    """A client that says what a test tells it to."""

    def __init__(self, settings: LabSettings = LAB) -> None:
        self.ac = Concentrator(settings, AC, random.Random(1).randbytes)

    def say(
        self,
        code: int,
        payload: bytes = b"",
        sid: int = 0,
        *,
        src: bytes = CLIENT,
        dst: bytes = AC,
        vlans: tuple[VlanTag, ...] = (),
    ) -> list[PppoePacket]:
        """Send a packet, and hear what comes back."""
        ethertype = ETH_PPPOE_DISCOVERY if code else ETH_PPPOE_SESSION
        frame = EthernetFrame(dst, src, ethertype, pppoe.encode(PppoePacket(code, sid, payload)), vlans)
        self.ac.receive(ethernet.encode(frame), 0.0)
        answers = [ethernet.decode(answer) for answer in self.ac.frames_to_send()]
        assert all((answer.dst, answer.src, answer.vlans) == (src, AC, vlans) for answer in answers)
        return [pppoe.decode(answer.payload) for answer in answers]

    def padi(self, *more: Tag, service: bytes = b"", **how: object) -> list[PppoePacket]:
        tags = pppoe.encode_tags([Tag(TagType.SERVICE_NAME, service), *more])
        return self.say(Code.PADI, tags, dst=BROADCAST, **how)  # type: ignore[arg-type]

    def padr(self, *more: Tag, service: bytes = b"", cookie: bytes | None = None, **how: object) -> list[PppoePacket]:
        if cookie is None:
            (pado,) = self.padi(**how)
            cookie = pppoe.find(pppoe.decode_tags(pado.payload), TagType.AC_COOKIE)
            assert cookie is not None
        tags = [Tag(TagType.SERVICE_NAME, service), Tag(TagType.AC_COOKIE, cookie), *more]
        return self.say(Code.PADR, pppoe.encode_tags(tags), **how)  # type: ignore[arg-type]


def tags_of(packet: PppoePacket) -> dict[int, bytes]:
    return {tag.type: tag.value for tag in pppoe.decode_tags(packet.payload)}


def test_a_captured_padi_gets_an_offer() -> None:
    """With its Host-Uniq and its PPP-Max-Payload, since this concentrator grants 1500 octets."""
    (frame,) = captured("tcpdump-padi-max-payload")
    padi = ethernet.decode(frame)
    ac = Concentrator(LabSettings(ConcentratorSettings(max_payload=1500)), AC, random.Random(1).randbytes)
    ac.receive(frame, 0.0)
    (answer,) = [ethernet.decode(sent) for sent in ac.frames_to_send()]
    pado = pppoe.decode(answer.payload)
    asked = tags_of(pppoe.decode(padi.payload))
    assert (answer.dst, pado.code) == (padi.src, Code.PADO)
    for kind in (TagType.HOST_UNIQ, TagType.PPP_MAX_PAYLOAD):
        assert tags_of(pado)[kind] == asked[kind]


def test_host_uniq_and_relay_id_come_back_and_unknown_tags_do_not() -> None:
    client = Client()
    tags = (Tag(TagType.HOST_UNIQ, b"\0\xff"), Tag(TagType.RELAY_SESSION_ID, b"relay"), Tag(0x7777, b"?"))
    for answers in (client.padi(*tags), client.padr(*tags)[:1]):
        (packet,) = answers
        assert tags_of(packet)[TagType.HOST_UNIQ] == b"\0\xff"
        assert tags_of(packet)[TagType.RELAY_SESSION_ID] == b"relay"
        assert 0x7777 not in tags_of(packet)


def test_a_wrong_cookie_gets_nothing() -> None:
    client = Client()
    assert client.padr(cookie=bytes(16)) == []
    (pado,) = client.padi()
    stolen = tags_of(pado)[TagType.AC_COOKIE]
    assert client.padr(cookie=stolen, src=OTHER) == []
    assert client.padr(cookie=stolen, vlans=(VlanTag(7),)) == []
    assert client.ac.subscribers == {}


def test_a_repeated_padr_gets_the_same_session() -> None:
    client = Client()
    (pado,) = client.padi()
    cookie = tags_of(pado)[TagType.AC_COOKIE]
    first = client.padr(cookie=cookie)[0]
    assert client.padr(cookie=cookie) == [first]
    assert list(client.ac.subscribers) == [first.session_id]


@pytest.mark.parametrize(
    ("discovery", "mac"),
    [(ConcentratorSettings(max_sessions=1), OTHER), (ConcentratorSettings(max_sessions_per_mac=1), CLIENT)],
)
def test_a_limit_is_a_refusal_with_words(discovery: ConcentratorSettings, mac: bytes) -> None:
    client = Client(LabSettings(discovery))
    assert client.padr()[0].session_id == 1
    (refusal,) = client.padr(Tag(TagType.HOST_UNIQ, b"2"), src=mac)
    assert (refusal.code, refusal.session_id) == (Code.PADS, 0)
    assert b"Too many sessions" in tags_of(refusal)[TagType.AC_SYSTEM_ERROR]
    client.say(Code.PADT, sid=1)
    assert client.padr(Tag(TagType.HOST_UNIQ, b"3"), src=mac)[0].session_id != 0


def test_services() -> None:
    client = Client(replace(LAB, discovery=ConcentratorSettings(services=("gold", "silver"))))
    assert client.padi(service=b"lead") == []
    (pado,) = client.padi(service=b"silver")
    names = [tag.value for tag in pppoe.decode_tags(pado.payload) if tag.type == TagType.SERVICE_NAME]
    assert sorted(names) == [b"gold", b"silver"]
    (refusal,) = client.padr(service=b"lead")
    assert TagType.SERVICE_NAME_ERROR in tags_of(refusal)


@pytest.mark.parametrize("where", ["another MAC", "another VLAN", "another session"])
def test_a_session_is_its_clients_alone(where: str) -> None:
    client = Client()
    sid = client.padr(vlans=(VlanTag(7),))[0].session_id
    src = OTHER if where == "another MAC" else CLIENT
    vlans = (VlanTag(8 if where == "another VLAN" else 7),)
    sid += where == "another session"
    assert client.say(Code.SESSION, ECHO, sid, src=src, vlans=vlans) == []
    assert client.say(Code.PADT, b"", sid, src=src, vlans=vlans) == []
    assert len(client.ac.subscribers) == 1


@pytest.mark.parametrize("src", [BROADCAST, b"\x01\0\x5e\0\0\1"])
def test_a_multicast_source_is_ignored(src: bytes) -> None:
    assert Client().padi(src=src) == []


def test_a_padi_needs_exactly_one_service_name() -> None:
    client = Client()
    assert client.say(Code.PADI, b"", dst=BROADCAST) == []
    assert client.padi(Tag(TagType.SERVICE_NAME, b"two")) == []
    assert client.say(Code.PADI, pppoe.encode_tags([Tag(TagType.SERVICE_NAME)]), sid=5, dst=BROADCAST) == []


def test_session_ids_go_round_before_one_is_used_again() -> None:
    client = Client()
    first = client.padr()[0].session_id
    client.say(Code.PADT, sid=first)
    assert client.padr(Tag(TagType.HOST_UNIQ, b"2"))[0].session_id == first + 1


def test_after_a_restart_nothing_is_known() -> None:
    client = Client()
    sid = client.padr()[0].session_id
    client.ac.restart()
    assert client.say(Code.SESSION, ECHO, sid) == []
    assert client.ac.next_timer() is None
    assert client.padr()[0].session_id == 1
