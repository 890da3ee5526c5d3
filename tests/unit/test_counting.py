"""Counters that never go back."""

from __future__ import annotations

from array import array

from engine.api.values import QueueView
from engine.run.counting import added, joined


def test_traffic_is_added_place_by_place() -> None:
    assert added(array("Q", [1, 2]), array("Q", [10, 20])) == array("Q", [11, 22])


def test_queues_count_on_and_a_queue_that_is_gone_still_counts() -> None:
    before = (QueueView(0, 1, 2, 3, 4, (("bad_ip", 1),), cpu=1.0), QueueView(1, 5, 0, 0, 0, rx_ring_fill=0.5))
    now = (QueueView(0, 10, 20, 30, 40, (("bad_ip", 2), ("too_long", 1)), rx_ring_fill=0.25, cpu=0.5),)
    first, second = joined(now, before)
    assert (first.rx_packets, first.rx_bytes, first.tx_packets, first.tx_bytes) == (11, 22, 33, 44)
    assert dict(first.drops) == {"bad_ip": 3, "too_long": 1}
    assert (first.rx_ring_fill, first.cpu) == (0.25, 1.5), "how full a ring is is no count"
    assert (second.rx_packets, second.rx_ring_fill) == (5, 0.0)
    assert joined(now, ()) == now
