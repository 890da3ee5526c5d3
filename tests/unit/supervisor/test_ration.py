"""What is told of one session has a bound, whatever it tells."""

from __future__ import annotations

import pytest

from engine.api.commands import Remove, ResetCounters
from engine.api.values import SessionState
from engine.egress.protocol import Happening
from engine.supervisor import ration

from .world import World, session

UP = SessionState.UP


def test_what_one_session_tells_without_end_is_counted_and_the_latest_is_told() -> None:
    world = World([session("one"), session("two")]).open()
    world.until(lambda: world.states() == {UP})
    for number in range(1000):
        world.supervisor.note_egress(
            [Happening(f"Someone took 192.0.2.{number % 250}/32 away: put back.", 0)], world.now
        )
        if number == 500:
            world.supervisor.note_egress(
                [Happening("Someone deleted the device soup0: it was made anew.", 0)], world.now
            )
    world.supervisor.note_egress([Happening("Someone took 192.0.2.9/32 away: put back.", 1)], world.now)
    told = [event.text for event in world.events("guard", 0)]
    assert len(told) == ration.MOST + 2, "what is said in other words is told at once, and with such the first more"
    assert "Someone deleted the device soup0: it was made anew." in told
    assert len(world.events("guard", 1)) == 1, "nobody else is concerned"
    world.run(ration.SPAN)
    left_out = 1000 - ration.MOST - 1
    told_last = f"(The last of {left_out} more such within 10 s: the others are left out.)"
    assert world.events("guard", 0)[-1].text == f"Someone took 192.0.2.249/32 away: put back. {told_last}"
    world.supervisor.note_egress([Happening("Someone took 192.0.2.9/32 away: put back.", 0)], world.now)
    assert world.events("guard", 0)[-1].text == "Someone took 192.0.2.9/32 away: put back.", "counted anew"
    world.run(2 * ration.SPAN)
    assert len(world.events("guard", 0)) == ration.MOST + 4


def test_the_last_that_is_left_out_is_told_as_it_is_also_when_its_session_is_gone() -> None:
    world = World([session("one")]).open()
    for _ in range(ration.MOST + 2):
        world.supervisor.note_egress([Happening("Odd.", 0)], world.now)
    world.do(Remove((0,)))
    world.run(ration.SPAN)
    assert [(event.text, event.name) for event in world.events("guard")] == [("Odd.", "one")] * (ration.MOST + 2)


def test_what_is_left_out_at_the_end_is_told_before_it() -> None:
    world = World([session("one")]).open()
    for number in range(100):
        world.supervisor.note_egress([Happening(f"Odd: {number}.", 0)], world.now)
    world.supervisor.say_goodbye(world.now)
    while world.supervisor.catch_up(world.now):
        pass
    assert world.events("guard")[-1].text.startswith("Odd: 99.")


def test_what_is_commanded_is_told_however_often() -> None:
    world = World([session("one")]).open()
    for _ in range(100):
        world.do(ResetCounters((0,)))
    assert len(world.events("command")) == 100


def test_a_fault_of_ours_that_comes_with_each_frame_does_not_fill_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World([session("one")]).open()
    monkeypatch.setattr(world.supervisor.fleet, "receive", lambda frame, now: {}[frame])
    for number in range(1000):
        world.supervisor.receive([bytes([number % 256])], world.now)
    assert len(world.events("internal-error")) <= ration.MOST + ration.MOST_OTHERS
