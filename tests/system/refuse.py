"""Runs a command for which a system call fails, as a container's rules have it: `refuse.py NUMBER ERRNO COMMAND …`.

Numbers are those of x86-64. The filter is one of seccomp(2), which the command inherits. Standard library only: it
runs by its path, wherever that is called from.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Sequence


def refuse(call: int, error: int, command: Sequence[str]) -> None:
    """Become this command, for which a system call fails."""
    load, if_equal, answer = 0x20, 0x15, 0x06
    program = struct.pack("=HBBI", load, 0, 0, 0) + struct.pack("=HBBI", if_equal, 0, 1, call)
    program += struct.pack("=HBBI", answer, 0, 0, 0x00050000 | error) + struct.pack("=HBBI", answer, 0, 0, 0x7FFF0000)
    octets = ctypes.create_string_buffer(program, len(program))
    what = ctypes.create_string_buffer(struct.pack("=HxxxxxxQ", len(program) // 8, ctypes.addressof(octets)), 16)
    if ctypes.CDLL(None, use_errno=True).prctl(22, 2, what):
        raise OSError(ctypes.get_errno(), "seccomp")
    os.execvp(command[0], command)


if __name__ == "__main__":
    refuse(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
