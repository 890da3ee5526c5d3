"""Sources of IPv6 packets that are sessions', in two tables for all sessions: one of addresses, one of networks.

    unreachable default from 2001:db8::1        metric 4294967295
    default from 2001:db8::1 dev soup1          metric 1024

The first stands for as long as the address is confined, the second while its session has it. One rule leads to the
table of addresses, before all others of ours; what comes from nowhere in it goes on to those. To the table of networks
leads a rule for each network.

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

    def __init__(self, addresses: int, networks: int, preference: int, nowhere: int) -> None:
        """The numbers of the tables, the preference of the rule, and whose sources are that no session has."""
        self._addresses, self._networks, self._nowhere = addresses, networks, nowhere
        self._rule = Rule(preference, table=addresses)
        self._holders: dict[Source6, int] = {}
        self._many = 0
        """Addresses."""

    def holder(self, source: Source6) -> int | None:
        """Whose it is; None if it isn't confined."""
        return self._holders.get(source)

    def table(self, source: Source6) -> int:
        """The table where it is looked up."""
        return self._addresses if isinstance(source, IPv6Address) else self._networks

    def lead(self, source: Source6, holder: int) -> list[bytes]:
        """From now on nothing from there goes but by the holder's device."""
        is_first = isinstance(source, IPv6Address) and not self._many
        self._many += isinstance(source, IPv6Address) and source not in self._holders
        self._holders[source] = holder
        rules = [rule_request(True, socket.AF_INET6, self._rule, False)] if is_first else []
        return [no_way_from(source, self.table(source)), *rules]

    def release(self, source: Source6) -> list[bytes]:
        """No session has it any more."""
        return self.lead(source, self._nowhere)

    def forget(self, source: Source6) -> list[bytes]:
        """It is looked up as anything else is."""
        if self._holders.pop(source, None) is None:
            return []
        self._many -= isinstance(source, IPv6Address)
        is_last = isinstance(source, IPv6Address) and not self._many
        rules = [rule_request(False, socket.AF_INET6, self._rule)] if is_last else []
        return [*rules, no_way_from(source, self.table(source), False)]

    def open(self, source: Source6, index: int, *, replace: bool = True) -> bytes:
        """What comes from there goes by this device."""
        return way_from(source, self.table(source), index, replace=replace)

    def shut(self, source: Source6, index: int) -> bytes:
        """It doesn't."""
        return way_from(source, self.table(source), index, there=False)

    def rules(self) -> Iterator[Rule]:
        """All that there must be."""
        if self._many:
            yield self._rule

    def walls(self) -> dict[tuple[Source6, int], bytes]:
        """What must be unreachable, by source and table: the requests that make it so."""
        return {(each, self.table(each)): no_way_from(each, self.table(each)) for each in self._holders}
