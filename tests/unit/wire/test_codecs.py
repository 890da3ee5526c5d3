"""Every codec: what it encodes it decodes again, and nothing from the line makes it raise anything but WireError."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import astuple

from engine.wire import auth, control, ethernet, ppp, pppoe
from engine.wire.control import ControlPacket, Option
from engine.wire.errors import Malformed, WireError
from engine.wire.ethernet import EthernetFrame, VlanTag
from engine.wire.pppoe import PppoePacket, Tag, TagType
from engine.wire.text import MAX_TEXT, printable
from fuzz.targets import DECODERS

octet = st.integers(0, 255)
word = st.integers(0, 65535)
mac = st.binary(min_size=6, max_size=6)
junk = st.binary(max_size=200)
vlan = st.builds(VlanTag, st.integers(0, 4095), st.integers(0, 7), st.sampled_from((0x8100, 0x88A8)), st.booleans())
vlans = st.lists(vlan, max_size=2).map(tuple)
ethertype = word.filter(lambda number: number not in ethernet.VLAN_TPIDS)
frames = st.builds(EthernetFrame, mac, mac, ethertype, junk, vlans)
tags = st.lists(st.builds(Tag, word.filter(bool), junk), max_size=6).map(tuple)
options = st.lists(st.builds(Option, octet, st.binary(max_size=253)), max_size=6).map(tuple)
packets = st.builds(ControlPacket, octet, octet, junk)


def octets_in(value: object) -> Iterator[bytes]:
    """Every string of octets in what a decoder gave."""
    if isinstance(value, bytes):
        yield value
    elif isinstance(value, tuple):
        for part in value:
            yield from octets_in(part)
    elif isinstance(value, Struct):
        yield from octets_in(astuple(value))


anything = st.one_of(
    st.binary(max_size=300),
    frames.map(ethernet.encode),
    tags.map(pppoe.encode_tags),
    options.map(control.encode_options),
    packets.map(control.encode),
    st.builds(auth.encode_pap_request, junk, junk),
    st.builds(auth.encode_chap_value, junk, junk),
)
"""Octets as they may come, and those that at least one decoder takes for well-formed."""


@pytest.mark.parametrize("decode", DECODERS, ids=lambda decode: f"{decode.__module__}.{decode.__name__}")
@given(data=anything)
def test_a_decoder_makes_nothing_up_and_raises_nothing_but_its_own_error(
    decode: Callable[[bytes], object], data: bytes
) -> None:
    try:
        value = decode(data)
    except WireError:
        return
    assert all(part in data for part in octets_in(value))


@given(frames, st.data())
def test_a_header_that_is_cut_short_is_told_as_that(frame: EthernetFrame, data: st.DataObject) -> None:
    octets = ethernet.encode(frame)
    with pytest.raises(WireError, match="truncated"):
        ethernet.decode(octets[: data.draw(st.integers(0, len(octets) - len(frame.payload) - 1))])


@given(frames)
def test_ethernet_comes_back(frame: EthernetFrame) -> None:
    assert ethernet.decode(ethernet.encode(frame)) == frame


@given(st.binary(max_size=120))
def test_ethernet_goes_back(data: bytes) -> None:
    try:
        frame = ethernet.decode(data)
    except WireError:
        return
    assert ethernet.encode(frame) == data


@given(st.builds(PppoePacket, octet, word, junk), st.binary(max_size=60))
def test_pppoe_comes_back_without_its_padding(packet: PppoePacket, padding: bytes) -> None:
    assert pppoe.decode(pppoe.encode(packet) + padding) == packet


@given(st.binary(max_size=60))
def test_pppoe_goes_back(data: bytes) -> None:
    try:
        packet = pppoe.decode(data)
    except WireError:
        return
    assert data.startswith(pppoe.encode(packet))


@given(tags)
def test_tags_come_back(given_tags: tuple[Tag, ...]) -> None:
    assert pppoe.decode_tags(pppoe.encode_tags(given_tags)) == given_tags


@given(tags, st.binary(max_size=40))
def test_tags_end_at_end_of_list(given_tags: tuple[Tag, ...], rest: bytes) -> None:
    assert pppoe.decode_tags(pppoe.encode_tags(given_tags) + bytes(4) + rest) == given_tags


@given(st.binary(max_size=80))
def test_tags_go_back(data: bytes) -> None:
    try:
        found = pppoe.decode_tags(data)
    except WireError:
        return
    assert data.startswith(pppoe.encode_tags(found))


@given(tags, junk, st.integers(1, 65535))
def test_a_tag_past_the_end_is_malformed(given_tags: tuple[Tag, ...], value: bytes, surplus: int) -> None:
    says = min(len(value) + surplus, 65535)
    data = pppoe.encode_tags(given_tags) + b"\x01\x02" + says.to_bytes(2, "big") + value
    with pytest.raises(WireError, match=Malformed.BAD_TAG):
        pppoe.decode_tags(data)


@given(word, junk)
def test_ppp_comes_back(protocol: int, information: bytes) -> None:
    if protocol >> 8 & 1:
        return  # such a number can't stand in two octets (RFC 1661 section 2)
    assert ppp.decode(ppp.encode(protocol, information)) == (protocol, information)


@given(st.integers(0, 127).map(lambda number: number * 2 + 1).filter(lambda number: number != 0xFF), junk)
def test_ppp_takes_a_compressed_protocol_number(protocol: int, information: bytes) -> None:
    assert ppp.decode(bytes((protocol,)) + information) == (protocol, information)


@given(junk)
def test_ppp_takes_the_header_of_hdlc(information: bytes) -> None:
    assert ppp.decode(b"\xff\x03\xc0\x21" + information) == (0xC021, information)


@given(packets, st.binary(max_size=50))
def test_control_comes_back_without_its_padding(packet: ControlPacket, padding: bytes) -> None:
    assert control.decode(control.encode(packet) + padding) == packet


@given(st.binary(max_size=60))
def test_control_goes_back(data: bytes) -> None:
    try:
        packet = control.decode(data)
    except WireError:
        return
    assert data.startswith(control.encode(packet))


@given(options)
def test_options_come_back(given_options: tuple[Option, ...]) -> None:
    assert control.decode_options(control.encode_options(given_options)) == given_options


@given(st.binary(max_size=80))
def test_options_go_back(data: bytes) -> None:
    try:
        found = control.decode_options(data)
    except WireError:
        return
    assert control.encode_options(found) == data


@given(st.binary(max_size=255), st.binary(max_size=255))
def test_a_pap_request_comes_back(peer_id: bytes, password: bytes) -> None:
    assert auth.decode_pap_request(auth.encode_pap_request(peer_id, password)) == (peer_id, password)


@given(st.binary(max_size=255))
def test_a_pap_message_comes_back(message: bytes) -> None:
    assert auth.decode_pap_message(auth.encode_pap_message(message)) == message


@given(st.binary(min_size=1, max_size=255), junk)
def test_a_chap_value_comes_back(value: bytes, name: bytes) -> None:
    assert auth.decode_chap_value(auth.encode_chap_value(value, name)) == (value, name)


@given(st.binary(max_size=2000))
def test_a_peers_text_is_one_printable_line(octets: bytes) -> None:
    shown = printable(octets)
    assert shown.isprintable()
    assert len(shown) <= MAX_TEXT
    assert "\n" not in shown


def test_a_mac_address_in_text() -> None:
    assert ethernet.format_mac(b"\x02\xac\x00\x0a\xff\x01") == "02:ac:00:0a:ff:01"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (bytes(13), Malformed.TRUNCATED),
        (bytes(12) + b"\x81\x00\x00", Malformed.TRUNCATED),
        (bytes(12) + b"\x81\x00\x00\x01" * 3 + b"\x88\x63", Malformed.TOO_MANY_VLANS),
    ],
)
def test_ethernet_says_what_is_wrong(data: bytes, reason: Malformed) -> None:
    with pytest.raises(WireError) as caught:
        ethernet.decode(data)
    assert caught.value.reason is reason


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x11\x00\x00\x01\x00", Malformed.TRUNCATED),
        (b"\x21\x00\x00\x01\x00\x00", Malformed.BAD_VERSION),
        (b"\x12\x00\x00\x01\x00\x00", Malformed.BAD_VERSION),
        (b"\x11\x00\x00\x01\x00\x01", Malformed.BAD_LENGTH),
    ],
)
def test_pppoe_says_what_is_wrong(data: bytes, reason: Malformed) -> None:
    with pytest.raises(WireError) as caught:
        pppoe.decode(data)
    assert caught.value.reason is reason


def test_an_error_tag_without_text_is_named() -> None:
    assert pppoe.error_text((Tag(TagType.SERVICE_NAME_ERROR),)) == "no such service"
    assert pppoe.error_text((Tag(TagType.AC_NAME, b"ac"),)) is None
