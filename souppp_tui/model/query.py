"""The filter language. Pure.

    ac:bras-2 !failed rx>1M

All terms must hold. `word` is looked for in every column of text, `column:word` in one; `|` separates alternatives;
`=`, `<`, `>`, `<=` and `>=` compare numbers (`k`, `M`, `G`; times with `s`, `m`, `h`, `d`); `!` before a term turns it
round; quotes keep spaces. Case doesn't matter. `is:marked` are the marked sessions. Settings that no column shows can
be asked for by their words: `datapath:kernel`, `autodial:no`.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass

from engine.api.values import SessionState, SessionView
from engine.settings.fields import SESSION
from engine.settings.kinds import Typed
from engine.settings.own_kinds import MARK
from souppp_tui.show import words
from souppp_tui.show.columns import COLUMNS, ENGINE, Column, offered
from souppp_tui.show.rates import Readings

Test = Callable[[SessionView, Readings, Container[int]], bool]

ALIASES = {
    "ip": "address",
    "ipv4": "address",
    "status": "state",
    "session": "sid",
    "up": "uptime",
    "concentrator": "ac",
    "tag": "tags",
    "port": "proxy",
    "conns": "connections",
}
STATES = {"open": "up", "dialing": "dialling", "closed": "down"}
SETTINGS: dict[str, Typed] = {
    name: key.kind
    for name, key in SESSION.items()
    if name not in COLUMNS and name in SessionView.__slots__ and isinstance(key.kind, Typed) and key.kind.words
}
"""Settings that a view tells and no column shows, with the words there are for them."""
_STATE_WORDS = (*(state.value for state in SessionState if " " not in state.value), "silent")
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
}
_UNITS: dict[str, float] = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}
_SPANS: dict[str, float] = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_MILLISECONDS: dict[str, float] = {"": 1, "ms": 1, "s": 1000}
_NUMBER = re.compile(r"(\d+(?:\.\d+)?)([a-z]*)")
_TERM = re.compile(r'(?:[^\s"]|"[^"]*"?)+')
_PARTS = re.compile(r"([A-Za-z0-9]+)(>=|<=|:|=|<|>)(.*)", re.DOTALL)


class QueryError(ValueError):
    """The filter cannot be understood; the text says why, in one line."""


@dataclass(frozen=True, slots=True)
class Query:
    """A compiled filter."""

    text: str
    tests: tuple[Test, ...]
    live: bool
    """Its answer changes with traffic, time or marks, not only with the sessions' views."""

    def matches(self, view: SessionView, meter: Readings, marks: Container[int]) -> bool:
        """Whether a session is shown."""
        return all(test(view, meter, marks) for test in self.tests)


def parse(text: str) -> Query:
    """Compile a filter; an empty one shows everything. Raises QueryError."""
    tests: list[Test] = []
    live = False
    for term in _TERM.findall(text):
        negated, body = term.startswith("!"), term.lstrip("!").replace('"', "")
        if not body:
            raise QueryError("`!` needs a word after it")
        test, term_live = _term(body)
        tests.append(_negate(test) if negated else test)
        live |= term_live
    return Query(text.strip(), tuple(tests), live)


def _negate(test: Test) -> Test:
    return lambda view, meter, marks: not test(view, meter, marks)


def _term(body: str) -> tuple[Test, bool]:
    parts = _PARTS.fullmatch(body)
    if not parts:
        return _anywhere(body.casefold().split("|")), False
    name, sign, wanted = parts[1].casefold(), parts[2], parts[3].casefold()
    if name == "is" and sign in ":=":
        if wanted != "marked":
            raise QueryError(f"`is:{wanted}`: only `is:marked` is known")
        return (lambda view, meter, marks: view.id in marks), True
    if name in SETTINGS and sign in ":=":
        return _set_to(name, wanted.split("|")), False
    column = COLUMNS.get(ALIASES.get(name, name))
    if column is None:
        if sign == ":":  # part of an address, or a name with a colon in it
            return _anywhere([body.casefold()]), False
        raise QueryError(f"no column `{name}`; the columns are {', '.join(COLUMNS)}")
    if not wanted:
        raise QueryError(f"`{name}{sign}` needs a value after it")
    if sign == ":" or (sign == "=" and column.key not in _NUMERIC):
        return _inside(column, wanted.split("|")), column.live
    return _compare(column, sign, wanted), column.live


def _set_to(name: str, wanted: list[str]) -> Test:
    kind = SETTINGS[name]
    try:
        values = [kind.parse(word) for word in wanted]
    except ValueError as error:
        raise QueryError(f"`{name}` {error}") from None
    return lambda view, meter, marks: getattr(view, name) in values


def complete(text: str, engines: Sequence[str] = ()) -> str:
    """The filter with its last term made longer by what is likely meant; empty where nothing is.

    `engines` are the names of those that are looked at, where there are several.
    """
    term = text.rpartition(" ")[2].lstrip("!")
    name, sign, value = term.casefold().partition(":")
    typed = value.rpartition("|")[2] if sign else name
    known = ALIASES.get(name, name)
    words: Iterable[str] = (f"{column}:" for column in (*offered(bool(engines)), *SETTINGS))
    if sign:
        values = {"state": _STATE_WORDS, ENGINE: engines}
        words = SETTINGS[known].words if known in SETTINGS else values.get(known, ())
    found = next((word for word in words if typed and word.casefold().startswith(typed) and word != typed), "")
    return text + found[len(typed) :] if found else ""


def _anywhere(needles: list[str]) -> Test:
    words = [STATES.get(needle, needle) for needle in needles]

    def test(view: SessionView, meter: Readings, marks: Container[int]) -> bool:
        text = haystack(view)
        return any(word in text for word in words)

    return test


def _inside(column: Column, needles: list[str]) -> Test:
    if column.key == "state":
        wanted = [STATES.get(needle, needle) for needle in needles]
        names = {state.value for state in SessionState}

        def test(view: SessionView, meter: Readings, marks: Container[int]) -> bool:
            text = words.state_words(view)
            return any(view.state.value == word if word in names else word in text for word in wanted)

        return test
    return lambda view, meter, marks: any(needle in column.text(view, meter).casefold() for needle in needles)


def _compare(column: Column, sign: str, wanted: str) -> Test:
    units = {"uptime": _SPANS, "rtt": _MILLISECONDS, "setup": _MILLISECONDS}.get(column.key, _UNITS)
    parts = _NUMBER.fullmatch(wanted)
    if column.key == "mark":
        try:
            number = float(int(wanted, 0))
        except ValueError:
            raise QueryError(f"`{wanted}` is not a mark; they are as 101 or 0x5000") from None
    elif column.key == "sid":
        try:
            number = float(int(wanted, 16))
        except ValueError:
            raise QueryError(f"`{wanted}` is not a session id; they are hexadecimal, as in 01a3") from None
    elif not parts or parts[2] not in units:
        raise QueryError(f"`{wanted}` is not a number ({', '.join(u for u in units if u)} may follow one)")
    elif column.key not in _NUMERIC:
        raise QueryError(f"column `{column.key}` holds text; use `{column.key}:{wanted}`")
    else:
        number = float(parts[1]) * units[parts[2]]
    compare = _COMPARE[sign]

    def test(view: SessionView, meter: Readings, marks: Container[int]) -> bool:
        value = column.value(view, meter)
        return value is not None and compare(value, number)

    return test


_NUMERIC = (
    *("sid", "mtu", "uptime", "rx", "tx", "rxp", "txp", "rtt", "setup", "flaps"),
    *("mark", "proxy", "connections", "rxsum", "txsum"),
)


def haystack(view: SessionView) -> str:
    """Everything about a session that a bare word is looked for in, in lower case."""
    sid = "" if view.session_id is None else f"{view.session_id:04x}"
    state = words.state_words(view)
    return (
        f"{view.name}\n{view.engine}\n{state}\n{view.ipv4 or ''}\n{view.ac_name or ''}\n"
        f"{' '.join(view.ipv6_addresses)}\n{' '.join(view.ipv6_prefixes)}\n"
        f"{sid}\n{view.user}\n{view.service}\n{view.device or ''}\n{view.local_mac or ''}\n{view.ac_mac or ''}\n"
        f"{view.ipv6 or ''}\n{' '.join(view.dns)}\n{view.ipv4_peer or ''}\n{'.'.join(map(str, view.vlans))}\n"
        f"{view.proxy or ''}\n{' '.join(view.tags)}\n{MARK.show(view.mark)}"
    ).casefold()
