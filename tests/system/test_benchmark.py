"""A benchmark that is ended early leaves nothing behind; what one that was killed leaves, the next one removes."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.program import until

pytestmark = pytest.mark.usefixtures("needs_root")

NETNS = Path("/run/netns")
STOPPED = 128 + signal.SIGTERM


def left(pid: int) -> list[str]:
    """The namespaces of a benchmark."""
    return sorted(path.name for path in NETNS.glob(f"bench-*-{pid}"))


@contextmanager
def benchmark() -> Iterator[subprocess.Popen[bytes]]:
    """One that has made its first namespaces."""
    command = [sys.executable, ROOT / "benchmarks/datapath.py", "--rows", "ping"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            until(lambda: process.poll() is not None or len(left(process.pid)) >= 2, "namespaces", 60)
            yield process
        finally:
            process.kill()


def test_a_benchmark_that_is_ended_leaves_nothing() -> None:
    with benchmark() as one:
        one.send_signal(signal.SIGTERM)
        assert one.wait(60) == STOPPED
        assert left(one.pid) == []


def test_the_next_benchmark_removes_what_a_killed_one_left_and_nothing_else() -> None:
    other = "bench-mark-of-somebody"
    subprocess.run(["ip", "netns", "add", other], check=True)
    try:
        with benchmark() as killed:
            killed.kill()
            killed.wait()
            assert left(killed.pid)
        with benchmark() as running, benchmark() as another:
            assert left(killed.pid) == []
            assert left(running.pid), "one that still runs keeps its own"
            for one in (running, another):
                one.send_signal(signal.SIGTERM)
                assert one.wait(60) == STOPPED
                assert left(one.pid) == []
        assert (NETNS / other).exists()
    finally:
        subprocess.run(["ip", "netns", "del", other], check=True)
