"""What a session is to who connects through it: a device or a stack, addresses, the servers that it asks for names."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from msgspec import Struct

Address = IPv4Address | IPv6Address


class Exit(Struct, frozen=True):
    """A session that is up; another value when anything of it changes."""

    key: int
    """The session's, in the engine."""
    name: str
    device: str
    index: int
    """The device's: a name may be another device's later."""
    ipv4: IPv4Address | None
    ipv6: IPv6Address | None
    """A global one; None while there is none."""
    dns: tuple[Address, ...] = ()
    """Servers in the order in which they are asked."""
    stack: bool = False
    """It has no device: the stack program connects (`engine.proxy.stack`)."""

    def source(self, version: int) -> Address | None:
        """The address to connect from, of IP version 4 or 6."""
        return self.ipv4 if version == 4 else self.ipv6
