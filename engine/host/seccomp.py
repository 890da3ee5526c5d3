"""System calls refused to the calling process and all that it starts, for good: seccomp(2)."""

from __future__ import annotations

import ctypes
import os
import platform
import socket
import struct
from collections.abc import Mapping, Sequence

_NATIVE = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198), "riscv64": (0xC00000F3, 198)}
"""AUDIT_ARCH_… by the machine, and its number of socket(2)."""
_IO_URING_SETUP = 425
"""By which sockets can be made past any filter; the same number on all machines."""
_BELOW_IP = (17, 44)
"""AF_PACKET, AF_XDP."""
_X32 = 0x40000000
_PR_SET_SECCOMP, _FILTER = 22, 2
_LOAD, _AND, _JUMP, _JUMP_IF_EQUAL, _JUMP_IF_SET, _RETURN = 0x20, 0x54, 0x05, 0x15, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT, _ARGUMENT = 0, 4, 16, 8
"""Where `struct seccomp_data` has them; the argument's lower half, and how far one is from the next."""
_WORD = 0xFFFFFFFF
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050001
"""The latter with EPERM."""


def refuse_sockets_below_ip() -> bool:
    """For good; whether that can be had on this machine. Takes CAP_SYS_ADMIN. Raises OSError.

    Programs for another architecture than the machine's own are refused every system call.
    """
    if platform.machine() not in _NATIVE:
        return False
    architecture, making = _NATIVE[platform.machine()]
    lines = (
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_JUMP_IF_EQUAL, 0, 8, architecture),
        (_LOAD, 0, 0, _NUMBER),
        (_AND, 0, 0, 0xFFFFFFFF ^ _X32),
        (_JUMP_IF_EQUAL, 5, 0, _IO_URING_SETUP),
        (_JUMP_IF_EQUAL, 0, 3, making),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_JUMP_IF_EQUAL, 2, 0, _BELOW_IP[0]),
        (_JUMP_IF_EQUAL, 1, 0, _BELOW_IP[1]),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _REFUSE),
    )
    _install(lines)
    return True


_FILES_AND_SOCKETS = {
    "x86_64": (2, 41, 42, 49, 85, 165, 175, 248, 250, 257, 272, 298, 307, 308, 313, 321, 323),
    "aarch64": (40, 56, 97, 105, 198, 200, 203, 217, 219, 241, 268, 269, 273, 280, 282),
    "riscv64": (40, 56, 97, 105, 198, 200, 203, 217, 219, 241, 268, 269, 273, 280, 282),
}
"""open, creat, openat; socket, connect, bind, sendmmsg; mount, unshare, setns; init_module, finit_module;
perf_event_open, bpf, userfaultfd; add_key, keyctl."""
_PAIRS = {"x86_64": 53, "aarch64": 199, "riscv64": 199}
_SENDTO = {"x86_64": 44, "aarch64": 206, "riscv64": 206}
_ADDRESS = _FIRST_ARGUMENT + 4 * _ARGUMENT
_OPENAT2 = 437
_OTHER_PROCESSES = {
    "x86_64": (62, 101, 129, 141, 142, 144, 200, 203, 251, 256, 279, 297, 310, 311, 312, 314),
    "aarch64": (30, 117, 118, 119, 122, 129, 130, 138, 140, 238, 239, 240, 270, 271, 272, 274),
    "riscv64": (30, 117, 118, 119, 122, 129, 130, 138, 140, 238, 239, 240, 270, 271, 272, 274),
}
"""kill, tkill, rt_sigqueueinfo, rt_tgsigqueueinfo; ptrace, process_vm_readv, process_vm_writev, kcmp; migrate_pages,
move_pages; setpriority, ioprio_set, sched_setaffinity, sched_setattr, sched_setparam, sched_setscheduler."""
_OTHERS_BY_DESCRIPTOR = (424, 434, 438, 440, 448)
"""pidfd_send_signal, pidfd_open, pidfd_getfd, process_madvise, process_mrelease."""
_OF_ITSELF = {"x86_64": (234, 302), "aarch64": (131, 261), "riscv64": (131, 261)}
"""tgkill, by which Go and the C library signal their own threads; prlimit64."""


_Check = tuple[int, int, tuple[int, ...]]
"""Where a word of an argument is, which bits of it count, and what they may be."""


def refuse_files_and_sockets() -> bool:
    """Let nothing be opened, connected or looked into, nor other processes be touched; whether that can be had here.

    What is open stays so. Nobody is sent to by address: a datagram socket of the family AF_UNIX, which would do so
    connected or not, can't be made. Takes no_new_privs. Raises OSError.
    """
    machine = platform.machine()
    if machine not in _NATIVE:
        return False
    of_a_pair = (_FIRST_ARGUMENT + _ARGUMENT, 0xF, (socket.SOCK_SEQPACKET, socket.SOCK_STREAM))
    only = {
        _PAIRS[machine]: (of_a_pair,),
        _SENDTO[machine]: ((_ADDRESS, _WORD, (0,)), (_ADDRESS + 4, _WORD, (0,))),
    }
    return _refuse(machine, (*_FILES_AND_SOCKETS[machine], _IO_URING_SETUP, _OPENAT2), only)


def refuse_other_processes() -> bool:
    """Let no other process be signalled, looked into, held up or robbed of its limits; whether that can be had here.

    Who has no capability may do all that to processes of the same user, and that may be root. Takes no_new_privs.
    Raises OSError.
    """
    machine = platform.machine()
    return machine in _NATIVE and _refuse(machine, (), {})


def _refuse(machine: str, numbers: Sequence[int], only: Mapping[int, Sequence[_Check]]) -> bool:
    """Refuse system calls by their numbers, all of x32's, and `only` those whose arguments aren't as they may be."""
    refused = (*numbers, *_OTHER_PROCESSES[machine], *_OTHERS_BY_DESCRIPTOR)
    itself = (_FIRST_ARGUMENT, _WORD, (0, os.getpid()))
    conditions = {**only, **dict.fromkeys(_OF_ITSELF[machine], (itself,))}
    lines = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_JUMP_IF_EQUAL, 0, len(refused) + 3, _NATIVE[machine][0]),
        (_LOAD, 0, 0, _NUMBER),
        (_JUMP_IF_SET, len(refused) + 1, 0, _X32),
        *((_JUMP_IF_EQUAL, len(refused) - place, 0, number) for place, number in enumerate(refused)),
        (_JUMP, 0, 0, 1),
        (_RETURN, 0, 0, _REFUSE),
    ]
    for number, checks in conditions.items():
        lines += _passing(number, checks)
    _install([*lines, (_RETURN, 0, 0, _ALLOW)])
    return True


def _passing(number: int, checks: Sequence[_Check]) -> list[tuple[int, int, int, int]]:
    """Lines that let a system call go whose arguments pass all checks, and refuse it else; others go on behind."""
    lines: list[tuple[int, int, int, int]] = []
    for place, bits, values in checks:
        lines += [(_LOAD, 0, 0, place), (_AND, 0, 0, bits)]
        lines += [(_JUMP_IF_EQUAL, len(values) - n, 0, value) for n, value in enumerate(values)]
        lines.append((_RETURN, 0, 0, _REFUSE))
    lines.append((_RETURN, 0, 0, _ALLOW))
    return [(_JUMP_IF_EQUAL, 0, len(lines), number), *lines]


def _install(lines: Sequence[tuple[int, int, int, int]]) -> None:
    """Raises OSError."""
    octets = b"".join(struct.pack("=HBBI", *line) for line in lines)
    instructions = ctypes.create_string_buffer(octets, len(octets))
    program = ctypes.create_string_buffer(struct.pack("@HP", len(lines), ctypes.addressof(instructions)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_SECCOMP, _FILTER, program, 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
