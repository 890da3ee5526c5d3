"""The card's queues as lines of the main page. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from engine.api.values import QueueView
from souppp_tui.show import words
from souppp_tui.show.paint import Span, width_of
from souppp_tui.show.rates import CardReadings

SPARK_LEAST = 100.0
"""Packets per second that fill a sparkline's height at least."""
MOST = 8
"""More queues than this share lines."""


def queue_lines(queues: tuple[QueueView, ...], meter: CardReadings, width: int, each: bool) -> list[list[Span]]:
    """The queues in lines of this width: one line each where there is room, all in one line otherwise."""
    if not queues:
        return [[(" no queues now", "dim")]]
    tail = [_drops(queues)]
    if each and len(queues) <= MOST:
        return [_wide(queue, meter, width) for queue in queues]
    for bars in (8, 4, 0):
        spans: list[Span] = []
        for queue in queues:
            spans += _narrow(queue, meter, bars)
        if width_of(spans) + width_of(tail) <= width:
            return [
                [*spans, *tail, ("  pkt/s", "dim")]
                if width_of(spans) + width_of(tail) + 7 <= width
                else [*spans, *tail]
            ]
    return [sum_line([(queue, meter) for queue in queues])]


def sum_line(queues: Sequence[tuple[QueueView, CardReadings]]) -> list[Span]:
    """All queues in few words, each with what was measured of its card."""
    received = sum(meter.queue(queue).rx_packets for queue, meter in queues)
    sent = sum(meter.queue(queue).tx_packets for queue, meter in queues)
    return [
        (f" {len(queues)} queues  ", "dim"),
        ("▼ ", "rx"),
        (f"{words.metric(received):>5}", "text"),
        ("  ▲ ", "tx"),
        (f"{words.metric(sent):>5}", "text"),
        (" pkt/s", "dim"),
        _drops([queue for queue, _ in queues]),
    ]


def _drops(queues: Iterable[QueueView]) -> Span:
    drops = sum(number for queue in queues for _, number in queue.drops)
    return f"  drops {words.count(drops)}", "failed" if drops else "dim"


def _narrow(queue: QueueView, meter: CardReadings, bars: int) -> list[Span]:
    rates, spark = meter.queue(queue), list(meter.sparks.get(queue.index, ()))
    return [
        (f" q{queue.index} ", "dim"),
        ("▼", "rx"),
        (f"{words.metric(rates.rx_packets):>5} ", "text"),
        (words.sparkline([r.rx_packets for r in spark], bars, SPARK_LEAST) if bars else "", "rxbar"),
        (" ▲", "tx"),
        (f"{words.metric(rates.tx_packets):>5} ", "text"),
        (words.sparkline([r.tx_packets for r in spark], bars, SPARK_LEAST) + " " if bars else "", "txbar"),
    ]


def _wide(queue: QueueView, meter: CardReadings, width: int) -> list[Span]:
    rates, spark = meter.queue(queue), list(meter.sparks.get(queue.index, ()))
    drops = sum(number for _, number in queue.drops)
    bars = max(8, min(32, (width - 76) // 2))
    return [
        (f" q{queue.index:<3}", "dim"),
        ("▼ ", "rx"),
        (f"{words.metric(rates.rx_packets):>5} pkt/s ", "text"),
        (f"{words.rate(rates.rx_bits):>9}  ", "dim"),
        (words.sparkline([r.rx_packets for r in spark], bars, SPARK_LEAST), "rxbar"),
        ("   ▲ ", "tx"),
        (f"{words.metric(rates.tx_packets):>5} pkt/s ", "text"),
        (f"{words.rate(rates.tx_bits):>9}  ", "dim"),
        (words.sparkline([r.tx_packets for r in spark], bars, SPARK_LEAST), "txbar"),
        (f"   drops {words.count(drops)}", "failed" if drops else "dim"),
    ]
