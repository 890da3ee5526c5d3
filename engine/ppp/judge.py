"""Whether an address may be had: IPCP and IPv6CP ask, who answers knows the host and its other sessions."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import Protocol

Address = IPv4Address | IPv6Address


class AddressJudge(Protocol):
    """Says what speaks against an address: the rest of a sentence that begins with "it", or nothing."""

    def ours(self, address: Address) -> str:
        """Against having it ourselves."""

    def peers(self, address: Address) -> str:
        """Against a peer that has it."""

    def network(self, network: IPv6Network) -> str:
        """Against having a network delegated to us."""


class AnyAddress:
    """Nothing speaks against any. Implements `AddressJudge`."""

    def ours(self, address: Address) -> str:
        """Nothing."""
        return ""

    def peers(self, address: Address) -> str:
        """Nothing."""
        return ""

    def network(self, network: IPv6Network) -> str:
        """Nothing."""
        return ""
