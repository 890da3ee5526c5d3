"""Values that a console gets: nothing in them depends on the machine or the process that made them."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.api import values
from engine.api.values import Event, Severity, after, pack_traffic, unpack_traffic

NUMBERS = st.integers(0, 2**64 - 1)
FOUR = st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS), max_size=20).map(
    lambda rows: array("Q", [number for row in rows for number in row])
)


@given(FOUR, st.binary(max_size=31))
def test_traffic_comes_back_and_half_a_session_is_left_out(numbers: array[int], rest: bytes) -> None:
    assert unpack_traffic(pack_traffic(numbers) + rest) == numbers


def test_traffic_looks_the_same_from_any_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = array("Q", [1, 2, 3, 2**63])
    assert pack_traffic(numbers) == b"".join(number.to_bytes(8, "little") for number in numbers)
    swapped = array("Q", numbers)
    swapped.byteswap()  # what the numbers would look like to a machine of the other kind
    monkeypatch.setattr(values.sys, "byteorder", "big" if values.sys.byteorder == "little" else "little")
    assert pack_traffic(swapped) == b"".join(number.to_bytes(8, "little") for number in numbers)
    assert unpack_traffic(pack_traffic(swapped)) == swapped


@pytest.mark.parametrize(
    ("seq", "new", "missed"), [(0, [4, 5, 9, 10], 6), (4, [5, 9, 10], 3), (9, [10], 0), (10, [], 0), (12, [], 0)]
)
def test_numbers_may_be_left_out_of_a_list_of_events(seq: int, new: Sequence[int], missed: int) -> None:
    kept = deque(Event(number, 0.0, Severity.INFO, "test", "") for number in (4, 5, 9, 10))
    events, lost = after(kept, seq)
    assert ([event.seq for event in events], lost) == (new, missed)
