"""Output that nobody reads holds up nobody, and the wish to leave reaches whoever waits."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from souppp_tui.terminal.leaving import Leaving
from souppp_tui.terminal.outlet import Outlet
from tests.conftest import ROOT
from tests.disks import full
from tests.program import PATIENCE, until

PIPE = 4096


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe that takes little."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PIPE)
    yield reader, writer
    for end in (reader, writer):
        os.close(end)


def test_all_is_taken_in_order_by_a_reader_that_comes_late(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    lines = [f"{number}\n".encode() for number in range(5000)]
    before = b"." * PIPE  # the pipe is full, or the first lines would be taken at once
    os.write(writer, before)
    taken = threading.Event()
    outlet = Outlet(writer, taken.set)
    for line in lines:
        outlet.write(line)
    assert not outlet.finish(0.0)
    assert outlet.waiting > 0
    assert not taken.is_set()
    wanted, said = before + b"".join(lines), b""
    while len(said) < len(wanted):
        said += os.read(reader, 1000)
    assert said == wanted
    assert outlet.finish(PATIENCE)
    assert taken.wait(PATIENCE)


def test_a_reader_that_has_gone() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    told = threading.Event()
    outlet = Outlet(writer, told.set)
    outlet.write(b"x")
    assert told.wait(PATIENCE)
    assert isinstance(outlet.failure, BrokenPipeError)
    outlet.write(b"y")
    assert outlet.waiting == 0
    assert outlet.finish(PATIENCE)
    os.close(writer)


def test_what_fails_is_tried_again_from_where_it_stopped(tmp_path: Path) -> None:
    path = tmp_path / "output"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    with full(path) as make_room:
        os.truncate(path, os.stat(path).st_size - 2)
        outlet = Outlet(descriptor, again=0.01)
        outlet.write(b"one\n")
        until(lambda: outlet.failure, "the failure")
        outlet.write(b"two\n")
        assert outlet.waiting == 6
        make_room()
        until(lambda: not outlet.waiting, "the rest")
        assert path.read_bytes() == b"e\ntwo\n"
        assert outlet.failure is None
    assert outlet.finish(0.0)
    os.close(descriptor)


def test_what_still_fails_at_the_end_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "output"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    with full(path):
        outlet = Outlet(descriptor, again=10 * PATIENCE)
        outlet.write(b"one\n")
        until(lambda: outlet.failure, "the failure")
        assert outlet.finish(PATIENCE)
        assert isinstance(outlet.failure, OSError)
    os.close(descriptor)


def test_a_write_that_never_returns_does_not_keep_the_program(pipe: tuple[int, int]) -> None:
    """Neither at the end, where Python flushes its own streams."""
    reader, writer = pipe
    program = "from souppp_tui.terminal.outlet import Outlet\nOutlet(1).write(bytes(1 << 20))\ninput()"
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=writer, stderr=subprocess.PIPE, cwd=ROOT
    )
    assert os.read(reader, 1) == b"\0"
    _, complaints = process.communicate(b"\n", timeout=PATIENCE)
    assert (process.returncode, complaints) == (0, b"")


@pytest.fixture
def heeded() -> Iterator[Leaving]:
    """One that signals set."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    leaving = Leaving()
    leaving.heed_signals()
    yield leaving
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_wakes_who_waits(heeded: Leaving, number: signal.Signals) -> None:
    assert not heeded.is_set()
    threading.Timer(0.05, os.kill, (os.getpid(), number)).start()
    assert heeded.wait(PATIENCE)
    assert heeded.is_set()


def test_a_signal_to_a_forked_child_is_the_childs(heeded: Leaving) -> None:
    """pyroute2 forks children and ends them by SIGTERM; the program must go on."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, b"x")
        while True:
            time.sleep(0.01)
    os.read(reader, 1)
    os.kill(child, signal.SIGTERM)
    _, status = os.waitpid(child, 0)
    os.close(reader)
    os.close(writer)
    assert os.WTERMSIG(status) == signal.SIGTERM
    assert not heeded.is_set()


def test_set_wakes_another_thread() -> None:
    leaving = Leaving()
    woken = threading.Event()
    threading.Thread(target=lambda: leaving.wait(PATIENCE) and woken.set(), daemon=True).start()
    leaving.set()
    until(woken.is_set, "the other thread's end")
