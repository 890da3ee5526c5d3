"""Sessions that a concentrator which goes by their Host-Uniq can't tell apart, and what to say then. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from engine.api.plural import plural
from engine.sessions.macs import own_mac
from engine.settings.values import SessionSettings
from engine.wire.ethernet import vlan_ids

Asker = tuple[bytes, bytes, tuple[int, ...]]
"""Host-Uniq, own MAC where that isn't the card's, VLAN ids."""


def indistinct(sessions: Iterable[SessionSettings]) -> dict[Asker, str]:
    """What to tell of those with the same fixed Host-Uniq that ask from the same place."""
    names: defaultdict[Asker, list[str]] = defaultdict(list)
    for each in sessions:
        if each.host_uniq:
            names[each.host_uniq, own_mac(each, b""), vlan_ids(each.vlans)].append(each.name)
    return {asker: _told(asker, found) for asker, found in names.items() if len(found) > 1}


def _told(asker: Asker, names: list[str]) -> str:
    who = f"{names[0]} and {names[1] if len(names) == 2 else plural(len(names) - 1, 'other session')}"
    what = f"have the same `host_uniq` (0x{asker[0].hex()}) on one MAC address"
    why = "a concentrator that goes by it takes them for one session, and they end each other"
    return f"{who} {what}: {why}. Have each of them say `mac: derived`."
