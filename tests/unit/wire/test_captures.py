"""Frames that other people's devices sent: they parse, and say what they are known to say."""

from __future__ import annotations

from collections import Counter

from engine.wire import control, ethernet, ppp, pppoe
from engine.wire.control import LcpOption
from engine.wire.ppp import Protocol

from ..captures import captured


def test_padi_with_max_payload() -> None:
    (frame,) = captured("tcpdump-padi-max-payload")
    outer = ethernet.decode(frame)
    packet = pppoe.decode(outer.payload)
    tags = pppoe.decode_tags(packet.payload)
    assert (packet.code, packet.session_id) == (pppoe.Code.PADI, 0)
    assert pppoe.max_payload(tags) == 1500
    assert len(pppoe.find(tags, pppoe.TagType.HOST_UNIQ) or b"") > 0


def test_lcp_echo() -> None:
    told = []
    for frame in captured("tcpdump-lcp-echo"):
        protocol, information = ppp.decode(pppoe.decode(ethernet.decode(frame).payload).payload)
        packet = control.decode(information)
        told.append((protocol, packet.code, packet.identifier, len(packet.data)))
    request = control.Code.ECHO_REQUEST
    assert told == [(Protocol.LCP, request, 106, 8), (Protocol.LCP, request, 103, 8)], "padding is not part of them"


def test_protocol_field_compression() -> None:
    frames = captured("pppd-compressed-protocol")
    assert frames
    for frame in frames:
        outer = ethernet.decode(frame)
        assert outer.ethertype == ethernet.ETH_PPPOE_SESSION
        payload = pppoe.decode(outer.payload).payload
        assert payload[0] == 0x21, "one octet for 0x0021"
        protocol, information = ppp.decode(payload)
        assert protocol == Protocol.IPV4
        assert information[0] >> 4 == 4


def test_pppoe_inside_two_vlans() -> None:
    frames = captured("zeek-pppoe-over-qinq")
    protocols: Counter[int] = Counter()
    for frame in frames:
        outer = ethernet.decode(frame)
        assert ethernet.encode(outer) == frame
        if outer.ethertype != ethernet.ETH_PPPOE_SESSION:
            continue
        assert len(outer.vlans) == 2
        protocol, information = ppp.decode(pppoe.decode(outer.payload).payload)
        protocols[protocol] += 1
        if protocol == Protocol.LCP and (packet := control.decode(information)).code <= control.Code.CONFIGURE_REJECT:
            kinds = [option.type for option in control.decode_options(packet.data)]
            assert all(kind in LcpOption._value2member_map_ for kind in kinds)
    assert protocols
