"""Sockets below IP, which are no cgroup's matter, refused to the calling process and all that it starts: seccomp(2)."""

from __future__ import annotations

import ctypes
import os
import platform
import struct

_NATIVE = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198), "riscv64": (0xC00000F3, 198)}
"""AUDIT_ARCH_… by the machine, and its number of socket(2)."""
_IO_URING_SETUP = 425
"""By which sockets can be made past any filter; the same number on all machines."""
_BELOW_IP = (17, 44)
"""AF_PACKET, AF_XDP."""
_X32 = 0x40000000
_PR_SET_SECCOMP, _FILTER = 22, 2
_LOAD, _AND, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x54, 0x15, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
"""Where `struct seccomp_data` has them; the argument's lower half."""
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050001
"""The latter with EPERM."""


def refuse_sockets_below_ip() -> bool:
    """For good; whether that can be had on this machine. Takes CAP_SYS_ADMIN. Raises OSError.

    Programs for another architecture than the machine's own are refused every system call.
    """
    if platform.machine() not in _NATIVE:
        return False
    architecture, socket = _NATIVE[platform.machine()]
    lines = (
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_JUMP_IF_EQUAL, 0, 8, architecture),
        (_LOAD, 0, 0, _NUMBER),
        (_AND, 0, 0, 0xFFFFFFFF ^ _X32),
        (_JUMP_IF_EQUAL, 5, 0, _IO_URING_SETUP),
        (_JUMP_IF_EQUAL, 0, 3, socket),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_JUMP_IF_EQUAL, 2, 0, _BELOW_IP[0]),
        (_JUMP_IF_EQUAL, 1, 0, _BELOW_IP[1]),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _REFUSE),
    )
    octets = b"".join(struct.pack("=HBBI", *line) for line in lines)
    instructions = ctypes.create_string_buffer(octets, len(octets))
    program = ctypes.create_string_buffer(struct.pack("@HP", len(lines), ctypes.addressof(instructions)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_SECCOMP, _FILTER, program, 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return True
