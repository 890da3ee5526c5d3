"""The operator's side of the lab: puts this process into a namespace of its own and sets the provider up beside it.

Both namespaces are anonymous and held by processes alone, so that nothing is left behind however the program ends.
"""

from __future__ import annotations

import os
import subprocess
import sys

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from engine.lab.server import LabOrder
from engine.netns import unshare_net
from engine.settings import SessionSettings

CARD = "lab0"
QUEUES = 2
URL = "http://100.64.0.1/"


class LabError(Exception):
    """The lab can't be set up: one line for the operator."""


class Lab:
    """A running lab. Making one moves the calling thread, and all it starts from now on, into the lab's network."""

    def __init__(self, order: LabOrder | None = None, queues: int = QUEUES) -> None:
        """Set everything up but don't wait for the concentrator. Raises LabError."""
        order = order or LabOrder()
        try:
            unshare_net()
        except OSError as error:
            raise LabError(f"The lab needs a network namespace, which root may make: {error.strerror}.") from None
        self._provider = subprocess.Popen(
            [sys.executable, "-m", "engine.lab.server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            start_new_session=True,
        )
        self._say(order.to_json())
        self._expect("unshared")
        self._lay_cable(order.card, queues)
        self._say("go")

    @property
    def command_prefix(self) -> str:
        """What comes before a command line that is to run in the operator's namespace."""
        return f"nsenter -t {os.getpid()} -n "

    def wait_ready(self) -> None:
        """Return when the concentrator answers; raises LabError if it can't be started."""
        self._expect("ready")

    def close(self) -> None:
        """End the provider, and all it has."""
        assert self._provider.stdin is not None
        self._provider.stdin.close()
        try:
            self._provider.wait(5)
        except subprocess.TimeoutExpired:
            self._provider.kill()
            self._provider.wait()

    def _lay_cable(self, far_end: str, queues: int) -> None:
        try:
            with IPRoute() as route:
                ends = {"num_tx_queues": queues, "num_rx_queues": queues}
                peer = {"ifname": far_end, "net_ns_fd": f"/proc/{self._provider.pid}/ns/net", **ends}
                route.link("add", ifname=CARD, kind="veth", peer=peer, **ends)
                for name in (CARD, "lo"):
                    route.link("set", index=route.link_lookup(ifname=name)[0], state="up")
            with IPRoute(netns=f"/proc/{self._provider.pid}/ns/net") as route:
                for name in (far_end, "lo"):
                    route.link("set", index=route.link_lookup(ifname=name)[0], state="up")
        except NetlinkError as error:
            raise LabError(f"The lab's cable can't be laid: {error}.") from None

    def _say(self, line: str) -> None:
        assert self._provider.stdin is not None
        self._provider.stdin.write(line + "\n")

    def _expect(self, word: str) -> None:
        assert self._provider.stdout is not None
        line = self._provider.stdout.readline().strip()
        if line != word:
            raise LabError(line.removeprefix("error: ") or "The lab's concentrator ended unexpectedly.")


def lab_sessions(count: int, password: str = "lab") -> tuple[SessionSettings, ...]:
    """That many sessions for the lab, all dialled at the start."""
    width = max(2, len(str(count)))
    return tuple(
        SessionSettings(f"lab-{n:0{width}}", user=f"lab-{n:0{width}}", password=password, autodial=True)
        for n in range(1, count + 1)
    )
