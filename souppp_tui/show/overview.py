"""The top line of every page: the card, the sessions' states, the rates. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct

from engine.api.plural import plural
from engine.api.values import Event, Halt, Halted, Snapshot
from souppp_tui.show import words
from souppp_tui.show.paint import Line, Span, ends, width_of
from souppp_tui.show.rates import Rates


class Totals(Struct, frozen=True):
    """All sessions together."""

    lives: Mapping[str, int]
    """How many are in which of `words.LIVES`."""
    rates: Rates
    setup_rate: float
    """Sessions that came up per second, lately."""
    flaps: int
    since_zero: bool
    """Whether they count from a moment that the operator chose."""
    capturing: int = 0
    """Of how many sessions frames go to a file."""
    unknown: int = 0
    """Sessions of engines that can't be reached, which are in no other number."""


def overview(
    snapshot: Snapshot | None,
    totals: Totals,
    frozen: bool,
    width: int,
    lost: str = "",
    besides: Sequence[Span] = (),
    signs: Sequence[Span] = (),
) -> Line:
    """The line in as many words as there is room for; `lost` is why what it says may be out of date.

    `besides` stands after the card's name while there is room; `signs` always do.
    """
    if snapshot is None:
        return [(" souppp", "strong")]
    card = snapshot.card
    link: Line = []
    if not card.up:
        link = [("  waiting for a carrier", "busy") if card.waits else ("  link down", "failed")]
    signs = [*_capturing(totals), *signs]
    name: Line = [(" souppp  ", "strong"), (card.name, "accent"), *besides, *link, *signs, *stopped(snapshot.halted)]
    brief: Line = [(" ", "text"), (card.name, "accent"), *link, *signs, *stopped(snapshot.halted, brief=True)]
    if frozen:
        still = (" display frozen: sessions keep running ", "chip")
        name = [(" souppp  ", "strong"), still, *signs, *stopped(snapshot.halted)]
        brief = [(" frozen ", "chip"), *signs, *stopped(snapshot.halted, brief=True)]
    if lost:
        room = max(0, width - width_of(name) - 6)
        return [*name, ("  ", "text"), (words.fit(f" {lost} ", min(room, len(lost) + 2)), "chip")]
    xdp = f"{card.mode} · {'zero-copy' if card.zero_copy else 'copy'} · " if card.mode else ""
    mode: Line = [(f"  {xdp}{plural(len(snapshot.queues), 'queue')}{'  lab' if card.lab else ''}", "dim")]
    rates = _rates(totals.rates)
    told, short, flaps, pace = _states(totals, short=False), _states(totals, short=True), _flaps(totals), _pace(totals)
    variants = (
        ([*name, *mode], [*told, *flaps, *pace, *rates]),
        ([*name, *mode], [*told, *flaps, *rates]),
        (name, [*told, *flaps, *rates]),
        (name, [*short, *flaps, *rates]),
        (name, [*short, *flaps]),
        (name, short),
        (brief, short),
    )
    """What says that something is wrong goes last."""
    for left, right in variants:
        if width_of(left) + width_of(right) + 2 <= width:
            return ends(left, right, width)
    return [*signs, *stopped(snapshot.halted, brief=True), *short]


def _rates(total: Rates) -> Line:
    return [
        ("   ▼ ", "rx"),
        (f"{words.rate(total.rx_bits):>9}", "text"),
        ("  ▲ ", "tx"),
        (f"{words.rate(total.tx_bits):>9} ", "text"),
    ]


def stopped(halted: Halted, *, brief: bool = False) -> Line:
    """What the operator has stopped for all sessions; if not `brief`, since when and who did."""
    if halted.what is Halt.NOTHING:
        return []
    what = "ALL STOPPED" if halted.what is Halt.ALL else "redials paused"
    if not brief:
        since = f" since {words.clock(halted.since)}" if halted.since is not None else ""
        what += f"{since}{f' by {halted.by}' if halted.by else ''}"
    return [("  ", "text"), (f" {what} ", "alarm")]


def alarm_line(
    alarms: Sequence[Event], now: float, width: int, mask: Callable[[Event], Event] = lambda event: event
) -> Line:
    """Errors that nobody has seen yet, the latest of them and how many there are; empty where there are none."""
    if not alarms:
        return []
    latest = mask(alarms[-1])
    number = f" {plural(len(alarms), 'alarm')} "
    whose = f"{latest.engine}: " if latest.engine else ""
    who = f"{latest.name}: " if latest.name else ""
    text = f"  {whose}{who}{latest.text}"
    right = f"  {words.clock(latest.at)} · e shows them "
    if words.columns(words.clean(text)) > width - len(number) - len(right) - 2:
        right = "  e shows them "  # when it was stands there, too
    room = max(0, width - len(number) - len(right) - 2)
    return [(number, "alarm"), (words.fit(text, room), "failed"), (right, "dim")]


def _states(totals: Totals, short: bool) -> Line:
    """How many sessions are in which state; `short` with glyphs in place of words."""
    counts = [(totals.lives.get(word, 0), word, *look) for word, look in words.LIVES.items()]
    counts.append((totals.unknown, "unknown", "?", "failed"))
    spans: Line = []
    for number, word, glyph, role in counts:
        if number or word == words.UP:
            text = f"{glyph} {words.count(number)}" if short else f"{words.count(number)} {word}"
            spans += [("  " if short else " · ", "dim"), (text, role if number else "dim")]
    return spans[1:]


def _flaps(totals: Totals) -> Line:
    """How many there were, and whether counters were set to zero."""
    spans: Line = [(f"  {plural(totals.flaps, 'flap')}", "warning")] if totals.flaps > 0 else []
    return [*spans, ("  since zero", "dim")] if totals.since_zero else spans


def _capturing(totals: Totals) -> Line:
    """That frames go to a file."""
    return [(f"  ◉ capturing {words.count(totals.capturing)}", "warning")] if totals.capturing else []


def _pace(totals: Totals) -> Line:
    return [(f"  {totals.setup_rate:.1f} set up/s", "dim")] if totals.setup_rate else []
