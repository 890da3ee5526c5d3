"""The operator's side of the lab: puts this process into a namespace of its own and sets the provider up beside it.

Both namespaces are anonymous and held by processes alone, so that nothing is left behind however the program ends.
"""

from __future__ import annotations

import os

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from engine.host.netns import unshare_net
from engine.lab.provider import LabError as LabError
from engine.lab.provider import Provider
from engine.settings.values import EgressChoice, PoolPort, ProxySettings, SessionPorts, SessionSettings

CARD = "lab0"
QUEUES = 2
URL = "http://100.64.0.1/"


class Lab:
    """A running lab. Making one moves the calling thread, and all it starts from now on, into the lab's network."""

    def __init__(self, provider: Provider, queues: int = QUEUES) -> None:
        """Set everything up but don't wait for the concentrator. Raises LabError."""
        self._provider = provider
        try:
            unshare_net()
        except OSError as error:
            raise LabError(f"The lab needs a network namespace, which root may make: {error.strerror}.") from None
        provider.wait_unshared()
        self._lay_cable(provider.order.card, queues)
        provider.take_card()

    @property
    def command_prefix(self) -> str:
        """What comes before a command line that is to run in the operator's namespace."""
        return f"nsenter -t {os.getpid()} -n "

    def wait_ready(self) -> None:
        """Return when the concentrator answers; raises LabError if it can't be started."""
        self._provider.wait_ready()

    def _lay_cable(self, far_end: str, queues: int) -> None:
        namespace = f"/proc/{self._provider.pid}/ns/net"
        try:
            with IPRoute() as route:
                ends = {"num_tx_queues": queues, "num_rx_queues": queues}
                peer = {"ifname": far_end, "net_ns_fd": namespace, **ends}
                route.link("add", ifname=CARD, kind="veth", peer=peer, **ends)
                for name in (CARD, "lo"):
                    route.link("set", index=route.link_lookup(ifname=name)[0], state="up")
            with IPRoute(netns=namespace) as route:
                for name in (far_end, "lo"):
                    route.link("set", index=route.link_lookup(ifname=name)[0], state="up")
        except NetlinkError as error:
            raise LabError(f"The lab's cable can't be laid: {error}.") from None


LAB_PROXIES = ProxySettings(SessionPorts(), PoolPort("127.0.0.1:1080"), allow_private=True)
"""All there is in the lab has private addresses."""


def lab_sessions(
    count: int, password: str = "lab", egress: EgressChoice = EgressChoice.DEVICE
) -> tuple[SessionSettings, ...]:
    """That many sessions for the lab, all dialled at the start."""
    width = max(2, len(str(count)))
    return tuple(
        SessionSettings(f"lab-{n:0{width}}", user=f"lab-{n:0{width}}", password=password, autodial=True, egress=egress)
        for n in range(1, count + 1)
    )
