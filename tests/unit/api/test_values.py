"""Values that a console gets: nothing in them depends on the machine or the process that made them."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.api import values
from engine.api.values import pack_traffic, unpack_traffic

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
