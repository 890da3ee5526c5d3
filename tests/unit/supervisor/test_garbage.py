"""Nothing that the engine lets go holds itself: a process without a screen looks for no garbage (`never_collect`)."""

from __future__ import annotations

import gc

from engine.api.commands import Add, Command, Dial, Edit, HangUp, Redial, Remove, Rotate, Watch
from engine.settings.values import SessionSettings
from tests.unit.supervisor.world import QUICK, World, session

SESSIONS = 20
ALL = tuple(range(SESSIONS))


def test_the_engine_makes_no_garbage() -> None:
    world = World([session(f"s{number}") for number in range(SESSIONS)], QUICK).open()
    world.run(30.0)
    gc.collect()
    gc.disable()
    try:
        life(world)
        found = gc.collect()
    finally:
        gc.enable()
    assert found < SESSIONS, "two types of arrays at most, which the cipher's library makes once and finds again"


def life(world: World) -> None:
    """Whatever happens to sessions, twice."""
    commands: tuple[Command, ...] = (
        Redial(ALL),
        HangUp(ALL),
        Dial(ALL),
        Rotate(ALL[:3]),
        Edit(0, SessionSettings("other", "u", "lab")),
        Dial((99,)),
        Watch(1),
    )
    for _ in range(2):
        for command in commands:
            world.do(command)
            world.run(20.0)
        key = world.do(Add(SessionSettings("more", "u", "lab", autodial=True))).done[0]
        world.run(10.0)
        world.do(Remove((key,)))
        for carrier in (False, True):
            world.card.set_carrier(carrier)
            world.look()
            world.run(20.0)
