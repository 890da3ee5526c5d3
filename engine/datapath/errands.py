"""What the kernel is asked for to make a device, by a thread of the C helper: see `errand.h`.

The engine's thread goes on meanwhile, and nobody takes the interpreter's lock from it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Sequence
from enum import IntEnum, IntFlag
from functools import cache

from msgspec import Struct

from engine.datapath import LIBRARY, DatapathError
from engine.host.files import REMEDY
from engine.host.layout import Places, Told, places, stranger
from engine.host.surroundings import NO_THREADS


class Kind(IntEnum):
    """What a step is."""

    TUN = 0
    NAME = 1
    OFFLOAD = 2
    FIND = 3
    ASK = 4
    ENTER = 5
    WRITE = 6


class Ask(IntFlag):
    """About requests of rtnetlink."""

    OF_INDEX = 1
    """They are about the device that was found: what stands in them for its index is replaced."""
    LACKING = 2
    """That this kernel knows no such thing is no failure."""


class Done(Struct, frozen=True):
    """An errand that went well."""

    fd: int
    """What it has opened, the caller's now; -1 if nothing."""
    index: int
    """Of the device that was found; 0 if none was looked for."""


class ErrandError(OSError):
    """What the kernel refused, in its own words where it has any."""

    def __init__(self, number: int, text: str, kind: Kind, step: int) -> None:
        super().__init__(number, text or os.strerror(number))
        self.kind = kind
        """Of the step that failed."""
        self.step = step
        """Its number, from 0 on."""


class _Step(ctypes.Structure):
    _fields_ = [
        ("kind", ctypes.c_uint32),
        ("fd", ctypes.c_int32),
        ("option", ctypes.c_uint32),
        ("length", ctypes.c_uint32),
    ]


class _Offload(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char * 16),
        ("command", ctypes.c_uint32),
        ("value", ctypes.c_uint32),
    ]


class _Done(ctypes.Structure):
    _fields_ = [
        ("error", ctypes.c_int32),
        ("kind", ctypes.c_uint32),
        ("step", ctypes.c_uint32),
        ("fd", ctypes.c_int32),
        ("index", ctypes.c_uint32),
        ("text", ctypes.c_char * 128),
    ]


_STEP = struct.Struct("=IiII")
"""The same, to be filled in."""
assert _STEP.size == ctypes.sizeof(_Step)
_OFFLOAD = struct.Struct("=16sII")
assert _OFFLOAD.size == ctypes.sizeof(_Offload)
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")
_LAYOUT: dict[str, Places] = {
    "souppp_step": places(_Step),
    "souppp_offload": places(_Offload),
    "souppp_done": places(_Done),
    "kind": {f"STEP_{kind.name}": (kind.value, 0) for kind in Kind},
    "option": {f"ASK_{option.name}": (option.value, 0) for option in Ask},
}
"""What is written here as in `errand.h`."""


# Steps


def _step(kind: int, octets: bytes, fd: int = -1, option: int = 0) -> bytes:
    length = len(octets)
    return _STEP.pack(kind, fd, option, length) + octets + _PADDING[length & 3]


def open_tun(path: str) -> bytes:
    """Open /dev/net/tun, which is there; what follows is about that descriptor."""
    return _step(Kind.TUN, path.encode())


def name_tun(name: str, offloads: int = 0) -> bytes:
    """Have it be a new TUN device of this name, which leaves these offloads (TUN_F_…) to us."""
    return _step(Kind.NAME, name.encode(), option=offloads)


def set_offload(by: int, name: str, command: int, value: int) -> bytes:
    """One of a device's settings (linux/ethtool.h), by a socket's descriptor in its namespace."""
    return _step(Kind.OFFLOAD, _OFFLOAD.pack(name.encode(), command, value), by)


def find(by: int, name: str) -> bytes:
    """Look for a device's index, by a socket's descriptor in its namespace."""
    return _step(Kind.FIND, name.encode(), by)


def ask(by: int, requests: bytes, option: int = 0) -> bytes:
    """Requests of rtnetlink, by a socket's descriptor; as `engine.host.rtnl.last_acknowledged` makes them."""
    return _step(Kind.ASK, requests, by, option)


def enter(into: int, key: bytes, value: bytes) -> bytes:
    """Set an entry of a BPF map, whose keys have four octets, by the map's descriptor."""
    return _step(Kind.ENTER, key + value, into)


def write(path: str, value: str) -> bytes:
    """Write a setting below /proc/sys, in the namespace of the thread; where that can't be it stays as it is."""
    return _step(Kind.WRITE, path.encode() + b"\0" + value.encode())


# Errands


@cache
def _library() -> ctypes.CDLL:
    """The helper, of which all that is repeated here has been compared. Raises DatapathError."""
    try:
        library, holding = ctypes.CDLL(str(LIBRARY), use_errno=True), ctypes.PyDLL(str(LIBRARY), use_errno=True)
        handle = ctypes.c_void_p
        signatures: dict[str, tuple[type | None, list[type]]] = {
            "souppp_carry_out": (ctypes.c_bool, [ctypes.c_char_p, ctypes.c_size_t, handle]),
            "souppp_errands_open": (handle, []),
            "souppp_errands_close": (None, [handle]),
            "souppp_errand_give": (handle, [handle, ctypes.c_char_p, ctypes.c_size_t]),
            "souppp_errand_end": (None, [handle, handle, ctypes.c_bool, handle]),
            "souppp_errand_layout": (ctypes.POINTER(Told), []),
        }
        for name, (result, arguments) in signatures.items():
            # To give one takes microseconds and never waits, so the interpreter is kept.
            function = getattr(holding if name == "souppp_errand_give" else library, name)
            function.restype, function.argtypes = result, arguments
            setattr(library, name, function)
    except (OSError, AttributeError) as error:
        raise DatapathError(f"cannot load the C helper ({error}): {REMEDY}") from None
    if text := stranger(_LAYOUT, library.souppp_errand_layout()):
        raise DatapathError(f"the C helper is not the one that belongs to this program ({text}): {REMEDY}")
    return library


def _outcome(done: _Done) -> Done:
    """Raises ErrandError."""
    if done.error:
        raise ErrandError(done.error, done.text.decode(errors="replace"), Kind(done.kind), done.step)
    return Done(done.fd, done.index)


def carry_out(steps: Sequence[bytes]) -> Done:
    """Take steps one after the other, here and now. Raises ErrandError at the first that fails, and DatapathError."""
    done, octets = _Done(), b"".join(steps)
    _library().souppp_carry_out(octets, len(octets), ctypes.byref(done))
    return _outcome(done)


class Errands:
    """A thread in the network namespace of the one that makes this, with its rights; one thread gives it errands."""

    def __init__(self) -> None:
        """Raises DatapathError."""
        self._library = _library()
        self._handle: int | None = self._library.souppp_errands_open()
        if self._handle is None:
            why = ctypes.get_errno()
            what = (
                NO_THREADS if why == errno.EAGAIN else f"No thread can be started to make devices: {os.strerror(why)}."
            )
            raise DatapathError(what)

    def give(self, steps: Sequence[bytes]) -> int:
        """Have these taken, after all that were given before. Raises DatapathError where there is no memory.

        Returns what `end` or `withdraw` is to be called with, once.
        """
        octets = b"".join(steps)
        errand: int | None = self._library.souppp_errand_give(self._handle, octets, len(octets))
        if errand is None:
            raise DatapathError("there is no memory left to make a device")
        return errand

    def end(self, errand: int) -> Done:
        """How it went; waits for it. Raises ErrandError."""
        return _outcome(self._end(errand, withdrawn=False))

    def withdraw(self, errand: int) -> Done | None:
        """The same of one that nobody wants any more; None if it wasn't under way, and never will be."""
        done = self._end(errand, withdrawn=True)
        return None if done.error == errno.ECANCELED else _outcome(done)

    def _end(self, errand: int, *, withdrawn: bool) -> _Done:
        done = _Done()
        self._library.souppp_errand_end(self._handle, errand, withdrawn, ctypes.byref(done))
        return done

    def close(self) -> None:
        """Wait for the one that is under way, and take no more. What nobody has asked for is closed."""
        if self._handle is not None:
            self._library.souppp_errands_close(self._handle)
            self._handle = None
