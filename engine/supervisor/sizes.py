"""Whether the card has room for the sessions' largest packets, and what to say if not. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from engine.api.values import CardView, Severity
from engine.record.plural import plural
from engine.settings.values import SessionSettings

PPPOE_OVERHEAD = 8
"""Octets of PPPoE's header and PPP's protocol number."""
VLAN_TAG = 4
"""Octets of a VLAN tag; cards have room for one beyond their MTU."""


def mtu_needed(settings: SessionSettings) -> int:
    """The card's MTU that a session needs for its largest packets."""
    return settings.mru + PPPOE_OVERHEAD + VLAN_TAG * max(len(settings.vlans) - 1, 0)


def too_small(card: CardView | None, settings: SessionSettings) -> str:
    """What is wrong, where the session's largest packets would vanish without a trace; empty if nothing is."""
    needed = mtu_needed(settings)
    if card is None or card.mtu >= needed:
        return ""
    text = f"{card.name} has an MTU of {card.mtu}, but {settings.name} needs {needed}: lower its mru,"
    return f"{text} or `ip link set {card.name} mtu {needed}`."


def mtu_news(card: str, mtu: int, sessions: Iterable[SessionSettings]) -> tuple[Severity, str, str]:
    """The event of a card's changed MTU: severity, kind and text."""
    text = f"{card} has an MTU of {mtu} now."
    needed = [need for settings in sessions if (need := mtu_needed(settings)) > mtu]
    if not needed:
        return Severity.INFO, "card-mtu", text
    remedy = f"`ip link set {card} mtu {max(needed)}`"
    lost = f"That is too small for {plural(len(needed), 'session')}, whose largest packets are lost: {remedy}."
    return Severity.WARNING, "card-mtu", f"{text} {lost}"
