"""Whether the card has room for the sessions' largest packets, and what to say if not. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from engine.api.plural import plural
from engine.api.values import CardView, Severity
from engine.ipv6.router import MIN_IPV6_MTU
from engine.settings.values import SessionSettings

PPPOE_OVERHEAD = 8
"""Octets of PPPoE's header and PPP's protocol number."""
SMALLEST = 68
"""Octets that every IPv4 network carries (RFC 791 section 3.2)."""
VLAN_TAG = 4
"""Octets of a VLAN tag; cards have room for one beyond their MTU, but for those below."""
NO_ROOM_FOR_A_TAG = ("cdc_eem", "cdc_ether", "cdc_ncm", "cdc_subset", "ipheth", "rndis_host", "zaurus")
"""Drivers of USB networks, which take frames of their MTU and no octet more: a tagged frame of full size is lost."""


def mtu_needed(settings: SessionSettings, driver: str = "") -> int:
    """The MTU that a card with this driver needs for a session's largest packets."""
    for_nothing = 0 if driver in NO_ROOM_FOR_A_TAG else 1
    return settings.mru + PPPOE_OVERHEAD + VLAN_TAG * max(len(settings.vlans) - for_nothing, 0)


def room(card: CardView, settings: SessionSettings) -> int:
    """The longest IP packet that a session can have on this card, in octets."""
    return max(card.mtu - mtu_needed(settings, card.driver) + settings.mru, SMALLEST)


def too_small(card: CardView | None, settings: SessionSettings) -> str:
    """What a session lacks on this card; empty if nothing."""
    needed = mtu_needed(settings, card.driver if card is not None else "")
    if card is None or card.mtu >= needed:
        return ""
    text = f"{card.name} has an MTU of {card.mtu}, but {settings.name} needs {needed} for its mru of {settings.mru}:"
    return f"{text} it is held to {room(card, settings)}. `ip link set {card.name} mtu {needed}` makes room."


def mtu_news(card: CardView, mtu: int, sessions: Sequence[SessionSettings]) -> tuple[Severity, str, str]:
    """The event of a card's changed MTU: severity, kind and text."""
    text = f"{card.name} has an MTU of {mtu} now."
    needed = [need for settings in sessions if (need := mtu_needed(settings, card.driver)) > mtu]
    if not needed:
        return Severity.INFO, "card-mtu", text
    remedy = f"`ip link set {card.name} mtu {max(needed)}`"
    held = f"That is too small for {plural(len(needed), 'session')}, whose packets are held to it: {remedy} makes room."
    narrow = replace(card, mtu=mtu)
    if any(of.ipv6 and room(narrow, of) < MIN_IPV6_MTU for of in sessions):
        held += " Until then their devices have no IPv6."
    return Severity.WARNING, "card-mtu", f"{text} {held}"
