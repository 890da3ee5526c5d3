"""What is counted for monitoring, in whole lives of sessions."""

from __future__ import annotations

from engine.api.commands import HangUp, Redial
from engine.api.ending import EndKind
from engine.api.values import SessionState, Severity
from engine.lab.faults import FAULTS
from tests.unit.supervisor.world import World, session

UP = SessionState.UP


def test_each_dial_is_counted_once_with_what_came_of_it() -> None:
    world = World([session("s0"), session("s1"), session("s2", password="another")]).open()
    world.until(lambda: world.state(0) is UP and world.state(1) is UP)
    world.until(lambda: world.supervisor.totals.failures)
    totals = world.supervisor.totals
    assert (totals.dials, totals.setups) == (3, 2)
    assert 0 < totals.setup_seconds < 2 * world.now
    assert totals.failures == ((EndKind.WRONG_PASSWORD, 1),)
    assert totals.ends == ()


def test_why_sessions_end_is_counted_and_a_new_negotiation_is_no_new_dial() -> None:
    world = World([session("s0"), session("s1")]).open()
    world.until(lambda: world.states() == {UP})
    for subscriber in [*world.concentrator.subscribers]:
        FAULTS["renegotiation"](world.concentrator, subscriber, world.now)
    world.until(lambda: world.states() != {UP})
    world.until(lambda: world.states() == {UP})
    assert (world.supervisor.totals.dials, world.supervisor.totals.setups) == (2, 2)

    world.do(HangUp((0,)))
    world.do(Redial((1,)))
    world.until(lambda: world.state(0) is SessionState.DOWN and world.supervisor.totals.setups == 3)
    for subscriber in [*world.concentrator.subscribers]:
        FAULTS["PADT"](world.concentrator, subscriber, world.now)
    world.until(lambda: world.supervisor.totals.setups == 4)
    totals = world.supervisor.totals
    assert totals.dials == 4
    assert dict(totals.ends) == {EndKind.HUNG_UP: 2, EndKind.PEER_ENDED: 1}
    assert totals.failures == ()


def test_events_are_counted_by_their_severity() -> None:
    world = World().open()
    before = dict(world.supervisor.totals.events)
    for _ in range(3):
        world.supervisor.tell(Severity.ERROR, "test", "It happened.")
    after = dict(world.supervisor.totals.events)
    assert after == {**before, Severity.ERROR: before.get(Severity.ERROR, 0) + 3}
    assert sum(after.values()) == world.supervisor.log.last


def test_nobody_answers() -> None:
    world = World([session("s0")])
    world.segment.concentrators.clear()
    world.open()
    world.until(lambda: world.supervisor.totals.dials == 3, 120.0, 0.1)
    assert dict(world.supervisor.totals.failures) == {EndKind.NO_CONCENTRATOR: 2}
    assert world.supervisor.totals.setups == 0
