"""The kernel's threads, as far as this process can see them."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_KTHREADD = 2
_RECENT = 64
"""So many processes may have been started since the one that is looked for."""


def visible() -> bool:
    """Whether kernel threads can be seen and bound: not in a process namespace of one's own, as containers have."""
    try:
        # /proc may also be that of another process namespace, where numbers mean other processes.
        return os.readlink("/proc/self") == str(os.getpid()) and _name(_KTHREADD) == "kthreadd"
    except OSError:
        return False


def newest(name: str) -> int:
    """The id of a kernel thread whose name begins so and that was started a moment ago; 0 if it can't be seen."""
    if not visible():
        return 0
    last = int(Path("/proc/loadavg").read_text().split()[4])
    for process in range(last, max(last - _RECENT, 0), -1):
        with suppress(OSError):
            if _name(process).startswith(name):
                return process
    return 0


def _name(process: int) -> str:
    return Path(f"/proc/{process}/comm").read_text().rstrip("\n")
