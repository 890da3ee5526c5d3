"""Cgroups (version 2, cgroups(7)) below that of a process: made, entered, and taken away when nobody is in them."""

from __future__ import annotations

import ctypes
import os
import re
from contextlib import suppress
from pathlib import Path

_MAGIC = 0x63677270
"""CGROUP2_SUPER_MAGIC."""
_NAMED = re.compile(r"souppp-\d+-(\d+)")
_PROCESSES = "cgroup.procs"


def own() -> Path:
    """The cgroup of the calling process. Raises OSError where there is none of version 2."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    path = next((line.removeprefix("0::") for line in lines if line.startswith("0::")), None)
    mounts = (line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines())
    root = next((fields[4] for fields in mounts if fields[fields.index("-") + 1] == "cgroup2"), None)
    if path is None or root is None or "/.." in path:
        raise FileNotFoundError(2, "this system has no cgroups of version 2")
    return Path(root, path.lstrip("/"))


def is_within(path: Path) -> bool:
    """Whether a cgroup is one that `make` made, or below one."""
    return any(_NAMED.fullmatch(part) for part in path.parts)


def is_cgroup(descriptor: int) -> bool:
    """Whether a descriptor is of a cgroup's folder."""
    told = ctypes.create_string_buffer(256)
    failed = ctypes.CDLL(None, use_errno=True).fstatfs(descriptor, told)
    return not failed and ctypes.c_long.from_buffer(told).value == _MAGIC


def is_fresh(cgroup: int) -> bool:
    """Whether a cgroup with this descriptor is one that `make` made, and nothing is in it yet. Raises OSError."""
    name = Path(os.readlink(f"/proc/self/fd/{cgroup}")).name
    return bool(_NAMED.fullmatch(name)) and not _read(cgroup).strip()


def holds(cgroup: int, process: int) -> bool:
    """Whether a process is in the cgroup with this descriptor. Raises OSError."""
    return str(process) in _read(cgroup).split()


def make(parent: int, session: int, process: int) -> int:
    """A cgroup for a process that is to run in a session: its descriptor. Raises OSError.

    Those of processes that are no more go.
    """
    name = f"souppp-{session}-{process}"
    for each in os.listdir(parent):
        if (found := _NAMED.fullmatch(each)) and (each == name or not _lives(int(found[1]))):
            with suppress(OSError):  # their children are still in it
                os.rmdir(each, dir_fd=parent)
    os.mkdir(name, 0o755, dir_fd=parent)
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=parent)


def enter(cgroup: int, process: int = 0) -> None:
    """Move a process, or the calling one, with all its threads. Raises OSError."""
    file = os.open(_PROCESSES, os.O_WRONLY | os.O_CLOEXEC, dir_fd=cgroup)
    try:
        os.write(file, str(process).encode())
    finally:
        os.close(file)


def remove(parent: int, session: int, process: int) -> None:
    """Take away what `make` made, unless something is in it."""
    with suppress(OSError):
        os.rmdir(f"souppp-{session}-{process}", dir_fd=parent)


def _read(cgroup: int) -> str:
    file = os.open(_PROCESSES, os.O_RDONLY | os.O_CLOEXEC, dir_fd=cgroup)
    with open(file) as opened:
        return opened.read()


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
