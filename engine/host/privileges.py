"""What this process may do on this host: what it needs is looked for at the start, and all else given up then.

SECURITY.md says what each capability is for.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_NEEDED = {
    "CAP_NET_ADMIN": (12,),
    "CAP_NET_RAW": (13,),
    "CAP_BPF": (39, 21),
    "CAP_PERFMON": (38, 21),
}
"""Capabilities by name, with the bits of which one is enough, as CAP_SYS_ADMIN includes the younger ones; see
capabilities(7). Whatever becomes of the card, these do."""
_LAB = {"CAP_SYS_ADMIN": (21,), "CAP_NET_BIND_SERVICE": (10,)}
"""What the lab needs besides, to make its namespaces and for its web server."""
_LOCKED_MEMORY = 14
"""CAP_IPC_LOCK: kept where it is there, since without it the limit of locked memory counts."""
_KILL = 5
"""CAP_KILL."""
_FILES = (0, 1, 3)
"""CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER: what root needs for other users' files."""

NOBODY = 65_534
"""User and group that own nothing, on any Linux."""
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS, _PR_CAPBSET_DROP = 1, 38, 24
_VERSION_3 = 0x20080522
_LAST = 63


def missing_capabilities(*, lab: bool = False) -> list[str]:
    """The capabilities that the calling thread lacks, those of the lab too if there is to be one."""
    held = _held("CapEff")
    return [
        name for name, bits in (_NEEDED | (_LAB if lab else {})).items() if not any(held >> bit & 1 for bit in bits)
    ]


def confine(files: Iterable[Path] = (), *, serving: bool = False) -> None:
    """Give up, for good, all that is only needed to begin with: the calling thread, and all that it starts from now on.

    What is left is what it takes to run the card, and to take it anew. `files` are those that are still to be read or
    written: where root works on other users' files it keeps what that takes. `serving` is for the lab's web server.
    Does nothing where the kernel refuses.
    """
    held = _held("CapPrm")
    enough = [next((bit for bit in bits if held >> bit & 1), _LOCKED_MEMORY) for bits in _NEEDED.values()]
    keep = {*enough, _LOCKED_MEMORY, *(_LAB["CAP_NET_BIND_SERVICE"] if serving else ())}
    if os.geteuid() == 0 and any(map(_is_others, files)):
        keep.update(_FILES)
    _keep(held & sum(1 << bit for bit in keep))


def shed(bits: Iterable[int]) -> None:
    """Give up these capabilities, for good: the calling thread, and all that it starts from now on."""
    lost = sum(1 << bit for bit in bits)
    libc = ctypes.CDLL(None)
    for bit in range(_LAST + 1):
        if lost >> bit & 1:
            libc.prctl(_PR_CAPBSET_DROP, bit, 0, 0, 0)
    effective, permitted, inheritable = (_held(which) & ~lost for which in ("CapEff", "CapPrm", "CapInh"))
    parts = (part >> shift & 0xFFFFFFFF for shift in (0, 32) for part in (effective, permitted, inheritable))
    libc.capset(struct.pack("=Ii", _VERSION_3, 0), struct.pack("=6I", *parts))


def give_up_all() -> None:
    """Give up every capability, for good: the calling thread, and all that it starts from now on."""
    _keep(0)


def keep_right_to_kill() -> None:
    """Give up every capability but that to signal others' processes, for good, where the calling thread has it."""
    _keep(_held("CapPrm") & 1 << _KILL)


def become_nobody() -> None:
    """Give up every capability and, where it can, the user and groups it runs as; for good, of the calling thread.

    A user without rights of its own: what root leaves behind without capabilities still owns root's files.
    """
    libc = ctypes.CDLL(None)
    for bit in range(_LAST + 1):
        libc.prctl(_PR_CAPBSET_DROP, bit, 0, 0, 0)  # as long as it may
    if os.geteuid() == 0:
        with suppress(OSError):
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
    give_up_all()


def _keep(mask: int) -> None:
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    for bit in range(_LAST + 1):
        if not mask >> bit & 1:
            libc.prctl(_PR_CAPBSET_DROP, bit, 0, 0, 0)  # fails for those that the kernel doesn't know
    inheritable = _held("CapInh") & mask
    parts = (part >> shift & 0xFFFFFFFF for shift in (0, 32) for part in (mask, mask, inheritable))
    libc.capset(struct.pack("=Ii", _VERSION_3, 0), struct.pack("=6I", *parts))  # the ambient ones follow


def signal_at_parents_end(number: int) -> None:
    """Have the kernel send this signal to the calling process when the thread that forked it ends; 0 for none.

    See PR_SET_PDEATHSIG(2const). Fewer capabilities change nothing about it.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)


def _held(which: str) -> int:
    status = Path("/proc/thread-self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith(f"{which}:")).split()[1], 16)


def _is_others(path: Path) -> bool:
    """Whether a file or a folder on the way to it belongs to somebody who is not root."""
    whole = path.absolute()
    for part in (whole, *whole.parents):
        with suppress(OSError):
            if part.stat().st_uid != 0:
                return True
    return False
