"""How the host itself reaches an address: its own routes, asked of the kernel for one address at a time.

One question takes less than 0.1 ms, however many routes and sessions there are, and the answer is never out of date.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Container, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_interface

from pyroute2.netlink import NLM_F_DUMP
from pyroute2.netlink.rtnl import RTM_GETADDR, RTM_GETROUTE
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from engine.egress.requests import PROTOCOL
from engine.host.links import whereabouts
from engine.host.rtnl import SHORTAGES, Rtnl, RtnlError, Template, attribute, attributes, packed, request
from engine.ppp.judge import Address
from engine.sessions.policy import Way

# linux/rtnetlink.h
_ROUTE = struct.Struct("=BBBBBBBBI")
_HOP = struct.Struct("=HBBi")
_FIB_MATCH = 0x2000
"""Not the way alone, but the route that leads there."""
_DST, _SRC, _OIF, _GATEWAY, _PREFSRC, _MULTIPATH, _VIA = 1, 2, 4, 5, 7, 9, 18
_IFA_ADDRESS, _IFA_LOCAL, _IFA_PROTO = 1, 2, 11
_UNICAST = 1

_ANY = IPv4Address("203.0.113.1")
_ANY6 = IPv6Address("2001:db8::7e57:5")
_question = Template(
    request(rtmsg, RTM_GETROUTE, 0, [("RTA_DST", str(_ANY))], family=socket.AF_INET, dst_len=32, flags=_FIB_MATCH),
    _ANY.packed,
)
_question6 = Template(
    request(rtmsg, RTM_GETROUTE, 0, [("RTA_DST", str(_ANY6))], family=socket.AF_INET6, dst_len=128, flags=_FIB_MATCH),
    _ANY6.packed,
)
_addresses = {
    family: request(ifaddrmsg, RTM_GETADDR, NLM_F_DUMP, family=family) for family in (socket.AF_INET, socket.AF_INET6)
}
_LOCAL = 2


def way_to(rtnl: Rtnl, address: Address, ours: Container[int]) -> Way | None:
    """How the host reaches an address; None if it doesn't, or by a device of `ours` (their indexes).

    Of a link-local address only whether it is the host's own: it says nothing of networks. Raises RtnlError where
    that can't be asked.
    """
    question = _question(address.packed) if isinstance(address, IPv4Address) else _question6(address.packed)
    try:
        (answer,) = rtnl.ask(question)
    except RtnlError as error:
        if error.errno in SHORTAGES:
            raise
        return None  # there is no route, or one that says so
    _, prefix, _, _, _, _, _, kind, _ = _ROUTE.unpack_from(answer)
    found = attributes(answer, _ROUTE.size)
    if isinstance(address, IPv6Address) and address.is_link_local:
        index = _device(found)
        own = kind == _LOCAL and index not in ours
        return Way(_device_at(rtnl, index)[0], IPv6Network(address), local=True) if own else None
    hops = list(_hops(found))
    index, gateway = next((hop for hop in hops if hop[1] == address), hops[0] if hops else (0, None))
    if index in ours:
        return None
    network = ip_interface((found.get(_DST, bytes(len(address.packed))), prefix)).network
    name, point_to_point = _device_at(rtnl, index)
    return Way(name, network, kind != _UNICAST, gateway, point_to_point)


def claim(rtnl: Rtnl, network: IPv4Network | IPv6Network, ours: Container[int], *, whole: bool = False) -> str:
    """What speaks against a network's being a session's, as the rest of a sentence that begins with "it".

    That the host uses it to reach the world, or that it is a part of a network of the host's. One that is the host's as
    a whole may lie behind it, for the session to carry; but not with `whole`. `ours` are the indexes of sessions'
    devices. Raises RtnlError.
    """
    anywhere = _ANY if network.version == 4 else _ANY6
    fixed = _ROUTE.pack(_family(anywhere), anywhere.max_prefixlen, 0, 0, 0, 0, 0, 0, 0)
    try:
        (answer,) = rtnl.ask(packed(RTM_GETROUTE, 0, fixed + attribute(_DST, anywhere.packed)))
    except RtnlError as error:
        if error.errno in SHORTAGES:
            raise
        answer = b""  # it reaches nothing
    found = attributes(answer, _ROUTE.size) if answer else {}
    if found and _device(found) not in ours:
        name, _ = _device_at(rtnl, _device(found))
        gateways = [gateway for _, gateway in _hops(found)]
        source = ip_address(found[_PREFSRC]) if _PREFSRC in found else None
        if used := next((each for each in gateways if each is not None and each in network), None):
            return f"has {used} in it, this host's gateway on {name}"
        if source is not None and source in network:
            return f"has {source} in it, this host's own address on {name}"
    for body in rtnl.ask(_addresses[_family(anywhere)]):
        index, told = int.from_bytes(body[4:8], "little"), attributes(body, 8)
        address = told.get(_IFA_LOCAL) or told.get(_IFA_ADDRESS, b"")
        if index in ours or told.get(_IFA_PROTO) == bytes([PROTOCOL]) or len(address) != len(anywhere.packed):
            continue
        around = ip_interface((address, body[1])).network
        if whole and around[0] in network:
            return f"has {ip_address(address)} in it, this host's own address on {_device_at(rtnl, index)[0]}"
        if around.prefixlen < network.prefixlen and network[0] in around:
            return f"is in {around}, a network of this host on {_device_at(rtnl, index)[0]}"
    return ""


def _family(address: Address) -> socket.AddressFamily:
    return socket.AF_INET if isinstance(address, IPv4Address) else socket.AF_INET6


def way_from(rtnl: Rtnl, source: Address) -> int:
    """The index of the device by which packets to anywhere leave that have this source; 0 if they don't."""
    anywhere, bits = (_ANY, 32) if isinstance(source, IPv4Address) else (_ANY6, 128)
    fixed = _ROUTE.pack(_family(source), bits, bits, 0, 0, 0, 0, 0, 0)
    question = packed(RTM_GETROUTE, 0, fixed + attribute(_DST, anywhere.packed) + attribute(_SRC, source.packed))
    try:
        (answer,) = rtnl.ask(question)
    except RtnlError:
        return 0
    return _device(attributes(answer, _ROUTE.size))


def _device(found: dict[int, bytes]) -> int:
    """The index of the device that a route leads through."""
    return int.from_bytes(found.get(_OIF, b""), "little")


def _hops(found: dict[int, bytes]) -> Iterator[tuple[int, IPv4Address | IPv6Address | None]]:
    """Device and gateway; of a route over several paths, each path's."""
    if _MULTIPATH not in found:
        yield _device(found), _gateway(found)
        return
    paths = found[_MULTIPATH]
    while len(paths) >= _HOP.size:
        length, _, _, index = _HOP.unpack_from(paths)
        yield index, _gateway(attributes(paths[:length], _HOP.size))
        paths = paths[max((length + 3) & ~3, _HOP.size) :]


def _gateway(found: dict[int, bytes]) -> IPv4Address | IPv6Address | None:
    if _GATEWAY in found:
        return ip_address(found[_GATEWAY])
    return IPv6Address(found[_VIA][2:]) if len(found.get(_VIA, b"")) == 18 else None


def _device_at(rtnl: Rtnl, index: int) -> tuple[str, bool]:
    """Its name, and whether it leads to one other host only. Takes no descriptor, of which there may be none left."""
    try:
        return whereabouts(rtnl, index)
    except RtnlError:
        return "no device", False
