"""How a process of ours begins that strangers talk to: with a socket to the engine, and soon without any right.

It is started with two words: the descriptor of that socket, and the engine's process. It ends when that does.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import sys

from engine.host.landlock import shut_files
from engine.host.privileges import become_nobody, signal_at_parents_end
from engine.host.seccomp import refuse_other_processes

STILL = 30
"""Seconds after which it is ended by the kernel where its loop stands still: the engine has no right to."""
BEAT = 1.0


def begin() -> socket.socket:
    """The socket to the engine; to be called first."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)  # a terminal's are for the engine
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return socket.socket(fileno=int(sys.argv[1]))


def give_up_rights() -> None:
    """For good; what is in files must have been read before."""
    become_nobody()
    signal_at_parents_end(signal.SIGKILL)
    if os.getppid() != int(sys.argv[2]):
        sys.exit(0)  # the engine has ended meanwhile
    shut_files()
    refuse_other_processes()


def beat(loop: asyncio.AbstractEventLoop) -> None:
    """Have it live for as long as its loop goes on."""
    signal.alarm(STILL)
    loop.call_later(BEAT, beat, loop)
