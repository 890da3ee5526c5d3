"""Compiled XDP programs, kept from one start to the next: to compile them takes longer than all else of a start.

What is kept is what the kernel is given: each program's instructions, and what maps they use by which numbers. It is
believed if nobody but root and us can have written it, if its sum is right, and if it was made of these sources, with
this bcc, for this kernel. Whatever else is there, or isn't, the programs are compiled, as they are if the kernel
refuses what was kept.
"""

from __future__ import annotations

import ctypes
import json
import os
import stat
import struct
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from engine.host.replacing import replace_file

_PROG_TYPE_XDP = 6
_LOAD_64, _MAP_FD = 0x18, 1
"""Of an instruction (linux/bpf.h): BPF_LD | BPF_DW | BPF_IMM, and whose number it loads: BPF_PSEUDO_MAP_FD."""
_INSTRUCTION = 8
_MAP_INFO = struct.Struct("=I4xIIII")
"""`struct bpf_map_info`: its type, the sizes of key and value, how many entries, its flags."""
_DEVICES, _READ_ONLY = 14, 1 << 7
"""BPF_MAP_TYPE_DEVMAP, to which the kernel itself gives BPF_F_RDONLY_PROG, and takes it from nobody."""
_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


class _MapOptions(ctypes.Structure):
    """`struct bpf_map_create_opts`, as far as it is needed."""

    _fields_ = [("size", ctypes.c_size_t), ("btf", ctypes.c_uint32 * 4), ("inner", ctypes.c_uint32)]
    _fields_ += [("flags", ctypes.c_uint32), ("rest", ctypes.c_uint8 * 16)]


class Programs:
    """What is kept for one order of `engine.card.xdp_loader`."""

    def __init__(self, order: Mapping[str, Any]) -> None:
        """Raises OSError, or KeyError where nothing is to be kept."""
        self._path = Path(order["kept"])
        self._order = order
        self._stamp = sha256(json.dumps(_made_of(order)).encode()).hexdigest()

    def load(self) -> tuple[list[int], dict[str, Any]]:
        """As `engine.card.xdp_loader.load`, without bcc. Raises OSError, ValueError or LookupError."""
        head, _, text = self._read().partition(b"\n")
        if head != self._head(text):
            raise ValueError("it is of something else, or torn")
        kept, library = json.loads(text), ctypes.CDLL("libbpf.so.1", use_errno=True)
        library.libbpf_set_print(None)
        with ExitStack() as undo:
            maps = {}
            for name, about in kept["maps"].items():
                if (shared := self._order["shared"].get(name)) is not None:
                    maps[name] = shared
                else:
                    maps[name] = _map(library, name, *about)
                    undo.callback(os.close, maps[name])
            programs = []
            for name in self._order["programs"]:
                code = _with_maps(bytes.fromhex(kept["programs"][name]), kept["numbers"], maps)
                programs.append(_program(library, name, kept["license"], code))
                undo.callback(os.close, programs[-1])
            found = [*programs, *(maps[name] for name in self._order["maps"])]
            undo.pop_all()
        return found, kept["layouts"]

    def keep(self, bpf: Any, layouts: Mapping[str, Any]) -> None:
        """Keep what bcc has compiled and loaded. Raises OSError; LookupError where a map is used that has no name."""
        from bcc import lib

        maps = {name: bpf[name].map_fd for name in self._order["maps"]}
        numbers = {str(number): name for name, number in maps.items()}
        programs = {name: bpf.dump_func(name) for name in self._order["programs"]}
        for code in programs.values():
            _with_maps(code, numbers, maps)
        kept = {
            "license": lib.bpf_module_license(bpf.module).decode(),
            "programs": {name: code.hex() for name, code in programs.items()},
            "maps": {name: _about(number) for name, number in maps.items()},
            "numbers": numbers,
            "layouts": layouts,
        }
        text = json.dumps(kept).encode()
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if _is_ours(os.stat(self._path.parent)):
            replace_file(self._path, self._head(text) + b"\n" + text)

    def _head(self, text: bytes) -> bytes:
        return f"souppp compiled 1 {self._stamp} {sha256(text).hexdigest()}".encode()

    def _read(self) -> bytes:
        """Raises OSError, or ValueError where others may have written it."""
        fd = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            if not (
                stat.S_ISREG(os.fstat(fd).st_mode) and all(map(_is_ours, (os.fstat(fd), os.stat(self._path.parent))))
            ):
                raise ValueError("others may have written it")
            return file.read()


def _made_of(order: Mapping[str, Any]) -> list[object]:
    """All that what is compiled depends on."""
    bcc = find_spec("bcc")
    if bcc is None or bcc.origin is None:
        raise KeyError("bcc")
    about = [os.stat(each) for each in (bcc.origin, order["headers"])]
    return [
        *(Path(source).read_text() for source in order["sources"]),
        [order[each] for each in ("flags", "programs", "maps")],
        [bcc.origin, order["headers"], *((each.st_mtime_ns, each.st_size) for each in about)],
        [*os.uname()][2:],
    ]


def _is_ours(about: os.stat_result) -> bool:
    """Whether nobody but root and us can have written what is there."""
    return about.st_uid in (0, os.geteuid()) and not about.st_mode & _MAY_WRITE


def _about(map_fd: int) -> list[int]:
    """A map's type, sizes of key and value, number of entries and flags."""
    info, length = ctypes.create_string_buffer(256), ctypes.c_uint32(256)
    ctypes.CDLL("libbpf.so.1").bpf_obj_get_info_by_fd(map_fd, info, ctypes.byref(length))
    kind, key, value, entries, flags = _MAP_INFO.unpack_from(info)
    return [kind, key, value, entries, flags & ~_READ_ONLY if kind == _DEVICES else flags]


def _map(library: Any, name: str, type_: int, key: int, value: int, entries: int, flags: int) -> int:
    options = _MapOptions(size=ctypes.sizeof(_MapOptions), flags=flags)
    fd = library.bpf_map_create(type_, name[:15].encode(), key, value, entries, ctypes.byref(options))
    return _descriptor(fd)


def _program(library: Any, name: str, license_: str, code: bytes) -> int:
    size = ctypes.c_size_t(len(code) // _INSTRUCTION)
    return _descriptor(library.bpf_prog_load(_PROG_TYPE_XDP, name.encode(), license_.encode(), code, size, None))


def _descriptor(found: int) -> int:
    if found < 0:
        raise OSError(-found, os.strerror(-found))
    return found


def _with_maps(code: bytes, numbers: Mapping[str, str], maps: Mapping[str, int]) -> bytes:
    """A program's instructions with the numbers that its maps have now."""
    changed = bytearray(code)
    for at in range(0, len(code), _INSTRUCTION):
        if code[at] == _LOAD_64 and code[at + 1] >> 4 == _MAP_FD:
            (number,) = struct.unpack_from("=i", code, at + 4)
            struct.pack_into("=i", changed, at + 4, maps[numbers[str(number)]])
    return bytes(changed)


def loaded(order: Mapping[str, Any]) -> tuple[Sequence[int], Mapping[str, Any]] | None:
    """What was kept for an order, loaded; None where it has to be compiled."""
    with suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
        return Programs(order).load()
    return None


def keep(order: Mapping[str, Any], bpf: Any, layouts: Mapping[str, Any]) -> None:
    """Keep what bcc has compiled for an order and loaded, where that can be."""
    with suppress(Exception):  # another release of bcc may know nothing of what is asked here
        Programs(order).keep(bpf, layouts)
