"""Whom the shell waits for while a console runs: a process that does nothing, so that the engine can go on without it.

The program forks before it does anything. The parent stays where the shell put it, and stands in for the child: ends as
it ends, stops as it stops, and hands on what it is told by signals. The child is the whole program, in the same process
group on the same terminal. It can leave both with all that it has, as it leads no group: when the operator wants the
engine to go on without a console, it does so and releases the parent. So no session is handed from one process to
another, which could not take the card: rights are given up at the start.
"""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from math import inf
from pathlib import Path

from engine.host.privileges import give_up_all, signal_at_parents_end
from souppp_tui.commands.errors import EXIT_OK, CannotRunError, say
from souppp_tui.terminal.leaving import SIGNALS, Leaving

HEEDED = (*SIGNALS, signal.SIGCHLD, signal.SIGTSTP, signal.SIGCONT, signal.SIGIO)
PATIENCE = 1.0
"""Seconds for the child to stop by itself: a SIGTSTP to the whole group reaches it too, and one is enough."""
BY_KERNEL = 0x80
"""As a signal's code: the terminal sent it, and so to the whole group."""
MOST = 4096
"""Octets of a child's last words."""


def under_stand_in(run: Callable[[int], int], leaving: Leaving) -> int:
    """Run it in a child, with a descriptor to release this process by (`leave_terminal`); returns its exit code.

    It returns in both: in the child, when `run` has returned, and in this process when the child ended or released it.
    Raises CannotRunError, in the child also what `run` raises.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # whoever started us may have had it ignored, and children with it
    released, release = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HEEDED)
    ours = os.getpid()
    try:
        child = os.fork()
    except OSError as error:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        raise CannotRunError(f"no process can be started: {error.strerror}.") from None
    if child:
        os.close(release)
        give_up_all()
        return _StandIn(child, released, leaving).wait()
    os.close(released)
    leaving.adopt()
    signal_at_parents_end(signal.SIGTERM)
    if os.getppid() != ours:
        leaving.set()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return run(release)


def stay_without_parent() -> None:
    """In the child: leave the terminal and the process group, and go on when the parent ends."""
    os.setsid()
    signal_at_parents_end(0)
    for number in (signal.SIGTSTP, signal.SIGCONT):  # the console's
        signal.signal(number, signal.SIG_DFL)


class _StandIn:
    """The parent; the signals it heeds are blocked, and it takes one after the other."""

    def __init__(self, child: int, released: int, leaving: Leaving) -> None:
        self._child, self._released, self._leaving = child, released, leaving
        fcntl.fcntl(released, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(released, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)  # SIGIO when there is something to read

    def wait(self) -> int:
        """Until the child has ended or released us; returns the exit code."""
        stop_at = inf
        """When the child is to be stopped, if it hasn't been by then."""
        while True:
            came = self._next(stop_at)
            if came is None:
                stop_at = inf
                os.kill(self._child, signal.SIGTSTP)
            elif came.si_signo == signal.SIGIO:
                with suppress(BlockingIOError):
                    if words := os.read(self._released, MOST):
                        say(words.decode(errors="replace"))
                        return EXIT_OK
            elif came.si_signo == signal.SIGCHLD:
                pid, status = os.waitpid(self._child, os.WNOHANG | os.WUNTRACED)
                if pid and not os.WIFSTOPPED(status):
                    return _end_as(status)
                if pid:
                    stop_at = inf
                    if signal.SIGCONT not in signal.sigpending():  # else we were stopped with it, and both are to go on
                        os.kill(os.getpid(), signal.SIGSTOP)
            elif came.si_signo == signal.SIGTSTP:
                stop_at = time.monotonic() + PATIENCE if came.si_code != BY_KERNEL else inf
            elif came.si_signo == signal.SIGCONT:
                stop_at = inf
                if self._is_stopped():
                    os.kill(self._child, signal.SIGCONT)
            else:
                self._leaving.set()  # which the child has too

    def _next(self, until: float) -> signal.struct_siginfo | None:
        if until == inf:
            return signal.sigwaitinfo(HEEDED)
        return signal.sigtimedwait(HEEDED, max(until - time.monotonic(), 0))

    def _is_stopped(self) -> bool:
        return Path(f"/proc/{self._child}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def _end_as(status: int) -> int:
    """The exit code of a child that has ended; if a signal ended it, the same ends us, but for the core."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with suppress(OSError):  # of SIGKILL there is nothing to be set
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (number,))
    return os.waitstatus_to_exitcode(status)
