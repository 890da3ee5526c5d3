"""Which addresses are this host's own, asked of the kernel for one address at a time: no list gets out of date."""

from __future__ import annotations

import select
import socket
import struct

from engine.host.rtnl import SHORTAGES, Rtnl, RtnlError, attribute, packed
from engine.proxy.exits import Address

# linux/rtnetlink.h
_GETROUTE = 26
_ROUTE = struct.Struct("=BBBBBBBBI")
_DST = 1
_UNICAST = 1
_REFUSING = (6, 7, 8)
"""Routes of the types blackhole, unreachable and prohibit: they tell whom the host doesn't reach, not who it is."""


_ADDRESSES_AND_ROUTES = 0x10 | 0x40 | 0x100 | 0x400
"""The groups of notifications, of IPv4 and IPv6."""
MOST_KNOWN = 4096


class OwnAddresses:
    """A container of all of them, and of broadcast addresses of its networks.

    What the kernel said of an address holds until it tells of a change of any address or route.
    """

    def __init__(self) -> None:
        """Raises RtnlError."""
        self._rtnl = Rtnl()
        self._changes = Rtnl(_ADDRESSES_AND_ROUTES)
        self._told = select.poll()
        """Asked first: where nothing is told, and that is nearly always, it costs a third of an attempt to read."""
        self._told.register(self._changes, select.POLLIN)
        self._known: dict[bytes, bool] = {}
        """By the address as it is on the wire, which is hashed in a tenth of the time."""

    def __contains__(self, address: object) -> bool:
        assert isinstance(address, Address)
        if (self._told.poll(0) and self._changes.news() != []) or len(self._known) >= MOST_KNOWN:
            self._known.clear()
        octets = address.packed
        known = self._known.get(octets)
        if known is None:
            known = self._known[octets] = self._ask(address)
        return known

    def _ask(self, address: Address) -> bool:
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        fixed = _ROUTE.pack(family, address.max_prefixlen, 0, 0, 0, 0, 0, 0, 0)
        try:
            (answer,) = self._rtnl.ask(packed(_GETROUTE, 0, fixed + attribute(_DST, address.packed)))
        except RtnlError as error:
            return error.errno in SHORTAGES  # then it could be
        return _ROUTE.unpack_from(answer)[7] not in (_UNICAST, *_REFUSING)

    def close(self) -> None:
        """Nobody asks any more."""
        self._rtnl.close()
        self._changes.close()
