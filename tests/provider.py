"""The lab's concentrator as a process of its own, on the far end of a cable that the test lays."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from engine.lab.server import LabOrder
from tests.conftest import ROOT, run

CARD = "va"
FAR_CARD = "vb"


class Provider:
    """A provider, and the cable from its card FAR_CARD to CARD in the calling thread's namespace."""

    def __init__(self, mtu: int = 1500, queues: int = 2, **order: Any) -> None:
        """`order` is a LabOrder's."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "engine.lab.server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            cwd=ROOT,
        )
        self._say(LabOrder(card=FAR_CARD, **order).to_json())
        self._expect("unshared")
        self.lay_cable(mtu, queues)
        self._say("go")
        self._expect("ready")

    def lay_cable(self, mtu: int = 1500, queues: int = 2) -> None:
        """Also after one end was removed; a provider that is running takes no notice of a new cable."""
        many = ("numrxqueues", str(queues), "numtxqueues", str(queues))
        far = ("peer", "name", FAR_CARD, *many, "netns", str(self.process.pid))
        run("ip", "link", "add", CARD, *many, "type", "veth", *far)
        run("ip", "link", "set", CARD, "mtu", str(mtu), "up")
        self.run("ip", "link", "set", FAR_CARD, "mtu", str(mtu), "up")

    def command(self, *command: str) -> list[str]:
        """The command line that runs `command` on the provider's side."""
        return ["nsenter", "-t", str(self.process.pid), "-n", *command]

    def run(self, *command: str) -> str:
        """The output of a command on the provider's side."""
        return run(*self.command(*command))

    def end(self) -> None:
        """It hangs up on everyone and ends, and the cable with it."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(20)

    def kill(self) -> None:
        """It ends without a word."""
        self.process.kill()
        self.process.wait()

    def _say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")

    def _expect(self, word: str) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == word


@contextmanager
def provider(mtu: int = 1500, queues: int = 2, **order: Any) -> Iterator[Provider]:
    """A provider that ends with the block."""
    it = Provider(mtu, queues, **order)
    try:
        yield it
    finally:
        it.kill()
