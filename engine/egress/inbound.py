"""An nftables table that lets into a session with `inbound: closed` only answers to what the host has begun.

It is owned by our socket: nobody else can change or flush it, and the kernel takes it away when the process dies. It is
made when the first such session is: connections are tracked from then on, which costs the host's other packets too.
"""

from __future__ import annotations

import struct
import sys

from engine.egress.instances import Instance
from engine.host.errors import HostError
from engine.host.nft import (
    Message,
    Nft,
    accept,
    compare,
    count,
    drop,
    field,
    load_connection,
    load_meta,
    look_up,
    mask,
    message,
    nest,
)
from engine.host.rtnl import RtnlError

TABLE = "souppp_inbound"
_DEVICES, _CHAIN = "devices", "before"
_OWNED = 2
"""NFT_TABLE_F_OWNER."""
_IFINDEX, _AS_HERE = 20, struct.pack("=BBI", 0, 4, 1)
"""As nft(8) knows the kind of a set's keys, and their order of octets."""
_PREROUTING, _AFTER_TRACKING = 0, -150
_IIF, _L4PROTO = 4, 16
_ICMPV6 = b"\x3a"
_STATE = 0
_ANSWERS, _UNTRACKED = 1 << 1 | 1 << 2, 1 << 6
"""Bits of a connection's state: established and related; what the kernel tracks not at all, as messages of ICMPv6 about
neighbours and listeners."""


class Inbound:
    """The table of one instance, in the calling thread's namespace."""

    def __init__(self, instance: Instance) -> None:
        self._table = f"{TABLE}{instance.number or ''}"
        self._nft: Nft | None = None

    def obstacle(self) -> str:
        """Why it can't be had, in a few words; empty if it can, and is there then."""
        if self._nft is None:
            try:
                self._nft = Nft()
                self._nft.commit(self._whole())
            except OSError as error:
                self.close()
                return f"no nftables with connection tracking ({error.strerror})"
        return ""

    def shut(self, index: int) -> None:
        """Let nothing in by a device, from now on, that the host hasn't begun. Raises HostError."""
        if reason := self.obstacle():
            raise HostError(f"`inbound: closed` is not to be had: {reason}.")
        try:
            self._change(Message.NEWSETELEM, index)
        except RtnlError as error:
            raise HostError(f"`inbound: closed` is not to be had: {error.strerror}.") from None

    def forget(self, index: int) -> None:
        """The device is gone. Raises RtnlError."""
        self._change(Message.DELSETELEM, index)

    def close(self) -> None:
        """Let the table go."""
        if self._nft is not None:
            self._nft.close()
            self._nft = None

    def _change(self, what: Message, index: int) -> None:
        if self._nft is not None:
            element = nest(1, nest(1, field(1, index.to_bytes(4, sys.byteorder))))
            self._nft.commit([message(what, field(1, self._table), field(2, _DEVICES), nest(3, element))])

    def _whole(self) -> list[bytes]:
        table = field(1, self._table)
        key = field(4, _IFINDEX) + field(5, 4) + field(10, 1) + field(13, _AS_HERE)
        hook = nest(4, field(1, _PREROUTING), field(2, _AFTER_TRACKING & 0xFFFFFFFF))
        by_the_device = [load_meta(_IIF, 1), look_up(_DEVICES, 1)]
        of_neighbours = [*by_the_device, load_meta(_L4PROTO, 1), compare(1, _ICMPV6), *_state_has(_UNTRACKED), accept()]
        all_else = [*by_the_device, *_state_has(_ANSWERS, False), count(), drop()]
        return [
            message(Message.NEWTABLE, table, field(2, _OWNED)),
            message(Message.NEWSET, table, field(2, _DEVICES), field(3, 0), key),
            message(Message.NEWCHAIN, table, field(3, _CHAIN), hook, field(7, "filter")),
            *(
                message(Message.NEWRULE, table, field(2, _CHAIN), nest(4, *rule))
                for rule in (all_else, of_neighbours)  # each is put before those that are there
            ),
        ]


def _state_has(bits: int, there: bool = True) -> list[bytes]:
    """Go on if a packet's connection has any of these states, or has none."""
    return [
        load_connection(_STATE, 1),
        mask(1, struct.pack("=I", bits)),
        compare(1, bytes(4), equal=not there),
    ]
