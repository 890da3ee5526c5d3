"""The filter language. Pure.

    ac:bras-2 !failed rx>1M

All terms must hold. `word` is looked for in every column of text, a network (`100.64.3.0/24`) among all addresses.
`column:word` or `column~word` looks for a part in one column, `column=word` is all of it, `column=-` is nothing; `|`
separates alternatives.
`=`, `<`, `>`, `<=` and `>=` compare numbers (`k`, `M`, `G`; times with `s`, `m`, `h`, `d`), `n:1-50` is a range, and
`address:100.64.3.0/24` a network. `!` before a term turns it round; quotes keep spaces. Case doesn't matter.
`since:5m` and `since:14:02` are those whose state is younger. `is:marked` are the marked sessions, `@name` is a filter
that has a name. Settings that no column shows can be asked for by their words: `datapath:kernel`, `autodial:no`.

A word or a column that isn't known is an error with what may be meant; `why_none` says which term finds nothing.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from difflib import get_close_matches
from itertools import islice, repeat
from types import MappingProxyType
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from engine.api.values import SessionState, SessionView
from engine.settings.fields import SESSION
from engine.settings.kinds import Typed
from engine.settings.own_kinds import MARK
from souppp_tui.model.spans import NAMING, NUMERIC, Addresses, Span, addresses, clock, span
from souppp_tui.show import words
from souppp_tui.show.columns import COLUMNS, Column
from souppp_tui.show.rates import Readings

Test = Callable[[SessionView, Readings, Container[int]], bool]
Found = tuple[Test, str]
"""A test, and the text it looks for a part of, if that is all it does."""

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
    "why": "reason",
    "number": "n",
}
STATES = {"open": "up", "dialing": "dialling", "closed": "down"}
SETTINGS: dict[str, Typed] = {
    name: key.kind
    for name, key in SESSION.items()
    if name not in COLUMNS and name in SessionView.__struct_fields__ and isinstance(key.kind, Typed) and key.kind.words
}
"""Settings that a view tells and no column shows, with the words there are for them."""
IS: dict[str, Test] = {
    "marked": lambda view, meter, marks: view.id in marks,
    "silent": lambda view, meter, marks: words.is_silent(view),
    "queued": lambda view, meter, marks: view.queued,
    "draining": lambda view, meter, marks: view.draining,
    "capturing": lambda view, meter, marks: view.capturing,
    "retrying": lambda view, meter, marks: view.retry_at is not None,
}
"""What a session can be, besides its state."""
STATE_WORDS = (*(state.value for state in SessionState), "silent", "queued", "draining")
NO_NAMES: Mapping[str, str] = MappingProxyType({})

_SEVERAL = ("tags", "prefix", "ipv6", "dns")
"""Columns with any number of words in them."""
_ADDRESSES: dict[str, Callable[[SessionView], Sequence[str]]] = {
    "address": lambda view: (view.ipv4,) if view.ipv4 else (),
    "peer": lambda view: (view.ipv4_peer,) if view.ipv4_peer else (),
    "ipv6": lambda view: (*view.ipv6_addresses, view.ipv6) if view.ipv6 else view.ipv6_addresses,
    "prefix": lambda view: view.ipv6_prefixes,
    "dns": lambda view: view.dns,
}
_HOLD = {4: ("address", "peer", "dns"), 6: ("ipv6", "prefix", "dns")}
"""Which of them hold addresses of which version."""
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_TERM = re.compile(r'(?:[^\s"]|"[^"]*"?)+')
_PARTS = re.compile(r"([A-Za-z0-9_]+)(>=|<=|!=|:|=|~|<|>)(.*)", re.DOTALL)
_ADDRESS_PART = re.compile(r"[0-9a-f]{0,4}(?::[0-9a-f.]*)+(?:/\d{1,3})?")


class QueryError(ValueError):
    """The filter cannot be understood; the text says why, in one line."""


class Term(Struct, frozen=True):
    """One condition of a filter."""

    text: str
    test: Test
    live: bool = False
    column: str = ""
    """The key of the column that it is about; empty for any."""
    part: str = ""
    """The text that it looks for there, if that is all it does: with more of it no others are found."""

    def follows_from(self, other: Term) -> bool:
        """Whether it finds all that `other` finds, as far as can be told without a look at sessions."""
        more = bool(self.part) and self.column == other.column and self.part in other.part
        return not self.live and (more or self.text == other.text)


class Query(Struct, frozen=True):
    """A compiled filter."""

    text: str
    terms: tuple[Term, ...] = ()
    named: tuple[str, ...] = ()
    """The named filters in it."""

    @property
    def live(self) -> bool:
        """Whether its answer changes with traffic, time or marks, not only with the sessions' views."""
        return any(term.live for term in self.terms)

    def matches(self, view: SessionView, meter: Readings, marks: Container[int]) -> bool:
        """Whether a session is shown."""
        return all(term.test(view, meter, marks) for term in self.terms)

    def pick(self, views: Sequence[SessionView], meter: Readings, marks: Container[int]) -> Sequence[SessionView]:
        """Those of the sessions that are shown, in the same order."""
        for term in self.terms:
            test = term.test
            views = [view for view in views if test(view, meter, marks)]
        return views

    def narrows(self, other: Query) -> bool:
        """Whether it surely finds none but what `other` has found, as where a filter is typed letter by letter."""
        if self.named or other.named:  # what a name stands for may be another text by now
            return False
        return all(any(old.follows_from(new) for new in self.terms) for old in other.terms)


MAX_NAMED = 100
"""Names that a filter may come to, with those in what they stand for: each could double the work of the one before."""


def parse(text: str, names: Mapping[str, str] = NO_NAMES) -> Query:
    """Compile a filter, in which `names` may be used; an empty one shows everything. Raises QueryError."""
    return _parse(text, names, [], ())


def _parse(text: str, names: Mapping[str, str], named: list[str], inside: tuple[str, ...]) -> Query:
    """`named` takes the names that are met, each as often as it is; `inside` are those that this text is read for."""
    terms: list[Term] = []
    for written in _TERM.findall(text):
        negated, body = written.startswith("!"), written.lstrip("!")
        if not body.replace('"', ""):
            raise QueryError("`!` needs a word after it")
        if body.startswith("@"):
            inner = _named(body[1:].casefold(), names, named, inside)
            term = Term(written, inner.matches, inner.live)
        else:
            term = _term(body)
        terms.append(replace(term, text=written, test=_negate(term.test), part="") if negated else term)
    return Query(text.strip(), tuple(terms), tuple(named))


def _named(name: str, names: Mapping[str, str], named: list[str], inside: tuple[str, ...]) -> Query:
    if name not in names:
        raise QueryError(f"no filter is called `{name}`{meant(name, names, 'there are', '`:save NAME` keeps one')}")
    if name in inside:
        raise QueryError(f"@{name} names itself; write out what it stands for")
    named.append(name)
    if len(named) > MAX_NAMED:
        raise QueryError(f"@{named[0]} names others more than {MAX_NAMED} times; write out what it stands for")
    return _parse(names[name], names, named, (*inside, name))


def _negate(test: Test) -> Test:
    return lambda view, meter, marks: not test(view, meter, marks)


def meant(word: str, among: Iterable[str], there_are: str, nothing: str = "") -> str:
    """What is said behind an unknown word: which one may be meant, or which there are."""
    known = list(dict.fromkeys(among))
    if not known:
        return f"; {nothing}" if nothing else ""
    near = get_close_matches(word, known, 1, 0.6) or [each for each in known if word and each.startswith(word)][:1]
    return f"; did you mean `{near[0]}`?" if near else f"; {there_are} {', '.join(known)}"


def _term(written: str) -> Term:
    body = written.replace('"', "")
    parts = None if written.startswith('"') else _PARTS.fullmatch(body)
    if not parts:
        return _anywhere(written, body.casefold().split("|"))
    name, sign, wanted = parts[1].casefold(), parts[2], parts[3].casefold()
    key = ALIASES.get(name, name)
    if sign == "!=":
        equal = _term(f"{name}={wanted}")
        return Term(written, _negate(equal.test), equal.live, equal.column)
    if name == "is" and sign in ":=":
        return Term(written, _is(wanted), live=True)
    if name in SETTINGS and sign in ":=":
        return Term(written, _set_to(name, wanted.split("|")), column=name)
    column = COLUMNS.get(key)
    if column is None:
        if sign == ":" and _ADDRESS_PART.fullmatch(body.casefold()):
            return _anywhere(written, [body.casefold()])
        known = (*COLUMNS, *SETTINGS, *ALIASES, "is")
        near = meant(name, known, "").partition("; did")
        raise QueryError(f"no column `{name}`" + ("".join(near) if near[1] else f"; they are {', '.join(COLUMNS)}"))
    if not wanted:
        raise QueryError(f"`{name}{sign}` needs a value after it")
    try:
        test, part = _about(column, sign, wanted)
    except ValueError as error:
        raise QueryError(str(error)) from None
    return Term(written, test, column.live or key == "since", key, part)


def _is(wanted: str) -> Test:
    if wanted in IS:
        return IS[wanted]
    if (state := STATES.get(wanted, wanted)) in STATE_WORDS:
        return _inside(COLUMNS["state"], [state])[0]
    raise QueryError(f"nothing is `{wanted}`{meant(wanted, (*IS, *STATE_WORDS), 'it can be')}")


def _set_to(name: str, wanted: list[str]) -> Test:
    kind = SETTINGS[name]
    try:
        values = [kind.parse(word) for word in wanted]
    except ValueError as error:
        raise QueryError(f"`{name}` {error}") from None
    return lambda view, meter, marks: getattr(view, name) in values


def _about(column: Column, sign: str, wanted: str) -> Found:
    """What `column`, a sign and a value mean. Raises ValueError."""
    read = NUMERIC.get(column.key)
    if column.key == "since" and sign in ":>=<" and (moment := clock(wanted)):
        return _entered(moment, earlier=sign == "<"), ""
    if sign in _COMPARE:
        if read is None:
            raise ValueError(f"column `{column.key}` holds text; use `{column.key}:{wanted}`")
        return _compare(column, sign, read(wanted)), ""
    alternatives = wanted.split("|")
    if column.key in _ADDRESSES and sign in ":=":
        if sign == "=" or any(mark in wanted for mark in "/-"):
            return _among(_ADDRESSES[column.key], [_addresses(column.key, each) for each in alternatives]), ""
        return _inside(column, alternatives)
    if read is None or sign == "~" or (sign == ":" and column.key in NAMING and "-" not in wanted):
        return (_equal(column, alternatives), "") if sign == "=" else _inside(column, alternatives)
    if column.key == "since" and sign == ":":
        return _compare(column, "<=", read(wanted)), ""
    return _within(column, [span(each, read) for each in alternatives]), ""


def _addresses(key: str, text: str) -> Addresses:
    found = addresses(text)
    if found is None:
        raise ValueError(f"`{text}` is no address and no network; a part of one is looked for with `{key}:{text}`")
    return found


def _anywhere(written: str, needles: list[str]) -> Term:
    networks = [found for needle in needles if "/" in needle and (found := addresses(needle))]
    if networks and len(networks) == len(needles):
        columns = [get for key, get in _ADDRESSES.items() if any(key in _HOLD[each.version] for each in networks)]
        among = [_among(get, networks) for get in columns]
        return Term(written, lambda view, meter, marks: any(test(view, meter, marks) for test in among))
    sought = [STATES.get(needle, needle) for needle in needles]
    if len(sought) == 1:
        (word,) = sought
        return Term(written, lambda view, meter, marks: word in haystack(view), part=_part(needles))

    def test(view: SessionView, meter: Readings, marks: Container[int]) -> bool:
        text = haystack(view)
        return any(word in text for word in sought)

    return Term(written, test)


def _part(needles: list[str]) -> str:
    """See `Term.part`: a word for a state means another text, and one with a slash may mean a network."""
    (needle, *others) = needles
    return "" if others or needle in STATES or "/" in needle else needle


def _inside(column: Column, needles: list[str]) -> Found:
    if column.key != "state":
        text = column.text
        if len(needles) == 1:
            (needle,) = needles
            return lambda view, meter, marks: needle in text(view, meter).casefold(), _part(needles)
        return lambda view, meter, marks: any(needle in text(view, meter).casefold() for needle in needles), ""
    wanted = [STATES.get(needle, needle) for needle in needles]
    states = {state for state in SessionState if state.value in wanted}
    parts = [word for word in wanted if word not in states]
    if not parts:
        return lambda view, meter, marks: view.state in states, ""

    def test(view: SessionView, meter: Readings, marks: Container[int]) -> bool:
        text = words.state_words(view)
        return view.state in states or any(part in text for part in parts)

    return test, "" if states else _part(needles)


def _equal(column: Column, wanted: list[str]) -> Test:
    if column.key == "state":
        states = {STATES.get(word, word) for word in wanted}
        if unknown := sorted(states - {*STATE_WORDS, *words.LIVES}):
            raise ValueError(f"no state `{unknown[0]}`{meant(unknown[0], STATE_WORDS, 'they are')}")
        return lambda view, meter, marks: (
            view.state.value in states
            or words.life(view) in states
            or (("silent" in states and words.is_silent(view)) or ("draining" in states and view.draining))
        )
    wanted = [words.DASH if word == "-" else word for word in wanted]
    if column.key in _SEVERAL:
        sought = set(wanted)
        return lambda view, meter, marks: not sought.isdisjoint(column.text(view, meter).casefold().split())
    return lambda view, meter, marks: column.text(view, meter).casefold() in wanted


def _among(get: Callable[[SessionView], Sequence[str]], wanted: Sequence[Addresses]) -> Test:
    def test(view: SessionView, meter: Readings, marks: Container[int]) -> bool:
        return any(text in each for text in get(view) for each in wanted)

    return test


def _within(column: Column, spans: Sequence[Span]) -> Test:
    def test(view: SessionView, meter: Readings, marks: Container[int]) -> bool:
        value: Any = column.value(view, meter)
        return value is not None and any(low <= value < high for low, high in spans)

    return test


def _compare(column: Column, sign: str, wanted: Span) -> Test:
    compare = _COMPARE[sign]
    low, high = wanted
    number = low if column.key in ("uptime", "since") else (low + high) / 2

    def test(view: SessionView, meter: Readings, marks: Container[int]) -> bool:
        value: Any = column.value(view, meter)
        return value is not None and compare(value, number)

    return test


def _entered(moment: Callable[[float], float], earlier: bool) -> Test:
    """Whether the state was entered after a time of day, or before it."""
    return lambda view, meter, marks: (view.since < moment(meter.now)) is earlier


_haystacks: dict[int, tuple[SessionView, str]] = {}
"""What was looked through last, by key: most sessions stay as they are from one look to the next."""
KEPT_HAYSTACKS = 1 << 16


def haystack(view: SessionView) -> str:
    """Everything about a session that a bare word is looked for in, in lower case."""
    known = _haystacks.get(view.id)
    if known is not None and known[0] is view:
        return known[1]
    if len(_haystacks) >= KEPT_HAYSTACKS:
        _haystacks.clear()
    text = _haystack(view)
    _haystacks[view.id] = view, text
    return text


def _haystack(view: SessionView) -> str:
    # What all have or none is put together without a call, and no sign beyond ASCII is in what is folded: 10,000 of
    # them are made when the first word is typed.
    text = (
        f"{view.name}\n{view.ipv4 or ''}\n{view.ac_name or ''}\n{view.user}\n{view.service}\n{view.device or ''}\n"
        f"{view.local_mac or ''}\n{view.ac_mac or ''}\n{view.ipv6 or ''}\n{view.ipv4_peer or ''}\n{view.proxy or ''}\n"
        f"{'' if view.session_id is None else f'{view.session_id:04x}'}\n{view.engine}\n"
    ).casefold()
    for several in (view.ipv6_addresses, view.ipv6_prefixes, view.dns, view.tags):
        if several:
            text += f"{' '.join(several)}\n".casefold()
    if view.vlans:
        text += f"{'.'.join(map(str, view.vlans))}\n"
    if view.mark is not None:
        text += f"{MARK.show(view.mark)}\n"
    return text + words.state_words(view)


def why_none(query: Query, views: Sequence[SessionView], meter: Readings, marks: Container[int]) -> str:
    """Which term of a filter finds no session at all and what may be meant; that none has all, if each finds some."""
    for term in query.terms:
        if any(term.test(view, meter, marks) for view in views):
            continue
        word = term.text.rpartition(":")[2].rpartition("=")[2].rpartition("~")[2].strip('!"').casefold()
        if term.text.startswith(("!", "@", "is:")) or not views:
            return f"{term.text} finds none"
        return f"{term.text} finds none{_perhaps(word, known_words(term.column, views, meter))}"
    return "each term finds some, but none has all" if len(query.terms) > 1 else ""


def _perhaps(word: str, among: Iterable[str]) -> str:
    near = [each for each in get_close_matches(word, list(among), 1, 0.7) if each != word]
    return f"; did you mean `{near[0]}`?" if near else ""


KNOWN_WORDS = 1000
"""Words of a column that are offered, and compared with what isn't found."""
_ASKED = ("service", "ac", "tags", "user", "vlan", "reason", "name", "address")
"""Where a bare word may be from."""


def known_words(column: str, views: Sequence[SessionView], meter: Readings) -> list[str]:
    """What stands in a column, each once; without one, words of all that a bare word is looked for in."""
    if not column:
        found = [each for key in _ASKED for each in known_words(key, views, meter)]
        return [*STATE_WORDS, *found]
    if column == "state":
        return list(STATE_WORDS)
    if column in SETTINGS:
        return list(SETTINGS[column].words)
    shown = COLUMNS[column]
    if shown.live:
        return []
    texts: Iterable[str] = dict.fromkeys(map(shown.text, views, repeat(meter)))
    if column in _SEVERAL:
        texts = dict.fromkeys(word for text in texts for word in text.split())
    return [words.clean(text) for text in islice((text for text in texts if text != words.DASH), KNOWN_WORDS)]
