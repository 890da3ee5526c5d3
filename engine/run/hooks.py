"""Runs hooks: programs of the operator's, each in a thread that waits for it, never the engine's.

A program gets an environment of a few variables, its standard streams and no other descriptor, a session (setsid(2))
and so a process group of its own, and `/` as its folder. It has the engine's rights, which are few by then. When its
time is over, or the engine ends, the whole group is killed.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import subprocess
import time
from asyncio import AbstractEventLoop
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from engine.supervisor.hooks import AT_ONCE, HookResult, HookRun

KEPT = 4096
"""Octets of its output."""
LINGER = 0.1
"""Seconds for the output of a program that has ended: others that it has started may write on for ever."""
FILES = 1024
"""Descriptors that it may have open as a rule: the engine's own number is too high for programs that use select(2)."""
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Runner:
    """Implements `engine.supervisor.hooks.HookRunner`, for the loop's thread."""

    def __init__(self, loop: AbstractEventLoop, done: Callable[[HookResult], None]) -> None:
        """`done` is called in the loop."""
        self._loop = loop
        self._done = done
        self._pool: ThreadPoolExecutor | None = None
        self._closing = os.eventfd(0, os.EFD_CLOEXEC)

    def start(self, run: HookRun) -> None:
        """See `HookRunner.start`."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(AT_ONCE, "souppp-hook")
        self._pool.submit(self._carry_out, run)

    def close(self) -> None:
        """Kill what still runs."""
        os.eventfd_write(self._closing, 1)
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        os.close(self._closing)

    def _carry_out(self, run: HookRun) -> None:
        try:
            result = carry_out(run, self._closing)
        except Exception as error:
            result = HookResult(run.key, f"was not run, please report it: {type(error).__name__}: {error}")
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._done, result)


def carry_out(run: HookRun, closing: int) -> HookResult:
    """Run a program to its end, or to the end of its time, or until `closing` can be read from."""
    environment = {"PATH": _PATH, "LANG": "C.UTF-8", **run.environment}
    try:
        process = subprocess.Popen(
            run.arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd="/",
            start_new_session=True,
            umask=0o022,
        )
    except OSError as error:
        return HookResult(run.key, f"can't be run ({error.strerror or error})")
    except ValueError as error:
        return HookResult(run.key, f"can't be run ({error})")
    assert process.stdout is not None
    with process.stdout as stream:
        with suppress(OSError):  # a moment after it has begun: between fork and exec threads may run no Python
            _, hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
            resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (min(FILES, hard), hard))
        output, why = _follow(process, stream.fileno(), run.timeout, closing)
    status = process.wait()
    if not why and status:
        why = f"ended with exit status {status}" if status > 0 else f"was ended by {signal.Signals(-status).name}"
    return HookResult(run.key, why, output.decode(errors="replace"))


def _follow(process: subprocess.Popen[bytes], stream: int, timeout: float, closing: int) -> tuple[bytes, str]:
    """Read what it writes until it has ended, or is killed; returns the beginning, and why it was killed."""
    os.set_blocking(stream, False)
    output, why = bytearray(), ""
    poll, pid = select.poll(), os.pidfd_open(process.pid)
    try:
        for fd in (stream, pid, closing):
            poll.register(fd, select.POLLIN)
        deadline = time.monotonic() + timeout
        while True:
            left = deadline - time.monotonic()
            ready = dict(poll.poll(max(left, 0.0) * 1000))
            if stream in ready and _read(stream, output):
                poll.unregister(stream)
            if pid in ready:
                break
            if closing in ready or left <= 0:
                why = "was killed, as the engine ends" if closing in ready else f"was killed after {timeout:.0f} s"
                os.killpg(process.pid, signal.SIGKILL)  # not waited for yet: the group is still its own
                return bytes(output), why
        end = time.monotonic() + LINGER
        while (left := end - time.monotonic()) > 0 and _is_ready(stream, left) and not _read(stream, output):
            pass
        return bytes(output), why
    finally:
        os.close(pid)


def _is_ready(fd: int, seconds: float) -> bool:
    """Whether there is something to read within so many seconds."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def _read(stream: int, output: bytearray) -> bool:
    """Take in what is there, and keep the beginning; whether it was the end."""
    try:
        octets = os.read(stream, 65536)
    except BlockingIOError:
        return False
    output += octets[: KEPT - len(output)]
    return not octets
