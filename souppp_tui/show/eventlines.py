"""Events as lines: of the list, of the pane under the table. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from engine.api.plural import plural
from engine.api.values import Event, Severity
from souppp_tui.show import words
from souppp_tui.show.paint import Span, width_of

ROLES = {Severity.DEBUG: "dim", Severity.INFO: "text", Severity.WARNING: "warning", Severity.ERROR: "failed"}
NAME = 12
"""The width of a session's name before an event."""
MANY = 14
"""The width of how many sessions."""
ENGINE = 10
"""The width of an engine's name before that, where there are several."""


def line(event: Event, now: float, times: words.Times = words.Times.USUAL) -> list[Span]:
    """One event on one line: time, engine, name, text."""
    return [
        (f"{words.moment(event.at, now, times)}  ", "dim"),
        *([(words.fit(event.engine, ENGINE) + "  ", "accent")] if event.engine else []),
        (words.fit_name(event.name, NAME) + "  ", "strong"),
        (event.text, ROLES[event.severity]),
    ]


def cause(event: Event, often: int, sessions: int, now: float, times: words.Times = words.Times.USUAL) -> list[Span]:
    """What has one cause on one line: how many sessions, when last, the latest event's text."""
    many = plural(sessions, "session") if sessions > 1 else event.name if sessions else ""
    happened = f"{words.count(often)}x" if often > 1 else ""
    when = words.clock(event.at) if times is words.Times.CLOCK else f"{words.duration(now - event.at)} ago"
    return [
        (f"{when:>11}  ", "dim"),
        *([(words.fit(event.engine, ENGINE) + "  ", "accent")] if event.engine else []),
        (words.fit_name(many, MANY) + "  ", "strong"),
        (f"{happened:>6}  ", "dim"),
        (event.text, ROLES[event.severity]),
    ]


def pane(
    events: Sequence[Event], width: int, room: int, now: float, times: words.Times = words.Times.USUAL
) -> list[list[Span]]:
    """The latest events in `room` lines, newest last, each in full; the newest is there even if it is too long.

    Then it ends with `…`.
    """
    lines: list[list[Span]] = []
    for event in reversed(events):
        *before, (words_of_it, role) = line(event, now, times)
        at = 1 + width_of(before)
        first, *more = words.wrap(words_of_it, width - at)
        block: list[list[Span]] = [[(" ", "text"), *before, (first, role)]]
        block += [[(" " * at, "text"), (rest, role)] for rest in more]
        if lines and len(lines) + len(block) > room:
            break
        lines = block + lines
    if len(lines) > room > 0:
        *before, (text, role) = lines[room - 1]
        lines[room - 1] = [*before, (words.fit(f"{text} …  ", width - 1 - width_of(before)).rstrip(), role)]
    return lines[:room]
