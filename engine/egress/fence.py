"""The second of two layers: an nftables table that drops what has a session's address or mark and leaves by another
device.

It stands whatever becomes of rules and routes, and outlives a killed program until the next start takes it over. A
lookup in a set costs the host's other packets the same, however many addresses are in it.

The table is looked at twice on a packet's way out: before its source is translated, as a masquerade on another card
would hide it, and after, as a translation may have made it a session's.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, summarize_address_range

from engine.datapath.own import Network
from engine.egress.instances import MAX_INSTANCES, Instance
from engine.egress.marks import Mark
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
from engine.host.rtnl import SHORTAGES, RtnlError
from engine.ppp.judge import Address

Source = Address | Network | Mark

TABLE = "souppp"
SOURCES, WAYS = "sources", "ways"
"""Sets: the addresses that sessions have or had; each of those in use with the device it may leave by."""
NETWORKS, NETWORK_WAYS = "networks", "networkways"
"""The same of networks. The first has all devices in its keys: the kernel has ranges of several fields or none."""

MARKS, MARK_WAYS = "marks", "markways"
"""The same of marks."""

_POSTROUTING = 4
_BEFORE_TRANSLATION, _AFTER_TRANSLATION = -300, 300
_MARK, _OIF, _OIFTYPE, _NFPROTO = 3, 5, 9, 15
_LOOPBACK = struct.pack("=H", 772)
_INTERVAL, _CONCATENATED = 0x4, 0x80
"""Flags of a set."""
_ANY_DEVICE = bytes(4), b"\xff" * 4
_LINK = IPv6Network("fe80::/10"), IPv6Network("ff02::/16")
"""In both sets of IPv6 networks, with all devices: neighbours are looked for by any address, on any link."""
_AT_ONCE = 500
"""Elements to a message, whose length has 16 bits."""

_MARK_KIND, _IFINDEX = 19, 20
"""As nft(8) knows the kind of a set's keys: a list of kinds, six bits each."""
_FAMILIES: tuple[tuple[type[Address], str, bytes, int, int, int], ...] = (
    (IPv4Address, "4", b"\x02", 12, 4, 7),
    (IPv6Address, "6", b"\x0a", 8, 16, 8),
)
"""Its class, its sets' suffix, its NFPROTO, where its source is and how long, the kind of such a key."""


def table_of(instance: int) -> str:
    """The name of an instance's table."""
    return f"{TABLE}{instance or ''}"


def _source_element(source: Source) -> tuple[str, bytes]:
    """The set that it is to be in, and the element."""
    if isinstance(source, Mark):
        return MARKS, nest(1, nest(1, field(1, _here(source.number))))
    if isinstance(source, IPv4Network | IPv6Network):
        return f"{NETWORKS}{source.version}", _range(source, *_ANY_DEVICE)
    return f"{SOURCES}{source.version}", nest(1, nest(1, field(1, source.packed)))


def _way_element(source: Source, index: int) -> tuple[str, bytes]:
    device = _here(index)
    if isinstance(source, Mark):
        return MARK_WAYS, nest(1, nest(1, field(1, _here(source.number) + device)))
    if isinstance(source, IPv4Network | IPv6Network):
        return f"{NETWORK_WAYS}{source.version}", _range(source, device, device)
    return f"{WAYS}{source.version}", nest(1, nest(1, field(1, source.packed + device)))


def _here(number: int) -> bytes:
    return number.to_bytes(4, sys.byteorder)


def _range(network: Network, first: bytes, last: bytes) -> bytes:
    """An element from a network's first address and a device to its last one and another."""
    return nest(1, nest(1, field(1, network[0].packed + first)), nest(10, field(1, network[-1].packed + last)))


def _is_network(source: Source) -> bool:
    return isinstance(source, IPv4Network | IPv6Network)


class Fence:
    """The table of one instance, in the calling thread's namespace."""

    def __init__(self, instance: Instance) -> None:
        """Take over what dead instances left, in one step; `obstacle` says why there is no table, if so."""
        self.obstacle = ""
        self.inherited: list[Source] = []
        """What dead instances' sessions had."""
        self._table = table_of(instance.number)
        self._sources: set[Source] = set()
        self._ways: set[tuple[Source, int]] = set()
        self._with_networks = False
        """Whether the table has any: without, the host's packets aren't looked at for them."""
        self._with_marks = False
        """Likewise."""
        self._torn = False
        """Whether something had run out at the last change, so that the table isn't as it must be."""
        self._nft: Nft | None = None
        self.news: Nft | None = None
        """Tells of changes, and is read by `look`; None where there is no nftables at all."""
        try:
            self._nft, self.news = Nft(), Nft(NEWS)
            self.news.hear_others_only(self._nft.port)
            dead = {table_of(number) for number in range(MAX_INSTANCES)}.intersection(self._nft.tables())
            dead = {name for name in dead if instance.is_dead(int(name.removeprefix(TABLE) or "0"))}
            for name in dead:
                marks = self._nft.elements(name, MARKS)
                self.inherited += (Mark(int.from_bytes(key, sys.byteorder)) for key in marks)
                for _, suffix, _, _, length, _ in _FAMILIES:
                    keys = self._nft.elements(name, SOURCES + suffix)
                    self.inherited += (ip_address(key) for key in keys if len(key) == length)
                    for first, last in self._nft.ranges(name, NETWORKS + suffix):
                        self.inherited += (
                            each for each in _between(first[:length], last[:length]) if each not in _LINK
                        )
            self._sources.update(self.inherited)
            others = [message(Message.DELTABLE, field(1, name)) for name in dead - {self._table}]
            self._nft.commit([*self._whole(), *others])
        except OSError as error:
            self._without(error)

    def hold(self, source: Source) -> None:
        """From now on packets from there leave by no device that isn't opened to them."""
        if source not in self._sources:
            self._sources.add(source)
            self._put([source], [_source_element(source)])

    def hold_all(self, sources: Iterable[Source]) -> None:
        """The same of many, in one step."""
        before = len(self._sources)
        self._sources.update(sources)
        if len(self._sources) > before:
            self.restore()

    def open(self, sources: Sequence[Source], index: int) -> None:
        """From now on packets from there leave by this device or not at all; from a network also to itself.

        In one step, as each is a transaction of the kernel's.
        """
        self._sources.update(sources)
        self._ways.update((source, index) for source in sources)
        self._put(sources, [*map(_source_element, sources), *(_way_element(source, index) for source in sources)])

    def shut(self, source: Source, index: int) -> None:
        """From now on they leave by no device."""
        if (source, index) in self._ways:
            self._ways.discard((source, index))
            self._change(self._elements(Message.DELSETELEM, *_way_element(source, index)))

    def forget(self, sources: Iterable[Source]) -> None:
        """These are no concern of ours any more."""
        gone = self._sources.intersection(sources)
        self._sources -= gone
        if gone:
            self._change(*(self._elements(Message.DELSETELEM, *_source_element(source)) for source in gone))

    def close(self) -> None:
        """Take the table away."""
        if self._nft is not None:
            with suppress(OSError):
                self._nft.commit([message(Message.DELTABLE, field(1, self._table))])
        self.leave()

    def leave(self) -> None:
        """Let go of the table and leave it as it is."""
        for each in (self._nft, self.news):
            if each is not None:
                each.close()
        self._nft = self.news = None

    def look(self) -> bool:
        """Put the table back if someone has been at it; whether that was so.

        Where more has happened than could be heard, as when a thousand sessions come up at once, it is made anew in any
        case, and only what its sets lack is taken for someone's doing.
        """
        if self.news is None:
            return False
        touched = self.news.news_of(self._table, self._nft.port if self._nft is not None else 0)
        if self._nft is None:
            return False
        if touched is None:
            touched = not self._holds_all(self._nft)
        elif not touched:
            return False
        self.restore()
        return touched and self._nft is not None

    def _holds_all(self, nft: Nft) -> bool:
        there = {key for _, suffix, *_ in _FAMILIES for key in nft.elements(self._table, SOURCES + suffix)}
        marks = {_here(source.number) for source in self._sources if isinstance(source, Mark)}
        return there.issuperset(
            source.packed for source in self._sources if not isinstance(source, Network | Mark)
        ) and marks.issubset(nft.elements(self._table, MARKS))

    def restore(self) -> None:
        """Make it anew as it must be, in one step. Raises RtnlError where something has run out, which passes."""
        if self._nft is not None:
            self._torn = True
            try:
                self._nft.commit(self._whole())
            except OSError as error:
                if error.errno in SHORTAGES:
                    raise
                self._without(error)
            self._torn = False

    def heal(self) -> None:
        """Make up for what couldn't be done when something had run out. Raises RtnlError."""
        if self._torn:
            self.restore()

    def _put(self, sources: Iterable[Source], elements: Iterable[tuple[str, bytes]]) -> None:
        if self._torn or any(map(self._lacks_set, sources)):
            self.restore()
        else:
            self._change(*(self._elements(Message.NEWSETELEM, *each) for each in elements))

    def _lacks_set(self, source: Source) -> bool:
        if isinstance(source, IPv4Address | IPv6Address):
            return False
        return not (self._with_marks if isinstance(source, Mark) else self._with_networks)

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

    def _elements(self, what: Message, name: str, *elements: bytes) -> bytes:
        return message(what, field(1, self._table), field(2, name), nest(3, *elements))

    def _whole(self) -> list[bytes]:
        """The table in place of any that there is."""
        self._with_networks = any(map(_is_network, self._sources))
        self._with_marks = any(isinstance(source, Mark) for source in self._sources)
        table = field(1, self._table)
        batch = [message(Message.NEWTABLE, table), message(Message.DELTABLE, table), message(Message.NEWTABLE, table)]
        for number, (_, suffix, _, _, length, kind) in enumerate(_FAMILIES):
            sizes = ((SOURCES, length, kind), (WAYS, length + 4, kind << 6 | _IFINDEX))
            for which, (name, size, kinds) in enumerate(sizes):
                key = field(4, kinds) + field(5, size) + field(10, 1 + 2 * number + which)
                batch.append(message(Message.NEWSET, table, field(2, name + suffix), field(3, 0), key))
            for which, name in enumerate((NETWORKS, NETWORK_WAYS) if self._with_networks else ()):
                key = field(4, kind << 6 | _IFINDEX) + field(5, length + 4) + field(10, 9 + 2 * number + which)
                fields = nest(9, nest(2, *(nest(1, field(1, size)) for size in (length, 4))))
                flags = field(3, _INTERVAL | _CONCATENATED)
                batch.append(message(Message.NEWSET, table, field(2, name + suffix), flags, key, fields))
        if self._with_marks:
            for which, (name, size, kinds) in enumerate(
                ((MARKS, 4, _MARK_KIND), (MARK_WAYS, 8, _MARK_KIND << 6 | _IFINDEX))
            ):
                key = field(4, kinds) + field(5, size) + field(10, 13 + which)
                batch.append(message(Message.NEWSET, table, field(2, name), field(3, 0), key))
        for name, priority in (("before", _BEFORE_TRANSLATION), ("after", _AFTER_TRANSLATION)):
            hook = nest(4, field(1, _POSTROUTING), field(2, priority & 0xFFFFFFFF))
            batch.append(message(Message.NEWCHAIN, table, field(3, name), hook, field(7, "filter")))
            for _, suffix, family, offset, length, _ in _FAMILIES:
                rules = [_rule(suffix, family, offset, length)]
                if self._with_networks:
                    rules.append(_network_rule(suffix, family, offset, length))
                batch += (message(Message.NEWRULE, table, field(2, name), nest(4, *rule)) for rule in rules)
            if self._with_marks:
                batch.append(message(Message.NEWRULE, table, field(2, name), nest(4, *_mark_rule())))
        by_set: dict[str, list[bytes]] = {}
        if self._with_networks:
            link = [_range(network, *_ANY_DEVICE) for network in _LINK]
            by_set = {f"{NETWORKS}6": [*link], f"{NETWORK_WAYS}6": [*link]}
        for name, element in (*map(_source_element, self._sources), *(_way_element(*way) for way in self._ways)):
            by_set.setdefault(name, []).append(element)
        for name, elements in by_set.items():
            for start in range(0, len(elements), _AT_ONCE):
                batch.append(self._elements(Message.NEWSETELEM, name, *elements[start : start + _AT_ONCE]))
        return batch


def _between(first: bytes, last: bytes) -> Iterable[Network]:
    return summarize_address_range(ip_address(first), ip_address(last))


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


def _mark_rule() -> list[bytes]:
    """The same of marks; what bears none is looked at no further."""
    return [
        load_meta(_MARK, 1),
        compare(1, bytes(4), equal=False),
        look_up(MARKS, 1),
        load_meta(_OIF, 9),
        look_up(MARK_WAYS, 1, there=False),
        load_meta(_OIFTYPE, 2),
        compare(2, _LOOPBACK, equal=False),
        count(),
        drop(),
    ]


def _network_rule(suffix: str, family: bytes, offset: int, length: int) -> list[bytes]:
    """The same of networks. Packets from one to one may go anywhere: it may lie behind this host."""
    after_address = 8 + length // 4
    return [
        load_meta(_NFPROTO, 1),
        compare(1, family),
        load_network(offset, length, 1),
        load_meta(_OIF, after_address),
        look_up(NETWORKS + suffix, 1),
        look_up(NETWORK_WAYS + suffix, 1, there=False),
        load_network(offset + length, length, 1),
        look_up(NETWORKS + suffix, 1, there=False),
        load_meta(_OIFTYPE, 2),
        compare(2, _LOOPBACK, equal=False),
        count(),
        drop(),
    ]
