"""Sessions' devices in network namespaces that have a name (ip-netns(8)), with addresses and default route there.

What is in such a namespace is up to who uses it: nothing is put back that others change there, and no rules are needed,
as nothing of the host's goes there. To enter one takes rights that are given up when the engine begins; a socket that
was opened there before does the rest.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import partial
from pathlib import Path

from msgspec import Struct, field

from engine.egress.protocol import Addresses
from engine.egress.quiet import make_up_no_address
from engine.egress.requests import (
    delete_global6,
    delete_ipv4,
    delete_ipv6,
    give_global6,
    give_ipv4,
    give_link_local,
    move,
    set_up,
    uint32,
    way_through,
)
from engine.egress.rule_tree import MAIN
from engine.egress.undertaker import Undertaker
from engine.host import netns
from engine.host.errors import HostError
from engine.host.links import index_of
from engine.host.rtnl import Rtnl, RtnlError

NAMES = Path("/run/netns")
_HARMLESS = (errno.EEXIST, errno.EADDRNOTAVAIL, errno.ESRCH, errno.EACCES, errno.EAFNOSUPPORT, errno.EOPNOTSUPP)

_ANOTHER = "The device {0} is in a network namespace without a name: another one was made of the name {1}."


class Namespace(Struct, frozen=True):
    """One that is open: a descriptor, and a socket in it. Whoever takes it away closes both."""

    fd: int
    rtnl: Rtnl

    def close(self) -> None:
        """Let go of it."""
        self.rtnl.close()
        os.close(self.fd)


class Namespaces:
    """Those that are open, by name."""

    def __init__(self) -> None:
        self._open: dict[str, Namespace] = {}
        self._former: list[Namespace] = []
        """Others have their names by now, and devices may be in them still."""

    def find(self, name: str) -> Namespace:
        """One that is open or can be opened. Raises HostError."""
        there = self._open.get(name)
        try:
            now = os.stat(NAMES / name).st_ino
        except OSError:
            raise HostError(f"There is no network namespace {name}: `ip netns add {name}`.") from None
        if there is not None and os.fstat(there.fd).st_ino == now:
            return there
        try:
            descriptor = netns.open_net(NAMES / name)
            try:
                with netns.visiting(descriptor):
                    made = Namespace(descriptor, Rtnl())
            except BaseException:
                os.close(descriptor)
                raise
        except OSError as error:
            text = f"The network namespace {name} can't be entered any more ({error.strerror})"
            remedy = "start the engine anew, with CAP_SYS_ADMIN, or use `souppp-tui exec --netns`"
            raise HostError(f"{text}: {remedy}.") from None
        self.add(name, made)
        return made

    def now(self, name: str) -> Namespace | None:
        """The one that is open, unless another one has the name by now: whose name was taken away goes on."""
        there = self._open.get(name)
        with suppress(OSError):
            if there is not None and os.fstat(there.fd).st_ino != os.stat(NAMES / name).st_ino:
                return None
        return there

    def add(self, name: str, made: Namespace) -> None:
        """One that somebody else has opened; ours from now on."""
        former = self._open.get(name)
        if former is not None and os.path.sameopenfile(former.fd, made.fd):
            made.close()
            return
        if former is not None:
            self._former.append(former)
        self._open[name] = made

    def let_go(self, used: Collection[Namespace]) -> None:
        """Close those whose names others have by now, but for those in use."""
        for each in [each for each in self._former if each not in used]:
            self._former.remove(each)
            each.close()

    def close(self) -> None:
        """Let go of all."""
        self.let_go(())
        while self._open:
            self._open.popitem()[1].close()


class _Away(Struct):
    name: str
    fd: int
    close: Callable[[int, bool], None]
    namespace: str
    into: Namespace
    there: int
    """Its interface index where it is."""
    mtu: int = 0
    had: Addresses = field(default_factory=Addresses)
    index: int = 0
    """None here, for the undertaker: it goes with its descriptor."""
    routes: tuple[bytes, ...] = ()


class Elsewhere:
    """The devices of one engine's sessions that are in named namespaces, by key."""

    def __init__(self, namespaces: Namespaces, undertaker: Undertaker) -> None:
        """`undertaker` is that of the host's devices, which may have the same names."""
        self._namespaces = namespaces
        self._devices: dict[int, _Away] = {}
        self._undertaker = undertaker

    def __contains__(self, key: int) -> bool:
        return key in self._devices

    def name(self, key: int) -> str:
        """The device's name."""
        return self._devices[key].name

    def fd(self, key: int) -> int:
        """The device's descriptor."""
        return self._devices[key].fd

    def create(
        self, key: int, name: str, namespace: str, make: Callable[[str], int], close: Callable[[int, bool], None]
    ) -> None:
        """Have a device made and moved, down and without an address. Raises HostError or DatapathError.

        See `engine.egress.addresses.Devices.create` for `make` and `close`.
        """
        self._undertaker.wait_for(name)
        into = self._namespaces.find(namespace)
        device = _Away(name, make(name), close, namespace, into, 0)
        try:
            here = Rtnl()
            try:
                here.do([move(index_of(here, name), into.fd)])
            finally:
                here.close()
            device.there = index_of(into.rtnl, name)
            with suppress(RtnlError):
                make_up_no_address(into.rtnl, device.there)
        except RtnlError as error:
            self._undertaker.take(device)
            raise HostError(
                f"The device {name} can't be put into the namespace {namespace}: {error.strerror}."
            ) from None
        self._devices[key] = device

    def set_addresses(self, key: int, addresses: Addresses, mtu: int) -> None:
        """Set the device up with these addresses and no others, and default routes. Raises HostError."""
        device = self._devices[key]
        index, had = uint32(device.there), device.had
        requests = [] if mtu == device.mtu else [set_up(index, uint32(mtu))]
        if had.ipv4 is not None and (had.ipv4, had.peer) != (addresses.ipv4, addresses.peer):
            requests.append(delete_ipv4(index, had.ipv4.packed, (had.peer or had.ipv4).packed))
        requests += (delete_global6(index, each.packed) for each in {*had.global6} - {*addresses.global6})
        if had.ipv6 is not None and had.ipv6 != addresses.ipv6:
            requests.append(delete_ipv6(index, had.ipv6.packed))
        if addresses.ipv6 is not None:
            requests.append(give_link_local(index, addresses.ipv6.packed))
        requests += (give_global6(index, each.packed) for each in addresses.global6)
        if addresses.global6:
            requests.append(way_through(socket.AF_INET6, MAIN, device.there))
        if addresses.ipv4 is not None:
            requests.append(give_ipv4(index, addresses.ipv4.packed, (addresses.peer or addresses.ipv4).packed))
            requests.append(way_through(socket.AF_INET, MAIN, device.there))
        device.had, device.mtu = addresses, mtu
        self._do(device, requests)

    def set_mtu(self, key: int, mtu: int) -> None:
        """Change the device's MTU, in octets of IP packet. Raises HostError."""
        device = self._devices[key]
        device.mtu = mtu
        self._do(device, [set_up(uint32(device.there), uint32(mtu))])

    def remove(self, key: int) -> None:
        """Delete the device, some 50 ms later, if there is one."""
        device = self._devices.pop(key, None)
        if device is not None:
            self._undertaker.take(device)

    def close(self) -> None:
        """Remove all devices; the undertaker sees to that."""
        for key in [*self._devices]:
            self.remove(key)
        self._namespaces.close()

    def astray(self) -> dict[int, str]:
        """Whose device is in a namespace whose name another one has by now; and that in words."""
        self._namespaces.let_go([device.into for device in self._devices.values()])
        now = {name: self._namespaces.now(name) for name in {device.namespace for device in self._devices.values()}}
        return {
            key: _ANOTHER.format(device.name, device.namespace)
            for key, device in self._devices.items()
            if device.into is not now[device.namespace]
        }

    @staticmethod
    def _do(device: _Away, requests: list[bytes]) -> None:
        try:
            device.into.rtnl.do(requests, _HARMLESS)
        except RtnlError as error:
            raise HostError(f"The device {device.name} can't be set up: {error.strerror}.") from None


def lent(namespace: int, rtnl: int) -> Namespace:
    """One that somebody else has opened, of a descriptor and a socket's; ours in any case. Raises HostError."""
    try:
        return Namespace(namespace, Rtnl.of(rtnl))
    except OSError as error:
        for each in (namespace, rtnl):
            with suppress(OSError):
                os.close(each)
        raise HostError(f"What came with the request is no network namespace: {error.strerror}.") from None


def open_all(namespaces: Namespaces, names: set[str]) -> None:
    """While there is a right to it; what can't be opened is told when a session needs it."""
    for open_one in (partial(namespaces.find, name) for name in sorted(names)):
        with suppress(HostError):
            open_one()
