"""All devices of one engine go in one step when it is killed.

The kernel closes a dead process' descriptors one after the other, and takes 20 ms and more for each that has a device:
with thousands that is minutes, in which the card, the journal's lock and the service manager wait. In one request it
takes less than a millisecond for each. So an engine's devices are in a group of their own, and a small process waits
for the engine's end and deletes the group: `engine.egress.survivor`. Where that was killed too, the next start does.

Meanwhile rules, unreachable routes and the nftables table stand: what is bound to a session is dropped.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from zlib import crc32

from engine.egress import survivor

_OURS = 1 << 31
"""Far from any group that an operator would number by hand."""


def group_of(journal: Path) -> int:
    """The group of the devices of whoever holds the lock of this journal."""
    return _OURS | crc32(os.fsencode(journal.absolute()))


def delete_together(group: int) -> None:
    """Delete all devices of a group in the calling thread's namespace, in one step. Raises OSError."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as kernel:
        survivor.delete_group(kernel, group)


class Survivor:
    """The process that outlives the engine's, in the calling thread's namespace and with its rights.

    It waits for a lock that the engine has: a record lock, which the kernel lets go before it closes any descriptor.
    """

    def __init__(self, group: int) -> None:
        """Raises OSError."""
        self._lock = os.memfd_create("souppp-survivor", os.MFD_CLOEXEC)
        try:
            fcntl.lockf(self._lock, fcntl.LOCK_EX)
            before = signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
            try:  # it ignores what a terminal or a service manager sends to all: the engine ends it
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", survivor.__file__, str(self._lock), str(group)],
                    pass_fds=[self._lock],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    cwd="/",
                    start_new_session=True,
                )
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        except BaseException:
            os.close(self._lock)
            raise

    def close(self) -> None:
        """End it: what becomes of the devices is the engine's matter again."""
        with suppress(OSError):
            self._process.kill()
        self._process.wait()
        os.close(self._lock)
