"""What tells one PPPoE session from every other."""

from __future__ import annotations

from msgspec import Struct

from engine.wire.ethernet import VlanTag


class Place(Struct, frozen=True):
    """A session's place on the line and its number (RFC 2516 section 4): a session id alone is its concentrator's."""

    own_mac: bytes
    """6 octets, as `peer_mac`, which is the concentrator's."""
    peer_mac: bytes
    session_id: int
    vlans: tuple[VlanTag, ...] = ()
    """Outer tag first. Frames match by the VLAN ids; outgoing ones bear the priority too."""
