"""What a filter compares with: spans of numbers with units, of times, of addresses. Pure."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Mapping
from functools import lru_cache

from msgspec import Struct

Span = tuple[float, float]
"""From the first, up to the second, which is not in it."""

_DECIMAL: Mapping[str, float] = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}
_TIMES: Mapping[str, float] = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_MILLISECONDS: Mapping[str, float] = {"": 1, "ms": 1, "s": 1000}
_NUMBER = re.compile(r"(\d+)(?:\.(\d+))?([a-z]*)")
_CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?")


def _amount(text: str, units: Mapping[str, float], down: bool = False) -> Span:
    """What shows as this amount: `5m` is all from five minutes to six where numbers are rounded `down`."""
    parts = _NUMBER.fullmatch(text)
    if not parts or parts[3] not in units:
        may = ", ".join(unit for unit in units if unit)
        raise ValueError(f"`{text}` is not a number ({may} may follow one)")
    unit = units[parts[3]]
    number = float(f"{parts[1]}.{parts[2] or 0}") * unit
    step = unit / 10 ** len(parts[2] or "")
    return (number, number + step) if down else (number - step / 2, number + step / 2)


def _whole(number: int) -> Span:
    return number - 0.5, number + 0.5


def _mark(text: str) -> Span:
    try:
        return _whole(int(text, 0))
    except ValueError:
        raise ValueError(f"`{text}` is not a mark; they are as 101 or 0x5000") from None


def _session_id(text: str) -> Span:
    try:
        return _whole(int(text, 16))
    except ValueError:
        raise ValueError(f"`{text}` is not a session id; they are hexadecimal, as in 01a3") from None


Read = Callable[[str], Span]
"""What a text means, as a span. Raises ValueError."""


def _decimal(text: str) -> Span:
    return _amount(text, _DECIMAL)


def _duration(text: str) -> Span:
    return _amount(text, _TIMES, down=True)


def _milliseconds(text: str) -> Span:
    return _amount(text, _MILLISECONDS)


NUMERIC: Mapping[str, Read] = {
    **dict.fromkeys(
        ("n", "mtu", "rx", "tx", "rxp", "txp", "flaps", "proxy", "connections", "rxsum", "txsum"), _decimal
    ),
    **dict.fromkeys(("both", "recent", "sum"), _decimal),
    "uptime": _duration,
    "since": _duration,
    "rtt": _milliseconds,
    "setup": _milliseconds,
    "mark": _mark,
    "sid": _session_id,
}
"""The columns that hold numbers, and how one is written in a filter."""
NAMING = ("sid", "mark", "proxy")
"""Those whose numbers are names: a part of one may be looked for."""


def span(text: str, read: Read) -> Span:
    """`1-50` or `50`. Raises ValueError."""
    first, dash, last = text.partition("-")
    if not dash:
        return read(text)
    low, high = read(first)[0], read(last)[1]
    if low >= high:
        raise ValueError(f"`{text}` ends before it begins")
    return low, high


def clock(text: str) -> Callable[[float], float] | None:
    """`14:02` or `14:02:30` as that moment before another one; None for what is no time of day."""
    parts = _CLOCK.fullmatch(text)
    if parts is None:
        return None
    hour, minute, second = (int(part or 0) for part in parts.groups())

    def before(now: float) -> float:
        day = time.localtime(now)
        moment = time.mktime((day.tm_year, day.tm_mon, day.tm_mday, hour, minute, second, 0, 0, -1))
        if moment <= now:
            return moment
        return time.mktime((day.tm_year, day.tm_mon, day.tm_mday - 1, hour, minute, second, 0, 0, -1))

    return before


class Addresses(Struct, frozen=True):
    """All from one address to another, both included."""

    version: int
    first: int
    last: int

    def __contains__(self, text: str) -> bool:
        """Whether an address, or the whole of a network, is among them; a text that is neither isn't."""
        if (":" in text) != (self.version == 6):
            return False
        found = _network(text)
        return found is not None and self.first <= found[0] and found[1] <= self.last


@lru_cache(maxsize=65536)
def _network(text: str) -> tuple[int, int] | None:
    """The first and the last address of a network, or an address twice; None for what is neither.

    Ten times as fast as `ipaddress`: a filter asks 10,000 sessions.
    """
    address, slash, prefix = text.partition("/")
    family, bits = (socket.AF_INET6, 128) if ":" in address else (socket.AF_INET, 32)
    try:
        first = int.from_bytes(socket.inet_pton(family, address), "big")
        host = bits - int(prefix) if slash else 0
    except (OSError, ValueError):
        return None
    rest = (1 << max(host, 0)) - 1
    return (first & ~rest, first | rest) if 0 <= host <= bits else None


def addresses(text: str) -> Addresses | None:
    """`192.0.2.1`, `192.0.2.0/24`, `192.0.2.1-192.0.2.9` and the same of IPv6; None for anything else."""
    first, dash, last = text.partition("-")
    low, high = _network(first), _network(last if dash else first)
    if low is None or high is None or (dash and "/" in text) or (":" in first) != (":" in (last or first)):
        return None
    return Addresses(6 if ":" in first else 4, low[0], high[1]) if low[0] <= high[1] else None
