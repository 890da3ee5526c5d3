"""Events as lines: of the list, of the pane under the table. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from engine.api.values import Event, Severity
from souppp_tui.show import words
from souppp_tui.show.paint import Span

ROLES = {Severity.DEBUG: "dim", Severity.INFO: "text", Severity.WARNING: "warning", Severity.ERROR: "failed"}
NAME = 12
"""The width of a session's name before an event."""
TEXT = 1 + 8 + 2 + NAME + 2
"""The column where an event's text begins."""


def line(event: Event) -> list[Span]:
    """One event on one line: time, name, text."""
    return [
        (f"{words.clock(event.at)}  ", "dim"),
        (words.fit(event.name, NAME) + "  ", "strong"),
        (event.text, ROLES[event.severity]),
    ]


def pane(events: Sequence[Event], width: int, room: int) -> list[list[Span]]:
    """The latest events in `room` lines, newest last, each in full; the newest is there even if it is too long."""
    lines: list[list[Span]] = []
    for event in reversed(events):
        clock, name, (words_of_it, role) = line(event)
        first, *more = words.wrap(words_of_it, width - TEXT)
        block: list[list[Span]] = [[(" ", "text"), clock, name, (first, role)]]
        block += [[(" " * TEXT, "text"), (rest, role)] for rest in more]
        if lines and len(lines) + len(block) > room:
            break
        lines = block + lines
    return lines[:room]
