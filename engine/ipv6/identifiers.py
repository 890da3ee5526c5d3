"""Who a session is in IPv6: always the same on this host, and nothing that tells two sessions are one's (RFC 7217)."""

from __future__ import annotations

import hashlib
from ipaddress import IPv6Address, IPv6Network

_RESERVED = ((0, 0), (0x02005EFFFE000000, 0x02005EFFFEFFFFFF), (0xFDFFFFFFFFFFFF80, 0xFDFFFFFFFFFFFFFF))
"""Interface identifiers that mean something else (RFC 5453)."""
_DUID_UUID = b"\0\4"


class Identity:
    """A session's."""

    def __init__(self, secret: bytes, name: str) -> None:
        """`secret` is the host's, at least 128 bits that nobody on the line knows; `name` the session's."""
        self._secret = hashlib.sha256(b"souppp ipv6" + len(secret).to_bytes(2, "big") + secret + name.encode()).digest()

    def address(self, prefix: IPv6Network) -> IPv6Address:
        """The session's address in a /64 (RFC 7217 section 5; the interface and the network's id are its name)."""
        for counter in range(256):
            seed = self._secret + prefix[0].packed[:8] + bytes((counter,))
            identifier = int.from_bytes(hashlib.sha256(seed).digest()[:8], "big")
            if not any(first <= identifier <= last for first, last in _RESERVED):
                break
        return IPv6Address(int(prefix[0]) | identifier)

    @property
    def duid(self) -> bytes:
        """By which a DHCPv6 server knows the session: a DUID-UUID (RFC 6355)."""
        uuid = bytearray(hashlib.sha256(self._secret + b"duid").digest()[:16])
        uuid[6] = uuid[6] & 0x0F | 0x40
        uuid[8] = uuid[8] & 0x3F | 0x80
        return _DUID_UUID + bytes(uuid)
