"""How many files this process may have open: each TUN device takes one, and no device of the in-kernel path does."""

from __future__ import annotations

import os
import resource

BESIDE = 128
"""For all that isn't a session's: the card, the program, timers, clients."""


RESERVE = 32
"""Of these, so many that no session's device takes the last: else nobody could look at the card, write the journal, or
let a client in."""


def raise_limit() -> None:
    """Let this process have as many open files, and as much locked memory, as its hard limits allow."""
    for which in (resource.RLIMIT_NOFILE, resource.RLIMIT_MEMLOCK):
        _, hard = resource.getrlimit(which)
        resource.setrlimit(which, (hard, hard))


def too_few() -> str:
    """What to do if no more than the reserve is left, in one line; empty if more is."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    try:
        next_one = os.eventfd(0)
    except OSError:
        next_one = limit
    else:
        os.close(next_one)
    if limit == resource.RLIM_INFINITY or next_one < limit - RESERVE:
        return ""
    return f"Too many open files: raise the limit of {limit} (`ulimit -n`, LimitNOFILE=)."


def shortage(sessions: int) -> str:
    """What to do if so many sessions may need more than there can be, in one line; empty if there is enough."""
    limit, needed = resource.getrlimit(resource.RLIMIT_NOFILE)[0], sessions + BESIDE
    if limit >= needed or limit == resource.RLIM_INFINITY:
        return ""
    return f"{sessions} sessions may need {needed} open files, but this process may have {limit}: `ulimit -n {needed}`."
