"""All sessions of one card: who is told what when. Without I/O, so that a test can run it whole in virtual time.

    supervisor.open(now)                     take the card, add the sessions, dial those that are to be up
    supervisor.receive(frames, now)          control frames from the card
    supervisor.run(work, now)                what an operator asks for, see `engine.supervisor.dispatch`
    supervisor.look_at_card(now)             something happened to the card, or it is time to look
    supervisor.note_traffic(received, now)   packets received, by key: signs of life
    supervisor.next_timer(), handle_timer(now)
    supervisor.frames_to_send()              to be put on the line, after each of the above

It drives the fleet, and carries what comes of it to what it was handed: events first (the journal of open sessions must
be on disk before LCP's first packet), then egresses, then views for the board and, when these show it, the event log;
frames are the last.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from ipaddress import IPv4Network
from types import MappingProxyType

from msgspec import Struct, field
from msgspec.structs import replace

from engine.api.ending import End, EndKind
from engine.api.plural import plural
from engine.api.values import Halt, Halted, Ledger, Severity, Totals
from engine.egress.protocol import Egress, Happening
from engine.host.errors import Trouble
from engine.ppp.link_events import Ipv4Opened, RoundTrip
from engine.record.counters import Account
from engine.record.history import History
from engine.record.narrate import facts, tell
from engine.sessions.fleet import Fleet
from engine.sessions.proofs import Proofs
from engine.sessions.session import Ended, PppoeOpened, Session, SessionEvent, StateChanged
from engine.sessions.settled import KeptMember
from engine.sessions.states import IDLE, SETTING_UP
from engine.settings.limits import MAX_SESSIONS
from engine.settings.values import Marks, SessionSettings, Settings
from engine.supervisor.alike import Alike
from engine.supervisor.board import Board
from engine.supervisor.card_duties import CardDuties
from engine.supervisor.card_watch import CardNews, CardWatch
from engine.supervisor.counting import Counting, Traffic
from engine.supervisor.egress_steps import Had, follow, heed, prepare
from engine.supervisor.fitting import Fitting
from engine.supervisor.handed import Captures, Journal, Line, NoJournal, Proxied
from engine.supervisor.health import Health
from engine.supervisor.hooks import HookResult, HookRunner, Hooks, NoHooks
from engine.supervisor.indistinct import Asker, indistinct
from engine.supervisor.inherited import Inherited
from engine.supervisor.large_frames import LARGE
from engine.supervisor.lately import Lately, Queues
from engine.supervisor.parting import Parting
from engine.supervisor.reporting import Reporter
from engine.supervisor.resolving import Resolving
from engine.supervisor.rotating import Rotating
from engine.supervisor.shares import Action, Shares
from engine.supervisor.showing import Showing, Usage
from engine.supervisor.tally import Tally
from engine.supervisor.undoing import Undoing
from engine.supervisor.views import addresses_of
from engine.wire.place import Place

NOTHING: Mapping[str, Account] = MappingProxyType({})
NOTHING_HALTED = Halted()
PROGRAM_ENDS = End(EndKind.PROGRAM_ENDS, "Hung up: the program ends.")


class Record(Struct):
    """What the supervisor itself knows of a session."""

    place: Place | None = None
    """That of the open session, as noted in the journal."""
    had: Had = field(default_factory=Had)


class Supervisor:
    """Decides; never waits, reads no clock, opens nothing."""

    def __init__(
        self,
        settings: Settings,
        watch: CardWatch,
        line: Line,
        egress: Egress,
        captures: Captures,
        journal: Journal | None,
        *,
        entropy: Callable[[int], bytes],
        chance: Callable[[], float],
        wall_offset: float,
        usage: Usage,
        proofs: Proofs | None = None,
        hooks: HookRunner | None = None,
        history: History | None = None,
        traffic: Traffic = tuple,
        queues: Queues = tuple,
        accounts: Mapping[str, Account] = NOTHING,
        secret: bytes = b"",
    ) -> None:
        """`entropy` gives so many random octets, `chance` a number from 0 to 1; `wall_offset` makes Unix time of `now`.

        `proofs` is what earlier runs knew of concentrators' authentication; `hooks` runs programs of the operator's,
        `history` is which addresses sessions had in earlier runs, and `accounts` what they had carried; `traffic` gives
        what the data path has counted, as in `Snapshot.traffic`, and `queues` as in `Snapshot.queues`; `secret` is this
        host's, see `Session`.
        """
        self.board = Board()
        self.fleet = Fleet(settings.dial, chance, egress.obstacle, egress.way_to, proofs, egress.claim)
        self.card = watch
        self.captures = captures
        self.records: dict[int, Record] = {}
        self._inherited: Inherited | None = None
        """What another process had up, until all of it goes on that can."""
        self.leaving: set[int] = set()
        """Sessions that are to be removed and wait for that: nobody can name them any more."""
        self._settings = settings
        self._line = line
        self._egress = egress
        self.pings: dict[int, str] = {}
        """Whom to ask for an echo, by session; whoever does so takes them out."""
        self._entropy = entropy
        self._secret = secret
        self._tally = Tally()
        self._alike = Alike()
        self.history = history if history is not None else History()
        self.halted = Halted()
        """What the operator has stopped for all sessions."""
        self._indistinct: dict[Asker, str] = {}
        """What was told of sessions that can't be told apart."""
        self._heard = False
        """Whether a control frame ever came."""
        self._unfollowed: dict[int, None] = {}
        """Sessions whose egress may have to be told of other addresses."""
        self._received: Sequence[int] = ()
        """Packets received, by key, as last seen."""
        self._reporter = Reporter(self.fleet, wall_offset)
        self.log, self.tell, self.wall = self._reporter.log, self._reporter.tell, self._reporter.wall
        unwanted = tuple(IPv4Network(network) for network in settings.unwanted_networks)
        self.rotating = Rotating(self.fleet, self._reporter, chance, unwanted, self._mark)
        self.counting = Counting(traffic, accounts, self._reporter)
        self.lately = Lately(traffic, queues, self._reporter)
        self._showing = Showing(
            self.board,
            self.fleet,
            egress,
            captures,
            usage,
            self._reporter,
            self.rotating,
            self.mark_of,
            self.ledger,
            self.lately.of,
            self.counting,
        )
        self.health = Health(self.rotating, self._reporter)
        self.hooks = Hooks(hooks or NoHooks(), self._reporter)
        self.resolving = Resolving()
        self.undoing = Undoing(self.fleet, self.board)
        self._shares = Shares(self.fleet, self._showing, self._reporter)
        self._parting = Parting(journal or NoJournal(), watch, line, self._reporter, self.fleet.note_padt)
        self._fitting = Fitting(watch, line, egress, self._showing, self._reporter)
        self._duties = CardDuties(
            settings,
            watch,
            line,
            self.fleet,
            self._fitting,
            self._parting,
            self._shares,
            self._showing,
            self._reporter,
        )

    # Life

    def open(self, now: float, kept: Sequence[KeptMember] = (), halted: Halted = NOTHING_HALTED) -> None:
        """Take the card and begin to dial; go on with the sessions that another process has `kept`. Raises Trouble.

        What was `halted` there still is.
        """
        self._reporter.now = now
        self.halted, self.fleet.halt = halted, halted.what
        for news in self.card.open(now):
            self._duties.act(news)
        for remark in self._settings.remarks:
            self.tell(Severity.WARNING, "configuration", remark)
        self._inherited = Inherited(kept, MAX_SESSIONS)
        self.board.keys = self._inherited.keys
        for settings in self._settings.sessions:
            try:
                self._add(settings, self._inherited.key(settings.name))
            except Trouble as error:
                self.tell(Severity.ERROR, "session", str(error))
        self._warn_of_indistinct()
        self.counting.ready()
        marks = {self.mark_of(key, member.session.next_settings) for key, member in self.fleet} - {None}
        self._reporter.attempt(self._egress.hold_marks, marks, kind="mark")
        self._shares.each(self._resume, [*self.fleet.members] if kept or marks else ())
        self._settle()
        self._begin()

    def _resume(self, key: int, now: float) -> None:
        """Let a session have its mark, and go on with one that another process had up."""
        self._set_mark(key, self.fleet.members[key].session.next_settings)
        inherited, member = self._inherited, self.fleet.members[key]
        kept = inherited.member(member.session.settings.name) if inherited is not None else None
        if inherited is not None and kept is not None:
            goes_on = self.fleet.resume(key, kept, now)
            inherited.gone_on += goes_on
            if goes_on:
                self.hooks.assume(key)

    def _begin(self) -> None:
        """Once all that could go on does: what is left is a ghost, what is not up is dialled."""
        inherited = self._inherited
        if inherited is None or self._shares.waiting:
            return
        self._inherited = None
        if inherited.told:
            is_all = inherited.gone_on == inherited.up
            self.tell(Severity.INFO if is_all else Severity.WARNING, "taken-over", inherited.told)
        self._egress.disinherit()
        self._parting.clear_ghosts()
        self._shares.each(self.fleet.dial_again, [key for key, member in self.fleet if inherited.dials(member)])
        self._settle()

    def part(self, now: float) -> None:
        """End at once what is not up, and dial nobody: another process is to go on with the rest."""
        self._reporter.now = now
        self._shares.finish()
        self._settle()
        self.fleet.hold(line=True)
        for key, member in [*self.fleet]:
            if member.session.settled is None and member.session.state not in IDLE:
                self._reporter.attempt(self.fleet.stop, key, End(EndKind.PROGRAM_ENDS, "Hung up: not up yet."), now)
        self._settle()

    def say_goodbye(self, now: float) -> None:
        """Terminate-Request, then PADT, for every session; `idle` tells when all have answered."""
        self._reporter.now = now
        self._parting.look_at_end()
        self._showing.part()
        self._shares.each(partial(self.fleet.hang_up, end=PROGRAM_ENDS), [*self.fleet.members])
        self._settle()

    def leave(self, now: float) -> None:
        """Nobody is waited for any more: what hasn't ended yet gets its PADT alone, until nobody is `left`."""
        self._reporter.now = now
        self._shares.drop()
        left = [key for key, member in self.fleet if member.wanted or member.session.state not in IDLE]
        self._shares.each(lambda key, at: self.fleet.stop(key, PROGRAM_ENDS, at), left)
        self._settle()

    @property
    def left(self) -> bool:
        """Whether anything that was asked for is still to be done to a session."""
        return self._shares.waiting

    @property
    def idle(self) -> bool:
        """Whether nothing more will be sent for any session."""
        return not self.left and self.fleet.idle

    @property
    def parted(self) -> bool:
        """Whether no PADT is on its way any more."""
        return self._parting.done

    def catch_up(self, now: float) -> bool:
        """Show of some sessions what has become of them, when all have ended; whether there are others."""
        self._reporter.now = now
        more = self._showing.catch_up()
        self._reporter.handle_timer(math.inf)
        self._settle()
        return more

    @property
    def all_taken(self) -> int | None:
        """See `Parting.all_taken`."""
        return self._parting.all_taken

    def judge(self, taken: int, carrier: int | None, now: float) -> None:
        """See `Parting.judge`."""
        self._reporter.now = now
        self._reporter.attempt(self._parting.judge, taken, carrier)

    # What happens

    def receive(self, frames: Iterable[bytes], now: float) -> None:
        """Control frames, as they came."""
        self._reporter.now = now
        self._heard = True
        for frame in frames:
            self._reporter.attempt(self.fleet.receive, frame, now)
        self._settle()

    def run(self, work: Callable[[], None], now: float) -> None:
        """Have something done, and what it makes necessary."""
        self._reporter.now = now
        self._reporter.attempt(work)
        self._settle()

    def look_at_card(self, now: float) -> None:
        """See what has happened to the card, and do what follows."""
        self._reporter.now = now
        self._reporter.attempt(self._follow_card, self.card.look(now))

    def note_egress(self, happenings: Iterable[Happening], now: float) -> None:
        """What others did to sessions' devices, routes and rules."""
        self._reporter.now = now
        for each in happenings:
            self.tell(Severity.ERROR if each.lost else Severity.WARNING, "guard", each.text, each.key)
            if each.key is not None:  # it may have a new device, which systemd-resolved knows nothing of
                self.resolving.forget(each.key)
                self._showing.mark(each.key)
            if each.lost and each.key is not None:
                self._reporter.attempt(self.fleet.end, each.key, End(EndKind.LOCAL_ERROR, each.text), now)
        self._settle()

    def note_health(self, key: int, serial: int, problem: str, now: float) -> None:
        """What came of fetching a page for `health`: what was wrong, empty if nothing was."""
        self._reporter.now = now
        self._reporter.attempt(self.health.found, key, serial, problem, now)
        self._settle()

    def note_hook(self, result: HookResult, now: float) -> None:
        """A program that `hooks` was asked to run has come to its end."""
        self._reporter.now = now
        self._reporter.attempt(self.hooks.finished, result)

    def note_traffic(self, received: Sequence[int], now: float) -> None:
        """Packets received so far, by key: who received any is alive."""
        self._reporter.now = now
        if received != self._received:
            before = [*self._received, *[0] * (len(received) - len(self._received))]
            self._shares.alive(key for key, (new, old) in enumerate(zip(received, before, strict=False)) if new != old)
            self._received = received
            self._settle()

    def note_proxied(self, found: Mapping[int, Proxied], now: float) -> None:
        """What goes through sessions' proxies, by key, where it is other than before."""
        self._reporter.now = now
        for key, proxied in found.items():
            self.counting.note_proxied(key, proxied.opened, proxied.down, proxied.up)
        self._settle(self._showing.note_proxied(found))

    def note_sleep(self, seconds: float, now: float) -> None:
        """The host was asleep, and our clock with it: who is still there?"""
        self._reporter.now = now
        text = (
            f"This host was asleep for {seconds:.0f} s: every session is asked whether its concentrator still has it."
        )
        self.tell(Severity.WARNING, "asleep", text)
        self._shares.each(self.fleet.ask, [*self.fleet.members])
        self._settle()

    def tell_of(self, severity: Severity, kind: str, text: str, key: int | None, now: float) -> None:
        """Put an event of others than the supervisor into the log."""
        self._reporter.now = now
        self.tell(severity, kind, text, key)

    def set_clock(self, wall_offset: float, now: float) -> None:
        """The host's clock was set: all times that are shown are by it from now on."""
        self._reporter.now = now
        self.history.set_clock(wall_offset - self._reporter.wall_offset)
        self._reporter.wall_offset = wall_offset
        self._showing.mark(*self.fleet.members)
        self._settle()

    def next_timer(self) -> float | None:
        """When `handle_timer` is to be called next, None for not at all."""
        timers = (
            self.fleet.next_timer(),
            self._showing.next_timer(),
            self.card.next_timer(),
            self._parting.next_timer(),
            self._duties.next_timer(),
            self.rotating.next_timer(),
            self.counting.next_timer(),
            self.lately.next_timer(),
            self._alike.next_timer(),
            self._reporter.next_timer(),
            self._reporter.now if self._shares.due else None,
        )
        return min([at for at in timers if at is not None], default=None)

    def handle_timer(self, now: float, heard: float | None = None) -> None:
        """Do whatever is due by now; calling it early does nothing. `heard` is as in `Fleet.handle_timer`."""
        self._reporter.now = now
        attempt = self._reporter.attempt
        if (at := self.card.next_timer()) is not None and at <= now:
            self.look_at_card(now)
        attempt(self._parting.handle_timer, now, self.look_at_card)
        attempt(self._duties.handle_timer, now, self._follow_card)
        attempt(self.rotating.handle_timer, now)
        attempt(self.counting.handle_timer, now)
        attempt(self.lately.handle_timer, now)
        attempt(self._reporter.handle_timer, now)
        attempt(self.fleet.handle_timer, now, heard)
        if seconds := self.fleet.stood_still():
            text = f"This program was stopped for {seconds:.0f} s: nothing was heard or sent meanwhile."
            self.tell(Severity.WARNING, "stood-still", text)
        if slow := self.fleet.pace.news():
            self.tell(Severity.WARNING, "pace", slow)
        for text in self._alike.told(now):
            self.tell(Severity.WARNING, "alike", text)
        self._shares.go_on()
        self._settle(self._showing.handle_timer(now))
        self._begin()

    def frames_to_send(self) -> list[bytes]:
        """Ethernet frames to put on the line, oldest first. What they tell of is in the journal."""
        return self._parting.frames_to_send(self._frames)

    def _frames(self) -> list[bytes]:
        """Those of the fleet. A session with a bug costs no other its frames."""
        while True:
            try:
                return self.fleet.frames_to_send()
            except Exception as error:
                self._reporter.tell_of_bug(error, "frames_to_send")

    def _mark(self, key: int) -> None:
        self._showing.mark(key)

    # What commands do; `engine.supervisor.dispatch` says which command does what

    def each(self, action: Action, keys: Iterable[int]) -> None:
        """See `Shares.each`."""
        self._shares.each(action, keys)

    def rotate(self, key: int, now: float) -> None:
        """Exchange a session's IPv4 address for another; a session without one is just dialled again."""
        if key in self.fleet.members:
            self.rotating.ask(key, now)

    def stop_all(self, what: Halt, by: str = "") -> int:
        """Stop something for all sessions, or nothing any more; returns how many that concerns."""
        if what is self.halted.what:
            return 0
        now = self._reporter.now
        self.halted = Halted(what, None if what is Halt.NOTHING else self.wall(now), by)
        concerned = self.fleet.stop_all(what, now)
        self._showing.mark(*concerned)
        self._shares.each(self.fleet.cut if what is Halt.ALL else self.fleet.go_on, concerned)
        number = plural(len(concerned), "session")
        told = {
            Halt.ALL: f"All is stopped: {number} ended or not dialled; nobody is dialled until told otherwise.",
            Halt.REDIALS: "Nobody is dialled again by itself until told otherwise.",
            Halt.NOTHING: f"Dialling goes on: {number} waited for that.",
        }
        self.tell(Severity.INFO if what is Halt.NOTHING else Severity.WARNING, "stopped", told[what])
        return len(concerned)

    def may_not_rotate(self, key: int) -> str:
        """See `Rotating.objection`."""
        return self.rotating.objection(key, self._reporter.now)

    def add(self, settings: SessionSettings) -> int:
        """Add a session, down; returns its key. Raises Trouble."""
        key = self._add(settings, None)
        self._set_mark(key, settings)
        if settings.host_uniq:
            self._warn_of_indistinct()
        return key

    def _add(self, settings: SessionSettings, key: int | None) -> int:
        """The same under this key or a free one, without its mark. Raises Trouble."""
        key = self.board.free_key() if key is None else key
        if settings.name in self.board:
            raise Trouble(f"There is already a session called {settings.name}.")
        if key is None:
            raise Trouble(f"No room for another session: {MAX_SESSIONS:,} is the limit.")
        self._line.expect(settings.datapath)
        mac = self._fitting.own_mac(settings)
        window = self._settings.dial.pado_window
        session = Session(settings, mac, self._entropy, pado_window=window, secret=self._secret)
        self._fitting.make_room(session)
        session.has_ipv6 = self._egress.has_ipv6
        self.records[key] = Record()
        self.fleet.add(key, session, self._reporter.now)
        self.captures.joined(key, session)
        self._fitting.check(settings)
        self.counting.add(key, settings.name)
        self.lately.begin()
        self._showing.add(key, self.fleet.members[key])
        return key

    @property
    def marks(self) -> Marks | None:
        """Those that are given out."""
        return self._settings.marks

    def mark_of(self, key: int, settings: SessionSettings) -> int | None:
        """A session's mark: its own, or the one it is given."""
        marks = self._settings.marks
        return settings.mark if settings.mark is not None or marks is None else marks.of(key)

    def _set_mark(self, key: int, settings: SessionSettings) -> None:
        self._reporter.attempt(self._egress.set_mark, key, self.mark_of(key, settings), kind="mark", about=key)

    def edit(self, key: int, settings: SessionSettings) -> None:
        """Replace a session's settings, from its next dial on. Raises Trouble."""
        if self.board.key_of(settings.name) not in (None, key):
            raise Trouble(f"There is already a session called {settings.name}.")
        member = self.fleet.members[key]
        self._fitting.reconfigure(member.session, settings)
        self._showing.edit(key, member)
        self.rotating.reschedule(key, self._reporter.now)
        self._set_mark(key, settings)
        if settings.host_uniq:
            self._warn_of_indistinct()

    def _warn_of_indistinct(self) -> None:
        """Tell of sessions that can't be told apart, once while there are such."""
        before = self._indistinct
        self._indistinct = indistinct(member.session.next_settings for _, member in self.fleet)
        for asker in self._indistinct.keys() - before.keys():
            self.tell(Severity.WARNING, "configuration", self._indistinct[asker])

    def remove_all(self, keys: Sequence[int]) -> None:
        """Have sessions removed, a share at a time."""
        self.leaving.update(keys)
        self._shares.each(lambda key, now: self.remove(key), keys)

    def make_way(self, settings: SessionSettings) -> None:
        """What only one session can have is free at once where the one that has it is to be removed."""
        named = self.board.key_of(settings.name)
        for key in [*self.leaving]:
            had = self.board.settings[key]
            if key == named or settings.device in {had.device} - {None} or settings.mark in {had.mark} - {None}:
                self.remove(key)

    def remove(self, key: int) -> None:
        """End a session at once, with a PADT only, and forget it."""
        self.leaving.discard(key)
        session = self.fleet.members[key].session
        name = session.settings.name
        self.fleet.remove(key, self._reporter.now)
        self._settle()
        self._release(key)
        self._reporter.attempt(self._egress.forget, key, kind="mark", about=key)
        self.captures.stop([(key, session)])
        self._duties.forget(key)
        self.rotating.forget(key)
        self._showing.remove(key)
        self.hooks.look(key, None, session.next_settings.hooks)
        self.health.look(key, None, session.next_settings.health)
        self.counting.forget(key)
        self.history.look(name, (), None, self.wall(self._reporter.now))
        del self.records[key]
        self.tell(Severity.INFO, "removed", f"Session {name} was removed.")

    def clear_ghosts(self) -> int:
        """See `Parting.clear_ghosts`."""
        return self._parting.clear_ghosts()

    def fix_card(self) -> None:
        """Switch off what the card does that keeps frames, or XDP, from us. Raises Trouble."""
        self._follow_card(self.card.fix(self._reporter.now))

    def reset_counters(self, keys: Iterable[int]) -> None:
        """Count what sessions carry from now on."""
        for key in keys:
            self.counting.reset(key)
            self._showing.mark(key)

    def changed(self, keys: Iterable[int]) -> None:
        """Something that the views of these sessions show has changed."""
        self._showing.mark(*keys)

    @property
    def watched(self) -> set[int]:
        """Sessions whose details somebody looks at."""
        return self._showing.watched

    def watch(self, key: int) -> None:
        """See `Showing.watch`."""
        self._showing.watch(key)

    # After each piece of work

    def _follow_card(self, told: Iterable[CardNews]) -> None:
        """Act on each piece of news before the next."""
        for news in told:
            self._reporter.attempt(self._duties.act, news)
            self._settle()

    def _settle(self, look_at: Iterable[int] = ()) -> None:
        """Carry the fleet's events where they belong; then the views, and the details that are watched."""
        self._reporter.hold()
        open_now: dict[Place, bool] = {}
        while (item := self._next_event()) is not None:
            key, event = item
            if isinstance(event, RoundTrip):  # thousands a second, of which nobody else wants to know
                self._showing.answered(key)
                if event.asked >= LARGE:
                    self._reporter.attempt(self._duties.answered, key, event)
                continue
            if isinstance(event, StateChanged | Ended):
                self._tally.note(key, event, self._reporter.now)
            if isinstance(event, PppoeOpened | Ended):
                self._note_place(self.records[key], event, open_now)
            self._reporter.attempt(self._session_event, key, event)
            if isinstance(event, Ended):
                self._release(key)
        if open_now:
            self._parting.note(open_now)
        for key in self._showing.settle(look_at):
            self._reporter.attempt(self._follow_view, key)
        self._reporter.publish()

    def _next_event(self) -> tuple[int, SessionEvent] | None:
        """That of the fleet; where there are no more, egresses are brought in line, of which more may come."""
        while (item := self.fleet.next_event()) is None and self._unfollowed:
            key = next(iter(self._unfollowed))
            del self._unfollowed[key]
            if (member := self.fleet.members.get(key)) is not None:
                self._carry_out(key, follow, self._egress, key, member.session, self.records[key].had)
        return item

    def _follow_view(self, key: int) -> None:
        """A session may look different from outside."""
        view, settings = self.board.view(key), self.board.settings.get(key)
        if view is not None and settings is not None:
            self.hooks.look(key, view, settings.hooks)
            self.health.look(key, view, settings.health)
            self.resolving.look(key, view, settings)
            self.counting.rename(key, view.name)
            self.history.look(view.name, addresses_of(view), view.up_since, self.wall(self._reporter.now))

    @staticmethod
    def _note_place(record: Record, event: PppoeOpened | Ended, open_now: dict[Place, bool]) -> None:
        if isinstance(event, PppoeOpened):
            record.place = event.place
            open_now[event.place] = True
        elif record.place is not None:
            open_now[record.place] = False
            record.place = None

    def _session_event(self, key: int, event: SessionEvent) -> None:
        """Tell it, and do what it asks for."""
        self._showing.follow(key)
        member = self.fleet.members.get(key)
        if member is None:
            return
        if isinstance(event, StateChanged | Ended):
            self.rotating.follow(key, member, event, self._reporter.now)
            if isinstance(event, StateChanged) and event.state in SETTING_UP:  # of which nobody else wants to know
                prepare(self._egress, key, member.session)
                return
        if isinstance(event, Ended):
            self.hooks.ended(key, event.end)
        self._duties.follow(key, member.session, event)
        event = self._explained(event)
        redial_in = member.redial_at - self._reporter.now if member.redial_at is not None else None
        story = tell(event, member.session.ac_name, redial_in)
        if story is not None:
            retry_at = self.wall(member.redial_at) if member.redial_at is not None else None
            found, severity = facts(event, member.session.ac_name, retry_at), story.severity
            if (
                isinstance(event, Ended)
                and severity is Severity.WARNING
                and self._alike.is_one_of_many(event.end, self._reporter.now)
            ):
                severity = Severity.DEBUG
            self.tell(severity, story.kind, story.text, key, found)
        if isinstance(event, Ipv4Opened) and not self.rotating.keeps(key, event, self._reporter.now):
            return
        if isinstance(event, PppoeOpened):
            self._carry_out(key, self._line.make_known, key, event.place, member.session.mru)
        had = self.records[key].had
        self._carry_out(key, heed, self._egress, key, member.session, event, had)
        if had.due:
            self._unfollowed[key] = None

    def _explained(self, event: SessionEvent) -> SessionEvent:
        """That nobody answered is no news of the concentrator where the card has not heard a single frame."""
        if not isinstance(event, Ended) or event.end.kind is not EndKind.NO_CONCENTRATOR or self._heard:
            return event
        if not self.card.heard_nothing:
            return event
        name = self.card.name
        text = f"{name} has received nothing at all since it was taken: is the cable in the right socket, both ways?"
        remedy = f"`ethtool -S {name}`" + (", or try `xdp: copy`" if self.card.zero_copy else "")
        return replace(event, end=replace(event.end, text=f"{text} If it is, look at its driver: {remedy}."))

    def _carry_out(self, key: int, step: Callable[..., None], *arguments: object) -> None:
        """What an event asks of the card or the egress; a session for which it can't be done is ended."""
        try:
            step(*arguments)
        except Exception as error:
            text = str(error) if isinstance(error, Trouble) else self._reporter.tell_of_bug(error, "_carry_out")
            self.tell(Severity.ERROR, "device", text, key)
            self.fleet.end(key, End(EndKind.LOCAL_ERROR, text), self._reporter.now)

    def _release(self, key: int) -> None:
        """Let go of all that a session had, each whatever becomes of the others."""
        self.records[key].had = Had()
        for step in (self._egress.close, self._line.forget):
            self._reporter.attempt(step, key, kind="device", about=key)

    def ledger(self, key: int) -> Ledger:
        """What is remembered of a session; any thread."""
        view = self.board.view(key)
        had = self.history.of(view.name) if view is not None else ()
        return Ledger(had, self.counting.proxied(key), self.counting.months(key))

    @property
    def totals(self) -> Totals:
        """What has happened so far; any thread."""
        return self._tally.totals(self.log.counts)
