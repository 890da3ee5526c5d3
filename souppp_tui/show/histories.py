"""Which addresses sessions had and when, as CSV (RFC 4180) and as lines. Pure."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterable, Sequence

from engine.api.values import AddressSpan
from souppp_tui.show import words

HEAD = ("session", "address", "from", "until", "seconds")


def csv_text(histories: Iterable[tuple[str, Sequence[AddressSpan]]]) -> str:
    """A line for each span, with the session's name; times are in UTC (RFC 3339).

    `until` is `now` while a session has the address, and empty where nobody knows; `seconds` are empty in both cases.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(HEAD)
    for name, spans in histories:
        for span in spans:
            until = utc(span.until) if span.until is not None else "now" if span.known else ""
            seconds = f"{span.until - span.since:.0f}" if span.until is not None else ""
            writer.writerow((name, span.address, utc(span.since), until, seconds))
    return text.getvalue()


def utc(at: float) -> str:
    """A Unix time, as in `2026-11-26T17:05:09Z`."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


def row(span: AddressSpan, now: float) -> tuple[str, str]:
    """An address, and since when and for how long it was had."""
    if span.until is not None:
        end = f"for {words.duration(span.until - span.since)}"
    else:
        end = f"for {words.duration(now - span.since)}, has it now" if span.known else "nobody knows for how long"
    return span.address, f"{words.date_clock(span.since)}, {end}"
