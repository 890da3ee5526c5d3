"""The host's default route by a session, where one asks for it: one route of each family in the host's own table.

It is ours by its protocol, its metric and its device, and goes with the device when the program is killed. No other
route of the host's is ever touched: where there is a default route of the same metric already, ours isn't put there.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
from collections.abc import Iterable, Iterator

from msgspec import Struct
from pyroute2.netlink import NLM_F_DUMP
from pyroute2.netlink.rtnl import RTM_GETROUTE

from engine.egress.requests import PROTOCOL, host_default
from engine.egress.rule_tree import MAIN
from engine.host.rtnl import Rtnl, RtnlError, attributes, packed

FAMILIES: dict[int, str] = {socket.AF_INET: "IPv4", socket.AF_INET6: "IPv6"}
_ROUTE = struct.Struct("=BBBBBBBBI")
_OIF, _METRIC, _TABLE = 4, 6, 15
_GONE = (errno.ESRCH, errno.ENODEV, errno.EAFNOSUPPORT, errno.EOPNOTSUPP)


class Wish(Struct, frozen=True):
    """A session's device that the host's default route is to go through."""

    name: str
    index: int
    metric: int


class HostDefaults:
    """What we have put into the host's own table; in the namespace of a socket."""

    def __init__(self, rtnl: Rtnl) -> None:
        self._rtnl = rtnl
        self._held: dict[int, Wish] = {}
        """By family."""
        self._in_the_way: set[tuple[int, int]] = set()
        """Families and metrics that somebody else has a default route with."""

    def holds(self, index: int) -> list[int]:
        """The families whose default route goes through a device."""
        return [family for family, held in self._held.items() if held.index == index]

    def follow(self, family: int, wish: Wish | None) -> str:
        """Have the default route of a family go through this device, or none of ours; a sentence if that is new.

        Raises RtnlError.
        """
        held = self._held.get(family)
        if wish == held:
            return ""
        if held is not None:
            del self._held[family]
            self._rtnl.do([host_default(False, family, held.index, held.metric)], _GONE)
        if wish is None:
            return f"This host's default route for {FAMILIES[family]} goes through no session any more."
        if not self._put(family, wish):
            if (family, wish.metric) in self._in_the_way:
                return ""
            self._in_the_way.add((family, wish.metric))
            text = f"This host has a default route for {FAMILIES[family]} of the metric {wish.metric} already"
            return f"{text}: there is none through {wish.name}. Choose another metric."
        self._held[family] = wish
        self._in_the_way.discard((family, wish.metric))
        return f"This host's default route for {FAMILIES[family]} goes through {wish.name}, metric {wish.metric}."

    def mend(self, index: int) -> bool:
        """Put back what goes through a device; whether anything was missing. Raises RtnlError."""
        requests = [host_default(True, family, index, self._held[family].metric) for family in self.holds(index)]
        return any([self._is_new(each) for each in requests])  # noqa: C419 - all of them

    def sweep(self, indexes: Iterable[int]) -> None:
        """Take away what an earlier process has left through one of these devices, and isn't asked for any more."""
        ours = {*indexes}
        for family in FAMILIES:
            for index, metric in [*self._found(family)]:
                held = self._held.get(family)
                if index in ours and (held is None or (held.index, held.metric) != (index, metric)):
                    self._rtnl.do([host_default(False, family, index, metric)], _GONE)

    def _put(self, family: int, wish: Wish) -> bool:
        """Whether it is there now, and ours."""
        if self._is_new(host_default(True, family, wish.index, wish.metric)):
            return True
        return (wish.index, wish.metric) in self._found(family)

    def _is_new(self, message: bytes) -> bool:
        try:
            self._rtnl.do([message])
        except RtnlError as error:
            if error.errno != errno.EEXIST:
                raise
            return False
        return True

    def _found(self, family: int) -> Iterator[tuple[int, int]]:
        """Device and metric of the default routes that are marked as ours."""
        question = packed(RTM_GETROUTE, NLM_F_DUMP, _ROUTE.pack(family, 0, 0, 0, MAIN, 0, 0, 0, 0))
        for body in self._rtnl.ask(question):
            _, length, _, _, table, protocol, _, _, _ = _ROUTE.unpack_from(body)
            if length == 0 and table == MAIN and protocol == PROTOCOL:
                found = attributes(body, _ROUTE.size)
                yield (
                    int.from_bytes(found.get(_OIF, b""), sys.byteorder),
                    int.from_bytes(found.get(_METRIC, b""), sys.byteorder),
                )


def is_host_default(body: bytes) -> bool:
    """Whether a message about a route is about a default route in the host's own table."""
    _, length, _, _, table, _, _, _, _ = _ROUTE.unpack_from(body)
    return bool(length == 0 and table == MAIN)
