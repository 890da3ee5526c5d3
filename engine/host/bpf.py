"""Small eBPF programs made of instructions by hand, with no compiler: assembled, loaded and attached to cgroups."""

from __future__ import annotations

import ctypes
import os
import struct
from enum import IntEnum
from functools import cache

# linux/bpf.h
ARRAY = 2
CGROUP_SKB, CGROUP_SOCK, CGROUP_SOCK_ADDR = 8, 9, 18
CGROUP_EGRESS, CGROUP_SOCK_CREATE, CGROUP_CONNECT4 = 1, 2, 10
_ALLOW_MULTI = 1 << 1
_PSEUDO_MAP = 1
_INSTRUCTION = struct.Struct("=BBhi")


class Register(IntEnum):
    """Those of the machine: the result, arguments of a call, what a call leaves alone, the end of the stack."""

    R0 = 0
    R1 = 1
    R2 = 2
    R3 = 3
    R4 = 4
    R6 = 6
    STACK = 10


class Helper(IntEnum):
    """Functions of the kernel that a program may call."""

    MAP_LOOKUP = 1
    LOAD_OCTETS = 26
    NETNS_COOKIE = 122


class _LoadOptions(ctypes.Structure):
    """`struct bpf_prog_load_opts`, as far as it is needed."""

    _fields_ = [
        ("size", ctypes.c_size_t),
        ("attempts", ctypes.c_int),
        ("attach_type", ctypes.c_int),
        ("rest", ctypes.c_uint8 * 96),
    ]


def move(to: Register, source: Register) -> bytes:
    """to = source."""
    return _INSTRUCTION.pack(0xBF, source << 4 | to, 0, 0)


def put(to: Register, number: int) -> bytes:
    """to = a number of 31 bits."""
    return _INSTRUCTION.pack(0xB7, to, 0, number)


def add(to: Register, number: int) -> bytes:
    """to += a number."""
    return _INSTRUCTION.pack(0x07, to, 0, number)


def mask(register: Register, bits: int) -> bytes:
    """Leave only these of the lower 32 bits."""
    return _INSTRUCTION.pack(0x54, register, 0, bits)


def put_long(to: Register, number: int) -> bytes:
    """to = a number of 64 bits; two instructions."""
    low, high = struct.unpack("=ii", struct.pack("=Q", number))
    return _INSTRUCTION.pack(0x18, to, 0, low) + _INSTRUCTION.pack(0, 0, 0, high)


def put_map(to: Register, descriptor: int) -> bytes:
    """to = a map; two instructions."""
    return _INSTRUCTION.pack(0x18, _PSEUDO_MAP << 4 | to, 0, descriptor) + bytes(8)


def load(to: Register, base: Register, offset: int) -> bytes:
    """to = the 32 bits at base + offset."""
    return _INSTRUCTION.pack(0x61, base << 4 | to, offset, 0)


def store(base: Register, offset: int, source: Register) -> bytes:
    """The 32 bits at base + offset = source."""
    return _INSTRUCTION.pack(0x63, source << 4 | base, offset, 0)


def store_number(base: Register, offset: int, number: int) -> bytes:
    """The 32 bits at base + offset = a number."""
    return _INSTRUCTION.pack(0x62, base, offset, number)


def call(helper: Helper) -> bytes:
    """R0 = helper(R1, R2, …)."""
    return _INSTRUCTION.pack(0x85, 0, 0, helper)


def skip_unless_zero(register: Register, many: int) -> bytes:
    """Pass over so many instructions unless a register is 0."""
    return _INSTRUCTION.pack(0x55, register, many, 0)


def skip_if_equal(register: Register, other: Register, many: int) -> bytes:
    """Pass over so many instructions if two registers hold the same."""
    return _INSTRUCTION.pack(0x1D, other << 4 | register, many, 0)


def skip_unless(register: Register, number: int, many: int) -> bytes:
    """Pass over so many instructions unless a register's lower 32 bits are a number."""
    return _INSTRUCTION.pack(0x56, register, many, number)


def answer(number: int) -> bytes:
    """End with this result; two instructions."""
    return put(Register.R0, number) + _INSTRUCTION.pack(0x95, 0, 0, 0)


@cache
def _libbpf() -> ctypes.CDLL:
    library = ctypes.CDLL("libbpf.so.1", use_errno=True)
    library.libbpf_set_print.argtypes = [ctypes.c_void_p]
    library.libbpf_set_print(None)
    library.bpf_map_update_elem.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_uint64]
    library.bpf_map_lookup_elem.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p]
    library.bpf_prog_load.argtypes = [
        *(ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t),
        ctypes.POINTER(_LoadOptions),
    ]
    return library


def make_array(name: str, entries: int) -> int:
    """A map of so many numbers of 32 bits, all 0: its descriptor. Raises OSError."""
    return _checked(_libbpf().bpf_map_create(ARRAY, name.encode(), 4, 4, entries, None))


def number_at(array: int, index: int) -> int:
    """An entry of such a map. Raises OSError."""
    value = ctypes.create_string_buffer(4)
    _checked(_libbpf().bpf_map_lookup_elem(array, struct.pack("=I", index), value))
    return int(struct.unpack("=I", value.raw)[0])


def set_number(array: int, index: int, number: int) -> None:
    """Set an entry of such a map. Raises OSError."""
    _checked(_libbpf().bpf_map_update_elem(array, struct.pack("=I", index), struct.pack("=I", number), 0))


def load_program(kind: int, attach_type: int, name: str, instructions: bytes) -> int:
    """A program that the kernel has looked through: its descriptor. Raises OSError."""
    options = _LoadOptions(size=ctypes.sizeof(_LoadOptions), attach_type=attach_type)
    many = len(instructions) // _INSTRUCTION.size
    loaded = _libbpf().bpf_prog_load(kind, name.encode(), b"GPL", instructions, many, ctypes.byref(options))
    return _checked(loaded)


def attach_to_cgroup(program: int, cgroup: int, attach_type: int) -> None:
    """Have a program asked for all in a cgroup, beside others, for as long as that is there. Raises OSError."""
    _checked(_libbpf().bpf_prog_attach(program, cgroup, attach_type, _ALLOW_MULTI))


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result
