"""Sources of IPv6 packets that are sessions', in tables for all of them: one of addresses, one of networks, a last one.

    unreachable default from 2001:db8::1        metric 4294967295
    default from 2001:db8::1 dev soup1          metric 1024

The first stands for as long as the address is confined, the second while its session has it. One rule leads to the
table of addresses, before all others of ours; what comes from nowhere in it goes on to those. To the table of networks
leads a rule for each network.

While a source is added the kernel may for a moment not find others in that table (fib6_add_1 shows a new node before
what is below it), and would go on to the host's own. So a rule behind all of ours leads to the last table, which says
for each source of either kind once more that there is no way, and is never changed at the same moment.

A table and rules for each session would say the same, but the kernel reads all tables of IPv6 whenever a device comes
or goes or a rule changes, also those that are empty: it never frees one. Pure: what to tell the kernel comes out.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import IPv6Address, IPv6Network

from engine.egress.requests import no_way_from, rule_request, way_from
from engine.egress.rule_tree import Rule

Source6 = IPv6Address | IPv6Network


class Sources:
    """Those of one instance, and whose they are: a session is told by the number of its table of IPv4."""

    def __init__(self, addresses: int, networks: int, last: int, preferences: tuple[int, int], nowhere: int) -> None:
        """The numbers of the tables, the preferences of the first rule and the last, and whose sources nobody's are."""
        self._addresses, self._networks, self._last, self._nowhere = addresses, networks, last, nowhere
        self._rules = Rule(preferences[1], table=last), Rule(preferences[0], table=addresses)
        self._holders: dict[Source6, int] = {}

    def holder(self, source: Source6) -> int | None:
        """Whose it is; None if it isn't confined."""
        return self._holders.get(source)

    def table(self, source: Source6) -> int:
        """The table where it is looked up."""
        return self._addresses if isinstance(source, IPv6Address) else self._networks

    def lead(self, source: Source6, holder: int) -> list[bytes]:
        """From now on nothing from there goes but by the holder's device."""
        is_first = not self._holders
        self._holders[source] = holder
        rules = [rule_request(True, socket.AF_INET6, rule, False) for rule in self._rules if is_first]
        return [*self._nowhere_from(source), *rules]

    def _nowhere_from(self, source: Source6, there: bool = True) -> list[bytes]:
        tables = (self.table(source), self._last)
        return [no_way_from(source, table, there) for table in (tables if there else tables[::-1])]

    def release(self, source: Source6) -> list[bytes]:
        """No session has it any more."""
        return self.lead(source, self._nowhere)

    def forget(self, source: Source6) -> list[bytes]:
        """It is looked up as anything else is."""
        if self._holders.pop(source, None) is None:
            return []
        rules = [rule_request(False, socket.AF_INET6, rule) for rule in self._rules if not self._holders]
        return [*rules, *self._nowhere_from(source, False)]

    def open(self, source: Source6, index: int, *, replace: bool = True) -> bytes:
        """What comes from there goes by this device."""
        return way_from(source, self.table(source), index, replace=replace)

    def shut(self, source: Source6, index: int) -> bytes:
        """It doesn't."""
        return way_from(source, self.table(source), index, there=False)

    def rules(self) -> Iterator[Rule]:
        """All that there must be."""
        if self._holders:
            yield from self._rules

    def walls(self) -> dict[tuple[Source6, int], bytes]:
        """What must be unreachable, by source and table: the requests that make it so."""
        return {
            (each, table): no_way_from(each, table)
            for each in self._holders
            for table in (self.table(each), self._last)
        }
