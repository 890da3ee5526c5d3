"""Who may use the proxies, what a user name asks for, and which session that gets."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.proxy.limits import Limits
from engine.proxy.pool import Group, Pool
from engine.proxy.users import Choice, Kind, User, Users, digest
from engine.settings.values import Choose, ProxyLimits

SALT = b"salt"
KNOWN = Users(SALT, [User(name, digest(SALT, b"sesame")) for name in ("app", "app-two")])


@pytest.mark.parametrize(
    ("said", "means"),
    [
        ("app", ("app", Choice())),
        ("app-session-home-01", ("app", Choice(Kind.SESSION, "home-01"))),
        ("app-tag-blue", ("app", Choice(Kind.TAG, "blue"))),
        ("app-sticky-a-b", ("app", Choice(Kind.STICKY, "a-b"))),
        ("app-sticky-a-ttl-10m", ("app", Choice(Kind.STICKY, "a", 600.0))),
        ("app-sticky-a-ttl-x", ("app", Choice(Kind.STICKY, "a-ttl-x"))),
        ("app-new", ("app", Choice(Kind.NEW))),
        ("app-two-new", ("app-two", Choice(Kind.NEW))),
        ("app-two", ("app-two", Choice())),
        ("app-three", None),
        ("app-", None),
        ("app-session-", None),
        ("apple", None),
        ("", None),
    ],
)
def test_what_a_user_name_asks_for(said: str, means: tuple[str, Choice] | None) -> None:
    assert KNOWN.understood(said) == means


def test_where_nobody_needs_a_name_any_will_do() -> None:
    users = Users()
    assert users.understood("") == ("", Choice())
    assert users.understood("me-tag-blue") == ("me", Choice(Kind.TAG, "blue"))
    assert users.understood("me-sticky-abc-ttl-5s") == ("me", Choice(Kind.STICKY, "abc", 5.0))
    assert users.understood("some-body") == ("some-body", Choice())
    assert users.may("anybody", None)


def test_the_password_decides() -> None:
    assert KNOWN.may("app-tag-blue", b"sesame")
    for name, password in (("app", b"sesam"), ("app", b""), ("app", None), ("nobody", b"sesame"), ("app-x", b"sesame")):
        assert not KNOWN.may(name, password)


def pool(choose: Choose, *names: str, tags: tuple[str, ...] = ()) -> Pool:
    it = Pool(lambda: 0.5)
    it.choose = choose
    for key, name in enumerate(names):
        it.put(key, name, tags)
    return it


def test_each_way_to_choose() -> None:
    any_one = Choice()
    turns = pool(Choose.ROUND_ROBIN, "a", "b", "c")
    assert [turns.chosen("", any_one, "x", 0.0) for _ in range(4)] == [0, 1, 2, 0]
    least = pool(Choose.LEAST, "a", "b", "c")
    for key in (0, 0, 1):
        least.opened(key)
    assert least.chosen("", any_one, "x", 0.0) == 2
    least.opened(2, 2)
    assert least.chosen("", any_one, "x", 0.0) == 1
    assert pool(Choose.RANDOM, "a", "b", "c").chosen("", any_one, "x", 0.0) == 1
    sticky = pool(Choose.STICKY, "a", "b", "c")
    assert len({sticky.chosen("", any_one, "192.0.2.1", float(now)) for now in range(9)}) == 1
    assert len({sticky.chosen("", any_one, f"192.0.2.{n}", 0.0) for n in range(40)}) == 3


def test_a_key_keeps_its_session_while_that_is_up_and_its_time_lasts() -> None:
    it = pool(Choose.LEAST, "a", "b", "c")
    mine = Choice(Kind.STICKY, "me", 10.0)
    first = it.chosen("app", mine, "x", 0.0)
    assert it.chosen("app", mine, "y", 9.9) == first
    later = it.chosen("app", mine, "x", 10.0)
    assert later not in (None, first)
    it.put(3, "d", ())
    assert it.chosen("app", mine, "x", 11.0) == later, "that another one came up changes nothing"
    assert later is not None
    it.take_out(later)
    assert it.chosen("app", mine, "x", 12.0) not in (None, later)


def test_what_is_down_is_not_chosen() -> None:
    it = pool(Choose.LEAST, "a", "b", tags=("blue",))
    it.take_out(0)
    assert it.chosen("", Choice(Kind.SESSION, "a"), "x", 0.0) is None
    assert it.chosen("", Choice(Kind.TAG, "blue"), "x", 0.0) == 1
    assert it.chosen("", Choice(Kind.TAG, "red"), "x", 0.0) is None
    it.take_out(1)
    for choice in (Choice(), Choice(Kind.TAG, "blue"), Choice(Kind.STICKY, "k"), Choice(Kind.NEW)):
        assert it.chosen("", choice, "x", 0.0) is None


@given(st.lists(st.tuples(st.sampled_from(["add", "remove"]), st.integers(0, 5), st.integers(0, 3))))
def test_a_group_has_exactly_those_that_are_in_it(steps: list[tuple[str, int, int]]) -> None:
    group, model = Group(), dict[int, int]()
    for what, key, count in steps:
        if what == "add":
            group.add(key, count)
            model[key] = count
        else:
            group.remove(key)
            model.pop(key, None)
        assert len(group) == len(model)
        if model:
            assert model[group.least()] == min(model.values())
            assert Counter(group.next() for _ in model) == Counter(model.keys())
            assert {group.at(number) for number in range(len(model))} == set(model)


def test_limits_of_each_kind() -> None:
    it = Limits()
    it.most = ProxyLimits(user=3, session=2, source=0)
    assert it.take("a", 1, "x")
    assert it.take("a", 1, "x")
    assert not it.take("b", 1, "x"), "the session has two"
    assert it.take("a", 2, "x")
    assert not it.take("a", 3, "x"), "the user has three"
    it.give_back("a", 1, "x")
    assert it.take("b", 1, "x")
