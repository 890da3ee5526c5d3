"""Tells systemd-resolved, by resolvectl(1), one device after another, in a thread of its own."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from engine.api.values import Severity
from engine.supervisor.resolving import LinkNames

RUNS = Path("/run/systemd/resolve")
PROGRAM = "resolvectl"
PATIENCE = 20.0
"""Seconds for one command."""


class Resolved:
    """Carries out what `engine.supervisor.resolving` orders."""

    def __init__(self, tell: Callable[[Severity, str, str], None]) -> None:
        """`tell` takes what couldn't be done, once; any thread."""
        self._tell = tell
        self._told: set[str] = set()
        self._pool: ThreadPoolExecutor | None = None

    def order(self, orders: list[LinkNames]) -> None:
        """Carry these out, and clear the list."""
        while orders:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(1, "souppp-resolved")
            self._pool.submit(self._carry_out, orders.pop(0))

    def close(self) -> None:
        """Leave the rest undone: the devices go, and what is known of them."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def _carry_out(self, names: LinkNames) -> None:
        if not RUNS.is_dir():
            self._complain("`resolved: true` does nothing: systemd-resolved doesn't run on this host.")
            return
        for command in names.commands:
            if why := _run(command):
                self._complain(f"systemd-resolved doesn't take the name servers of {names.device}: {why}.")
                return

    def _complain(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self._tell(Severity.WARNING, "resolved", text)


def _run(command: tuple[str, ...]) -> str:
    """Why it couldn't be done, in a few words; empty if it was."""
    try:
        done = subprocess.run(
            [PROGRAM, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=PATIENCE,
            check=False,
            text=True,
            errors="replace",
        )
    except OSError as error:
        return f"{PROGRAM} can't be run ({error.strerror})"
    except subprocess.TimeoutExpired:
        return f"{PROGRAM} takes longer than {PATIENCE:.0f} s"
    lines = done.stderr.strip().splitlines()
    return (lines[-1].rstrip(".") if lines else f"exit code {done.returncode}") if done.returncode else ""
