"""What sessions have carried over all their dials, and how busy they were, as text. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from engine.api.plural import plural
from engine.api.values import TRAFFIC_FIELDS, BusyMonth, Ledger, SessionView
from souppp_tui.show import words


def carried(view: SessionView, numbers: Sequence[int]) -> tuple[int, ...]:
    """A session's numbers since `view.counted_since`, from those of a snapshot; as `TRAFFIC_FIELDS`."""
    numbers = [*numbers] or [0] * len(TRAFFIC_FIELDS)
    return tuple(number + offset for number, offset in zip(numbers, view.counted, strict=True))


def rows(view: SessionView, ledger: Ledger, numbers: Sequence[int]) -> list[tuple[str, str]]:
    """Names and values."""
    rx_packets, rx_bytes, tx_packets, tx_bytes = carried(view, numbers)
    connections, from_line, to_line = ledger.proxied
    since = words.date_clock(view.counted_since) if view.counted_since is not None else ""
    told = [
        ("since", since),
        ("received", f"{octets(rx_bytes)} in {plural(rx_packets, 'packet')}"),
        ("sent", f"{octets(tx_bytes)} in {plural(tx_packets, 'packet')}"),
    ]
    if connections:
        text = f"{plural(connections, 'connection')}, {octets(from_line)} received, {octets(to_line)} sent"
        told.append(("of these proxied", text))
    return told + [(f"95 % of {month.month}", busy(month)) for month in ledger.months[::-1]]


def busy(month: BusyMonth) -> str:
    """How busy a session was in a month."""
    seen = words.duration(month.samples * 300)
    return f"▼ {words.rate(month.rx)}  ▲ {words.rate(month.tx)}  ({seen} seen)"


def octets(number: int) -> str:
    """As in `3.40 GB`."""
    return words.rate(number, "B")


def values(view: SessionView, ledger: Ledger, numbers: Sequence[int]) -> dict[str, object]:
    """The same for scripts."""
    connections, from_line, to_line = ledger.proxied
    return {
        "session": view.name,
        "since": words.iso(view.counted_since) if view.counted_since is not None else None,
        **dict(zip(TRAFFIC_FIELDS, carried(view, numbers), strict=True)),
        "proxied_connections": connections,
        "proxied_rx_bytes": from_line,
        "proxied_tx_bytes": to_line,
        "months": [
            {"month": each.month, "samples": each.samples, "rx_95": round(each.rx), "tx_95": round(each.tx)}
            for each in ledger.months
        ],
    }
