"""System calls refused to the calling process and all that it starts, for good: seccomp(2)."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Sequence

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
    _install(lines)
    return True


_FILES_AND_SOCKETS = {
    "x86_64": (2, 41, 42, 49, 85, 101, 165, 175, 248, 250, 257, 272, 298, 308, 310, 313, 321, 323),
    "aarch64": (40, 56, 97, 105, 117, 198, 200, 203, 217, 219, 241, 268, 270, 273, 280, 282),
    "riscv64": (40, 56, 97, 105, 117, 198, 200, 203, 217, 219, 241, 268, 270, 273, 280, 282),
}
"""open, creat, openat; socket, connect, bind; mount, unshare, setns; init_module, finit_module; ptrace,
process_vm_readv, perf_event_open, bpf, userfaultfd; add_key, keyctl."""
_ON_ALL = (_IO_URING_SETUP, 437)
"""The second is openat2."""


def refuse_files_and_sockets() -> bool:
    """Let nothing be opened, connected or looked into; whether that can be had on this machine. Takes no_new_privs.

    What is open stays so. Raises OSError.
    """
    if platform.machine() not in _NATIVE:
        return False
    refused = (*_FILES_AND_SOCKETS[platform.machine()], *_ON_ALL)
    lines = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_JUMP_IF_EQUAL, 0, len(refused) + 3, _NATIVE[platform.machine()][0]),
        (_LOAD, 0, 0, _NUMBER),
        (_AND, 0, 0, 0xFFFFFFFF ^ _X32),
    ]
    lines += [(_JUMP_IF_EQUAL, len(refused) - place, 0, number) for place, number in enumerate(refused)]
    lines += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _REFUSE)]
    _install(lines)
    return True


def _install(lines: Sequence[tuple[int, int, int, int]]) -> None:
    """Raises OSError."""
    octets = b"".join(struct.pack("=HBBI", *line) for line in lines)
    instructions = ctypes.create_string_buffer(octets, len(octets))
    program = ctypes.create_string_buffer(struct.pack("@HP", len(lines), ctypes.addressof(instructions)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_SECCOMP, _FILTER, program, 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
