"""What follows for the sessions when something becomes of the card."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from engine.api.ending import End, EndKind
from engine.api.plural import plural
from engine.api.values import SessionState, Severity
from engine.ppp.link_events import RoundTrip
from engine.sessions.fleet import Fleet
from engine.sessions.macs import own_mac
from engine.sessions.session import Ended, Session, SessionEvent, StateChanged
from engine.sessions.states import IDLE
from engine.settings.values import Settings
from engine.supervisor import sizes
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
from engine.supervisor.fitting import Fitting
from engine.supervisor.handed import Line
from engine.supervisor.large_frames import LargeFrames, Step
from engine.supervisor.parting import Parting
from engine.supervisor.reporting import Reporter
from engine.supervisor.shares import Shares
from engine.supervisor.showing import Showing


class CardDuties:
    """All that is done about one card."""

    def __init__(
        self,
        settings: Settings,
        card: CardWatch,
        line: Line,
        fleet: Fleet,
        fitting: Fitting,
        parting: Parting,
        shares: Shares,
        showing: Showing,
        reporter: Reporter,
    ) -> None:
        self._settings = settings
        self._card = card
        self._line = line
        self._fleet = fleet
        self._fitting = fitting
        self._parting = parting
        self._shares = shares
        self._showing = showing
        self._reporter = reporter
        self._large = LargeFrames()

    def act(self, news: CardNews) -> None:
        """Do what one piece of news makes necessary. Raises Trouble."""
        tell = self._reporter.tell
        match news:
            case CardTaken():
                self._taken(news)
            case CardLost(why):
                self._lost(why)
            case CardWaits(why, usual):
                tell(Severity.INFO if usual else Severity.WARNING, "card-waits", why)
            case CardBack(text):
                self._back(text)
            case CardRenamed(name, text):
                tell(Severity.INFO, "card-renamed", text)
                self._reporter.attempt(self._parting.rename, name, kind="journal")
            case CardMac(former, text):
                self._mac(former, text)
            case CardMended(text, usual):
                tell(Severity.INFO if usual else Severity.ERROR, "card-mended", text)
            case CardMtu(mtu):
                self._mtu(mtu)
            case CardUnseen(why):
                tell(Severity.WARNING, "card-unseen", f"{why} It is taken to be as it was.")
            case CardTrouble(why):
                tell(Severity.ERROR, "card-lost", why)

    def _taken(self, news: CardTaken) -> None:
        card, taken = news.card, news.taken
        self._shares.finish()  # what the card's absence means for its sessions
        self._fleet.hold()  # until it has a carrier
        self._parting.card_taken()
        self._adapt_all()
        self._large = LargeFrames(wanted=taken.zero_copy or self._large.wanted)
        copying = "zero-copy" if taken.zero_copy else "copy"
        how = f"{taken.mode} mode, {copying}, {plural(taken.queues, 'queue')}"
        self._reporter.tell(Severity.INFO, "card-ready", f"{card.name} is ready: {how}.")
        if taken.notice:
            self._reporter.tell(Severity.WARNING, "card-notice", taken.notice)
        self._fitting.warn_of_lost_tags(self._settings.sessions, anew=True)

    def _lost(self, why: str) -> None:
        up = sum(member.session.state is SessionState.UP for _, member in self._fleet)
        lost = f" {plural(up, 'session')} lost." if up else ""
        text = f"{why}{lost} Sessions are dialled again when it is back."
        self._reporter.tell(Severity.ERROR, "card-down", text)
        self._fleet.hold()
        self._parting.card_lost()

        def lose(key: int, now: float) -> None:
            member = self._fleet.members[key]
            on_the_line = member.session.state not in IDLE
            if on_the_line or (member.wanted and member.reason != EndKind.CARD_DOWN):
                self._fleet.stop(key, End(EndKind.CARD_DOWN, why), now)

        self._shares.each(lose, [*self._fleet.members])

    def _back(self, text: str) -> None:
        if text:
            self._reporter.tell(Severity.INFO, "card-up", text)
        queued = [key for key, _ in self._fleet if self._fleet.is_queued(key)]
        others = [key for key, member in self._fleet if member.wanted and not self._fleet.is_queued(key)]
        self._fleet.release(self._reporter.now)  # who is dialled by this and can't be is not to be dialled once more
        self._shares.each(self._fleet.wait_for_turn, queued)
        self._shares.each(self._fleet.dial_again, others)

    def _mac(self, former: bytes, text: str) -> None:
        """The card has another address: who used the former one is heard no more. Who has one of its own lives on."""

        def is_lost(session: Session) -> bool:
            is_cards = session.own_mac == former != own_mac(session.settings, self._card.mac)
            return is_cards and session.state not in IDLE

        def renew(key: int, now: float) -> None:
            member = self._fleet.members[key]
            if is_lost(member.session):
                self._fleet.stop(key, End(EndKind.CARD_DOWN, f"{text}."), now)
                if member.wanted:
                    self._fleet.dial_again(key, now)

        lost = [key for key, member in self._fleet if is_lost(member.session)]
        what = f"{plural(len(lost), 'session')} that used it must be dialled anew" if lost else "no session used it"
        self._reporter.tell(Severity.WARNING if lost else Severity.INFO, "card-mac", f"{text}: {what}.")
        self._adapt_all()
        self._shares.each(renew, lost)

    def _mtu(self, mtu: int) -> None:
        if self._card.view is None:
            return
        settings = [member.session.settings for _, member in self._fleet]
        self._reporter.tell(*sizes.mtu_news(self._card.view, mtu, settings))
        for key, member in self._fleet:
            self._reporter.attempt(self._fitting.hold, key, member.session, kind="device", about=key)

    def _adapt_all(self) -> None:
        for key, member in self._fleet:
            self._showing.mark(key)
            self._reporter.attempt(self._fitting.adapt, member.session)

    # Large frames

    def follow(self, key: int, session: Session, event: SessionEvent) -> None:
        """See who can be asked for large frames."""
        match event:
            case StateChanged(SessionState.UP):
                self._large.offer(key, session.mtu or 0, self._reporter.now)
            case Ended():
                self._large.withdraw(key)

    def answered(self, key: int, event: RoundTrip) -> None:
        """A session had an answer to an echo of LARGE octets, which may be the one that was asked for."""
        if self._large.answered(key, event.asked) and not self._card.zero_copy:
            text = f"Packets of {event.asked:,} octets come through {self._card.name}."
            self._reporter.tell(Severity.INFO, "large-frames", text)

    def forget(self, key: int) -> None:
        """A session is gone."""
        self._large.withdraw(key)

    def next_timer(self) -> float | None:
        """When `handle_timer` is to be called, None for not at all."""
        return self._large.due

    def handle_timer(self, now: float, follow: Callable[[Iterable[CardNews]], None]) -> None:
        """Ask for large frames where that is due; do without zero-copy where none come. `follow` acts on news."""
        large, card = self._large, self._card
        match large.step(now):
            case Step.ASK if large.key is not None:
                large.octets = self._fleet.ask_full_size(large.key, now)
            case Step.LOST:
                text = f"Packets of {large.octets:,} octets don't come through {card.name}"
                is_copied = card.zero_copy and self._line.copy()
                if is_copied:
                    text += " in zero-copy: its frames are copied now."
                elif card.zero_copy:
                    text += " in zero-copy. Is it the driver? `xdp: copy` does without."
                else:
                    text += " in copy mode either: look at the line. `xdp: zero-copy` makes the card faster again."
                self._reporter.tell(Severity.WARNING, "large-frames", text)
                if is_copied:
                    large.wanted = True
                    follow(card.take_anew("without zero-copy", now))
                    card.note("Frames are copied: in zero-copy large ones were lost.")
