"""Several engines as one: keys, commands, replies, events and times, with engines that act."""

from __future__ import annotations

from concurrent.futures import Future

from engine.api.commands import (
    Add,
    ClearGhosts,
    Dial,
    Edit,
    FixCard,
    HangUp,
    Refused,
    Reload,
    Remove,
    Reply,
    StartCapture,
)
from engine.api.messages import ClientView
from engine.api.values import SessionState
from engine.settings.values import SessionSettings
from souppp_tui.model.several import AGREEING, Attached, Several, file_of
from tests.console.scripted import EPOCH, ScriptedEngine


def together(*engines: ScriptedEngine) -> Several:
    return Several([Attached(f"host-{place}", engine) for place, engine in enumerate(engines)])


def reply(future: Future[Reply]) -> Reply:
    assert future.done()
    return future.result()


def test_no_two_sessions_have_the_same_key() -> None:
    several = together(ScriptedEngine(5), ScriptedEngine(2), ScriptedEngine(4))
    snapshot = several.snapshot()
    keys = [view.id for view in snapshot.sessions]
    assert keys == [0, 3, 6, 9, 12, 1, 4, 2, 5, 8, 11]
    assert [view.engine for view in snapshot.sessions] == [f"host-{key % 3}" for key in keys]
    assert [view.name for view in snapshot.sessions][5:7] == ["home-0001", "home-0002"]
    for view in snapshot.sessions:
        own = snapshot.parts[view.id % 3].snapshot.sessions[view.id // 3]
        told = {name: getattr(view, name) for name in type(own).__struct_fields__}
        assert told == {name: getattr(own, name) for name in type(own).__struct_fields__} | {"id": view.id}


def test_a_view_is_another_one_only_where_something_has_changed() -> None:
    one, two = ScriptedEngine(4), ScriptedEngine(4)
    several = together(one, two)
    before = several.snapshot().sessions
    one.advance(0.5)
    assert all(was is view for was, view in zip(before, several.snapshot().sessions, strict=True))
    two.change(2, flaps=7)
    after_it = several.snapshot().sessions
    assert [was is view for was, view in zip(before, after_it, strict=True)] == [place != 6 for place in range(8)]
    assert after_it[6].flaps == 7
    two.submit(Remove((1,)))
    two.submit(Add(SessionSettings("late", "me")))
    two.advance(0.5)
    assert [view.id for view in several.snapshot().sessions] == [0, 2, 4, 6, 1, 5, 7, 9]


def test_each_engine_gets_its_share_of_a_command() -> None:
    one, two = ScriptedEngine(4, up=False), ScriptedEngine(4, up=False)
    several = together(one, two)
    several.snapshot()
    answer = reply(several.submit(Dial((1, 0, 3, 7, 6))))
    assert one.commands == [Dial((0, 3))]
    assert two.commands == [Dial((0, 1, 3))]
    assert set(answer.done) == {0, 1, 3, 6, 7}
    assert not answer.refused
    assert reply(several.submit(HangUp((5, 2)))).done == (2, 5)
    several.submit(Edit(3, SessionSettings("new", "me")))
    assert two.commands[-1] == Edit(1, SessionSettings("new", "me"))
    assert several.settings(3) == SessionSettings("new", "me")
    assert several.all_settings().keys() == set(range(8))


def test_a_command_for_nobody_is_done_at_once() -> None:
    assert reply(together(ScriptedEngine(1), ScriptedEngine(1)).submit(Dial(()))) == Reply(0)


def test_replies_are_one_when_all_have_come() -> None:
    one, two = ScriptedEngine(2), ScriptedEngine(2)
    two.dumb = True
    several = together(one, two)
    future = several.submit(HangUp((0, 1)))
    assert not future.done()
    two.answer()
    assert reply(future).done == (0, 1)


def test_an_engine_refuses_for_its_own_sessions() -> None:
    class Looking(ScriptedEngine):
        def submit(self, command: object) -> Future[Reply]:
            future = Future[Reply]()
            future.set_result(Reply(1, refused=(Refused(None, "You may look."),), remarks=("Told.",)))
            return future

    several = together(ScriptedEngine(3), Looking(3))
    answer = reply(several.submit(HangUp((0, 1, 2, 5))))
    assert answer.done == (0, 2)
    assert answer.refused == (Refused(1, "host-1: You may look."), Refused(5, "host-1: You may look."))
    assert answer.remarks == ("host-1: Told.",)
    assert reply(several.submit(Edit(3, SessionSettings("x")))).refused == (Refused(3, "host-1: You may look."),)
    assert reply(several.submit(Reload(), 1)).refused == (Refused(None, "host-1: You may look."),)


def test_a_session_that_is_gone_is_told_by_its_key_here() -> None:
    several = together(ScriptedEngine(2), ScriptedEngine(1))
    answer = reply(several.submit(Dial((2, 3))))
    assert answer.done == (2,)
    assert [each.key for each in answer.refused] == [3]


def test_what_is_about_no_session_goes_to_one_or_to_all() -> None:
    one, two = ScriptedEngine(1), ScriptedEngine(1)
    one.ghosts, two.ghosts = 3, 4
    several = together(one, two)
    several.submit(FixCard(), 1)
    assert (one.commands, two.commands) == ([], [FixCard()])
    assert reply(several.submit(ClearGhosts())).ghosts == 7
    assert reply(several.submit(Add(SessionSettings("new", "me")), 1)).done == (3,)
    assert several.snapshot().sessions[-1].name != "new", "not before the engine shows it"
    two.advance(0.1)
    assert several.snapshot().sessions[-1].name == "new"
    assert reply(several.submit(Add(SessionSettings("nowhere", "me")))).refused


def test_two_engines_write_no_frames_to_one_file() -> None:
    one, two = ScriptedEngine(2), ScriptedEngine(2)
    several = together(one, two)
    several.submit(StartCapture((0, 1, 3), "/tmp/frames.pcapng"))
    assert one.commands == [StartCapture((0,), "/tmp/frames-host-0.pcapng")]
    assert two.commands == [StartCapture((0, 1), "/tmp/frames-host-1.pcapng")]
    several.submit(StartCapture((1,), "/tmp/frames.pcapng"))
    assert two.commands[-1] == StartCapture((0,), "/tmp/frames.pcapng")
    assert file_of("/tmp/a.pcapng", "../gate:eth0 é") == "/tmp/a-..-gate-eth0-é.pcapng"


def test_events_stand_in_one_list_in_the_order_in_which_they_happened() -> None:
    one, two = ScriptedEngine(2), ScriptedEngine(2)
    several = together(one, two)
    for number in range(3):
        for engine in (two, one):
            engine.advance(0.3 if engine is one else 0.2)
            engine.emit(f"event {number}", session=number % 2)
    one.advance(0.1)
    two.advance(0.1)
    assert several.snapshot().events == 6
    events, lost = several.events_since(0)
    assert lost == 0
    assert [event.seq for event in events] == [1, 2, 3, 4, 5, 6]
    assert [event.at for event in events] == sorted(event.at for event in events)
    assert [(event.engine, event.session) for event in events][:2] == [("host-1", 1), ("host-0", 0)]
    one.emit("about no session")
    one.advance(0.1)
    ((last,), _) = several.events_since(6)
    assert (last.seq, last.engine, last.session, last.text) == (7, "host-0", None, "about no session")


def test_lost_events_of_one_engine_keep_none_of_the_others_back() -> None:
    one, two = ScriptedEngine(1), ScriptedEngine(1)
    several = together(one, two)

    def emit(engine: ScriptedEngine, number: int) -> None:
        for each in range(number):
            engine.emit(f"event {each}")
        engine.advance(0.1)

    emit(two, 3)
    assert len(several.events_since(0)[0]) == 3
    emit(one, 2500)  # it keeps 2,000
    events, lost = several.events_since(3)
    assert (len(events), lost) == (2000, 500)
    emit(two, 2)
    events, lost = several.events_since(several.snapshot().events - 2)
    assert ([event.engine for event in events], lost) == (["host-1", "host-1"], 0)


DAY = 86400.0


def ages(several: Several) -> list[float]:
    snapshot = several.snapshot()
    return [snapshot.at - (view.up_since or 0.0) for view in snapshot.sessions]


def test_an_engine_whose_clock_says_something_else_is_put_right() -> None:
    """Its sessions are as old as they are, and what it tells of happened when it did."""
    for off in (-DAY, DAY):
        one, two = ScriptedEngine(2), ScriptedEngine(2, epoch=EPOCH + off)
        several = together(one, two)
        assert ages(several) == [1000, 1060, 1000, 1060]
        assert several.snapshot().at == one.wall
        two.emit("now")
        two.change(0, state=SessionState.FAILED, retry_at=two.wall + 42, silent_since=None)
        assert several.snapshot().sessions[2].retry_at == one.wall + 42
        assert several.events_since(0)[0][0].at == one.wall
        details = several.details(1)
        assert details is not None
        assert details.id == 1
        assert dict(details.timers)["next Echo-Request"] == one.wall + 7.5
        assert details.ladder[0].at == two.wall - off - 1000


def test_clocks_that_agree_are_left_alone() -> None:
    one, two = ScriptedEngine(1), ScriptedEngine(1, epoch=EPOCH - AGREEING / 2)
    several = together(one, two)
    snapshot = several.snapshot()
    assert snapshot.sessions[1].since == two.snapshot().sessions[0].since


def test_an_engine_that_is_started_anew_may_have_another_clock() -> None:
    one, two = ScriptedEngine(1), ScriptedEngine(1)
    several = together(one, two)
    several.snapshot()
    for off in (3 * DAY, -2 * DAY):
        one.epoch = EPOCH + off
        one.advance(0.5)
        two.advance(0.5)
        one.change(0, up_since=one.wall - 10, since=one.wall - 10)
        assert ages(several)[0] == 10
        assert several.snapshot().at == two.wall, "the time goes on as before"


def test_time_never_goes_back() -> None:
    """Not when only the engine has news whose snapshots are a little older, nor when a clock leaps back."""
    one, two = ScriptedEngine(1), ScriptedEngine(1)
    several = together(one, two)
    one.advance(0.9)
    two.advance(0.5)
    at = several.snapshot().at
    two.advance(0.2)
    assert several.snapshot().at == at
    two.epoch -= DAY
    two.advance(0.5)
    assert several.snapshot().at == at
    one.advance(0.5)
    assert several.snapshot().at == at + 0.5


def test_time_goes_on_after_the_console_was_held_up() -> None:
    one, two = ScriptedEngine(1), ScriptedEngine(1)
    several = together(one, two)
    before = ages(several)
    two.lost = "cable"
    one.advance(600)
    assert ages(several)[0] == before[0] + 600
    two.advance(600)
    assert ages(several) == [age + 600 for age in before]


def test_only_when_none_can_be_reached_all_is_out_of_date() -> None:
    one, two = ScriptedEngine(1), ScriptedEngine(1)
    several = together(one, two)
    assert several.lost == ""
    two.lost = "hub: gone"
    assert several.lost == ""
    assert several.snapshot().lost == {1}
    one.lost = "gate: gone"
    assert several.lost == "gate: gone"


def test_who_is_attached_is_told_of_each() -> None:
    class Shared(ScriptedEngine):
        @property
        def clients(self) -> tuple[ClientView, ...]:
            return (ClientView(1, "root", 2, "console", 0.0, True),)

    several = together(ScriptedEngine(1), Shared(1))
    assert [len(part.clients) for part in several.snapshot().parts] == [0, 1]
    assert len(several.clients) == 1


def test_details_of_nobody() -> None:
    assert together(ScriptedEngine(1), ScriptedEngine(1)).details(7) is None


def test_whether_commands_are_taken_is_asked_again_and_again() -> None:
    rights = [True]
    several = Several([Attached("a", ScriptedEngine(1)), Attached("b", ScriptedEngine(1), lambda: rights[0])])
    assert [part.writes for part in several.snapshot().parts] == [True, True]
    rights[0] = False
    assert [part.writes for part in several.snapshot().parts] == [True, False]
