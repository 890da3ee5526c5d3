"""Tells systemd-resolved, by resolvectl(1), one device after another, in a thread of its own."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
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
        """`tell` takes what couldn't be done, each reason once; any thread."""
        self._tell = tell
        self._told: set[str] = set()
        self._lock = threading.Lock()
        self._waiting: dict[str, LinkNames] = {}
        """By device what it is to be told, the latest alone: systemd-resolved may hang while sessions come and go."""
        self._worker: threading.Thread | None = None
        """While there is anything to do."""
        self._process: subprocess.Popen[str] | None = None
        """What runs at the moment."""
        self._closing = False

    def order(self, orders: list[LinkNames]) -> None:
        """Carry these out, and clear the list."""
        if not orders:
            return
        with self._lock:
            for names in orders:
                self._waiting.pop(names.device, None)
                self._waiting[names.device] = names
            if self._worker is None:
                self._worker = threading.Thread(target=self._work, name="souppp-resolved")
                self._worker.start()
        orders.clear()

    @property
    def waiting(self) -> int:
        """How many devices it is still to be told of, but for the one that it is being told of."""
        return len(self._waiting)

    def close(self) -> None:
        """Leave the rest undone, also what is under way: the devices go, and what is known of them."""
        with self._lock:
            self._closing = True
            self._waiting.clear()
            worker = self._worker
            if self._process is not None:
                self._process.kill()
        if worker is not None:
            worker.join()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._worker = None
                    return
                names = self._waiting.pop(next(iter(self._waiting)))
            self._carry_out(names)

    def _carry_out(self, names: LinkNames) -> None:
        if not RUNS.is_dir():
            self._complain("`resolved: true` does nothing: systemd-resolved doesn't run on this host.")
            return
        for command in names.commands:
            if why := self._run(command):
                text = f"systemd-resolved doesn't take the name servers of {names.device}: {why}."
                self._complain(text, why.replace(names.device, ""))
                return

    def _complain(self, text: str, why: str = "") -> None:
        """Once for each reason, however many devices it is the same for."""
        if not self._closing and (why or text) not in self._told:
            self._told.add(why or text)
            self._tell(Severity.WARNING, "resolved", text)

    def _run(self, command: tuple[str, ...]) -> str:
        """Why it couldn't be done, in a few words; empty if it was."""
        nothing, call = subprocess.DEVNULL, [PROGRAM, *command]
        try:
            with self._lock:
                if self._closing:
                    return "the engine ends"
                process = self._process = subprocess.Popen(
                    call, stdin=nothing, stdout=nothing, stderr=subprocess.PIPE, text=True, errors="replace"
                )
        except OSError as error:
            return f"{PROGRAM} can't be run ({error.strerror})"
        with process:
            try:
                _, said = process.communicate(timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                return f"{PROGRAM} takes longer than {PATIENCE:.0f} s"
            finally:
                with self._lock:
                    self._process = None
        lines = said.strip().splitlines()
        return (lines[-1].rstrip(".") if lines else f"exit code {process.returncode}") if process.returncode else ""
