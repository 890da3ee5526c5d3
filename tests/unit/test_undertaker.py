"""The thread that deletes devices: when it dies that is known, and what waits is deleted all the same."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass

import pytest

from engine.egress.tun import close_tun
from engine.egress.undertaker import Undertaker
from engine.host.rtnl import Rtnl
from tests.program import until


@dataclass
class Device:
    """Without an index, or one that nobody has: nothing comes of it but that a descriptor is closed."""

    name: str
    fd: int
    index: int = 0
    close: Callable[[int, bool], None] = close_tun
    routes: tuple[bytes, ...] = ()


def device(name: str, index: int = 0) -> Device:
    return Device(name, os.open(os.devnull, os.O_RDONLY), index)


class Mortal:
    """Called when a device is gone; it dies the first times."""

    def __init__(self, deaths: int) -> None:
        self.deaths = deaths
        self.calls = 0

    def __call__(self, index: int) -> None:
        self.calls += 1
        if self.calls <= self.deaths:
            raise RuntimeError("a bug")


def test_a_death_is_told_once_and_another_thread_goes_on() -> None:
    gone = Mortal(1)
    undertaker = Undertaker(gone)
    undertaker.take(device("soup0"))
    undertaker.wait_for("soup0")
    undertaker.take(device("soup1"))
    undertaker.wait_for("soup1")
    assert undertaker.deaths() == ["RuntimeError: a bug"]
    assert undertaker.deaths() == []
    assert gone.calls == 2
    undertaker.close()


def test_whoever_waits_is_not_left_waiting() -> None:
    gone = Mortal(5)
    undertaker = Undertaker(gone)
    devices = [device(f"soup{number}") for number in range(5)]
    for each in devices:
        undertaker.take(each)
        undertaker.wait_for(each.name)
        assert not undertaker.has(each.name)
    assert undertaker.deaths() == ["RuntimeError: a bug"] * 5
    undertaker.close()


def test_it_ends_though_its_thread_died() -> None:
    undertaker = Undertaker(Mortal(1))
    undertaker.take(device("soup0"))
    undertaker.close()
    assert undertaker.deaths() == ["RuntimeError: a bug"]


def test_it_is_told_when_more_wait_than_go_together() -> None:
    undertaker = Undertaker(lambda _: None)
    undertaker.gather()
    for number in range(Undertaker.BURIAL):
        undertaker.take(device(f"soup{number}"))
    assert not undertaker.crowded
    undertaker.take(device("one more"))
    assert undertaker.crowded
    undertaker.release(None)
    undertaker.wait_for("one more")
    assert not undertaker.crowded
    undertaker.close()


NOBODY = 0x7FFF0000
"""No device has this index, nor those that follow."""


class Clear:
    """What is to be done before the first device goes."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.seen: list[int | Collection[int]] = []

    def __call__(self, _: Rtnl, indexes: Collection[int]) -> None:
        self.seen.append(indexes)
        if self.error is not None:
            raise self.error


@pytest.mark.parametrize("error", [None, PermissionError(), RuntimeError("a bug")])
def test_all_are_gathered_and_cleared_before_the_first_goes(error: Exception | None) -> None:
    clear = Clear(error)
    undertaker = Undertaker(clear.seen.append)
    undertaker.gather()
    indexes = {*range(NOBODY, NOBODY + 300)}
    for index in indexes:
        undertaker.take(device(f"soup{index}", index))
    assert undertaker.busy
    undertaker.release(clear)
    undertaker.wait_for(f"soup{NOBODY + 299}")
    assert clear.seen[0] == indexes
    assert {*clear.seen[1:]} == indexes
    assert undertaker.deaths() == (["RuntimeError: a bug"] if isinstance(error, RuntimeError) else [])
    undertaker.close()


def test_in_haste_they_go_as_soon_as_they_are_enough_and_the_rest_when_all_have_come() -> None:
    gone: list[int] = []
    undertaker = Undertaker(gone.append)
    undertaker.hasten()
    indexes = [*range(NOBODY, NOBODY + Undertaker.LAST_BURIAL)]
    for index in indexes[:-1]:
        undertaker.take(device(f"soup{index}", index))
    assert undertaker.busy
    assert gone == [], "a request takes 30 ms, whatever is in it"
    undertaker.take(device("soup", indexes[-1]))
    until(lambda: not undertaker.busy, "their end")
    assert gone == indexes
    undertaker.take(device("soup", NOBODY))
    undertaker.release(Clear())
    until(lambda: not undertaker.busy, "its end")
    undertaker.close()


def test_in_haste_each_goes_as_it_comes_and_all_is_cleared_when_all_have_come() -> None:
    clear = Clear()
    undertaker = Undertaker(clear.seen.append)
    undertaker.hasten()
    for index in range(NOBODY, NOBODY + 3):
        undertaker.take(device(f"soup{index}", index))
        undertaker.wait_for(f"soup{index}")
    assert clear.seen == [*range(NOBODY, NOBODY + 3)]
    assert not undertaker.busy
    undertaker.release(clear)
    until(lambda: not undertaker.busy, "its end")
    assert clear.seen[3:] == [set()], "though none was left to be deleted"
    undertaker.take(device("soup9", NOBODY + 9))
    undertaker.close()
    assert clear.seen[4:] == [NOBODY + 9]
    assert undertaker.deaths() == []


def test_what_can_not_be_cleared_keeps_nobody_waiting() -> None:
    undertaker = Undertaker([].append)
    undertaker.hasten()
    undertaker.release(Clear(RuntimeError("a bug")))
    until(lambda: not undertaker.busy, "its end")
    assert undertaker.deaths() == ["RuntimeError: a bug"]
    undertaker.close()


def test_whoever_waits_for_a_name_has_those_buried_that_have_come() -> None:
    gone: list[int] = []
    undertaker = Undertaker(gone.append)
    undertaker.gather()
    undertaker.take(device("soup0"))
    undertaker.wait_for("soup0")
    assert gone == [0]
    undertaker.take(device("soup1", NOBODY))
    undertaker.close()
    assert gone == [0, NOBODY]
