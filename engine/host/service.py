"""The supervisor of services, as systemd and others of its kind speak: sd_notify(3) and the journal's own protocol."""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

JOURNAL = "/run/systemd/journal/socket"
_FIRST = 3
"""The first descriptor that a process is handed (sd_listen_fds(3))."""
_AT_ONCE = 253
"""So many descriptors go with one message (SCM_MAX_FD)."""
_ANSWER = 10.0
"""Seconds."""


def notify(state: str) -> None:
    """Tell the one that started us, if it wants to hear: `READY=1`, `STATUS=…`, `WATCHDOG=1`, `STOPPING=1`."""
    if not (address := _address()):
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to:
        to.setblocking(False)
        to.sendto(state.encode(), address)


def _address() -> str:
    """Where it hears; empty if it doesn't want to."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    return "\0" + address[1:] if address.startswith("@") else address


def keeps() -> bool:
    """Whether the one that started us keeps descriptors from one process to the next (sd_notify(3), FDSTORE=1).

    Our unit says so itself, as systemd before 254 doesn't.
    """
    return bool(_address()) and os.environ.get("FDSTORE", "0") not in ("", "0")


def keep(descriptors: Mapping[str, Sequence[int]]) -> None:
    """Have descriptors kept by name; returns when they are. The next process gets them by `kept`.

    Raises OSError; what is kept by then may not be all.
    """
    with _notifying() as to:
        for name, fds in descriptors.items():
            for first in range(0, len(fds), _AT_ONCE):
                state = f"FDSTORE=1\nFDPOLL=0\nFDNAME={name}".encode()
                socket.send_fds(to, [state], list(fds[first : first + _AT_ONCE]))
        reading, writing = os.pipe()
        try:
            try:
                socket.send_fds(to, [b"BARRIER=1"], [writing])
            finally:
                os.close(writing)
            answer = select.poll()  # select(2) knows no descriptor from 1024 on, and there are more than sessions
            answer.register(reading, select.POLLHUP)
            if not answer.poll(_ANSWER * 1000):
                raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
        finally:
            os.close(reading)


def kept() -> dict[str, list[int]]:
    """The descriptors that an earlier process had kept, by name, once; they are ours alone from now on."""
    fds, names = os.environ.pop("LISTEN_FDS", ""), os.environ.pop("LISTEN_FDNAMES", "")
    if os.environ.pop("LISTEN_PID", "") != str(os.getpid()) or not fds.isdecimal():
        return {}
    found: dict[str, list[int]] = {}
    for fd, name in zip(range(_FIRST, _FIRST + int(fds)), names.split(":"), strict=False):
        os.set_inheritable(fd, False)
        found.setdefault(name, []).append(fd)
    with suppress(OSError), _notifying() as to:
        for name in found:
            to.send(f"FDSTOREREMOVE=1\nFDNAME={name}".encode())
    return found


@contextmanager
def _notifying() -> Iterator[socket.socket]:
    """A socket that waits for who hears it, not for long. Raises OSError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to:
        to.settimeout(_ANSWER)
        to.connect(_address())
        yield to


def watchdog() -> float | None:
    """Seconds within which `WATCHDOG=1` is expected, again and again; None if nobody watches us."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    with suppress(ValueError):
        if (micro := int(os.environ.get("WATCHDOG_USEC", "0"))) > 0:
            return micro / 1e6
    return None


class Journal:
    """The system's journal, where standard error goes there: events keep their levels and fields."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        if not _goes_to_journal(2):
            return
        made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            made.connect(JOURNAL)
            made.setblocking(False)
        except OSError:
            made.close()
            return
        self._socket = made

    def __bool__(self) -> bool:
        return self._socket is not None

    def write(self, fields: Mapping[str, str]) -> None:
        """One entry. One that the journal has no room for is lost: it must not hold anybody up."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.send(entry(fields))


def entry(fields: Mapping[str, str]) -> bytes:
    """An entry as the journal's socket takes it; a value of several lines goes with its length."""
    out = bytearray()
    for name, value in fields.items():
        octets = value.encode(errors="backslashreplace")
        if b"\n" in octets:
            out += name.encode() + b"\n" + len(octets).to_bytes(8, "little") + octets + b"\n"
        else:
            out += name.encode() + b"=" + octets + b"\n"
    return bytes(out)


def _goes_to_journal(descriptor: int) -> bool:
    """Whether a stream is the journal's: JOURNAL_STREAM has its device and inode then."""
    with suppress(OSError, ValueError):
        device, inode = map(int, os.environ.get("JOURNAL_STREAM", "").split(":"))
        there = os.fstat(descriptor)
        return (there.st_dev, there.st_ino) == (device, inode)
    return False
