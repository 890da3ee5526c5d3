"""The log of events: what matters outlives floods of what doesn't, and is never told as lost."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import pytest

from engine.api.values import Severity
from engine.record.events import KEPT_GRAVE, EventLog


def test_a_flood_of_information_takes_no_warning_away() -> None:
    log = EventLog(10)
    log.add(1.0, Severity.ERROR, "card-down", "eth9 is gone.")
    for number in range(100):
        log.add(2.0, Severity.INFO, "ipv4-up", f"Up {number}.")
    events, lost = log.since(0)
    assert [event.seq for event in events] == [1, *range(92, 102)]
    assert lost == 90
    assert log.since(1) == (events[1:], 90)
    assert log.since(95) == ([event for event in events if event.seq > 95], 0)


def test_nothing_is_told_twice_and_memory_is_bounded() -> None:
    log = EventLog(10)
    for _ in range(3 * KEPT_GRAVE):
        log.add(1.0, Severity.WARNING, "notice", "Odd.")
    events, lost = log.since(0)
    assert len(events) == KEPT_GRAVE
    assert lost == 2 * KEPT_GRAVE
    assert [event.seq for event in events] == sorted({event.seq for event in events})


@pytest.fixture
def taking_turns_often() -> Iterator[None]:
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.usefixtures("taking_turns_often")
def test_who_reads_while_others_write_has_every_event_once() -> None:
    log, number = EventLog(50_000), 20_000

    def write() -> None:
        for each in range(number):
            log.add(1.0, Severity.INFO, "ipv4-up", f"Up {each}.")

    writer = threading.Thread(target=write)
    writer.start()
    seen = [0]
    while seen[-1] < number:
        events, lost = log.since(seen[-1])
        assert not lost
        seen += [event.seq for event in events]
    writer.join()
    assert seen == [*range(number + 1)]
