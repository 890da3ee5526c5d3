"""What speaks against running a program of the operator's: it isn't there, can't be run, or others can change it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

_WORLD = stat.S_IWOTH


def objection(program: str) -> str:
    """As the rest of a sentence that begins with the program's path; empty if nothing does."""
    path = Path(program)
    if not path.is_absolute():
        return "must be an absolute path"
    try:
        status = path.stat()
    except OSError as error:
        return (error.strerror or type(error).__name__).lower()
    if not stat.S_ISREG(status.st_mode):
        return "is not a plain file"
    if not os.access(path, os.X_OK):
        return "is not executable"
    if status.st_mode & _WORLD:
        return "can be written by everybody: `chmod o-w` it"
    for folder in path.resolve().parents:
        mode = folder.stat().st_mode
        if mode & _WORLD and not mode & stat.S_ISVTX:
            return f"can be replaced by everybody, as {folder} is open to all: move it"
    return ""
