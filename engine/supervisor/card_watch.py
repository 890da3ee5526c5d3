"""What becomes of the card: taken, lost, back, changed. It says what happened; the supervisor does what follows.

A card can be away in many ways: set down, unplugged, pulled out, its driver reloaded. While only its carrier is away
we keep it; what can't change under our feet (its index, queues and address) makes us give it back and take it anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from engine.api.values import CardView
from engine.card.facts import Card
from engine.host.errors import Trouble
from engine.record.plural import plural
from engine.supervisor.handed import Line, Taken
from engine.wire.ethernet import format_mac


@dataclass(frozen=True, slots=True)
class CardTaken:
    """The card is ours."""

    card: Card
    taken: Taken


@dataclass(frozen=True, slots=True)
class CardLost:
    """Nothing can be sent any more."""

    why: str
    """One full sentence."""


@dataclass(frozen=True, slots=True)
class CardBack:
    """Frames go and come again."""


@dataclass(frozen=True, slots=True)
class CardMtu:
    """Its MTU was changed."""

    mtu: int


@dataclass(frozen=True, slots=True)
class CardTrouble:
    """It is there and can't be taken."""

    why: str


CardNews = CardTaken | CardLost | CardBack | CardMtu | CardTrouble


class CardWatch:
    """The one card of a supervisor."""

    def __init__(self, name: str, line: Line, *, lab: bool = False) -> None:
        self.name = name
        self.view: CardView | None = None
        """None until it was taken for the first time."""
        self._line = line
        self._lab = lab
        self._taken: tuple[Card, Taken] | None = None

    @property
    def mac(self) -> bytes:
        """The address it has, or had when it was last there."""
        assert self._mac is not None
        return self._mac

    _mac: bytes | None = None

    def open(self) -> CardTaken:
        """Take the card for the first time. Raises Trouble."""
        card = self._line.look()
        if not card.up:
            raise Trouble(f"{self.name} is down: bring it up with `ip link set {self.name} up`.")
        return self._take(card)

    def look(self) -> Iterator[CardNews]:
        """Look at the card again; what has happened to it since the last look. Act on each piece before the next."""
        try:
            card = self._line.look()
        except Trouble:
            if self._taken is not None:
                yield from self._lose(f"{self.name} is gone.")
                self._give_back()
            return
        if self._taken is not None and _identity(card) != _identity(self._taken[0]):
            what = f"it now has {plural(card.queues, 'queue')} and the address {format_mac(card.mac)}"
            yield from self._lose(f"{self.name} has changed: {what}.")
            self._give_back()
        was_up = self.view is not None and self.view.up
        if self.view is not None and card.mtu != self.view.mtu:
            yield CardMtu(card.mtu)
        usable = card.up and card.carrier
        if was_up and not usable:
            yield from self._lose(f"{self.name} {'lost its carrier' if card.up else 'is down'}.")
        self._show(card, usable and was_up)
        if usable and not was_up:
            if self._taken is None:
                try:
                    yield self._take(card)
                except Trouble as error:
                    self._show(card, False)
                    yield CardTrouble(f"{error} Waiting for the card to change.")
                    return
            self._show(card, True)
            yield CardBack()

    def note(self, text: str) -> None:
        """One line about the card that the operator should know, unless there is one already."""
        if self.view is not None and not self.view.notice:
            self.view = replace(self.view, notice=text)

    def _take(self, card: Card) -> CardTaken:
        self._mac = card.mac
        self._taken = card, self._line.take(card)
        self._show(card, card.up and card.carrier)
        return CardTaken(*self._taken)

    def _lose(self, why: str) -> Iterator[CardLost]:
        if self.view is not None and self.view.up:
            self.view = replace(self.view, up=False)
        yield CardLost(why)

    def _give_back(self) -> None:
        self._line.give_back()
        self._taken = None
        if self.view is not None:
            self.view = replace(self.view, mode="", zero_copy=False, notice="")

    def _show(self, card: Card, up: bool) -> None:
        taken = self._taken[1] if self._taken is not None else Taken("", False)
        notice = self.view.notice if self.view is not None and self._taken is not None else ""
        self.view = CardView(
            name=self.name,
            mac=format_mac(card.mac),
            mtu=card.mtu,
            up=up,
            mode=taken.mode,
            zero_copy=taken.zero_copy,
            driver=card.driver,
            lab=self._lab,
            receive_rules=card.receive_rules,
            notice=taken.notice or notice,
        )


def _identity(card: Card) -> tuple[int, int, bytes]:
    """What can't change under our feet."""
    return card.index, card.queues, card.mac
