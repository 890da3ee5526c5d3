"""Several engines in one console: what is shown of each in a line. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from engine.api.messages import ClientView
from engine.api.plural import plural
from engine.api.values import CardView, SessionState, Snapshot
from souppp_tui.show import words
from souppp_tui.show.paint import Line, width_of
from souppp_tui.show.queuelines import queue_lines, sum_line
from souppp_tui.show.rates import CardReadings

NAME = 20
"""The most columns that a name gets in a line."""


class Engine(Struct, frozen=True):
    """One that is looked at, with its own keys and times."""

    name: str
    """Empty where it is the only one."""
    snapshot: Snapshot
    baseline: Snapshot | None
    """Its counters are shown from here on."""
    meter: CardReadings
    clients: Sequence[ClientView] = ()
    lost: str = ""
    """Why it can't be reached."""
    writes: bool = True
    """Whether it takes commands."""


def engine_lines(engines: Sequence[Engine], width: int, most: int) -> list[Line]:
    """A line for each engine: its name, what is wrong with it, its queues; a line for all where `most` have room."""
    if len(engines) > most:
        return [sum_line([(queue, it.meter) for it in engines for queue in it.snapshot.queues])]
    room = min(NAME, max(words.columns(words.clean(it.name)) for it in engines))
    return [_line(it, room, width) for it in engines]


def _line(engine: Engine, room: int, width: int) -> Line:
    line: Line = [(f" {words.fit(engine.name, room)} ", "accent")]
    if engine.lost:
        return [*line, (" ", "text"), (f" {engine.lost} ", "chip")]
    if not engine.writes:
        line.append((" may look ", "dim"))
    if why := link(engine.snapshot.card):
        line.append((f" {why} ", "failed"))
    return line + queue_lines(engine.snapshot.queues, engine.meter, width - width_of(line), False)[0]


def engine_title(engine: Engine, width: int) -> list[Line]:
    """What stands above all that there is to say of one of several engines."""
    lines: list[Line] = [[], [(f" {engine.name}", "accent"), (f"  card {engine.snapshot.card.name}", "dim")]]
    return lines + [[(f"  {line}", "failed")] for line in words.wrap(engine.lost, width - 4) if line]


def engine_facts(engine: Engine) -> str:
    """What to know of an engine before something is done to it."""
    if engine.lost:
        return engine.lost
    views = engine.snapshot.sessions
    up = sum(view.state is SessionState.UP for view in views)
    look = "" if engine.writes else ", you may look, not command"
    return f"card {engine.snapshot.card.name}, {plural(len(views), 'session')}, {words.count(up)} up{look}"


def link(card: CardView) -> str:
    """What is wrong with a card's link; empty if nothing is."""
    return "" if card.up else "waiting for a carrier" if card.waits else "link down"


def troubles(engines: Sequence[Engine]) -> Line:
    """Which engines can't be reached and which cards have no link: for the top line, where one name has room."""
    lost = [it.name for it in engines if it.lost]
    down = [it.name for it in engines if not it.lost and not it.snapshot.card.up]
    told = [(lost, "lost"), (down, "without a link")]
    return [(f"  {names[0] if len(names) == 1 else len(names)} {what}", "failed") for names, what in told if names]


def in_the_way(snapshot: Snapshot | None) -> str:
    """What the card does that keeps frames, or XDP, from us and can be switched off; empty if it does nothing."""
    if snapshot is None:
        return ""
    card = snapshot.card
    stripping = card.strips and any(view.vlans for view in snapshot.sessions)
    return ", ".join(filter(None, ("rxvlan" if stripping else "", card.fixes)))
