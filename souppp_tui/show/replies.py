"""What the engine replies to a command, in one line: what was done, what was not, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from engine.api.commands import Refused
from engine.api.plural import plural
from souppp_tui.show.paint import Span


def whom(keys: Sequence[int], names: Mapping[int, str]) -> str:
    """Sessions in few words: `home-0001`, `5 sessions`."""
    only = names.get(keys[0]) if len(keys) == 1 else None
    return only or plural(len(keys), "session")


def line(done: str, refused: Sequence[Refused], names: Mapping[int, str]) -> Span:
    """`done` is a sentence about what was done, empty where nothing was. Of several reasons the first one is told."""
    if not refused:
        return done, "accent"
    keys = [each.key for each in refused if each.key is not None]
    more = len({each.reason for each in refused}) - 1
    why = refused[0].reason + (f" ({more} more)" if more else "")
    if not done:
        return (f"{whom(keys, names)}: {why}" if keys else why), "failed"
    return f"{done} Not {whom(keys, names)}: {why}" if keys else f"{done} {why}", "warning"
