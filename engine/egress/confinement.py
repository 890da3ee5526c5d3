"""What comes from a session's address, or bears its mark, leaves by its device or not at all: two layers, each enough.

1. Rules by source and by mark lead to the session's own routing table, before the host's main one. There the way
   through the device is the only one, and below it stands "unreachable", which is there also when the device isn't.
   Sources of IPv6 are told apart in one table for all sessions, in the same way (`engine.egress.by_source`).
2. An nftables table drops what has a session's address or mark and leaves by another device (`engine.egress.fence`).

A session's end doesn't end that: a program may still be sending. For GRACE seconds more the address leads to a table
without any way, and so it does from one run of the program to the next if the first was killed.

A mark is a session's whether that is up or not, and one that no session has any more leads nowhere until all ends.

No rule by device is needed: what is bound to a device the kernel itself sends through it or refuses. But IPv6 wants a
route for that, which no packet takes that isn't bound to the device: it stands in a table of its own, behind all of the
host's. Above it stands one for all else that no table of the host's has a way for. That goes to the host itself, from
::1, and is refused there: without it the kernel would choose a session's address as the source, and so the session.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from itertools import islice

from pyroute2.netlink import NLM_F_DUMP
from pyroute2.netlink.rtnl import RTM_GETROUTE, RTM_GETRULE
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from engine.datapath.own import Network
from engine.egress import marks
from engine.egress.by_source import Source6, Sources
from engine.egress.fence import Fence, Source
from engine.egress.instances import LAST_RULES, Instance
from engine.egress.marks import Mark, MarkTree
from engine.egress.requests import (
    goes_through,
    no_own_way,
    no_way_else,
    no_way_from,
    own_way,
    parse_barrier,
    parse_dead_end,
    parse_rule,
    parse_source,
    rule_request,
    undone,
    way_if_bound,
    way_through,
)
from engine.egress.rule_tree import NetworkRules, Rule, RuleTree, Step
from engine.egress.ways import way_from
from engine.host.rtnl import Rtnl, RtnlError, request
from engine.ppp.judge import Address

GRACE = 120.0
"""Seconds: twice as long as a closing TCP connection may take."""
FORGOTTEN = 64
"""Addresses and networks that are forgotten in one go: thousands of sessions may be lost at once."""

_NO_SUCH_FAMILY = (errno.EAFNOSUPPORT, errno.EOPNOTSUPP)
HARMLESS = (errno.ENOENT, errno.ESRCH, errno.EADDRNOTAVAIL, errno.EEXIST, errno.EACCES, *_NO_SUCH_FAMILY)
"""What is to be deleted is gone already, what is to be added is there, IPv6 is switched off or not there at all."""
_BITS = {socket.AF_INET: 32, socket.AF_INET6: 128}
_routes = {family: request(rtmsg, RTM_GETROUTE, NLM_F_DUMP, family=family) for family in _BITS}
_rules = {family: request(fibmsg, RTM_GETRULE, NLM_F_DUMP, family=family) for family in _BITS}


def family_of(source: Address | Network) -> socket.AddressFamily:
    """The address family."""
    return socket.AF_INET if source.version == 4 else socket.AF_INET6


def _families(source: Source) -> tuple[socket.AddressFamily, ...]:
    """Those that it has rules in: packets of both bear marks."""
    return tuple(_BITS) if isinstance(source, Mark) else (family_of(source),)


def _source(family: socket.AddressFamily, rule: Rule) -> Source:
    """What a rule is for: an address, a network, or a mark."""
    if (mark := marks.of(rule)) is not None:
        return mark
    if rule.length == _BITS[family]:
        return IPv4Address(rule.source) if family == socket.AF_INET else IPv6Address(rule.source)
    return ip_network((rule.source.to_bytes(_BITS[family] // 8, "big"), rule.length))


def _prefix(source: Address | Network) -> tuple[int, int]:
    """As a rule has it: its number, and how many bits of it count."""
    if isinstance(source, IPv4Network | IPv6Network):
        return int(source.network_address), source.prefixlen
    return int(source), source.max_prefixlen


def _alone(preference: int, source: Source, table: int) -> Rule:
    """One rule for it, out of any tree."""
    if isinstance(source, Mark):
        return marks.alone(preference, source, table)
    return Rule(preference, *_prefix(source), table=table)


def _in_order(source: Source) -> tuple[bool, int, int]:
    """As what comes one after another: see `engine.egress.rule_tree`."""
    return (True, source.number, 0) if isinstance(source, Mark) else (False, *_prefix(source))


def _end_first(rule: Rule) -> tuple[bool, int]:
    """In which order rules are deleted in the least time; see `Confinement._rules_undone`."""
    return rule.goto is None, rule.preference


def _requests(family: socket.AddressFamily, steps: list[Step]) -> list[bytes]:
    return [rule_request(step.add, family, step.rule) for step in steps]


def put(rtnl: Rtnl, request: bytes) -> bool:
    """Whether something was missing that is there now. Raises RtnlError."""
    try:
        rtnl.do([request])
    except RtnlError as error:
        if error.errno in HARMLESS:
            return False
        raise
    return True


class Confinement:
    """All addresses of one instance's sessions, in the calling thread's namespace; each step may raise RtnlError."""

    def __init__(self, rtnl: Rtnl, instance: Instance, now: float) -> None:
        """Take over what dead instances left. Raises RtnlError."""
        self._rtnl = rtnl
        self._instance = instance
        self._tree = RuleTree(_BITS[socket.AF_INET], instance.first_rule, instance.last_rule)
        """Of IPv4 addresses."""
        first_and_last = instance.source_rule, instance.no_source_rule
        tables = instance.by_source, instance.by_network, instance.no_source
        self._sources = Sources(*tables, first_and_last, instance.dead_end)
        """Those of IPv6, before all rules here, and nowhere behind them."""
        last = instance.last_rule
        self._networks = {family: NetworkRules(last, last + 1, instance.dead_end) for family in _BITS}
        """Behind the tree, whose ways out lead to the last of its rules."""
        self._marks = {family: MarkTree(instance.first_mark_rule, instance.last_mark_rule) for family in _BITS}
        """Behind those."""
        self._leading: dict[tuple[socket.AddressFamily, int], set[Source]] = {}
        """What is led to each session's table: as long as anything is, it says that there is no other way."""
        self._bound: dict[int, int] = {}
        """The indexes of devices by which IPv6 packets go that are bound to them, by their sessions' tables."""
        self._torn = False
        """Whether something had run out at the last change, so that rules and routes aren't as they must be."""
        self._left = self._parting = self._cleared = False
        self._dead_ends: set[socket.AddressFamily] = set()
        """Families that have the table without any way."""
        self._grace: dict[Source, float] = {}
        """Addresses and networks that no session has any more, and until when they are ours; in this order."""
        self._hosts: set[Address] = set()
        """Addresses that the host has got while a session had them."""
        self.has_ipv6 = self._tells_sources_apart()
        """Whether addresses of IPv6 can be confined."""
        self._fence = Fence(instance)
        self.obstacle = self._fence.obstacle
        """Why there is but one layer, in one line; empty if there are two."""
        self._take_over(now)

    def _tells_sources_apart(self) -> bool:
        """Whether the kernel knows routes of IPv6 by source, CONFIG_IPV6_SUBTREES: all that Debian has made do."""
        probe = IPv6Address("100::")  # of RFC 6666: nobody's
        try:
            self._rtnl.do([no_way_from(probe, self._instance.by_source)], HARMLESS)
        except RtnlError as error:
            return error.errno != errno.EINVAL
        self._rtnl.do([no_way_from(probe, self._instance.by_source, False)], HARMLESS)
        return True

    def open(self, addresses: Sequence[Address], table: int, index: int, first: Sequence[bytes] = ()) -> list[bytes]:
        """Confine addresses to a session, told by its table, and to the device with this index: nothing leaves so far.

        Returns the requests that then let it leave by the device. Those that come `first` go to the kernel at the same
        time as the first of ours, as each message costs.
        """
        walls, ways = [*first], []
        for address in addresses:
            self._grace.pop(address, None)
            self._hosts.discard(address)
            if isinstance(address, IPv6Address):
                walls += self._sources.lead(address, table)
                ways.append(self._sources.open(address, index))
            else:
                self._leading.setdefault((socket.AF_INET, table), set()).add(address)
                steps = self._tree.lead(int(address), table)
                walls += [no_way_else(socket.AF_INET, table), *_requests(socket.AF_INET, steps)]
                ways.append(way_through(socket.AF_INET, table, index))
        self._do(walls)
        if addresses:
            self._fence.open(addresses, index)
        return ways

    def open_device(self, index: int, table: int) -> list[bytes]:
        """Have IPv6 packets that are bound to a device find their way through it, and those with its session's mark.

        Returns the requests that let them.
        """
        family, by_device = socket.AF_INET6, self._instance.by_device
        if not self._bound:
            self._dead_ends.add(family)
            rules = [rule_request(True, family, rule, False) for rule in self._instance.by_device_rules]
            self._do([no_way_else(family, self._instance.dead_end), *rules])
            self._lead_to_self()
        self._bound[table] = index
        by_mark = [way_through(family, table, index)] if (family, table) in self._leading else []
        return [way_if_bound(by_device, index, table), *by_mark]

    def _lead_to_self(self) -> None:
        """What isn't bound and has no way; not where `lo` is down, or without ::1."""
        self._rtnl.do([own_way(self._instance.by_device)], (*HARMLESS, errno.ENETDOWN, errno.EINVAL, errno.ENODEV))

    def shut_device(self, index: int, table: int) -> None:
        """They don't any more."""
        if self._bound.get(table) == index and not self._parting:
            del self._bound[table]
            family, by_device = socket.AF_INET6, self._instance.by_device
            last = [rule_request(False, family, rule) for rule in self._instance.by_device_rules]
            last.append(no_own_way(by_device))
            by_mark = [way_through(family, table, index, there=False)] if (family, table) in self._leading else []
            self._do([way_if_bound(by_device, index, table, False), *by_mark, *(() if self._bound else last)])

    def open_network(self, network: Network, table: int, index: int, device: str) -> None:
        """Confine what is routed to a session likewise; of IPv4 as long as an address is in the session's table.

        What comes in by the `device` for a part of it that this host has no route to leads nowhere.
        """
        self._grace.pop(network, None)
        family = family_of(network)
        if family not in self._dead_ends:
            self._dead_ends.add(family)
            self._do([no_way_else(family, self._instance.dead_end)])
        if isinstance(network, IPv6Network):
            self._do([*self._sources.lead(network, table), self._sources.open(network, index)])
            table = self._sources.table(network)
        self._follow(family, self._networks[family].lead(_prefix(network), table, device))
        self._fence.open([network], index)

    def shut_network(self, network: Network, table: int, index: int, now: float) -> None:
        """It is not routed to the session with this table any more; before the address is shut."""
        if self._parting:
            return
        try:
            self._fence.shut(network, index)
        finally:
            if isinstance(network, IPv6Network):
                if self._sources.holder(network) == table:
                    try:
                        self._dead_end(network, now)
                    finally:
                        self._do([self._sources.shut(network, index), *self._sources.forget(network)])
            elif self._networks[socket.AF_INET].table(_prefix(network)) == table:
                self._dead_end(network, now)

    def shut(self, address: Address, table: int, index: int, now: float) -> None:
        """The session with this table has the address no more: for a while nothing leaves from there."""
        if self._parting and address not in self._hosts:
            return
        with ExitStack() as steps:  # each whatever becomes of the others, the last one here first
            if isinstance(address, IPv6Address):
                steps.callback(self._do, [self._sources.shut(address, index)])
            steps.callback(self._end, address, table, now)
            steps.callback(self._fence.shut, address, index)

    def _end(self, address: Address, table: int, now: float) -> None:
        try:
            if self._leads(address) == table:
                self._dead_end(address, now)
        finally:
            if isinstance(address, IPv4Address):
                self._leave(socket.AF_INET, table, address)
            if address in self._hosts:
                self.forget(address)

    def part(self) -> bool:
        """All sessions are about to end in good order, and `close` follows: what confines them stays till then.

        Whether `clear` may be called when they have ended: where there is no second layer to go on with, it may not.
        """
        self._parting = not self.obstacle
        return self._parting

    def keeps(self, addresses: Iterable[Address]) -> bool:
        """Whether to shut these does nothing, as all goes at once at the end."""
        return self._parting and self._hosts.isdisjoint(addresses)

    def clear(self, rtnl: Rtnl, devices: Collection[int]) -> None:
        """Take away the first layer, and all routes through these devices. The second one is enough till `close`.

        The kernel reads all rules, and all routes, for each device that goes. In any thread, by its own socket, as
        nothing is confined any more that isn't yet. Raises RtnlError.
        """
        for family in _BITS:
            rtnl.do(self._rules_undone(family), HARMLESS)
            routes, own = rtnl.ask(_routes[family]), self._instance.own_tables
            rtnl.do([undone(each) for each in routes if goes_through(each, own, devices)], (*HARMLESS, errno.ENODEV))
        self._cleared = True

    def _leads(self, address: Address) -> int | None:
        """To which session's table an address is led, or nowhere; None if it isn't confined."""
        if isinstance(address, IPv6Address):
            return self._sources.holder(address)
        return self._tree.table(int(address))

    def table6(self, source: Source6) -> int:
        """The table where it is looked up."""
        return self._sources.table(source)

    def hold_marks(self, marks: Iterable[Mark]) -> None:
        """Let nothing that bears one of these leave, by the second layer alone: that takes one step for all."""
        self._fence.hold_all(marks)

    def claim(self, mark: Mark, table: int) -> None:
        """Confine what bears a mark to the session with this table, from now on and whether it is up or not."""
        for family in _families(mark):
            self._leading.setdefault((family, table), set()).add(mark)
            self._do([no_way_else(family, table), *_requests(family, self._marks[family].lead(mark, table))])
        if table in self._bound:
            self._do([way_through(socket.AF_INET6, table, self._bound[table])])
        self._fence.hold(mark)

    def disclaim(self, mark: Mark, table: int) -> None:
        """That session has it no more: nothing that bears it leaves, until another one has it."""
        for family in _families(mark):
            if self._marks[family].table(mark) == table:
                self._lead_nowhere(family, mark)
            self._leave(family, table, mark)

    def open_mark(self, mark: Mark, index: int) -> None:
        """What bears it may leave by the device with this index."""
        self._fence.open([mark], index)

    def shut_mark(self, mark: Mark, index: int) -> None:
        """It may no more."""
        if not self._parting:
            self._fence.shut(mark, index)

    def leave_to_host(self, address: Address) -> None:
        """The host has an address itself now: it is ours no longer than a session has it. Raises RtnlError."""
        if self._leads(address) is not None:
            self._hosts.add(address)
        self.forget(address)

    @property
    def news(self) -> list[int]:
        """Descriptors that are readable when something has happened to the second layer."""
        return [self._fence.news.fileno()] if self._fence.news is not None else []

    def mend_rules(self) -> int:
        """Put back all rules that are missing; how many were. Raises RtnlError."""
        missing = 0
        for family in _BITS:
            wanted = [*self._rules(family)]
            if wanted:
                there = {parse_rule(body) for body in self._all_rules(family)}
                lost = [rule for rule in wanted if rule not in there]
                # Ways in come last, so that nobody is led to a row that is not whole.
                lost.sort(key=lambda rule: (rule.goto is not None, -rule.preference))
                self._do([rule_request(True, family, rule) for rule in lost])
                missing += len(lost)
        return missing

    def mend_fence(self) -> bool:
        """Put the second layer back if someone has been at it; whether that was so. Raises RtnlError."""
        mended = self._fence.look()
        self.obstacle = self._fence.obstacle
        return mended

    def mend(self, source: Address | IPv6Network, table: int, index: int, altered: bool) -> list[str]:
        """Put back the routes of a source in use; what was missing or `altered`, in words. Raises RtnlError."""
        if isinstance(source, IPv4Address):
            wall, way = no_way_else(socket.AF_INET, table), partial(way_through, socket.AF_INET, table, index)
        else:
            wall, way = self._sources.lead(source, table)[0], partial(self._sources.open, source, index)
        wanted = (("its unreachable default route", wall), ("its default route", way(replace=False)))
        found = [what for what, request in wanted if put(self._rtnl, request)]
        if isinstance(source, IPv6Address) and self._bound.get(table) == index:
            self._lead_to_self()
            if put(self._rtnl, way_if_bound(self._instance.by_device, index, table)):
                found.append("its way for what is bound to it")
        if altered and not found and isinstance(source, Address) and way_from(self._rtnl, source) != index:
            self._do([way()])
            found.append("its default route")
        return found

    def mend_end(self, table: int) -> bool:
        """Put back what is in the table of a session with a mark; whether it was missing."""
        wanted = [no_way_else(family, table) for family in _BITS if (family, table) in self._leading]
        if (socket.AF_INET6, table) in self._leading and table in self._bound:
            wanted.append(way_through(socket.AF_INET6, table, self._bound[table], replace=False))
        return any([put(self._rtnl, request) for request in wanted])  # noqa: C419 - all of them

    def mend_shared(self, sources: Iterable[Source6] | None) -> set[int]:
        """Put back that these, or all, have no other way, and what else is in no session's own table.

        Returns the tables of the sessions that have any of these. Raises RtnlError.
        """
        if self._bound:
            self._lead_to_self()
        walls = self._sources.walls()
        wanted = (source for source, _ in walls) if sources is None else sources
        tables = {source: table for source in wanted if (table := self._sources.holder(source)) is not None}
        self._do([no_way_else(family, self._instance.dead_end) for family in self._dead_ends])
        self._do([wall for (source, _), wall in walls.items() if source in tables])
        return {table for table in tables.values() if table != self._instance.dead_end}

    def hold(self, network: Network, now: float) -> None:
        """Nothing leaves from what is routed to a session before it is up either. Does nothing for one in use."""
        if self._networks[family_of(network)].table(_prefix(network)) is None:
            self._dead_end(network, now)
            self._fence.hold(network)

    def tidy(self, now: float, theirs: Callable[[], Collection[Source]]) -> bool:
        """Forget what its time is over, FORGOTTEN at most; whether there is more.

        Not what is `theirs` still, of sessions: hosts behind never stop sending.
        """
        with suppress(RtnlError):  # then later
            self._fence.heal()
            self._heal()
        over = [source for source, until in islice(self._grace.items(), FORGOTTEN) if until <= now]
        kept = theirs() if any(not isinstance(source, IPv4Address) for source in over) else ()
        for source in over:
            if source in kept:
                del self._grace[source]
                self._grace[source] = now + GRACE  # the last one now
        self._forget([source for source in over if source not in kept])
        return len(over) == FORGOTTEN

    def forget(self, source: Source) -> None:
        """Leave what no session has to the host; does nothing for others."""
        if source in self._grace:
            self._forget([source])

    def _forget(self, sources: Iterable[Source]) -> None:
        """The same of several, each of which is in its grace: in one step, as each is a transaction of the kernel's."""
        gone = [source for source in sources if not isinstance(source, Mark)]
        requests: list[bytes] = []
        for source in gone:
            del self._grace[source]
            family = family_of(source)
            if isinstance(source, IPv4Network | IPv6Network):
                requests += _requests(family, self._networks[family].forget(_prefix(source)))
            elif isinstance(source, IPv6Address):
                requests += self._sources.forget(source)
            else:
                requests += _requests(family, self._tree.forget(int(source)))
        try:
            self._do(requests)
        finally:
            self._fence.forget(gone)

    def leave(self) -> None:
        """`close` leaves all of it as it is: another process takes it over."""
        self._left = True

    def close(self) -> None:
        """Take all of it away, that of sessions and that of addresses whose time is not over."""
        if self._left:
            self._fence.leave()
            return
        if not self._cleared:
            self._undo()
        self._fence.close()

    def _undo(self) -> None:
        for family in _BITS:
            ends = {table for each, table in self._leading if each == family}
            if family in self._dead_ends:
                ends.add(self._instance.dead_end)
            rules = self._rules_undone(family)
            self._rtnl.do([*rules, *(no_way_else(family, table, False) for table in ends)], HARMLESS)
        self._rtnl.do([no_way_from(*each, False) for each in self._sources.walls()], HARMLESS)
        if self._bound:
            self._rtnl.do([no_own_way(self._instance.by_device)], HARMLESS)

    def _rules(self, family: socket.AddressFamily) -> Iterator[Rule]:
        """All that there must be."""
        yield from (self._sources if family == socket.AF_INET6 else self._tree).rules()
        yield from self._networks[family].rules()
        yield from self._marks[family].rules()
        if family == socket.AF_INET6 and self._bound:
            yield from self._instance.by_device_rules

    def _rules_undone(self, family: socket.AddressFamily) -> list[bytes]:
        """The requests that delete all of them.

        The kernel looks for each from the first rule on, and as long as there is any `goto` also through all rules for
        one that leads to it: so these go first, and the others in the kernel's own order.
        """
        return [rule_request(False, family, rule) for rule in sorted(self._rules(family), key=_end_first)]

    def _leave(self, family: socket.AddressFamily, table: int, source: Source) -> None:
        """This is led to a table no more; if nothing is, that need say nothing."""
        leading = self._leading.get((family, table), set())
        leading.discard(source)
        if not leading:
            self._leading.pop((family, table), None)
            self._do([no_way_else(family, table, False)])

    def _dead_end(self, source: Address | Network, now: float) -> None:
        self._grace[source] = now + GRACE
        self._lead_nowhere(family_of(source), source)

    def _lead_nowhere(self, family: socket.AddressFamily, source: Source) -> None:
        self._do(self._ways_nowhere(family, source))

    def _ways_nowhere(self, family: socket.AddressFamily, source: Source) -> list[bytes]:
        """The requests that lead it there."""
        if isinstance(source, IPv6Address):
            return self._sources.release(source)
        nowhere = self._instance.dead_end
        if isinstance(source, Mark):
            steps = self._marks[family].lead(source, nowhere)
        elif isinstance(source, IPv4Address):
            steps = self._tree.lead(int(source), nowhere)
        else:
            steps = self._networks[family].lead(_prefix(source), nowhere)
        first = [] if family in self._dead_ends else [no_way_else(family, nowhere)]
        self._dead_ends.add(family)
        return [*first, *_requests(family, steps)]

    def _follow(self, family: socket.AddressFamily, steps: list[Step]) -> None:
        self._do(_requests(family, steps))

    def _do(self, requests: list[bytes]) -> None:
        """What isn't done because something has run out is made up for by `_heal`. Raises RtnlError."""
        try:
            self._rtnl.do(requests, HARMLESS)
        except RtnlError:
            self._torn = True
            raise

    def _heal(self) -> None:
        """Have all rules and dead ends that there must be, and no others. Raises RtnlError."""
        if not self._torn:
            return
        self._do([no_way_else(family, self._instance.dead_end) for family in self._dead_ends])
        self.mend_rules()
        for family in _BITS:
            wanted = {*self._rules(family)}
            there = filter(None, map(parse_rule, self._all_rules(family)))
            surplus = [rule for rule in there if self._instance.owns(rule) and rule not in wanted]
            self._do([rule_request(False, family, rule) for rule in surplus])
            used = {rule.table for rule in wanted} | {self._instance.dead_end if family in self._dead_ends else None}
            ends = map(parse_dead_end, self._all_routes(family))
            unused = {each for each in ends if each in self._instance.own_tables} - used
            self._do([no_way_else(family, table, False) for table in unused if table is not None])
        walls = self._sources.walls()
        self._do([*walls.values()])
        own = {self._instance.by_source, self._instance.by_network, self._instance.no_source}
        found = {*filter(None, map(parse_source, self._barriers()))} - walls.keys()
        self._do([no_way_from(source, table, False) for source, table in found if table in own])
        self._torn = False

    # What dead instances left

    def _take_over(self, now: float) -> None:
        """Their addresses are ours for a while, and their rules and tables gone. No address is free in between.

        Where there is the second layer, that is enough in between: rules before those that go, and before those that
        come, would be read for each of these.
        """
        stale = {family: list(self._stale_rules(family)) for family in _BITS}
        # Of IPv6 all that leads nowhere, as far as it was a dead instance's.
        stale6 = [*filter(self._is_stale, self._barriers() if stale[socket.AF_INET6] else ())]
        sources = {*self._fence.inherited}
        for family, rules in stale.items():
            leading = [rule for rule in rules if rule.table is not None and rule.preference < LAST_RULES]
            sources.update(_source(family, rule) for rule in leading if rule.length or rule.mask)
        sources.update(found[0] for found in map(parse_source, stale6) if found is not None)
        if not sources and not any(stale.values()):
            return
        self._fence.hold_all(sources)
        for family, rules in stale.items():
            mine = sorted((each for each in sources if family in _families(each)), key=_in_order)
            for source in mine:
                if isinstance(source, IPv6Address):  # the one table has room for it beside what is there
                    self._dead_end(source, now)
                    self._fence.hold(source)
            mine = [each for each in mine if not isinstance(each, IPv6Address)]
            self._rtnl.do([no_way_else(family, self._instance.dead_end)] if mine else [], HARMLESS)
            # The dead instance's rules may stand where ours will, but never before these.
            dead_end = self._instance.dead_end
            bridged = mine if self._fence.obstacle else []
            bridge = [_alone(self._instance.first_rule - 1, each, dead_end) for each in bridged]
            # One that was killed on this way has left some of them.
            there = {*rules} if bridge else set()
            self._rtnl.do([rule_request(True, family, rule) for rule in bridge if rule not in there], HARMLESS)
            tables = {rule.table for rule in rules if rule.table not in (None, dead_end) and not rule.within}
            kept = {*bridge, *(self._sources.rules() if family == socket.AF_INET6 else ())}
            going = sorted((rule for rule in rules if rule not in kept), key=_end_first)
            self._rtnl.do([rule_request(False, family, rule) for rule in going], HARMLESS)
            if family == socket.AF_INET6:
                walls = self._sources.walls()
                self._rtnl.do([undone(body) for body in stale6 if parse_source(body) not in walls], HARMLESS)
            else:
                self._rtnl.do([no_way_else(family, table, False) for table in tables if table is not None], HARMLESS)
            self._grace.update((each, now + GRACE) for each in mine if not isinstance(each, Mark))
            self._do([request for each in mine for request in self._ways_nowhere(family, each)])
            self._rtnl.do([rule_request(False, family, rule) for rule in bridge], HARMLESS)

    def _barriers(self) -> list[bytes]:
        """All routes of IPv6 that are ours, of any instance, and lead nowhere."""
        return [body for body in self._all_routes(socket.AF_INET6) if parse_barrier(body) is not None]

    def _is_stale(self, body: bytes) -> bool:
        """Whether such a route is a dead instance's, or our own before we have any; but not in our dead end."""
        table = parse_barrier(body)
        return table is not None and self._instance.inherits_table(table) and table != self._instance.dead_end

    def _all_routes(self, family: socket.AddressFamily) -> list[bytes]:
        return self._rtnl.ask(_routes[family])

    def _all_rules(self, family: socket.AddressFamily) -> list[bytes]:
        try:
            return self._rtnl.ask(_rules[family])
        except RtnlError as error:
            if error.errno not in _NO_SUCH_FAMILY:
                raise
            return []

    def _stale_rules(self, family: socket.AddressFamily) -> Iterator[Rule]:
        for body in self._all_rules(family):
            rule = parse_rule(body)
            if rule is not None and self._instance.inherits(rule):
                yield rule
