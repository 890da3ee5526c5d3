"""The engine's thread shares the interpreter and the processors with a busy screen; this lets it in soon.

What was measured is in ARCHITECTURE.md.
"""

from __future__ import annotations

import ctypes
import gc
import os
import struct
import sys

SWITCH_INTERVAL = 0.0001
"""Seconds between Python's thread switches: the default of 5 ms would delay the engine beside a busy screen."""
COLLECT_AFTER = (5_000, 3, 1 << 30)
"""How many new objects make Python look for garbage, how many such looks a deeper one, and how many of those a look at
everything. A redrawn screen makes thousands, all freed without a look; by default (700, 10, 10) looking took a third of
the time of a redraw, and with much more than here one deeper look holds the engine up for 20 ms. A look at everything
takes 0.1 s for a thousand sessions, and the engine needs none: what is over is freed at once. The console, whose pages
do need one, takes it when many have been left."""
SLICE = 100_000
"""Nanoseconds of processor the thread asks for in one go. Linux from 6.12 on lets a thread that asks for little run
before one that asks for more, even if that one has just begun; older ones take no notice."""
_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274, "riscv64": 274}
_RESET_ON_FORK = 1
"""Threads that this one starts (the queues') don't inherit it."""


def prompt_interpreter() -> None:
    """Make the interpreter change threads quickly, and seldom stop for garbage."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    gc.set_threshold(*COLLECT_AFTER)


def never_collect() -> None:
    """For a process without a screen: look for no garbage at all. The engine makes none, which a test proves.

    With 10,000 sessions each look holds the engine up for 20 ms, and now and then for 100.
    """
    gc.disable()


def prompt_thread() -> None:
    """Let the calling thread run soon after it is woken; does nothing where the kernel doesn't know how."""
    number = _SCHED_SETATTR.get(os.uname().machine)
    if number is not None:  # struct sched_attr: size, policy, flags, nice, priority, runtime, deadline, period
        nice = os.getpriority(os.PRIO_PROCESS, 0)
        wish = struct.pack("IIQiIQQQ", 48, os.SCHED_OTHER, _RESET_ON_FORK, nice, 0, SLICE, 0, 0)
        ctypes.CDLL(None).syscall(number, 0, wish, 0)
