"""Hooks as they run: what a program gets, what is taken of it, and that none outlives its time."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.run.hooks import KEPT, carry_out
from engine.supervisor.hooks import HookResult, HookRun


@pytest.fixture
def closing() -> Iterator[int]:
    made = os.eventfd(0)
    yield made
    os.close(made)


def run(closing: int, script: str, timeout: float = 30.0) -> HookResult:
    return carry_out(HookRun(7, "up", ("/bin/sh", "-c", script), {"SOUPPP_EVENT": "up"}, timeout), closing)


def test_a_program_gets_its_variables_and_nothing_of_ours(closing: int, tmp_path: Path) -> None:
    os.environ["SOUPPP_TEST_SECRET"] = "wonderland"
    leaked = os.open(tmp_path / "leaked", os.O_CREAT | os.O_RDWR)
    os.set_inheritable(leaked, True)
    try:
        limited = "until [ $(ulimit -n) = 1024 ]; do sleep 0.01; done"  # a moment after it has begun
        result = run(closing, f"env; pwd; ls -l /proc/$$/fd; {limited}; ulimit -n; cat")
    finally:
        os.close(leaked)
        del os.environ["SOUPPP_TEST_SECRET"]
    assert not result.failure
    assert "SOUPPP_EVENT=up\n" in result.output
    assert "\n/\n" in result.output
    assert "wonderland" not in result.output
    assert "leaked" not in result.output
    assert "\n1024\n" in result.output


def test_how_it_ends_is_told(closing: int) -> None:
    assert run(closing, "echo no; exit 3") == HookResult(7, "ended with exit status 3", "no\n")
    assert run(closing, "kill -TERM $$").failure == "was ended by SIGTERM"
    assert "can't be run (No such file" in carry_out(HookRun(7, "up", ("/none/x",), {}, 1.0), closing).failure
    assert "can't be run (Permission denied" in carry_out(HookRun(7, "up", ("/etc/passwd",), {}, 1.0), closing).failure
    assert "can't be run" in carry_out(HookRun(7, "up", ("/bin/true", "\0"), {}, 1.0), closing).failure


def test_of_much_output_the_beginning_is_kept(closing: int) -> None:
    result = run(closing, "yes | head -c 1000000; echo end >&2")
    assert not result.failure
    assert len(result.output) == KEPT


def test_who_takes_too_long_is_killed(closing: int) -> None:
    assert run(closing, "trap '' TERM; while :; do sleep 1000; done", 0.2).failure == "was killed after 0 s"


def test_an_engine_that_ends_kills_what_runs_with_all_that_it_has_started(closing: int, tmp_path: Path) -> None:
    pids = tmp_path / "pids"

    def end() -> None:
        _until(lambda: pids.exists() and pids.read_text().endswith("\n"))
        os.eventfd_write(closing, 1)

    ending = threading.Thread(target=end)
    ending.start()
    result = run(closing, f"echo begun; sleep 1000 & echo $! > {pids}; wait")
    ending.join()
    assert result == HookResult(7, "was killed, as the engine ends", "begun\n")
    _until(lambda: _is_dead(int(pids.read_text())))


def test_what_it_leaves_behind_is_not_waited_for(closing: int, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    result = run(closing, f"sleep 1000 & echo $! > {pids}; echo done", 100.0)
    assert result == HookResult(7, "", "done\n")
    os.kill(int(pids.read_text()), 9)


def _is_dead(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True


def _until(so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30.0
    while not so():
        assert time.monotonic() < deadline
        time.sleep(0.01)
