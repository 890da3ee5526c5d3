"""Several engines as one, for a console that looks at more than one at a time. Pure.

Each engine has a place, 0 … n-1. The session that is `own` there is `own * n + place` here: whatever keys the engines
give out none collide, and each tells its engine. All engines' events stand in one list, numbered here.

Hosts' clocks differ. Times here are by one clock, the first engine's, and those of an engine whose clock says something
else are put right. An engine's own snapshot is in its `Part`, with its own keys and times.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from itertools import chain, count
from operator import attrgetter, is_not
from pathlib import PurePath
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from engine.api.commands import (
    Add,
    Amend,
    Command,
    Dial,
    Edit,
    HangUp,
    Ping,
    Redial,
    Refused,
    Remove,
    Reply,
    ResetCounters,
    Rotate,
    ServiceCommand,
    StartCapture,
    StopCapture,
    Watch,
)
from engine.api.engine import EngineApi
from engine.api.messages import ClientView
from engine.api.values import (
    KEPT_EVENTS,
    AddressSpan,
    CardView,
    Details,
    Event,
    Halt,
    Hour,
    Ledger,
    SessionView,
    Snapshot,
    after,
)
from engine.settings.values import SessionSettings

AGREEING = 2.0
"""Seconds by which clocks may differ and still agree: not all snapshots are of the same moment."""
LEAP = 15.0
"""Seconds by which a time is too far off to be only late: an engine that says nothing for 10 s is lost."""


class PartView(SessionView, frozen=True):
    """A session of one of several engines."""

    engine: str = ""


class PartEvent(Event, frozen=True):
    """An event of one of several engines."""

    engine: str = ""


class Attached(Struct, frozen=True):
    """One of the engines."""

    name: str
    """What the operator knows it by, and none of the others."""
    api: EngineApi
    writes: Callable[[], bool] = lambda: True
    """Whether it takes commands from here."""


class Part(Struct, frozen=True):
    """One of the engines at the moment of a snapshot."""

    name: str
    snapshot: Snapshot
    """Its own, with its own keys and times."""
    at: float
    """Its moment by the common clock."""
    clients: tuple[ClientView, ...] = ()
    lost: str = ""
    """As `EngineApi.lost`."""
    writes: bool = True


class Combined(Snapshot, frozen=True):
    """All of them at one moment. Cards, their queues and traffic are in the parts alone."""

    parts: tuple[Part, ...] = ()
    """By their places."""

    @property
    def lost(self) -> frozenset[int]:
        """The places of those that can't be reached: what is known of them may be out of date."""
        return frozenset(place for place, part in enumerate(self.parts) if part.lost)


class _Seen(Struct):
    """What is known of one of them."""

    attached: Attached
    place: int
    number: int
    """How many there are in all."""
    seq: int = 0
    """Its number of the latest event that is in our list."""
    ahead: float | None = None
    """Seconds by which its clock is before the common one; None until it was looked at."""
    snapshot: Snapshot | None = None
    views: tuple[SessionView, ...] = ()
    """Of the snapshot's sessions."""

    def key(self, own: int) -> int:
        """What a session of its is called here."""
        return own * self.number + self.place

    def time(self, own: float) -> float:
        """One of its times by the common clock."""
        return own - self.ahead if self.ahead else own

    def take(self, snapshot: Snapshot) -> None:
        """Its next snapshot: views are made anew where it has made them anew."""
        known, sessions = self.snapshot.sessions if self.snapshot is not None else (), snapshot.sessions
        self.snapshot = snapshot
        if len(known) != len(sessions) or len(self.views) != len(sessions):
            made = {id(own): view for own, view in zip(known, self.views, strict=False)}
            self.views = tuple([made.get(id(own)) or self._view(own) for own in sessions])
        elif changed := [row for row, new in enumerate(map(is_not, known, sessions)) if new]:
            views = [*self.views]
            for row in changed:
                views[row] = self._view(sessions[row])
            self.views = tuple(views)

    def set_clock(self, at: float, now: float) -> None:
        """It says `at` while it is `now`. Views are made anew."""
        self.ahead = at - now if abs(at - now) > AGREEING else 0.0
        self.views = ()

    def _view(self, view: SessionView) -> PartView:
        values: tuple[Any, ...] = (self.key(view.id), *_VALUES(view), self.attached.name)
        made = PartView(*values)
        return _put_right(made, self.time, _TIMES) if self.ahead else made

    def event(self, event: Event, seq: int) -> PartEvent:
        """One of its events, with another number."""
        session = None if event.session is None else self.key(event.session)
        at = self.time(event.at)
        return PartEvent(
            seq, at, event.severity, event.kind, event.text, session, event.name, event.facts, self.attached.name
        )

    def details(self, own: int) -> Details | None:
        """See `EngineApi.details`."""
        details = self.attached.api.details(own)
        if details is None:
            return None
        if not self.ahead:
            return replace(details, id=self.key(own))
        return replace(
            details,
            id=self.key(own),
            ladder=tuple(replace(entry, at=self.time(entry.at)) for entry in details.ladder),
            timers=tuple((name, self.time(at)) for name, at in details.timers),
            ledger=_ledger(details.ledger, self.time),
        )


class Several:
    """Implements `EngineApi`; one thread reads it."""

    def __init__(self, engines: Sequence[Attached]) -> None:
        """More than one. The first one's clock counts."""
        self._engines = [_Seen(attached, place, len(engines)) for place, attached in enumerate(engines)]
        self._combined: Combined | None = None
        self._now: float | None = None
        self._events: deque[Event] = deque(maxlen=KEPT_EVENTS)
        self._last = 0
        """The number of the latest event."""

    # EngineApi

    @property
    def lost(self) -> str:
        """See `EngineApi.lost`: where none can be reached."""
        why = [each.attached.api.lost for each in self._engines]
        return why[0] if all(why) else ""

    @property
    def breaks(self) -> Sequence[int]:
        """See `EngineApi.breaks`."""
        return [number for each in self._engines for number in each.attached.api.breaks]

    @property
    def clients(self) -> Sequence[ClientView]:
        """See `EngineApi.clients`: of all."""
        return [client for each in self._engines for client in each.attached.api.clients]

    def snapshot(self) -> Combined:
        """See `EngineApi.snapshot`."""
        snapshots = [each.attached.api.snapshot() for each in self._engines]
        self._set_clocks(snapshots)
        for each, snapshot in zip(self._engines, snapshots, strict=True):
            each.take(snapshot)
        self._gather()
        self._combined = Combined(
            at=self._now or 0.0,
            card=CardView(f"{len(snapshots)} engines", "", 0, True),
            queues=tuple(queue for snapshot in snapshots for queue in snapshot.queues),
            sessions=tuple(chain.from_iterable(each.views for each in self._engines)),
            traffic=b"",
            events=self._last,
            halted=max((each.halted for each in snapshots), key=lambda halted: [*Halt].index(halted.what)),
            parts=tuple(map(_part, self._engines)),
        )
        return self._combined

    def events_since(self, seq: int) -> tuple[Sequence[Event], int]:
        """See `EngineApi.events_since`."""
        self._gather()
        return after(self._events, seq)

    def details(self, session: int) -> Details | None:
        """See `EngineApi.details`."""
        own, each = self._of(session)
        return each.details(own)

    def settings(self, session: int) -> SessionSettings | None:
        """See `EngineApi.settings`."""
        own, each = self._of(session)
        return each.attached.api.settings(own)

    def all_settings(self) -> Mapping[int, SessionSettings]:
        """See `EngineApi.all_settings`."""
        return {
            each.key(own): settings
            for each in self._engines
            for own, settings in each.attached.api.all_settings().items()
        }

    def ledgers(self, sessions: Sequence[int] | None = None) -> Mapping[int, Ledger]:
        """See `EngineApi.ledgers`."""
        found: dict[int, Ledger] = {}
        for each in self._engines:
            own = [key // each.number for key in sessions if key % each.number == each.place] if sessions else sessions
            if own or sessions is None:
                told = each.attached.api.ledgers(own)
                found |= {each.key(key): _ledger(ledger, each.time) for key, ledger in told.items()}
        return found

    def hours(self) -> Mapping[int, Hour]:
        """Nothing: queues of several engines have the same numbers."""
        return {}

    def submit(self, command: Command | ServiceCommand, place: int | None = None) -> Future[Reply]:
        """See `EngineApi.submit`: each engine has its share, and when all have replied their replies are one.

        What is about no session is for the engine at a place, or for all; a new session must have one.
        """
        shares = [*self._shares(command, place)]
        answers: dict[int, Reply] = {}
        whole: Future[Reply] = Future()
        whole.set_running_or_notify_cancel()
        arrivals = count(1)  # replies come in several threads; this counts in one step

        def answered(each: _Seen, future: Future[Reply]) -> None:
            answers[each.place] = future.result()
            if next(arrivals) == len(shares):
                whole.set_result(_joined([(each, share, answers[each.place]) for each, share in shares]))

        for each, share in shares:
            each.attached.api.submit(share).add_done_callback(partial(answered, each))
        if not shares:
            why = (Refused(None, "Say on which engine."),) if isinstance(command, Add) else ()
            whole.set_result(Reply(0, refused=why))
        return whole

    # Who is meant

    def _of(self, session: int) -> tuple[int, _Seen]:
        own, place = divmod(session, len(self._engines))
        return own, self._engines[place]

    def _shares(
        self, command: Command | ServiceCommand, place: int | None
    ) -> Iterator[tuple[_Seen, Command | ServiceCommand]]:
        """Which engine is asked for what."""
        match command:
            case Edit() | Watch():
                own, each = self._of(command.key)
                yield each, replace(command, key=own)
            case StartCapture():
                asked = self._divided(command.keys)
                for each, keys in asked:
                    path = command.path if len(asked) == 1 else file_of(command.path, each.attached.name)
                    yield each, StartCapture(keys, path)
            case (
                Dial() | HangUp() | Redial() | Rotate() | Amend() | Remove() | Ping() | ResetCounters() | StopCapture()
            ):
                for each, keys in self._divided(command.keys):
                    yield each, replace(command, keys=keys)
            case _ if place is not None:
                yield self._engines[place], command
            case Add():
                return
            case _:
                yield from ((each, command) for each in self._engines)

    def _divided(self, keys: Iterable[int]) -> list[tuple[_Seen, tuple[int, ...]]]:
        """Whose sessions these are, and what they are called there."""
        own: dict[int, list[int]] = {}
        for key in keys:
            own.setdefault(key % len(self._engines), []).append(key // len(self._engines))
        return [(self._engines[place], tuple(own[place])) for place in sorted(own)]

    # What is seen

    def _set_clocks(self, snapshots: Sequence[Snapshot]) -> None:
        """Go on with the common clock, and see to those engines whose clocks say something else now."""
        fresh = [
            (each, snapshot.at)
            for each, snapshot in zip(self._engines, snapshots, strict=True)
            if each.snapshot is None or each.snapshot.at != snapshot.at
        ]
        if self._now is None:
            self._now = snapshots[0].at
        times = [each.time(at) for each, at in fresh if each.ahead is not None]
        # Of several that went on, one that leapt is wrong; where all did, we were held up. None goes back.
        evenly = [time for time in times if abs(time - self._now) < LEAP]
        self._now = max([self._now, *(evenly or times)])
        for each, at in fresh:
            if each.ahead is None or abs(each.time(at) - self._now) > LEAP:
                each.set_clock(at, self._now)

    def _gather(self) -> None:
        """Take the engines' new events, in the order in which they happened."""
        new: list[tuple[_Seen, Event]] = []
        for each in self._engines:
            if each.attached.api.snapshot().events > each.seq:
                events, lost = each.attached.api.events_since(each.seq)
                self._last += lost
                new += ((each, event) for event in events)
                each.seq = events[-1].seq if events else each.seq
        for each, event in sorted(new, key=lambda pair: pair[0].time(pair[1].at)):
            self._last += 1
            self._events.append(each.event(event, self._last))


def file_of(path: str, engine: str) -> str:
    """Where one of several engines writes what all are to write to a path: two may be on one host."""
    whole = PurePath(path)
    word = "".join(letter if letter.isalnum() or letter in ".-_" else "-" for letter in engine)
    return str(whole.with_name(f"{whole.stem}-{word}{whole.suffix}"))


def _part(each: _Seen) -> Part:
    assert each.snapshot is not None
    api, at = each.attached.api, each.time(each.snapshot.at)
    return Part(each.attached.name, each.snapshot, at, tuple(api.clients), api.lost, each.attached.writes())


def _joined(answers: Iterable[tuple[_Seen, Command | ServiceCommand, Reply]]) -> Reply:
    """The replies of several engines to their shares as one; what is about no session says which engine it is about."""
    done: list[int] = []
    refused: list[Refused] = []
    remarks: list[str] = []
    ghosts = 0
    for each, share, reply in answers:
        name = each.attached.name
        done += map(each.key, reply.done)
        ghosts += reply.ghosts
        remarks += (f"{name}: {remark}" for remark in reply.remarks)
        for no in reply.refused:
            if no.key is not None:
                refused.append(Refused(each.key(no.key), no.reason))
            else:
                refused += (Refused(key, f"{name}: {no.reason}") for key in _about(each, share))
    return Reply(0, tuple(done), tuple(refused), ghosts, tuple(remarks))


def _about(each: _Seen, share: Command | ServiceCommand) -> Sequence[int | None]:
    """The sessions that a refusal of all is about; None where it is about none."""
    if isinstance(share, Edit | Watch):
        return [each.key(share.key)]
    return [each.key(own) for own in getattr(share, "keys", ())] or [None]


def _put_right(view: PartView, time: Callable[[float], float], names: Iterable[str]) -> PartView:
    told = {name: getattr(view, name) for name in names}
    changes: dict[str, float] = {name: time(at) for name, at in told.items() if at is not None}
    return replace(view, **changes)


_VALUES = attrgetter(*(name for name in SessionView.__struct_fields__ if name != "id"))
"""All of a view but its key, which stands first."""


def _ledger(ledger: Ledger, time: Callable[[float], float]) -> Ledger:
    """The same by the common clock."""
    return replace(ledger, addresses=tuple(_span(span, time) for span in ledger.addresses))


def _span(span: AddressSpan, time: Callable[[float], float]) -> AddressSpan:
    return replace(span, since=time(span.since), until=time(span.until) if span.until is not None else None)


_TIMES = ("since", "retry_at", "up_since", "silent_since", "counted_since")
