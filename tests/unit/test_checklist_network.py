"""The protocol checklist, "Network protocols", line by line."""

from __future__ import annotations

import random
from ipaddress import IPv4Address

import pytest
from msgspec.structs import replace

from engine.api.ending import EndKind
from engine.api.values import SessionState
from engine.ppp.facts import Facts
from engine.ppp.ipv6cp import Ipv6cpOptions
from engine.ppp.link_events import Ipv4Closed, Ipv4Opened, Ipv6Closed, Ipv6Opened, ProtocolMissing
from engine.ppp.negotiator import Verdict
from engine.wire import control
from engine.wire.control import Code, IpcpOption, Ipv6cpOption, Option
from engine.wire.ppp import Protocol

from .peer import SETTINGS, Peer

IPCP, IPV6CP = Protocol.IPCP, Protocol.IPV6CP
WITH_IPV6 = replace(SETTINGS, ipv6=True)


def address(kind: int, text: str) -> Option:
    return Option(kind, IPv4Address(text).packed)


def asked(peer: Peer, protocol: int = IPCP) -> dict[int, str]:
    options = control.decode_options(peer.latest(protocol, Code.CONFIGURE_REQUEST).data)
    return {option.type: str(IPv4Address(option.value)) for option in options}


def network() -> Peer:
    peer = Peer()
    peer.open_network()
    return peer


def test_ipcp_asks_for_zero_and_takes_the_naks_value() -> None:
    peer = network()
    assert asked(peer) == {3: "0.0.0.0", 129: "0.0.0.0", 131: "0.0.0.0"}
    peer.open_ipcp("100.64.3.4")
    assert asked(peer) == {3: "100.64.3.4", 129: "9.9.9.9", 131: "1.1.1.1"}
    (event,) = [event for event in peer.events if isinstance(event, Ipv4Opened)]
    assert str(event.agreed.address) == "100.64.3.4"
    assert str(event.agreed.peer) == "100.64.0.1"
    assert list(map(str, event.agreed.dns)) == ["9.9.9.9", "1.1.1.1"]
    assert peer.session.state is SessionState.UP


def test_ipcp_a_peer_without_an_address_is_legal() -> None:
    peer = network()
    peer.open_ipcp(own=None)
    assert peer.session.state is SessionState.UP
    assert peer.session.ipv4 is not None
    assert peer.session.ipv4.peer is None


def test_ipcp_rejected_dns_options_are_dropped_one_by_one() -> None:
    peer = network()
    peer.answer(IPCP, Code.CONFIGURE_REJECT, address(IpcpOption.SECONDARY_DNS, "0.0.0.0"))
    assert set(asked(peer)) == {3, 129}
    peer.answer(IPCP, Code.CONFIGURE_REJECT, address(IpcpOption.PRIMARY_DNS, "0.0.0.0"))
    assert set(asked(peer)) == {3}
    peer.answer(IPCP, Code.CONFIGURE_NAK, address(IpcpOption.IP_ADDRESS, "100.64.0.5"))
    peer.answer(IPCP, Code.CONFIGURE_ACK)
    peer.request(IPCP)
    assert peer.session.state is SessionState.UP
    assert peer.session.ipv4 is not None
    assert peer.session.ipv4.dns == ()


def test_ipcp_compression_and_ip_addresses_are_rejected() -> None:
    peer = network()
    peer.heard()
    vj = Option(IpcpOption.COMPRESSION, b"\x00\x2d\x0f\x01")
    old = Option(IpcpOption.IP_ADDRESSES, bytes(8))
    peer.request(IPCP, vj, address(IpcpOption.IP_ADDRESS, "100.64.0.1"), old)
    (reject,) = peer.heard_of(IPCP)
    assert (reject.code, control.decode_options(reject.data)) == (Code.CONFIGURE_REJECT, (vj, old))


def test_ipcp_a_peer_that_asks_us_for_dns_gets_only_those_rejected() -> None:
    peer = network()
    peer.heard()
    dns = [address(IpcpOption.PRIMARY_DNS, "0.0.0.0"), address(IpcpOption.SECONDARY_DNS, "0.0.0.0")]
    peer.request(IPCP, address(IpcpOption.IP_ADDRESS, "100.64.0.1"), *dns)
    (reject,) = peer.heard_of(IPCP)
    assert (reject.code, list(control.decode_options(reject.data))) == (Code.CONFIGURE_REJECT, dns)
    peer.open_ipcp()
    assert peer.session.state is SessionState.UP


@pytest.mark.parametrize("useless", ["0.0.0.0", "127.0.0.1", "224.0.0.5", "255.255.255.255"])
def test_ipcp_an_acknowledged_address_that_no_host_can_have_is_a_failure(useless: str) -> None:
    peer = network()
    if useless != "0.0.0.0":
        peer.answer(IPCP, Code.CONFIGURE_NAK, address(IpcpOption.IP_ADDRESS, useless))
    peer.request(IPCP, address(IpcpOption.IP_ADDRESS, "100.64.0.1"))
    peer.answer(IPCP, Code.CONFIGURE_ACK)
    peer.sleep(10)
    assert [end.kind for end in peer.ends] == [EndKind.NO_ADDRESS]
    assert not any(isinstance(event, Ipv4Opened | Ipv4Closed) for event in peer.events)


def test_ipcp_a_rejected_address_is_a_failure() -> None:
    peer = network()
    peer.answer(IPCP, Code.CONFIGURE_REJECT, address(IpcpOption.IP_ADDRESS, "0.0.0.0"))
    peer.request(IPCP)
    peer.answer(IPCP, Code.CONFIGURE_ACK)
    peer.sleep(10)
    assert [end.kind for end in peer.ends] == [EndKind.NO_ADDRESS]


def test_ipcp_reopened_with_a_new_address() -> None:
    peer = Peer()
    peer.up()
    peer.request(IPCP, address(IpcpOption.IP_ADDRESS, "100.64.0.2"), identifier=0x66)
    assert peer.session.state is SessionState.GETTING_ADDRESS
    assert asked(peer)[3] == "0.0.0.0"
    peer.answer(IPCP, Code.CONFIGURE_NAK, address(IpcpOption.IP_ADDRESS, "100.64.7.7"))
    peer.answer(IPCP, Code.CONFIGURE_ACK)
    kinds = [type(event) for event in peer.events if isinstance(event, Ipv4Opened | Ipv4Closed)]
    assert kinds == [Ipv4Closed, Ipv4Opened]
    assert peer.session.state is SessionState.UP
    assert peer.session.ipv4 is not None
    assert str(peer.session.ipv4.address) == "100.64.7.7"
    assert str(peer.session.ipv4.peer) == "100.64.0.2"


def test_ipcp_closed_by_the_peer_leaves_ipv6() -> None:
    peer = Peer(WITH_IPV6)
    peer.open_network()
    peer.open_ipcp()
    peer.open_ipv6cp()
    peer.control(IPCP, Code.TERMINATE_REQUEST, 9)
    assert peer.session.ipv4 is None
    peer.sleep(5)
    assert [event.protocol for event in peer.events if isinstance(event, ProtocolMissing)] == [IPCP]
    assert peer.session.state is SessionState.UP
    peer.open_ipcp("100.64.8.8")
    assert peer.session.ipv4 is not None


def test_ipcp_a_nak_of_what_was_not_asked_is_not_taken_up() -> None:
    peer = network()
    peer.answer(
        IPCP, Code.CONFIGURE_NAK, address(IpcpOption.PRIMARY_NBNS, "1.2.3.4"), Option(IpcpOption.IP_ADDRESS, b"1")
    )
    assert asked(peer) == {3: "0.0.0.0", 129: "0.0.0.0", 131: "0.0.0.0"}


def test_ipv6cp_opens() -> None:
    peer = Peer(WITH_IPV6)
    peer.open_network()
    peer.open_ipcp()
    peer.open_ipv6cp()
    assert peer.session.ipv6 is not None
    assert peer.session.ipv6.address.is_link_local
    assert str(peer.session.ipv6.peer) == "fe80::261:6300:61:6331"
    peer.padt()
    assert any(isinstance(event, Ipv6Closed) for event in peer.events)


def test_ipv6cp_alone_is_enough_where_there_is_no_ipv4() -> None:
    peer = Peer(WITH_IPV6)
    peer.open_network()
    peer.open_ipv6cp()
    assert peer.session.state is SessionState.GETTING_ADDRESS
    peer.lcp(Code.PROTOCOL_REJECT, 9, b"\x80\x21\x01\x01\x00\x04")
    peer.sleep(10)
    assert peer.session.state is SessionState.UP
    assert any(isinstance(event, Ipv6Opened) for event in peer.events)


def test_ipv6cp_alone_and_closed_is_not_up_any_more() -> None:
    peer = Peer(WITH_IPV6)
    peer.open_network()
    peer.open_ipv6cp()
    peer.lcp(Code.PROTOCOL_REJECT, 9, b"\x80\x21\x01\x01\x00\x04")
    peer.control(IPV6CP, Code.TERMINATE_REQUEST, 5)
    assert peer.session.state is SessionState.GETTING_ADDRESS
    peer.sleep(10)
    assert [end.kind for end in peer.ends] == [EndKind.NO_ADDRESS]


def ipv6_wish(peer: Peer) -> bytes:
    (option,) = control.decode_options(peer.latest(IPV6CP, Code.CONFIGURE_REQUEST).data)
    return option.value


@pytest.mark.parametrize("theirs", ["zero", "ours"])
def test_ipv6cp_zero_and_equal_identifiers_get_a_nak_with_a_new_one(theirs: str) -> None:
    peer = Peer(WITH_IPV6)
    peer.open_network()
    ours = ipv6_wish(peer)
    peer.heard()
    peer.request(IPV6CP, Option(Ipv6cpOption.INTERFACE_IDENTIFIER, bytes(8) if theirs == "zero" else ours))
    (nak,) = peer.heard_of(IPV6CP)
    (suggested,) = control.decode_options(nak.data)
    assert nak.code == Code.CONFIGURE_NAK
    assert suggested.value not in (bytes(8), ours)


def test_ipv6cp_both_zero_is_rejected() -> None:
    """We never ask for zero ourselves; the handler is put into that case by hand."""
    handler = Ipv6cpOptions(random.Random(1).randbytes, Facts())
    handler._wish = bytes(8)
    verdict, _ = handler.judge(Option(Ipv6cpOption.INTERFACE_IDENTIFIER, bytes(8)))
    assert verdict is Verdict.REJECT


def test_ipv6cp_takes_a_suggested_identifier_but_never_zero() -> None:
    peer = Peer(WITH_IPV6)
    peer.open_network()
    peer.answer(IPV6CP, Code.CONFIGURE_NAK, Option(Ipv6cpOption.INTERFACE_IDENTIFIER, b"suggests"))
    assert ipv6_wish(peer) == b"suggests"
    peer.answer(IPV6CP, Code.CONFIGURE_NAK, Option(Ipv6cpOption.INTERFACE_IDENTIFIER, bytes(8)))
    assert ipv6_wish(peer) not in (bytes(8), b"suggests")


def test_ipv6cp_a_suggestion_that_is_our_own_to_the_peer_is_not_taken() -> None:
    """Both would have the same identifier once more (RFC 5072 section 4.1)."""
    peer = Peer(WITH_IPV6)
    peer.open_network()
    ours = ipv6_wish(peer)
    peer.heard()
    peer.request(IPV6CP, Option(Ipv6cpOption.INTERFACE_IDENTIFIER, ours))
    (nak,) = peer.heard_of(IPV6CP)
    (suggested,) = control.decode_options(nak.data)
    peer.answer(IPV6CP, Code.CONFIGURE_NAK, suggested)
    assert ipv6_wish(peer) not in (bytes(8), ours, suggested.value)


def test_ipv6cp_sessions_have_different_identifiers() -> None:
    wishes = set()
    for seed in range(20):
        peer = Peer(WITH_IPV6, seed=seed)
        peer.open_network()
        wishes.add(ipv6_wish(peer))
        assert ipv6_wish(peer)[0] & 2 == 0
    assert len(wishes) == 20


def test_ipv6cp_compression_is_rejected() -> None:
    peer = Peer(WITH_IPV6)
    peer.open_network()
    peer.heard()
    odd = Option(Ipv6cpOption.COMPRESSION, b"\x00\x4f")
    peer.request(IPV6CP, Option(Ipv6cpOption.INTERFACE_IDENTIFIER, b"\2ac\0\0ac1"), odd)
    (reject,) = peer.heard_of(IPV6CP)
    assert (reject.code, control.decode_options(reject.data)) == (Code.CONFIGURE_REJECT, (odd,))


def test_ipv6cp_off_is_rejected_as_a_protocol() -> None:
    peer = Peer()
    peer.up()
    peer.request(IPV6CP, Option(Ipv6cpOption.INTERFACE_IDENTIFIER, b"\2ac\0\0ac1"))
    assert [packet.code for packet in peer.heard_of(Protocol.LCP)] == [Code.PROTOCOL_REJECT]


def test_the_facts_keep_what_was_asked_for_at_first() -> None:
    """Later requests ask for what the peer's Nak said: that is the peer's wish, not ours."""
    facts = Facts()
    facts.note("address", "asked", "0.0.0.0")
    facts.note("address", "offered", "192.0.2.7")
    facts.note("address", "asked", "192.0.2.7")
    assert facts.by_name["address"].asked == "0.0.0.0"
