"""What can be taken out of the console: rows with a head, as CSV (RFC 4180), JSON or text with tabs. Pure.

Values are raw where they are numbers (octets, bits and packets per second, seconds, milliseconds), and times are ISO
8601 in UTC, so that a script needs to know nothing of how the screen shows them.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from engine.api.values import AddressSpan, Details, Event, Fact, SessionView
from souppp_tui.show import words
from souppp_tui.show.columns import COLUMNS
from souppp_tui.show.histories import HEAD, utc
from souppp_tui.show.rates import Readings

Cell = str | int | float | bool | None
_FORMULA = ("=", "+", "-", "@")
"""What a spreadsheet would take for a formula at a text's beginning."""
_AS_TEXT = ("sid", "address", "proxy", "mark", "state")
"""Columns whose value sorts, but is not what one wants to read."""


class Sheet(Struct, frozen=True):
    """A table of values; `name` is a word for its file."""

    name: str
    head: tuple[str, ...]
    rows: Sequence[Sequence[Cell]]

    def csv(self) -> str:
        """With a head. A text that a spreadsheet would take for a formula has an apostrophe before it."""
        return self._separated(",", "\r\n")

    def tabs(self) -> str:
        """The same with tabs, to be pasted."""
        return self._separated("\t", "\n")

    def _separated(self, sign: str, end: str) -> str:
        text = io.StringIO()
        writer = csv.writer(text, delimiter=sign, lineterminator=end)
        writer.writerow(self.head)
        writer.writerows([_plain(cell) for cell in row] for row in self.rows)
        return text.getvalue()

    def json(self) -> str:
        """A list of objects."""
        objects = [dict(zip(self.head, row, strict=True)) for row in self.rows]
        return json.dumps(objects, ensure_ascii=False, indent=1) + "\n"


def _plain(cell: Cell) -> Cell:
    if isinstance(cell, str):
        text = words.clean(cell)
        return f"'{text}" if text.startswith(_FORMULA) else text
    return str(cell).lower() if isinstance(cell, bool) else cell


def sessions(views: Iterable[SessionView], keys: Sequence[str], readings: Readings) -> Sheet:
    """The table with these columns."""
    head = tuple(keys)
    return Sheet("sessions", head, [[_value(key, view, readings) for key in keys] for view in views])


def _value(key: str, view: SessionView, readings: Readings) -> Cell:
    column = COLUMNS[key]
    value = column.value(view, readings)
    if key not in _AS_TEXT and isinstance(value, int | float):
        return round(value, 3) if isinstance(value, float) else value
    if key in ("rx", "tx", "rxp", "txp") or (value is None and key != "state"):
        return None
    return column.text(view, readings)


def events(of: Iterable[Event]) -> Sheet:
    """All that is known of each."""
    head = ("time", "severity", "event", "engine", "session", "text")
    rows = [
        (words.iso(each.at), each.severity.name.lower(), each.kind, each.engine or None, each.name or None, each.text)
        for each in of
    ]
    return Sheet("events", head, rows)


def addresses(of: Iterable[tuple[str, Sequence[AddressSpan]]]) -> Sheet:
    """Which addresses sessions had, see `souppp_tui.show.histories`."""
    rows: list[tuple[Cell, ...]] = []
    for name, spans in of:
        for span in spans:
            until = utc(span.until) if span.until is not None else "now" if span.known else None
            seconds = round(span.until - span.since) if span.until is not None else None
            rows.append((name, span.address, utc(span.since), until, seconds))
    return Sheet("addresses", HEAD, rows)


def details(of: Mapping[str, Details]) -> Sheet:
    """A session's details by its name, a value a row."""
    rows: list[tuple[Cell, ...]] = []
    for name, each in of.items():
        rows += ((name, "negotiated", fact.name, _settled(fact)) for fact in each.facts)
        rows += ((name, "step ms", step.name, step.took_ms and round(step.took_ms, 3)) for step in each.steps)
        rows += ((name, "counter", what, number) for what, number in each.counters)
        rows += ((name, "timer", what, words.iso(at)) for what, at in each.timers)
        rows += ((name, "use", what, line) for what, line in each.usage)
        rows += ((name, "sent" if it.sent else "received", words.iso(it.at), it.summary) for it in each.ladder)
    return Sheet("details", ("session", "part", "name", "value"), rows)


def _settled(fact: Fact) -> str:
    return fact.agreed or (f"refused: {fact.refused}" if fact.refused else "")


def lines(views: Iterable[SessionView]) -> dict[str, list[str]]:
    """What can be copied of sessions, by what it is: a line for each session that has it."""
    found: dict[str, list[str]] = {}
    for view in views:
        told: dict[str, Any] = {
            "addresses": view.ipv4,
            "names": view.name,
            "names and addresses": f"{view.name}\t{view.ipv4}" if view.ipv4 else None,
            "devices": view.device,
            "IPv6 addresses": " ".join(view.ipv6_addresses),
            "IPv6 prefixes": " ".join(view.ipv6_prefixes),
            "proxies": view.proxy,
            "user names": view.user,
            "session ids": f"{view.session_id:04x}" if view.session_id is not None else None,
            "MAC addresses": view.local_mac,
        }
        for what, line in told.items():
            if line:
                found.setdefault(what, []).append(words.clean(line) if "\t" not in line else line)
    return found
