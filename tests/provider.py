"""The lab's concentrator as a process of its own, on the far end of a cable that the test lays."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from engine.lab import provider as lab
from tests.conftest import run

CARD = "va"
FAR_CARD = "vb"


class Provider(lab.Provider):
    """A provider, and the cable from its card FAR_CARD to CARD in the calling thread's namespace."""

    def __init__(self, mtu: int = 1500, queues: int = 2, **order: Any) -> None:
        """`order` is a LabOrder's."""
        super().__init__(lab.LabOrder(card=FAR_CARD, **order))
        self.wait_unshared()
        self.lay_cable(mtu, queues)
        self.take_card()
        self.wait_ready()

    def lay_cable(self, mtu: int = 1500, queues: int = 2) -> None:
        """Also after one end was removed; a provider that is running takes no notice of a new cable."""
        many = ("numrxqueues", str(queues), "numtxqueues", str(queues))
        far = ("peer", "name", FAR_CARD, *many, "netns", str(self.pid))
        run("ip", "link", "add", CARD, *many, "type", "veth", *far)
        run("ip", "link", "set", CARD, "mtu", str(mtu), "up")
        self.run("ip", "link", "set", FAR_CARD, "mtu", str(mtu), "up")

    def command(self, *command: str) -> list[str]:
        """The command line that runs `command` on the provider's side."""
        return ["nsenter", "-t", str(self.pid), "-n", *command]

    def run(self, *command: str) -> str:
        """The output of a command on the provider's side."""
        return run(*self.command(*command))

    @contextmanager
    def serving(self, script: str) -> Iterator[None]:
        """A Python program on the provider's side, which ends with the block; it prints a line when it is ready."""
        process = subprocess.Popen(self.command(sys.executable, "-c", script), stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield
        finally:
            process.kill()
            process.wait()


class BridgedProvider(Provider):
    """The far end of the card's cable is a port of a bridge, and so without XDP and NAPI of its own."""

    def lay_cable(self, mtu: int = 1500, queues: int = 2) -> None:
        """In place of the plain one."""
        run("ip", "link", "add", CARD, "type", "veth", "peer", "name", "port0", "netns", str(self.pid))
        self.run("ip", "link", "add", FAR_CARD, "type", "veth", "peer", "name", "port1")
        self.run("ip", "link", "add", "bridge", "type", "bridge")
        for port in ("port0", "port1"):
            self.run("ip", "link", "set", port, "mtu", str(mtu), "master", "bridge", "up")
        self.run("ip", "link", "set", "bridge", "up")
        self.run("ip", "link", "set", FAR_CARD, "mtu", "1500", "up")
        run("ip", "link", "set", CARD, "mtu", str(mtu), "up")


@contextmanager
def provider(mtu: int = 1500, queues: int = 2, **order: Any) -> Iterator[Provider]:
    """A provider that ends with the block."""
    it = Provider(mtu, queues, **order)
    try:
        yield it
    finally:
        it.kill()
