"""What becomes of the card: taken, lost, back, changed. It says what happened; the supervisor does what follows.

A card can be away in many ways: set down, unplugged, pulled out, its driver reloaded. While only its carrier is away
we keep it, and follow it to another name, another address and more queues; what can't change under our feet (its index,
fewer queues) makes us give it back and take it anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from msgspec import Struct
from msgspec.structs import replace

from engine.api.plural import plural
from engine.api.values import CardView
from engine.card.facts import Card
from engine.host.errors import Trouble, Unseen
from engine.supervisor.handed import Line, Taken
from engine.supervisor.tags import MADE_OF_OTHERS
from engine.wire.ethernet import format_mac

PATIENCE = 10.0
"""Seconds that a carrier may take to come back after the card was taken, before it is told as missing."""
LOOK = 0.1
"""Seconds between looks for it: the kernel may not tell of a short absence."""
DIALLED = "Sessions are dialled when it has one."


class CardTaken(Struct, frozen=True):
    """The card is ours."""

    card: Card
    taken: Taken


class CardLost(Struct, frozen=True):
    """Nothing can be sent any more."""

    why: str
    """One full sentence."""


class CardWaits(Struct, frozen=True):
    """It is ours, and has no carrier yet: whatever is sent now is lost."""

    why: str
    """One full sentence."""
    usual: bool
    """Whether that will pass by itself."""


class CardBack(Struct, frozen=True):
    """Frames go and come, for the first time or again."""

    text: str
    """One full sentence, or empty where that is a matter of course."""


class CardRenamed(Struct, frozen=True):
    """It has another name now."""

    name: str
    text: str
    """One full sentence."""


class CardMac(Struct, frozen=True):
    """It has another address now; sessions may have addresses of their own."""

    former: bytes
    text: str
    """The beginning of a sentence."""


class CardMended(Struct, frozen=True):
    """Something was done to it that costs no session."""

    text: str
    """One full sentence."""
    usual: bool
    """Whether it had to be put back, or served only."""


class CardMtu(Struct, frozen=True):
    """Its MTU was changed."""

    mtu: int


class CardUnseen(Struct, frozen=True):
    """Nobody can look at it; it is taken to be as it was."""

    why: str


class CardTrouble(Struct, frozen=True):
    """It is there and can't be taken."""

    why: str


CardNews = (
    CardTaken
    | CardLost
    | CardWaits
    | CardBack
    | CardRenamed
    | CardMac
    | CardMended
    | CardMtu
    | CardUnseen
    | CardTrouble
)


class _Wait(Struct):
    """For the carrier of a card that has been taken just now."""

    until: float | None
    """When it has been away for too long; None: it has, and that was told."""
    changes: int
    """How often it had changed when it was last seen: once more, and it isn't steady yet."""
    then: str
    """What to tell when it is there."""


class CardWatch:
    """The one card of a supervisor."""

    def __init__(self, name: str, line: Line, *, lab: bool = False) -> None:
        self.name = name
        self.view: CardView | None = None
        """None until it was taken for the first time."""
        self._line = line
        self._lab = lab
        self._taken: tuple[Card, Taken] | None = None
        self._trouble = ""
        """What it could not be taken for, as last told."""
        self._wait: _Wait | None = None
        self._next_look: float | None = None
        self._unseen = False
        """Whether that it can't be looked at was told."""
        self.filters_vlans = False
        """Whether it may drop tagged frames unless it is promiscuous."""
        self.carrier: int | None = None
        """How often it has changed, None where there is none: as last seen."""

    @property
    def mac(self) -> bytes:
        """The address it has, or had when it was last there."""
        assert self._mac is not None
        return self._mac

    _mac: bytes | None = None
    _received = 0

    @property
    def up(self) -> bool:
        """Whether frames go and come."""
        return self.view is not None and self.view.up

    @property
    def zero_copy(self) -> bool:
        """Whether its driver writes frames to our memory."""
        return self.view is not None and self.view.zero_copy

    def open(self, now: float) -> Iterator[CardNews]:
        """Take the card for the first time. Raises Trouble."""
        card = self._see()
        if not card.up:
            raise Trouble(f"{self.name} is down: bring it up with `ip link set {self.name} up`.")
        yield from self._take(card, now, "")

    @property
    def heard_nothing(self) -> bool:
        """Whether the card's own counter of received frames stands still since it was taken."""
        return self._taken is not None and self._received == self._taken[0].received

    def next_timer(self) -> float | None:
        """When `look` is due though nothing tells of a change, None for not at all."""
        return self._next_look

    def look(self, now: float) -> Iterator[CardNews]:
        """Look at the card again; what has happened to it since the last look. Act on each piece before the next."""
        self._next_look = None
        try:
            card = self._see()
        except Unseen as error:
            if not self._unseen:
                yield CardUnseen(str(error))
            self._unseen = True
            return
        except Trouble as error:
            if self._taken is not None:
                yield from self._lose(str(error))
                self._give_back()
            return
        if card.name != self.name:
            former, self.name = self.name, card.name
            if self.view is not None:
                self.view = replace(self.view, name=self.name)
            yield CardRenamed(self.name, f"{former} is called {self.name} now.")
        if self._taken is not None:
            yield from self._keep(card, *self._taken)
        was_up = self.up
        if self.view is not None and card.mtu != self.view.mtu:
            self.view = replace(self.view, mtu=card.mtu)
            yield CardMtu(card.mtu)
        usable = card.up and card.carrier
        if was_up and not usable:
            yield from self._lose(f"{self.name} {'lost its carrier' if card.up else 'is down'}.")
        self._show(card, usable and was_up)
        if usable and not was_up and self._taken is None:
            try:
                yield from self._take(card, now, f"{self.name} is back.")
            except Trouble as error:
                self._show(card, False)
                if str(error) != self._trouble:
                    self._trouble = str(error)
                    yield CardTrouble(f"{error} Waiting for the card to change.")
        elif usable and not was_up and self._wait is not None and self._wait.changes != card.carrier_changes:
            self._wait.changes, self._next_look = card.carrier_changes, now + LOOK
        elif usable and not was_up:
            wait, self._wait = self._wait, None
            self._show(card, True)
            yield CardBack(wait.then if wait is not None else f"{self.name} is back.")
        elif self._wait is not None and not was_up:
            yield from self._go_on_waiting(self._wait, now)

    def _keep(self, card: Card, before: Card, taken: Taken) -> Iterator[CardNews]:
        """See that a card that is ours is as it was taken; give it back where that can't be."""
        why = ""
        try:
            if card.index != before.index:
                why = f"{self.name} is another card now."
            elif card.queues < taken.queues:
                address = f" and the address {format_mac(card.mac)}" if card.mac != before.mac else ""
                why = f"{self.name} has changed: it now has {plural(card.queues, 'queue')}{address}."
            else:
                yield from self._follow(card, before, taken)
        except Trouble as error:
            why = f"{self.name} can't be used as it was: {str(error).rstrip('.')}."
        if why:
            yield from self._lose(why)
            self._give_back()

    def _follow(self, card: Card, before: Card, taken: Taken) -> Iterator[CardNews]:
        """Go with what changes on a card that we keep. Raises Trouble."""
        if card.mac != before.mac:
            self._mac, former = card.mac, before.mac
            before = replace(before, mac=card.mac)
            self._taken = before, taken
            text = f"{self.name} has the address {format_mac(card.mac)} now, before {format_mac(former)}"
            yield CardMac(former, text)
        if card.queues > taken.queues:
            self._line.grow(card)
            self._taken = before, replace(taken, queues=card.queues)
            text = f"{self.name} has {plural(card.queues, 'queue')} now, before {taken.queues}: all are served."
            yield CardMended(text, usual=True)
        elif self._line.mend():
            yield CardMended(f"Someone took our XDP program off {self.name}: it was put back.", usual=False)

    def fix(self, now: float) -> Iterator[CardNews]:
        """Switch off what the card does that keeps frames, or XDP, from us. Raises Trouble."""
        if self._line.fix():
            yield from self.take_anew("without what keeps XDP out of its driver", now)
        else:
            yield from self.look(now)

    def take_anew(self, how: str, now: float) -> Iterator[CardNews]:
        """Give the card back and take it again. Act on each piece before the next."""
        yield from self._lose(f"{self.name} is taken anew, {how}.")
        self._give_back()
        yield from self.look(now)

    def note(self, text: str) -> None:
        """One line about the card that the operator should know, unless there is one already."""
        if self.view is not None and not self.view.notice:
            self.view = replace(self.view, notice=text)

    def _see(self) -> Card:
        """The card as it is now. Raises Trouble."""
        self.carrier = None
        card = self._line.look()
        self._unseen = False
        self.filters_vlans = card.filters_vlans
        self._received = card.received
        self.carrier = card.carrier_changes if card.up and card.carrier else None
        return card

    def _take(self, before: Card, now: float, then: str) -> Iterator[CardNews]:
        """Take it; what it is like after that, another look tells, which is due at once. Raises Trouble.

        Many a driver resets its link for a program, and that takes time: so does this.
        """
        self._mac = before.mac
        taken = self._line.take(before)
        self._taken, self._trouble = (before, taken), ""
        card = before
        with suppress(Unseen):
            card = self._see()
        self._wait, self._next_look = _Wait(now + PATIENCE, card.carrier_changes, then), now
        self._show(card, False)
        yield CardTaken(card, taken)
        if card.up and card.carrier:
            return
        self._wait.then = f"{self.name} has its carrier."
        if before.carrier:
            text = f"The driver of {self.name} resets its link for the XDP program: nothing is sent until that is up."
            yield CardWaits(text, usual=True)
        else:
            yield CardWaits(f"{self.name} has no carrier: is the cable in? {DIALLED}", usual=False)

    def _go_on_waiting(self, wait: _Wait, now: float) -> Iterator[CardNews]:
        """Look again and again, and after some time only when the kernel tells of a change."""
        if wait.until is None:
            return
        if now < wait.until:
            self._next_look = now + LOOK
            return
        wait.until = None
        text = f"{self.name} still has no carrier, {PATIENCE:.0f} s after it was taken: is the cable in? {DIALLED}"
        yield CardWaits(text, usual=False)

    def _lose(self, why: str) -> Iterator[CardLost]:
        if self.view is not None:
            self.view = replace(self.view, up=False, waits=False)
        self._wait = None
        yield CardLost(why)

    def _give_back(self) -> None:
        self._taken = None
        if self.view is not None:
            self.view = replace(self.view, mode="", zero_copy=False, notice="", fixes="")
        self._line.give_back()  # last: it may go wrong

    def _show(self, card: Card, up: bool) -> None:
        taken = self._taken[1] if self._taken is not None else Taken("", False, 0)
        notice = self.view.notice if self.view is not None and self._taken is not None else ""
        self.view = CardView(
            name=self.name,
            mac=format_mac(card.mac),
            mtu=card.mtu,
            up=up,
            waits=self._wait is not None and not up,
            strips=card.strips_vlan_tags and card.driver not in MADE_OF_OTHERS,
            fixes=taken.fixes,
            mode=taken.mode,
            zero_copy=taken.zero_copy,
            driver=card.driver,
            lab=self._lab,
            receive_rules=card.receive_rules,
            notice=taken.notice or notice,
        )
