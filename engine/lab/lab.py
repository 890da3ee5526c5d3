"""The operator's side of the lab: puts this process into a namespace of its own and sets the provider up beside it.

Both namespaces are anonymous and held by processes alone, so that nothing is left behind however the program ends.
"""

from __future__ import annotations

import os
from contextlib import closing

from pyroute2.netlink import NLM_F_CREATE, NLM_F_EXCL
from pyroute2.netlink.rtnl import RTM_NEWLINK
from pyroute2.netlink.rtnl.ifinfmsg import IFF_UP, ifinfmsg

from engine.host import netns
from engine.host.rtnl import Rtnl, request
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
            netns.unshare_net()
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
        many = [("IFLA_NUM_TX_QUEUES", queues), ("IFLA_NUM_RX_QUEUES", queues)]
        peer = [("IFLA_IFNAME", far_end), ("IFLA_NET_NS_PID", self._provider.pid), *many]
        data = {"attrs": [("VETH_INFO_PEER", {"attrs": peer})]}
        veth = {"attrs": [("IFLA_INFO_KIND", "veth"), ("IFLA_INFO_DATA", data)]}
        ours = [("IFLA_IFNAME", CARD), *many, ("IFLA_LINKINFO", veth)]
        try:
            _ask(request(ifinfmsg, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, ours), *map(_up, (CARD, "lo")))
            with netns.inside(self._provider.pid):
                _ask(*map(_up, (far_end, "lo")))
        except OSError as error:
            raise LabError(f"The lab's cable can't be laid: {error.strerror}.") from None


def _up(name: str) -> bytes:
    return request(ifinfmsg, RTM_NEWLINK, 0, [("IFLA_IFNAME", name)], flags=IFF_UP, change=IFF_UP)


def _ask(*requests: bytes) -> None:
    """Have the kernel carry them out in this namespace. Raises RtnlError."""
    with closing(Rtnl()) as rtnl:
        rtnl.do(requests)


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
