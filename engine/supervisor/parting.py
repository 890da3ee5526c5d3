"""The PADTs of sessions that have ended: handed over in shares, seen to leave, and only then struck off the journal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from engine.api.plural import plural
from engine.api.values import Severity
from engine.host.errors import Trouble
from engine.record.journal import padt_frame
from engine.supervisor.card_watch import CardWatch
from engine.supervisor.farewells import Farewells
from engine.supervisor.handed import Journal, Line
from engine.supervisor.reporting import Reporter
from engine.wire.place import Place

CHECK, MAX_CHECK = 0.02, 1.0
"""Seconds until a look whether the card has taken the PADTs it was handed; doubled from look to look, up to this."""
AGAIN = 5.0
"""Seconds until a journal that could not be written is tried again."""


class Parting:
    """What a card's sessions leave behind at their concentrators, also those of an earlier run: its ghosts."""

    def __init__(
        self,
        journal: Journal,
        card: CardWatch,
        line: Line,
        reporter: Reporter,
        sent: Callable[[Place, bytes, float], None],
    ) -> None:
        """`sent` is told of each PADT that was owed, when it is."""
        self._journal = journal
        self._card = card
        self._line = line
        self._reporter = reporter
        self._sent = sent
        self._farewells = Farewells()
        self._ended: list[Place] = []
        """Sessions that have ended since frames were last asked for: their PADTs are among the next."""
        self._ghosts: set[Place] = set()
        """Those whose PADT has not left yet."""
        self._ghosts_ended = 0
        """How many of them have ended and were not told of."""
        self._handed = self._handed_before = 0
        """How many frames were ever given out to be sent, and how many of them before the card was taken last."""
        self._next_check: float | None = None
        """When to see whether PADTs have left."""
        self._pause = CHECK
        self._at_end = False
        """Whether nobody looks before the end: see `look_at_end`."""
        self._write_again: float | None = None
        """When to write what the journal lacks; None where it lacks nothing."""

    @property
    def done(self) -> bool:
        """Whether no PADT is on its way any more."""
        return not (self._farewells.on_the_way or self._owes)

    @property
    def _owes(self) -> bool:
        """Whether there are PADTs to be sent that could be."""
        return self._farewells.owes and self._card.up

    def clear_ghosts(self) -> int:
        """End the sessions that an earlier run left open at the concentrator; returns how many there are."""
        ghosts = self._journal.ghosts()
        self._farewells.owe(ghosts)
        self._ghosts.update(ghosts)
        return len(ghosts)

    def note(self, open_now: Mapping[Place, bool]) -> None:
        """Sessions that have opened, or ended.

        On disk before LCP's first packet, so that a crash leaves no ghost unknown. A concentrator may hand the id of a
        session that has just ended out again at once.
        """
        opened = [place for place, is_open in open_now.items() if is_open]
        self._ended = [place for place in self._ended if place not in open_now]
        self._ended += [place for place, is_open in open_now.items() if not is_open]
        self._farewells.opened(opened)
        self._note(self._journal.opened, opened)

    def look_at_end(self) -> None:
        """All sessions are about to end, and the kernel's answers wait for devices that go: `judge` is called once."""
        self._at_end, self._next_check = True, None

    def card_taken(self) -> None:
        """The card counts the frames that it takes from nothing."""
        self._handed_before = self._handed

    def card_lost(self) -> None:
        """The card is gone, or its carrier: what was on the way is owed again."""
        self._farewells.lost()

    def rename(self, card: str) -> None:
        """The card has another name now. Raises Trouble."""
        self._journal.rename(card)

    def frames_to_send(self, fleets: Callable[[], list[bytes]]) -> list[bytes]:
        """The PADTs that are owed, and the fleet's frames only behind the last of them.

        A concentrator that has ended such a session already may hand its id out to the next one that is dialled from
        there: the PADT of the former would end that one. Without a carrier none: they would be lost. Who ended is owed
        a PADT then.
        """
        frames: list[bytes] = []
        ended: list[Place] = []
        owed = self._farewells.collect() if self._card.up else []
        if not self._farewells.owes or not self._card.up:
            frames, ended, self._ended = fleets(), self._ended, []
        if not self._card.up:
            self._farewells.owe(ended)
            return []
        padts = [*map(padt_frame, owed)]
        for place, padt in zip(owed, padts, strict=True):
            self._reporter.attempt(self._sent, place, padt, self._reporter.now)
        frames = [*padts, *frames]
        self._handed += len(frames)
        if owed or ended:
            self._farewells.sent(owed + ended, self._handed, self._card.carrier)
            if not self._at_end:
                self._pause, self._next_check = CHECK, self._next_check or self._reporter.now + CHECK
        return frames

    def next_timer(self) -> float | None:
        """When `handle_timer` is to be called, and frames asked for; None for not at all."""
        if self._owes:
            return self._reporter.now
        return min((at for at in (self._next_check, self._write_again) if at is not None), default=None)

    def handle_timer(self, now: float, look_at_card: Callable[[float], None]) -> None:
        """See whose PADT has left, if that is due: only now the journal may forget the session."""
        if self._write_again is not None and now >= self._write_again:
            self._reporter.attempt(self._write, self._journal.opened, [])
        if self._next_check is None or now < self._next_check:
            return
        self._next_check = None
        taken = self._taken
        if self._farewells.taken(taken):
            look_at_card(now)  # a card without a carrier takes frames too, and loses them
            left = self._farewells.left(taken, self._card.carrier)
            self._note(self._journal.closed, left)
            self._tell_of_ghosts(left)
        more = self._farewells.taken(taken)
        if more:
            self._next_check = now
        elif self._farewells.on_the_way:
            self._pause = min(2 * self._pause, MAX_CHECK)
            self._next_check = now + self._pause

    @property
    def all_taken(self) -> int | None:
        """For `judge`: how many frames the card has taken, if no PADT is left that it hasn't; else None."""
        taken = self._taken
        return taken if self._farewells.all_taken(taken) else None

    def judge(self, taken: int, carrier: int | None) -> None:
        """See whose PADT has left, by a look at the card's carrier after it had taken so many frames.

        Those that haven't are among the next frames.
        """
        self._card.carrier = carrier
        left = self._farewells.left(taken, carrier, every=True)
        self._note(partial(self._journal.closed, last=True), left)
        self._tell_of_ghosts(left)

    @property
    def _taken(self) -> int:
        """How many frames cards ever took."""
        return self._handed_before + self._line.frames_taken()

    def _tell_of_ghosts(self, left: list[Place]) -> None:
        ghosts = self._ghosts.intersection(left)
        self._ghosts -= ghosts
        self._ghosts_ended += len(ghosts)
        if self._ghosts_ended and not (self._farewells.taken(self._taken) or self._farewells.owes):
            text = f"Ended {plural(self._ghosts_ended, 'session')} that an earlier run had left open."
            self._reporter.tell(Severity.WARNING, "ghosts", text)
            self._ghosts_ended = 0

    def _note(self, step: Callable[[list[Place]], None], places: list[Place]) -> None:
        """Have the journal note something of sessions."""
        if places:
            self._reporter.attempt(self._write, step, places)

    def _write(self, step: Callable[[list[Place]], None], places: list[Place]) -> None:
        """What fails is told once, however many sessions come and go, and made up for as soon as that can be."""
        failing = self._write_again is not None
        try:
            step(places)
        except Trouble as error:
            self._write_again = self._reporter.now + AGAIN
            if not failing:
                self._reporter.tell(Severity.ERROR, "journal", str(error))
        else:
            self._write_again = None
            if failing:
                self._reporter.tell(Severity.INFO, "journal", "All open sessions are noted on the disk again.")
