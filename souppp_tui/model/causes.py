"""Events that have one cause, together. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from msgspec import Struct, field

from engine.api.values import Event

_SPECIAL = re.compile(r"\b[0-9a-f]*(?::[0-9a-f]*){2,}\b|\b[0-9a-f]{4}\b|\d+(?:[.,]\d+)*", re.IGNORECASE)
"""What is one session's own in a text: addresses, session ids, times, numbers."""


class Cause(Struct):
    """Events that say the same of any number of sessions."""

    latest: Event
    times: int = 0
    sessions: dict[int, None] = field(default_factory=dict)
    """By key, in the order in which it happened to them."""


def causes(events: Iterable[Event]) -> list[Cause]:
    """All that events tell of, each once, by when it was told last."""
    found: dict[tuple[object, ...], Cause] = {}
    for event in events:
        what = (event.engine, event.severity, event.kind, _SPECIAL.sub("#", event.text))
        cause = found.pop(what, None) or Cause(event)
        cause.latest = event
        cause.times += 1
        if event.session is not None:
            cause.sessions[event.session] = None
        found[what] = cause
    return list(found.values())
