"""The supervisor of services, as systemd and others of its kind speak: sd_notify(3) and the journal's own protocol."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress

JOURNAL = "/run/systemd/journal/socket"


def notify(state: str) -> None:
    """Tell the one that started us, if it wants to hear: `READY=1`, `STATUS=…`, `WATCHDOG=1`, `STOPPING=1`."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to:
        to.setblocking(False)
        to.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)


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
