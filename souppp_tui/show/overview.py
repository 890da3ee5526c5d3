"""The top line of every page: the card, the sessions' states, the rates. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.api.values import SessionState, Snapshot
from souppp_tui.show import words
from souppp_tui.show.paint import Line, Span, ends, width_of
from souppp_tui.show.rates import Rates


@dataclass(frozen=True, slots=True)
class Totals:
    """All sessions together."""

    states: Mapping[SessionState, int]
    """How many are in which state."""
    silent: int
    """How many of those that are up have not been heard for a while."""
    rates: Rates
    setup_rate: float
    """Sessions that came up per second, lately."""
    flaps: int
    since_zero: bool
    """Whether they count from a moment that the operator chose."""
    unknown: int = 0
    """Sessions of engines that can't be reached, which are in no other number."""


def overview(
    snapshot: Snapshot | None, totals: Totals, frozen: bool, width: int, lost: str = "", besides: Sequence[Span] = ()
) -> Line:
    """The line in as many words as there is room for; `lost` is why what it says may be out of date.

    `besides` stands after the card's name.
    """
    if snapshot is None:
        return [(" souppp", "strong")]
    card, total = snapshot.card, totals.rates
    name: Line = [(" souppp  ", "strong"), (card.name, "accent"), *besides]
    if not card.up:
        name.append(("  waiting for a carrier", "busy") if card.waits else ("  link down", "failed"))
    if frozen:
        name = [(" souppp  ", "strong"), (" display frozen: sessions keep running ", "chip")]
    if lost:
        room = max(0, width - width_of(name) - 6)
        return [*name, ("  ", "text"), (words.fit(f" {lost} ", min(room, len(lost) + 2)), "chip")]
    xdp = f"{card.mode} · {'zero-copy' if card.zero_copy else 'copy'} · " if card.mode else ""
    mode: Line = [(f"  {xdp}{words.plural(len(snapshot.queues), 'queue')}{'  lab' if card.lab else ''}", "dim")]
    rates: Line = [
        ("   ▼ ", "rx"),
        (f"{words.rate(total.rx_bits):>9}", "text"),
        ("  ▲ ", "tx"),
        (f"{words.rate(total.tx_bits):>9} ", "text"),
    ]
    told, short = _states(totals, short=False), _states(totals, short=True)
    variants = (
        ([*name, *mode], [*told, *_extras(totals), *rates]),
        ([*name, *mode], [*told, *rates]),
        (name, [*told, *rates]),
        (name, [*short, *rates]),
        (name, short),
    )
    for left, right in variants:
        if width_of(left) + width_of(right) + 2 <= width:
            return ends(left, right, width)
    return short


def _states(totals: Totals, short: bool) -> Line:
    """How many sessions are in which state; `short` with glyphs in place of words."""
    states = totals.states
    up, failed, down = (states.get(s, 0) for s in (SessionState.UP, SessionState.FAILED, SessionState.DOWN))
    counts = (
        (up - totals.silent, "up", words.glyph(SessionState.UP), words.role(SessionState.UP)),
        (totals.silent, "silent", "!", "warning"),
        (
            sum(states.values()) - up - failed - down,
            "dialling",
            words.glyph(SessionState.DIALLING),
            words.role(SessionState.DIALLING),
        ),
        (failed, "failed", words.glyph(SessionState.FAILED), words.role(SessionState.FAILED)),
        (down, "down", words.glyph(SessionState.DOWN), words.role(SessionState.DOWN)),
        (totals.unknown, "unknown", "?", "failed"),
    )
    spans: Line = []
    for number, word, glyph, role in counts:
        if number or word == "up":
            text = f"{glyph} {words.count(number)}" if short else f"{words.count(number)} {word}"
            spans += [("  " if short else " · ", "dim"), (text, role if number else "dim")]
    return spans[1:]


def _extras(totals: Totals) -> Line:
    """Set-up rate and flaps, where there are any, and whether counters were set to zero."""
    spans: Line = []
    if totals.setup_rate:
        spans.append((f"  {totals.setup_rate:.1f} set up/s", "dim"))
    if totals.flaps > 0:
        spans.append((f"  {words.plural(totals.flaps, 'flap')}", "warning"))
    if totals.since_zero:
        spans.append(("  since zero", "dim"))
    return spans
