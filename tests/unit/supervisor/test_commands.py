"""Every command in every state of a session: a table of what it leads to, and what its reply says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from engine.api.commands import (
    Add,
    ClearGhosts,
    Command,
    Dial,
    Edit,
    FixCard,
    HangUp,
    Redial,
    Refused,
    Remove,
    Reply,
    Rotate,
    StartCapture,
    StopCapture,
    Watch,
)
from engine.api.values import SessionState
from engine.lab.concentrator import LabSettings
from engine.sessions.fleet import SHARE
from engine.settings.limits import MAX_SESSIONS
from engine.supervisor.dispatch import FAULT, GONE

from .world import QUICK, World, session

S = SessionState
SLOW = 0.05


def _world(state: SessionState) -> World:
    """A session in a state, the first time it comes there; `reach` says what it takes."""
    settings = session("one", autodial=state not in (S.DOWN,), password="wrong" if state is S.FAILED else "lab")
    world = World([settings])
    world.segment.upstream.quality = world.segment.downstream.quality = replace(
        world.segment.upstream.quality, delay=SLOW
    )
    world.open()
    if state is S.HANGING_UP:
        world.until(lambda: world.state() is S.UP)
        world.do(HangUp((0,)))
    else:
        world.until(lambda: world.state() is state)
    return world


ON_THE_WAY = (S.DIALLING, S.NEGOTIATING, S.AUTHENTICATING, S.GETTING_ADDRESS)
COMMANDS: dict[str, Callable[[], Command]] = {
    "dial": lambda: Dial((0,)),
    "hang up": lambda: HangUp((0,)),
    "redial": lambda: Redial((0,)),
    "rotate": lambda: Rotate((0,)),
    "edit": lambda: Edit(0, session("renamed")),
    "remove": lambda: Remove((0,)),
    "capture": lambda: StartCapture((0,), "file"),
    "no capture": lambda: StopCapture((0,)),
    "watch": lambda: Watch(0),
    "ghosts": ClearGhosts,
    "fix card": FixCard,
}

OF_NO_SESSION = ("ghosts", "fix card")

END_UP = {
    # what a session that was in this state is in after a while
    "dial": dict.fromkeys(S, S.UP) | {S.FAILED: S.FAILED},
    "hang up": dict.fromkeys(S, S.DOWN),
    "redial": dict.fromkeys(S, S.UP) | {S.FAILED: S.FAILED},
    "rotate": dict.fromkeys(S, S.UP) | {S.FAILED: S.FAILED},
    "edit": dict.fromkeys(S, S.UP) | {S.DOWN: S.DOWN, S.HANGING_UP: S.DOWN},  # FAILED: with the right password
    "capture": dict.fromkeys(S, S.UP) | {S.DOWN: S.DOWN, S.HANGING_UP: S.DOWN, S.FAILED: S.FAILED},
}
END_UP |= dict.fromkeys(("no capture", "watch", *OF_NO_SESSION), END_UP["capture"])


@pytest.mark.parametrize("state", S)
@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_in_every_state(name: str, state: SessionState) -> None:
    world = _world(state)
    reply = world.do(COMMANDS[name]())
    assert reply.refused == ()
    assert reply.done == (() if name in OF_NO_SESSION else (0,))
    world.run(100.0 if state is S.FAILED else 8.0)
    assert not world.events("internal-error"), world.story()
    if name == "remove":
        assert world.supervisor.board.views == ()
        assert not world.concentrator.subscribers
        assert not world.disk.noted
        assert not world.egress.devices
        return
    assert world.state() is END_UP[name][state], world.story()
    up = world.state() is S.UP
    assert len(world.concentrator.subscribers) == len(world.disk.noted) == len(world.egress.devices) == up
    assert (0 in world.captures) is (name == "capture")
    assert world.view().capturing is (name == "capture")


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in OF_NO_SESSION])
def test_a_session_that_is_gone_is_refused_by_key(name: str) -> None:
    world = World([session("one"), session("two")]).open()
    world.run(1.0)
    world.do(Remove((0,)))
    reply = world.do(COMMANDS[name]())
    assert reply.done == ()
    assert reply.refused == (Refused(0, GONE),)
    assert world.state(1) is S.UP


def test_what_can_be_done_is_done_and_the_rest_is_refused() -> None:
    world = World([session("one"), session("two")]).open()
    world.run(1.0)
    reply = world.do(HangUp((1, 7, 0)))
    assert reply.done == (1, 0)
    assert reply.refused == (Refused(7, GONE),)


def test_add_answers_with_the_new_key_and_dials_if_it_is_wanted() -> None:
    world = World([session("one")]).open()
    assert world.do(Add(session("two"))).done == (1,)
    assert world.do(Add(session("three", autodial=False))).done == (2,)
    world.run(1.0)
    assert [view.state for view in world.supervisor.board.views] == [S.UP, S.UP, S.DOWN]
    assert world.supervisor.board.settings[1] == session("two")


def test_a_name_that_is_taken_is_refused_with_that_reason() -> None:
    world = World([session("one"), session("two")]).open()
    added = world.do(Add(session("one")))
    assert added.refused == (Refused(None, "There is already a session called one."),)
    changed = world.do(Edit(1, session("one")))
    assert changed.refused == (Refused(1, "There is already a session called one."),)
    assert [view.name for view in world.supervisor.board.views] == ["one", "two"]
    assert world.events("not-added")
    assert world.events("not-changed")
    assert world.do(Edit(1, session("two", mru=1400))).done == (1,), "its own name is not taken"


def test_no_more_sessions_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World([session("one")]).open()
    monkeypatch.setattr(world.supervisor.board, "free_key", lambda: None)
    (refused,) = world.do(Add(session("two"))).refused
    assert f"{MAX_SESSIONS:,}" in refused.reason


def test_an_edit_of_an_open_session_is_in_force_at_the_next_dial_and_shown_at_once() -> None:
    world = World([session("one")]).open()
    world.run(1.0)
    world.do(Edit(0, session("one", service="other")))
    assert world.supervisor.board.settings[0].service == "other"
    assert world.view().service == ""
    world.do(Redial((0,)))
    world.run(1.0)
    assert world.view().service == "other"


def test_a_capture_that_cannot_be_written_is_refused() -> None:
    world = World([session("one")]).open()
    world.captures.refuses = True
    (refused,) = world.do(StartCapture((0,), "/nowhere/file")).refused
    assert refused.key == 0
    assert "/nowhere/file" in refused.reason
    assert not world.view().capturing


def test_removing_a_session_closes_its_capture() -> None:
    world = World([session("one")]).open()
    world.do(StartCapture((0,), "file"))
    assert world.captures.files == {0: Path("file")}
    world.do(Remove((0,)))
    assert world.captures.files == {}


def test_a_wrong_password_is_asked_for_less_and_less() -> None:
    world = World([session("one", password="wrong")], lab=LabSettings(any_account=True, any_password="lab")).open()
    world.run(3600.0)
    assert 3 <= len(world.events("dial-failed")) <= 60


def test_settings_that_no_file_could_hold_are_refused() -> None:
    world = World([session("one")]).open()
    (refused,) = world.do(Add(session("two", mru=9000, device="a/b"))).refused
    assert refused.reason.startswith("mru: 9000 is out of range (128 to 1500); device: must be a device name")
    (refused,) = world.do(Edit(0, session(""))).refused
    assert (refused.key, refused.reason) == (0, "name: must not be empty")
    assert [view.name for view in world.supervisor.board.views] == ["one"]


def test_a_password_that_is_not_told_stays_as_it_was() -> None:
    """As in an edit by a console that was never told the password."""
    world = World([session("one", password="lab")]).open()
    assert world.do(Edit(0, session("one", password=None, mru=1400))).done == (0,)
    assert world.supervisor.board.settings[0] == session("one", password="lab", mru=1400)
    world.run(1.0)
    world.do(Redial((0,)))
    world.until(lambda: world.view().mtu == 1400 and world.state() is S.UP)
    (refused,) = world.do(Add(session("two", password=None))).refused
    assert refused.reason == "password: must be given"


def test_a_device_that_another_session_has_is_refused() -> None:
    world = World([session("one", device="wan0"), session("two")]).open()
    (refused,) = world.do(Edit(1, session("two", device="wan0"))).refused
    assert refused.reason == "There is already a session with the device wan0."
    assert world.do(Add(session("three", device="wan0"))).refused
    assert world.do(Edit(0, session("one", device="wan0", mru=1400))).done == (0,), "its own is not taken"


MANY = 3 * SHARE + 1


def test_what_is_asked_of_many_is_done_a_share_at_a_time() -> None:
    world = World([session(f"s{n}") for n in range(MANY)]).open()
    world.until(lambda: world.states() == {S.UP})
    keys = tuple(range(MANY))
    for share in (SHARE, 2 * SHARE, 3 * SHARE, MANY):
        if share == SHARE:
            assert world.do(HangUp(keys)).done == keys
        else:
            world.supervisor.handle_timer(world.now)
        assert sum(view.state is not S.UP for view in world.supervisor.board.views) == share
        due = world.supervisor.next_timer()
        assert due is not None
        assert (due <= world.now) is (share < MANY)
    world.run(1.0)
    assert world.states() == {S.DOWN}


def test_commands_for_many_keep_their_order() -> None:
    world = World([session(f"s{n}") for n in range(MANY)]).open()
    world.until(lambda: world.states() == {S.UP})
    keys = tuple(range(MANY))
    world.do(HangUp(keys))
    world.do(Dial(keys))
    world.do(Remove(keys[-2:]))
    world.do(HangUp(keys[-2:]))
    world.run(2.0)
    assert world.states() == {S.UP}
    assert len(world.supervisor.board.views) == MANY - 2
    assert len(world.concentrator.subscribers) == MANY - 2
    assert not world.events("internal-error"), world.story()


def test_a_fault_of_our_own_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said nothing about looks as if it were done."""
    world = World([session("one")]).open()
    monkeypatch.setattr(world.supervisor, "add", lambda settings: 1 // 0)
    assert world.do(Add(session("two"))) == Reply(1, refused=(Refused(None, FAULT),))
    assert "Internal error" in world.events("internal-error")[0].text


def test_what_sessions_had_that_are_removed_is_free_at_once() -> None:
    """Though many are removed a share at a time; nor can they be named any more."""
    many = tuple(range(3 * SHARE))
    world = World([session(f"s{key}", device=f"d{key}", autodial=False) for key in many]).open()
    assert world.do(Remove(many)).done == many
    assert len(world.supervisor.board.views) == 2 * SHARE
    assert world.do(Dial(many[-1:])).refused == (Refused(many[-1], GONE),)
    assert world.do(Remove(many[-1:])).refused == (Refused(many[-1], GONE),)
    added = world.do(Add(session(f"s{many[-1]}", autodial=False))).done
    added += world.do(Add(session("new", device=f"d{many[-2]}", autodial=False))).done
    assert len(added) == 2
    world.run(1.0)
    assert [view.id for view in world.supervisor.board.views] == list(added)
    assert not world.supervisor.leaving
    assert not world.events("internal-error")


def test_who_waits_for_the_pace_of_dials_is_seen_to() -> None:
    """It isn't down: it comes up by itself. Hung up, it no longer waits."""
    world = World([session(f"s{n}", autodial=False) for n in range(3)], replace(QUICK, rate=0.1)).open()
    world.do(Dial((0, 1, 2)))
    assert [world.view(key).queued for key in range(3)] == [False, True, True]
    assert {world.state(key) for key in (1, 2)} == {S.DOWN}
    world.do(HangUp((2,)))
    assert not world.view(2).queued
    world.until(lambda: world.state(1) is S.UP, 30.0)
    assert not world.view(1).queued
