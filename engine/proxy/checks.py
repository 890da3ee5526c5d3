"""What the engine and the process of its health checks (`engine.proxy.health`) tell each other, as in `messages`."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import msgspec

from engine.proxy.exits import Exit
from engine.proxy.messages import Key, Number, Ready, StackLine, Text


class Check(msgspec.Struct, frozen=True, array_like=True):
    """What to fetch through a session, and how often."""

    name: str
    """The session's, and what it is to who connects through it: see `Exit`."""
    device: str
    index: int
    ipv4: str | None
    ipv6: str | None
    dns: tuple[str, ...]
    serial: int
    """Goes back with each result: what is found for an earlier one says nothing."""
    url: str
    every: float
    """Seconds."""
    stack: bool = False
    """It has no device: the stack program connects."""

    def exit(self, key: int) -> Exit:
        """The session. Raises ValueError where an address is none."""
        ipv4 = IPv4Address(self.ipv4) if self.ipv4 else None
        ipv6 = IPv6Address(self.ipv6) if self.ipv6 else None
        return Exit(key, self.name, self.device, self.index, ipv4, ipv6, tuple(map(ip_address, self.dns)), self.stack)


class Order(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """From the engine: check this from now on, or nothing any more."""

    key: int
    check: Check | None = None


class Finding(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """To the engine: what came of one check."""

    key: Key
    serial: Number
    problem: Text = ""
    """What was wrong, in a few words; empty if the page came."""


ToEngine = Ready | Finding


ENCODER = msgspec.msgpack.Encoder()
TO_PROCESS: msgspec.msgpack.Decoder[Order | StackLine] = msgspec.msgpack.Decoder(Order | StackLine)
TO_ENGINE: msgspec.msgpack.Decoder[ToEngine] = msgspec.msgpack.Decoder(ToEngine)
