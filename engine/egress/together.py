"""All devices of one engine go in one step when it is killed.

The kernel closes a dead process' descriptors one after the other, and takes 20 ms and more for each that has a device:
with thousands that is minutes, in which the card, the journal's lock and the service manager wait. In one request it
takes less than a millisecond for each. So an engine's devices are in a group of their own, and a small process waits
for the engine's end and deletes the group: `engine.egress.survivor`. Where that was killed too, the next start does.

The next engine's devices are in the same group, so it makes none before that process has ended. To know it, this has a
socket with a name (unix(7), abstract), which the kernel closes with it: whoever is connected hears of that.

Meanwhile rules, unreachable routes and the nftables table stand: what is bound to a session is dropped.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from zlib import crc32

from engine.egress import survivor
from engine.egress.fence import table_of
from engine.egress.instances import Instance
from engine.host import dying

_OURS = 1 << 31
"""Far from any group that an operator would number by hand."""


def group_of(journal: Path) -> int:
    """The group of the devices of whoever holds the lock of this journal."""
    return _OURS | crc32(os.fsencode(journal.absolute()))


def delete_together(group: int) -> None:
    """Delete all devices of a group in the calling thread's namespace, in one step. Raises OSError."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as kernel:
        survivor.delete_group(kernel, group)


def _name(group: int) -> str:
    return f"\0souppp-survivor-{group:x}"


class Earlier:
    """The process that has outlived an earlier engine with this group, if it is still at work."""

    def __init__(self, group: int) -> None:
        """In the calling thread's namespace."""
        self._end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self.at_work = False
        with suppress(OSError):  # nobody has the name
            self._end.connect(_name(group))
            engine, *_ = struct.unpack("=3i", self._end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            self.at_work = engine > 0 and not dying.is_alive(engine)  # as long as that lives it only waits

    def wait(self, seconds: float) -> None:
        """Return when it has ended, or after so many seconds."""
        if self.at_work:
            self._end.settimeout(seconds)
            try:
                self._end.recv(1)
            except TimeoutError:
                return
            except ConnectionResetError:  # as nobody has accepted the connection
                pass
            self.at_work = False

    def close(self) -> None:
        """Listen no more."""
        self._end.close()


class Survivor:
    """The process that outlives the engine's, in the calling thread's namespace and with its rights.

    It waits for a lock that the engine has: a record lock, which the kernel lets go before it closes any descriptor.
    """

    def __init__(self, group: int, instance: Instance | None = None) -> None:
        """Raises OSError; so it does where an earlier one of this group hasn't ended."""
        tables, fence = (instance.tables, table_of(instance.number)) if instance is not None else (0, "")
        self._lock = os.memfd_create("souppp-survivor", os.MFD_CLOEXEC)
        name = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            name.bind(_name(group))
            name.listen()
            fcntl.lockf(self._lock, fcntl.LOCK_EX)
            before = signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
            try:  # it ignores what a terminal or a service manager sends to all: the engine ends it
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", survivor.__file__, *map(str, (self._lock, group, tables, fence))],
                    pass_fds=[self._lock, name.fileno()],
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
        finally:
            name.close()

    def close(self) -> None:
        """End it: what becomes of the devices is the engine's matter again."""
        with suppress(OSError):
            self._process.kill()
        self._process.wait()
        os.close(self._lock)
