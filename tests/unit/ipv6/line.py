"""A session's IPv6 host and what it hears and says, in virtual time: one of our own on the other side, or by hand."""

from __future__ import annotations

import random
from contextlib import suppress
from ipaddress import IPv6Address, IPv6Network

from engine.ipv6.host import Ipv6Config, Ipv6Configured, Ipv6Host, Ipv6Remark
from engine.ipv6.identifiers import Identity
from engine.lab.dhcpv6 import LabDhcpServer
from engine.lab.router import LabRouter, usual
from engine.settings.values import Dhcpv6
from engine.wire import dhcpv6, ipv6, ndp
from engine.wire.dhcpv6 import Message, Option, OptionCode
from engine.wire.errors import WireError
from engine.wire.ipv6 import Datagram, Ipv6Packet

OURS, ROUTERS = IPv6Address("fe80::1:2:3:4"), IPv6Address("fe80::1")
BLOCK = IPv6Network("3fff:64:7::/48")
DNS = IPv6Address("3fff:64::53")
IDENTITY = Identity(b"secret", "s")
SERVER = b"\0\3\0\1server"


class Ledger:
    """Judges as it is told."""

    def __init__(self) -> None:
        self.refused: dict[IPv6Address | IPv6Network, str] = {}
        self.asked: list[IPv6Address | IPv6Network] = []

    def ours(self, address: IPv6Address) -> str:
        self.asked.append(address)
        return self.refused.get(address, "")

    def network(self, network: IPv6Network) -> str:
        self.asked.append(network)
        return self.refused.get(network, "")


class Line:
    """The host, the clock, and a router with a server that answer, unless they are silent."""

    def __init__(
        self, dhcp: Dhcpv6 = Dhcpv6.AUTO, prefix: int | None = None, *, silent: bool = False, rapid: bool = True
    ) -> None:
        self.now = 1000.0
        self.ledger = Ledger()
        self.silent = silent
        self.entropy = random.Random(7).randbytes
        self.host = Ipv6Host(OURS, IDENTITY, self.entropy, self.ledger, self.now, dhcp=dhcp, prefix=prefix)
        self.server = LabDhcpServer(BLOCK, SERVER, (DNS,), rapid)
        self.router = LabRouter(ROUTERS, usual(BLOCK, (DNS,)), self.server)
        self.router.packets_to_send()
        self.said: list[tuple[float, Ipv6Packet]] = []
        self.remarks: list[str] = []
        self.configs: list[Ipv6Config] = []

    @property
    def config(self) -> Ipv6Config:
        return self.host.config

    @property
    def messages(self) -> list[Message]:
        """The DHCPv6 messages said since the last call."""
        said = [dhcpv6.decode(ipv6.decode_udp(each).payload) for _, each in self.said if each.next_header == ipv6.UDP]
        self.said.clear()
        return said

    def settle(self) -> None:
        """Carry packets to and fro until nothing moves."""
        while True:
            while (event := self.host.next_event()) is not None:
                if isinstance(event, Ipv6Configured):
                    self.configs.append(event.config)
                elif isinstance(event, Ipv6Remark):
                    self.remarks.append(event.text)
            out = self.host.packets_to_send()
            for packet in out:
                self.said.append((self.now, ipv6.decode(packet)))
                if not self.silent:
                    self.router.receive(packet)
            heard = self.router.packets_to_send()
            for packet in heard:
                with suppress(WireError):  # as the answer to a Release, which nobody waits for
                    self.host.receive(packet, self.now)
            if not out and not heard:
                return

    def sleep(self, seconds: float) -> None:
        """Let time go by; timers run when they are due."""
        until = self.now + seconds
        self.settle()
        while (due := self.host.next_timer()) is not None and due <= until:
            self.now = max(self.now, due)
            self.host.handle_timer(self.now)
            self.settle()
        self.now = until

    def advertise(self, told: ndp.RouterAdvertisement, source: IPv6Address = ROUTERS) -> None:
        """An advertisement, unasked."""
        self.host.receive(ndp.advertisement(source, ndp.ALL_NODES, told), self.now)
        self.settle()

    def say(self, message: Message) -> None:
        """A message of a server's."""
        datagram = Datagram(dhcpv6.SERVER_PORT, dhcpv6.CLIENT_PORT, dhcpv6.encode(message))
        self.host.receive(ipv6.encode_udp(ROUTERS, OURS, datagram), self.now)
        self.settle()

    def answer(self, kind: int, asked: Message, *options: Option, server: bytes = SERVER) -> None:
        """An answer to a message of ours."""
        ends = (Option(OptionCode.CLIENT_ID, IDENTITY.duid), Option(OptionCode.SERVER_ID, server))
        self.say(Message(kind, asked.transaction, (*ends, *options)))
