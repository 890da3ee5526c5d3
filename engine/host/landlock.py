"""Takes from a process what it could do to files (Landlock, linux/landlock.h): no right is needed for that."""

from __future__ import annotations

import ctypes
import os
import struct

_CREATE, _RESTRICT_SELF = 444, 446  # system calls, the same on all processors
_VERSION = 1
"""LANDLOCK_CREATE_RULESET_VERSION: tell what the kernel knows."""
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 5: 16}
"""How many rights about files there are, from this version on."""
_WITH_NET, _WITH_SCOPES = 4, 6
_ABSTRACT_SOCKETS, _SIGNALS = 1, 2


def shut_files() -> bool:
    """Let the calling thread, and all that it starts from now on, open no file, by whatever name; whether that is so.

    Where the kernel can, it can't signal other processes either, nor connect to their abstract sockets. What is open
    stays open. It takes `no_new_privs`; False where the kernel has no Landlock.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(_CREATE, None, ctypes.c_size_t(0), _VERSION)
    if version < 1:
        return False
    rights = (1 << max(count for since, count in _FILE_RIGHTS.items() if since <= version)) - 1
    wanted = struct.pack("=QQQ", rights, 0, _ABSTRACT_SOCKETS | _SIGNALS)
    size = 24 if version >= _WITH_SCOPES else 16 if version >= _WITH_NET else 8
    ruleset = libc.syscall(_CREATE, wanted, ctypes.c_size_t(size), 0)
    if ruleset < 0:
        return False
    try:
        return bool(libc.syscall(_RESTRICT_SELF, ruleset, 0) == 0)
    finally:
        os.close(ruleset)
