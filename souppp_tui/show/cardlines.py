"""The card and its queues at full length. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from engine.api.messages import ClientView
from engine.api.values import ALL, Hour, QueueView, Snapshot
from souppp_tui.show import spread, words
from souppp_tui.show.detaillines import hour_lines
from souppp_tui.show.engines import in_the_way
from souppp_tui.show.paint import Line
from souppp_tui.show.queuelines import SPARK_LEAST
from souppp_tui.show.rates import CardReadings

_WHY_OFF = "tagged frames may lose their VLAN tags before they can be seen"
NO_HOURS: Mapping[int, Hour] = MappingProxyType({})
BESIDE, BESIDE_NAME = 9, 13
"""Widths of a queue's numbers, and of what they are, where queues stand beside each other."""
NARROW = 76
"""Columns that every screen has room for."""


def card_lines(
    snapshot: Snapshot,
    baseline: Snapshot | None,
    meter: CardReadings,
    width: int,
    clients: Sequence[ClientView] = (),
    hours: Mapping[int, Hour] = NO_HOURS,
) -> list[Line]:
    """The card and who is attached, then each of its queues, whose numbers count from `baseline` on if there is one.

    `hours` are the queues' by their numbers, and that of all sessions.
    """
    old = {queue.index: queue for queue in baseline.queues} if baseline else {}
    lines = facts(snapshot, meter, width) + client_lines(clients, snapshot.at)
    if ALL in hours and any(hours[ALL].rx):
        lines += [[], [("  all sessions, the last hour, means of half a minute", "strong")]]
        lines += [[("  ", "dim"), *line] for line in hour_lines(hours[ALL], width - 6)]
    if len(snapshot.queues) > 1:
        lines += side_by_side(snapshot.queues, meter, width, hours)
    for queue in snapshot.queues:
        lines += queue_block(queue, old.get(queue.index), meter, width)
    return lines


def side_by_side(
    queues: Sequence[QueueView], meter: CardReadings, width: int, hours: Mapping[int, Hour] = NO_HOURS
) -> list[Line]:
    """The queues' numbers beside each other, so many to a block as fit."""
    lines: list[Line] = []
    rates = {queue.index: meter.queue(queue) for queue in queues}
    received = sum(each.rx_packets for each in rates.values())
    each_row: tuple[tuple[str, str, Callable[[QueueView], str]], ...] = (
        ("▼ pkt/s", "text", lambda queue: words.metric(rates[queue.index].rx_packets)),
        ("▼ b/s", "rx", lambda queue: words.metric(rates[queue.index].rx_bits)),
        ("▲ pkt/s", "text", lambda queue: words.metric(rates[queue.index].tx_packets)),
        ("▲ b/s", "tx", lambda queue: words.metric(rates[queue.index].tx_bits)),
        ("share of ▼", "text", lambda queue: f"{rates[queue.index].rx_packets / received:.0%}" if received else "–"),
        ("hour ▼ b/s", "dim", lambda queue: _mean(hours.get(queue.index, Hour()).rx)),
        ("hour ▲ b/s", "dim", lambda queue: _mean(hours.get(queue.index, Hour()).tx)),
        ("CPU", "text", lambda queue: f"{meter.queue_cpu(queue):.0%}"),
        ("drops", "text", lambda queue: words.metric(sum(number for _, number in queue.drops))),
    )
    most = max(1, (width - 2 - BESIDE_NAME) // BESIDE)
    for start in range(0, len(queues), most):
        block = queues[start : start + most]
        heads = "".join(f"q{queue.index}".rjust(BESIDE) for queue in block)
        lines += [[], [(f"  {'side by side':{BESIDE_NAME}}", "strong"), (heads, "strong")]]
        for name, role, text in each_row:
            values: Line = [(text(queue).rjust(BESIDE), role) for queue in block]
            lines.append([(f"  {name:{BESIDE_NAME}}", "dim"), *values])
    return lines


def _mean(values: Sequence[int]) -> str:
    return words.metric(sum(values) / len(values)) if values else words.DASH


def facts(snapshot: Snapshot, meter: CardReadings, width: int) -> list[Line]:
    """What is known of the card, and what the operator should do about it."""
    card = snapshot.card
    mode = " · ".join(part for part in (card.mode, "zero-copy" if card.zero_copy else "copy") if part)
    known = (
        ("address", card.mac),
        ("link", "up" if card.up else "waiting for a carrier" if card.waits else "down"),
        ("MTU", str(card.mtu)),
        ("driver", card.driver or words.DASH),
        ("XDP", mode),
        ("queues", str(len(snapshot.queues))),
    )
    lines: list[Line] = [[(f"  {words.fit(name, 10)}", "dim"), (value, "text")] for name, value in known]
    notices = [card.notice] if card.notice else []
    if what := in_the_way(snapshot):
        notices.append(f"{what} is on: {_WHY_OFF if 'rxvlan' in what else 'XDP can not run in the driver'}.")
    room = min(NARROW, width - 4)
    for notice in notices:
        lines += [[], *([(f"  {line}", "warning")] for line in words.wrap(notice, room))]
    if warning := lopsided(snapshot, meter, room):
        lines += [[], *([(f"  {line}", "warning")] for line in warning)]
    return lines


def client_lines(clients: Sequence[ClientView], now: float) -> list[Line]:
    """Who else looks at the engine, or commands it."""
    return [
        [
            (f"  {words.fit('attached' if not place else '', 10)}", "dim"),
            (f"{client.user}: {client.program} {client.process}", "text"),
            (f", for {words.duration(max(now - client.since, 0.0))}", "dim"),
            ("" if client.writes else ", may look", "dim"),
        ]
        for place, client in enumerate(clients)
    ]


def lopsided(snapshot: Snapshot, meter: CardReadings, room: int) -> list[str]:
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
        *words.wrap(spread.advice(snapshot.card, other, own), room),
    ]


def queue_block(queue: QueueView, old: QueueView | None, meter: CardReadings, width: int) -> list[Line]:
    """One queue: two lines of traffic, then rings, CPU, XDP counters and drops."""
    rates, spark = meter.queue(queue), list(meter.sparks.get(queue.index, ()))
    bars = max(8, min(len(spark) and 60, width - 62))

    def since(field: str) -> int:
        return int(getattr(queue, field)) - (int(getattr(old, field)) if old else 0)

    def traffic(sign: str, role: str, packets: float, bits: float, total: int, history: list[float]) -> Line:
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
    lines: list[Line] = [
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
    for place, part in enumerate(words.wrap(text, width - 14)):
        lines.append([(f"     {'' if place else 'drops':7}", "dim"), (part, "failed" if drops else "dim")])
    return lines


def _fill(share: float) -> Line:
    whole = max(0, min(10, round(share * 10)))
    role = "failed" if share > 0.9 else "busy" if share > 0.6 else "up"
    return [("█" * whole, role), ("░" * (10 - whole), "faint"), (f" {share:4.0%}", "text")]
