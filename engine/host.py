"""What the host is like: its cards and their queues, changes of its links, and what this process may do."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pyroute2.netlink import NLM_F_DUMP
from pyroute2.netlink.rtnl import RTM_DELLINK, RTM_GETLINK, RTM_NEWLINK, RTMGRP_LINK
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from engine.api import ReceiveRules
from engine.rtnl import Rtnl, RtnlError, attributes, messages, request

TUN = Path("/dev/net/tun")


class HostError(Exception):
    """The host does not have, or does not let us do, what is needed: one line for the operator."""


# --- links ---

IFF_UP = 1
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_NUM_TX_QUEUES, IFLA_NUM_RX_QUEUES, IFLA_CARRIER = 1, 3, 4, 31, 32, 33
_SKIP_STATISTICS = ("IFLA_EXT_MASK", 8)


@dataclass(frozen=True, slots=True)
class Link:
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


def _link(body: bytes) -> Link:
    """The link in an RTM_NEWLINK message. It comes for every change of every link: 5 us, against pyroute2's 500."""
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
    )


def _links(rtnl: Rtnl) -> dict[int, Link]:
    bodies = rtnl.ask(request(ifinfmsg, RTM_GETLINK, NLM_F_DUMP, [_SKIP_STATISTICS]))
    return {link.index: link for link in map(_link, bodies)}


# --- the card ---


@dataclass(frozen=True, slots=True)
class Card:
    """A card as it stands."""

    name: str
    index: int
    mac: bytes
    """6 octets."""
    mtu: int
    up: bool
    carrier: bool
    rx_queues: int
    """Queues in use."""
    tx_queues: int
    driver: str
    """The kernel driver's name, or empty."""
    strips_vlan_tags: bool
    """Whether it may take VLAN tags off received frames, into notes of the driver that no XDP program can read."""
    receive_rules: ReceiveRules

    @property
    def queues(self) -> int:
        """Queues that both receive and send."""
        return min(self.rx_queues, self.tx_queues)


def card(name: str) -> Card:
    """The card with this name in the calling thread's namespace; raises HostError."""
    rtnl = Rtnl()
    try:
        (body,) = rtnl.ask(request(ifinfmsg, RTM_GETLINK, 0, [("IFLA_IFNAME", name[:15]), _SKIP_STATISTICS]))
    except RtnlError as error:
        if error.errno != errno.ENODEV:
            raise HostError(f"{name} can't be looked at: {error.strerror}.") from None
        others = ", ".join(other for _, other in socket.if_nameindex() if other != "lo")
        raise HostError(f"There is no card {name} here; there is {others or 'none at all'}.") from None
    finally:
        rtnl.close()
    link = _link(body)
    if link.name != name:
        raise HostError(f"There is no card {name} here: a name has at most 15 octets.")
    if len(link.mac) != 6 or not any(link.mac):
        raise HostError(f"{name} is no Ethernet card.")
    rx, tx = _channels(name) or (link.rx_queues, link.tx_queues)
    return Card(
        name,
        link.index,
        link.mac,
        link.mtu,
        link.up,
        link.carrier,
        rx,
        tx,
        _driver(name),
        _strips_vlan_tags(name),
        _receive_rules(name),
    )


_SIOCETHTOOL = 0x8946
_ETHTOOL_GDRVINFO = 0x03
_ETHTOOL_GCHANNELS = 0x3C
_ETHTOOL_GFLAGS = 0x25
_ETHTOOL_GRXCLSRLCNT = 0x2E
_ETH_FLAG_RXVLAN = 1 << 8
_ETH_FLAG_NTUPLE = 1 << 27


def _ethtool(name: str, command: int, size: int) -> bytes | None:
    """What the driver answers to an ethtool command that only reads; None if it knows no answer."""
    answer = ctypes.create_string_buffer(struct.pack("=I", command), size)
    question = struct.pack("16sP16x", name.encode(), ctypes.addressof(answer))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            fcntl.ioctl(any_socket, _SIOCETHTOOL, question)
        except OSError:
            return None
    return answer.raw


def _channels(name: str) -> tuple[int, int] | None:
    """Receive and transmit queues in use, which can be fewer than the driver made room for."""
    answer = _ethtool(name, _ETHTOOL_GCHANNELS, 36)
    if answer is None:
        return None
    *_, rx, tx, _, combined = struct.unpack("=9I", answer)
    return (rx + combined, tx + combined) if rx + combined and tx + combined else None


def _flags(name: str) -> int:
    answer = _ethtool(name, _ETHTOOL_GFLAGS, 8)
    return int(struct.unpack_from("=II", answer)[1]) if answer is not None else 0


def _strips_vlan_tags(name: str) -> bool:
    return bool(_flags(name) & _ETH_FLAG_RXVLAN)


def _receive_rules(name: str) -> ReceiveRules:
    """A driver that takes rules can say how many it has."""
    if _ethtool(name, _ETHTOOL_GRXCLSRLCNT, 192) is None:
        return ReceiveRules.NONE
    return ReceiveRules.ON if _flags(name) & _ETH_FLAG_NTUPLE else ReceiveRules.OFF


def _driver(name: str) -> str:
    answer = _ethtool(name, _ETHTOOL_GDRVINFO, 196)
    return answer[4:36].split(b"\0")[0].decode(errors="replace") if answer else ""


_SEND_XDP_FRAMES = 1 << 2
"""NETDEV_XDP_ACT_NDO_XMIT of linux/netdev.h."""
_CTRL_CMD_GETFAMILY, _CTRL_ATTR_FAMILY_ID, _CTRL_ATTR_FAMILY_NAME = 3, 1, 2
_NETDEV_CMD_DEV_GET, _NETDEV_A_DEV_IFINDEX, _NETDEV_A_DEV_XDP_FEATURES = 1, 1, 3


def takes_xdp_frames(index: int) -> bool:
    """Whether a card sends what XDP programs of other devices redirect to it (its driver's `ndo_xdp_xmit`).

    Kernels tell since Linux 6.3; before, a card is taken to do so.
    """
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 16) as asker:  # NETLINK_GENERIC
            asker.bind((0, 0))
            family = _generic(asker, 16, _CTRL_CMD_GETFAMILY, _CTRL_ATTR_FAMILY_NAME, b"netdev\0\0")
            number = int.from_bytes(family[_CTRL_ATTR_FAMILY_ID], "little")
            card = _generic(asker, number, _NETDEV_CMD_DEV_GET, _NETDEV_A_DEV_IFINDEX, struct.pack("=I", index))
    except OSError:
        return True
    return bool(int.from_bytes(card[_NETDEV_A_DEV_XDP_FEATURES], "little") & _SEND_XDP_FRAMES)


def _generic(asker: socket.socket, family: int, command: int, attribute: int, value: bytes) -> dict[int, bytes]:
    """The attributes of the answer to a generic netlink question with one attribute; raises OSError."""
    body = struct.pack("=BBHHH", command, 1, 0, 4 + len(value), attribute) + value
    asker.send(struct.pack("=IHHII", 16 + len(body), family, 1, 1, 0) + body)  # NLM_F_REQUEST
    for type_, answer in messages(asker.recv(1 << 16)):
        if type_ == family:
            return attributes(answer, 4)
        raise OSError(-struct.unpack_from("=i", answer)[0], "generic netlink")
    raise OSError(errno.EPROTO, "generic netlink")


class Promiscuous:
    """Makes a card take frames for any MAC address, until closed; the kernel ends it when the process dies."""

    def __init__(self, index: int) -> None:
        """`index` is the card's; raises HostError."""
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        membership = struct.pack("=iHH8s", index, 1, 0, b"")  # PACKET_MR_PROMISC
        try:
            self._socket.setsockopt(263, 1, membership)  # SOL_PACKET, PACKET_ADD_MEMBERSHIP
        except OSError as error:
            self._socket.close()
            raise HostError(f"The card can't be made promiscuous: {error.strerror}.") from None

    def close(self) -> None:
        """Put the card back as it was."""
        self._socket.close()


# --- changes of links ---


class LinkChange(StrEnum):
    """What can happen to a link."""

    APPEARED = "appeared"
    GONE = "gone"
    RENAMED = "renamed"
    DOWN = "down"
    UP = "up"
    CARRIER_LOST = "carrier lost"
    CARRIER_BACK = "carrier back"
    MTU = "MTU changed"
    MAC = "MAC changed"


@dataclass(frozen=True, slots=True)
class LinkEvent:
    """Something happened to a link."""

    name: str
    """Its name before that."""
    index: int
    change: LinkChange
    text: str
    """One line, full sentences."""


def changes(before: Link | None, after: Link | None) -> Iterator[LinkEvent]:
    """What happened between two looks at the same link; None where it isn't there."""
    if before is None or after is None:
        link = before or after
        if link is not None:
            change = LinkChange.APPEARED if before is None else LinkChange.GONE
            yield LinkEvent(
                link.name, link.index, change, f"{link.name} {'is there' if before is None else 'is gone'}."
            )
        return
    name = before.name
    table = (
        (before.name != after.name, LinkChange.RENAMED, f"{name} is now called {after.name}."),
        (before.up and not after.up, LinkChange.DOWN, f"{name} was set down."),
        (before.carrier and not after.carrier, LinkChange.CARRIER_LOST, f"{name} lost its carrier: is the cable in?"),
        (before.mtu != after.mtu, LinkChange.MTU, f"The MTU of {name} is now {after.mtu} (before: {before.mtu})."),
        (before.mac != after.mac, LinkChange.MAC, f"The MAC address of {name} is now {after.mac.hex(':')}."),
        (after.up and not before.up, LinkChange.UP, f"{name} was set up."),
        (after.carrier and not before.carrier, LinkChange.CARRIER_BACK, f"{name} has a carrier again."),
    )
    for happened, change, text in table:
        if happened:
            yield LinkEvent(name, before.index, change, text)


class LinkWatch:
    """Tells what happens to the links of the calling thread's namespace from now on."""

    def __init__(self) -> None:
        self._news = Rtnl(RTMGRP_LINK)
        self._questions = Rtnl()
        self._known = _links(self._questions)

    def fileno(self) -> int:
        """Readable when there may be events."""
        return self._news.fileno()

    def events(self) -> list[LinkEvent]:
        """What happened since the last call, in order; never blocks for news."""
        news = self._news.news()
        if news is None:
            return self._look_again()
        events: list[LinkEvent] = []
        for type_, body in news:
            # Bridges send messages of their own family about their ports.
            if type_ in (RTM_NEWLINK, RTM_DELLINK) and body[0] == socket.AF_UNSPEC:
                link = _link(body)
                before = self._known.pop(link.index, None)
                if type_ == RTM_NEWLINK:
                    self._known[link.index] = link
                events += changes(before, link if type_ == RTM_NEWLINK else None)
        return events

    def _look_again(self) -> list[LinkEvent]:
        """After lost news: compare everything."""
        before, self._known = self._known, _links(self._questions)
        return [event for index in before | self._known for event in changes(before.get(index), self._known.get(index))]

    def close(self) -> None:
        """Stop watching."""
        self._news.close()
        self._questions.close()


# --- what this process may do ---

_CAPABILITIES = {
    "CAP_NET_ADMIN": (12,),
    "CAP_NET_RAW": (13,),
    "CAP_BPF": (39, 21),
    "CAP_SYS_ADMIN": (21,),
}
"""Capabilities by name, with the bits of which one is enough (CAP_SYS_ADMIN includes CAP_BPF); see capabilities(7)."""


def missing_capabilities(*, namespaces: bool = False) -> list[str]:
    """The capabilities that the calling thread lacks; with `namespaces`, also what it takes to make one."""
    status = Path("/proc/thread-self/status").read_text()
    effective = int(next(line for line in status.splitlines() if line.startswith("CapEff:")).split()[1], 16)
    needed = {name: bits for name, bits in _CAPABILITIES.items() if namespaces or name != "CAP_SYS_ADMIN"}
    return [name for name, bits in needed.items() if not any(effective >> bit & 1 for bit in bits)]


def check_tun() -> None:
    """Raise HostError unless TUN devices can be made."""
    if not os.access(TUN, os.R_OK | os.W_OK):
        raise HostError(f"{TUN} is missing or closed to us: load it with `modprobe tun`, or let the container have it.")
