"""What programs and engines say of themselves, told behind the failure of the test that had them.

Who reads the output of a test run elsewhere has nothing but its text.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Section = tuple[str, str]
"""A title and a text."""

LAST = 40_000
"""Characters of a story that are told; the first ones are left out."""

_going_on: list[Callable[[], Section]] = []
_over: list[Callable[[], Section]] = []
"""Those of blocks that have ended in this test."""


@contextmanager
def telling(who: str, story: Callable[[], str]) -> Iterator[None]:
    """Should the test fail within the block or behind it, the story goes with the failure.

    It is as it was when the block failed, or else as it is when the test has.
    """

    def teller() -> Section:
        try:
            return who, story()[-LAST:]
        except Exception as error:  # it must not take the place of the failure itself
            return who, f"its story can't be told: {error!r}"

    _going_on.append(teller)
    try:
        yield
    except BaseException:
        then = teller()
        _over.append(lambda: then)
        raise
    else:
        _over.append(teller)
    finally:
        _going_on.remove(teller)


def told() -> list[Section]:
    """The stories of a test that has just failed, and how busy the machine is."""
    load = " ".join(f"{each:.1f}" for each in os.getloadavg())
    return [*(tell() for tell in (*_over, *_going_on)), ("the machine", f"load {load}, {os.cpu_count()} processors")]


def forget() -> None:
    """Let the next test begin."""
    _over.clear()
