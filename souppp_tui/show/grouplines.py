"""Groups of sessions as lines of a table. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from engine.settings.limits import MAX_SESSIONS
from souppp_tui.show import words
from souppp_tui.show.paint import Line

GAP = 2
NAME = 14
NAME_WANTED = 24
"""As wide as most reasons."""
NAME_MOST = 34
BAR_MOST = 22


class GroupLine(Struct, frozen=True):
    """What there is to show of a group."""

    name: str
    number: int
    of: int
    """The largest group's number."""
    lives: Mapping[str, int]
    rtt: float | None
    rx_bits: float
    tx_bits: float
    oldest: float
    role: str


class _Column(Struct, frozen=True):
    title: str
    width: int
    text: Callable[[GroupLine, float], str]
    role: str


def _number(value: int) -> str:
    return words.count(value) if value else ""


def _waiting(line: GroupLine) -> int:
    return line.number - sum(line.lives.get(word, 0) for word in (words.UP, words.FAILED, words.DOWN))


_COLUMNS = (
    _Column("SESSIONS", 8, lambda it, now: words.count(it.number), "strong"),
    _Column("UP", 6, lambda it, now: _number(it.lives.get(words.UP, 0)), "up"),
    _Column("WAIT", 6, lambda it, now: _number(_waiting(it)), "busy"),
    _Column("FAIL", 6, lambda it, now: _number(it.lives.get(words.FAILED, 0)), "failed"),
    _Column("DOWN", 6, lambda it, now: _number(it.lives.get(words.DOWN, 0)), "down"),
    _Column("RTT p95", 7, lambda it, now: words.DASH if it.rtt is None else words.milliseconds(it.rtt), "text"),
    _Column("▼ b/s", 6, lambda it, now: words.metric(it.rx_bits), "rx"),
    _Column("▲ b/s", 6, lambda it, now: words.metric(it.tx_bits), "tx"),
    _Column("OLDEST", 7, lambda it, now: words.duration(now - it.oldest), "text"),
)
_COUNTS = ("UP", "WAIT", "FAIL", "DOWN")
"""What adds up to the sessions of a group, so all of them are shown, or none."""
_IMPORTANCE = (("SESSIONS",), _COUNTS, ("▼ b/s",), ("OLDEST",), ("▲ b/s",), ("RTT p95",))
"""Who stays when space runs out, first to last."""
_LAST = _IMPORTANCE[-2:]
"""These stay only beside names of NAME_WANTED."""


class Layout(Struct, frozen=True):
    """Which columns fit, how wide the name is, and the bar behind the number; 0 where there is none."""

    columns: tuple[_Column, ...]
    name: int
    bar: int


def layout(width: int, sessions: int = MAX_SESSIONS) -> Layout:
    """What fits into so many characters, where no group has more `sessions` than that."""
    wide = max(4, len(words.count(sessions)))
    columns = {each.title: replace(each, width=wide) if each.title in _COUNTS else each for each in _COLUMNS}
    left = width - NAME
    chosen: set[str] = set()
    for titles in _IMPORTANCE:
        need = sum(GAP + columns[title].width for title in titles)
        if need <= left - (NAME_WANTED - NAME if titles in _LAST else 0):
            chosen.update(titles)
            left -= need
    name = min(NAME_MOST, NAME + left)
    left -= name - NAME
    bar = min(BAR_MOST, left - 1) if left >= 6 else 0
    return Layout(tuple(column for column in columns.values() if column.title in chosen), name, bar)


def header(fitted: Layout, title: str) -> Line:
    """The columns' titles."""
    spans: Line = [(words.fit(title, fitted.name), "dim")]
    for place, column in enumerate(fitted.columns):
        spans.append((" " * GAP + column.title.rjust(column.width), "dim"))
        if place == 0 and fitted.bar:
            spans.append((" " * (fitted.bar + 1), "dim"))
    return spans


def line(group: GroupLine, fitted: Layout, now: float) -> Line:
    """One group."""
    spans: Line = [(words.fit(group.name, fitted.name), group.role)]
    for place, column in enumerate(fitted.columns):
        text = column.text(group, now)
        role = "dim" if text in ("0", words.DASH) else column.role
        spans.append((" " * GAP + text.rjust(column.width), role))
        if place == 0 and fitted.bar:
            spans.append((" " + words.bar(group.number / max(1, group.of), fitted.bar), "rxbar"))
    return spans


def choice(names: Sequence[str], chosen: str, key: str) -> Line:
    """What the groups can be made by; the one in force is marked."""
    spans: Line = [(f"{key}: ", "key")]
    for name in names:
        spans += [(name, "accent" if name == chosen else "dim"), (" ", "dim")]
    return spans[:-1]
