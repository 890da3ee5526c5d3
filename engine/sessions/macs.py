"""A session's own MAC address."""

from __future__ import annotations

import hashlib

from engine.settings.values import MacPolicy, SessionSettings


def own_mac(settings: SessionSettings, card_mac: bytes) -> bytes:
    """The address that the session's policy says; 6 octets."""
    match settings.mac_policy:
        case MacPolicy.CARD:
            return card_mac
        case MacPolicy.FIXED if settings.mac is not None:
            return settings.mac
        case _:
            return derived(card_mac, settings.name)


def derived(card_mac: bytes, name: str) -> bytes:
    """A locally administered unicast address, always the same for the same card and session name."""
    digest = hashlib.sha256(card_mac + name.encode()).digest()
    return bytes((digest[0] & 0xFC | 0x02,)) + digest[1:6]
