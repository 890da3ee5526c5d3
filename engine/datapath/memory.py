"""Python's small objects in huge pages: see `memory.h`."""

from __future__ import annotations

import ctypes

from engine.datapath import LIBRARY


class _ArenaAllocator(ctypes.Structure):
    """Python's PyObjectArenaAllocator."""

    _fields_ = [
        ("context", ctypes.c_void_p),
        ("get", ctypes.c_void_p),
        ("give_back", ctypes.c_void_p),
    ]


def use_huge_pages() -> None:
    """Have what Python takes from now on be in huge pages; without the C helper, which others miss, all is as it was.

    The interpreter's lock must be held, as it always is here.
    """
    try:
        library = ctypes.CDLL(str(LIBRARY))
        functions = library.souppp_arena_get, library.souppp_arena_give_back
    except (OSError, AttributeError):
        return
    allocator = _ArenaAllocator(None, *(ctypes.cast(function, ctypes.c_void_p) for function in functions))
    ctypes.pythonapi.PyObject_SetArenaAllocator(ctypes.byref(allocator))
