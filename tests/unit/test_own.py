"""A session's own addresses as values."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_network

import pytest

from engine.datapath import _as_struct
from engine.datapath.own import CLOSED, Open, Own
from engine.settings.limits import MAX_OWN

ONE, OTHER = IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2")
LINK_LOCAL = IPv6Address("fe80::1")
NETWORKS = (IPv4Network("203.0.113.8/29"),)


def test_a_protocol_without_an_address_is_closed() -> None:
    assert CLOSED.open == Own(networks=NETWORKS).open == Open.NONE
    assert Own(ONE).open == Open.IPV4
    assert Own(None, LINK_LOCAL).open == Open.IPV6
    assert Own(ONE, LINK_LOCAL).open == Open.IPV4 | Open.IPV6


@pytest.mark.parametrize(
    ("now", "then", "meanwhile"),
    [
        (CLOSED, Own(ONE), CLOSED),
        (Own(ONE), CLOSED, CLOSED),
        (Own(ONE), Own(ONE, LINK_LOCAL), Own(ONE)),
        (Own(ONE, LINK_LOCAL), Own(OTHER, LINK_LOCAL), Own(None, LINK_LOCAL)),
        (Own(ONE), Own(OTHER), CLOSED),
        (Own(ONE, LINK_LOCAL), Own(ONE, LINK_LOCAL), Own(ONE, LINK_LOCAL)),
        (Own(ONE, LINK_LOCAL, NETWORKS), Own(ONE, LINK_LOCAL), Own(ONE, LINK_LOCAL)),
    ],
)
def test_while_addresses_change_only_what_stays_the_same_flows(now: Own, then: Own, meanwhile: Own) -> None:
    assert now.common(then).open == meanwhile.open
    assert (now.common(then).ipv4, now.common(then).ipv6) == (meanwhile.ipv4, meanwhile.ipv6)


def test_more_networks_than_there_is_room_for() -> None:
    networks = tuple(ip_network((0x0A000000 + (n << 8), 24)) for n in range(MAX_OWN + 1))
    assert _as_struct(Own(ONE, networks=networks[:-1])).network_count == MAX_OWN
    with pytest.raises(ValueError, match=f"{MAX_OWN + 1} networks of {MAX_OWN}"):
        _as_struct(Own(ONE, networks=networks))
