"""What a card is like: its queues, its driver, what the driver can do."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable
from contextlib import ExitStack, suppress

from msgspec import Struct

from engine.api.values import ReceiveRules
from engine.card import ethtool, offloads
from engine.host.errors import HostError, Unseen
from engine.host.links import IFLA_ALT_IFNAME, Link, link_at, link_named
from engine.host.rtnl import SHORTAGES, Rtnl, RtnlError, attributes, messages
from engine.settings.limits import MAX_DEVICE


class Card(Struct, frozen=True):
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
    carrier_changes: int = 0
    """How often the carrier has come or gone."""
    filters_vlans: bool = False
    """Whether it may drop frames of VLANs that have no device on the host."""
    received: int = 0
    """Frames that the driver has counted, whatever became of them."""

    @property
    def queues(self) -> int:
        """Queues that both receive and send."""
        return min(self.rx_queues, self.tx_queues)


def card_name(given: str) -> str:
    """The name that the kernel shows for a card that may be called by another one (`ip link property`, Linux 5.5).

    What no card is called comes back as it is: `read_card` tells of it.
    """
    rtnl = Rtnl()
    try:
        return link_named(rtnl, given, IFLA_ALT_IFNAME).name
    except RtnlError:
        return given
    finally:
        rtnl.close()


def card_name_at(index: int, before: str) -> str | None:
    """What the card with this index, and this name before, is called now; None where it is gone from here.

    Raises HostError, Unseen among them.
    """
    link = _found(before, lambda rtnl: link_at(rtnl, index))
    return link.name if link is not None else None


def carrier_at(index: int) -> int | None:
    """How often the carrier of the card with this index has come or gone; None while it has none, or can't be seen."""
    with suppress(HostError):
        link = _found("The card", lambda rtnl: link_at(rtnl, index))
        if link is not None and link.up and link.carrier:
            return link.carrier_changes
    return None


def _found(name: str, look: Callable[[Rtnl], Link]) -> Link | None:
    """What a look at a link shows, None if there is no such link. Raises HostError, Unseen among them."""
    try:
        rtnl = Rtnl()
        try:
            return look(rtnl)
        finally:
            rtnl.close()
    except OSError as error:
        if error.errno == errno.ENODEV:
            return None
        kind = Unseen if error.errno in SHORTAGES else HostError
        raise kind(f"{name} can't be looked at: {error.strerror}.") from None


def _others(name: str) -> str:
    others = ", ".join(other for _, other in socket.if_nameindex() if other not in ("lo", name))
    return f"there is {others or 'none at all'}"


def read_card(name: str) -> Card:
    """The card with this name in the calling thread's namespace; raises HostError, Unseen among them."""
    link = _found(name, lambda rtnl: link_named(rtnl, name[:MAX_DEVICE]))
    if link is None:
        raise HostError(f"There is no card {name} here; {_others(name)}.")
    if link.name != name:
        raise HostError(f"There is no card {name} here: a name has at most {MAX_DEVICE} octets.")
    if len(link.mac) != 6 or not any(link.mac):
        raise HostError(f"{name} is no Ethernet card; {_others(name)}.")
    rx, tx = queues_in_use(name) or (link.rx_queues, link.tx_queues)
    return Card(
        name,
        link.index,
        link.mac,
        link.mtu,
        link.up,
        link.carrier,
        rx,
        tx,
        ethtool.driver(name),
        bool(offloads.active(name, offloads.STRIPPING)),
        _receive_rules(name),
        link.carrier_changes,
        bool(offloads.active(name, offloads.FILTERING)),
        link.received,
    )


_ETH_FLAG_NTUPLE = 1 << 27


def queues_in_use(name: str) -> tuple[int, int] | None:
    """Receive and transmit queues in use, which can be fewer than the driver made room for."""
    found = ethtool.channels(name)
    if found is None:
        return None
    rx, tx = found.rx + found.combined, found.tx + found.combined
    return (rx, tx) if rx and tx else None


def _receive_rules(name: str) -> ReceiveRules:
    """A driver that takes rules can say how many it has."""
    if ethtool.ask(name, ethtool.GRXCLSRLCNT, 192) is None:
        return ReceiveRules.NONE
    flags = ethtool.ask(name, ethtool.GFLAGS, 8) or bytes(8)
    return ReceiveRules.ON if struct.unpack_from("=I", flags, 4)[0] & _ETH_FLAG_NTUPLE else ReceiveRules.OFF


_SEND_XDP_FRAMES = 1 << 2
"""NETDEV_XDP_ACT_NDO_XMIT of linux/netdev.h."""
_CTRL_CMD_GETFAMILY, _CTRL_ATTR_FAMILY_ID, _CTRL_ATTR_FAMILY_NAME = 3, 1, 2
_NETDEV_CMD_DEV_GET, _NETDEV_A_DEV_IFINDEX, _NETDEV_A_DEV_XDP_FEATURES = 1, 1, 3


_DRIVERS_WITHOUT_XMIT = frozenset(("ixgbevf", "mlx4_en", "nfp", "nicvf"))
"""Of Linux 6.1, those that run XDP and have no `ndo_xdp_xmit`."""


def takes_xdp_frames(index: int, driver: str) -> bool:
    """Whether a card sends what XDP programs of other devices redirect to it (its driver's `ndo_xdp_xmit`).

    Kernels tell since Linux 6.3; before, it is the driver's name that tells.
    """
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 16) as asker:  # NETLINK_GENERIC
            asker.bind((0, 0))
            family = _generic(asker, 16, _CTRL_CMD_GETFAMILY, _CTRL_ATTR_FAMILY_NAME, b"netdev\0\0")
            number = int.from_bytes(family[_CTRL_ATTR_FAMILY_ID], "little")
            card = _generic(asker, number, _NETDEV_CMD_DEV_GET, _NETDEV_A_DEV_IFINDEX, struct.pack("=I", index))
    except OSError:
        return driver not in _DRIVERS_WITHOUT_XMIT
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
        membership = struct.pack("=iHH8s", index, 1, 0, b"")  # PACKET_MR_PROMISC
        with ExitStack() as undo:
            try:
                self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
                undo.callback(self._socket.close)
                self._socket.setsockopt(263, 1, membership)  # SOL_PACKET, PACKET_ADD_MEMBERSHIP
            except OSError as error:
                raise HostError(f"The card can't be made promiscuous: {error.strerror}.") from None
            undo.pop_all()

    def close(self) -> None:
        """Put the card back as it was."""
        self._socket.close()
