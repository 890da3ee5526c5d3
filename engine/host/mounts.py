"""A mount namespace of the calling process alone, in which some files and folders are others: mount_namespaces(7)."""

from __future__ import annotations

import ctypes
import os
import struct
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000
_MS_BIND, _MS_REC, _MS_SLAVE = 1 << 12, 1 << 14, 1 << 19
_MNT_DETACH = 2
_MOUNT_SETATTR, _AT_FDCWD, _AT_RECURSIVE, _RDONLY = 442, -100, 0x8000, 1
_STAGES = ("/tmp", "/run", "/mnt", "/var")
"""Folders that every system has: in one of them things are made ready, before anybody else is in the namespace."""

_PATIENCE = 10.0
"""Seconds for what takes a fraction of a millisecond."""

_libc = ctypes.CDLL(None, use_errno=True)


def separate() -> None:
    """Have mounts of our own; later ones of the host come along. Who isn't root needs a user namespace for it, too.

    The calling process must have one thread only; of others that were joined the kernel may know for a moment more.
    Raises OSError.
    """
    uid, gid = os.geteuid(), os.getegid()
    until = time.monotonic() + _PATIENCE
    while len(os.listdir("/proc/self/task")) > 1 and time.monotonic() < until:
        time.sleep(0.001)
    if uid == 0:
        _check(_libc.unshare(_CLONE_NEWNS))
    else:
        _check(_libc.unshare(_CLONE_NEWNS | _CLONE_NEWUSER))
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    _mount(None, "/", None, _MS_REC | _MS_SLAVE)


def cover(files: Mapping[Path, str], folders: Mapping[Path, Mapping[str, str]]) -> None:
    """Put files with these texts over those there, and folders with nothing but these files. Raises OSError."""
    stage = Path(next(each for each in _STAGES if Path(each).is_dir()))
    _mount("tmpfs", stage, "tmpfs", 0)
    try:
        ready = []
        for number, (target, text) in enumerate(files.items()):
            place = stage / f"file{number}"
            place.write_text(text)
            ready.append((place, target))
        for number, (target, inside) in enumerate(folders.items()):
            place = stage / f"folder{number}"
            place.mkdir()
            for name, text in inside.items():
                (place / name).write_text(text)
            ready.append((place, target))
        for place, _ in ready:
            place.chmod(0o755 if place.is_dir() else 0o644)
        stage_root = os.open(stage, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for place, target in ready:
                _mount(f"/proc/self/fd/{stage_root}/{place.name}", target, None, _MS_BIND)
        finally:
            os.close(stage_root)
    finally:
        _check(_libc.umount2(os.fsencode(stage), _MNT_DETACH))


def make_read_only(path: Path) -> None:
    """Let nothing be written below a mount, nor below those in it. Raises OSError."""
    attributes = struct.pack("=QQQQ", _RDONLY, 0, 0, 0)
    flags = _AT_RECURSIVE
    _check(_libc.syscall(_MOUNT_SETATTR, _AT_FDCWD, os.fsencode(path), flags, attributes, len(attributes)))


def mount_of(path: Path) -> Path:
    """The outermost of the mounts below /sys that a path is in; itself if there is none."""
    whole = path.absolute()
    with suppress(StopIteration):
        return next(
            each
            for each in reversed((whole, *whole.parents))
            if each.parts[:2] == ("/", "sys") and len(each.parts) > 2 and os.path.ismount(each)
        )
    return whole


def _mount(source: str | None, target: str | Path, kind: str | None, flags: int) -> None:
    names = (os.fsencode(source) if source else None, os.fsencode(target), kind.encode() if kind else None)
    _check(_libc.mount(*names, ctypes.c_ulong(flags), None))


def _check(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
