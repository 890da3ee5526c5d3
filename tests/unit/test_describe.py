"""Frames in words: the lines of the ladder, what is malformed, and that secrets stay out."""

from __future__ import annotations

import random
from ipaddress import IPv6Address, IPv6Network
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.lab.concentrator import Concentrator, LabSettings
from engine.pppoe.concentrator import ConcentratorSettings
from engine.record.describe import describe
from engine.sessions.session import Session
from engine.settings.values import AuthMethod, LineId, SessionSettings
from engine.wire import auth, control, dhcpv6, ethernet, ipv6, ndp, ppp, pppoe
from engine.wire.control import ControlPacket
from engine.wire.dhcpv6 import Association, Message, MessageType, Offered, OptionCode, Status
from engine.wire.ethernet import BROADCAST, ETH_PPPOE_DISCOVERY, ETH_PPPOE_SESSION, EthernetFrame, VlanTag
from engine.wire.ipv6 import Datagram
from engine.wire.ndp import PrefixInformation, RouterAdvertisement, Servers
from engine.wire.ppp import Protocol
from engine.wire.pppoe import Code, PppoePacket, Tag, TagType

from .captures import captured

OWN, AC = bytes.fromhex("0211223344aa"), bytes.fromhex("02acacac0001")
PASSWORD = "QXZ7QXZ7"
"""Of characters that no other text here has."""


def discovery(code: int, session_id: int, *tags: Tag) -> bytes:
    packet = PppoePacket(code, session_id, pppoe.encode_tags(tags))
    return ethernet.encode(EthernetFrame(BROADCAST, OWN, ETH_PPPOE_DISCOVERY, pppoe.encode(packet)))


def in_session(protocol: int, code: int, identifier: int, data: bytes, vlans: tuple[VlanTag, ...] = ()) -> bytes:
    payload = ppp.encode(protocol, control.encode(ControlPacket(code, identifier, data)))
    packet = pppoe.encode(PppoePacket(Code.SESSION, 0x1B0, payload))
    return ethernet.encode(EthernetFrame(AC, OWN, ETH_PPPOE_SESSION, packet, vlans)).ljust(60, b"\0")


def everything(frame: bytes) -> str:
    """All that is told of a frame, as one text."""
    told = describe(frame)
    return "\n".join([told.summary, *(f"{name}: {value}" for name, value in told.fields)])


def conversation(method: AuthMethod) -> list[bytes]:
    """Every frame of a real session from PADI to PADT, between our own two sides."""
    entropy = random.Random(7).randbytes
    settings = SessionSettings(
        "home-01", "alice", PASSWORD, "gold", auth=(method,), mru=1500, line_id=LineId("slot 3/port 7", "house 12")
    )
    client = Session(settings, OWN, entropy)
    lab = LabSettings(
        ConcentratorSettings(name="bras-2", services=("gold",)), accounts=(("alice", PASSWORD),), auth=(method,)
    )
    concentrator = Concentrator(lab, AC, entropy)
    seen: list[bytes] = []

    def exchange(now: float) -> None:
        while out := client.frames_to_send():
            seen.extend(out)
            for frame in out:
                concentrator.receive(frame, now)
            for frame in (back := concentrator.frames_to_send()):
                client.receive(frame, now)
            seen.extend(back)

    client.dial(0.0)
    exchange(0.0)
    for now in (11.0, 21.0):
        client.handle_timer(now)
        exchange(now)
    client.hang_up(22.0)
    exchange(22.0)
    return seen


FRAMES = {method: conversation(method) for method in AuthMethod}
REAL = [frame for frames in FRAMES.values() for frame in frames]


@pytest.mark.parametrize(
    ("frame", "summary"),
    [
        (
            discovery(
                Code.PADI, 0, Tag(TagType.SERVICE_NAME), Tag(TagType.HOST_UNIQ, bytes.fromhex("1c3e52aa00112233"))
            ),
            'PADI   service "", host-uniq 1c3e52…',
        ),
        (
            discovery(Code.PADO, 0, Tag(TagType.AC_NAME, b"bras-2"), Tag(TagType.AC_COOKIE, bytes(20))),
            "PADO   bras-2, cookie 20 B",
        ),
        (
            discovery(Code.PADR, 0, Tag(TagType.PPP_MAX_PAYLOAD, b"\x05\xdc"), Tag(TagType.SERVICE_NAME, b"gold")),
            'PADR   service "gold", max payload 1500',
        ),
        (discovery(Code.PADS, 0x1B0), "PADS   session 01b0"),
        (
            discovery(Code.PADS, 0, Tag(TagType.SERVICE_NAME_ERROR, "kein Dienst für dich\n".encode())),
            'PADS   no session, Service-Name-Error "kein Dienst für dich"',
        ),
        (discovery(Code.PADO, 0, Tag(TagType.AC_SYSTEM_ERROR)), "PADO   AC-System-Error"),
        (
            discovery(Code.PADT, 0x1B0, Tag(TagType.GENERIC_ERROR, b"maintenance")),
            'PADT   session 01b0, Generic-Error "maintenance"',
        ),
        (discovery(0x42, 0), "PPPoE code 0x42"),
        (
            in_session(Protocol.LCP, 1, 1, bytes.fromhex("0104 05d4 0506 aafc326c")),
            "LCP Configure-Request  id 1  MRU 1492, magic 0xaafc326c",
        ),
        (
            in_session(Protocol.LCP, 3, 1, bytes.fromhex("0305 c22305 0702")),
            "LCP Configure-Nak  id 1  authentication chap, protocol-field compression",
        ),
        (in_session(Protocol.LCP, 2, 4, b""), "LCP Configure-Ack  id 4"),
        (in_session(Protocol.LCP, 5, 2, b"User request"), 'LCP Terminate-Request  id 2  "User request"'),
        (in_session(Protocol.LCP, 6, 2, b""), "LCP Terminate-Ack  id 2"),
        (in_session(Protocol.LCP, 7, 3, b"\x0c\x01\x00\x08abcd"), "LCP Code-Reject  id 3  Identification (12)"),
        (in_session(Protocol.LCP, 8, 3, b"\x80\x57\x01\x01\x00\x04"), "LCP Protocol-Reject  id 3  IPv6CP (0x8057)"),
        (in_session(Protocol.LCP, 8, 3, b"\x12\x34"), "LCP Protocol-Reject  id 3  unknown (0x1234)"),
        (in_session(Protocol.LCP, 9, 7, bytes(4)), "LCP Echo-Request  id 7"),
        (in_session(Protocol.LCP, 10, 7, bytes(12)), "LCP Echo-Reply  id 7"),
        (in_session(Protocol.LCP, 12, 1, bytes(4) + b"MSRASV5.20"), 'LCP Identification  id 1  "MSRASV5.20"'),
        (in_session(Protocol.LCP, 13, 1, bytes(6) + b"\x0e\x10"), "LCP Time-Remaining  id 1  3600 s"),
        (in_session(Protocol.LCP, 99, 1, b"abc"), "LCP code 99  id 1  3 octets"),
        (
            in_session(Protocol.PAP, 1, 1, auth.encode_pap_request(b"alice", PASSWORD.encode())),
            "PAP Authenticate-Request  id 1  user alice",
        ),
        (
            in_session(Protocol.PAP, 3, 1, auth.encode_pap_message(b"Login incorrect")),
            'PAP Authenticate-Nak  id 1  "Login incorrect"',
        ),
        (in_session(Protocol.PAP, 2, 1, b""), "PAP Authenticate-Ack  id 1"),
        (
            in_session(Protocol.CHAP, 1, 3, auth.encode_chap_value(bytes(16), b"bras-2")),
            "CHAP Challenge  id 3  from bras-2",
        ),
        (
            in_session(Protocol.CHAP, 2, 3, auth.encode_chap_value(b"\xa5" * 49, b"alice")),
            "CHAP Response  id 3  user alice",
        ),
        (
            in_session(Protocol.CHAP, 3, 3, b"S=407A5589115FD0D6209F510FE9C04566932CDA56 M=Welcome"),
            'CHAP Success  id 3  "S=… M=Welcome"',
        ),
        (
            in_session(Protocol.CHAP, 4, 3, b"E=691 R=0 M=No\x1b[31m"),
            'CHAP Failure  id 3  "E=691 R=0 M=No [31m"',
        ),
        (
            in_session(Protocol.IPCP, 3, 2, bytes.fromhex("0306 6440030c 8106 01010101")),
            "IPCP Configure-Nak  id 2  address 100.64.3.12, primary DNS 1.1.1.1",
        ),
        (
            in_session(Protocol.IPV6CP, 1, 1, bytes.fromhex("010a 0a1122fffe334455")),
            "IPv6CP Configure-Request  id 1  address fe80::a11:22ff:fe33:4455",
        ),
        (in_session(0x80FD, 1, 1, bytes.fromhex("1206 01000001")), "CCP Configure-Request  id 1  option 18 01000001"),
        (in_session(Protocol.EAP, 1, 1, b"\x01"), "EAP Request  id 1  1 octets"),
        (in_session(0x1235, 1, 2, b"abc"), "protocol 0x1235  7 octets"),
        (ethernet.encode(EthernetFrame(AC, OWN, 0x0800, bytes(46))), "EtherType 0x0800  46 octets"),
    ],
)
def test_summary(frame: bytes, summary: str) -> None:
    assert describe(frame).summary == summary


def test_fields_of_every_layer() -> None:
    vlans = (VlanTag(100, 5, 0x88A8), VlanTag(7, dei=True))
    told = describe(in_session(Protocol.LCP, 1, 1, bytes.fromhex("0104 05d4 0506 aafc326c"), vlans))
    assert told.fields == (
        ("frame", "60 octets"),
        ("destination", "02:ac:ac:ac:00:01"),
        ("source", "02:11:22:33:44:aa"),
        ("VLAN", "100, priority 5, TPID 0x88a8"),
        ("VLAN", "7, priority 0, drop eligible, TPID 0x8100"),
        ("EtherType", "0x8864 (PPPoE session)"),
        ("PPPoE code", "SESSION (0x00)"),
        ("session id", "01b0"),
        ("PPPoE length", "16"),
        ("padding", "16 octets"),
        ("protocol", "LCP (0xc021)"),
        ("code", "Configure-Request (1)"),
        ("identifier", "1"),
        ("length", "14"),
        ("MRU", "1492"),
        ("magic", "0xaafc326c"),
    )


def test_fields_of_tags() -> None:
    line = pppoe.line_id_tag("slot 3/port 7", "house 12")
    long = Tag(TagType.AC_COOKIE, bytes(100))
    told = describe(discovery(Code.PADO, 0, Tag(TagType.AC_NAME, b"bras\x07-2"), long, line, Tag(0x0999, b"\1\2")))
    fields = dict(told.fields)
    assert fields["AC-Name"] == "bras -2"
    assert fields["AC-Cookie"] == "00" * 64 + "… (100 octets)"
    assert fields["Vendor-Specific"] == 'Broadband Forum, circuit id "slot 3/port 7", remote id "house 12"'
    assert fields["tag 0x0999"] == "0102"
    assert dict(describe(discovery(Code.PADI, 0, Tag(TagType.VENDOR_SPECIFIC, b"\0\0\1\2abc"))).fields)[
        "Vendor-Specific"
    ] == ("vendor 0x00000102, 3 octets")


@pytest.mark.parametrize(
    ("frame", "summary"),
    [
        (b"", "malformed: truncated"),
        (AC + OWN + bytes.fromhex("8100 0064 8100 0065 8100 0066 8863"), "malformed: too many VLAN tags"),
        (AC + OWN + bytes.fromhex("8863 2109 0000 0000"), "malformed: bad version"),
        (AC + OWN + bytes.fromhex("8863 1109 0000 0004"), "malformed: bad length"),
        (AC + OWN + bytes.fromhex("8863 1109 0000 0004 0101 0009"), "PADI   malformed: bad tag"),
        (AC + OWN + bytes.fromhex("8864 1107 0001 0000"), "PADO in a session frame"),
        (AC + OWN + bytes.fromhex("8864 1100 0001 0000"), "malformed: truncated"),
        (AC + OWN + bytes.fromhex("8864 1100 0001 0004 c021 0101"), "LCP malformed: truncated"),
        (AC + OWN + bytes.fromhex("8864 1100 0001 0006 c021 0101 0003"), "LCP malformed: bad length"),
        (in_session(Protocol.LCP, 1, 1, b"\x01\x09"), "LCP Configure-Request  id 1  malformed: bad option"),
        (in_session(Protocol.LCP, 9, 1, b"\x01"), "LCP Echo-Request  id 1  malformed: truncated"),
        (in_session(Protocol.CHAP, 1, 1, b"\x10abc"), "CHAP Challenge  id 1  malformed: bad length"),
        (in_session(Protocol.PAP, 1, 1, b"\x05ali"), "PAP Authenticate-Request  id 1  malformed: truncated"),
    ],
)
def test_malformed(frame: bytes, summary: str) -> None:
    told = describe(frame)
    assert told.summary == summary
    assert ("malformed" in summary) == ("malformed" in dict(told.fields))


@pytest.mark.parametrize("method", AuthMethod)
def test_whole_conversation_is_told_without_the_password(method: AuthMethod) -> None:
    summaries = [describe(frame).summary for frame in FRAMES[method]]
    starts = ("PADI ", "PADO ", "PADR ", "PADS ", "LCP Configure-Request", "IPCP Configure-Ack")
    ends = ("IPv6CP Configure-Ack", "LCP Echo-Request", "LCP Echo-Reply", "LCP Terminate-Request", "PADT ")
    for start in starts + ends:
        assert any(summary.startswith(start) for summary in summaries), (start, summaries)
    assert ("PAP Authenticate-Request  id 1  user alice" in summaries) == (method is AuthMethod.PAP)
    assert not any("malformed" in summary for summary in summaries)
    told = "\n".join(map(everything, FRAMES[method]))
    assert PASSWORD not in told
    assert PASSWORD.encode().hex() not in told


def test_response_is_not_shown() -> None:
    value = bytes(range(0xA0, 0xD1))
    told = everything(in_session(Protocol.CHAP, 2, 3, auth.encode_chap_value(value, b"alice")))
    assert "response: not shown (49 octets)" in told
    assert not any(f"{a:02x}{b:02x}" in told for a, b in pairwise(value))


def test_captures() -> None:
    padi = [describe(frame).summary for frame in captured("tcpdump-padi-max-payload")]
    assert padi == ['PADI   service "", max payload 1500, host-uniq 16372c…']
    echo = [describe(frame).summary for frame in captured("tcpdump-lcp-echo")]
    assert echo == ["LCP Echo-Request  id 106", "LCP Echo-Request  id 103"]
    for name in ("pppd-compressed-protocol", "zeek-pppoe-over-qinq"):
        told = [describe(frame) for frame in captured(name)]
        assert told
        assert all(one.summary.startswith(("IPv4  ", "IPv6  ")) for one in told), {one.summary for one in told}
        assert [name for name, _ in told[0].fields].count("VLAN") == (2 if "qinq" in name else 0)


def one_line(frame: bytes) -> None:
    told = describe(frame)
    texts = [told.summary, *(text for field in told.fields for text in field)]
    assert all(text.isprintable() for text in texts)


@given(st.binary(max_size=120))
def test_never_raises_on_any_octets(frame: bytes) -> None:
    one_line(frame)


@given(
    st.sampled_from([Protocol.LCP, Protocol.IPCP, Protocol.IPV6CP, Protocol.PAP, Protocol.CHAP, 0x80FD, 0x4021]),
    st.integers(0, 15),
    st.binary(max_size=64),
)
def test_never_raises_on_any_body(protocol: int, code: int, data: bytes) -> None:
    one_line(in_session(protocol, code, 1, data))


@given(st.sampled_from([*Code]), st.lists(st.tuples(st.sampled_from([*TagType]), st.binary(max_size=40)), max_size=6))
def test_never_raises_on_any_tags(code: int, tags: list[tuple[int, bytes]]) -> None:
    one_line(discovery(code, 1, *(Tag(kind, value) for kind, value in tags)))


@given(st.data())
def test_never_raises_on_mutated_frames(data: st.DataObject) -> None:
    frame = bytearray(data.draw(st.sampled_from(REAL)))
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    one_line(bytes(frame[: data.draw(st.integers(0, len(frame)))]))


passwords = st.text("QXZ7", min_size=6, max_size=40)
users = st.text("abcdefgh@.-", max_size=40)


@given(users, passwords, st.data())
def test_password_of_a_spoilt_pap_request_stays_out(user: str, password: str, data: st.DataObject) -> None:
    """Cut anywhere, and any one octet of the PAP packet wrong, lengths included."""
    frame = bytearray(in_session(Protocol.PAP, 1, 1, auth.encode_pap_request(user.encode(), password.encode())))
    frame[data.draw(st.integers(22, len(frame) - 1))] = data.draw(st.integers(0, 255))
    told = everything(bytes(frame[: data.draw(st.integers(0, len(frame)))]))
    assert password not in told
    assert password.encode().hex() not in told


@given(users, passwords, st.integers(1, 255))
def test_password_stays_out_when_it_comes_back_rejected(user: str, password: str, identifier: int) -> None:
    request = control.encode(ControlPacket(1, identifier, auth.encode_pap_request(user.encode(), password.encode())))
    for code, data in ((7, request), (8, ppp.encode(Protocol.PAP, request)), (9, bytes(4) + request)):
        told = everything(in_session(Protocol.LCP, code, 1, data))
        assert password not in told
        assert password.encode().hex() not in told


LINK_LOCAL = IPv6Address("fe80::1")
ADVERTISED = RouterAdvertisement(
    managed=True,
    mtu=1400,
    prefixes=(PrefixInformation(IPv6Network("3fff::/64"), 200, 100),),
    servers=(Servers(60, (IPv6Address("3fff::53"),)),),
)


def dhcp(kind: MessageType, *options: dhcpv6.Option) -> bytes:
    asked = Association(OptionCode.IA_PD, 1, offered=(Offered(IPv6Network("3fff::/56"), 10, 20),))
    message = Message(kind, b"abc", (*options, dhcpv6.association_option(asked)))
    return ipv6.encode_udp(LINK_LOCAL, dhcpv6.ALL_SERVERS, Datagram(546, 547, dhcpv6.encode(message)))


@pytest.mark.parametrize(
    ("packet", "summary"),
    [
        (ndp.solicitation(LINK_LOCAL), "IPv6 Router-Solicitation"),
        (
            ndp.advertisement(LINK_LOCAL, ndp.ALL_NODES, ADVERTISED),
            "IPv6 Router-Advertisement  router lifetime 1800 s, DHCPv6 managed, MTU 1400, prefix 3fff::/64, "
            "name servers 3fff::53 for 60 s",
        ),
        (dhcp(MessageType.SOLICIT), "IPv6 DHCPv6 Solicit  prefix 3fff::/56"),
        (
            dhcp(MessageType.REPLY, dhcpv6.status_option(Status.UNSPEC_FAIL)),
            "IPv6 DHCPv6 Reply  UnspecFail, prefix 3fff::/56",
        ),
        (bytes(8), "IPv6 malformed: truncated"),
    ],
)
def test_what_a_session_says_of_ipv6(packet: bytes, summary: str) -> None:
    payload = pppoe.encode(PppoePacket(Code.SESSION, 7, ppp.encode(Protocol.IPV6, packet)))
    frame = ethernet.encode(EthernetFrame(AC, OWN, ETH_PPPOE_SESSION, payload))
    assert describe(frame).summary == summary
