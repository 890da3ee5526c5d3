"""A question on the terminal, before there is a console on it."""

from __future__ import annotations

import os
import select

from souppp_tui.terminal.leaving import Leaving


def agrees(question: str, leaving: Leaving) -> bool:
    """Whether the operator says yes, as enter alone does; a signal, ctrl-c among them, and the end of input say no."""
    print(f"{question} [Y/n] ", end="", flush=True)
    poll = select.poll()
    poll.register(0, select.POLLIN)
    poll.register(leaving, select.POLLIN)
    poll.poll()
    if leaving.is_set():
        print()
        return False
    answer = os.read(0, 1024)  # past Python's buffer, in which a console's keys would get lost
    return answer.endswith(b"\n") and answer.decode(errors="replace").strip().casefold() in ("", "y", "yes")
