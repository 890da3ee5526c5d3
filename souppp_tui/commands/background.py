"""An engine of its own in the background, which goes on when whoever started it has left."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile

from engine.run.client import serving
from engine.run.sockets import LAB, SUFFIX, usual_paths
from souppp_tui.commands.errors import CannotRunError

DETACHED = "--detached"
"""What `serve` is told by this: the descriptor to tell on that the engine is ready, and then leave the terminal."""
_VALUES = ("config", "sessions", "capture", "event_log", "xdp", "state_dir", "socket")
_FLAGS = ("lab", "busy_poll", "fix_card")


def start(options: argparse.Namespace) -> Path:
    """Start `serve` with the same options of an engine, wait until it answers; returns its socket.

    Raises CannotRunError with what it says if it can't run.
    """
    reading, ready = os.pipe()
    command = [sys.executable, "-m", "souppp_tui.commands.cli", "serve", f"{DETACHED}={ready}", *arguments(options)]
    with TemporaryFile() as said, os.fdopen(reading, "rb") as waiting:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
            pass_fds=[ready],
            start_new_session=True,
        )
        os.close(ready)
        if not waiting.read(1):  # it has ended
            process.wait()
            said.seek(0)
            why = said.read().decode(errors="replace").strip().removeprefix("souppp-tui: ")
            raise CannotRunError(why or "the engine in the background has ended at once.")
    if options.socket is not None:
        return Path(options.socket)
    # The lab's socket has its process' number.
    paths = usual_paths(options.card or "", lab=False, fallback=options.state_dir)
    if options.lab:
        return paths[0].with_name(f"{LAB}-{process.pid}{SUFFIX}")
    return serving(paths, options.card) or paths[0]


def arguments(options: argparse.Namespace) -> list[str]:
    """The options of an engine as a command line has them."""
    told = [] if options.card is None else [options.card]
    for name in _VALUES:
        if (value := getattr(options, name)) is not None:
            told += [_option(name), str(value)]
    return told + [_option(name) for name in _FLAGS if getattr(options, name)]


def leave_terminal(ready: int, words: str = "+") -> None:
    """In the engine, once it is ready: tell whoever started it, and write nothing to its streams any more."""
    nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for stream in range(3):
        os.dup2(nowhere, stream)
    os.close(nowhere)
    with suppress(OSError):  # it may be gone
        os.write(ready, words.encode())
    os.close(ready)


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
