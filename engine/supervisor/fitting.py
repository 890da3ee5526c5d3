"""What the card means for each session: the address it may use, the room it has, the VLAN tags that may get lost."""

from __future__ import annotations

from collections.abc import Iterable

from engine.api.values import Severity
from engine.egress.protocol import Egress
from engine.sessions.macs import own_mac
from engine.sessions.session import Session
from engine.settings.values import SessionSettings
from engine.supervisor import sizes, tags
from engine.supervisor.card_watch import CardWatch
from engine.supervisor.handed import Line
from engine.supervisor.reporting import Reporter
from engine.supervisor.showing import Showing


class Fitting:
    """Sessions fitted to one card."""

    def __init__(self, card: CardWatch, line: Line, egress: Egress, showing: Showing, reporter: Reporter) -> None:
        self._card = card
        self._line = line
        self._egress = egress
        self._showing = showing
        self._reporter = reporter
        self._warned_of_lost_tags = False

    def own_mac(self, settings: SessionSettings) -> bytes:
        """The session's MAC address, which the card will listen to from now on, in its VLAN too. Raises Trouble."""
        card = self._card
        mac = own_mac(settings, card.mac)
        because = ""
        if mac != card.mac:
            because = "sessions have MAC addresses of their own"
        elif settings.vlans and card.filters_vlans:
            because = "its VLAN filter would take tagged frames away"
        if because and self._line.hear_all():
            card.note(f"{card.name} is in promiscuous mode: {because}.")
            self._reporter.tell(Severity.INFO, "promiscuous", f"{card.name} is in promiscuous mode now: {because}.")
        return mac

    def check(self, settings: SessionSettings) -> None:
        """Tell what a session lacks on this card."""
        self.warn_of_lost_tags([settings])
        if text := sizes.too_small(self._card.view, settings):
            self._reporter.tell(Severity.WARNING, "card-mtu", text)

    def reconfigure(self, session: Session, settings: SessionSettings) -> None:
        """Give a session the settings that it has from its next dial on. Raises Trouble."""
        self._line.expect(settings.datapath)
        session.reconfigure(settings, self.own_mac(settings))
        self.make_room(session)

    def adapt(self, session: Session) -> None:
        """The card may have another address now. Raises Trouble."""
        self.reconfigure(session, session.next_settings)

    def make_room(self, session: Session) -> None:
        """Hold a session to what the card has room for, by its settings of now and of its next dial."""
        card = self._card.view
        if card is not None:
            session.room = min(sizes.room(card, of) for of in (session.settings, session.next_settings))

    def hold(self, key: int, session: Session) -> None:
        """The card's MTU was changed: the session's is never larger than that leaves room for. Raises Trouble."""
        before = session.mtu
        self.make_room(session)
        if session.mtu is not None and session.mtu != before:
            self._showing.mark(key)
            self._egress.set_mtu(key, session.mtu)

    def warn_of_lost_tags(self, sessions: Iterable[SessionSettings], *, anew: bool = False) -> None:
        """Where frames of these sessions may lose their VLAN tags on the way: say so, once, or once more if `anew`."""
        if anew:
            self._warned_of_lost_tags = False
        if not self._warned_of_lost_tags and (text := tags.lost(self._card.view, sessions)):
            self._warned_of_lost_tags = True
            self._reporter.tell(Severity.WARNING, "vlan-offload", text)
