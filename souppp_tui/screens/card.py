"""The card and its queues: rates, drops by reason, rings, CPU."""

from __future__ import annotations

from textwrap import wrap
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType

from engine.api.values import QueueView, Snapshot
from souppp_tui.actions import bindings
from souppp_tui.model.traffic import Meter
from souppp_tui.screens.listing import ListPage
from souppp_tui.screens.steering import in_the_way
from souppp_tui.show import spread, words
from souppp_tui.show.paint import Span, rule
from souppp_tui.show.queuelines import SPARK_LEAST
from souppp_tui.widgets.lines import Lines, Row

_WHY_OFF = "tagged frames may lose their VLAN tags before they can be seen"
NARROW = 76
"""Columns that every screen has room for."""


class CardPage(ListPage):
    """Facts of the card, then a block of lines for each queue."""

    PAGE = "card"
    TITLE_WORD = "Card and queues"
    BINDINGS: ClassVar[list[BindingType]] = bindings("card")

    def __init__(self) -> None:
        super().__init__()
        self.status = Lines()
        self._lines: list[list[Span]] = []

    def compose(self) -> ComposeResult:
        """From top to bottom."""
        yield self.overview
        yield self.status
        yield self.list
        yield self.footer

    def look(self) -> None:
        """Show the latest numbers."""
        super().look()
        snapshot = self.model.snapshot
        if snapshot is None:
            return
        baseline = self.model.baseline
        old = {queue.index: queue for queue in baseline.queues} if baseline else {}
        self._lines = card_lines(snapshot, self.model.meter)
        for queue in snapshot.queues:
            self._lines += queue_block(queue, old.get(queue.index), self.model.meter, self.size.width)
        since: list[Span] = [("since zero", "dim")] if baseline else []
        self.status.show([rule([(f"card {snapshot.card.name}", "dim")], since, self.size.width)])
        self.look_at_list()

    def count(self) -> int:
        """All lines."""
        return len(self._lines)

    def row(self, row: int, width: int) -> Row:
        """One of them."""
        return self._lines[row], ""

    def look_at_list(self) -> None:
        """There is nothing to choose here, so keys scroll and no cursor is shown."""
        self.list.sync(self.count())

    def move_to(self, row: int) -> None:
        """Scroll."""
        top = max(0, min(row, self.count() - self.list.height))
        self.cursor = top
        self.list.scroll_to(y=top, animate=False, force=True)

    def _draw(self, row: int, width: int) -> Row:
        return self.row(row, width)


def card_lines(snapshot: Snapshot, meter: Meter) -> list[list[Span]]:
    """What is known of the card, and what the operator should do about it."""
    card = snapshot.card
    mode = " · ".join(part for part in (card.mode, "zero-copy" if card.zero_copy else "copy") if part)
    facts = (
        ("address", card.mac),
        ("link", "up" if card.up else "waiting for a carrier" if card.waits else "down"),
        ("MTU", str(card.mtu)),
        ("driver", card.driver or words.DASH),
        ("XDP", mode),
        ("queues", str(len(snapshot.queues))),
    )
    lines: list[list[Span]] = [[(f"  {words.fit(name, 10)}", "dim"), (value, "text")] for name, value in facts]
    notices = [card.notice] if card.notice else []
    if what := in_the_way(snapshot):
        notices.append(f"{what} is on: {_WHY_OFF if 'rxvlan' in what else 'XDP can not run in the driver'}.")
    for notice in notices:
        lines += [[], *([(f"  {line}", "warning")] for line in wrap(notice, NARROW, break_on_hyphens=False))]
    if warning := lopsided(snapshot, meter):
        lines += [[], *([(f"  {line}", "warning")] for line in warning)]
    return lines


def lopsided(snapshot: Snapshot, meter: Meter) -> list[str]:
    """What to do when all PPPoE arrives on one queue; nothing if it does not."""
    rates = [meter.queue(queue).rx_packets for queue in snapshot.queues]
    busiest = spread.busiest(rates, meter.receiving())
    if busiest is None:
        return []
    macs = (session.local_mac for session in snapshot.sessions)
    own = next((mac for mac in macs if mac and mac != snapshot.card.mac), None)
    other = snapshot.queues[(busiest + 1) % len(rates)].index
    return [
        f"Queue {snapshot.queues[busiest].index} receives {rates[busiest] / sum(rates):.0%} of all frames.",
        *wrap(spread.advice(snapshot.card, other, own), NARROW, break_on_hyphens=False),
    ]


def queue_block(queue: QueueView, old: QueueView | None, meter: Meter, width: int) -> list[list[Span]]:
    """One queue: two lines of traffic, then rings, CPU, XDP counters and drops."""
    rates, spark = meter.queue(queue), list(meter.sparks.get(queue.index, ()))
    bars = max(8, min(len(spark) and 60, width - 62))

    def since(field: str) -> int:
        return int(getattr(queue, field)) - (int(getattr(old, field)) if old else 0)

    def traffic(sign: str, role: str, packets: float, bits: float, total: int, history: list[float]) -> list[Span]:
        return [
            (f"     {sign} ", role),
            (f"{words.metric(packets):>5} pkt/s ", "text"),
            (f"{words.rate(bits):>10} ", "text"),
            (f"{words.count(total):>18} packets  ", "dim"),
            (words.sparkline(history, bars, SPARK_LEAST), f"{role}bar"),
        ]

    dropped = dict(old.drops) if old else {}
    drops = [(reason, number - dropped.get(reason, 0)) for reason, number in queue.drops]
    drops = [(reason, number) for reason, number in drops if number]
    lines: list[list[Span]] = [
        [],
        [
            (f"  q{queue.index}", "strong"),
            (f"   CPU {meter.queue_cpu(queue):4.0%}   rings  RX ", "dim"),
            *_fill(queue.rx_ring_fill),
            ("  TX ", "dim"),
            *_fill(queue.tx_ring_fill),
        ],
        traffic("▼", "rx", rates.rx_packets, rates.rx_bits, since("rx_packets"), [r.rx_packets for r in spark]),
        traffic("▲", "tx", rates.tx_packets, rates.tx_bits, since("tx_packets"), [r.tx_packets for r in spark]),
        [
            ("     XDP    ", "dim"),
            (f"{words.count(since('redirected'))} redirected · {words.count(since('passed'))} passed · ", "dim"),
            (f"{words.count(since('failed'))} failed", "failed" if since("failed") else "dim"),
        ],
    ]
    text = " · ".join(f"{words.count(number)} {reason}" for reason, number in drops) or "none"
    lines.append([("     drops  ", "dim"), (text, "failed" if drops else "dim")])
    return lines


def _fill(share: float) -> list[Span]:
    whole = max(0, min(10, round(share * 10)))
    role = "failed" if share > 0.9 else "busy" if share > 0.6 else "up"
    return [("█" * whole, role), ("░" * (10 - whole), "faint"), (f" {share:4.0%}", "text")]
