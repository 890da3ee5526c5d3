"""Files that have no room for another octet, until there is room again."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

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
