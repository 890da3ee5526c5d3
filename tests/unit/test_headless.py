"""`--until-up` ends when all are up, also where the engine's events can be read a moment before its views."""

from __future__ import annotations

import json
import threading
from array import array
from collections.abc import Sequence
from typing import cast

import pytest

from engine.api import CardView, EngineApi, Event, SessionState, SessionView, Severity, Snapshot
from souppp_tui import headless
from souppp_tui.headless import HeadlessOptions


class Engine:
    """One session that is up, whose view says so from a certain look on."""

    def __init__(self, looks: int) -> None:
        self._looks = looks

    def events_since(self, seq: int) -> tuple[Sequence[Event], int]:
        return ([Event(1, 0.0, Severity.INFO, "ipv4-up", "Up.", 0, "one")] if seq < 1 else []), 0

    def snapshot(self) -> Snapshot:
        self._looks -= 1
        state = SessionState.GETTING_ADDRESS if self._looks > 0 else SessionState.UP
        session = SessionView(0, "one", "alice", "", True, state, 0.0)
        return Snapshot(0.0, CardView("va", "", 1500, True), (), (session,), array("Q"), 1)


@pytest.mark.parametrize("looks", [1, 2, 5])
def test_views_that_come_after_their_events(looks: int, capsys: pytest.CaptureFixture[str]) -> None:
    engine = cast(EngineApi, Engine(looks))
    assert headless.run(engine, HeadlessOptions(until_up=True, timeout=20.0), threading.Event()) == 0
    *_, last = capsys.readouterr().out.splitlines()
    assert json.loads(last)["state"] == "up"
