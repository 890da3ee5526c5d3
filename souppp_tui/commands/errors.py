"""What keeps the program from running, and what is said to whoever started it."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

EXIT_OK = 0
EXIT_NOT_DONE = 1
"""Not every session came up in time, something failed under way, or was refused."""
EXIT_USAGE = 2
"""The command line or the configuration is wrong."""
EXIT_ENVIRONMENT = 3
"""It can't run here, or there is no engine to talk to."""
EXIT_HANDED_OVER = 75
"""The sessions that are up are left to the next process, which is to be started now."""
STDOUT, STDERR = 1, 2


class CannotRunError(Exception):
    """It can't run here (privileges, kernel, packages, card, terminal): one line for the operator."""


def complain(line: str) -> None:
    """One line on standard error, if that takes it: a full disk under it must not end what goes on without a word.

    Past Python's own stream, which would try the same once more at the very end, and spoil the exit code.
    """
    encoding = sys.stderr.encoding if sys.stderr else "ascii"
    with suppress(OSError):
        os.write(STDERR, f"{line}\n".encode(encoding, "backslashreplace"))


def say(line: str) -> None:
    """The same on standard output, for what is no complaint."""
    encoding = sys.stdout.encoding if sys.stdout else "ascii"
    with suppress(OSError):
        os.write(STDOUT, f"{line}\n".encode(encoding, "backslashreplace"))


def check_terminal(instead: str) -> None:
    """Raises CannotRunError where there is no terminal to show the console on; `instead` says what does without."""
    if not (os.isatty(0) and os.isatty(1)):
        raise CannotRunError(f"the console needs a terminal on standard input and output; {instead}.")
