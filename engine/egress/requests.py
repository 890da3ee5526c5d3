"""What is said to the kernel about sessions' devices, addresses, routes and rules: requests as octets."""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Container, Iterable
from ipaddress import IPv4Address, IPv6Address, IPv6Network

from pyroute2.netlink import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE
from pyroute2.netlink.rtnl import (
    RTM_DELADDR,
    RTM_DELLINK,
    RTM_DELROUTE,
    RTM_DELRULE,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTM_NEWROUTE,
    RTM_NEWRULE,
)
from pyroute2.netlink.rtnl.ifaddrmsg import IFA_F_NODAD, IFA_F_NOPREFIXROUTE, ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import IFF_NOARP, IFF_UP, ifinfmsg

from engine.egress.rule_tree import MAIN, Rule
from engine.host.device_mac import DEVICE_MAC
from engine.host.links import IFLA_ADDRESS, IFLA_MASTER
from engine.host.rtnl import Template, attribute, attributes, packed, request
from engine.ppp.judge import Address

PROTOCOL = 80
"""What our routes and rules are marked with; `ip rule` shows it as `proto 80`."""
DOOMED = 0x50000000
"""The link group of devices about to be deleted."""
LAST_RESORT = 0xFFFFFFFF
"""The metric of the unreachable default that stands below a table's way through its device, less the session's key:
the kernel looks for routes that are the same in all but their table one by one."""


def uint32(value: int) -> bytes:
    """As netlink writes it."""
    return value.to_bytes(4, sys.byteorder)


_INDEX, _MTU, _GROUP = 0x7E570001, 0x7E570002, 0x7E570003
_OURS, _PEERS, _LINK_LOCAL = IPv4Address("203.0.113.1"), IPv4Address("203.0.113.2"), IPv6Address("fe80::7e57:4")
_GLOBAL = IPv6Address("2001:db8::7e57:6")
"""What stands in the templates for what is filled in."""

_ADD = NLM_F_CREATE | NLM_F_EXCL
_GIVE = NLM_F_CREATE | NLM_F_REPLACE
_LINK_SCOPE, _ANY_SCOPE = 253, 255
_FOR_EVER = 0xFFFFFFFF

# --- devices ---

set_up = Template(
    request(ifinfmsg, RTM_NEWLINK, 0, [("IFLA_MTU", _MTU)], index=_INDEX, flags=IFF_UP, change=IFF_UP),
    uint32(_INDEX),
    uint32(_MTU),
)
set_down = Template(
    request(ifinfmsg, RTM_NEWLINK, 0, index=_INDEX, flags=0, change=IFF_UP),
    uint32(_INDEX),
)
resize = Template(
    request(ifinfmsg, RTM_NEWLINK, 0, [("IFLA_MTU", _MTU)], index=_INDEX),
    uint32(_INDEX),
    uint32(_MTU),
)
put_into_group = Template(
    request(ifinfmsg, RTM_NEWLINK, 0, [("IFLA_GROUP", _GROUP)], index=_INDEX),
    uint32(_INDEX),
    uint32(_GROUP),
)


def set_free(index: int) -> bytes:
    """Have a device belong to no other, and ask for no MAC addresses."""
    fixed = struct.pack("=BxHiII", 0, 0, index, IFF_NOARP, IFF_NOARP)
    return packed(RTM_NEWLINK, 0, fixed + attribute(IFLA_MASTER, uint32(0)))


def set_mac(index: int) -> bytes:
    """Give a device the address that frames for it bear."""
    fixed = struct.pack("=BxHiII", 0, 0, index, 0, 0)
    return packed(RTM_NEWLINK, 0, fixed + attribute(IFLA_ADDRESS, DEVICE_MAC))


def rename(index: int, name: str) -> bytes:
    """Give a device that is down a name."""
    return packed(RTM_NEWLINK, 0, struct.pack("=BxHiII", 0, 0, index, 0, 0) + attribute(3, name.encode() + b"\0"))


def move(index: int, namespace: int) -> bytes:
    """Put a device into the network namespace that a descriptor stands for."""
    return packed(RTM_NEWLINK, 0, struct.pack("=BxHiII", 0, 0, index, 0, 0) + attribute(28, uint32(namespace)))


doom = Template(
    request(ifinfmsg, RTM_NEWLINK, 0, [("IFLA_GROUP", DOOMED)], index=_INDEX, flags=0, change=IFF_UP), uint32(_INDEX)
)
"""And set it down: of a device that is up the kernel would tell itself that it has changed, and read all routes."""
join_doomed = Template(request(ifinfmsg, RTM_NEWLINK, 0, [("IFLA_GROUP", DOOMED)], index=_INDEX), uint32(_INDEX))
"""Alone, where there are no routes to be read: what is deleted together is set down together in less time."""
delete_doomed = request(ifinfmsg, RTM_DELLINK, 0, [("IFLA_GROUP", DOOMED)])

# --- addresses ---


def _ipv4(type_: int, how: int = 0) -> Template:
    wanted = [("IFA_LOCAL", str(_OURS)), ("IFA_ADDRESS", str(_PEERS)), ("IFA_FLAGS", IFA_F_NOPREFIXROUTE)]
    encoded = request(ifaddrmsg, type_, how, wanted, family=socket.AF_INET, prefixlen=32, index=_INDEX)
    return Template(encoded, uint32(_INDEX), _OURS.packed, _PEERS.packed)


def _ipv6(type_: int, how: int = 0, flags: int = IFA_F_NODAD | IFA_F_NOPREFIXROUTE) -> Template:
    wanted = [("IFA_LOCAL", str(_LINK_LOCAL)), ("IFA_FLAGS", flags)]
    fields = {"family": socket.AF_INET6, "prefixlen": 64, "scope": _LINK_SCOPE, "index": _INDEX}
    return Template(request(ifaddrmsg, type_, how, wanted, **fields), uint32(_INDEX), _LINK_LOCAL.packed)


def _global6(type_: int, how: int = 0, *, preferred: int = _FOR_EVER) -> Template:
    lifetimes = {"ifa_preferred": preferred, "ifa_valid": _FOR_EVER, "cstamp": 0, "tstamp": 0}
    wanted = [
        ("IFA_LOCAL", str(_GLOBAL)),
        ("IFA_FLAGS", IFA_F_NODAD | IFA_F_NOPREFIXROUTE),
        ("IFA_CACHEINFO", lifetimes),
    ]
    fields = {"family": socket.AF_INET6, "prefixlen": 128, "scope": 0, "index": _INDEX}
    return Template(request(ifaddrmsg, type_, how, wanted, **fields), uint32(_INDEX), _GLOBAL.packed)


def _lan6(type_: int, how: int = 0) -> Template:
    fields = {"family": socket.AF_INET6, "prefixlen": 64, "scope": 0, "index": _INDEX}
    encoded = request(ifaddrmsg, type_, how, [("IFA_LOCAL", str(_GLOBAL)), ("IFA_PROTO", PROTOCOL)], **fields)
    return Template(encoded, uint32(_INDEX), _GLOBAL.packed)


give_lan6, delete_lan6 = _lan6(RTM_NEWADDR, _GIVE), _lan6(RTM_DELADDR)
"""On a device that isn't ours."""
add_global6, delete_global6 = _global6(RTM_NEWADDR, _ADD), _global6(RTM_DELADDR)
give_global6, give_deprecated6 = _global6(RTM_NEWADDR, _GIVE), _global6(RTM_NEWADDR, _GIVE, preferred=0)
add_ipv4, delete_ipv4 = _ipv4(RTM_NEWADDR, _ADD), _ipv4(RTM_DELADDR)
add_ipv6, delete_ipv6 = _ipv6(RTM_NEWADDR, _ADD), _ipv6(RTM_DELADDR)
give_link_local = _ipv6(RTM_NEWADDR, _GIVE, IFA_F_NODAD)
"""With a route to its network, for a device that has no other. Thousands of the same would be read one by one."""
give_ipv4, give_ipv6 = _ipv4(RTM_NEWADDR, _GIVE), _ipv6(RTM_NEWADDR, _GIVE)
"""The same, and the kernel tells everybody also where the device has the address already: an instance that took it over
from a dead one leaves it to us then."""

# --- routes ---

_ROUTE = struct.Struct("=BBBBBBBBI")
_DST, _SRC, _TABLE, _OIF, _METRIC, _PREFSRC = 1, 2, 15, 4, 6, 7
_UNICAST, _UNREACHABLE = 1, 7
_LOCAL = 255
"""The kernel's table of its own addresses, RT_TABLE_LOCAL."""
_LOOPBACK = 1
"""The index of `lo`, in every namespace."""
_FIRST_METRIC, _BOUND_METRIC = 1, 1024
_MULTICAST = IPv6Network("ff00::/8")


def _route(type_: int, how: int, family: socket.AddressFamily, kind: int, table: int, more: bytes) -> bytes:
    scope = _LINK_SCOPE if kind == _UNICAST and family == socket.AF_INET else 0
    fixed = _ROUTE.pack(family, 0, 0, 0, 0, PROTOCOL, scope, kind, 0)
    return packed(type_, how, fixed + attribute(_TABLE, uint32(table)) + more)


def way_through(
    family: socket.AddressFamily, table: int, index: int, *, replace: bool = True, there: bool = True
) -> bytes:
    """Let a table lead everything through a device; or take that back."""
    how = (NLM_F_CREATE | (NLM_F_REPLACE if replace else NLM_F_EXCL)) if there else 0
    return _route(RTM_NEWROUTE if there else RTM_DELROUTE, how, family, _UNICAST, table, attribute(_OIF, uint32(index)))


def routes_through(index: int, addresses: Iterable[Address], table: int) -> list[bytes]:
    """Requests that delete all routes through a device that is about to go: the kernel's own, and a table's ways."""
    gone = [
        way_through(socket.AF_INET, table, index, there=False),
        _kernels(_MULTICAST, index),
    ]
    return gone + [_kernels(address, index) for address in addresses]


def _kernels(to: Address | IPv6Network, index: int) -> bytes:
    """Delete a route that the kernel itself has made for a device, in its table `local`."""
    family, scope = (socket.AF_INET, _ANY_SCOPE) if to.version == 4 else (socket.AF_INET6, 0)
    octets, length = _prefix(to)
    fixed = _ROUTE.pack(family, length, 0, 0, 0, 0, scope, 0, 0)
    more = attribute(_DST, octets) + attribute(_TABLE, uint32(_LOCAL)) + attribute(_OIF, uint32(index))
    return packed(RTM_DELROUTE, 0, fixed + more)


def own_way(table: int) -> bytes:
    """Let a table lead all IPv6 packets that aren't bound to a device to this host itself, with ::1 as their source.

    The kernel must find a way for them: where it finds none, it tries again with an address of any device as source.
    """
    more = attribute(_METRIC, uint32(_FIRST_METRIC)) + attribute(_OIF, uint32(_LOOPBACK))
    more += attribute(_PREFSRC, IPv6Address("::1").packed)
    return _route(RTM_NEWROUTE, _ADD, socket.AF_INET6, _UNICAST, table, more)


def no_own_way(table: int) -> bytes:
    """Take that back."""
    return _route(RTM_DELROUTE, 0, socket.AF_INET6, _UNICAST, table, attribute(_METRIC, uint32(_FIRST_METRIC)))


def way_if_bound(table: int, index: int, session: int, there: bool = True) -> bytes:
    """A way through a device in such a table; `session` is the table of the one that has it, for a metric of its own.

    Only what is bound to the device gets so far.
    """
    type_, how = (RTM_NEWROUTE, _ADD) if there else (RTM_DELROUTE, 0)
    # The kernel reads them one by one, the least metric first, to find the place: that of a new session comes first.
    metric = _BOUND_METRIC + 0xFFFF - (session & 0xFFFF)
    more = attribute(_METRIC, uint32(metric)) + attribute(_OIF, uint32(index))
    return _route(type_, how, socket.AF_INET6, _UNICAST, table, more)


def host_default(add: bool, family: int, index: int, metric: int) -> bytes:
    """Let the host's own table lead everything that nothing else there leads through a device; or take that back."""
    type_, how = (RTM_NEWROUTE, _ADD) if add else (RTM_DELROUTE, 0)
    more = attribute(_OIF, uint32(index)) + attribute(_METRIC, uint32(metric))
    return _route(type_, how, socket.AddressFamily(family), _UNICAST, MAIN, more)


def no_way_else(family: socket.AddressFamily, table: int, there: bool = True) -> bytes:
    """Let a table that has no other way say that there is none; or take that back."""
    metric = attribute(_METRIC, uint32(LAST_RESORT - (table & 0xFFFF)))
    type_, how = (RTM_NEWROUTE, _ADD) if there else (RTM_DELROUTE, 0)
    return _route(type_, how, family, _UNREACHABLE, table, metric)


def _of_source(
    type_: int,
    how: int,
    kind: int,
    source: IPv6Address | IPv6Network | None,
    table: int,
    more: bytes,
    to: IPv6Network | None = None,
) -> bytes:
    """A route for what comes from somewhere; with `to`, that isn't a default route."""
    (source_octets, source_length), (to_octets, to_length) = _prefix(source), _prefix(to)
    fixed = _ROUTE.pack(socket.AF_INET6, to_length, source_length, 0, 0, PROTOCOL, 0, kind, 0)
    more = attribute(_TABLE, uint32(table)) + attribute(_SRC, source_octets) + more
    return packed(type_, how, fixed + (attribute(_DST, to_octets) if to is not None else b"") + more)


def _prefix(of: Address | IPv6Network | None) -> tuple[bytes, int]:
    """Its octets and length; None is everywhere. To make a network of an address takes longer than all the rest."""
    if of is None:
        return bytes(16), 0
    return (of.network_address.packed, of.prefixlen) if isinstance(of, IPv6Network) else (of.packed, of.max_prefixlen)


def way_from(
    source: IPv6Address | IPv6Network, table: int, index: int, *, replace: bool = True, there: bool = True
) -> bytes:
    """Let a table lead what comes from a source through a device; or take that back."""
    how = (NLM_F_CREATE | (NLM_F_REPLACE if replace else NLM_F_EXCL)) if there else 0
    type_ = RTM_NEWROUTE if there else RTM_DELROUTE
    return _of_source(type_, how, _UNICAST, source, table, attribute(_OIF, uint32(index)))


def no_way_from(source: IPv6Address | IPv6Network, table: int, there: bool = True) -> bytes:
    """Let a table that has no other way for what comes from a source say that there is none; or take that back."""
    type_, how = (RTM_NEWROUTE, _ADD) if there else (RTM_DELROUTE, 0)
    return _of_source(type_, how, _UNREACHABLE, source, table, attribute(_METRIC, uint32(LAST_RESORT)))


def nothing_there(
    network: IPv6Network, table: int, there: bool = True, source: IPv6Address | IPv6Network | None = None
) -> bytes:
    """Let a table that leads everything, or what comes from a source, elsewhere say that a network is nowhere."""
    type_, how = (RTM_NEWROUTE, _ADD) if there else (RTM_DELROUTE, 0)
    return _of_source(type_, how, _UNREACHABLE, source, table, b"", network)


def parse_source(body: bytes) -> tuple[IPv6Address | IPv6Network, int] | None:
    """The source that a default route of IPv6 is for, and its table; None if it is another route, or for any."""
    family, to, length, *_ = _ROUTE.unpack_from(body)
    found = attributes(body, _ROUTE.size)
    if family != socket.AF_INET6 or to or not {_SRC, _TABLE} <= found.keys():
        return None
    source = IPv6Address(found[_SRC]) if length == 128 else IPv6Network((found[_SRC], length))
    return source, int.from_bytes(found[_TABLE], sys.byteorder)


def parse_barrier(body: bytes) -> int | None:
    """The table of a route of ours that leads nowhere, or back to this host; None if it leads anywhere."""
    _, _, _, _, _, protocol, _, kind, _ = _ROUTE.unpack_from(body)
    found = attributes(body, _ROUTE.size)
    if protocol != PROTOCOL or _TABLE not in found:
        return None
    is_one = kind == _UNREACHABLE or found.get(_OIF) == uint32(_LOOPBACK)
    return int.from_bytes(found[_TABLE], sys.byteorder) if is_one else None


def goes_through(body: bytes, tables: range, devices: Container[int]) -> bool:
    """Whether a route is one of ours in any of these tables, or anybody's through a device of these indexes."""
    found = attributes(body, _ROUTE.size)
    if int.from_bytes(found.get(_OIF, b""), sys.byteorder) in devices:
        return True
    return body[5] == PROTOCOL and int.from_bytes(found.get(_TABLE, b""), sys.byteorder) in tables


def undone(body: bytes) -> bytes:
    """The request that deletes the route that the kernel tells of."""
    return packed(RTM_DELROUTE, 0, body)


def parse_dead_end(body: bytes) -> int | None:
    """The table that a route says there is no way in, None if it says something else; it must be one of ours."""
    _, _, _, _, _, protocol, _, kind, _ = _ROUTE.unpack_from(body)
    table = attributes(body, _ROUTE.size).get(_TABLE)
    ours = protocol == PROTOCOL and kind == _UNREACHABLE and table is not None
    return int.from_bytes(table, sys.byteorder) if ours and table is not None else None


# --- rules ---

_RULE = struct.Struct("=BBBBBBBBI")
_FRA_IIFNAME = 3
_FRA_DST, _FRA_SRC, _FRA_GOTO, _FRA_PRIORITY, _FRA_FWMARK, _FRA_SUPPRESS_PREFIXLEN = 1, 2, 4, 6, 10, 14
_FRA_TABLE, _FRA_FWMASK, _FRA_PROTOCOL = 15, 16, 21
_LOOK_UP, _GOTO, _NOTHING = 1, 2, 3
_BITS = {socket.AF_INET: 32, socket.AF_INET6: 128}


def rule_request(add: bool, family: socket.AddressFamily, rule: Rule, missing: bool = True) -> bytes:
    """Add or delete a rule; to find out whether it is there already, the kernel reads all, unless it is `missing`."""
    action = _LOOK_UP if rule.table is not None else _GOTO if rule.goto is not None else _NOTHING
    is_to, is_from = rule.within or bool(rule.arriving), not rule.arriving
    parts = [
        _RULE.pack(family, rule.length * is_to, rule.length * is_from, 0, 0, 0, 0, action, 0),
        attribute(_FRA_PRIORITY, uint32(rule.preference)),
        attribute(_FRA_PROTOCOL, bytes([PROTOCOL])),
    ]
    prefix = rule.source.to_bytes(_BITS[family] // 8, "big")
    if rule.length and is_from:
        parts.append(attribute(_FRA_SRC, prefix))
    if is_to:
        parts.append(attribute(_FRA_DST, prefix))
    if rule.within:
        parts.append(attribute(_FRA_SUPPRESS_PREFIXLEN, uint32(0)))
    if rule.arriving:
        parts.append(attribute(_FRA_IIFNAME, rule.arriving.encode() + b"\0"))
    if rule.mask:
        parts += [attribute(_FRA_FWMARK, uint32(rule.mark)), attribute(_FRA_FWMASK, uint32(rule.mask))]
    if rule.table is not None:
        parts.append(attribute(_FRA_TABLE, uint32(rule.table)))
    if rule.goto is not None:
        parts.append(attribute(_FRA_GOTO, uint32(rule.goto)))
    return packed(
        RTM_NEWRULE if add else RTM_DELRULE, 0 if not add else NLM_F_CREATE if missing else _ADD, b"".join(parts)
    )


def parse_rule(body: bytes) -> Rule | None:
    """A rule of ours, of any instance, in a message about a rule."""
    _, to_length, length, _, _, _, _, action, _ = _RULE.unpack_from(body)
    found = attributes(body, _RULE.size)
    if found.get(_FRA_PROTOCOL) != bytes([PROTOCOL]):
        return None

    def number(kind: int) -> int:
        return int.from_bytes(found.get(kind, b""), sys.byteorder)

    arriving = found.get(_FRA_IIFNAME, b"").rstrip(b"\0").decode(errors="replace")
    return Rule(
        number(_FRA_PRIORITY),
        int.from_bytes(found.get(_FRA_DST if arriving else _FRA_SRC, b""), "big"),
        to_length if arriving else length,
        table=number(_FRA_TABLE) if action == _LOOK_UP else None,
        goto=number(_FRA_GOTO) if action == _GOTO else None,
        within=_FRA_DST in found and number(_FRA_SUPPRESS_PREFIXLEN) == 0,
        arriving=arriving,
        mark=number(_FRA_FWMARK),
        mask=number(_FRA_FWMASK),
    )
