"""One session at full length, and its control frames. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest

from msgspec import Struct

from engine.api.spans import wait
from engine.api.values import (
    AddressSpan,
    Connection,
    Details,
    Event,
    Fact,
    Hour,
    LadderEntry,
    Ledger,
    SessionView,
    Talker,
)
from souppp_tui.show import carried, eventlines, histories, words
from souppp_tui.show.paint import Line
from souppp_tui.show.rates import GRAPH_STEP, GRAPH_STEPS, Readings
from souppp_tui.show.why import Why

NAME = 14
"""The width of a fact's name, where its section has no longer one."""
NAME_MOST = 26
GAP = 2
RULED = 8
"""Columns of the line with the title beside the session's name and what it is doing."""
LEAST_OF_STATE = 18
"""What it is doing has so many, however long its name is."""
CONNECTIONS = 20
"""How many are shown."""
GRAPH_NOTE = 21
"""The width of what stands before a graph; it has a line for each of the graph's."""
GRAPH_HEIGHT = 3
GRAPH_LEAST = 10_000.0
"""Bits per second that fill the graph's height at least."""


class Shown(Struct, frozen=True):
    """What there is to say of a session."""

    view: SessionView
    details: Details
    latest: Sequence[Event]
    """Its latest events, oldest first."""
    octets: tuple[int, int]
    """Received and sent."""
    counted: Mapping[str, int] | None
    """Where its own counters were set to zero, what they were then."""
    why: Why | None
    """Why it is not up, where it isn't."""
    since_zero: bool
    """Whether traffic counts from a moment that the operator chose."""


def title(view: SessionView, now: float, width: int) -> Line:
    """The session's name and what it is doing."""
    glyph, role = words.sign(view)
    room = width - words.columns(words.clean(view.name)) - RULED
    return [
        (view.name, "strong"),
        ("  ", "text"),
        (f"{glyph} ", role),
        (words.state(view, now, max(LEAST_OF_STATE, room)), role),
    ]


def frame(entry: LadderEntry, summary: str, marked: bool = False) -> Line:
    """One control frame on a line; `summary` is the entry's, or what may be shown; `!` is what the session hangs on."""
    return [
        (f"{words.fine_clock(entry.at)} ", "dim"),
        ("!" if marked else " ", "failed"),
        ("→" if entry.sent else "←", "tx" if entry.sent else "rx"),
        (f"  {summary}", "failed" if marked else "text"),
    ]


def why_lines(why: Why, width: int) -> list[Line]:
    """The last try as a sentence, and what to know and to do about it."""
    rows = (
        (words.clock(why.at), why.said, "warning"),
        ("hangs on", f"{why.hangs_on} (! in the ladder)" if why.hangs_on else "", "text"),
        ("do next", why.advice, "strong"),
        ("others", " ".join(why.others), "text"),
    )
    lines: list[Line] = []
    for name, text, role in rows:
        parts = words.wrap(text, width - 11) if text else []
        lines += [[(f" {'' if place else name:8}  ", "dim"), (part, role)] for place, part in enumerate(parts)]
    return lines


def sections(shown: Shown, meter: Readings, width: int) -> list[Line]:
    """All but the frames, from what matters most while it is up or while it is not."""
    view, details, up = shown.view, shown.details, shown.view.up_since is not None
    minutes = graph_bars(width) * GRAPH_STEP / 60
    zero = ", since zero" if shown.since_zero else ""
    zeroed = ", since zero" if shown.counted is not None else ""
    before = shown.counted or {}
    counters = [(name, words.count(value - before.get(name, 0))) for name, value in details.counters]
    parts = (
        ("why it is not up", why_lines(shown.why, width) if shown.why is not None else []),
        ("session", session_lines(view, meter.now, width)),
        ("latest events", event_lines(shown.latest, width)),
        (f"traffic, {minutes:.0f} minutes{zero}", traffic_lines(view.id, shown.octets, meter, width) if up else []),
        ("the last hour, means of half a minute", hour_lines(details.hour, width) if any(details.hour.rx) else []),
        ("negotiated  (= as agreed)", fact_lines(details.facts, width)),
        ("steps", table([(s.name, words.milliseconds(s.took_ms)) for s in details.steps], width, right=True)),
        ("use it  (y copies)", usage_lines(details.usage, width)),
        (
            f"connections through its proxy, {view.connections:,}",
            connection_lines(details.connections, meter.now, width),
        ),
        ("carried  (C counts from now on)", ledger_lines(view, details.ledger, meter, width)),
        ("proxied most  (of what is routed, only the sums are known)", talker_lines(details.talkers, width)),
        (
            "addresses that it had, newest first  (w writes all)",
            address_lines(details.ledger.addresses, meter.now, width),
        ),
        ("timers", table([(name, wait(at - meter.now)) for name, at in details.timers], width, right=True)),
        (f"counters{zeroed}", table(counters, width, right=True)),
    )
    lines: list[Line] = []
    for name, part in parts:
        if part:
            lines += [[], [(f" {name}", "accent")], *part]
    return lines[1:]


def table(rows: Sequence[tuple[str, str | None]], width: int, right: bool = False) -> list[Line]:
    """Names and values, values below each other; rows without a value are left out. `right` is for numbers.

    What is longer than the `width` that there is goes on in the next line; a name that is has a line of its own.
    """
    known = [(name, value) for name, value in rows if value]
    longest = max((len(name) for name, _ in known), default=0)
    most = max((len(value) for _, value in known), default=0) if right else width
    wide = max(NAME, min(longest, max(NAME_MOST, width - most - 1 - GAP)))
    lines: list[Line] = []
    for whole, value in known:
        name = whole if words.columns(words.clean(whole)) <= wide else ""
        lines += [] if name else [[(f" {whole}", "dim")]]
        for place, part in enumerate(words.wrap(value, max(wide, width - wide - 1 - GAP))):
            named = words.fit("" if place else name, wide)
            lines.append([(f" {named}" + " " * GAP, "dim"), (part.rjust(most) if right else part, "text")])
    return lines


def ledger_lines(view: SessionView, ledger: Ledger, meter: Readings, width: int) -> list[Line]:
    """What it has carried over all its dials; nothing where that is nothing."""
    numbers = meter.numbers(view.id)
    return table(carried.rows(view, ledger, numbers), width) if any(carried.carried(view, numbers)) else []


def talker_lines(talkers: Sequence[Talker], width: int) -> list[Line]:
    """A line for each host, the busiest first."""
    return table(
        [
            (each.host, f"▼ {carried.octets(each.down)}  ▲ {carried.octets(each.up)}  in {each.connections:,}")
            for each in talkers
        ],
        width,
    )


def address_lines(spans: Sequence[AddressSpan], now: float, width: int) -> list[Line]:
    """A line each, newest first; nothing where the present one is the only one."""
    if not any(span.until is not None or not span.known for span in spans):
        return []
    return table([histories.row(span, now) for span in spans[::-1]], width)


def connection_lines(connections: Sequence[Connection], now: float, width: int) -> list[Line]:
    """A line each, oldest first; the last one says that there are more, where there are."""
    rows = [
        (
            it.target,
            f"{words.duration(now - it.since):>7}  ▲{words.metric(it.up):>5} ▼{words.metric(it.down):>5}  "
            f"{it.how}  {it.source}  {it.user}".rstrip(),
        )
        for it in connections[:CONNECTIONS]
    ]
    return table(rows, width) + ([[(" …", "dim")]] if len(connections) > CONNECTIONS else [])


_NO_DEVICE = {
    "none": "none: what comes in is dropped and counted",
    "stack": "none: a stack in user space, for its proxy and the pool",
}


def session_lines(view: SessionView, now: float, width: int) -> list[Line]:
    """What the session has now."""
    vlan = f", VLAN {'.'.join(map(str, view.vlans))}" if view.vlans else ""
    mac = f" ({view.ac_mac})" if view.ac_mac else ""
    return table(
        (
            ("engine", view.engine),
            ("user", view.user),
            ("address", view.ipv4 and (view.ipv4 + (f" (far end {view.ipv4_peer})" if view.ipv4_peer else ""))),
            ("name servers", " ".join(view.dns)),
            ("IPv6", " ".join(filter(None, (*view.ipv6_addresses, view.ipv6, *view.ipv6_prefixes)))),
            (
                "device",
                _NO_DEVICE.get(view.egress, "")
                or (
                    view.device
                    and f"{view.device}, MTU {view.mtu}{', in the kernel' if view.datapath == 'kernel' else ''}"
                ),
            ),
            ("proxy", view.proxy),
            ("tags", " ".join(view.tags)),
            ("concentrator", view.ac_name and f"{view.ac_name}{mac}{vlan}"),
            ("own MAC", view.local_mac),
            ("session id", None if view.session_id is None else f"{view.session_id:04x}"),
            ("up for", (view.up_since is not None and words.duration(now - view.up_since)) or None),
            ("echo", None if view.rtt_ms is None else words.milliseconds(view.rtt_ms)),
            ("flaps", str(view.flaps) if view.flaps else None),
        ),
        width,
    )


def event_lines(events: Sequence[Event], width: int) -> list[Line]:
    """Events in full, oldest first."""
    lines: list[Line] = []
    for event in events:
        first, *more = words.wrap(event.text, width - 11)
        lines.append([(f" {words.clock(event.at)}  ", "dim"), (first, eventlines.ROLES[event.severity])])
        lines += [[(" " * 11, "dim"), (line, eventlines.ROLES[event.severity])] for line in more]
    return lines


def graph_bars(width: int) -> int:
    """How many steps of the history fit."""
    return max(12, min(GRAPH_STEPS, width - GRAPH_NOTE))


def traffic_lines(session: int, totals: tuple[int, int], meter: Readings, width: int) -> list[Line]:
    """For each direction the rate now, the highest on the graph and the octets in all, beside the graph."""
    bars, rates = graph_bars(width), meter.rates(session)
    received, sent = totals
    histories = meter.graph(session)
    lines: list[Line] = []
    for sign, role, bits, octets, history in (
        ("▼", "rx", rates.rx_bits, received, histories[0]),
        ("▲", "tx", rates.tx_bits, sent, histories[1]),
    ):
        peak = max([bits, *history])  # of all five minutes, however many the graph has room for
        notes = (words.rate(bits), "now"), (words.rate(peak), "peak"), (words.rate(octets, "B"), "in all")
        graph = words.graph(history, bars, GRAPH_HEIGHT, GRAPH_LEAST)
        lines += _beside(sign, role, notes, graph)
    return lines


def hour_lines(hour: Hour, width: int) -> list[Line]:
    """For each direction the mean and the highest, beside a graph of dots, two steps a column."""
    columns = max(10, min(60, width - GRAPH_NOTE))
    lines: list[Line] = []
    for sign, role, values in (("▼", "rx", hour.rx), ("▲", "tx", hour.tx)):
        shown = values[-2 * columns :] or (0,)
        minutes = f"{len(shown) * hour.step / 60:.0f} min"
        notes = (words.rate(sum(shown) / len(shown)), "mean"), (words.rate(max(shown)), "peak"), (minutes, "")
        graph = words.braille(values, columns, GRAPH_HEIGHT, GRAPH_LEAST)
        lines += _beside(sign, role, notes, graph)
    return lines


def _beside(sign: str, role: str, notes: Sequence[tuple[str, str]], graph: Sequence[str]) -> list[Line]:
    """A graph's lines, each with a value and what that is before it."""
    return [
        [
            (f" {'' if place else sign:1} ", role),
            (f"{value:>9} ", "text" if place == 0 else "dim"),
            (f"{word:{GRAPH_NOTE - 13}}", "dim"),
            (drawn, f"{role}bar"),
        ]
        for place, ((value, word), drawn) in enumerate(zip(notes, graph, strict=True))
    ]


def fact_lines(facts: Sequence[Fact], width: int) -> list[Line]:
    """A line for each fact: what was asked, offered and agreed, and what was refused; `=` is as agreed."""
    if not facts:
        return []

    def short(text: str, agreed: str) -> str:
        return "=" if text and text == agreed else text or words.DASH

    rows = [("", "asked", "offered", "agreed")]
    rows += [(f.name, short(f.asked, f.agreed), short(f.offered, f.agreed), f.agreed or words.DASH) for f in facts]
    name, *columns = shares([max(len(row[place]) for row in rows) for place in range(4)], width - 1 - 3 * GAP)
    lines: list[Line] = []
    for row, fact in zip(rows, [None, *facts], strict=True):
        roles = ("dim", "dim", "dim", "strong" if fact and fact.agreed else "dim")
        widths = [name, *columns]
        parts = [words.wrap(text, wide) for text, wide in zip(row, widths, strict=True)]
        for cells in zip_longest(*parts, fillvalue=""):
            fitted = [words.fit(text, wide) + " " * GAP for text, wide in zip(cells, widths, strict=True)]
            lines.append([(" ", "dim"), *zip(fitted, roles, strict=True)])
        if fact and fact.refused:
            lines.append([(" " * (1 + name + GAP), "dim"), (f"refused: {fact.refused}", "warning")])
    return lines


def shares(needs: Sequence[int], room: int) -> list[int]:
    """Widths that fit into `room`: as needed, the widest made narrower until they do."""
    widths = list(needs)
    while sum(widths) > room and max(widths) > 1:
        widths[widths.index(max(widths))] -= 1
    return widths


def usage_lines(usage: Sequence[tuple[str, str]], width: int) -> list[Line]:
    """What for, and the command line for it in full."""
    lines: list[Line] = []
    for name, command in usage:
        lines.append([(f" {name}", "dim")])
        lines += [[(f"   {line}", "strong")] for line in words.wrap(command, width - 3)]
    return lines
