"""How many sessions may be on their way up at once: as many as the concentrator and this host keep up with.

A dial too many makes all others slower, until timers run out, requests are sent again and sessions negotiate anew: more
work for the same end. So the number follows what is answered, as TCP's window does. It begins at FIRST and grows by one
with each session that came up as quickly as the quickest do; when a round of them was slow, or began anew, it is halved
and grows by one for each round from then on. How quick is quick is measured: a provider that takes a second for each
session is not overloaded, and one slow session among quick ones says nothing.

Who has got no further for SILENT seconds doesn't count any more: a dead session holds up nobody. If it comes up later
all the same, that is one that was slow.

As with TCP (RFC 7661 section 4.3, RFC 5681 section 4.1) a number says nothing that was not made use of, nor one of long
ago: it grows only while half of it is on the way, and when nobody was on the way for SILENT seconds it begins anew. So
a concentrator that comes back, or another one in its place, doesn't get at once all that its predecessor took.

While something waits here that has come, BUSY of them are enough, with those that were up and negotiate anew, and
nobody is silent: this host has all that it can do with these. One dial more would make what waits older, until both
sides send it again, and that is more to do for all.
"""

from __future__ import annotations

from collections import OrderedDict

FIRST, LEAST = 32, 16
"""The number to begin with, and that below which it never goes."""
ROUND = 16
"""Sessions that are judged together, by the quickest of them."""
TIMES, SLACK = 2.0, 0.2
"""So many times the shortest set-up, and so many seconds more, are still quick: requests are sent again after 0.25."""
ANEW = ROUND // 4
"""Sessions of a round that may have begun anew."""
SILENT = 2.0
"""Seconds."""
BUSY = 8
"""Sessions that are on their way at most where something waits."""
AGAIN = 0.01
"""Seconds after which a host that was behind is looked at again."""


class Pace:
    """The dials of one fleet. Times are in seconds."""

    def __init__(self) -> None:
        self.window = float(FIRST)
        """How many may be on their way."""
        self.cuts = 0
        """How often it was halved."""
        self.behind = False
        """Whether something waits here that has come."""
        self._news = ""
        self._dialled: dict[int, float] = {}
        """When each was that isn't up yet."""
        self._on_the_way: OrderedDict[int, float] = OrderedDict()
        """When each of them that counts got further; the earliest first."""
        self._shortest: float | None = None
        """The shortest set-up so far."""
        self._quickest: float | None = None
        """That of this round."""
        self._judged = 0
        self._anew = 0
        self._most = 0
        """So many were on their way in this round."""
        self._changed_at = 0.0
        """Who was dialled before tells nothing of the number as it is now."""
        self._latest = 0.0
        """When anybody got further."""

    def begun(self, key: int, now: float) -> None:
        """A session is dialled."""
        if not self._on_the_way and now - self._latest >= SILENT:
            self._begin_anew(now)
        self._dialled[key] = now
        self.got_further(key, now)

    def got_further(self, key: int, now: float) -> None:
        """It is not silent."""
        if key in self._dialled:
            self._latest = self._on_the_way[key] = now
            self._on_the_way.move_to_end(key)
            self._most = max(self._most, len(self._on_the_way))

    def ended(self, key: int) -> None:
        """It came to its end before it was up."""
        self._forget(key)

    def began_anew(self, key: int) -> None:
        """It negotiates anew, on its way up."""
        if self._dialled.get(key, -1.0) >= self._changed_at:
            self._anew += 1

    def up(self, key: int, now: float) -> None:
        """It is up."""
        at = self._forget(key)
        if at is None:
            return
        took = now - at
        self._shortest = took if self._shortest is None else min(took, self._shortest)
        if at < self._changed_at:
            return
        if not self.cuts and self._used:
            self.window += 1.0
        self._quickest = took if self._quickest is None else min(took, self._quickest)
        self._judged += 1
        if self._judged >= ROUND:
            self._judge(now)

    def _begin_anew(self, now: float) -> None:
        """With what is not known yet."""
        self.window, self.cuts, self._changed_at = min(self.window, float(FIRST)), 0, now
        self._shortest = None
        self._end_round()

    def _end_round(self) -> None:
        self._quickest, self._judged, self._anew, self._most = None, 0, 0, len(self._on_the_way)

    @property
    def _used(self) -> bool:
        """Whether as many were on their way in this round as tell something of the number."""
        return 2 * self._most >= self.window

    def _forget(self, key: int) -> float | None:
        """When it was dialled, if it was on its way."""
        self._on_the_way.pop(key, None)
        return self._dialled.pop(key, None)

    def _judge(self, now: float) -> None:
        assert self._quickest is not None
        assert self._shortest is not None
        if self._quickest > TIMES * self._shortest + SLACK or self._anew > ANEW:
            if self.window <= LEAST:  # fewer at once are not quicker: it is as quick as it gets now
                self._shortest = self._quickest
            self.window = max(self.window / 2.0, float(LEAST))
            if not self.cuts:
                self._news = (
                    f"The concentrator or this host is slow: {self.window:.0f} sessions at once come up for now."
                )
            self.cuts += 1
            self._changed_at = now
        elif self.cuts and self._used:
            self.window += ROUND / self.window
        self._end_round()

    def news(self) -> str:
        """What an operator is to know of it, once, in a sentence; mostly empty."""
        news, self._news = self._news, ""
        return news

    def full_until(self, now: float, outstanding: int = 0) -> float | None:
        """When there may be room for one more if nothing happens until then, None if there is room now.

        So many are `outstanding`, with those that were up and negotiate anew.
        """
        if self.behind:
            return now + AGAIN if outstanding >= min(BUSY, self.window) else None
        while self._on_the_way and (first := next(iter(self._on_the_way.values()))) + SILENT <= now:
            self._on_the_way.popitem(last=False)
        return first + SILENT if len(self._on_the_way) >= self.window else None
