"""The second of two layers: an nftables table that drops what has a session's address and leaves by another device.

It stands whatever becomes of rules and routes, and outlives a killed program until the next start takes it over. A
lookup in a set costs the host's other packets the same, however many addresses are in it.

The table is looked at twice on a packet's way out: before its source is translated, as a masquerade on another card
would hide it, and after, as a translation may have made it a session's.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address

from engine.egress.instances import MAX_INSTANCES, Instance
from engine.host.nft import (
    NEWS,
    Message,
    Nft,
    compare,
    count,
    drop,
    field,
    load_meta,
    load_network,
    look_up,
    message,
    nest,
)
from engine.host.rtnl import RtnlError
from engine.ppp.judge import Address

TABLE = "souppp"
SOURCES, WAYS = "sources", "ways"
"""Sets: the addresses that sessions have or had; each of those in use with the device it may leave by."""

_POSTROUTING = 4
_BEFORE_TRANSLATION, _AFTER_TRANSLATION = -300, 300
_OIF, _OIFTYPE, _NFPROTO = 5, 9, 15
_LOOPBACK = struct.pack("=H", 772)
_AT_ONCE = 500
"""Elements to a message, whose length has 16 bits."""

_IFINDEX = 20
"""As nft(8) knows the kind of a set's keys: a list of kinds, six bits each."""
_FAMILIES: tuple[tuple[type[Address], str, bytes, int, int, int], ...] = (
    (IPv4Address, "4", b"\x02", 12, 4, 7),
    (IPv6Address, "6", b"\x0a", 8, 16, 8),
)
"""Its class, its sets' suffix, its NFPROTO, where its source is and how long, the kind of such a key."""


def _name(instance: int) -> str:
    return f"{TABLE}{instance or ''}"


def _suffix(address: Address) -> str:
    return "4" if isinstance(address, IPv4Address) else "6"


def _way(address: Address, index: int) -> bytes:
    return address.packed + index.to_bytes(4, sys.byteorder)


class Fence:
    """The table of one instance, in the calling thread's namespace."""

    def __init__(self, instance: Instance) -> None:
        """Take over what dead instances left, in one step; `obstacle` says why there is no table, if so."""
        self.obstacle = ""
        self.inherited: list[Address] = []
        """Addresses that dead instances' sessions had."""
        self._table = _name(instance.number)
        self._sources: set[Address] = set()
        self._ways: set[tuple[Address, int]] = set()
        self._nft: Nft | None = None
        self.news: Nft | None = None
        """Tells of changes, and is read by `look`; None where there is no nftables at all."""
        try:
            self._nft, self.news = Nft(), Nft(NEWS)
            dead = {_name(number) for number in range(MAX_INSTANCES)}.intersection(self._nft.tables())
            dead = {name for name in dead if instance.is_dead(int(name.removeprefix(TABLE) or "0"))}
            for name in dead:
                for _, suffix, _, _, length, _ in _FAMILIES:
                    keys = self._nft.elements(name, SOURCES + suffix)
                    self.inherited += (ip_address(key) for key in keys if len(key) == length)
            self._sources.update(self.inherited)
            others = [message(Message.DELTABLE, field(1, name)) for name in dead - {self._table}]
            self._nft.commit([*self._whole(), *others])
        except OSError as error:
            self._without(error)

    def hold(self, address: Address) -> None:
        """From now on packets with this source leave by no device that isn't opened to them."""
        if address not in self._sources:
            self._sources.add(address)
            self._change(self._elements(Message.NEWSETELEM, SOURCES + _suffix(address), [address.packed]))

    def open(self, address: Address, index: int) -> None:
        """From now on packets with this source leave by this device or not at all."""
        self._sources.add(address)
        self._ways.add((address, index))
        self._change(
            self._elements(Message.NEWSETELEM, SOURCES + _suffix(address), [address.packed]),
            self._elements(Message.NEWSETELEM, WAYS + _suffix(address), [_way(address, index)]),
        )

    def shut(self, address: Address, index: int) -> None:
        """From now on they leave by no device."""
        if (address, index) in self._ways:
            self._ways.discard((address, index))
            self._change(self._elements(Message.DELSETELEM, WAYS + _suffix(address), [_way(address, index)]))

    def forget(self, address: Address) -> None:
        """They are no concern of ours any more."""
        if address in self._sources:
            self._sources.discard(address)
            self._change(self._elements(Message.DELSETELEM, SOURCES + _suffix(address), [address.packed]))

    def close(self) -> None:
        """Take the table away."""
        if self._nft is not None:
            with suppress(OSError):
                self._nft.commit([message(Message.DELTABLE, field(1, self._table))])
        for each in (self._nft, self.news):
            if each is not None:
                each.close()
        self._nft = self.news = None

    def look(self) -> bool:
        """Put the table back if someone has been at it; whether that was so."""
        if self.news is None or not self.news.news_of(self._table, self._nft.port if self._nft is not None else 0):
            return False
        self.restore()
        return self._nft is not None

    def restore(self) -> None:
        """Make it anew as it must be, in one step."""
        if self._nft is not None:
            try:
                self._nft.commit(self._whole())
            except OSError as error:
                self._without(error)

    def _change(self, *batch: bytes) -> None:
        if self._nft is not None:
            try:
                self._nft.commit(batch)
            except RtnlError:  # someone has been at it
                self.restore()

    def _without(self, error: OSError) -> None:
        self.obstacle = (
            f"No nftables ({error.strerror}): routing rules alone keep sessions' packets from leaving by another card."
        )
        if self._nft is not None:
            self._nft.close()
            self._nft = None

    # What is said to the kernel

    def _elements(self, what: Message, name: str, keys: Iterable[bytes]) -> bytes:
        elements = (nest(1, nest(1, field(1, key))) for key in keys)
        return message(what, field(1, self._table), field(2, name), nest(3, *elements))

    def _whole(self) -> list[bytes]:
        """The table in place of any that there is."""
        table = field(1, self._table)
        batch = [message(Message.NEWTABLE, table), message(Message.DELTABLE, table), message(Message.NEWTABLE, table)]
        for number, (_, suffix, _, _, length, kind) in enumerate(_FAMILIES):
            sizes = ((SOURCES, length, kind), (WAYS, length + 4, kind << 6 | _IFINDEX))
            for which, (name, size, kinds) in enumerate(sizes):
                key = field(4, kinds) + field(5, size) + field(10, 1 + 2 * number + which)
                batch.append(message(Message.NEWSET, table, field(2, name + suffix), field(3, 0), key))
        for name, priority in (("before", _BEFORE_TRANSLATION), ("after", _AFTER_TRANSLATION)):
            hook = nest(4, field(1, _POSTROUTING), field(2, priority & 0xFFFFFFFF))
            batch.append(message(Message.NEWCHAIN, table, field(3, name), hook, field(7, "filter")))
            for _, suffix, family, offset, length, _ in _FAMILIES:
                rule = _rule(suffix, family, offset, length)
                batch.append(message(Message.NEWRULE, table, field(2, name), nest(4, *rule)))
        for of, suffix, *_ in _FAMILIES:
            sources = [address.packed for address in self._sources if isinstance(address, of)]
            ways = [_way(address, index) for address, index in self._ways if isinstance(address, of)]
            for name, keys in ((SOURCES, sources), (WAYS, ways)):
                for start in range(0, len(keys), _AT_ONCE):
                    some = keys[start : start + _AT_ONCE]
                    batch.append(self._elements(Message.NEWSETELEM, name + suffix, some))
        return batch


def _rule(suffix: str, family: bytes, offset: int, length: int) -> list[bytes]:
    """Drop what has a source in the one set, and that with its device isn't in the other; but not on its way to lo."""
    after_address = 8 + length // 4
    return [
        load_meta(_NFPROTO, 1),
        compare(1, family),
        load_network(offset, length, 1),
        look_up(SOURCES + suffix, 1),
        load_meta(_OIF, after_address),
        look_up(WAYS + suffix, 1, there=False),
        load_meta(_OIFTYPE, 2),
        compare(2, _LOOPBACK, equal=False),
        count(),
        drop(),
    ]
