"""The terminal lent to a program until it ends."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence

STDIN = 0


def lend(arguments: Sequence[str]) -> int:
    """Run a program as the terminal's foreground job; returns its exit status, negative for a signal.

    ctrl-c there is the program's alone, and ctrl-z does nothing: there is no shell to go on with. Raises OSError where
    it can't be run.
    """
    ours = os.tcgetpgrp(STDIN)
    process = subprocess.Popen(arguments, process_group=0)
    before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    try:
        os.tcsetpgrp(STDIN, process.pid)
        os.killpg(process.pid, signal.SIGCONT)  # it may have been quicker than that
        while True:
            _, status = os.waitpid(process.pid, os.WUNTRACED)
            if not os.WIFSTOPPED(status):
                process.returncode = os.waitstatus_to_exitcode(status)
                return process.returncode
            os.killpg(process.pid, signal.SIGCONT)
    finally:
        os.tcsetpgrp(STDIN, ours)
        signal.signal(signal.SIGTTOU, before)
