"""Becomes a program of ours that needs nothing of the host's: no right, no file, no network, no socket of its own.

    python -P -m engine.host.launch PROGRAM CHANNEL PARENT

The program has CHANNEL as descriptor 3, and ends with the thread of PARENT that started it.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import resource
import signal
import sys

from engine.host import descriptors
from engine.host.privileges import become_nobody, give_up_all, signal_at_parents_end
from engine.host.seccomp import refuse_files_and_sockets

CHANNEL = 3
_CLONE_NEWUSER, _CLONE_NEWNET, _CLONE_NEWIPC = 0x10000000, 0x40000000, 0x08000000


def main() -> None:
    """Never returns, but where the engine is gone."""
    path, channel, parent = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    found = os.open(path, os.O_PATH | os.O_CLOEXEC)  # nobody might not find it where a checkout is
    program = fcntl.fcntl(found, fcntl.F_DUPFD_CLOEXEC, CHANNEL + 1)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)  # a terminal's are for the engine
    descriptors.raise_limit()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    unshare = ctypes.CDLL(None).unshare
    alone = unshare(_CLONE_NEWNET | _CLONE_NEWIPC) == 0
    become_nobody()
    if not alone:  # the engine has given up the right to: who has a user namespace of its own has it there
        unshare(_CLONE_NEWUSER | _CLONE_NEWNET | _CLONE_NEWIPC)
        give_up_all()
    signal_at_parents_end(signal.SIGKILL)
    if os.getppid() != parent:
        return
    os.dup2(channel, CHANNEL)
    if channel != CHANNEL:
        os.close(channel)
    refuse_files_and_sockets()
    os.execve(program, [os.path.basename(path)], {})


if __name__ == "__main__":
    main()
