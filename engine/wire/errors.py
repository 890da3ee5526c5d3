"""The one error that decoders raise."""

from __future__ import annotations

from enum import StrEnum


class Malformed(StrEnum):
    """What is wrong with a frame; discards are counted by these words."""

    TRUNCATED = "truncated"
    """It ends before its header does."""
    BAD_LENGTH = "bad length"
    """A length field is too small, or says more than there is."""
    BAD_VERSION = "bad version"
    """PPPoE VER or TYPE is not 1."""
    BAD_TAG = "bad tag"
    """A PPPoE tag, or its header, runs past LENGTH."""
    BAD_OPTION = "bad option"
    """An option is shorter than its header, or runs past the packet."""
    BAD_CHECKSUM = "bad checksum"
    """Of UDP or ICMPv6."""
    NOT_EXPECTED = "not expected"
    """A packet of IPv6 that is neither a Router Advertisement nor an answer of DHCPv6."""
    NOT_FROM_THE_LINK = "not from the link"
    """A router has forwarded it, or its source is no link-local address."""
    TOO_MANY_VLANS = "too many VLAN tags"


class WireError(ValueError):
    """A frame that can't be decoded; `reason` says what is wrong with it."""

    def __init__(self, reason: Malformed) -> None:
        super().__init__(reason.value)
        self.reason = reason
