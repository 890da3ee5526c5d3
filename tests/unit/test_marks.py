"""Rules by mark, by a model of how the kernel reads them; and which mark is whose."""

from __future__ import annotations

from bisect import bisect_left, insort
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.api.commands import Edit, Remove
from engine.egress.instances import MARK_RULES
from engine.egress.marks import Mark, MarkTree
from engine.egress.rule_tree import Rule, Step
from engine.settings.limits import MAX_MARK, MAX_SESSIONS
from engine.settings.reading import ConfigError, parse
from engine.settings.values import Marks, Settings
from tests.unit.supervisor.world import World, session

FIRST, LAST = 13072, 13072 + MARK_RULES - 2


class Kernel:
    """Rules as the kernel keeps and reads them."""

    def __init__(self) -> None:
        self.rules: list[Rule] = []
        self._there: set[Rule] = set()

    def do(self, steps: list[Step]) -> None:
        for step in steps:
            if step.add:
                assert step.rule not in self._there
                self._there.add(step.rule)
                insort(self.rules, step.rule, key=lambda rule: rule.preference)
            else:
                self._there.remove(step.rule)
                self.rules.remove(step.rule)

    def look_up(self, mark: int) -> tuple[int | None, int]:
        """The table that a packet is led to, and how many rules it met."""
        met, at = 0, 0
        while at < len(self.rules):
            rule = self.rules[at]
            met, at = met + 1, at + 1
            if (mark ^ rule.mark) & rule.mask:
                continue
            if rule.table is not None:
                return rule.table, met
            if rule.goto is not None:
                at = bisect_left(self.rules, rule.goto, key=lambda each: each.preference)
                assert self.rules[at].preference == rule.goto > rule.preference
        return None, met


_MARKS = st.one_of(st.integers(0x5000, 0x5080), st.integers(1, MAX_MARK))


@settings(max_examples=20)
@given(st.lists(st.tuples(_MARKS, st.one_of(st.none(), st.integers(1, 3))), max_size=150))
def test_every_mark_is_led_at_every_moment(changes: list[tuple[int, int | None]]) -> None:
    tree, kernel = MarkTree(FIRST, LAST), Kernel()
    wanted: dict[int, int] = {}
    for mark, table in changes:
        for step in tree.forget(Mark(mark)) if table is None else tree.lead(Mark(mark), table):
            kernel.do([step])
            assert all(kernel.look_up(each)[0] == its for each, its in wanted.items() if each != mark)
            assert mark not in wanted or table is None or kernel.look_up(mark)[0] in (wanted[mark], table)
        wanted.pop(mark, None)
        if table is not None:
            wanted[mark] = table
        assert {each: kernel.look_up(each)[0] for each in wanted} == wanted
        assert kernel.look_up(0)[0] is None
        assert sorted(tree.rules(), key=str) == sorted(kernel.rules, key=str)
    for mark in wanted:
        kernel.do(tree.forget(Mark(mark)))
    assert kernel.rules == []


def test_packets_without_a_mark_meet_two_rules_whatever_there_is() -> None:
    tree, kernel = MarkTree(FIRST, LAST), Kernel()
    for number in range(MAX_SESSIONS):
        tree.lead(Mark(0x5000 + number), 7)
    for rule in tree.rules():
        kernel.do([Step(True, rule)])
    assert kernel.look_up(0) == (None, 2)
    met = [kernel.look_up(0x5000 + number) for number in range(0, MAX_SESSIONS, 97)]
    assert {table for table, _ in met} == {7}
    assert max(many for _, many in met) < 150
    assert {rule.preference for rule in tree.rules()} <= set(range(FIRST, LAST + 1))


def _read(text: str) -> Settings:
    return parse(text, "x.yaml", Path())


@pytest.mark.parametrize(
    ("given", "first", "many"),
    [
        ("0x5000", 0x5000, MAX_SESSIONS),
        ("0x5000/100", 0x5000, 100),
        ("7", 7, MAX_SESSIONS),
        ("0xffffffff", MAX_MARK, 1),
    ],
)
def test_marks_are_read(given: str, first: int, many: int) -> None:
    assert _read(f"marks: {given}\nsessions: [{{name: a}}]").marks == Marks(first, many)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("marks: 0x5000/0xf000\nsessions: [{name: a}]", "it is no mask"),
        ("marks: 0\nsessions: [{name: a}]", "out of range"),
        ("sessions: [{name: a, mark: 0}]", "out of range"),
        ("sessions: [{name: a, mark: 101}, {name: b, mark: 0x65}]", "already taken"),
        ("sessions: [{name: 'a{n}', mark: 101, count: 2}]", "use `marks`"),
        ("marks: 0x5000\nsessions: [{name: a, mark: 0x5001}]", "given out"),
    ],
)
def test_marks_that_cant_be(text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        _read(text)


def test_sessions_are_given_marks_in_order_and_keep_them() -> None:
    world = World([session("a"), session("b", mark=101), session("c"), session("d")], marks=Marks(0x5000, 3)).open()
    assert world.egress.marks == {0: 0x5000, 1: 101, 2: 0x5002}
    assert [view.mark for view in world.supervisor.board.views] == [0x5000, 101, 0x5002, None]
    world.do(Edit(1, session("b", mark=102)))
    assert (world.egress.marks[1], world.view(1).mark) == (102, 102)
    for taken in (0x5001, 102):
        assert "mark" in world.do(Edit(0, session("a", mark=taken))).refused[0].reason
    world.do(Remove((1,)))
    world.run(1.0)
    assert world.egress.marks == {0: 0x5000, 2: 0x5002}
