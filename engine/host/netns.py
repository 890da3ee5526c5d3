"""Network namespaces of the calling thread (Python 3.11 has no `os.setns`).

Threads started later inherit the namespace of the thread that starts them. A namespace without a name lives as long as
a process is in it or holds a descriptor of it, so that nothing is left behind however a program ends.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CLONE_NEWNET = 0x40000000
_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432  # system calls, the same on all processors
_CLOEXEC, _CMD_CREATE = 1, 6  # linux/mount.h
_OWN = "/proc/thread-self/ns/net"

_libc = ctypes.CDLL(None, use_errno=True)


def unshare_net() -> None:
    """Move the calling thread into a new, empty namespace; raises OSError."""
    _check(_libc.unshare(CLONE_NEWNET))


def enter(target: int | str | Path) -> None:
    """Move the calling thread into a namespace: that of a process id, or of a path such as /run/netns/NAME.

    Raises OSError.
    """
    namespace = open_net(target)
    try:
        set_net(namespace)
    finally:
        os.close(namespace)


def open_net(target: int | str | Path | None = None) -> int:
    """A descriptor of the namespace of a process id, of a path, or of the calling thread; raises OSError."""
    path = _OWN if target is None else f"/proc/{target}/ns/net" if isinstance(target, int) else target
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def set_net(descriptor: int) -> None:
    """Move the calling thread into the namespace that a descriptor stands for; raises OSError."""
    _check(_libc.setns(descriptor, CLONE_NEWNET))


def new_net() -> int:
    """Make a namespace and return a descriptor of it; the calling thread stays where it is. Raises OSError."""
    with _restored():
        unshare_net()
        return open_net()


def open_sysfs() -> int:
    """A descriptor of sysfs as the calling thread's namespace has it, mounted nowhere; raises OSError."""
    context = _check(_libc.syscall(_FSOPEN, b"sysfs", _CLOEXEC))
    try:
        _check(_libc.syscall(_FSCONFIG, context, _CMD_CREATE, None, None, 0))
        return _check(_libc.syscall(_FSMOUNT, context, _CLOEXEC, 0))
    finally:
        os.close(context)


@contextmanager
def inside(target: int | str | Path) -> Iterator[None]:
    """Run a block in another namespace, as `enter` names it; raises OSError."""
    with _restored():
        enter(target)
        yield


@contextmanager
def visiting(descriptor: int) -> Iterator[None]:
    """Run a block in the namespace that a descriptor stands for; raises OSError."""
    with _restored():
        set_net(descriptor)
        yield


@contextmanager
def _restored() -> Iterator[None]:
    before = open_net()
    try:
        yield
    finally:
        set_net(before)
        os.close(before)


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
