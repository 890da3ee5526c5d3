"""Sessions that are dialled for another address: by the operator, a schedule or a health check, within limits."""

from __future__ import annotations

from engine.api.commands import Dial, Edit, HangUp, Redial, Remove, Rotate, Watch
from engine.api.values import SessionState
from engine.lab.faults import FAULTS
from engine.settings.values import RotateSettings
from engine.supervisor.rotating import HEALTH, HELD
from tests.unit.supervisor.world import World, session

UP = SessionState.UP


def up(*sessions: object) -> World:
    world = World(sessions).open()  # type: ignore[arg-type]
    world.until(lambda: world.states() == {UP})
    return world


def test_a_schedule_brings_another_address_after_its_time_and_again() -> None:
    world = up(session("one", rotate=RotateSettings(every=3600.0, spread=600.0)))
    due = []
    for _ in range(3):
        before, since = world.view().ipv4, world.view().up_since
        rotated = len(world.events("rotated"))
        world.run(3599.0)
        assert world.view().ipv4 == before
        world.until(lambda n=rotated: len(world.events("rotated")) > n, 610.0, 1.0)  # type: ignore[misc]
        assert world.view().ipv4 != before
        assert since is not None
        due.append(world.events("rotated")[-1].at - since)
    assert all(3600.0 <= each < 4210.0 for each in due)
    assert len({round(each) for each in due}) > 1, "at random"
    assert "as its schedule says" in world.story()


def test_a_session_that_is_up_follows_a_schedule_that_is_set_later() -> None:
    world = up(session("one"))
    before = world.view().ipv4
    world.run(100.0)
    assert world.supervisor.next_timer() is not None
    world.do(Edit(0, session("one", rotate=RotateSettings(every=200.0))))
    world.run(99.0)
    assert world.view().ipv4 == before
    world.until(lambda: world.events("rotated"), 10.0)
    world.do(Edit(0, session("one")))
    world.run(1000.0)
    assert len(world.events("rotated")) == 1


def test_connections_have_their_time_before_the_address_goes() -> None:
    world = up(session("one", drain=30.0, ipv6=False))
    before = world.view().ipv4
    world.do(Watch(0))
    world.do(Rotate((0,)))
    assert world.view().draining
    assert world.state() is UP
    assert "Draining for 30 s" in world.events("draining")[0].text
    assert "drained" in dict(world.supervisor.board.details[0].timers)
    world.run(29.0)
    assert (world.view().draining, world.view().ipv4) == (True, before)
    world.until(lambda: world.events("rotated"), 5.0)
    assert not world.view().draining
    assert world.view().ipv4 != before
    had = [span for span in world.supervisor.ledger(0).addresses if ":" not in span.address]
    assert [span.address for span in had] == [before, world.view().ipv4]
    assert had[0].until is not None
    assert had[1].until is None
    world.do(Watch(0))
    assert {*had} <= {*world.supervisor.board.details[0].ledger.addresses}


def test_a_drain_ends_at_once_where_it_is_asked_again_or_otherwise() -> None:
    for command in (Rotate((0,)), Redial((0,))):
        world = up(session("one", drain=3000.0))
        before = world.view().ipv4
        world.do(Rotate((0,)))
        world.run(5.0)
        world.do(command)
        assert not world.view().draining
        world.until(lambda w=world, b=before: w.view().ipv4 not in (None, b), 10.0)  # type: ignore[misc]
    for leaves in (HangUp((0,)), Remove((0,))):
        world = up(session("one", drain=30.0), session("other"))
        world.do(Rotate((0,)))
        world.do(leaves)
        world.run(60.0)
        assert not world.events("rotated")
        assert not any(view.draining for view in world.supervisor.board.views)
    world.do(Rotate((1,)))
    world.until(lambda: world.events("rotated", 1))


def test_a_session_that_is_lost_while_it_drains_comes_back_with_another_address() -> None:
    world = up(session("one", drain=30.0))
    before = world.view().ipv4
    world.do(Rotate((0,)))
    FAULTS["PADT"](world.concentrator, next(iter(world.concentrator.subscribers)), world.now)
    world.until(lambda: world.view().ipv4 is not None and not world.view().draining, 10.0)
    assert world.view().ipv4 != before
    world.run(60.0)
    assert world.state() is UP
    assert world.view().flaps == 1


def test_an_address_is_kept_for_the_least_time_whoever_wants_another() -> None:
    world = up(session("one", rotate=RotateSettings(min_interval=600.0)))
    before = world.view().ipv4
    world.run(100.0)
    reply = world.do(Rotate((0,)))
    assert not reply.done
    assert "for 5" in reply.refused[0].reason
    assert "Redial" in reply.refused[0].reason
    rotating = world.supervisor.rotating
    world.supervisor.run(lambda: rotating.wish(0, HEALTH, world.now), world.now)
    world.run(400.0)
    assert world.view().ipv4 == before
    world.until(lambda: world.events("rotated"), 110.0)
    assert "as its health check fails" in world.story()


def test_a_health_check_that_works_again_in_time_changes_nothing() -> None:
    world = up(session("one", rotate=RotateSettings(min_interval=600.0)))
    rotating = world.supervisor.rotating
    world.supervisor.run(lambda: rotating.wish(0, HEALTH, world.now), world.now)
    world.run(100.0)
    world.supervisor.run(lambda: rotating.is_well(0), world.now)
    world.run(1000.0)
    assert not world.events("rotated")


def test_no_more_than_so_many_are_without_their_address_at_once() -> None:
    world = up(*(session(f"s{n}", drain=10.0, rotate=RotateSettings(at_once=2)) for n in range(6)))
    world.do(Rotate(tuple(range(6))))
    most = 0
    end = world.now + 60.0
    while len(world.events("rotated")) < 6:
        assert world.now < end, world.story()
        world.run(0.05)
        busy = [view for view in world.supervisor.board.views if view.draining or view.state is not UP]
        most = max(most, len(busy))
    assert most == 2
    assert [event.session for event in world.events("draining")] == [0, 1, 2, 3, 4, 5]


def test_one_that_comes_to_no_address_keeps_others_waiting_for_a_while_only() -> None:
    world = up(*(session(f"s{n}", rotate=RotateSettings(at_once=1)) for n in range(2)))
    world.do(Edit(0, session("s0", password="wrong")))
    world.do(Rotate((0, 1)))
    world.until(lambda: world.state(0) is SessionState.FAILED)
    world.run(HELD - 30.0)
    assert world.view(1).up_since is not None
    assert not world.events("rotated")
    world.until(lambda: world.events("rotated", 1), 60.0, 0.5)


def test_who_waits_for_a_turn_and_is_hung_up_has_none() -> None:
    world = up(*(session(f"s{n}", drain=60.0, rotate=RotateSettings(at_once=1)) for n in range(3)))
    world.do(Rotate((0, 1, 2)))
    world.do(HangUp((1,)))
    world.until(lambda: len(world.events("rotated")) == 2, 300.0, 0.5)
    assert world.state(1) is SessionState.DOWN
    world.do(Dial((1,)))
    world.until(lambda: world.states() == {UP})
    world.run(300.0)
    assert len(world.events("rotated")) == 2
    assert not world.events("internal-error"), world.story()
