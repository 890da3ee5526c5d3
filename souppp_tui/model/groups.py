"""Sessions that have something in common, together: how many are in which state, since when. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct, field

from engine.api.values import SessionView
from souppp_tui.model.query import QueryError, parse
from souppp_tui.show.words import DASH, DOWN, FAILED, LIVES, UP, is_silent, life

NOTHING = "-"
"""What a filter has for nothing."""


class Group(Struct):
    """Some sessions, and what they come to."""

    value: str
    """What they have in common; NOTHING where that is nothing."""
    by: Grouping
    sessions: list[int] = field(default_factory=list)
    lives: Counter[str] = field(default_factory=Counter)
    oldest: float = 0.0
    """When the one of them that has been in its state for longest came to it."""
    rtts: list[float] = field(default_factory=list)

    @property
    def filter(self) -> str:
        """What shows them and no others in the table; empty where no filter can say it."""
        return _filter(self.by, self.value)

    @property
    def rtt(self) -> float | None:
        """The 95th percentile of their echoes' round trips, in ms."""
        ordered = sorted(self.rtts)
        return ordered[min(len(ordered) - 1, len(ordered) * 95 // 100)] if ordered else None


def _reason(view: SessionView) -> str:
    word = life(view)
    return view.reason if word in (FAILED, DOWN) and view.reason else word


def _state_filter(value: str) -> str:
    """One that is up and silent isn't counted as up, one that waits for its dial not as down."""
    less = {UP: " !is:silent", DOWN: " !is:queued", FAILED: " !is:queued"}
    return f"state={_quoted(value)}{less.get(value, '')}"


def _reason_filter(value: str) -> str:
    if value in LIVES:
        return _state_filter(value) + (f" reason={NOTHING}" if value in (FAILED, DOWN) else "")
    return f"state=failed|down reason={_quoted(value)} !is:queued"


class Grouping(Struct, frozen=True):
    """One way to put sessions into groups."""

    name: str
    values: Callable[[SessionView], Sequence[str]]
    """What a session has of it; with several it is in as many groups."""
    filter: Callable[[str], str]
    """What shows a group in the table."""


def _equal(column: str) -> Callable[[str], str]:
    return lambda value: f"{column}={_quoted(value)}"


GROUPINGS: dict[str, Grouping] = {
    each.name: each
    for each in (
        Grouping("state", lambda view: (life(view),), _state_filter),
        Grouping("reason", lambda view: (_reason(view),), _reason_filter),
        Grouping("service", lambda view: (view.service,), _equal("service")),
        Grouping("concentrator", lambda view: (view.ac_name or "",), _equal("ac")),
        Grouping("vlan", lambda view: (".".join(map(str, view.vlans)),), _equal("vlan")),
        Grouping("user", lambda view: (view.user,), _equal("user")),
        Grouping("tag", lambda view: view.tags or ("",), _equal("tags")),
    )
}


def _quoted(value: str) -> str:
    return f'"{value}"' if " " in value or value.startswith(("!", "@")) else value


def groups(views: Iterable[SessionView], by: Grouping) -> list[Group]:
    """All sessions in groups: by state in the order of states, else the largest first."""
    found: dict[str, Group] = {}
    for view in views:
        word, since = life(view), _since(view)
        for value in by.values(view):
            group = found.get(value)
            if group is None:
                group = found[value] = Group(value or NOTHING, by, oldest=since)
            group.sessions.append(view.id)
            group.lives[word] += 1
            group.oldest = min(group.oldest, since)
            if view.rtt_ms is not None:
                group.rtts.append(view.rtt_ms)
    places = {word: place for place, word in enumerate(LIVES)}
    if by.name == "state":
        return sorted(found.values(), key=lambda group: places[group.value])
    return sorted(found.values(), key=lambda group: (-len(group.sessions), group.value))


def _since(view: SessionView) -> float:
    """When it came to what its row says of it."""
    return view.silent_since if view.silent_since is not None and is_silent(view) else view.since


def _filter(by: Grouping, value: str) -> str:
    if any(sign in value for sign in '"|') or value == DASH or not value.isprintable():
        return ""
    text = by.filter(value)
    try:
        parse(text)
    except QueryError:
        return ""
    return text


_COMMON: tuple[tuple[str, Callable[[SessionView], str]], ...] = (
    ("service", lambda view: view.service),
    ("concentrator", lambda view: view.ac_name or ""),
    ("VLAN", lambda view: ".".join(map(str, view.vlans))),
    ("", lambda view: view.reason),
)


def common(views: Sequence[SessionView]) -> list[str]:
    """What all of some sessions have in common, in words."""
    told = []
    for name, get in _COMMON:
        value = get(views[0]) if views else ""
        if value and all(get(view) == value for view in views):
            told.append(f"{name} {value}".strip())
    return told
