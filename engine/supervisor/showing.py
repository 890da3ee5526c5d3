"""What others see of the sessions: views on the board, made anew where something changed, and details on request."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import islice

from msgspec.structs import replace

from engine.api.values import Hour, Ledger, SessionState, SessionView
from engine.egress.protocol import Egress
from engine.sessions.fleet import SHARE, Fleet, Member
from engine.sessions.states import ON_THE_WAY
from engine.settings.values import SessionSettings
from engine.supervisor import views
from engine.supervisor.board import Board
from engine.supervisor.counting import Counting
from engine.supervisor.handed import Captures, Proxied
from engine.supervisor.reporting import Reporter
from engine.supervisor.rotating import Rotating
from engine.supervisor.watched import Watched

NOT_PROXIED = Proxied()
SOON = 0.25
"""Seconds until what a session goes through shows: nobody can read a dozen steps in a moment, and each view has its
price. Whatever happens to one that is up shows at once."""
LATER = 1.0
"""The same while all sessions end: most of them have by then, and one view will do for each."""
Usage = Callable[[SessionView], tuple[tuple[str, str], ...]]
"""What an open session is good for: what for, and the command line for it."""

MarkOf = Callable[[int, SessionSettings], int | None]


class Showing:
    """The board's only writer."""

    def __init__(
        self,
        board: Board,
        fleet: Fleet,
        egress: Egress,
        captures: Captures,
        usage: Usage,
        reporter: Reporter,
        rotating: Rotating,
        mark_of: MarkOf,
        ledger: Callable[[int], Ledger],
        hour: Callable[[int], Hour],
        counting: Counting,
    ) -> None:
        """`mark_of` tells a session's mark by its key and settings, if it has one."""
        self._board = board
        self._fleet = fleet
        self._egress = egress
        self._captures = captures
        self._usage = usage
        self._reporter = reporter
        self._rotating = rotating
        self.mark_of = mark_of
        self.proxied: dict[int, Proxied] = {}
        """What goes through sessions' proxies, by key; of those that have one."""
        self._ledger, self._hour = ledger, hour
        self._counting = counting
        self._watched = Watched()
        self._dirty: set[int] = set()
        """Sessions whose view may be out of date."""
        self._answered: set[int] = set()
        """Sessions of whose view only the time that an echo took is out of date."""
        self._soon: dict[int, float] = {}
        """When those are to be looked at that can wait, the earliest first."""
        self._parting = False
        """Whether all can: each is about to end, and most of them have by the time that they are looked at."""

    def follow(self, key: int) -> None:
        """Something happened to a session: what is a step on its way up shows soon, all else at once."""
        member, view = self._fleet.members.get(key), self._board.view(key)
        on_the_way = member is not None and member.session.state in ON_THE_WAY
        if self._parting:
            self._soon.setdefault(key, self._reporter.now + LATER)
        elif on_the_way and view is not None and view.state is not SessionState.UP:
            self._soon.setdefault(key, self._reporter.now + SOON)
        else:
            self._dirty.add(key)

    def answered(self, key: int) -> None:
        """An echo was answered: of a session that is up and was not silent nothing else shows."""
        self._answered.add(key)

    def mark(self, *keys: int) -> None:
        """Something that the views of these sessions show may have changed."""
        if not self._parting:
            self._dirty.update(keys)

    def part(self) -> None:
        """All sessions are about to end: what becomes of each shows soon, and `catch_up` is called when all have."""
        self._parting = True

    def catch_up(self) -> bool:
        """See that what was to show soon is made anew with the next `settle`, SHARE at most; whether there is more."""
        share = [*islice(self._soon, SHARE)]
        self._dirty.update(share)
        return len(self._soon) > len(share)

    def add(self, key: int, member: Member) -> None:
        """A session is there."""
        self._board.settings[key] = member.session.next_settings
        self._board.add(self._view(key, member))

    def edit(self, key: int, member: Member) -> None:
        """A session has other settings."""
        self._board.settings[key] = member.session.next_settings
        self.mark(key)

    def remove(self, key: int) -> None:
        """A session is gone."""
        self._watched.forget(key)
        self._dirty.discard(key)
        self._soon.pop(key, None)
        self.proxied.pop(key, None)
        self._board.remove(key)

    def note_proxied(self, found: Mapping[int, Proxied]) -> set[int]:
        """What goes through sessions' proxies now; returns those whose details are to be made anew."""
        there = {key: proxied for key, proxied in found.items() if key in self._fleet.members}
        self.proxied |= there
        self.mark(*there)
        return self.watched & there.keys()

    @property
    def watched(self) -> set[int]:
        """Sessions whose details somebody looks at."""
        return self._watched.keys

    def watch(self, key: int) -> None:
        """Make a session's details now, and keep them fresh for a while."""
        self._watched.add(key, self._reporter.now)
        self._show_details(key)

    def next_timer(self) -> float | None:
        """When `handle_timer` is to be called, None for not at all."""
        timers = (self._watched.next_timer(), next(iter(self._soon.values()), None))
        return min([at for at in timers if at is not None], default=None)

    def handle_timer(self, now: float) -> list[int]:
        """Forget the details that nobody looks at any more; returns those that are to be made anew.

        Views are with the next `settle`, SHARE at most: as long as others wait, `next_timer` is in the past.
        """
        self._dirty.update(key for key, at in islice(self._soon.items(), SHARE) if at <= now)
        for key in self._watched.gone(now):
            self._board.details.pop(key, None)
        return self._watched.due(now)

    def settle(self, look_at: Iterable[int] = ()) -> set[int]:
        """Make views anew where something changed, and the details of these and of who is watched among those.

        Returns those whose views were made.
        """
        dirty, self._dirty = self._dirty | self._fleet.newly_queued, set()
        self._fleet.newly_queued.clear()
        answered, self._answered = self._answered - dirty, set()
        for key in dirty:
            self._soon.pop(key, None)
            self._reporter.attempt(self._show, key)
        for key in answered:
            self._reporter.attempt(self._show_answered, key)
        for key in {*look_at, *((dirty | answered) & self._watched.keys)}:
            self._reporter.attempt(self._show_details, key)
        return dirty

    def _view(self, key: int, member: Member) -> SessionView:
        return views.session_view(
            key,
            member,
            self._reporter.wall,
            self._egress.device(key),
            self._egress.path(key),
            key in self._captures,
            self._rotating.is_draining(key),
            self._fleet.is_queued(key),
            self._egress.netns(key),
            self.mark_of(key, member.session.next_settings),
            self.proxied.get(key, NOT_PROXIED),
            self._counting.offsets(key),
            self._counting.since(key),
            self._board.next_version,
        )

    def _show(self, key: int) -> None:
        member = self._fleet.members.get(key)
        if member is not None:
            self._board.update(self._view(key, member))

    def _show_answered(self, key: int) -> None:
        """All of a view made anew takes fifty times as long, and each session has an echo every few seconds."""
        member, view = self._fleet.members.get(key), self._board.view(key)
        if member is not None and view is not None and view.state is SessionState.UP:
            took = views.rtt_ms(member.session)
            if took != view.rtt_ms:
                self._board.renew(replace(view, rtt_ms=took, version=self._board.next_version))

    def _show_details(self, key: int) -> None:
        member, view = self._fleet.members.get(key), self._board.view(key)
        if member is not None and view is not None:
            usage, strays = self._usage(view), self._egress.strays(key)
            now, wall = self._reporter.now, self._reporter.wall
            planned, proxied = self._rotating.timers(key), self.proxied.get(key, NOT_PROXIED)
            ledger = self._ledger(key)
            made = views.details(key, member, now, wall, usage, strays, proxied, planned, ledger)
            self._board.details[key] = replace(made, hour=self._hour(key))
