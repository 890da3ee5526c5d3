"""Whether frames lose their VLAN tags before they can be seen, and what to say then. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from engine.api.values import CardView
from engine.settings.values import SessionSettings

MADE_OF_OTHERS = ("bonding", "team", "bridge", "macvlan")
"""Drivers of cards that have their frames from other cards: on the way the kernel takes the outer tag off, whatever
ethtool is told."""


def lost(card: CardView | None, sessions: Iterable[SessionSettings]) -> str:
    """What to tell where that may befall one of these sessions; empty if not."""
    tagged = next((one for one in sessions if one.vlans), None)
    if card is None or tagged is None:
        return ""
    name = card.name
    if card.driver in MADE_OF_OTHERS:
        vid = tagged.vlans[0].vid
        instead = f"`ip link add link {name} name {name}.{vid} type vlan id {vid}`"
        text = f"{name} is made of other cards, and frames come to it without their outer VLAN tag: tagged sessions get"
        return f"{text} no answer. Start on a card beneath it, or on a VLAN device, without that tag: {instead}."
    if card.strips:
        text = f"{name} may take VLAN tags off before they can be seen. If tagged sessions get no answer:"
        return f"{text} `ethtool -K {name} rxvlan off`, or start with --fix-card, or press F on the card page."
    return ""
