"""Where no client of a proxy may go, by the address that is connected to: pure.

An IPv6 address that stands for one of IPv4 is judged by that one: a translator or a tunnel would lead there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

from engine.proxy.exits import Address

_NEVER = (
    ("0.0.0.0/8", "stands for no host"),
    ("127.0.0.0/8", "is a loopback address"),
    ("169.254.0.0/16", "is for a single link"),
    ("224.0.0.0/4", "is a multicast address"),
    ("240.0.0.0/4", "is reserved"),
    ("::/96", "stands for no host, or is a loopback address"),
    ("fe80::/10", "is for a single link"),
    ("ff00::/8", "is a multicast address"),
)
"""No packet to there is for the session's line."""
_PRIVATE = (
    ("10.0.0.0/8", "is private (RFC 1918)"),
    ("100.64.0.0/10", "is a provider's own (RFC 6598)"),
    ("172.16.0.0/12", "is private (RFC 1918)"),
    ("192.0.0.0/24", "is for a protocol's own use (RFC 6890)"),
    ("192.168.0.0/16", "is private (RFC 1918)"),
    ("198.18.0.0/15", "is for measurements (RFC 2544)"),
    ("64:ff9b:1::/48", "is for a local translator (RFC 8215)"),
    ("100::/64", "leads nowhere (RFC 6666)"),
    ("fc00::/7", "is private (RFC 4193)"),
    ("fec0::/10", "is private (RFC 3879)"),
)
_NAT64 = IPv6Network("64:ff9b::/96")


def _networks(table: Iterable[tuple[str, str]], version: int) -> list[tuple[IPv4Network | IPv6Network, str]]:
    found = ((ip_network(network), what) for network, what in table)
    return [(network, what) for network, what in found if network.version == version]


_TABLE = {
    (version, allow_private): _networks(_NEVER if allow_private else _NEVER + _PRIVATE, version)
    for version in (4, 6)
    for allow_private in (False, True)
}

_FIRST_OCTETS = frozenset(
    octet
    for network, _ in _TABLE[4, False]
    for octet in range(network.network_address.packed[0], network.broadcast_address.packed[0] + 1)
)
"""Of IPv4, where anything may speak against an address: most are looked up in no network."""


def plain(address: Address) -> Address:
    """The IPv4 address that an IPv6 one is mapped from (::ffff:0:0/96), or itself."""
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address


def objection(address: Address, allow_private: bool = False) -> str:
    """What speaks against connecting to an address, as the rest of a sentence that begins with "it"."""
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        return "is for a single link"
    if address.version == 4 and address.packed[0] not in _FIRST_OCTETS:
        return ""
    for each in (address, *meant(address)):
        for network, what in _TABLE[each.version, allow_private]:
            if each in network:
                return what if each == address else f"stands for {each}, which {what}"
    return ""


def meant(address: Address) -> Iterator[IPv4Address]:
    """The IPv4 addresses to which packets for an IPv6 one may be taken."""
    if isinstance(address, IPv4Address):
        return
    if address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    if address in _NAT64:
        yield IPv4Address(address.packed[12:])  # RFC 6052
    if address.sixtofour is not None:
        yield address.sixtofour  # RFC 3056
    if address.teredo is not None:
        yield from address.teredo  # RFC 4380: the server, the client
