"""Which addresses a concentrator may hand out, and what becomes of a session that is given another."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from itertools import chain, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from engine.api.commands import Dial, HangUp
from engine.api.ending import EndKind
from engine.api.values import SessionState
from engine.lab.concentrator import LabSettings
from engine.ppp.ipcp import MAX_ASKED, MAX_REJECTED, Ipv4Agreed
from engine.ppp.ipv6cp import Ipv6Agreed, link_local
from engine.ppp.judge import Address
from engine.ppp.link_events import Ipv4Opened, Notice
from engine.pppoe.concentrator import ConcentratorSettings
from engine.sessions.policy import InUse, Judge, Way, Whose, objection, overlaps
from engine.sessions.session import Ended, Session
from engine.settings.values import AcFilter, SessionSettings
from engine.wire.control import Code, IpcpOption, Ipv6cpOption, Option
from engine.wire.ppp import Protocol

from .peer import SETTINGS, Peer
from .supervisor.world import World, session
from .test_fleet import AC1, AC2, LAB, QUICK, Field, own_mac

OURS, PEERS = Whose
LAN = IPv4Network("192.168.1.0/24")
HOST, GATEWAY, NEIGHBOUR = IPv4Address("192.168.1.2"), IPv4Address("192.168.1.1"), IPv4Address("192.168.1.9")
GOOD = IPv4Address("198.51.100.7")
PREFIX = IPv6Network("2001:db8:1::/64")
WAYS = {
    HOST: Way("eth1", IPv4Network(f"{HOST}/32"), local=True),
    GATEWAY: Way("eth1", LAN),
    NEIGHBOUR: Way("eth1", LAN),
    GOOD: Way("eth1", IPv4Network("0.0.0.0/0"), gateway=GATEWAY),
}


# The decision


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("0.0.0.1", "stands for no host"),
        ("0.255.255.255", "stands for no host"),
        ("127.0.0.1", "loopback"),
        ("169.254.1.1", "single link"),
        ("224.0.0.1", "multicast"),
        ("239.255.255.255", "multicast"),
        ("240.0.0.1", "reserved"),
        ("255.255.255.254", "reserved"),
        ("255.255.255.255", "broadcast"),
        ("1.0.0.1", ""),
        ("126.255.255.254", ""),
        ("128.0.0.1", ""),
        ("169.253.1.1", ""),
        ("223.255.255.254", ""),
        ("10.0.0.1", ""),
        ("100.64.0.1", ""),
    ],
)
@pytest.mark.parametrize("whose", Whose)
def test_only_unicast_addresses(address: str, why: str, whose: Whose) -> None:
    said = objection(IPv4Address(address), whose, None)
    assert why in said
    assert bool(why) == bool(said)


@pytest.mark.parametrize("whose", Whose)
@pytest.mark.parametrize(
    ("address", "why"),
    [
        (HOST, "is this host's own, on eth1"),
        (GATEWAY, "is in 192.168.1.0/24, a network of this host on eth1"),
        (NEIGHBOUR, "is in 192.168.1.0/24, a network of this host on eth1"),
        (GOOD, ""),
    ],
)
def test_nothing_that_the_host_has_or_uses(address: IPv4Address, why: str, whose: Whose) -> None:
    assert objection(address, whose, WAYS[address]) == why


def test_a_gateway_that_is_in_no_network_of_the_hosts() -> None:
    """`ip route add default via 198.51.100.7 dev eth1 onlink`, as hosters have it."""
    way = Way("eth1", IPv4Network("0.0.0.0/0"), gateway=GOOD)
    assert objection(GOOD, OURS, way) == "is this host's gateway on eth1"
    assert objection(GOOD + 1, OURS, way) == ""


@pytest.mark.parametrize("network", ["0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1"])
def test_a_tunnel_to_everywhere_is_no_network_of_the_hosts(network: str) -> None:
    assert objection(GOOD, OURS, Way("wg0", IPv4Network(network), point_to_point=True)) == ""


def test_a_tunnel_to_a_private_network_is() -> None:
    way = Way("wg0", IPv4Network("10.0.0.0/8"), point_to_point=True)
    assert objection(IPv4Address("10.1.2.3"), OURS, way) == "is in 10.0.0.0/8, a network of this host on wg0"


def test_the_far_end_of_a_link_that_the_host_has_by_other_means() -> None:
    """pppd may have a session with the same concentrator: that is a peer to have, and no address for us."""
    way = Way("ppp0", IPv4Network(f"{GOOD}/32"), point_to_point=True)
    assert objection(GOOD, PEERS, way) == ""
    assert "ppp0" in objection(GOOD, OURS, way)
    assert "eth1" in objection(GOOD, PEERS, Way("eth1", IPv4Network(f"{GOOD}/32"))), "a neighbour by a route of its own"


@pytest.mark.parametrize("whose", Whose)
def test_no_address_of_another_session(whose: Whose) -> None:
    assert objection(GOOD, whose, None, "blue") == "belongs to session blue"


def test_who_has_which_address() -> None:
    in_use, peer = InUse(), IPv4Address("100.64.0.1")
    six, its_peer = link_local(bytes(7) + b"\1"), link_local(bytes(7) + b"\2")
    in_use.note(1, Ipv4Agreed(GOOD, peer, ()))
    in_use.note(2, Ipv4Agreed(GOOD + 1, peer, ()))
    in_use.note(1, Ipv6Agreed(six, its_peer))
    assert [in_use.holder(GOOD, whose, 2) for whose in Whose] == [1, 1]
    assert [in_use.holder(GOOD, whose, 1) for whose in Whose] == [None, None], "one's own"
    assert in_use.holder(peer, PEERS, 3) is None, "one concentrator is the peer of many"
    assert in_use.holder(peer, OURS, 3) in (1, 2)
    assert in_use.holder(six, PEERS, 2) == 1
    in_use.note(1, Ipv4Agreed(GOOD + 2, None, ()))
    assert in_use.holder(GOOD, OURS, 2) is None, "another address took its place"
    assert in_use.holder(six, OURS, 2) == 1, "that of the other protocol is still there"
    in_use.forget(1, IPv4Address, IPv6Address)
    in_use.forget(2, IPv4Address, IPv6Address)
    assert [in_use.holder(address, OURS, 9) for address in (GOOD + 1, GOOD + 2, peer, six, its_peer)] == [None] * 5


# IPCP and IPv6CP


class Ledger:
    """Judges as it is told."""

    def __init__(self, *refused: Address) -> None:
        self.refused = set(refused)

    def ours(self, address: Address) -> str:
        return "is taken" if address in self.refused else ""

    peers = ours

    def network(self, network: IPv6Network) -> str:
        return ""


def in_network(*refused: Address, ipv6: bool = False) -> Peer:
    """A peer and a session that may not have these addresses, as far as the network protocols."""
    peer = Peer(replace(SETTINGS, ipv6=ipv6))
    peer.session.judge = Ledger(*refused)
    peer.open_network()
    return peer


RESTART = 3.0
"""Seconds after which a request that a Nak has not changed is sent again, at most."""


def nak(peer: Peer, address: IPv4Address) -> IPv4Address:
    """Answer the latest request with this address; returns what is asked for then."""
    peer.answer(Protocol.IPCP, Code.CONFIGURE_NAK, Option(IpcpOption.IP_ADDRESS, address.packed))
    options = peer.latest(Protocol.IPCP, Code.CONFIGURE_REQUEST).data
    assert options[:2] == b"\3\6"
    return IPv4Address(options[2:6])


def test_another_address_is_asked_for() -> None:
    peer = in_network(HOST)
    assert nak(peer, HOST) == IPv4Address(0)
    assert nak(peer, GOOD) == GOOD
    peer.request(Protocol.IPCP)
    peer.answer(Protocol.IPCP, Code.CONFIGURE_ACK)
    assert [event.agreed.address for event in peer.events if isinstance(event, Ipv4Opened)] == [GOOD]
    text = f"The address {HOST} is refused: it is taken. Asking for another."
    assert [event.text for event in peer.events if isinstance(event, Notice)] == [text]


@pytest.mark.parametrize("ipv6", [False, True])
def test_a_concentrator_that_has_no_other_address(ipv6: bool) -> None:
    peer = in_network(HOST, ipv6=ipv6)
    if ipv6:
        peer.open_ipv6cp()
    for _ in range(MAX_ASKED):
        peer.sleep(RESTART)  # a request that a Nak has not changed goes out once more only then
        assert not peer.ends
        nak(peer, HOST)
    assert peer.session.state is SessionState.HANGING_UP
    peer.sleep(5)
    (end,) = peer.ends
    assert (end.kind, end.text) == (
        EndKind.ADDRESS_REFUSED,
        f"Given no other address than {HOST}, which is refused: it is taken.",
    )
    assert not [event for event in peer.events if isinstance(event, Ipv4Opened)]


def test_an_address_that_another_session_took_meanwhile() -> None:
    """Each was given it while neither had it: the later one to open is refused."""
    peer = in_network()
    ledger = peer.session.judge
    assert isinstance(ledger, Ledger)
    assert nak(peer, GOOD) == GOOD
    peer.request(Protocol.IPCP)
    ledger.refused.add(GOOD)
    peer.answer(Protocol.IPCP, Code.CONFIGURE_ACK)
    peer.sleep(5)
    assert [end.kind for end in peer.ends] == [EndKind.ADDRESS_REFUSED]
    assert not [event for event in peer.events if isinstance(event, Ipv4Opened)]


def test_a_renegotiation_in_the_middle_is_judged_too() -> None:
    peer = in_network(HOST)
    peer.open_ipcp(str(GOOD))
    assert peer.session.state is SessionState.UP
    peer.request(Protocol.IPCP, Option(IpcpOption.IP_ADDRESS, GATEWAY.packed), identifier=0x42)
    for _ in range(MAX_ASKED):
        peer.sleep(RESTART)
        nak(peer, HOST)
    peer.sleep(5)
    assert [(end.kind, end.was_up) for end in peer.ends] == [(EndKind.ADDRESS_REFUSED, True)]


def test_a_peers_address_is_rejected_and_the_session_lives_without() -> None:
    peer = in_network(GATEWAY)
    peer.heard()
    peer.request(Protocol.IPCP, Option(IpcpOption.IP_ADDRESS, GATEWAY.packed))
    assert [packet.data for packet in peer.heard_of(Protocol.IPCP, Code.CONFIGURE_REJECT)] == [b"\3\6" + GATEWAY.packed]
    peer.open_ipcp(str(GOOD), own=None)
    (opened,) = [event for event in peer.events if isinstance(event, Ipv4Opened)]
    assert opened.agreed.peer is None
    text = f"The concentrator may not have the address {GATEWAY}: it is taken."
    assert [event.text for event in peer.events if isinstance(event, Notice)] == [text]


def test_a_peer_that_insists_on_its_address() -> None:
    peer = in_network(GATEWAY)
    for identifier in range(MAX_REJECTED):
        assert not peer.ends
        peer.request(Protocol.IPCP, Option(IpcpOption.IP_ADDRESS, GATEWAY.packed), identifier=identifier)
    peer.sleep(5)
    (end,) = peer.ends
    assert end.kind is EndKind.ADDRESS_REFUSED
    assert str(GATEWAY) in end.text
    assert len([event for event in peer.events if isinstance(event, Notice)]) == 1


def test_a_link_local_address_of_another_session() -> None:
    """Neither are we talked into it, nor may the peer have it."""
    theirs = bytes.fromhex("0200000000000001")
    peer = in_network(link_local(theirs), ipv6=True)
    option = Option(Ipv6cpOption.INTERFACE_IDENTIFIER, theirs)
    peer.heard()
    peer.request(Protocol.IPV6CP, option)
    (answer,) = peer.heard_of(Protocol.IPV6CP, Code.CONFIGURE_NAK)
    assert theirs not in answer.data
    peer.answer(Protocol.IPV6CP, Code.CONFIGURE_NAK, option)
    assert theirs not in peer.latest(Protocol.IPV6CP, Code.CONFIGURE_REQUEST).data
    peer.open_ipv6cp()
    assert peer.session.ipv6 is not None
    assert link_local(theirs) not in (peer.session.ipv6.address, peer.session.ipv6.peer)


# Many sessions


def test_the_later_of_two_sessions_with_one_address_is_refused() -> None:
    """Two concentrators with the same pool, each asked by one session."""
    labs = {name: replace(LAB, discovery=ConcentratorSettings(name=name)) for name in ("blue", "red")}
    field = Field(0, concentrators=((AC1, labs["blue"]), (AC2, labs["red"])))
    for number, name in enumerate(labs):
        settings = SessionSettings(name, user="alice", password="wonderland", ac=AcFilter(name=name))
        field.fleet.add(number, Session(settings, own_mac(number), field.random.randbytes), field.now)
    blue, red = field.fleet.members[0], field.fleet.members[1]
    field.fleet.dial(0, field.now)
    field.run(5)
    field.fleet.dial(1, field.now)
    field.run(30)
    assert blue.session.state is SessionState.UP
    assert blue.session.ipv4 is not None
    ends = [event.end for _, who, event in field.events if who == 1 and isinstance(event, Ended)]
    assert {end.kind for end in ends} == {EndKind.ADDRESS_REFUSED}
    assert ends[0].text.endswith(f"{blue.session.ipv4.address}, which is refused: it belongs to session blue.")
    field.fleet.hang_up(0, field.now)
    field.run(3600)
    assert red.session.state is SessionState.UP, "it is free now"
    assert field.ends(0) == [EndKind.HUNG_UP]


@pytest.mark.parametrize(
    ("network", "why"),
    [("169.254.0.0/24", "single link"), ("240.0.0.0/24", "reserved"), ("127.0.0.0/8", "loopback")],
)
def test_an_impossible_address_is_asked_for_more_and_more_seldom(network: str, why: str) -> None:
    field = Field(1, dial=replace(QUICK, retry_max=60.0), concentrators=((AC1, replace(LAB, network=network)),))
    field.dial_all()
    field.run(4 * 3600)
    dials = field.dials(0)
    pauses = [later - first for first, later in pairwise(dials)]
    assert 10 < len(dials) < 60
    assert pauses[0] > 4
    assert pauses[3] > 3 * pauses[0]
    assert max(pauses) < 1000
    assert set(field.ends(0)) == {EndKind.ADDRESS_REFUSED}


def test_the_supervisor_asks_the_host_and_tells_why() -> None:
    world = World([session("one")], lab=LabSettings(any_account=True, any_password="lab", network=str(LAN)))
    world.egress.ways = dict(WAYS)
    world.open()
    world.until(lambda: world.events("dial-failed"))
    (event,) = world.events("dial-failed")
    assert event.name == "one"
    assert "192.168.1.2, which is refused: it is this host's own, on eth1." in event.text
    assert "Trying again in" in event.text
    assert world.view().reason == "address refused"
    assert world.egress.devices == {}


def test_a_judge_without_a_host_knows_what_is_no_address() -> None:
    assert Judge().ours(IPv4Address("127.0.0.1"))
    assert not Judge().ours(GOOD)
    assert not Judge().peers(link_local(bytes(7) + b"\1"))


def test_a_link_local_address_of_the_hosts() -> None:
    own = IPv6Address("fe80::7")
    way = Way("lan0", IPv6Network(own), local=True)
    assert objection(own, OURS, way) == "is this host's own, on lan0"
    assert objection(own, OURS, None) == ""
    assert Judge(lambda _: way).ours(own) == "is this host's own, on lan0"


def test_networks_that_have_an_address_in_common() -> None:
    wide, narrow, other = map(IPv4Network, ("203.0.113.0/24", "203.0.113.8/29", "198.51.100.0/24"))
    assert overlaps(wide, narrow)
    assert overlaps(narrow, wide)
    assert overlaps(wide, wide)
    assert not overlaps(wide, other)
    assert not overlaps(IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))


def test_a_session_that_wants_a_network_of_another_one_is_not_dialled() -> None:
    """The later one; and again, once the first has ended."""
    first, second = session("one", networks=("203.0.113.8/29",)), session("two", networks=("203.0.113.0/24",))
    world = World([first, replace(second, autodial=False)]).open()
    world.run(1.0)
    world.do(Dial((1,)))
    world.run(1.0)
    (event,) = world.events("dial-failed", 1)
    assert event.text == (
        "The network 203.0.113.0/24 can't be this session's: 203.0.113.8/29 belongs to session one. Change `networks:`."
    )
    world.do(HangUp((0,)))
    world.run(1.0)
    world.do(Dial((1,)))
    world.run(1.0)
    assert world.state(1) is SessionState.UP


# Thousands of addresses

numbers = st.integers(0, 15)
moves = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from((IPv4Address, IPv6Address)), st.one_of(st.none(), numbers)),
    max_size=40,
)


@given(moves, st.lists(numbers, max_size=2), st.integers(0, 15), st.integers(0, 4), st.integers(0, 3))
def test_whose_addresses_are_in_a_network_is_found_without_asking_all(
    moves: list[tuple[int, type[Address], int | None]], globals_: list[int], first: int, bits: int, key: int
) -> None:
    in_use = InUse()
    for who, kind, number in moves:
        match kind, number:
            case _, None:
                in_use.forget(who, kind)
            case _ if kind is IPv4Address:
                in_use.note(who, Ipv4Agreed(GOOD + number, None, ()))
            case _:
                in_use.note(who, Ipv6Agreed(PREFIX[number], None))
        in_use.note_global(who, tuple(PREFIX[each] for each in globals_) if kind is IPv6Address else ())
    for network in (
        IPv4Network((GOOD + first, 32 - bits), strict=False),
        IPv6Network((PREFIX[first], 128 - bits), strict=False),
    ):
        theirs = {who for each, who in in_use._ours.items() if each in network and who != key}
        found = in_use.overlap(key, (network,))
        assert (found[1] in theirs) if found is not None else not theirs
        assert found is None or found[2] in network
        if isinstance(network, IPv6Network):
            assert in_use.has_delegated(network, key) in (theirs or {None})
    assert sorted(map(int, in_use._ours)) == sorted(chain(*in_use._in_order.values()))
