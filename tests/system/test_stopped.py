"""A process that is stopped for a while, as by SIGSTOP or a debugger: its sessions are there when it goes on."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from engine.run.loop import Clock
from tests.conftest import run
from tests.program import running

pytestmark = pytest.mark.usefixtures("needs_root")

STOPPED = 4.0
"""Seconds. Who is judged by what is tried in virtual time; here it is that a real process wakes up as that says."""
SESSIONS = 8


def test_stopped_and_continued(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    keepalive = "keepalive: {interval: 1, failures: 10}"
    lines = [f"  - {{name: s{n}, user: u, password: lab, autodial: true, {keepalive}}}" for n in range(SESSIONS)]
    file.write_text("\n".join(["sessions:", *lines]))
    with running("--lab", "--headless", "--until-up", "--hold", "--config", file) as program:
        before = program.up(SESSIONS)
        program.process.send_signal(signal.SIGSTOP)
        time.sleep(STOPPED)
        program.process.send_signal(signal.SIGCONT)
        assert "This program was stopped for" in program.event("stood-still")["text"]
        time.sleep(2.0)
        assert not [said for said in program.said if said.get("event") in ("session-down", "dial-failed")]
        device = before["s0"]["device"]
        run("nsenter", "-t", str(program.pid), "-n", "ping", "-c", "1", "-W", "10", "-I", device, "100.64.0.1")
        assert program.end() == 0


def test_a_clock_tells_by_how_much_it_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host's own clock is not to be set by a test."""
    clock = Clock(time.CLOCK_REALTIME)
    assert abs(clock.look()) < 0.5
    proper = time.clock_gettime
    monkeypatch.setattr(time, "clock_gettime", lambda number: proper(number) + 3600.0)
    assert abs(clock.look() - 3600.0) < 0.5
    assert abs(clock.look()) < 0.5
