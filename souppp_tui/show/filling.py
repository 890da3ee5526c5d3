"""A session's values in a command of the operator's. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from engine.api.values import SessionView


class MissingValueError(ValueError):
    """The session has no such value now; the text says so in one line."""


def values(view: SessionView) -> dict[str, str | None]:
    """What can stand in braces (`engine.settings.console.PLACEHOLDERS`); None where there is none now."""
    return {
        "name": view.name,
        "user": view.user or None,
        "service": view.service,
        "device": view.device,
        "address": view.ipv4,
        "peer": view.ipv4_peer,
        "ipv6": view.ipv6_addresses[0] if view.ipv6_addresses else view.ipv6,
        "prefix": view.ipv6_prefix,
        "session_id": f"{view.session_id:04x}" if view.session_id is not None else None,
        "mac": view.local_mac,
        "ac_mac": view.ac_mac,
        "vlan": ".".join(map(str, view.vlans)) or None,
        "mark": str(view.mark) if view.mark is not None else None,
        "netns": view.netns,
        "proxy": view.proxy,
    }


def filled(arguments: Sequence[str], view: SessionView) -> list[str]:
    """A program and its arguments with the session's values. Raises MissingValueError."""
    known = values(view)

    def value(match: re.Match[str]) -> str:
        found = known.get(match[1])
        if found is None:
            raise MissingValueError(f"{view.name} has no {match[1].replace('_', ' ')} now: it is {view.state}.")
        return found

    return [re.sub(r"\{(\w+)\}", value, argument) for argument in arguments]
