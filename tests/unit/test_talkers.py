"""Where proxied connections go, and how much: the busiest hosts, in bounded memory."""

from __future__ import annotations

import pytest

from engine.proxy import talkers as module
from engine.proxy.talkers import HOSTS, Talker, Talkers


def test_the_busiest_come_first_with_what_is_under_way() -> None:
    talkers = Talkers()
    talkers.add(1, "a.example:443", 10, 100)
    talkers.add(1, "a.example:80", 1, 1)
    talkers.add(1, "[2001:db8::1]:443", 5, 50)
    talkers.add(2, "b.example:443", 1000, 1000)
    under_way = [("[2001:db8::1]:443", 0, 1000), ("c.example:22", 7, 0)]
    assert talkers.top(1, 10, under_way) == [
        Talker("[2001:db8::1]", 2, 5, 1050),
        Talker("a.example", 2, 11, 101),
        Talker("c.example", 1, 7, 0),
    ]
    assert talkers.top(1, 1) == [Talker("a.example", 2, 11, 101)]
    talkers.forget(1)
    assert talkers.top(1, 10) == []
    assert len(talkers) == 1


def test_memory_is_bounded_and_the_busiest_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    talkers = Talkers()
    for n in range(5000):
        talkers.add(1, f"host-{n}.example:1", 0, 1)
        talkers.add(1, "busy.example:1", 10, 10)
    assert len(talkers) <= 2 * HOSTS
    assert talkers.top(1, 1) == [Talker("busy.example", 5000, 50_000, 50_000)]
    monkeypatch.setattr(module, "TOTAL", 1000)
    for key in range(50):
        for n in range(100):
            talkers.add(key, f"host-{n}.example:1", 0, n)
    assert len(talkers) <= 1000
    assert talkers.top(49, 1)[0].host == "host-99.example"
