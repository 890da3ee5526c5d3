"""A session's values in a command of the operator's. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from engine.api.values import SessionView

NAMING = frozenset(("name", "user", "service", "session_id", "mac", "ac_mac", "vlan"))
"""Values that say which session it is; what the others mean is so on the engine's host and in its namespace alone."""
_VALUE = re.compile(r"\{(\w+)\}")
_PLAIN = re.compile(r"([\w:./@+\[\]][\w:./@+\[\]%,=#~-]*)?")
"""What neither a program could take for an option nor a shell for anything but a word."""


class MissingValueError(ValueError):
    """The session has no such value now, or none to run a program with; the text says so in one line."""


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


def only_names(arguments: Sequence[str]) -> bool:
    """Whether a command only says which session it is about, and so can be run anywhere."""
    return NAMING.issuperset(_VALUE.findall("\0".join(arguments)))


def filled(arguments: Sequence[str], view: SessionView) -> list[str]:
    """A program and its arguments with the session's values. Raises MissingValueError."""
    known = values(view)

    def value(match: re.Match[str]) -> str:
        found = known.get(match[1])
        word = match[1].replace("_", " ")
        if found is None:
            raise MissingValueError(f"{view.name} has no {word} now: it is {view.state}.")
        if not _PLAIN.fullmatch(found):
            raise MissingValueError(f"Not run: a program could take the {word} of {view.name} for something else.")
        return found

    return [_VALUE.sub(value, argument) for argument in arguments]
