"""Routing rules by source address, as a tree: the kernel reads rules one after another, also for packets of others.

A few addresses are plain rules. More than FULL of them stand in rows of up to so many, behind rows of `goto` by the
next two bits of the address:

    10000: from 100.64.0.2 lookup T1        10000: from 64.0.0.0/2 goto 10002
    10000: from 100.64.0.3 lookup T2   →    10001: from all goto 13070
    …                                       10002: from 100.64.0.0/10 goto …
                                            …
                                            13068: from 100.64.0.2 lookup T1 …
                                            13070: from all nop

So a packet of the host's own meets a handful of rules, however many sessions there are. What finds nothing in a row
reads on in the next, where nothing is for it either, and leaves by the exit behind every few rows.

To add a rule the kernel reads all up to its place, and to delete one it reads all. So what new addresses come to stands
in front: rows of addresses are made from the end on backwards, the few rows of `goto` from the beginning on. And as few
rules as can be move: a row may be that of several prefixes, and when it is full it gives some of these away.

A `goto` leads forwards only, and rules of the same preference are read in the order in which they were added; of those
that differ in where they lead to alone, the kernel deletes the first. Pure: what to tell the kernel comes out.
"""

from __future__ import annotations

from bisect import bisect, insort
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate

from msgspec import Struct, field

FULL = 16
"""Addresses to a row."""
STEP = 2
"""Bits by which the rows below another one are told apart."""
EXIT = 2
"""Rows to an exit."""


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
    """Of what leads here alone, of a row with others below it."""
    tables: dict[int, int] = field(default_factory=dict)
    """By address."""
    below: dict[int, _Row] = field(default_factory=dict)
    """By the bits that follow this row's own; several may lead to the same row."""


class RuleTree:
    """The rules of one instance for addresses of one family."""

    def __init__(self, bits: int, first: int, last: int, full: int = FULL) -> None:
        """`bits` has an address; the rules' preferences are from `first` to `last`; a row holds up to `full`."""
        self._bits = bits
        self._full = full
        self._last = last
        self._root = _Row(first)
        self._places = range(first + 2, last)
        self._free = [each for each in self._places if self._exit_of(each) != each]
        """In order."""
        self._used: Counter[int] = Counter()
        """How many rows there are before each exit."""

    def lead(self, address: int, table: int) -> list[Step]:
        """Let what comes from an address be looked up in a table, and in no other from now on."""
        path = self._path(address)
        row = path[-1]
        former = row.tables.get(address)
        if former == table:
            return []
        steps: list[Step] = []
        if former is None:
            steps, row = self._make_room(address, path)
        row.tables[address] = table
        steps.append(Step(True, self._leaf(row, address, table)))
        if former is not None:
            steps.append(Step(False, self._leaf(row, address, former)))
        return steps

    def forget(self, address: int) -> list[Step]:
        """Let it be looked up as anything else is."""
        *path, row = self._path(address)
        table = row.tables.pop(address, None)
        if table is None:
            return []
        steps = [Step(False, self._leaf(row, address, table))]
        while path:
            above = path.pop()
            branch = self._branch(above, address)
            if row.below or branch in self._groups(above, row):
                break
            steps.append(Step(False, self._way_in(above, branch, above.below.pop(branch))))
            if not row.tables:
                steps += self._give_back(row)
            row = above
        if steps[1:] and row is self._root and not row.below:
            steps += [Step(False, self._way_out()), Step(False, Rule(self._last))]
        return steps

    def table(self, address: int) -> int | None:
        """Where what comes from an address is looked up, None if it has no rule."""
        return self._path(address)[-1].tables.get(address)

    def rules(self) -> Iterator[Rule]:
        """All that there must be, in an order in which they can be added."""
        if self._root.below:
            yield Rule(self._last)
            yield from (Rule(place, goto=self._last) for place in self._used)
        found, rows = [], [self._root]
        while rows:
            found.append(row := rows.pop())
            rows += {id(below): below for below in row.below.values()}.values()
        for row in reversed(found):
            yield from (self._leaf(row, address, table) for address, table in row.tables.items())
            yield from (self._way_in(row, branch, below) for branch, below in row.below.items())
        if self._root.below:
            yield self._way_out()

    def _path(self, address: int) -> list[_Row]:
        """From the first row to that where an address is, if it is anywhere."""
        row: _Row | None = self._root
        path = []
        while row is not None:
            path.append(row)
            row = row.below.get(self._branch(row, address)) if row.below and address not in row.tables else None
        return path

    def _branch(self, row: _Row, address: int) -> int:
        return (address >> max(self._bits - row.length - STEP, 0)) & ((1 << STEP) - 1)

    def _groups(self, above: _Row, row: _Row) -> dict[int, list[int]]:
        """The addresses in a row by the bits that lead there."""
        groups: dict[int, list[int]] = {}
        for address in row.tables:
            groups.setdefault(self._branch(above, address), []).append(address)
        return groups

    def _make_room(self, address: int, path: list[_Row]) -> tuple[list[Step], _Row]:
        """Have a row to which an address is led, with room for it; where no preference is left, without."""
        steps: list[Step] = []
        while True:
            row = path.pop()
            if row.below:
                branch = self._branch(row, address)
                more, below = self._open(row)
                if below is row:
                    return steps, row
                row.below[branch] = below
                return [*steps, *more, Step(True, self._way_in(row, branch, below))], below
            if len(row.tables) < self._full:
                return steps, row
            if not path:
                more = self._begin()
            elif len(groups := self._groups(path[-1], row)) > 1:
                more = self._divide(path[-1], row, groups)
            else:
                more = self._deepen(path[-1], row, *groups)
            if not more:
                return steps, row  # it gets longer than is good, but works
            steps += more
            path = self._path(address)

    def _begin(self) -> list[Step]:
        """Have the addresses that were plain rules in a row of their own, and the first of `goto` in their place."""
        root, place = self._root, self._last_free(self._root.preference, self._last)
        if place is None:
            return []
        row = _Row(place, tables=root.tables)
        former = [self._leaf(root, *each) for each in root.tables.items()]
        root.tables, root.below = {}, dict.fromkeys(self._groups(root, row), row)
        steps = [Step(True, Rule(self._last)), *self._take(place), *self._added(row)]
        steps += (Step(True, self._way_in(root, branch, row)) for branch in root.below)
        return [*steps, Step(True, self._way_out()), *(Step(False, rule) for rule in former)]

    def _open(self, above: _Row) -> tuple[list[Step], _Row]:
        """A row for addresses that none below this one is for: one with much room, a new one, or whichever there is."""
        rows = sorted((row for row in above.below.values() if not row.below), key=lambda row: len(row.tables))
        if rows and len(rows[0].tables) <= self._full // 2:
            return [], rows[0]
        place = self._last_free(above.preference, self._last)
        if place is None:
            return [], rows[0] if rows else above
        return self._take(place), _Row(place)

    def _divide(self, above: _Row, row: _Row, groups: dict[int, list[int]]) -> list[Step]:
        """Have a row give some of the prefixes that lead to it to a new one, up to half of what it has."""
        place = self._last_free(above.preference, self._last)
        if place is None:
            return []
        smallest_first = sorted(groups, key=lambda branch: len(groups[branch]))
        many = [*accumulate(len(groups[branch]) for branch in smallest_first)]
        moving = smallest_first[: max(bisect(many, len(row.tables) // 2), 1)]
        new = _Row(place)
        before = {each: row.tables.pop(each) for branch in moving for each in groups[branch]}
        new.tables.update(before)
        # Nothing is taken away before its new place can be reached.
        steps = self._take(place) + self._added(new)
        for branch in moving:
            steps += self._turn(above, branch, new)
        return [*steps, *(Step(False, self._leaf(row, *each)) for each in before.items())]

    def _deepen(self, above: _Row, row: _Row, branch: int) -> list[Step]:
        """Have addresses that one prefix leads to told apart by the bits that follow it."""
        length = above.length + STEP
        place = self._first_free(above.preference, row.preference)
        if place is None or length + STEP > self._bits:
            return []
        prefix = next(iter(row.tables)) >> (self._bits - length) << (self._bits - length)
        between = _Row(place, prefix, length)
        between.below = dict.fromkeys(self._groups(between, row), row)
        ways = (Step(True, self._way_in(between, each, row)) for each in between.below)
        return [*self._take(place), *ways, *self._turn(above, branch, between)]

    def _turn(self, above: _Row, branch: int, to: _Row) -> list[Step]:
        """Have a prefix lead to another row."""
        former = self._way_in(above, branch, above.below[branch])
        above.below[branch] = to
        return [Step(True, self._way_in(above, branch, to)), Step(False, former)]

    def _added(self, row: _Row) -> list[Step]:
        return [Step(True, self._leaf(row, *each)) for each in row.tables.items()]

    def _leaf(self, row: _Row, address: int, table: int) -> Rule:
        return Rule(row.preference, address, self._bits, table=table)

    def _way_in(self, above: _Row, branch: int, row: _Row) -> Rule:
        length = above.length + STEP
        return Rule(above.preference, above.prefix | branch << (self._bits - length), length, goto=row.preference)

    def _way_out(self) -> Rule:
        """Of those for whom nothing is here, right behind the first row."""
        return Rule(self._root.preference + 1, goto=self._last)

    # Preferences

    def _exit_of(self, place: int) -> int:
        """Where those go out who find nothing from here on."""
        behind = (place - self._places.start) % (EXIT + 1)
        return min(place - behind + EXIT, self._last)

    def _first_free(self, above: int, below: int) -> int | None:
        """The first free place between two preferences."""
        at = bisect(self._free, above)
        return self._free[at] if at < len(self._free) and self._free[at] < below else None

    def _last_free(self, above: int, below: int) -> int | None:
        """The last one."""
        at = bisect(self._free, below) - 1
        return self._free[at] if at >= 0 and self._free[at] > above else None

    def _take(self, place: int) -> list[Step]:
        """Have a place be a row's."""
        del self._free[bisect(self._free, place) - 1]
        place = self._exit_of(place)
        if place == self._last:
            return []
        self._used[place] += 1
        return [Step(True, Rule(place, goto=self._last))] if self._used[place] == 1 else []

    def _give_back(self, row: _Row) -> list[Step]:
        """It is no row's any more."""
        insort(self._free, row.preference)
        place = self._exit_of(row.preference)
        if place == self._last:
            return []
        self._used[place] -= 1
        if self._used[place]:
            return []
        del self._used[place]
        return [Step(False, Rule(place, goto=self._last))]


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
