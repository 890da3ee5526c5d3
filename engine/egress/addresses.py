"""The devices of the sessions, with their addresses, routes and rules.

A session's device gets its address without a route in the main table: the host's own routing stays as it is. A table of
the session's own has a default route into the device, and a rule sends what comes from the session's address there.
Sockets bound to the device need neither: on a point-to-point device the kernel takes every destination as on the link.

Rules outlive a killed process. They carry our protocol number, and their tables tell which instance they belong to:
each instance holds a socket in the abstract namespace, which the kernel closes with it, and the next start clears up.

Deleting a TUN device takes the kernel about 20 ms, however many are deleted at once, so a thread collects them.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from pyroute2.netlink import NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE
from pyroute2.netlink.rtnl import (
    RTM_DELADDR,
    RTM_DELLINK,
    RTM_DELRULE,
    RTM_GETRULE,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTM_NEWROUTE,
    RTM_NEWRULE,
    rt_type,
)
from pyroute2.netlink.rtnl.fibmsg import FR_ACT_TO_TBL, fibmsg
from pyroute2.netlink.rtnl.ifaddrmsg import IFA_F_NODAD, IFA_F_NOPREFIXROUTE, ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import IFF_UP, ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from engine.egress.quiet import has_ipv6, keep_quiet
from engine.egress.tun import open_tun
from engine.egress.ways import way_to
from engine.host.errors import HostError
from engine.host.rtnl import Rtnl, RtnlError, Template, attributes, request
from engine.sessions.policy import Way

PROTOCOL = 80
"""What our routes and rules are marked with; `ip rule` shows it as `proto 80`."""
PRIORITY = 10000
"""Of our rules: before the main table's 32766."""
TABLES = 0x50000000
"""Our tables: this, plus 65,536 for each instance on the host, plus the session's number."""
MAX_INSTANCES = 256
DOOMED = 0x50000000
"""The link group of devices about to be deleted."""
MIN_IPV6_MTU = 1280


@dataclass(slots=True)
class Device:
    """A session's device."""

    name: str
    fd: int
    """Of a TUN device, it carries whole IP packets; else it is something that the device hangs on."""
    index: bytes
    """Its interface index and its table's number, as netlink writes them."""
    table: bytes
    close: Callable[[int], None]
    """Gives the descriptor back when the device has been deleted."""
    mtu: int | None = None
    ipv4: tuple[IPv4Address, IPv4Address | None] | None = None
    """Our address and the peer's."""
    ipv6: IPv6Address | None = None
    """The link-local address."""


class Devices:
    """All devices of one engine, by session number, in the network namespace of the thread that makes this."""

    def __init__(self) -> None:
        """Take the first free instance and clear up after dead ones; raises HostError."""
        self._rtnl = Rtnl()
        self._devices: dict[int, Device] = {}
        self._claim, instance = _claim_instance()
        self._tables = TABLES + (instance << 16)
        self._indexes: set[int] = set()
        """Of all our devices, those that wait to be deleted among them."""
        self._undertaker = _Undertaker(self._indexes.discard)
        purge_stale_rules(self._rtnl, instance)

    def __contains__(self, number: int) -> bool:
        return number in self._devices

    def name(self, number: int) -> str:
        """The device's name."""
        return self._devices[number].name

    def fd(self, number: int) -> int:
        """The device's descriptor."""
        return self._devices[number].fd

    def taken(self, number: int, name: str) -> str:
        """Why a session can't have a device of this name, in a sentence; empty if it can, or has it."""
        if any(device.name == name and other != number for other, device in self._devices.items()):
            return f"The device {name} belongs to another session."
        if number in self._devices or self._undertaker.has(name):
            return ""
        try:
            socket.if_nametoindex(name)
        except OSError:
            return ""
        return f"There is a device {name} already, and it is not ours."

    def create(
        self,
        number: int,
        name: str,
        make: Callable[[str], int] = open_tun,
        close: Callable[[int], None] = os.close,
    ) -> None:
        """Have a session's device made, down and without an address; raises DatapathError or HostError.

        `make` makes one of that name and returns its descriptor; `close` closes it when the device has been deleted,
        in another thread. If the device is in another namespace by then, that must take it away.
        """
        self._undertaker.wait_for(name)
        if any(device.name == name for device in self._devices.values()):
            raise HostError(f"The device {name} belongs to another session.")
        fd = make(name)
        index = socket.if_nametoindex(name)
        self._indexes.add(index)
        device = self._devices[number] = Device(name, fd, _uint32(index), _uint32(self._tables + number), close)
        try:
            keep_quiet(self._rtnl, name, index)
        except RtnlError as error:
            raise _trouble(device, error) from None

    def way_to(self, address: IPv4Address) -> Way | None:
        """How the host reaches an address by other devices than ours; None if it doesn't."""
        return way_to(self._rtnl, address, self._indexes)

    def set_ipv4(self, number: int, address: IPv4Address, peer: IPv4Address | None, mtu: int) -> None:
        """Set the device up with this address in place of any other; `mtu` in octets of IP packet. Raises HostError."""
        device = self._devices[number]
        requests = _set_up(device, mtu)
        if device.ipv4 != (address, peer):
            requests += _without_ipv4(device)
            device.ipv4 = address, peer
            requests += _with_ipv4(device)
        self._do(device, requests)

    def clear_ipv4(self, number: int) -> None:
        """Take the address away, if there is one; raises HostError."""
        device = self._devices.get(number)
        if device is not None:
            requests, device.ipv4 = _without_ipv4(device), None
            self._do(device, requests)

    def set_ipv6(self, number: int, address: IPv6Address, mtu: int) -> None:
        """Set the device up with this link-local address in place of any other; raises HostError.

        Does without the address where the host has IPv6 switched off, or the MTU is too small for it.
        """
        device = self._devices[number]
        requests = _set_up(device, mtu)
        if device.ipv6 != address and mtu >= MIN_IPV6_MTU and has_ipv6(device.name):
            requests += _without_ipv6(device)
            device.ipv6 = address
            requests.append(_add_ipv6(device.index, address.packed))
        self._do(device, requests)

    def clear_ipv6(self, number: int) -> None:
        """Take the link-local address away, if there is one; raises HostError."""
        device = self._devices.get(number)
        if device is not None:
            requests, device.ipv6 = _without_ipv6(device), None
            self._do(device, requests)

    def set_mtu(self, number: int, mtu: int) -> None:
        """Change the device's MTU, in octets of IP packet; raises HostError."""
        device = self._devices[number]
        self._do(device, _set_up(device, mtu))

    def remove(self, number: int) -> None:
        """Delete the device and close its descriptor, if there is one: the rule now, the rest some 50 ms later.

        Nobody may use the descriptor any more.
        """
        device = self._devices.pop(number, None)
        if device is not None:
            if device.ipv4 is not None:
                self._rtnl.do(_without_ipv4(device)[:1], _NO_FAILURE)
            self._undertaker.take(device)

    def close(self) -> None:
        """Remove all devices; returns when they are gone."""
        for number in list(self._devices):
            self.remove(number)
        self._undertaker.close()
        self._rtnl.close()
        self._claim.close()

    def _do(self, device: Device, requests: list[bytes]) -> None:
        try:
            self._rtnl.do(requests, _NO_FAILURE)
        except RtnlError as error:
            raise _trouble(device, error) from None


def _trouble(device: Device, error: RtnlError) -> HostError:
    return HostError(f"The device {device.name} can't be set up: {error.strerror}.")


_NO_FAILURE = (errno.ENOENT, errno.EADDRNOTAVAIL, errno.EEXIST, errno.EACCES)
"""What is to be deleted is gone already, what is to be added is there, IPv6 is switched off."""


class _Undertaker:
    """Deletes devices in the background, all that have come together at once.

    The kernel waits for its own readers after each deletion: 20 ms and more for one device, and 0.5 ms for each one
    more in the same request. Requests of other threads wait as well, so no more than BURIAL go together.
    """

    BURIAL = 64

    def __init__(self, gone: Callable[[int], None]) -> None:
        """`gone` is called with the index of each device that is, in the undertaker's thread."""
        self._gone = gone
        self._rtnl = Rtnl()
        self._waiting: dict[str, Device] = {}
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="souppp-undertaker", daemon=True)
        self._thread.start()

    def take(self, device: Device) -> None:
        """Delete this device soon."""
        with self._changed:
            self._waiting[device.name] = device
            self._changed.notify_all()

    def has(self, name: str) -> bool:
        """Whether a device of this name waits to be deleted."""
        with self._changed:
            return name in self._waiting

    def wait_for(self, name: str) -> None:
        """Return when no device of this name waits to be deleted."""
        with self._changed:
            self._changed.wait_for(lambda: name not in self._waiting)

    def close(self) -> None:
        """Return when all are deleted."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        self._rtnl.close()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                devices = list(self._waiting.values())[: self.BURIAL]
            if not devices:
                return
            self._bury(devices)
            with self._changed:
                for device in devices:
                    del self._waiting[device.name]
                self._changed.notify_all()

    def _bury(self, devices: list[Device]) -> None:
        try:
            self._rtnl.do([*(_doom(device.index) for device in devices), _delete_doomed], (errno.ENODEV,))
        finally:
            for device in devices:
                device.close(device.fd)
                self._gone(int.from_bytes(device.index, sys.byteorder))


# --- requests ---


def _uint32(value: int) -> bytes:
    return value.to_bytes(4, sys.byteorder)


_INDEX, _MTU, _TABLE = 0x7E570001, 0x7E570002, 0x7E570003
_OURS, _PEERS, _LINK_LOCAL = IPv4Address("203.0.113.1"), IPv4Address("203.0.113.2"), IPv6Address("fe80::7e57:4")
"""What stands in the templates for what is filled in."""

_ADD = NLM_F_CREATE | NLM_F_EXCL
_LINK_SCOPE = 253
_up = Template(
    request(ifinfmsg, RTM_NEWLINK, 0, [("IFLA_MTU", _MTU)], index=_INDEX, flags=IFF_UP, change=IFF_UP),
    _uint32(_INDEX),
    _uint32(_MTU),
)
_doom = Template(request(ifinfmsg, RTM_NEWLINK, 0, [("IFLA_GROUP", DOOMED)], index=_INDEX), _uint32(_INDEX))
_delete_doomed = request(ifinfmsg, RTM_DELLINK, 0, [("IFLA_GROUP", DOOMED)])


def _ipv4(type_: int, how: int = 0) -> Template:
    wanted = [("IFA_LOCAL", str(_OURS)), ("IFA_ADDRESS", str(_PEERS)), ("IFA_FLAGS", IFA_F_NOPREFIXROUTE)]
    encoded = request(ifaddrmsg, type_, how, wanted, family=socket.AF_INET, prefixlen=32, index=_INDEX)
    return Template(encoded, _uint32(_INDEX), _OURS.packed, _PEERS.packed)


def _ipv6(type_: int, how: int = 0) -> Template:
    wanted = [("IFA_LOCAL", str(_LINK_LOCAL)), ("IFA_FLAGS", IFA_F_NODAD)]
    fields = {"family": socket.AF_INET6, "prefixlen": 64, "scope": _LINK_SCOPE, "index": _INDEX}
    return Template(request(ifaddrmsg, type_, how, wanted, **fields), _uint32(_INDEX), _LINK_LOCAL.packed)


def _rule(type_: int, how: int = 0) -> Template:
    wanted = [("FRA_SRC", str(_OURS)), ("FRA_TABLE", _TABLE), ("FRA_PRIORITY", PRIORITY), ("FRA_PROTOCOL", PROTOCOL)]
    encoded = request(fibmsg, type_, how, wanted, family=socket.AF_INET, src_len=32, action=FR_ACT_TO_TBL)
    return Template(encoded, _OURS.packed, _uint32(_TABLE))


_add_ipv4, _delete_ipv4 = _ipv4(RTM_NEWADDR, _ADD), _ipv4(RTM_DELADDR)
_add_ipv6, _delete_ipv6 = _ipv6(RTM_NEWADDR, _ADD), _ipv6(RTM_DELADDR)
_add_rule, _delete_rule = _rule(RTM_NEWRULE, _ADD), _rule(RTM_DELRULE)
_add_route = Template(
    request(
        rtmsg,
        RTM_NEWROUTE,
        NLM_F_CREATE | NLM_F_REPLACE,
        [("RTA_TABLE", _TABLE), ("RTA_OIF", _INDEX)],
        family=socket.AF_INET,
        proto=PROTOCOL,
        scope=_LINK_SCOPE,
        type=rt_type["unicast"],
    ),
    _uint32(_TABLE),
    _uint32(_INDEX),
)


def _set_up(device: Device, mtu: int) -> list[bytes]:
    if device.mtu == mtu:
        return []
    device.mtu = mtu
    return [_up(device.index, _uint32(mtu))]


def _with_ipv4(device: Device) -> list[bytes]:
    if device.ipv4 is None:
        return []
    address, peer = device.ipv4
    return [
        _add_ipv4(device.index, address.packed, (peer or address).packed),
        _add_route(device.table, device.index),
        _add_rule(address.packed, device.table),
    ]


def _without_ipv4(device: Device) -> list[bytes]:
    if device.ipv4 is None:
        return []
    address, peer = device.ipv4
    return [
        _delete_rule(address.packed, device.table),
        _delete_ipv4(device.index, address.packed, (peer or address).packed),
    ]


def _without_ipv6(device: Device) -> list[bytes]:
    return [] if device.ipv6 is None else [_delete_ipv6(device.index, device.ipv6.packed)]


# --- instances ---


def _claim_instance() -> tuple[socket.socket, int]:
    """The first free instance and the socket that stands for it."""
    for instance in range(MAX_INSTANCES):
        claim = _claim(instance)
        if claim is not None:
            return claim, instance
    raise HostError(f"{MAX_INSTANCES} instances of this program are running here already.")


def _claim(instance: int) -> socket.socket | None:
    """A name that only one process of this network namespace can have, and that dies with it; None if it is taken."""
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        claim.bind(f"\0souppp-instance-{instance}")
    except OSError:
        claim.close()
        return None
    return claim


_FRA_SRC, _FRA_TABLE, _FRA_PROTOCOL = 2, 15, 21


def purge_stale_rules(rtnl: Rtnl, own: int) -> None:
    """Delete the rules of dead instances, and those that a dead one left of instance `own`, which has none yet."""
    rules: dict[int, list[bytes]] = {}
    for body in rtnl.ask(request(fibmsg, RTM_GETRULE, NLM_F_DUMP, family=socket.AF_INET)):
        found = attributes(body, 12)
        source, table = found.get(_FRA_SRC, b""), found.get(_FRA_TABLE, b"")
        instance = (int.from_bytes(table, sys.byteorder) - TABLES) >> 16
        if found.get(_FRA_PROTOCOL) == bytes([PROTOCOL]) and 0 <= instance < MAX_INSTANCES and source:
            rules.setdefault(instance, []).append(_delete_rule(source, table))
    for instance, stale in rules.items():
        claim = None if instance == own else _claim(instance)
        if instance == own or claim is not None:
            rtnl.do(stale, _NO_FAILURE)
        if claim is not None:
            claim.close()
