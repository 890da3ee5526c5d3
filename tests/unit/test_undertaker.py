"""The thread that deletes devices: when it dies that is known, and what waits is deleted all the same."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from engine.egress.undertaker import Undertaker


@dataclass
class Device:
    """Without an index: nothing is asked of the kernel but to close a descriptor."""

    name: str
    fd: int
    index: int = 0
    close: Callable[[int], None] = os.close
    routes: tuple[bytes, ...] = ()


def device(name: str) -> Device:
    return Device(name, os.open(os.devnull, os.O_RDONLY))


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
