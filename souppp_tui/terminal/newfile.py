"""A file of the operator's that is written whole or not at all, and in nobody's place."""

from __future__ import annotations

import os
from contextlib import suppress
from itertools import count
from pathlib import Path


def new_file(path: Path, octets: bytes) -> Path:
    """Make a file of mode 0600 that was not there before, called `path` or, where something is, `path-2` and so on.

    Returns its path. Raises OSError, and leaves nothing behind then.
    """
    for number in count(1):
        made = path.with_stem(f"{path.stem}-{number}") if number > 1 else path
        with suppress(FileExistsError):
            fd = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            break
    try:
        with open(fd, "wb", buffering=0) as file:
            left = memoryview(octets)
            while left:
                left = left[file.write(left) :]
            os.fsync(fd)
    except BaseException:
        made.unlink(missing_ok=True)
        raise
    return made
