"""What the operator stops for all sessions until told otherwise: dialling, or redials alone. In virtual time."""

from __future__ import annotations

import msgspec

from engine.api.commands import Add, Dial, HangUp, Redial, Rotate, Stop
from engine.api.ending import End, EndKind
from engine.api.values import Halt, Halted, SessionState, Severity
from engine.run.estate import Legacy
from engine.settings.values import RotateSettings

from .world import World, session

S = SessionState
_END = End(EndKind.HUNG_UP, "Cut off.")


def _up(number: int = 3, **more: object) -> World:
    world = World([session(f"s{n}", **more) for n in range(number)]).open()  # type: ignore[arg-type]
    world.until(lambda: world.states() == {S.UP})
    return world


def test_all_end_and_nobody_is_dialled_until_told_otherwise() -> None:
    world = _up(40)
    world.do(HangUp((0,)))
    world.do(Stop(Halt.ALL))
    assert world.supervisor.halted.what is Halt.ALL
    world.run(40.0)
    assert world.states() == {S.DOWN}
    assert not world.concentrator.subscribers
    assert {view.reason for view in world.supervisor.board.views[1:]} == {"all sessions were stopped"}
    assert {view.retry_at for view in world.supervisor.board.views} == {None}
    (told,) = world.events("stopped")
    assert (told.severity, "39 sessions" in told.text) == (Severity.WARNING, True)
    assert len(world.events("session-down")) <= 40
    world.do(Stop(Halt.NOTHING))
    world.run(5.0)
    assert world.state(0) is S.DOWN, "it was hung up before"
    assert {view.state for view in world.supervisor.board.views[1:]} == {S.UP}
    assert not world.events("internal-error"), world.story()


def test_who_was_hung_up_is_not_told_to_have_ended_with_all_others() -> None:
    """Where the concentrator hadn't answered yet when the program was ended, or all were stopped."""
    for all_end in (lambda world: world.supervisor.say_goodbye(world.now), lambda world: world.do(Stop(Halt.ALL))):
        world = _up(2)
        world.do(HangUp((0,)))
        assert world.state(0) is S.HANGING_UP
        all_end(world)
        world.run(5.0)
        first, second = world.supervisor.board.views
        assert first.reason == str(EndKind.HUNG_UP) != second.reason


def test_whoever_asks_for_a_dial_meanwhile_is_told_why_not() -> None:
    world = _up()
    world.do(Stop(Halt.ALL))
    for command in (Dial((0, 1)), Redial((0, 1)), Rotate((0, 1))):
        reply = world.do(command)
        assert reply.done == ()
        assert all("All is stopped" in each.reason for each in reply.refused)
        assert len(reply.refused) == 2
    (key,) = world.do(Add(session("new"))).done
    world.do(HangUp((1,)))
    world.run(60.0)
    assert world.states() == {S.DOWN}
    world.do(Stop(Halt.NOTHING))
    world.run(5.0)
    assert [world.state(n) for n in (0, 1, 2, key)] == [S.UP, S.DOWN, S.UP, S.UP]


def test_what_is_on_its_way_or_waits_ends_too() -> None:
    """In every state that a session can be in when it is said."""
    for state in (S.DIALLING, S.NEGOTIATING, S.AUTHENTICATING, S.GETTING_ADDRESS, S.HANGING_UP, S.FAILED):
        world = World([session("one", password="wrong" if state is S.FAILED else "lab")])
        world.segment.upstream.quality = world.segment.downstream.quality = type(world.segment.upstream.quality)(
            delay=0.05
        )
        world.open()
        if state is S.HANGING_UP:
            world.until(lambda world=world: world.state() is S.UP)  # type: ignore[misc]
            world.do(Redial((0,)))
        world.until(lambda world=world, state=state: world.state() is state)  # type: ignore[misc]
        world.do(Stop(Halt.ALL))
        world.run(300.0)
        assert world.state() in (S.DOWN, S.FAILED), world.story()
        assert world.view().retry_at is None
        assert not world.view().queued
        dials = len(world.events("dialling"))
        world.do(Stop(Halt.NOTHING))
        world.run(3.0)
        assert len(world.events("dialling")) > dials, state


def test_the_line_that_comes_back_dials_nobody() -> None:
    world = _up()
    world.do(Stop(Halt.ALL))
    world.run(5.0)
    for carrier in (False, True):
        world.card.set_carrier(carrier)
        world.look()
        world.run(5.0)
    assert world.states() == {S.DOWN}
    world.do(Stop(Halt.NOTHING))
    world.run(5.0)
    assert world.states() == {S.UP}


def test_redials_wait_and_what_is_asked_for_is_dialled() -> None:
    world = _up()
    world.do(Stop(Halt.REDIALS))
    for subscriber in [*world.concentrator.subscribers.values()]:
        subscriber.link.terminate(world.now, _END)
    world.run(60.0)
    assert {view.state for view in world.supervisor.board.views} <= {S.DOWN, S.FAILED}
    assert {view.retry_at for view in world.supervisor.board.views} == {None}
    assert world.do(Dial((1,))).done == (1,)
    world.run(5.0)
    assert [world.state(n) is S.UP for n in range(3)] == [False, True, False]
    world.do(Redial((1,)))
    world.run(5.0)
    assert world.state(1) is S.UP, "the operator's own redial is not one that is paused"
    world.do(Stop(Halt.NOTHING))
    world.run(5.0)
    assert world.states() == {S.UP}


def test_a_schedule_waits_while_redials_do() -> None:
    world = _up(1, rotate=RotateSettings(every=10.0, min_interval=0.0))
    world.do(Stop(Halt.REDIALS))
    address = world.view().ipv4
    world.run(60.0)
    assert (world.state(), world.view().ipv4) == (S.UP, address)
    world.do(Stop(Halt.NOTHING))
    world.run(60.0)
    assert world.view().flaps == 0
    assert len(world.events("rotated")) >= 1


def test_it_is_kept_when_another_process_goes_on() -> None:
    world = _up()
    world.do(Stop(Halt.ALL))
    world.run(5.0)
    told = Legacy(1, "boot", 1.0, tuple(world.supervisor.fleet.keep()), (), b"", world.supervisor.halted)
    legacy = msgspec.msgpack.decode(msgspec.msgpack.encode(told), type=Legacy)
    after = World([session(f"s{n}") for n in range(3)])
    after.supervisor.open(after.now, legacy.members, legacy.halted)
    after.run(60.0)
    assert after.supervisor.halted.what is Halt.ALL
    assert after.states() == {S.DOWN}
    after.do(Stop(Halt.NOTHING))
    after.run(5.0)
    assert after.states() == {S.UP}
    assert after.supervisor.halted == Halted()
