"""When a session's view is made anew: at once where it matters, else a moment later, and never for each step."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from engine.api.commands import HangUp
from engine.api.values import SessionState, Severity
from engine.record.events import EventLog
from engine.sessions.states import SETTING_UP
from engine.supervisor.showing import LATER, SOON

from .world import World, session


def test_steps_on_the_way_show_a_moment_later_and_not_one_by_one() -> None:
    """Four states and a dozen events are two or three views, which many sessions pay for."""
    world = World([session("one")]).open()
    before = world.supervisor.board.version
    world.until(lambda: world.state() is SessionState.UP)
    assert world.view().ipv4 == "100.64.0.2"  # at once
    world.run(SOON)
    assert world.view().ipv6_addresses
    assert world.supervisor.board.version <= before + 3


def test_who_takes_long_on_its_way_is_seen_there() -> None:
    world = World([session("one")])
    world.segment.upstream.quality = world.segment.downstream.quality = replace(
        world.segment.upstream.quality, delay=1.0
    )
    world.open()
    seen = []
    while not seen or seen[-1] is not SessionState.UP:
        state = world.state()
        world.run(SOON)
        if world.state() is state:
            assert world.view().state is state
            seen += [state] if state not in seen else []
    assert seen == [SessionState.DIALLING, *sorted(SETTING_UP, key=[*SessionState].index), SessionState.UP]


def test_many_that_are_due_at_once_are_shown_in_shares() -> None:
    world = World([session(f"s{number}") for number in range(200)]).open()
    world.until(lambda: {member.session.state for _, member in world.supervisor.fleet} == {SessionState.UP})
    world.run(SOON)
    world.run(0.01)
    assert all(view.ipv6_addresses for view in world.supervisor.board.views)
    world.do(HangUp(tuple(range(200))))
    world.run(5.0)
    assert world.states() == {SessionState.DOWN}


def test_who_reads_of_an_event_finds_the_table_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers are other threads: what they read in between is what each event finds."""
    found: dict[str, tuple[SessionState, str | None]] = {}
    add = EventLog.add

    def noting(log: EventLog, at: float, severity: Severity, kind: str, *rest: object) -> object:
        if kind in ("ipv4-up", "session-down"):
            found[kind] = world.view().state, world.view().ipv4
        return add(log, at, severity, kind, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(EventLog, "add", noting)
    world = World([session("one")]).open()
    world.until(lambda: "ipv4-up" in found)
    world.do(HangUp((0,)))
    world.until(lambda: "session-down" in found)
    assert found == {"ipv4-up": (SessionState.UP, "100.64.0.2"), "session-down": (SessionState.DOWN, None)}


def test_while_all_end_one_view_does_for_each() -> None:
    world = World([session(f"s{number}") for number in range(100)]).open()
    world.until(lambda: {member.session.state for _, member in world.supervisor.fleet} == {SessionState.UP})
    world.run(SOON)
    before = world.supervisor.board.version
    world.supervisor.say_goodbye(world.now)
    world.until(lambda: world.supervisor.idle)
    assert world.supervisor.board.version == before, "none was shown so far"
    turns = 1
    while world.supervisor.catch_up(world.now):
        turns += 1
    assert turns == 4, "in shares"
    assert world.states() == {SessionState.DOWN}
    assert world.supervisor.board.version <= before + 100
    assert all(view.ipv4 is None and view.device is None for view in world.supervisor.board.views)


def test_who_takes_long_to_end_is_seen_to_hang_up() -> None:
    world = World([session("one")]).open()
    world.until(lambda: world.state() is SessionState.UP)
    world.segment.concentrators.clear()
    world.supervisor.say_goodbye(world.now)
    world.run(LATER + 0.1)
    assert world.view().state is SessionState.HANGING_UP
