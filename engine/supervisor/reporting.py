"""What is told, when, and of whom; and that a fault costs one session at most."""

from __future__ import annotations

from collections.abc import Callable

from engine.api.values import Severity
from engine.host.errors import Trouble
from engine.record.events import EventLog, Facts
from engine.sessions.fleet import Fleet
from engine.supervisor.ration import Ration, Told


class Reporter:
    """The event log's only writer in the supervisor, and its clock."""

    def __init__(self, fleet: Fleet, wall_offset: float) -> None:
        """`wall_offset` makes Unix time of the engine's."""
        self.log = EventLog()
        self.now = 0.0
        """The engine's time, as of the call that the supervisor is in."""
        self.wall_offset = wall_offset
        self._fleet = fleet
        self._ration = Ration()
        self._held: list[Told] | None = None
        """What is to be told when the table shows what it tells of; None while nothing is held back."""

    def wall(self, at: float) -> float:
        """The engine's time as Unix time."""
        return at + self.wall_offset

    def tell(self, severity: Severity, kind: str, text: str, key: int | None = None, facts: Facts = ()) -> None:
        """Put an event into the log; too many of one kind and one session are told later, as one."""
        self.handle_timer(self.now)
        member = self._fleet.members.get(key) if key is not None else None
        name = member.session.settings.name if member is not None else ""
        event = self.wall(self.now), severity, kind, text, key, name, facts
        if self._ration.grants(event, self.now):
            self._put(event)

    def next_timer(self) -> float | None:
        """When `handle_timer` is to be called, None for not at all."""
        return self._ration.next_timer()

    def handle_timer(self, now: float) -> None:
        """Tell what came too often to be told at once."""
        for event in self._ration.collect(now):
            self._put(event)

    def _put(self, event: Told) -> None:
        if self._held is None:
            self.log.add(*event)
        else:
            self._held.append(event)

    def hold(self) -> None:
        """Keep events back until `publish`: who reads of one is to find the table as it says."""
        self._held = []

    def publish(self) -> None:
        """Put what was kept back into the log."""
        held, self._held = self._held or [], None
        for event in held:
            self.log.add(*event)

    def attempt(
        self, work: Callable[..., None], *arguments: object, kind: str = "trouble", about: int | None = None
    ) -> None:
        """What goes wrong with one session, and a bug in its handling, must not stop the others: it is told."""
        try:
            work(*arguments)
        except Trouble as error:
            self.tell(Severity.ERROR, kind, str(error), about)
        except Exception as error:
            self.tell_of_bug(error, work.__name__)

    def tell_of_bug(self, error: Exception, place: str) -> str:
        """Tell of a fault of our own; returns the text."""
        text = f"Internal error, please report it: {type(error).__name__} in {place}: {error}"
        self.tell(Severity.ERROR, "internal-error", text)
        return text
