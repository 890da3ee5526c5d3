"""What reading a configuration again changes. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from engine.settings.values import SessionSettings

Change = tuple[str | None, SessionSettings | None]
"""One of a configuration's text: (None, new) adds a session, (name, new) edits and (name, None) removes one."""


class Plan(Struct, frozen=True):
    """What is to be done to the sessions there are."""

    add: tuple[SessionSettings, ...]
    edit: tuple[tuple[int, SessionSettings], ...]
    remove: tuple[int, ...]


def plan(running: Mapping[int, SessionSettings], wanted: tuple[SessionSettings, ...]) -> Plan:
    """Compare the sessions there are, by key, with those of a configuration; names say which is which."""
    keys = {settings.name: key for key, settings in running.items()}
    names = {settings.name for settings in wanted}
    return Plan(
        tuple(new for new in wanted if new.name not in keys),
        tuple((keys[new.name], new) for new in wanted if new.name in keys and running[keys[new.name]] != new),
        tuple(key for name, key in keys.items() if name not in names),
    )
