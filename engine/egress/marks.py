"""Routing rules by mark: the tree of `rule_tree`, but marks are told apart by their last bits first, as they are given
out in order. A packet without a mark meets two rules, however many marks there are:

    13072: fwmark 0 goto 14094
    13073: fwmark 0x5001 lookup T1 …, or fwmark 0x1/0x3 goto …
    14094: from all nop

Pure: what to tell the kernel comes out.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from engine.egress.rule_tree import Rule, RuleTree, Step

BITS = 32
FULL = 64
"""Marks to a row: only packets with a mark read it."""
_ALL = (1 << BITS) - 1


class Mark(Struct, frozen=True):
    """What a packet bears that is to leave by one session: SO_MARK, or set by a firewall; never 0."""

    number: int


class MarkTree:
    """The rules of one instance for marks, of one family."""

    def __init__(self, first: int, last: int) -> None:
        """The rules' preferences are from `first` to `last`; where both are one, packets without a mark read all."""
        guarded = last > first
        self._guard = [Rule(last), Rule(first, mask=_ALL, goto=last)] if guarded else []
        self._tree = RuleTree(BITS, first + guarded, last - guarded, FULL)
        self._many = 0

    def lead(self, mark: Mark, table: int) -> list[Step]:
        """Let what bears a mark be looked up in a table, and in no other from now on."""
        known = self.table(mark) is not None
        guard = [Step(True, rule) for rule in self._guard if not self._many]
        self._many += not known
        return [*guard, *map(_step, self._tree.lead(_reversed(mark.number), table))]

    def forget(self, mark: Mark) -> list[Step]:
        """Let it be looked up as anything else is."""
        if self.table(mark) is None:
            return []
        self._many -= 1
        steps = [*map(_step, self._tree.forget(_reversed(mark.number)))]
        return steps if self._many else [*steps, *(Step(False, rule) for rule in reversed(self._guard))]

    def table(self, mark: Mark) -> int | None:
        """Where what bears a mark is looked up, None if it has no rule."""
        return self._tree.table(_reversed(mark.number))

    def rules(self) -> Iterator[Rule]:
        """All that there must be, in an order in which they can be added."""
        if self._many:
            yield from self._guard
            yield from map(_by_mark, self._tree.rules())


def of(rule: Rule) -> Mark | None:
    """What a rule is for, if it leads one mark to a table."""
    return Mark(rule.mark) if rule.table is not None and rule.mask == _ALL else None


def alone(preference: int, mark: Mark, table: int) -> Rule:
    """A rule for one mark, out of any tree."""
    return Rule(preference, table=table, mark=mark.number, mask=_ALL)


def _reversed(number: int) -> int:
    return int(f"{number:0{BITS}b}"[::-1], 2)


def _by_mark(rule: Rule) -> Rule:
    """A rule of the tree, whose prefixes are marks' last bits."""
    mask = (1 << rule.length) - 1
    return Rule(rule.preference, table=rule.table, goto=rule.goto, mark=_reversed(rule.source), mask=mask)


def _step(step: Step) -> Step:
    return Step(step.add, _by_mark(step.rule))
