"""The tree of routing rules, by a model of how the kernel reads them."""

from __future__ import annotations

import random
from bisect import bisect_left, insort
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from engine.egress.rule_tree import FULL, MAIN, NetworkRules, Rule, RuleTree, Step

FIRST, LAST = 10000, 13070
"""Of an instance: see `engine.egress.instances`."""


def _without_goto(rule: Rule) -> Rule:
    """What the kernel compares when it looks for the one to delete."""
    return replace(rule, goto=None if rule.goto is None else 0)


class Kernel:
    """Rules as the kernel keeps and reads them."""

    def __init__(self, bits: int) -> None:
        self.bits = bits
        self.rules: list[Rule] = []
        self._there: set[Rule] = set()

    def do(self, step: Step) -> None:
        if step.add:
            assert step.rule not in self._there
            self._there.add(step.rule)
            insort(self.rules, step.rule, key=lambda rule: rule.preference)  # behind those of the same preference
        else:
            self._there.remove(step.rule)
            like = [rule for rule in self.rules if _without_goto(rule) == _without_goto(step.rule)]
            assert like[0] == step.rule, "the kernel would delete another one"
            self.rules.remove(step.rule)

    def look_up(self, source: int) -> tuple[int | None, int]:
        """The table that a packet is led to, None if it goes on to the host's own, and how many rules it met."""
        met, at = 0, 0
        while at < len(self.rules):
            rule = self.rules[at]
            met, at = met + 1, at + 1
            if rule.length and (source ^ rule.source) >> (self.bits - rule.length):
                continue
            if rule.table is not None:
                return rule.table, met
            if rule.goto is not None:
                assert rule.goto > rule.preference
                at = bisect_left(self.rules, rule.goto, key=lambda each: each.preference)
                assert self.rules[at].preference == rule.goto
        return None, met


@settings(max_examples=15)
@given(
    st.sampled_from((32, 128)),
    st.lists(
        st.tuples(st.integers(0, 60), st.one_of(st.none(), st.integers(1, 3)), st.booleans()), min_size=20, max_size=80
    ),
)
def test_every_address_is_led_at_every_moment(bits: int, changes: list[tuple[int, int | None, bool]]) -> None:
    """Addresses lie close together, or far apart."""
    tree, kernel = RuleTree(bits, FIRST, LAST), Kernel(bits)
    wanted: dict[int, int] = {}
    for number, table, far in changes:
        address = number << (bits - 6) if far else (1 << (bits - 2)) + number
        steps = tree.forget(address) if table is None else tree.lead(address, table)
        for step in steps:
            kernel.do(step)
            for other, its in wanted.items():
                assert other == address or kernel.look_up(other)[0] == its
            if address in wanted and table is not None:
                assert kernel.look_up(address)[0] in (wanted[address], table)
        wanted.pop(address, None)
        if table is not None:
            wanted[address] = table
        assert {each: kernel.look_up(each)[0] for each in wanted} == wanted
        assert all(tree.table(each) == its for each, its in wanted.items())
        assert kernel.look_up(5 << (bits - 8))[0] == wanted.get(5 << (bits - 8))
        assert sorted(tree.rules(), key=str) == sorted(kernel.rules, key=str)
    for address in wanted:
        for step in tree.forget(address):
            kernel.do(step)
    assert kernel.rules == []


@pytest.mark.parametrize("spread", ["one after another", "at random"])
def test_ten_thousand_are_in_nobodys_way(spread: str) -> None:
    """Other packets meet as many rules with 10,000 addresses as with 100, and those of sessions not many more."""
    chance = random.Random(1)
    pool = (0x64400002 + n for n in range(10_000))
    addresses = list(pool) if spread == "one after another" else [chance.getrandbits(32) for _ in range(10_000)]
    tree, kernel = RuleTree(32, FIRST, LAST), Kernel(32)
    for address in addresses:
        tree.lead(address, 7)
    for rule in tree.rules():
        kernel.do(Step(True, rule))
    others = [chance.getrandbits(32) for _ in range(300)]
    met = [kernel.look_up(each)[1] for each in others]
    assert max(met) <= (12 if spread == "one after another" else 60), "the tree is as deep as there are sessions nearby"
    assert all(kernel.look_up(each)[0] == 7 for each in addresses[::97])
    assert max(kernel.look_up(each)[1] for each in addresses[::97]) <= 32 + 5 * 16


@pytest.mark.parametrize("spread", ["one after another", "every 256th", "of a pool", "at random"])
def test_sixteen_thousand_fit(spread: str) -> None:
    """Into the preferences that an instance has; what is left over makes rows a few rules longer."""
    tree = RuleTree(32, FIRST, LAST)
    for address in _addresses(spread):
        tree.lead(address, 7)
    rows = Counter(rule.preference for rule in tree.rules() if rule.table is not None)
    assert rows.total() == 16_000
    assert max(rows.values()) <= (FULL if spread in ("one after another", "every 256th") else FULL + 8)


@pytest.mark.parametrize("spread", ["one after another", "every 256th"])
def test_what_comes_in_order_stays_where_it_is_and_near_the_front(spread: str) -> None:
    """The kernel reads all rules before a new one, and all there are for each that it deletes."""
    tree, there, read = RuleTree(32, FIRST, LAST), list[int](), 0
    for number, address in enumerate(_addresses(spread)):
        for step in tree.lead(address, 7):
            at = bisect_left(there, step.rule.preference + step.add)
            if step.add:
                there.insert(at, step.rule.preference)
                read += at
            else:
                del there[at]
                assert number == FULL or step.rule.goto is not None
                read += len(there)
    assert read < 16_000 * 16_000 / 12


def _addresses(spread: str) -> list[int]:
    chance = random.Random(1)
    if spread == "at random":
        return [chance.getrandbits(32) for _ in range(16_000)]
    if spread == "of a pool":
        return [0x64400000 + each for each in chance.sample(range(1 << 16), 16_000)]
    return [0x64400002 + each * (1 if spread == "one after another" else 256) for each in range(16_000)]


def test_a_few_are_plain_rules() -> None:
    tree = RuleTree(32, FIRST, LAST)
    steps = [step for address in range(FULL) for step in tree.lead(address, 100 + address)]
    assert steps == [Step(True, Rule(FIRST, address, 32, table=100 + address)) for address in range(FULL)]


def test_without_preferences_left_rows_get_long() -> None:
    tree = RuleTree(32, FIRST, FIRST + 4)
    for address in range(1000):
        tree.lead(address << 22, 1)
    assert all(tree.table(address << 22) == 1 for address in range(1000))
    assert {rule.preference for rule in tree.rules()} <= set(range(FIRST, FIRST + 5))


def test_a_network_has_two_rules_in_their_order_and_none_after() -> None:
    network, other = (0xCB007108, 29), (0xC6336400, 24)
    rules = NetworkRules(LAST - 1, LAST, 99)
    inner = Rule(LAST - 1, *network, table=MAIN, within=True)
    assert rules.lead(network, 7) == [Step(True, inner), Step(True, Rule(LAST, *network, table=7))]
    assert rules.lead(network, 7) == []
    assert len(rules.lead(other, 8)) == 2
    assert rules.lead(network, 9) == [
        Step(True, Rule(LAST, *network, table=9)),
        Step(False, Rule(LAST, *network, table=7)),
    ], "there is no moment without a table"
    assert (rules.table(network), rules.table(other), rules.table((0, 8))) == (9, 8, None)
    assert rules.forget(network) == [Step(False, Rule(LAST, *network, table=9)), Step(False, inner)]
    assert rules.forget(network) == []
    assert [rule.source for rule in rules.rules()] == [other[0]] * 2


def test_what_comes_in_for_a_network_goes_where_it_is_or_nowhere() -> None:
    network, other = (0xCB007108, 29), (0xC6336400, 24)
    rules = NetworkRules(LAST - 1, LAST, 99)
    inside = [
        Rule(LAST - 1, *network, table=MAIN, within=True, arriving="soup1"),
        Rule(LAST, *network, table=99, arriving="soup1"),
    ]
    steps = rules.lead(network, 7, "soup1")
    assert [step.rule for step in steps if step.rule.arriving] == inside
    assert all(step.add for step in steps)
    assert rules.lead(other, 8) == [Step(True, rule) for rule in rules.rules() if rule.source == other[0]]
    down = rules.lead(network, 99)
    assert [step.rule for step in down if not step.add] == [*reversed(inside), Rule(LAST, *network, table=7)]
    assert [step.rule for step in down if step.add] == [Rule(LAST, *network, table=99)]
