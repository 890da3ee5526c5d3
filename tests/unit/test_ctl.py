"""What `ctl` prints for people."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

from engine.api.values import SessionState, SessionView
from engine.record.lacking import not_up
from souppp_tui.commands.ctl import said, session_object


def view(**more: object) -> SessionView:
    needed = {"id": 0, "name": "home-01", "user": "alice", "service": "", "autodial": True}
    return SessionView(**needed, state=SessionState.UP, since=0.0, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "text"),
    [(True, "yes"), (False, "no"), (0, "0"), (None, "-"), ("", "-"), ((), "-"), ([], "-"), (("a", "b"), "a, b")],
)
def test_a_value_is_said_in_words(value: object, text: str) -> None:
    assert said(value) == text


def test_nothing_of_a_session_is_shown_as_python_would() -> None:
    told = session_object(
        view(setup_ms=11.48352000018349, rtt_ms=5.1, tags=("load",), ipv6_addresses=("2001:db8::1",)), ()
    )
    assert (told["setup_ms"], told["rtt_ms"]) == (11.484, 5.1)
    for value in told.values():
        assert not {"(", "[", "'"} & {*said(value)}
        assert said(value) not in ("True", "False", "None")
    json.dumps(told)


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (SessionState.DOWN, "home-01 is down: dial it first."),
        (SessionState.FAILED, "home-01 has failed (wrong password): dial it again first."),
        (SessionState.GETTING_ADDRESS, "home-01 is getting address: try again once it is up."),
    ],
)
def test_why_a_session_can_not_be_used(state: SessionState, text: str) -> None:
    assert not_up(replace(view(reason="wrong password"), state=state)) == text
