"""Routing rules by source address, as a tree: the kernel reads rules one after another, also for packets of others.

A row of rules holds up to FULL addresses. When it gets more, those with the same next two bits move to a row of their
own, and one `goto` by that prefix takes their place:

    10000: from 100.64.0.2 lookup T1        10000: from 64.0.0.0/2 goto 10002
    10000: from 100.64.0.3 lookup T2   →    10001: from all goto 14095
    …                                       10002: from 100.64.0.2 lookup T1 …
                                            10003: from all goto 14095
                                            14095: from all nop

So a packet of the host's own meets a handful of rules, however many sessions there are. A `goto` leads forwards only,
and rules of the same preference are read in the order in which they were added. The last rule is where all who find
nothing go on from. Pure: what to tell the kernel comes out.
"""

from __future__ import annotations

from bisect import bisect, insort
from collections.abc import Iterator

from msgspec import Struct, field

FULL = 16
"""Addresses to a row."""
STEP = 2
"""Bits by which the rows below another one are told apart."""


class Rule(Struct, frozen=True):
    """One rule."""

    preference: int
    source: int = 0
    length: int = 0
    """Of the prefix that the source must have, in bits; 0 for all."""
    table: int | None = None
    """Where to look a route up …"""
    goto: int | None = None
    """… or the preference to go on from; without either, it does nothing."""
    within: bool = False
    """For packets to the same prefix only, and not by a default route."""
    arriving: str = ""
    """For packets that come in by this device: `source` is where they go to then, not where they come from."""
    mark: int = 0
    """What those of the packet's mark's bits must be that are set in `mask`."""
    mask: int = 0


class Step(Struct, frozen=True):
    """A rule to be added or deleted."""

    add: bool
    rule: Rule


class _Row(Struct):
    preference: int
    prefix: int = 0
    length: int = 0
    tables: dict[int, int] = field(default_factory=dict)
    """By address."""
    below: dict[int, _Row] = field(default_factory=dict)
    """By the bits that follow this row's own."""


class RuleTree:
    """The rules of one instance for addresses of one family."""

    def __init__(self, bits: int, first: int, last: int, full: int = FULL) -> None:
        """`bits` has an address; the rules' preferences are from `first` to `last`; a row holds up to `full`."""
        self._bits = bits
        self._full = full
        self._last = last
        self._root = _Row(first)
        self._free = [*range(first + 2, last - 1, 2)]
        """In order. A row takes two preferences: one for its rules, one for the way out."""

    def lead(self, address: int, table: int) -> list[Step]:
        """Let what comes from an address be looked up in a table, and in no other from now on."""
        row = self._row_of(address)
        former = row.tables.get(address)
        if former == table:
            return []
        row.tables[address] = table
        steps = [Step(True, self._leaf(row, address, table))]
        if former is not None:
            steps.append(Step(False, self._leaf(row, address, former)))
        return steps + self._split(row)

    def forget(self, address: int) -> list[Step]:
        """Let it be looked up as anything else is."""
        path = [self._root]
        while (below := path[-1].below.get(self._branch(path[-1], address))) is not None:
            path.append(below)
        row = path[-1]
        table = row.tables.pop(address, None)
        if table is None:
            return []
        steps = [Step(False, self._leaf(row, address, table))]
        while len(path) > 1 and not path[-1].tables and not path[-1].below:
            empty = path.pop()
            del path[-1].below[self._branch(path[-1], empty.prefix)]
            steps += [Step(False, self._way_in(path[-1], empty)), Step(False, self._way_out(empty))]
            insort(self._free, empty.preference)
        if len(path) == 1 and not self._root.below and len(steps) > 1:
            steps += [Step(False, self._way_out(self._root)), Step(False, Rule(self._last))]
        return steps

    def table(self, address: int) -> int | None:
        """Where what comes from an address is looked up, None if it has no rule."""
        return self._row_of(address).tables.get(address)

    def rules(self) -> Iterator[Rule]:
        """All that there must be, in an order in which they can be added."""
        if self._root.below:
            yield Rule(self._last)
        rows = [(self._root, self._root)]
        while rows:
            above, row = rows.pop()
            yield from (self._leaf(row, address, table) for address, table in row.tables.items())
            if row.below or row is not self._root:
                yield self._way_out(row)
            if row is not self._root:
                yield self._way_in(above, row)
            rows += [(row, below) for below in row.below.values()]

    def _row_of(self, address: int) -> _Row:
        row = self._root
        while (below := row.below.get(self._branch(row, address))) is not None:
            row = below
        return row

    def _branch(self, row: _Row, address: int) -> int:
        return (address >> max(self._bits - row.length - STEP, 0)) & ((1 << STEP) - 1)

    def _split(self, row: _Row) -> list[Step]:
        """Take the most of what a row has too many to a row below it, and so on there."""
        start, before = row, dict(row.tables)
        first = row is self._root and not row.below
        made: list[tuple[_Row, _Row]] = []
        while len(row.tables) > self._full and row.length + STEP < self._bits:
            at = bisect(self._free, row.preference)
            if at == len(self._free):
                break  # it gets longer than is good, but works
            preference = self._free.pop(at)
            groups: dict[int, list[int]] = {}
            for address in row.tables:
                groups.setdefault(self._branch(row, address), []).append(address)
            branch, moving = max(groups.items(), key=lambda group: len(group[1]))
            length = row.length + STEP
            prefix = moving[0] >> (self._bits - length) << (self._bits - length)
            row.below[branch] = _Row(preference, prefix, length, {each: row.tables.pop(each) for each in moving})
            made.append((row, row.below[branch]))
            row = row.below[branch]
        # Nothing is taken away before its new place can be reached.
        added = [Rule(self._last), self._way_out(start)] if made and first else []
        for _, below in made:
            added += [self._leaf(below, address, table) for address, table in below.tables.items()]
            added.append(self._way_out(below))
        added += [self._way_in(above, below) for above, below in reversed(made)]
        gone = [self._leaf(start, address, table) for address, table in before.items() if address not in start.tables]
        return [*(Step(True, rule) for rule in added), *(Step(False, rule) for rule in gone)]

    def _leaf(self, row: _Row, address: int, table: int) -> Rule:
        return Rule(row.preference, address, self._bits, table=table)

    def _way_in(self, row: _Row, below: _Row) -> Rule:
        return Rule(row.preference, below.prefix, below.length, goto=below.preference)

    def _way_out(self, row: _Row) -> Rule:
        return Rule(row.preference + 1, goto=self._last)


MAIN = 254
"""The host's own routing table, RT_TABLE_MAIN."""


class NetworkRules:
    """The rules of one instance for networks that are routed to sessions, of one family.

    What comes from such a network is looked up in a session's table; but what goes to the same network in the host's
    own table before, without its default routes: the network may lie behind this host, on a card of its own. What
    comes in by the session for a part of it that is on no card leads nowhere: a host that forwards would send it on.
    """

    def __init__(self, within: int, others: int, nowhere: int) -> None:
        """The preferences of the rules that each network has, and the table without any way."""
        self._within, self._others, self._nowhere = within, others, nowhere
        self._tables: dict[tuple[int, int], tuple[int, str]] = {}

    def lead(self, network: tuple[int, int], table: int, device: str = "") -> list[Step]:
        """Let what comes from a network, its address and the length of its prefix, be looked up in a table.

        `device` is by which what is for the network comes in, if anything does.
        """
        former = [*self._rules(network, *self._tables[network])] if network in self._tables else []
        self._tables[network] = table, device
        wanted = [*self._rules(network, table, device)]
        gone = [Step(False, rule) for rule in reversed(former) if rule not in wanted]
        return [*(Step(True, rule) for rule in wanted if rule not in former), *gone]

    def forget(self, network: tuple[int, int]) -> list[Step]:
        """Let it be looked up as anything else is."""
        if network not in self._tables:
            return []
        rules = [*self._rules(network, *self._tables.pop(network))]
        return [Step(False, rule) for rule in reversed(rules)]

    def table(self, network: tuple[int, int]) -> int | None:
        """Where what comes from a network is looked up, None if it has no rule."""
        return self._tables[network][0] if network in self._tables else None

    def rules(self) -> Iterator[Rule]:
        """All that there must be, in an order in which they can be added."""
        for network, (table, device) in self._tables.items():
            yield from self._rules(network, table, device)

    def _rules(self, network: tuple[int, int], table: int, device: str) -> Iterator[Rule]:
        yield Rule(self._within, *network, table=MAIN, within=True)
        yield Rule(self._others, *network, table=table)
        if device:
            yield Rule(self._within, *network, table=MAIN, within=True, arriving=device)
            yield Rule(self._others, *network, table=self._nowhere, arriving=device)
