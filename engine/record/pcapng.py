"""A capture of control frames as a pcapng file of bounded size (draft-ietf-opsawg-pcapng).

Each session is an interface of its own named after it, made when its first frame comes, so that Wireshark can filter
and count by session (`frame.interface_name == "home-01"`). The direction stands in each packet's flags. Blocks are
written whole and unbuffered: whatever ends the program, the file can be read up to its last frame.
"""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from engine.host.errors import Trouble

DEFAULT_LIMIT = 64 << 20
"""Octets that a capture may grow to when no other limit is given."""
COMMENT = (
    "Control frames of PPPoE sessions. This file may hold secrets: PAP passwords in clear, "
    "CHAP challenges and responses, user names. Treat it like a password file."
)

_SECTION_HEADER, _INTERFACE, _ENHANCED_PACKET = 0x0A0D0D0A, 1, 6
_OPT_END, _OPT_COMMENT, _SHB_APPLICATION = 0, 1, 4
_IF_NAME, _IF_RESOLUTION, _PACKET_FLAGS = 2, 9, 2
_LINK_ETHERNET = 1
_SNAPLEN = 262_144
"""Longer than any frame; all interfaces must agree on it for libpcap."""
_INBOUND, _OUTBOUND = 1, 2
_MAX_NAME = 255
"""Octets of an interface's name; a session's has 64 at most."""


class CaptureError(Trouble):
    """A capture can't be started or went wrong: one line for the operator."""


class CaptureFile:
    """One capture file, for one thread. Usable as a context manager."""

    def __init__(self, path: Path, limit: int = DEFAULT_LIMIT) -> None:
        """Create the file, readable by its owner only; raises CaptureError, also if anything of that name is there.

        `limit` is the largest size in octets.
        """
        self.path = path
        self.limit = limit
        self.size = 0
        """Octets in the file."""
        self.full = False
        """The limit is reached; from then on nothing more is written."""
        self._interfaces: dict[str, int] = {}
        header = _section_header()
        if limit < len(header):
            raise CaptureError(f"A capture of at most {limit} octets has no room for its header: set a higher limit.")
        self._fd: int | None = _create(path)
        try:
            self._append(header)
        except CaptureError:
            path.unlink(missing_ok=True)
            raise

    def write(self, frame: bytes, at: float, sent: bool, session_name: str) -> None:
        """Add one Ethernet frame, seen `at` that Unix time; does nothing once the capture is full, closed or broken.

        Raises CaptureError once, when the file can't be written (as on a full disk); what is in it stays readable.
        """
        if self._fd is None or self.full:
            return
        number = self._interfaces.get(session_name)
        new = _interface(session_name) if number is None else b""
        blocks = new + _packet(len(self._interfaces) if number is None else number, frame, at, sent)
        if self.size + len(blocks) > self.limit:
            self.full = True
            return
        self._append(blocks)
        if number is None:
            self._interfaces[session_name] = len(self._interfaces)

    def close(self) -> None:
        """Close the file; once is enough. Raises CaptureError if what was written did not reach the disk."""
        fd, self._fd = self._fd, None
        if fd is not None:
            try:
                os.close(fd)
            except OSError as error:
                raise self._failed(error) from None

    def withdraw(self) -> None:
        """Close the file, and delete it where no frame is in it."""
        empty = self._fd is not None and not self._interfaces
        self.close()
        if empty:
            with suppress(OSError):
                self.path.unlink()

    def _append(self, blocks: bytes) -> None:
        """Write all of it or, if that fails, nothing, and stop."""
        assert self._fd is not None
        try:
            done = 0
            while done < len(blocks):
                done += os.write(self._fd, blocks[done:])
            self.size += done
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._fd, self.size)
            with suppress(OSError):
                os.close(self._fd)
            self._fd = None
            raise self._failed(error) from None

    def _failed(self, error: OSError) -> CaptureError:
        return CaptureError(f"The capture {self.path} stopped: {error.strerror}. {self.size} octets of it are kept.")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _create(path: Path) -> int:
    """A new, empty file of our own; it never follows a link that somebody has laid there."""
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(path, flags, 0o600)
    except FileExistsError:
        raise CaptureError(f"{path} exists already: choose another name for the capture, or remove it.") from None
    except OSError as error:
        raise CaptureError(f"The capture {path} can't be made: {error.strerror}.") from None


# Blocks (sections 3 and 4 of the draft), little-endian


def _block(kind: int, body: bytes) -> bytes:
    length = len(body) + 12
    return struct.pack("<II", kind, length) + body + struct.pack("<I", length)


def _padded(octets: bytes) -> bytes:
    return octets + bytes(-len(octets) % 4)


def _options(*options: tuple[int, bytes]) -> bytes:
    told = b"".join(struct.pack("<HH", code, len(value)) + _padded(value) for code, value in options)
    return told + struct.pack("<HH", _OPT_END, 0)


def _section_header() -> bytes:
    options = _options((_OPT_COMMENT, COMMENT.encode()), (_SHB_APPLICATION, b"souppp-tui"))
    return _block(_SECTION_HEADER, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1) + options)


def _interface(name: str) -> bytes:
    shown = name.encode(errors="replace")[:_MAX_NAME]
    # Microseconds: a float holds a Unix time of today no finer than to 0.24 us.
    options = _options((_IF_NAME, shown), (_IF_RESOLUTION, b"\x06"))
    return _block(_INTERFACE, struct.pack("<HHI", _LINK_ETHERNET, 0, _SNAPLEN) + options)


def _packet(interface: int, frame: bytes, at: float, sent: bool) -> bytes:
    microseconds = round(at * 1e6)
    head = struct.pack("<IIIII", interface, microseconds >> 32, microseconds & 0xFFFF_FFFF, len(frame), len(frame))
    flags = struct.pack("<I", _OUTBOUND if sent else _INBOUND)
    return _block(_ENHANCED_PACKET, head + _padded(frame) + _options((_PACKET_FLAGS, flags)))
