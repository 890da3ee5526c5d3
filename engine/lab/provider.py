"""The lab's provider, a process of its own in a network namespace of its own, as its parent sees it.

The parent writes a `LabOrder` as JSON on the first line of the child's standard input, and a second line when the card
is there. The child answers with `unshared` (its namespace is there, now give it the card), then `ready` or `error: …`.
It ends when its standard input closes, and with it everything that it made.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import Any

from msgspec.structs import asdict

from engine.settings.limits import MAX_SESSIONS
from engine.wire.value import Veiled


class LabError(Exception):
    """The lab can't be set up: one line for the operator."""


class LabOrder(Veiled, frozen=True):
    """What the lab's concentrator is to be; all of it JSON."""

    VEILED = ("password",)

    card: str = "provider"
    name: str = "souppp-lab"
    password: str = "lab"
    auth: tuple[str, ...] = ("chap", "pap", "mschapv2")
    impostor: bool = False
    """Whether it knows no password and takes anybody for a client of its own, by whatever method of `auth`."""
    withholding: bool = False
    """Whether it lets clients in and gives them no IPv4 address."""
    network: str = "100.64.0.0/16"
    services: tuple[str, ...] = ()
    max_sessions: int = MAX_SESSIONS
    max_payload: int = 1492
    faults: tuple[str, ...] = ()
    """What it does to its sessions at SIGUSR1, one thing to each: names in `engine.lab.faults.FAULTS`."""

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> LabOrder:
        """The reverse."""
        values: dict[str, Any] = json.loads(line)
        for key, value in values.items():
            if isinstance(value, list):
                values[key] = tuple(value)
        return cls(**values)


class Provider:
    """A provider on its way: it starts at once and needs a card when the caller has found the time to lay the cable."""

    def __init__(self, order: LabOrder | None = None) -> None:
        self.order = order or LabOrder()
        # Until it has a session of its own it is in our group: a signal to that is for us to heed, who end it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "engine.lab"],  # of ours, not of a folder that happens to have the name
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                bufsize=1,
                start_new_session=True,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self._say(self.order.to_json())

    @property
    def pid(self) -> int:
        """Its process, which is in a network namespace of its own once `wait_unshared` has returned."""
        return self._process.pid

    def wait_unshared(self) -> None:
        """Return when it has a namespace; raises LabError."""
        self._expect("unshared")

    def take_card(self) -> None:
        """The card is there, and up."""
        self._say("go")

    def wait_ready(self) -> None:
        """Return when the concentrator answers; raises LabError if it can't be started."""
        self._expect("ready")

    def kill(self) -> None:
        """End it without a word to its clients."""
        with self._process as process:
            process.kill()

    def close(self) -> None:
        """End it, if it hasn't ended: it hangs up on its clients first."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")

    def _expect(self, word: str) -> None:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        if line != word:
            raise LabError(line.removeprefix("error: ") or "The lab's concentrator ended unexpectedly.")
