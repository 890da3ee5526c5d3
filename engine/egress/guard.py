"""Hears from the kernel what others change of ours: links, addresses, routes and rules. It decides nothing."""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Container
from ipaddress import IPv6Address, IPv6Network, ip_address

from msgspec import Struct, field
from pyroute2.netlink.rtnl import (
    RTM_DELADDR,
    RTM_DELLINK,
    RTM_DELROUTE,
    RTM_DELRULE,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTM_NEWROUTE,
)

from engine.egress.defaults import is_host_default
from engine.egress.requests import parse_rule, parse_source
from engine.host.links import LinkState, has_moved, link_index, parse_state
from engine.host.rtnl import Rtnl, attributes
from engine.ppp.judge import Address

# Bits of linux/rtnetlink.h's groups.
_LINK, _ADDRESSES, _ROUTES, _RULES = 1 << 0, 1 << 4 | 1 << 8, 1 << 6 | 1 << 10, 1 << 7 | 1 << 18
_GROUPS = bytes((socket.AF_INET6, 8))
"""How a route to all of IPv6's groups (ff00::/8) begins: the first that the kernel makes on a device."""
_RTA_OIF, _RTA_TABLE = 4, 15
_IFA_ADDRESS, _IFA_LOCAL = 1, 2


class Touched(Struct):
    """What others have laid hands on since the last look."""

    devices: set[int] = field(default_factory=set)
    """By interface index."""
    links: dict[int, list[LinkState]] = field(default_factory=dict)
    """What was said of devices, by index, oldest first."""
    tables: set[int] = field(default_factory=set)
    """Routing tables."""
    shared: bool = False
    """Those that are no session's own."""
    sources: set[IPv6Address | IPv6Network] = field(default_factory=set)
    """Routes there for what comes from these."""
    gained: dict[Address, int] = field(default_factory=dict)
    """Addresses that the host has been given, and the devices they are on."""
    left: set[int] = field(default_factory=set)
    """Devices that are not here any more: deleted, or moved."""
    moved: set[int] = field(default_factory=set)
    """Devices that are in another namespace now."""
    wakened: set[int] = field(default_factory=set)
    """Devices where the kernel has begun with IPv6, by their indexes."""
    rules: bool = False
    default: bool = False
    """A default route of the host's own."""
    everything: bool = False
    """More has happened than could be heard: all must be looked at."""


class Guard:
    """Listens in the calling thread's namespace."""

    def __init__(self, own_port: int, *others: int) -> None:
        """`own_port` is the netlink port by which we change things ourselves; so are the `others`, to delete alone."""
        self._rtnl = Rtnl(_LINK | _ADDRESSES | _ROUTES | _RULES)
        self._rtnl.hear_others_only(own_port, *others)
        self._own_port = own_port

    def fileno(self) -> int:
        """Readable when something has happened."""
        return self._rtnl.fileno()

    def part(self) -> None:
        """Hear of rules alone from now on: of devices that go there is nothing to be put back."""
        self._rtnl.leave(_LINK | _ADDRESSES | _ROUTES)

    def close(self) -> None:
        """Listen no more."""
        self._rtnl.close()

    def listen(self, devices: Container[int], tables: range, shared: range) -> Touched:
        """What has happened to these devices, to these tables and those that all share, and to our rules."""
        news = self._rtnl.news(self._own_port)
        if news is None:
            return Touched(rules=True, default=True, shared=True, everything=True)
        touched = Touched()
        for type_, body in news:
            if type_ in (RTM_NEWLINK, RTM_DELLINK):
                index = link_index(body)
                if index not in devices:
                    continue
                if type_ == RTM_NEWLINK:
                    touched.links.setdefault(index, []).append(parse_state(body))
                else:
                    touched.devices.add(index)
                    touched.left.add(index)
                    if has_moved(body):
                        touched.moved.add(index)
            elif type_ == RTM_NEWADDR:
                found = attributes(body, 8)
                address = found.get(_IFA_LOCAL) or found.get(_IFA_ADDRESS, b"")
                if len(address) in (4, 16):
                    touched.gained[ip_address(address)] = struct.unpack_from("=I", body, 4)[0]
            elif type_ == RTM_DELADDR:
                (index,) = struct.unpack_from("=I", body, 4)
                if index in devices:
                    touched.devices.add(index)
            elif type_ in (RTM_NEWROUTE, RTM_DELROUTE):
                found = attributes(body, 12)
                table = int.from_bytes(found.get(_RTA_TABLE, b""), sys.byteorder)
                if type_ == RTM_NEWROUTE and body[:2] == _GROUPS:
                    touched.wakened.add(int.from_bytes(found.get(_RTA_OIF, b""), sys.byteorder))
                if table in tables:
                    touched.tables.add(table)
                elif table in shared:
                    touched.shared = True
                    if (source := parse_source(body)) is not None:
                        touched.sources.add(source[0])
                    if (index := int.from_bytes(found.get(_RTA_OIF, b""), sys.byteorder)) in devices:
                        touched.devices.add(index)
                touched.default |= is_host_default(body)
            elif type_ == RTM_DELRULE and parse_rule(body) is not None:
                touched.rules = True
        return touched
