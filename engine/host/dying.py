"""Processes that were killed and are still ending: their descriptors are closed one by one, and locks end with them.

Nothing that such a process does can be hoped for any more, but what it holds is free only when it is gone.
"""

from __future__ import annotations

import os
import select
from contextlib import suppress
from pathlib import Path

_PF_EXITING = 0x4
"""In `flags` of /proc/PID/stat, the seventh value behind the name in brackets."""
_SIGKILL_PENDING = 1 << 8


def holder(path: Path) -> int | None:
    """The process that holds the flock(2) of a file, if there is one and it is certain which."""
    try:
        inode, locks = path.stat().st_ino, Path("/proc/locks").read_text()
    except OSError:
        return None
    # By the inode alone: what a file system says of its device elsewhere may be another number.
    fields = (line.split() for line in locks.splitlines() if " FLOCK " in line and "->" not in line)
    found = {int(each[4]) for each in fields if each[5].rpartition(":")[2] == str(inode)}
    return found.pop() if len(found) == 1 else None


def is_dying(process: int) -> bool:
    """Whether it has been killed, or is ending by itself, and isn't gone yet."""
    there = Path("/proc") / str(process)
    try:
        state, *numbers = (there / "stat").read_text().rpartition(")")[2].split()
        pending = next(line for line in (there / "status").read_text().splitlines() if line.startswith("SigPnd:"))
    except OSError:
        return False
    # The first thread may be gone, and others at work on what is left.
    exiting = state in "ZX" or int(numbers[5]) & _PF_EXITING
    return bool(exiting or int(pending.split()[1], 16) & _SIGKILL_PENDING)


def is_alive(process: int) -> bool:
    """Whether there is such a process, and it isn't ending."""
    return (Path("/proc") / str(process)).exists() and not is_dying(process)


def wait_for(process: int, seconds: float) -> bool:
    """Return when it is gone, or after so many seconds; whether it is."""
    with suppress(ProcessLookupError):
        end = os.pidfd_open(process)
        try:
            poll = select.poll()
            poll.register(end, select.POLLIN)
            return bool(poll.poll(seconds * 1000))
        finally:
            os.close(end)
    return True
