"""What a host may lack, as a container or a kernel of its own kind does, and what goes on without it."""

from __future__ import annotations

import os
from pathlib import Path

TUN = Path("/dev/net/tun")
SYSTEM = Path("/proc/sys")
NO_TUN = f"{TUN} is missing or closed to us: load it with `modprobe tun`, or let the container have it."
NO_THREADS = "No thread can be started: raise the limit of processes (pids.max of the cgroup, TasksMax=, `ulimit -u`)."


def is_short_of_threads(error: BaseException) -> bool:
    """Whether a limit of processes is what went wrong: Python has no error of its own for that."""
    return isinstance(error, RuntimeError) and "start new thread" in str(error)


def has_tun() -> bool:
    """Whether TUN devices can be made, which sessions need that don't go over the in-kernel path."""
    return os.access(TUN, os.R_OK | os.W_OK)


def has_ipv6() -> bool:
    """Whether new devices of the calling thread's namespace may have IPv6 addresses."""
    try:
        return (SYSTEM / "net/ipv6/conf/default/disable_ipv6").read_text().strip() == "0"
    except OSError:
        return False


def settable() -> bool:
    """Whether the kernel's settings of devices can be written."""
    try:
        return not os.statvfs(SYSTEM).f_flag & os.ST_RDONLY
    except OSError:
        return False


def lacks() -> list[str]:
    """What is missing here, a line each, with what becomes of it."""
    found = (
        (has_tun(), f"{NO_TUN} Until then only the in-kernel path carries sessions."),
        (has_ipv6(), "IPv6 is switched off on this host, or not there: sessions have IPv4 only."),
        (settable(), f"{SYSTEM} is read-only: what routers say to new devices is dropped on its way instead."),
    )
    return [text for there, text in found if not there]
