"""What a session makes of Router Advertisements (RFC 4861, 4862, 7217, 7559, 8106)."""

from __future__ import annotations

import itertools
from ipaddress import IPv6Address, IPv6Network
from itertools import pairwise

import pytest
from msgspec.structs import replace

from engine.ipv6.host import CHANGE_PAUSE, CHANGES, MOST_TOLD, Ipv6Configured
from engine.ipv6.identifiers import Identity
from engine.ipv6.router import MOST, TWO_HOURS
from engine.record import narrate
from engine.settings.values import Dhcpv6
from engine.wire import ipv6, ndp
from engine.wire.errors import WireError
from engine.wire.ndp import PrefixInformation, RouterAdvertisement, Servers

from .line import DNS, IDENTITY, OURS, ROUTERS, Line

PREFIX = IPv6Network("3fff:64:7::/64")
MINE = IDENTITY.address(PREFIX)
DAY = 86_400


def told(**more: object) -> RouterAdvertisement:
    return replace(RouterAdvertisement(prefixes=(PrefixInformation(PREFIX, 4 * 3600, 3600),)), **more)


def hushed() -> Line:
    """A line with a router that says only what a test has it say."""
    line = Line(Dhcpv6.NEVER, silent=True)
    line.sleep(1.0)
    return line


def test_it_asks_at_once_and_takes_what_it_is_told() -> None:
    line = Line()
    line.sleep(0.1)
    assert [(each.source, each.destination, each.hop_limit) for _, each in line.said] == [(OURS, ndp.ALL_ROUTERS, 255)]
    assert (line.config.addresses, line.config.dns, line.config.prefixes) == ((MINE,), (DNS,), ())
    line.sleep(DAY / 10)
    assert len(line.configs) == 1
    assert line.config.addresses == (MINE,), "the router was asked again when its time was over"


def test_without_an_answer_it_asks_ever_more_rarely_and_for_ever() -> None:
    line = Line(silent=True)
    line.sleep(10 * DAY)
    times = [at for at, _ in line.said]
    pauses = [b - a for a, b in itertools.pairwise(times)]
    assert 3.6 <= pauses[0] <= 4.4
    assert all(1.9 * a <= b <= 2.1 * a for a, b in itertools.pairwise(pauses[:9]))
    assert all(3240 <= pause <= 3960 for pause in pauses[12:])
    assert len(pauses) > 100


def test_addresses_are_the_same_each_time_and_tell_nothing() -> None:
    other = IPv6Network("3fff:64:8::/64")
    assert IDENTITY.address(PREFIX) == Identity(b"secret", "s").address(PREFIX) == MINE
    identifiers = {
        int(identity.address(network)) & (1 << 64) - 1
        for identity in (IDENTITY, Identity(b"secret", "t"), Identity(b"other", "s"))
        for network in (PREFIX, other)
    }
    assert len(identifiers) == 6
    assert len({Identity(b"secret", name).duid for name in "abc"}) == 3
    assert IDENTITY.duid[:2] == b"\0\4"
    assert len(IDENTITY.duid) == 18


def test_an_address_is_deprecated_and_then_gone() -> None:
    line = hushed()
    line.advertise(told(lifetime=9000))
    line.sleep(3601)
    assert line.config.addresses == (MINE,)
    assert line.config.deprecated == {MINE}
    line.sleep(3 * 3600)
    assert line.config.addresses == ()
    assert [each.addresses for each in line.configs] == [(MINE,), (MINE,), ()]


def test_a_new_prefix_comes_before_one_that_ends() -> None:
    line = hushed()
    line.advertise(told())
    other = IPv6Network("3fff:64:8::/64")
    line.advertise(RouterAdvertisement(prefixes=(PrefixInformation(PREFIX, 7200, 0), PrefixInformation(other, 99, 99))))
    assert line.config.addresses == (IDENTITY.address(other), MINE)
    assert line.config.deprecated == {MINE}


def test_no_lie_takes_an_address_away_at_once() -> None:
    """The rule of two hours, RFC 4862 section 5.5.3 e."""
    line = hushed()
    line.advertise(told())
    line.advertise(told(prefixes=(PrefixInformation(PREFIX, 0, 0),)))
    assert line.config.addresses == (MINE,)
    line.sleep(TWO_HOURS - 10)
    line.advertise(told(prefixes=(PrefixInformation(PREFIX, 0, 0),)))
    line.sleep(9)
    assert line.config.addresses == (MINE,)
    line.sleep(2)
    assert line.config.addresses == ()


@pytest.mark.parametrize(
    "prefix",
    [
        PrefixInformation(IPv6Network("3fff:64:7::/63"), DAY, DAY),
        PrefixInformation(PREFIX, DAY, DAY, autonomous=False, on_link=True),
        PrefixInformation(PREFIX, 100, 101),
        PrefixInformation(PREFIX, 0, 0),
        PrefixInformation(IPv6Network("fe80::/64"), DAY, DAY),
    ],
    ids=["no /64", "not autonomous", "preferred longer than valid", "no lifetime", "link-local"],
)
def test_no_address_is_made_of(prefix: PrefixInformation) -> None:
    line = hushed()
    line.advertise(told(prefixes=(prefix,)))
    assert line.config.addresses == ()


def test_a_thousand_prefixes_and_servers_take_the_room_of_a_few() -> None:
    line = hushed()
    for number in range(250):
        prefixes = tuple(
            PrefixInformation(IPv6Network((0x3FFF << 112 | (4 * number + each) << 64, 64)), DAY, DAY)
            for each in range(4)
        )
        servers = (Servers(DAY, tuple(IPv6Address(0x3FFF << 112 | 4 * number + each) for each in range(4))),)
        line.advertise(RouterAdvertisement(prefixes=prefixes, servers=servers))
    assert len(line.config.addresses) == len(line.config.dns) == MOST
    assert len(line.ledger.asked) == MOST


def test_an_address_that_is_not_to_be_had_is_told_of_once() -> None:
    line = hushed()
    line.ledger.refused[MINE] = "is in 3fff:64:7::/64, a network of this host on lan0"
    for _ in range(3):
        line.advertise(told())
    assert line.config.addresses == ()
    assert line.remarks == [f"The IPv6 address {MINE} isn't taken: it {line.ledger.refused[MINE]}."]


ODD = tuple(map(IPv6Address, ("::", "::1", "ff02::fb", "::ffff:127.0.0.1", "::ffff:192.0.2.53")))
"""What no other host has: systemd-resolved, once told, would ask this host by them, or take none of the servers."""


def test_servers_that_no_other_host_can_be_are_none_and_take_no_place() -> None:
    line = hushed()
    line.advertise(told(servers=(Servers(600, (*ODD, ROUTERS)), Servers(600, (DNS,)))))
    assert line.config.dns == (ROUTERS, DNS)


def test_servers_and_the_mtu_follow_the_router() -> None:
    line = hushed()
    other = IPv6Address("3fff:64::54")
    line.advertise(told(mtu=1400, servers=(Servers(600, (DNS, other)),)))
    assert (line.config.mtu, line.config.dns) == (1400, (DNS, other))
    line.advertise(told(mtu=1279, servers=(Servers(0, (DNS,)),)))
    assert (line.config.mtu, line.config.dns) == (None, (other,))
    line.sleep(601)
    assert line.config.dns == ()


def test_a_router_that_takes_itself_back_is_not_asked_without_end() -> None:
    line = hushed()
    line.said.clear()
    for _ in range(1000):
        line.advertise(told())
        line.advertise(told(lifetime=0))
        line.sleep(0.01)
    assert len(line.said) <= 4


@pytest.mark.parametrize(
    "flips",
    [
        [told(mtu=1400), told(mtu=1492)],
        [told(servers=(Servers(600, (DNS,)),)), told(servers=(Servers(0, (DNS,)),))],
        [told(prefixes=(PrefixInformation(PREFIX, DAY, preferred),)) for preferred in (3600, 0)],
    ],
    ids=["MTU", "server", "deprecated"],
)
def test_a_router_that_changes_its_mind_all_the_time_is_followed_now_and_then(flips: list[RouterAdvertisement]) -> None:
    """Each change is work for the host; and an event, unless the addresses are the same."""
    line = hushed()
    line.advertise(told())
    line.configs.clear()
    for _ in range(1000):
        for each in flips:
            line.advertise(each)
        line.sleep(0.01)
    assert len(line.configs) <= CHANGES + 10 / CHANGE_PAUSE + 1
    stories = [narrate.tell(Ipv6Configured(after, before), None, None) for before, after in pairwise(line.configs)]
    assert not any(stories)
    line.advertise(told(mtu=1300))
    line.sleep(CHANGE_PAUSE + 0.1)
    assert line.config.mtu == 1300, "the latest counts, in the end"


def test_of_what_is_not_taken_the_operator_hears_so_often_only() -> None:
    line = hushed()
    for number in range(1000):
        prefix = IPv6Network((PREFIX[0].packed[:6] + number.to_bytes(2, "big") + bytes(8), 64))
        line.ledger.refused[IDENTITY.address(prefix)] = "is refused"
        line.advertise(told(prefixes=(PrefixInformation(prefix, 1, 1),)))
        line.sleep(1.0)
    assert len(line.remarks) == MOST_TOLD
    assert line.config.addresses == ()


def broken(packet: bytes) -> dict[str, bytes]:
    """An advertisement that isn't valid (RFC 4861 section 6.1.2)."""
    good = ipv6.decode(packet)

    def with_checksum(payload: bytes, source: IPv6Address = ROUTERS) -> bytes:
        payload = payload[:2] + b"\0\0" + payload[4:]
        right = ipv6.checksum(source, good.destination, ipv6.ICMPV6, payload).to_bytes(2, "big")
        return ipv6.encode(replace(good, source=source, payload=payload[:2] + right + payload[4:]))

    return {
        "hop limit": ipv6.encode(replace(good, hop_limit=254)),
        "checksum": packet[:-1] + bytes((packet[-1] ^ 1,)),
        "source": with_checksum(good.payload, IPv6Address("3fff::1")),
        "code": with_checksum(good.payload[:1] + b"\1" + good.payload[2:]),
        "too short": with_checksum(good.payload[:15]),
        "option of no length": with_checksum(good.payload + b"\5\0" + bytes(6)),
        "option past the end": with_checksum(good.payload + b"\5\2" + bytes(6)),
        "half an option": with_checksum(good.payload + b"\5"),
        "another type": with_checksum(bytes((ndp.ROUTER_SOLICITATION,)) + good.payload[1:]),
        "cut": packet[:-1],
        "IPv4": b"\x45" + packet[1:],
        "empty": b"",
    }


@pytest.mark.parametrize("what", broken(ndp.advertisement(ROUTERS, ndp.ALL_NODES, told())))
def test_it_heeds_no_advertisement_with_a_wrong(what: str) -> None:
    line = hushed()
    with pytest.raises(WireError):
        line.host.receive(broken(ndp.advertisement(ROUTERS, ndp.ALL_NODES, told()))[what], line.now)
    assert line.host.next_event() is None
