"""What a process leaves is taken over while concentrators keep the sessions; it is known where that was too late."""

from __future__ import annotations

import os

import pytest

from engine.run.estate import PATIENCE, Estate, found
from engine.sessions.settled import KeptMember

LEFT = 1000.0


def left(*members: KeptMember) -> dict[str, list[int]]:
    estate = Estate(members)
    state = os.memfd_create("state")
    os.write(state, estate.told(LEFT))
    return estate.descriptors("eth0", state)


@pytest.mark.parametrize(
    ("now", "taken", "late"),
    [(LEFT, True, 0.0), (LEFT + PATIENCE - 1, True, 0.0), (LEFT + PATIENCE + 14, False, PATIENCE + 14)],
)
def test_sessions_are_taken_over_in_time(now: float, taken: bool, late: float) -> None:
    one = KeptMember(0, "one", True)
    estate = found(left(one), "eth0", now)
    assert estate.members == ((one,) if taken else ())
    assert estate.late == late


def test_nothing_was_too_late_where_nothing_was_left() -> None:
    assert found(left(), "eth0", LEFT + PATIENCE).late == 0.0
    assert found({}, "eth0", LEFT).late == 0.0
    assert found(left(KeptMember(0, "one", True)), "eth0", LEFT - 1).late == 0.0, "a clock that has gone back"
