"""All sessions of one card: who is told what when. Without I/O, so that a test can run it whole in virtual time.

    supervisor.open(now)                     take the card, add the sessions, dial those that are to be up
    supervisor.receive(frames, now)          control frames from the card
    supervisor.run(work, now)                what an operator asks for, see `engine.supervisor.dispatch`
    supervisor.look_at_card(now)             something happened to the card, or it is time to look
    supervisor.note_traffic(received, now)   packets received, by key: signs of life
    supervisor.next_timer(), handle_timer(now)
    supervisor.frames_to_send()              to be put on the line, after each of the above

It drives the fleet, and carries what comes of it to what it was handed: events first (the journal of open sessions must
be on disk before LCP's first packet), then egresses and the event log, then views for the board; frames are the last.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network

from engine.api.ending import End, EndKind
from engine.api.values import SessionState, SessionView, Severity, Totals
from engine.egress.protocol import Addresses, Egress, Happening
from engine.host.errors import Trouble
from engine.ppp.link import Ipv4Opened, RoundTrip
from engine.record.events import EventLog
from engine.record.journal import padt_frame
from engine.record.narrate import tell
from engine.record.plural import plural
from engine.sessions import rotation
from engine.sessions.fleet import SHARE, Fleet, Member
from engine.sessions.macs import own_mac
from engine.sessions.proofs import Proofs
from engine.sessions.rotation import Rotation, Verdict
from engine.sessions.session import Ended, PppoeOpened, Session, SessionEvent, StateChanged
from engine.sessions.states import IDLE
from engine.settings.limits import MAX_SESSIONS
from engine.settings.values import SessionSettings, Settings
from engine.supervisor import sizes, tags, views
from engine.supervisor.board import Board
from engine.supervisor.card_watch import (
    CardBack,
    CardLost,
    CardMac,
    CardMended,
    CardMtu,
    CardNews,
    CardRenamed,
    CardTaken,
    CardTrouble,
    CardUnseen,
    CardWaits,
    CardWatch,
)
from engine.supervisor.egress_steps import follow
from engine.supervisor.farewells import Farewells
from engine.supervisor.handed import Captures, Journal, Line, NoJournal
from engine.supervisor.large_frames import LargeFrames, Step
from engine.supervisor.tally import Tally
from engine.supervisor.watched import Watched
from engine.wire.place import Place

CHECK, MAX_CHECK = 0.02, 1.0
"""Seconds until a look whether the card has taken the PADTs it was handed; doubled from look to look, up to this."""
ALIVE_SHARE = 2048
"""Sessions whose sign of life is noted in one go: that is quickly done."""


@dataclass(slots=True)
class Record:
    """What the supervisor itself knows of a session."""

    rotation: Rotation = field(default_factory=Rotation)
    place: Place | None = None
    """That of the open session, as noted in the journal."""
    addresses: Addresses = field(default_factory=Addresses)
    """Those that its egress was told to have."""


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
        usage: Callable[[SessionView], tuple[tuple[str, str], ...]],
        proofs: Proofs | None = None,
    ) -> None:
        """`entropy` gives so many random octets, `chance` a number from 0 to 1; `wall_offset` makes Unix time of `now`.

        `usage` tells what an open session is good for: what for, and the command line for it. `proofs` is what earlier
        runs knew of concentrators' authentication.
        """
        self.board = Board()
        self.log = EventLog()
        self._tally = Tally()
        self.fleet = Fleet(settings.dial, chance, egress.obstacle, egress.way_to, proofs)
        self.card = watch
        self.captures = captures
        self.records: dict[int, Record] = {}
        self.watched = Watched()
        self._settings = settings
        self._line = line
        self._egress = egress
        self._journal = journal or NoJournal()
        self._entropy = entropy
        self._wall_offset = wall_offset
        self._usage = usage
        self._unwanted = tuple(IPv4Network(network) for network in settings.unwanted_networks)
        self._dirty: set[int] = set()
        """Sessions whose view may be out of date."""
        self._ended: list[Place] = []
        """Sessions that have ended since frames were last asked for: their PADTs are among the next."""
        self._farewells = Farewells()
        self._ghosts: set[Place] = set()
        """Sessions of an earlier run whose PADT has not left yet."""
        self._ghosts_ended = 0
        """How many of them have ended and were not told of."""
        self.leaving: set[int] = set()
        """Sessions that are to be removed and wait for that: nobody can name them any more."""
        self._handed = self._handed_before = 0
        """How many frames were ever given out to be sent, and how many of them before the card was taken last."""
        self._warned_of_lost_tags = False
        self._large = LargeFrames()
        self._next_check: float | None = None
        """When to see whether PADTs have left."""
        self._pause = CHECK
        self._heard = False
        """Whether a control frame ever came."""
        self._received: Sequence[int] = ()
        """Packets received, by key, as last seen."""
        self._alive: deque[int] = deque()
        """Who received some, and has yet to be noted for it."""
        self._to_do: deque[tuple[Callable[[int, float], None], int]] = deque()
        """What is still to be done to which sessions."""
        self._now = 0.0

    # Life

    def open(self, now: float) -> None:
        """Take the card and begin to dial. Raises Trouble."""
        self._now = now
        for news in self.card.open(now):
            self._card_news(news)
        for remark in self._settings.remarks:
            self.tell(Severity.WARNING, "configuration", remark)
        for settings in self._settings.sessions:
            try:
                self.add(settings)
            except Trouble as error:
                self.tell(Severity.ERROR, "session", str(error))
        self.clear_ghosts()
        autodial = [key for key, member in self.fleet if member.session.settings.autodial]
        self.each(self.fleet.dial, autodial)
        self._settle()

    def say_goodbye(self, now: float) -> None:
        """Terminate-Request, then PADT, for every session; `idle` tells when all have answered."""
        self._now = now
        self.each(self.fleet.hang_up, [*self.fleet.members])
        self._settle()

    def leave(self, now: float) -> None:
        """Nobody is waited for any more: what hasn't ended yet gets its PADT alone."""
        self._now = now
        self._to_do.clear()
        for key, member in [*self.fleet]:
            if member.wanted or member.session.state not in IDLE:
                self._attempt(self.fleet.stop, key, End(EndKind.HUNG_UP, "Hung up: the program ends."), now)
        self._settle()

    @property
    def idle(self) -> bool:
        """Whether nothing more will be sent for any session."""
        return self.fleet.idle and not self._to_do

    @property
    def parted(self) -> bool:
        """Whether no PADT is on its way any more."""
        return not (self._farewells.on_the_way or self._owes)

    @property
    def _owes(self) -> bool:
        """Whether there are PADTs to be sent that could be."""
        return self._farewells.owes and self.card.up

    # What happens

    def receive(self, frames: Iterable[bytes], now: float) -> None:
        """Control frames, as they came."""
        self._now = now
        self._heard = True
        for frame in frames:
            self._attempt(self.fleet.receive, frame, now)
        self._settle()

    def run(self, work: Callable[[], None], now: float) -> None:
        """Have something done, and what it makes necessary."""
        self._now = now
        self._attempt(work)
        self._settle()

    def look_at_card(self, now: float) -> None:
        """See what has happened to the card, and do what follows."""
        self._now = now
        self._attempt(self._follow_card, self.card.look(now))

    def note_egress(self, happenings: Iterable[Happening], now: float) -> None:
        """What others did to sessions' devices, routes and rules."""
        self._now = now
        for each in happenings:
            self.tell(Severity.ERROR if each.lost else Severity.WARNING, "guard", each.text, each.key)
            if each.lost and each.key is not None:
                self._attempt(self.fleet.end, each.key, End(EndKind.LOCAL_ERROR, each.text), now)
        self._settle()

    def note_traffic(self, received: Sequence[int], now: float) -> None:
        """Packets received so far, by key: who received any is alive."""
        self._now = now
        if received != self._received:
            before = [*self._received, *[0] * (len(received) - len(self._received))]
            self._alive.extend(key for key, (new, old) in enumerate(zip(received, before, strict=False)) if new != old)
            self._received = received
            self._note_alive()
            self._settle()

    def _note_alive(self) -> None:
        """For a share of those who are."""
        keys = [self._alive.popleft() for _ in range(min(ALIVE_SHARE, len(self._alive)))]
        self._attempt(self.fleet.note_traffic, keys, self._now)

    def note_sleep(self, seconds: float, now: float) -> None:
        """The host was asleep, and our clock with it: who is still there?"""
        self._now = now
        text = (
            f"This host was asleep for {seconds:.0f} s: every session is asked whether its concentrator still has it."
        )
        self.tell(Severity.WARNING, "asleep", text)
        self.each(self.fleet.ask, [*self.fleet.members])
        self._settle()

    def set_clock(self, wall_offset: float, now: float) -> None:
        """The host's clock was set: all times that are shown are by it from now on."""
        self._now = now
        self._wall_offset = wall_offset
        self.changed(self.fleet.members)
        self._settle()

    def next_timer(self) -> float | None:
        """When `handle_timer` is to be called next, None for not at all."""
        timers = (
            self.fleet.next_timer(),
            self.watched.next_timer(),
            self.card.next_timer(),
            self._next_check,
            self._large.due,
            self._now if self._to_do or self._alive or self._owes else None,
        )
        return min((at for at in timers if at is not None), default=None)

    def handle_timer(self, now: float) -> None:
        """Do whatever is due by now; calling it early does nothing."""
        self._now = now
        if (at := self.card.next_timer()) is not None and at <= now:
            self.look_at_card(now)
        if self._next_check is not None and self._next_check <= now:
            self._attempt(self._check_farewells)
        self._attempt(self._try_large_frames)
        self._attempt(self.fleet.handle_timer, now)
        if seconds := self.fleet.stood_still():
            text = f"This program was stopped for {seconds:.0f} s: nothing was heard or sent meanwhile."
            self.tell(Severity.WARNING, "stood-still", text)
        self._go_on(SHARE)
        self._note_alive()
        for key in self.watched.gone(now):
            self.board.details.pop(key, None)
        self._settle(self.watched.due(now))

    def frames_to_send(self) -> list[bytes]:
        """Ethernet frames to put on the line, oldest first. What they tell of is in the journal.

        Without a carrier none: they would be lost. Who ended is owed a PADT then.
        """
        frames, ended = self._frames(), self._ended
        self._ended = []
        if not self.card.up:
            self._farewells.owe(ended)
            return []
        owed = self._farewells.collect()
        frames = [*map(padt_frame, owed), *frames]
        self._handed += len(frames)
        if owed or ended:
            self._farewells.sent(owed + ended, self._handed, self.card.carrier)
            self._pause, self._next_check = CHECK, self._next_check or self._now + CHECK
        return frames

    def _frames(self) -> list[bytes]:
        """Those of the fleet. A session with a bug costs no other its frames."""
        while True:
            try:
                return self.fleet.frames_to_send()
            except Exception as error:
                self._tell_of_bug(error, "frames_to_send")

    def _check_farewells(self) -> None:
        """See whose PADT has left: only now the journal may forget the session."""
        self._next_check = None
        taken = self._handed_before + self._line.frames_taken()
        if self._farewells.taken(taken):
            self.look_at_card(self._now)  # a card without a carrier takes frames too, and loses them
            left = self._farewells.left(taken, self.card.carrier)
            self._note(self._journal.closed, left)
            ghosts = self._ghosts.intersection(left)
            self._ghosts -= ghosts
            self._ghosts_ended += len(ghosts)
        more = self._farewells.taken(taken)
        if self._ghosts_ended and not (more or self._farewells.owes):
            text = f"Ended {plural(self._ghosts_ended, 'session')} that an earlier run had left open."
            self.tell(Severity.WARNING, "ghosts", text)
            self._ghosts_ended = 0
        if more:
            self._next_check = self._now
        elif self._farewells.on_the_way:
            self._pause = min(2 * self._pause, MAX_CHECK)
            self._next_check = self._now + self._pause

    # What commands do; `engine.supervisor.dispatch` says which command does what

    def each(self, action: Callable[[int, float], None], keys: Iterable[int]) -> None:
        """Have the same done to several sessions: to a share of them now, to the others when the timer expires.

        In order, behind what was asked for earlier; a session that is gone by then is left out.
        """
        waiting = bool(self._to_do)
        self._to_do.extend((action, key) for key in keys)
        if not waiting:
            self._go_on(SHARE)

    def _go_on(self, share: int) -> None:
        """Do so much of what there is still to do."""
        for _ in range(min(share, len(self._to_do))):
            action, key = self._to_do.popleft()
            if key in self.fleet.members:
                self._dirty.add(key)
                self._attempt(action, key, self._now)

    def rotate(self, key: int, now: float) -> None:
        """Exchange a session's IPv4 address for another; a session without one is just dialled again."""
        ipv4 = self.fleet.members[key].session.ipv4
        self.records[key].rotation = Rotation(leaving=ipv4.address if ipv4 is not None else None)
        self.fleet.redial(key, now, End(EndKind.HUNG_UP, "Hung up for another address."))

    def add(self, settings: SessionSettings) -> int:
        """Add a session, down; returns its key. Raises Trouble."""
        key = self.board.free_key()
        if settings.name in self.board:
            raise Trouble(f"There is already a session called {settings.name}.")
        if key is None:
            raise Trouble(f"No room for another session: {MAX_SESSIONS:,} is the limit.")
        self._line.expect(settings.datapath)
        session = Session(settings, self._own_mac(settings), self._entropy, pado_window=self._settings.dial.pado_window)
        self._make_room(session)
        session.has_ipv6 = self._egress.has_ipv6
        self.records[key] = Record()
        self.fleet.add(key, session, self._now)
        self.captures.joined(key, session)
        self._warn_of_lost_tags([settings])
        if text := sizes.too_small(self.card.view, settings):
            self.tell(Severity.WARNING, "card-mtu", text)
        self.board.settings[key] = settings
        self.board.add(self._view(key, self.fleet.members[key]))
        return key

    def edit(self, key: int, settings: SessionSettings) -> None:
        """Replace a session's settings, from its next dial on. Raises Trouble."""
        if self.board.key_of(settings.name) not in (None, key):
            raise Trouble(f"There is already a session called {settings.name}.")
        self._line.expect(settings.datapath)
        session = self.fleet.members[key].session
        session.reconfigure(settings, self._own_mac(settings))
        self._make_room(session)
        self.board.settings[key] = settings
        self._dirty.add(key)

    def remove_all(self, keys: Sequence[int]) -> None:
        """Have sessions removed, a share at a time."""
        self.leaving.update(keys)
        self.each(lambda key, now: self.remove(key), keys)

    def make_way(self, settings: SessionSettings) -> None:
        """What only one session can have is free at once where the one that has it is to be removed."""
        named = self.board.key_of(settings.name)
        for key in [*self.leaving]:
            if key == named or settings.device in {self.board.settings[key].device} - {None}:
                self.remove(key)

    def remove(self, key: int) -> None:
        """End a session at once, with a PADT only, and forget it."""
        self.leaving.discard(key)
        session = self.fleet.members[key].session
        name = session.settings.name
        self.fleet.remove(key, self._now)
        self._settle()
        self._release(key)
        self.captures.stop([(key, session)])
        self.watched.forget(key)
        self._large.withdraw(key)
        self._dirty.discard(key)
        del self.records[key]
        self.board.remove(key)
        self.tell(Severity.INFO, "removed", f"Session {name} was removed.")

    def clear_ghosts(self) -> int:
        """End the sessions that an earlier run left open at the concentrator; returns how many there are."""
        ghosts = self._journal.ghosts()
        self._farewells.owe(ghosts)
        self._ghosts.update(ghosts)
        return len(ghosts)

    def fix_card(self) -> None:
        """Switch off what the card does that keeps frames, or XDP, from us. Raises Trouble."""
        self._follow_card(self.card.fix(self._now))

    def changed(self, keys: Iterable[int]) -> None:
        """Something that the views of these sessions show has changed."""
        self._dirty.update(keys)

    def watch(self, key: int) -> None:
        """Make a session's details now, and keep them fresh for a while."""
        self.watched.add(key, self._now)
        self._show_details(key)

    # The card

    def _follow_card(self, told: Iterable[CardNews]) -> None:
        """Act on each piece of news before the next."""
        for news in told:
            self._attempt(self._card_news, news)
            self._settle()

    def _card_news(self, news: CardNews) -> None:
        match news:
            case CardTaken():
                self._card_taken(news)
            case CardLost(why):
                self._card_lost(why)
            case CardWaits(why, usual):
                self.tell(Severity.INFO if usual else Severity.WARNING, "card-waits", why)
            case CardBack(text):
                self._card_back(text)
            case CardRenamed(name, text):
                self.tell(Severity.INFO, "card-renamed", text)
                self._attempt(self._journal.rename, name, kind="journal")
            case CardMac(former, text):
                self._card_mac(former, text)
            case CardMended(text, usual):
                self.tell(Severity.INFO if usual else Severity.ERROR, "card-mended", text)
            case CardMtu(mtu) if self.card.view is not None:
                self.tell(*sizes.mtu_news(self.card.view, mtu, self._all_settings()))
                for key, member in self.fleet:
                    self._attempt(self._hold, key, member.session, kind="device", about=key)
            case CardUnseen(why):
                self.tell(Severity.WARNING, "card-unseen", f"{why} It is taken to be as it was.")
            case CardTrouble(why):
                self.tell(Severity.ERROR, "card-lost", why)

    def _card_taken(self, news: CardTaken) -> None:
        card, taken = news.card, news.taken
        self._go_on(len(self._to_do))  # what the card's absence means for its sessions
        self.fleet.hold()  # until it has a carrier
        self._handed_before = self._handed
        self._adapt_all()
        self._large = LargeFrames(wanted=taken.zero_copy or self._large.wanted)
        copying = "zero-copy" if taken.zero_copy else "copy"
        how = f"{taken.mode} mode, {copying}, {plural(taken.queues, 'queue')}"
        self.tell(Severity.INFO, "card-ready", f"{card.name} is ready: {how}.")
        if taken.notice:
            self.tell(Severity.WARNING, "card-notice", taken.notice)
        self._warned_of_lost_tags = False
        self._warn_of_lost_tags(self._settings.sessions)

    def _card_mac(self, former: bytes, text: str) -> None:
        """The card has another address: who used the former one is heard no more. Who has one of its own lives on."""

        def is_lost(session: Session) -> bool:
            is_cards = session.own_mac == former != own_mac(session.settings, self.card.mac)
            return is_cards and session.state not in IDLE

        def renew(key: int, now: float) -> None:
            member = self.fleet.members[key]
            if is_lost(member.session):
                self.fleet.stop(key, End(EndKind.CARD_DOWN, f"{text}."), now)
                if member.wanted:
                    self.fleet.dial(key, now)

        lost = [key for key, member in self.fleet if is_lost(member.session)]
        what = f"{plural(len(lost), 'session')} that used it must be dialled anew" if lost else "no session used it"
        self.tell(Severity.WARNING if lost else Severity.INFO, "card-mac", f"{text}: {what}.")
        self._adapt_all()
        self.each(renew, lost)

    def _adapt_all(self) -> None:
        for key, member in self.fleet:
            self._dirty.add(key)
            self._attempt(self._adapt, member.session)

    def _adapt(self, session: Session) -> None:
        """The card may have another address now. Raises Trouble."""
        settings = session.next_settings
        self._line.expect(settings.datapath)
        session.reconfigure(settings, self._own_mac(settings))
        self._make_room(session)

    def _make_room(self, session: Session) -> None:
        """Hold a session to what the card has room for, by its settings of now and of its next dial."""
        if self.card.view is not None:
            session.room = min(sizes.room(self.card.view, of) for of in (session.settings, session.next_settings))

    def _hold(self, key: int, session: Session) -> None:
        """The card's MTU was changed: the session's is never larger than that leaves room for. Raises Trouble."""
        before = session.mtu
        self._make_room(session)
        if session.mtu is not None and session.mtu != before:
            self._dirty.add(key)
            self._egress.set_mtu(key, session.mtu)

    def _warn_of_lost_tags(self, sessions: Iterable[SessionSettings]) -> None:
        """Where frames of these sessions may lose their VLAN tags on the way: say so, once."""
        if not self._warned_of_lost_tags and (text := tags.lost(self.card.view, sessions)):
            self._warned_of_lost_tags = True
            self.tell(Severity.WARNING, "vlan-offload", text)

    def _card_lost(self, why: str) -> None:
        self.tell(Severity.ERROR, "card-down", f"{why} Sessions are dialled again when it is back.")
        self.fleet.hold()
        self._farewells.lost()

        def lose(key: int, now: float) -> None:
            member = self.fleet.members[key]
            on_the_line = member.session.state not in IDLE
            if on_the_line or (member.wanted and member.reason != EndKind.CARD_DOWN):
                self.fleet.stop(key, End(EndKind.CARD_DOWN, why), now)

        self.each(lose, [*self.fleet.members])

    def _card_back(self, text: str) -> None:
        if text:
            self.tell(Severity.INFO, "card-up", text)
        self.each(self.fleet.dial, [key for key, member in self.fleet if member.wanted])
        self.fleet.release(self._now)

    def _follow_large_frames(self, key: int, session: Session, event: SessionEvent) -> None:
        """See who can be asked for large frames, and whether that was answered."""
        match event:
            case StateChanged(SessionState.UP):
                self._large.offer(key, session.mtu or 0, self._now)
            case Ended():
                self._large.withdraw(key)
            case RoundTrip(asked=octets) if self._large.answered(key, octets) and not self.card.zero_copy:
                self.tell(Severity.INFO, "large-frames", f"Packets of {octets:,} octets come through {self.card.name}.")

    def _try_large_frames(self) -> None:
        """Ask for them where that is due; do without zero-copy where none come."""
        large, name = self._large, self.card.name
        match large.step(self._now):
            case Step.ASK if large.key is not None:
                large.octets = self.fleet.ask_full_size(large.key, self._now)
            case Step.LOST:
                text = f"Packets of {large.octets:,} octets don't come through {name}"
                if not self.card.zero_copy:
                    text += " in copy mode either: look at the line. `xdp: zero-copy` makes the card faster again."
                    self.tell(Severity.WARNING, "large-frames", text)
                elif self._line.copy():
                    self.tell(Severity.WARNING, "large-frames", f"{text} in zero-copy: its frames are copied now.")
                    large.wanted = True
                    self._follow_card(self.card.take_anew("without zero-copy", self._now))
                    self.card.note("Frames are copied: in zero-copy large ones were lost.")
                else:
                    text += " in zero-copy. Is it the driver? `xdp: copy` does without."
                    self.tell(Severity.WARNING, "large-frames", text)

    def _own_mac(self, settings: SessionSettings) -> bytes:
        """The session's MAC address, which the card will listen to from now on, in its VLAN too. Raises Trouble."""
        mac = own_mac(settings, self.card.mac)
        because = ""
        if mac != self.card.mac:
            because = "sessions have MAC addresses of their own"
        elif settings.vlans and self.card.filters_vlans:
            because = "its VLAN filter would take tagged frames away"
        if because and self._line.hear_all():
            self.card.note(f"{self.card.name} is in promiscuous mode: {because}.")
            self.tell(Severity.INFO, "promiscuous", f"{self.card.name} is in promiscuous mode now: {because}.")
        return mac

    # After each piece of work

    def _attempt(
        self, work: Callable[..., None], *arguments: object, kind: str = "trouble", about: int | None = None
    ) -> None:
        """What goes wrong with one session, and a bug in its handling, must not stop the others: it is told."""
        try:
            work(*arguments)
        except Trouble as error:
            self.tell(Severity.ERROR, kind, str(error), about)
        except Exception as error:
            self._tell_of_bug(error, work.__name__)

    def _tell_of_bug(self, error: Exception, place: str) -> str:
        text = f"Internal error, please report it: {type(error).__name__} in {place}: {error}"
        self.tell(Severity.ERROR, "internal-error", text)
        return text

    def _settle(self, look_at: Iterable[int] = ()) -> None:
        """Carry the fleet's events where they belong; then the views, and the details that are watched."""
        open_now: dict[Place, bool] = {}
        while (item := self.fleet.next_event()) is not None:
            key, event = item
            self._tally.note(key, event, self._now)
            self._note_place(self.records[key], event, open_now)
            self._attempt(self._session_event, key, event)
            if isinstance(event, Ended):
                self._release(key)
        # On disk before LCP's first packet, so that a crash leaves no ghost unknown. A concentrator may hand the id of
        # a session that has just ended out again at once.
        opened = [place for place, is_open in open_now.items() if is_open]
        self._ended = [place for place in self._ended if place not in open_now]
        self._ended += [place for place, is_open in open_now.items() if not is_open]
        self._farewells.opened(opened)
        self._note(self._journal.opened, opened)
        dirty, self._dirty = self._dirty, set()
        for key in dirty:
            self._attempt(self._show, key)
        for key in {*look_at, *(dirty & self.watched.keys)}:
            self._attempt(self._show_details, key)

    @staticmethod
    def _note_place(record: Record, event: SessionEvent, open_now: dict[Place, bool]) -> None:
        if isinstance(event, PppoeOpened):
            record.place = event.place
            open_now[event.place] = True
        elif isinstance(event, Ended) and record.place is not None:
            open_now[record.place] = False
            record.place = None

    def _note(self, step: Callable[[list[Place]], None], places: list[Place]) -> None:
        """Have the journal note something of sessions."""
        if places:
            self._attempt(step, places, kind="journal")

    def _session_event(self, key: int, event: SessionEvent) -> None:
        """Tell it, and do what it asks for."""
        self._dirty.add(key)
        member = self.fleet.members.get(key)
        if member is None:
            return
        if not member.wanted:
            self.records[key].rotation = replace(self.records[key].rotation, leaving=None)
        self._follow_large_frames(key, member.session, event)
        event = self._explained(event)
        redial_in = member.redial_at - self._now if member.redial_at is not None else None
        story = tell(event, member.session.ac_name, redial_in)
        if story is not None:
            self.tell(story.severity, story.kind, story.text, key)
        if isinstance(event, Ipv4Opened) and not self._keeps(key, event):
            return
        try:
            self._carry_out(key, member.session, event)
        except Exception as error:
            text = str(error) if isinstance(error, Trouble) else self._tell_of_bug(error, "_carry_out")
            self.tell(Severity.ERROR, "device", text, key)
            self.fleet.end(key, End(EndKind.LOCAL_ERROR, text), self._now)

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

    def _carry_out(self, key: int, session: Session, event: SessionEvent) -> None:
        """What an event asks of the card and the egress. Raises Trouble."""
        if isinstance(event, PppoeOpened):
            self._line.make_known(key, event.place, session.mru)
        record = self.records[key]
        record.addresses = follow(self._egress, key, session, event, record.addresses)

    def _release(self, key: int) -> None:
        """Let go of all that a session had, each whatever becomes of the others."""
        self.records[key].addresses = Addresses()
        for step in (self._egress.close, self._line.forget):
            self._attempt(step, key, kind="device", about=key)

    def _keeps(self, key: int, event: Ipv4Opened) -> bool:
        """Whether a session keeps the address that it was given; if not, its end has begun."""
        judgement = rotation.judge(event.agreed.address, self.records[key].rotation, self._unwanted)
        self.records[key].rotation = judgement.rotation
        match judgement.verdict:
            case Verdict.HOPELESS:
                self.tell(Severity.ERROR, "unwanted-address", judgement.text, key)
                self.fleet.hang_up(key, self._now)
            case Verdict.UNWANTED:
                self.fleet.end(key, End(EndKind.UNWANTED_ADDRESS, judgement.text), self._now)
            case Verdict.SAME:
                self.fleet.redial(key, self._now, End(EndKind.HUNG_UP, judgement.text))
            case Verdict.KEEP if judgement.exchanged is not None:
                severity = Severity.INFO if judgement.exchanged else Severity.WARNING
                self.tell(severity, "rotated", judgement.text, key)
        return judgement.verdict is Verdict.KEEP

    # What others see

    def wall(self, at: float) -> float:
        """The engine's time as Unix time."""
        return at + self._wall_offset

    @property
    def totals(self) -> Totals:
        """What has happened so far; any thread."""
        return self._tally.totals(self.log.counts)

    def tell(self, severity: Severity, kind: str, text: str, key: int | None = None) -> None:
        """Put an event into the log."""
        member = self.fleet.members.get(key) if key is not None else None
        name = member.session.settings.name if member is not None else ""
        self.log.add(self.wall(self._now), severity, kind, text, key, name)

    def _view(self, key: int, member: Member) -> SessionView:
        return views.session_view(
            key,
            member,
            self.wall,
            self._egress.device(key),
            self._egress.path(key),
            key in self.captures,
            self.board.next_version,
        )

    def _show(self, key: int) -> None:
        member = self.fleet.members.get(key)
        if member is not None:
            self.board.update(self._view(key, member))

    def _show_details(self, key: int) -> None:
        member, view = self.fleet.members.get(key), self.board.view(key)
        if member is not None and view is not None:
            usage = self._usage(view)
            strays = self._egress.strays(key)
            self.board.details[key] = views.details(key, member, self._now, self.wall, usage, strays)

    def _all_settings(self) -> list[SessionSettings]:
        return [member.session.settings for _, member in self.fleet]
