"""Many timers: the earliest is always known, nothing expires early, and the heap does not grow."""

from __future__ import annotations

from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from engine.sessions.alarms import SHARE, Alarms

moves = st.lists(st.tuples(st.integers(0, 5), st.one_of(st.none(), st.integers(0, 50).map(float))), max_size=60)


@given(moves)
def test_the_earliest_is_always_known(changes: list[tuple[int, float | None]]) -> None:
    due: dict[int, float | None] = {}
    alarms = Alarms(due.get)
    for number, at in changes:
        due[number] = at
        alarms.arm(number)
        assert alarms.next() == min((at for at in due.values() if at is not None), default=None)


@given(moves, st.integers(0, 60))
def test_all_that_is_due_expires_and_nothing_else(changes: list[tuple[int, float | None]], now: int) -> None:
    due: dict[int, float | None] = {}
    alarms = Alarms(due.get)
    for number, at in changes:
        due[number] = at
        alarms.arm(number)
    expected = {number for number, at in due.items() if at is not None and at <= now}
    expired: list[int] = []
    for number in alarms.expired(now):
        expired.append(number)
        due[number] = None
        alarms.arm(number)
    assert sorted(expired) == sorted(expected)
    later = alarms.next()
    assert later is None or later > now


def test_a_timer_that_is_put_off_for_ever_has_one_entry() -> None:
    due = {1: 10.0}
    alarms = Alarms(due.get)
    for step in range(1000):
        due[1] = 10.0 + step
        alarms.arm(1)
    assert len(alarms) == 1
    assert alarms.next() == 1009.0


def test_a_machine_that_still_wants_the_same_time_after_its_step_is_due_again() -> None:
    alarms = Alarms({1: 10.0}.get)
    alarms.arm(1)
    for _ in range(3):
        assert next(alarms.expired(10.0)) == 1
        alarms.arm(1)
        assert alarms.next() == 10.0


def test_a_machine_that_is_gone_is_forgotten() -> None:
    due = {1: 10.0}
    alarms = Alarms(due.get)
    alarms.arm(1)
    del due[1]
    alarms.arm(1)
    assert alarms.next() is None
    assert len(alarms) == 0


def test_who_only_puts_a_timer_off_need_not_say_so() -> None:
    due: dict[int, float | None] = {1: 10.0, 2: 20.0, 3: 10.0}
    alarms = Alarms(due.get)
    for number in due:
        alarms.arm(number)
    due[1], due[3] = 30.0, None
    assert alarms.next() == 20.0
    assert list(alarms.expired(25.0)) == [2]
    due[2] = None
    assert alarms.next() == 30.0
    assert list(alarms.expired(30.0)) == [1]


def test_timers_that_fall_together_are_one_time_to_look_at() -> None:
    alarms = Alarms(lambda number: 10.0 + number % 2)
    for number in range(1000):
        alarms.arm(number)
    assert (len(alarms), len(alarms._times)) == (1000, 2)
    assert sorted(islice(alarms.expired(10.0), 500)) == [*range(0, 1000, 2)]
    assert alarms.next() == 11.0


def test_what_many_have_put_off_does_not_expire_in_one_go_either() -> None:
    due: dict[int, float | None] = dict.fromkeys(range(3 * SHARE), 1.0)
    alarms = Alarms(due.get)
    for number in due:
        alarms.arm(number)
    due.update(dict.fromkeys(due, 5.0))
    due[0] = 1.0
    assert [list(alarms.expired(2.0)) for _ in range(3)] == [[], [], [0]]
    assert alarms.next() == 5.0


def test_what_many_have_put_off_is_looked_through_in_shares() -> None:
    due: dict[int, float | None] = {number: 1.0 + number for number in range(3 * SHARE)}
    alarms = Alarms(due.get)
    for number in due:
        alarms.arm(number)
    for number in [*due][:-1]:
        due[number] = None
        alarms.arm(number)
    assert alarms.next() == 1.0 + SHARE, "too early, and harmless: nothing expires"
    assert list(alarms.expired(1.0 + SHARE)) == []
    assert alarms.next() == 2.0 + 2 * SHARE
    assert alarms.next() == 3.0 * SHARE, "the one that is left"
