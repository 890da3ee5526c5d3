"""Files that are replaced as a whole: who reads one, also after a crash, sees the old one or the new one."""

from __future__ import annotations

import os
from pathlib import Path


def replace_file(path: Path, octets: bytes) -> None:
    """Put a file of mode 0600 with this in it in a path's place; it is on the disk when this returns. Raises OSError.

    A link of that name is replaced, not followed.
    """
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)  # of a run that was cut short
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            write_all(fd, octets)
            os.fsync(fd)
        finally:
            os.close(fd)
        new.rename(path)
    except OSError:
        new.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_all(fd: int, octets: bytes) -> None:
    """Write all of it, however much goes at once. Raises OSError."""
    while octets:
        octets = octets[os.write(fd, octets) :]


def sync_folder(folder: Path) -> None:
    """Make new and vanished names in a folder last. Raises OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
