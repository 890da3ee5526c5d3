"""How many of the frames that have come the loop looks at together."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from engine.datapath import BATCH_FRAMES
from engine.run.loop import FEW, few
from tests.unit.supervisor.test_supervisor import QUICK, World, session

JUNK = b"\x02" * 60


def looked_at(waiting: deque[bytes], brings: Callable[[bytes], int]) -> list[bytes]:
    """The frames of one look, of which each brings so many events."""
    found: list[bytes] = []
    for frame in few(waiting, lambda: sum(map(brings, found))):
        found.append(frame)  # noqa: PERF402  # what has been found is looked at before the next
    return found


def test_few_that_are_much_work_are_looked_at_together() -> None:
    """Each may bring a device, or take one."""
    waiting = deque(bytes((number,)) for number in range(10))
    assert looked_at(waiting, lambda frame: 1) == [bytes((number,)) for number in range(FEW)]
    assert looked_at(waiting, lambda frame: FEW) == [bytes((FEW,))]


def test_what_brings_nothing_is_looked_at_by_the_batch() -> None:
    """After each look there is a round of all that may have something to say, which costs as much as some frames."""
    waiting = deque([JUNK] * (2 * BATCH_FRAMES))
    assert len(looked_at(waiting, lambda frame: 0)) == BATCH_FRAMES
    assert len(waiting) == BATCH_FRAMES
    waiting[7] = b"up"
    assert len(looked_at(waiting, lambda frame: FEW * (frame == b"up"))) == 8


def test_all_are_looked_at_in_their_order() -> None:
    frames = [bytes((number,)) for number in range(200)]
    waiting, found = deque(frames), []
    while waiting:
        found += looked_at(waiting, lambda frame: frame[0] % 3)
    assert found == frames


def test_a_flood_and_echoes_bring_nothing_and_a_session_that_comes_up_does() -> None:
    world = World([session("one")], QUICK)
    fleet = world.supervisor.fleet
    for _ in range(100):
        fleet.receive(JUNK, 0.0)
    assert fleet.happened() == 0
    world.open().until(lambda: bool(world.events("ipv4-up")))
    world.run(5.0)
    assert (before := fleet.happened()) >= FEW
    world.run(60.0)
    assert world.view().rtt_ms is not None
    assert world.view().silent_since is None
    assert fleet.happened() == before
