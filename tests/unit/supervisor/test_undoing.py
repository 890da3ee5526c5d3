"""Steps that are taken back: removed, changed, added, hung up; and changes of many at once. In virtual time."""

from __future__ import annotations

from engine.api.commands import Add, Amend, Edit, HangUp, Remove, Undo
from engine.api.values import SessionState
from engine.settings.values import HookSettings

from .world import World, session

S = SessionState


def _up(number: int = 4, **more: object) -> World:
    world = World([session(f"s{n}", **more) for n in range(number)]).open()  # type: ignore[arg-type]
    world.until(lambda: world.states() == {S.UP})
    return world


def _names(world: World) -> dict[str, SessionState]:
    return {view.name: view.state for view in world.supervisor.board.views}


def test_what_was_removed_is_back_and_up() -> None:
    world = _up(40)
    world.do(HangUp((3,)))
    world.run(1.0)
    settings = world.supervisor.board.settings[7]
    world.do(Remove(tuple(range(40))))
    world.run(2.0)
    assert _names(world) == {}
    (step,) = world.supervisor.undoing.shown[1:]
    assert (step.what, step.sessions) == ("Remove", 40)
    reply = world.do(Undo(step.number))
    assert len(reply.done) == 40
    world.run(5.0)
    assert [name for name, state in _names(world).items() if state is not S.UP] == ["s3"]
    assert settings in world.supervisor.board.settings.values(), "its password too"
    assert not world.events("internal-error"), world.story()


def test_steps_are_taken_back_the_latest_first() -> None:
    world = _up(2)
    world.do(Edit(0, session("renamed", mru=1400)))
    world.do(Add(session("new")))
    world.do(HangUp((0, 1)))
    world.run(1.0)
    assert [step.what for step in world.supervisor.undoing.shown] == ["Edit", "Add", "Hang up"]
    assert world.do(Undo(3)).refused == ()
    world.run(2.0)
    assert _names(world) == {"renamed": S.UP, "s1": S.UP, "new": S.UP}
    assert set(world.do(Undo(1)).done) == {0, 2}
    world.run(1.0)
    assert {settings.name for settings in world.supervisor.board.settings.values()} == {"s0", "s1"}
    assert world.supervisor.undoing.shown == ()
    assert world.do(Undo(1)).done == (), "once only"


def test_only_ten_are_shown_and_what_changed_nothing_is_none() -> None:
    world = _up(1)
    world.do(Edit(0, world.supervisor.board.settings[0]))
    world.do(HangUp((0,)))
    world.do(HangUp((0,)))
    assert len(world.supervisor.undoing.shown) == 1
    for mru in range(1400, 1415):
        world.do(Edit(0, session("s0", mru=mru)))
    assert len(world.supervisor.undoing.shown) == 10


def test_only_the_fields_that_were_changed_are_changed_in_each() -> None:
    world = World([session("a", service="gold", mru=1400), session("b", service="gold"), session("c")]).open()
    reply = world.do(Amend((0, 1), (("service", "silver"), ("keepalive.interval", "7"))))
    assert reply.done == (0, 1)
    settings = world.supervisor.board.settings
    assert [(settings[n].service, settings[n].mru) for n in range(3)] == [
        ("silver", 1400),
        ("silver", 1492),
        ("", 1492),
    ]
    assert settings[0].keepalive.interval == 7
    refused = world.do(Amend((0, 1), (("mru", "9000"),))).refused
    assert len(refused) == 2
    assert "out of range" in refused[0].reason
    world.do(Undo(1))
    assert [settings[n].service for n in range(3)] == ["gold", "gold", ""]


def test_a_step_with_hooks_is_known_as_such() -> None:
    world = World([session("a", hooks=HookSettings(up=("/bin/true",))), session("b")]).open()
    world.do(Remove((1,)))
    assert not world.supervisor.undoing.touches_hooks(1)
    world.do(Remove((0,)))
    assert world.supervisor.undoing.touches_hooks(1)
