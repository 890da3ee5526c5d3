"""Sessions that are dialled for another address: whose turn it is, how long it drains, what becomes of it.

Who asks is the operator, the schedule (`rotate: {every: …}`) or a health check that fails. A session keeps an address
for `min_interval` at least, waits while `at_once` others are without theirs, and lets its connections drain before it
gives the address back. What it gets then is judged by `engine.sessions.rotation`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from ipaddress import IPv4Network
from itertools import islice

from msgspec import Struct, field

from engine.api.ending import End, EndKind
from engine.api.plural import plural
from engine.api.values import Halt, SessionState, Severity
from engine.ppp.link_events import Ipv4Opened
from engine.sessions import rotation
from engine.sessions.alarms import Alarms
from engine.sessions.fleet import SHARE, Fleet, Member
from engine.sessions.rotation import Rotation, Verdict
from engine.sessions.session import Ended, StateChanged
from engine.settings.values import RotateSettings
from engine.supervisor.reporting import Reporter

HELD = 300.0
"""Seconds after which a session that has come to no address by then no longer keeps others from their turn."""
HALTED = 30.0
"""Seconds after which a schedule tries again where redials are stopped."""
ASKED, SCHEDULE, HEALTH = "as you asked", "as its schedule says", "as its health check fails"
"""Why a session is to have another address, as the end of a sentence."""


class _Turn(Struct):
    """Where a session stands."""

    rotation: Rotation = field(default_factory=Rotation)
    due: float | None = None
    """When its schedule wants another address."""
    wish: str = ""
    """Why it wants one now, while it has to wait for that."""
    drained_at: float | None = None
    """When its connections have had their time."""
    held_until: float | None = None
    """While it is without its address, or about to be: until when others wait for that."""


class Rotating:
    """All sessions of one card, without I/O."""

    def __init__(
        self,
        fleet: Fleet,
        reporter: Reporter,
        chance: Callable[[], float],
        unwanted: Sequence[IPv4Network],
        changed: Callable[[int], None],
    ) -> None:
        """`chance` gives a number from 0 to 1; `changed` takes a session that begins to drain, or has drained."""
        self._fleet = fleet
        self._changed = changed
        self._reporter = reporter
        self._chance = chance
        self._unwanted = unwanted
        self._turns: dict[int, _Turn] = {}
        self._alarms = Alarms(self._next)
        self._waiting: OrderedDict[int, None] = OrderedDict()
        """Those that wait while others are without their address, in the order in which they asked."""
        self._changing: set[int] = set()
        """Those that are."""

    # What is asked

    def objection(self, key: int, now: float) -> str:
        """Why a session can't be dialled for another address now, a sentence or two; mostly empty."""
        member = self._fleet.members[key]
        wait = self._too_early(member, now)
        if member.session.state is not SessionState.UP or wait <= 0 or self.is_draining(key):
            return ""
        return (
            f"Its `rotate: {{min_interval: …}}` has it keep its address for {wait:.0f} s more. Redial it, to do so now."
        )

    def ask(self, key: int, now: float) -> None:
        """The operator wants another address; asked again while it drains, at once."""
        turn = self._turn(key)
        if turn.drained_at is not None:
            self._redial(key, turn, now)
        else:
            self._wish(key, turn, ASKED, now)

    def wish(self, key: int, why: str, now: float) -> None:
        """Another address is wanted as soon as the session's limits let it."""
        if key in self._fleet.members:
            self._wish(key, self._turn(key), why, now)

    def is_well(self, key: int) -> None:
        """Its health check no longer fails: what was wished for that, and has not begun, no longer is."""
        turn = self._turns.get(key)
        if turn is not None and turn.wish == HEALTH:
            turn.wish = ""
            self._waiting.pop(key, None)
            self._alarms.arm(key)

    def is_draining(self, key: int) -> bool:
        """Whether it is up and will soon be dialled for another address."""
        turn = self._turns.get(key)
        return turn is not None and turn.drained_at is not None

    def timers(self, key: int) -> list[tuple[str, float]]:
        """What is planned for a session, for who looks at it: what, and when."""
        turn = self._turns.get(key)
        planned = (("drained", turn.drained_at), ("next rotation", turn.due)) if turn is not None else ()
        return [(name, at) for name, at in planned if at is not None]

    def reschedule(self, key: int, now: float) -> None:
        """Its settings have changed."""
        member, turn = self._fleet.members[key], self._turn(key)
        if member.session.state is SessionState.UP:
            self._schedule(member, turn, now)
            self._alarms.arm(key)

    # What happens

    def follow(self, key: int, member: Member, event: StateChanged | Ended, now: float) -> None:
        """A session is in another state, or at its end."""
        is_up = isinstance(event, StateChanged) and event.state is SessionState.UP
        if not is_up and key not in self._turns:
            return
        turn = self._turn(key)
        if not is_up:
            self._cancel(key, turn)
        if not member.wanted:
            self._settled(key, turn)
        elif is_up:
            self._schedule(member, turn, now)
            if turn.rotation.leaving is None:
                self._settled(key, turn)
        self._alarms.arm(key)

    def keeps(self, key: int, event: Ipv4Opened, now: float) -> bool:
        """Whether a session keeps the address that it was given; if not, its end has begun."""
        turn = self._turn(key)
        judgement = rotation.judge(event.agreed.address, turn.rotation, self._unwanted)
        turn.rotation = judgement.rotation
        match judgement.verdict:
            case Verdict.HOPELESS:
                self._reporter.tell(Severity.ERROR, "unwanted-address", judgement.text, key)
                self._fleet.hang_up(key, now)
            case Verdict.UNWANTED:
                self._fleet.end(key, End(EndKind.UNWANTED_ADDRESS, judgement.text), now)
            case Verdict.SAME:
                self._fleet.redial(key, now, End(EndKind.HUNG_UP, judgement.text))
            case Verdict.KEEP:
                if judgement.exchanged is not None:
                    severity = Severity.INFO if judgement.exchanged else Severity.WARNING
                    self._reporter.tell(severity, "rotated", judgement.text, key)
                self._settled(key, turn)
                self._alarms.arm(key)
        return judgement.verdict is Verdict.KEEP

    def forget(self, key: int) -> None:
        """A session is gone."""
        turn = self._turns.pop(key, None)
        if turn is not None:
            self._waiting.pop(key, None)
            self._changing.discard(key)
        self._alarms.arm(key)

    def next_timer(self) -> float | None:
        """When `handle_timer` is to be called, None for not at all."""
        return self._reporter.now if self._may_begin() is not None else self._alarms.next()

    def handle_timer(self, now: float) -> None:
        """Do what is due by now, for SHARE sessions at most; calling it early does nothing."""
        for key in islice(self._alarms.expired(now), SHARE):
            turn = self._turns[key]
            if turn.held_until is not None and turn.held_until <= now:
                turn.held_until = None
                self._changing.discard(key)
            if turn.drained_at is not None and turn.drained_at <= now:
                self._redial(key, turn, now)
            elif turn.due is not None and turn.due <= now:
                turn.due = None
                self._wish(key, turn, SCHEDULE, now)
            elif turn.wish and key not in self._waiting:
                self._wish(key, turn, turn.wish, now)
            self._alarms.arm(key)
        for _ in range(SHARE):
            key_first = self._may_begin()
            if key_first is None:
                break
            self._begin(key_first, self._turns[key_first], now)

    # Steps

    def _turn(self, key: int) -> _Turn:
        return self._turns.setdefault(key, _Turn())

    def _settings(self, member: Member) -> RotateSettings:
        """As they were changed last: they are no matter of the next dial."""
        return member.session.next_settings.rotate

    def _too_early(self, member: Member, now: float) -> float:
        """For how many seconds a session has to keep its address."""
        since = member.up_since if member.up_since is not None else now
        return since + self._settings(member).min_interval - now

    def _schedule(self, member: Member, turn: _Turn, now: float) -> None:
        settings = self._settings(member)
        since = member.up_since if member.up_since is not None else now
        later = settings.spread * self._chance() if settings.every and settings.spread else 0.0
        turn.due = since + settings.every + later if settings.every else None

    def _wish(self, key: int, turn: _Turn, why: str, now: float) -> None:
        """Begin, or wait for what has to be waited for. A session without an address is just dialled."""
        member = self._fleet.members[key]
        if member.session.state is not SessionState.UP:
            if why == ASKED:
                turn.rotation = Rotation()
                self._fleet.redial(key, now, End(EndKind.HUNG_UP, "Hung up for another address."))
            return
        if turn.drained_at is not None:
            return
        if why != ASKED and self._fleet.halt is not Halt.NOTHING:
            turn.due = now + HALTED if why == SCHEDULE else turn.due
            self._alarms.arm(key)
            return
        turn.wish = why
        if self._too_early(member, now) <= 0:
            self._waiting[key] = None
            if self._has_room(key):
                self._begin(key, turn, now)
            elif why == ASKED:
                text = f"Waits for its turn: {plural(len(self._changing), 'session')} changing the address."
                self._reporter.tell(Severity.INFO, "waiting", text, key)
        self._alarms.arm(key)

    def _has_room(self, key: int) -> bool:
        bound = self._settings(self._fleet.members[key]).at_once
        return not bound or len(self._changing) < bound

    def _may_begin(self) -> int | None:
        """The first of those that wait, if it may begin."""
        first = next(iter(self._waiting), None)
        return first if first is not None and self._has_room(first) else None

    def _begin(self, key: int, turn: _Turn, now: float) -> None:
        member = self._fleet.members[key]
        drain, why = member.session.next_settings.drain, turn.wish
        self._waiting.pop(key, None)
        turn.wish, turn.due = "", None
        ipv4 = member.session.ipv4
        turn.rotation = Rotation(leaving=ipv4.address if ipv4 is not None else None)
        turn.held_until = now + drain + HELD
        self._changing.add(key)
        if drain:
            turn.drained_at = now + drain
            text = f"Draining for {drain:.0f} s, then dialled for another address, {why}."
            self._reporter.tell(Severity.INFO, "draining", text, key)
            self._changed(key)
            self._alarms.arm(key)
        else:
            self._redial(key, turn, now, why)

    def _redial(self, key: int, turn: _Turn, now: float, why: str = ASKED) -> None:
        turn.drained_at = None
        self._changed(key)
        self._alarms.arm(key)
        said = "" if why == ASKED else f", {why}"
        self._fleet.redial(key, now, End(EndKind.HUNG_UP, f"Hung up for another address{said}."))

    def _cancel(self, key: int, turn: _Turn) -> None:
        """What was planned while it had its address."""
        turn.wish, turn.due, turn.drained_at = "", None, None
        self._waiting.pop(key, None)

    def _settled(self, key: int, turn: _Turn) -> None:
        """It has an address to keep, or is to have none: others may have their turn."""
        turn.rotation = Rotation(given_back=turn.rotation.given_back)
        turn.held_until = None
        self._changing.discard(key)

    def _next(self, key: int) -> float | None:
        turn = self._turns.get(key)
        if turn is None:
            return None
        times = [turn.due, turn.drained_at, turn.held_until]
        member = self._fleet.members.get(key)
        if turn.wish and key not in self._waiting and member is not None:
            times.append((member.up_since or 0.0) + self._settings(member).min_interval)
        return min([at for at in times if at is not None], default=None)
