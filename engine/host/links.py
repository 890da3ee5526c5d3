"""Network interfaces as netlink describes them."""

from __future__ import annotations

import fcntl
import os
import struct
import sys
from typing import NamedTuple

from msgspec import Struct
from pyroute2.netlink import NLM_F_DUMP
from pyroute2.netlink.rtnl import RTM_GETLINK
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from engine.host.device_mac import DEVICE_MAC
from engine.host.rtnl import Rtnl, attribute, attributes, packed, request

IFF_UP, _IFF_POINTOPOINT, IFF_NOARP = 1, 1 << 4, 1 << 7
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_NUM_TX_QUEUES, IFLA_NUM_RX_QUEUES, IFLA_CARRIER = 1, 3, 4, 31, 32, 33
IFLA_CARRIER_CHANGES, IFLA_STATS64, IFLA_ALT_IFNAME, IFLA_MASTER = 35, 23, 53, 10
_NEW_NETNSID, _NEW_IFINDEX = 45, 49
_EXT_MASK = 29
_SKIP_STATISTICS = 8
_SIOCGIFNAME, _SIOCGIFMTU = 0x8910, 0x8921
SKIP_STATISTICS = ("IFLA_EXT_MASK", _SKIP_STATISTICS)
_INFO, _ATTRIBUTE = struct.Struct("=BxHiII"), struct.Struct("=HH")
_has_our_mac = _ATTRIBUTE.pack(4 + len(DEVICE_MAC), IFLA_ADDRESS) + DEVICE_MAC
_ARPHRD_ETHER = 1
_in_another = _ATTRIBUTE.pack(8, IFLA_MASTER)
"""What the message about a link has in it that belongs to another, as a bridge; hardly ever anything else."""
_no_statistics = attribute(_EXT_MASK, struct.pack("=I", _SKIP_STATISTICS))


class Link(Struct, frozen=True):
    """A network interface as netlink describes it."""

    index: int
    name: str
    mac: bytes
    mtu: int
    up: bool
    """Set up by the operator."""
    carrier: bool
    """A cable with something at its other end; of no meaning while the link is down."""
    rx_queues: int
    """Queues the driver made room for."""
    tx_queues: int
    carrier_changes: int
    """How often the carrier has come or gone: what changes between two looks had no carrier for a while."""
    received: int
    """Frames that the driver has counted, 0 where statistics were not asked for."""
    point_to_point: bool = False
    """It leads to one other host only."""


def parse_link(body: bytes) -> Link:
    """The link in an RTM_NEWLINK or RTM_DELLINK message, without what follows the header up to `ifinfomsg`.

    One comes for every change of every link, so this is not left to pyroute2, which takes some 20 times as long.
    """
    index, flags = struct.unpack_from("=iI", body, 4)
    found = attributes(body, 16)

    def number(attribute: int) -> int:
        return int.from_bytes(found.get(attribute, b""), "little")

    return Link(
        index=index,
        name=found.get(IFLA_IFNAME, b"").rstrip(b"\0").decode(errors="replace"),
        mac=found.get(IFLA_ADDRESS, b""),
        mtu=number(IFLA_MTU),
        up=bool(flags & IFF_UP),
        carrier=bool(number(IFLA_CARRIER)),
        rx_queues=number(IFLA_NUM_RX_QUEUES),
        tx_queues=number(IFLA_NUM_TX_QUEUES),
        carrier_changes=number(IFLA_CARRIER_CHANGES),
        received=int.from_bytes(found.get(IFLA_STATS64, b"")[:8], "little"),
        point_to_point=bool(flags & _IFF_POINTOPOINT),
    )


class LinkState(NamedTuple):
    """What an operator may change of a link that is ours."""

    name: str
    mtu: int
    up: bool
    arp: bool = False
    """Whether it asks for MAC addresses."""
    master: int = 0
    """The index of the link that it is a part of, as of a bridge: what comes in is that one's."""
    strange: bool = False
    """Whether it has another MAC address than DEVICE_MAC: what comes in is nobody's."""


def parse_state(body: bytes) -> LinkState:
    """That alone of the link in the same message, of which the kernel sends several for each device that it makes.

    It stands at the beginning, before the statistics and the settings of each protocol.
    """
    name, mtu, at = b"", 0, 16
    while at + 4 <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, at)
        if kind == IFLA_IFNAME:
            name = body[at + 4 : at + length]
        elif kind == IFLA_MTU:
            mtu = int.from_bytes(body[at + 4 : at + length], sys.byteorder)
            break
        at += max(4, (length + 3) & ~3)
    kind, flags = struct.unpack_from("=H4xI", body, 2)
    strange = kind == _ARPHRD_ETHER and _has_our_mac not in body
    master = attributes(body, 16).get(IFLA_MASTER, b"") if _in_another in body else b""
    text = name.rstrip(b"\0").decode(errors="replace")
    of = int.from_bytes(master, sys.byteorder)
    return LinkState(text, mtu, bool(flags & IFF_UP), not flags & IFF_NOARP, of, strange)


def link_index(body: bytes) -> int:
    """The same link's index alone: most are no concern of whoever listens."""
    return int(struct.unpack_from("=i", body, 4)[0])


def link_name(body: bytes) -> str:
    """The same link's name, which is the first attribute that the kernel writes."""
    length, kind = struct.unpack_from("=HH", body, 16) if len(body) >= 20 else (0, 0)
    if kind == IFLA_IFNAME:
        return body[20 : 16 + length].rstrip(b"\0").decode(errors="replace")
    return attributes(body, 16).get(IFLA_IFNAME, b"").rstrip(b"\0").decode(errors="replace")


def has_moved(body: bytes) -> bool:
    """Whether the link of an RTM_DELLINK message is in another namespace now, and not deleted."""
    return not {_NEW_NETNSID, _NEW_IFINDEX}.isdisjoint(attributes(body, 16))


def link_named(rtnl: Rtnl, name: str, kind: int = IFLA_IFNAME) -> Link:
    """One link by a name of a kind; takes no descriptor, as `socket.if_nametoindex` would. Raises RtnlError."""
    (answer,) = rtnl.ask(packed(RTM_GETLINK, 0, bytes(16) + attribute(kind, os.fsencode(name) + b"\0")))
    return parse_link(answer)


def index_of(rtnl: Rtnl, name: str) -> int:
    """The index of a link. Raises RtnlError."""
    return find(rtnl, name)[0]


def find(rtnl: Rtnl, name: str) -> tuple[int, LinkState]:
    """A link's index and state, and nothing that the kernel would have to add up for that. Raises RtnlError."""
    named = attribute(IFLA_IFNAME, os.fsencode(name) + b"\0")
    (answer,) = rtnl.ask(packed(RTM_GETLINK, 0, bytes(16) + named + _no_statistics))
    return link_index(answer), parse_state(answer)


def link_at(rtnl: Rtnl, index: int) -> Link:
    """One link. Raises RtnlError."""
    (answer,) = rtnl.ask(packed(RTM_GETLINK, 0, _INFO.pack(0, 0, index, 0, 0)))
    return parse_link(answer)


def state_at(rtnl: Rtnl, index: int) -> LinkState:
    """A link's state. Raises RtnlError."""
    (answer,) = rtnl.ask(packed(RTM_GETLINK, 0, _INFO.pack(0, 0, index, 0, 0) + _no_statistics))
    return parse_state(answer)


def mtu_at(by: int, index: int) -> int:
    """A link's MTU, by any socket's descriptor of its namespace; a tenth of `state_at`. Raises OSError."""
    named = fcntl.ioctl(by, _SIOCGIFNAME, struct.pack("16xi20x", index))
    return int(struct.unpack_from("=i", fcntl.ioctl(by, _SIOCGIFMTU, named), 16)[0])


def whereabouts(rtnl: Rtnl, index: int) -> tuple[str, bool]:
    """The name of a link, and whether it leads to one other host only, for half of the work. Raises RtnlError."""
    (answer,) = rtnl.ask(packed(RTM_GETLINK, 0, _INFO.pack(0, 0, index, 0, 0) + _no_statistics))
    return link_name(answer), bool(_INFO.unpack_from(answer)[3] & _IFF_POINTOPOINT)


_all = request(ifinfmsg, RTM_GETLINK, NLM_F_DUMP, [SKIP_STATISTICS])


def all_links(rtnl: Rtnl) -> dict[int, Link]:
    """The links of the socket's namespace by index, without statistics; raises RtnlError."""
    return {link.index: link for link in map(parse_link, rtnl.ask(_all))}
