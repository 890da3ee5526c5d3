"""Files that have no room for another octet, until there is room again."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

LIMIT = 1 << 26


@contextmanager
def full(path: Path) -> Iterator[Callable[[], None]]:
    """A file as long as this process may make any (EFBIG); yields what empties it."""
    path.touch()
    os.truncate(path, LIMIT)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, before[1]))
    try:
        yield lambda: os.truncate(path, 0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def small(folder: Path, options: str = "size=64k") -> Iterator[Callable[[], None]]:
    """A disk of a few octets at a new folder; yields what fills it to the last one. Takes root."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", folder], check=True)
    try:
        yield lambda: fill(folder)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path) -> None:
    """Leave no room for another octet."""
    with (folder / "filler").open("ab", buffering=0) as file:
        for size in (4096, 1):
            with suppress(OSError):
                while file.write(bytes(size)):
                    pass


@contextmanager
def failing(folder: Path) -> Iterator[Callable[[], None]]:
    """A disk of its own at a new folder; yields what makes it fail.

    Nothing can be written to it then, not even by who has a file open: no tmpfs does that. Takes root and a
    loop device.
    """
    folder.mkdir()
    image = folder.with_suffix(".image")
    image.write_bytes(b"")
    os.truncate(image, 16 << 20)
    made = subprocess.run(["mkfs.ext4", "-q", image], check=False).returncode if shutil.which("mkfs.ext4") else 1
    mount = ["mount", "-o", "loop,errors=remount-ro", image, folder]
    if made or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("no ext4 on a loop device here")

    def fail() -> None:
        subprocess.run(["mount", "-o", "remount,abort", folder], check=True)

    try:
        yield fail
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def make_read_only(folder: Path) -> None:
    """As a kernel does to a disk that fails."""
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
