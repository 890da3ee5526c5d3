"""Which session a connection gets: sessions that are up, how many connections each has, who is to get the same again.

Choosing takes as long with ten thousand sessions as with ten. Holds no clock and no socket: time is passed in.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from zlib import crc32

from engine.proxy.users import Choice, Kind
from engine.settings.values import Choose

REMEMBERED = 65_536
"""Keys whose session is known; who comes with ever new ones makes old ones be forgotten."""


class Group:
    """Sessions to choose from, by key."""

    def __init__(self) -> None:
        self._order: list[int] = []
        self._place: dict[int, int] = {}
        self._by_count: dict[int, OrderedDict[int, None]] = {}
        """Sessions by how many connections they have, those longest at that number first."""
        self._counts: dict[int, int] = {}
        self._turn = -1

    def __len__(self) -> int:
        return len(self._order)

    def __contains__(self, key: int) -> bool:
        return key in self._place

    def add(self, key: int, count: int) -> None:
        """One with so many connections; one that is there already has so many now."""
        if key in self._place:
            self._leave(key)
        else:
            self._place[key] = len(self._order)
            self._order.append(key)
        self._counts[key] = count
        self._by_count.setdefault(count, OrderedDict())[key] = None

    def remove(self, key: int) -> None:
        """It is not to be chosen any more."""
        place = self._place.pop(key, None)
        if place is None:
            return
        self._leave(key)
        del self._counts[key]
        last = self._order.pop()
        if last != key:
            self._order[place] = last
            self._place[last] = place

    def _leave(self, key: int) -> None:
        count = self._counts[key]
        there = self._by_count[count]
        del there[key]
        if not there:
            del self._by_count[count]

    def least(self) -> int:
        """One with the fewest connections."""
        return next(iter(self._by_count[min(self._by_count)]))

    def next(self) -> int:
        """The one whose turn it is."""
        self._turn = (self._turn + 1) % len(self._order)
        return self._order[self._turn]

    def at(self, number: int) -> int:
        """The same one for the same number, as long as nothing changes."""
        return self._order[number % len(self._order)]


class Pool:
    """All sessions that are up and take connections, and the choice among them."""

    def __init__(self, chance: Callable[[], float]) -> None:
        """`chance` gives a number from 0 to 1."""
        self._chance = chance
        self.choose = Choose.LEAST
        self.connections = Counter[int]()
        """By session; those through its own proxy as well."""
        self._all = Group()
        self._tagged: dict[str, Group] = {}
        self._names: dict[str, int] = {}
        self._known: dict[int, tuple[str, tuple[str, ...]]] = {}
        self._sticky: OrderedDict[tuple[str, str], tuple[int, float]] = OrderedDict()
        """By user and key: the session, and until when."""

    def put(self, key: int, name: str, tags: tuple[str, ...]) -> None:
        """A session can be chosen."""
        if self._known.get(key) == (name, tags):
            return
        self.take_out(key)
        self._known[key] = name, tags
        self._names[name] = key
        for group in (self._all, *(self._tagged.setdefault(tag, Group()) for tag in tags)):
            group.add(key, self.connections[key])

    def take_out(self, key: int) -> None:
        """It can't any more: it is down, or is to be."""
        name, tags = self._known.pop(key, ("", ()))
        if self._names.get(name) == key:
            del self._names[name]
        self._all.remove(key)
        for tag in tags:
            self._tagged[tag].remove(key)
            if not self._tagged[tag]:
                del self._tagged[tag]

    def opened(self, key: int, number: int = 1) -> None:
        """So many connections more go through it; a negative number: fewer."""
        self.connections[key] += number
        if not self.connections[key]:
            del self.connections[key]
        if key in self._known:
            for group in (self._all, *(self._tagged[tag] for tag in self._known[key][1])):
                group.add(key, self.connections[key])

    def chosen(self, user: str, choice: Choice, source: str, now: float) -> int | None:
        """A session for a connection of a user from an address; None where there is none."""
        if choice.kind is Kind.SESSION:
            return self._names.get(choice.word)
        group = self._tagged.get(choice.word) if choice.kind is Kind.TAG else self._all
        if not group:
            return None
        if choice.kind is Kind.STICKY:
            return self._kept(group, (user, choice.word), choice.ttl, now)
        if choice.kind is Kind.NEW:
            return group.least()
        match self.choose:
            case Choose.LEAST:
                return group.least()
            case Choose.ROUND_ROBIN:
                return group.next()
            case Choose.RANDOM:
                return group.at(int(self._chance() * len(group)))
            case Choose.STICKY:
                return self._kept(group, (choice.word if choice.kind is Kind.TAG else "", f"@{source}"), None, now)

    def _kept(self, group: Group, whose: tuple[str, str], ttl: float | None, now: float) -> int:
        """The session that is somebody's already, or from now on."""
        key, until = self._sticky.get(whose, (-1, 0.0))
        if key not in group or until <= now:
            before = key
            number = crc32("\0".join(whose).encode(errors="surrogatepass"))
            key = group.at(number)
            if key == before and ttl is not None:  # its time is over: another one, if there is one
                key = group.next()
                key = group.next() if key == before else key
            until = now + ttl if ttl is not None else float("inf")
            self._sticky[whose] = key, until
            if len(self._sticky) > REMEMBERED:
                self._sticky.popitem(last=False)
        self._sticky.move_to_end(whose)
        return key
