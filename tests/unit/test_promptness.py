"""How soon the engine's thread may run."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path

import pytest

from engine.host.promptness import SLICE, prompt_thread


def asked_for() -> int | None:
    """The nanoseconds of processor that this thread asks for in one go, where the kernel tells."""
    try:
        found = re.search(r"^se\.slice\s*:\s*(\d+)", Path("/proc/thread-self/sched").read_text(), re.MULTILINE)
    except FileNotFoundError:
        return None
    return int(found[1]) if found else None


def test_a_prompt_thread_asks_for_little_and_those_it_starts_for_as_much_as_before() -> None:
    before, nice = asked_for(), os.getpriority(os.PRIO_PROCESS, 0)
    seen: list[int | None] = []

    def prompt() -> None:
        prompt_thread()
        seen.extend((asked_for(), os.getpriority(os.PRIO_PROCESS, 0)))
        child = threading.Thread(target=lambda: seen.append(asked_for()))
        child.start()
        child.join()

    thread = threading.Thread(target=prompt)
    thread.start()
    thread.join()
    if before is None or tuple(map(int, re.findall(r"\d+", os.uname().release)[:2])) < (6, 12):
        pytest.skip("this kernel doesn't tell, or has no such wish")
    assert seen == [SLICE, nice, before]
    assert asked_for() == before
