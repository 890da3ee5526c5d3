"""Ethernet frames with up to two VLAN tags (IEEE 802.3, 802.1Q, 802.1ad)."""

from __future__ import annotations

from msgspec import Struct

from engine.wire.errors import Malformed, WireError
from engine.wire.value import Veiled

BROADCAST = b"\xff" * 6
ETH_PPPOE_DISCOVERY = 0x8863
ETH_PPPOE_SESSION = 0x8864
VLAN_TPIDS = frozenset((0x8100, 0x88A8))
MAX_VLANS = 2


class VlanTag(Struct, frozen=True):
    """One VLAN tag (IEEE 802.1Q)."""

    vid: int
    """0 to 4095; a session's own is 1 to 4094."""
    priority: int = 0
    """0 to 7."""
    tpid: int = 0x8100
    dei: bool = False
    """Drop eligible."""

    @property
    def tci(self) -> int:
        """The 16 bits that follow the TPID: priority, drop eligibility, VLAN id."""
        return self.priority << 13 | self.dei << 12 | self.vid


class EthernetFrame(Veiled, frozen=True):
    """One frame, without its checksum."""

    VEILED = ("payload",)

    dst: bytes
    src: bytes
    ethertype: int
    payload: bytes
    """What follows the EtherType, padding included."""
    vlans: tuple[VlanTag, ...] = ()
    """Outer tag first."""


def decode(frame: bytes) -> EthernetFrame:
    """Take a frame apart; raises WireError if it is cut short or has more than two VLAN tags."""
    if len(frame) < 14:
        raise WireError(Malformed.TRUNCATED)
    dst, src = frame[:6], frame[6:12]
    ethertype = frame[12] << 8 | frame[13]
    if ethertype not in VLAN_TPIDS:
        return EthernetFrame(dst, src, ethertype, frame[14:])
    vlans: tuple[VlanTag, ...] = ()
    at = 14
    while ethertype in VLAN_TPIDS:
        if len(vlans) == MAX_VLANS:
            raise WireError(Malformed.TOO_MANY_VLANS)
        if len(frame) < at + 4:
            raise WireError(Malformed.TRUNCATED)
        tci = frame[at] << 8 | frame[at + 1]
        vlans += (VlanTag(tci & 0xFFF, tci >> 13, ethertype, bool(tci & 0x1000)),)
        ethertype = frame[at + 2] << 8 | frame[at + 3]
        at += 4
    return EthernetFrame(dst, src, ethertype, frame[at:], vlans)


def encode(frame: EthernetFrame) -> bytes:
    """Put a frame together; it is not padded, which the data path does when it sends it."""
    header = frame.dst + frame.src
    for tag in frame.vlans:
        header += tag.tpid.to_bytes(2, "big") + tag.tci.to_bytes(2, "big")
    return header + frame.ethertype.to_bytes(2, "big") + frame.payload


def vlan_ids(vlans: tuple[VlanTag, ...]) -> tuple[int, ...]:
    """The VLAN ids, outer first: what tells one VLAN from another, whatever the priority.

    A tag with id 0 carries a priority and names no VLAN (IEEE 802.1Q section 6.9): it is left out.
    """
    return tuple([tag.vid for tag in vlans if tag.vid]) if vlans else ()


def is_multicast(mac: bytes) -> bool:
    """True for multicast and broadcast addresses, which no frame may come from."""
    return bool(mac[0] & 1)


def format_mac(mac: bytes) -> str:
    """As in `02:ac:ac:ac:00:01`."""
    return mac.hex(":")
