"""What ends many sessions alike is told of a few, and then by their number."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from engine.api.ending import End, EndKind
from engine.api.values import SessionState, Severity
from engine.lab.concentrator import LabSettings
from engine.pppoe.concentrator import ConcentratorSettings
from engine.settings.values import DialSettings
from engine.supervisor.alike import FEW, Alike
from tests.unit.supervisor.world import World, session

UP = SessionState.UP
MANY = 300
PADT = End(EndKind.PEER_ENDED, "The concentrator ended the session (PADT).", was_up=True)
SILENCE = End(EndKind.NO_CONCENTRATOR, "No answer.")


def open_world() -> World:
    world = World([session(f"s{n}", ipv6=False) for n in range(MANY)], DialSettings()).open()
    world.until(lambda: world.states() == {UP})
    return world


def warned(world: World, since: int) -> list[str]:
    return [event.text for event in world.supervisor.log.since(since)[0] if event.severity >= Severity.WARNING]


def cut(world: World) -> None:
    for session_id in [*world.concentrator.subscribers]:
        world.concentrator.cut(session_id, world.now)


def hang_up(world: World) -> None:
    for session_id in [*world.concentrator.subscribers]:
        world.concentrator.hang_up(session_id, world.now)


def restart(world: World) -> None:
    world.concentrator.restart()


@pytest.mark.parametrize(
    ("what", "why", "lines"),
    [
        (cut, "ended by the concentrator", FEW + 2),
        (hang_up, "ended by the concentrator", FEW + 2),
        (restart, "no echo", FEW + 4),
    ],
)
def test_a_concentrator_that_ends_all_sessions_is_told_in_a_few_lines(
    what: Callable[[World], None], why: str, lines: int
) -> None:
    world = open_world()
    seen = world.supervisor.log.last
    what(world)
    world.run(90.0)
    assert world.states() == {UP}
    told = warned(world, seen)
    assert FEW < len(told) <= lines, told
    alike = [event.text for event in world.events("alike")]
    assert all(text.endswith(f"lost: {why}.") for text in alike)
    assert sum(int(text.split()[0]) for text in alike) == MANY - FEW
    assert len(world.events("session-down")) == MANY, "each is there for who looks for it"


def test_a_long_silence_is_told_ever_more_seldom() -> None:
    world = open_world()
    seen = world.supervisor.log.last
    concentrators, world.segment.concentrators = world.segment.concentrators, []
    world.run(3600.0)
    assert len(warned(world, seen)) < 4 * FEW + 12
    world.concentrator.restart()
    world.segment.concentrators = concentrators
    world.until(lambda: world.states() == {UP}, 120.0)


def test_a_concentrator_that_has_no_room_for_a_while_is_told_in_a_few_lines() -> None:
    room = ConcentratorSettings(max_sessions=100)
    world = World(
        [session(f"s{n}", ipv6=False) for n in range(MANY)],
        DialSettings(),
        LabSettings(any_account=True, any_password="lab", discovery=room),
    ).open()
    world.run(60.0)
    assert len(warned(world, 0)) <= FEW + 6
    assert sum(event.severity is Severity.WARNING for event in world.events("dial-failed")) == FEW


def test_a_few_are_told_one_by_one_and_so_are_those_that_come_one_by_one() -> None:
    alike = Alike()
    assert not any(alike.is_one_of_many(PADT, 0.0) for _ in range(FEW))
    assert not any(alike.is_one_of_many(SILENCE, 0.0) for _ in range(FEW)), "that is something else"
    assert not any(alike.is_one_of_many(replace(PADT, was_up=False), 0.0) for _ in range(FEW))
    alike = Alike()
    assert not any(alike.is_one_of_many(PADT, at * 0.5) for at in range(1000))
    assert alike.next_timer() is None


def test_of_many_none_goes_untold() -> None:
    alike = Alike()
    told = []
    now = 0.0
    for number in range(20_000):
        now = number * 0.01 if number < 15_000 else 1000.0 + number * 0.1
        told.append(not alike.is_one_of_many(PADT, now))
        due = alike.next_timer()
        if due is not None and due <= now:
            (text,) = alike.told(now)
            told += [True] * int(text.split()[0].replace(",", ""))
    (text,) = alike.told(now + 1000.0)
    assert sum(told) + int(text.split()[0].replace(",", "")) == 20_000
    assert alike.next_timer() is None
    assert alike.told(now + 2000.0) == []


def test_one_more_is_one() -> None:
    alike = Alike()
    for _ in range(FEW + 1):
        alike.is_one_of_many(SILENCE, 0.0)
    assert alike.told(0.5) == []
    assert alike.told(1.0) == ["1 more dial failed: no concentrator answers."]
