"""What was done to sessions lately, so that it can be taken back: removed, changed, added, hung up. Without I/O.

A step names sessions by their names: one that was removed and is there again has another key.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from itertools import count

from msgspec import Struct
from msgspec.structs import replace

from engine.api.commands import Add, Amend, Command, Edit, HangUp, Remove, ServiceCommand
from engine.api.values import UndoStep
from engine.sessions.fleet import Fleet
from engine.settings.values import SessionSettings
from engine.supervisor.board import Board

KEPT = 100
"""Steps: in safe mode more than the ten that are shown may have to be taken back."""
SHOWN = 10


class Before(Struct, frozen=True):
    """A session as it was."""

    settings: SessionSettings
    wanted: bool
    """Whether it was to be up."""


class Step(Struct, frozen=True):
    """What takes one command back."""

    told: UndoStep
    added: tuple[str, ...] = ()
    """These go."""
    removed: tuple[Before, ...] = ()
    """These come back."""
    changed: tuple[tuple[str, SessionSettings], ...] = ()
    """The name now, and the settings before."""
    hung_up: tuple[str, ...] = ()
    """These are dialled."""


class Undoing:
    """The latest steps of one engine."""

    def __init__(self, fleet: Fleet, board: Board) -> None:
        self._fleet = fleet
        self._board = board
        self._numbers = count(1)
        self._steps: deque[Step] = deque(maxlen=KEPT)
        self.shown: tuple[UndoStep, ...] = ()
        """The latest, oldest first; any thread."""

    def look(self, command: Command | ServiceCommand) -> Mapping[int, Before]:
        """The sessions that a command is about, before it is carried out; empty where it can't be taken back."""
        match command:
            case Remove(keys) | HangUp(keys) | Amend(keys):
                pass
            case Edit(key):
                keys = (key,)
            case _:
                return {}
        settings, members = self._board.settings, self._fleet.members
        return {key: Before(settings[key], members[key].wanted) for key in keys if key in settings and key in members}

    def note(
        self,
        command: Command | ServiceCommand,
        before: Mapping[int, Before],
        done: Iterable[int],
        what: str,
        at: float,
        by: str,
    ) -> None:
        """A command was carried out for these sessions."""
        found = [(key, before[key]) for key in done if key in before]
        names = tuple(was.settings.name for _, was in found)
        step = Step(UndoStep(0, at, by, what, len(names), names[0] if len(names) == 1 else ""))
        match command:
            case Add(settings) if [*done]:
                step = replace(step, told=replace(step.told, sessions=1, name=settings.name), added=(settings.name,))
            case Remove():
                step = replace(step, removed=tuple(was for _, was in found))
            case Edit() | Amend():
                now = self._board.settings
                changes = [(now[key].name, was.settings) for key, was in found if now[key] != was.settings]
                step = replace(step, changed=tuple(changes))
            case HangUp():
                step = replace(step, hung_up=tuple(was.settings.name for _, was in found if was.wanted))
        if step.added or step.removed or step.changed or step.hung_up:
            self._steps.append(replace(step, told=replace(step.told, number=next(self._numbers))))
            self._show()

    def take(self, number: int, by: str | None = None) -> list[Step]:
        """The steps from this one on, the latest first, of all or of one: they are to be taken back."""
        found = [step for step in reversed(self._steps) if step.told.number >= number and by in (None, step.told.by)]
        for step in found:
            self._steps.remove(step)
        self._show()
        return found

    def touches_hooks(self, number: int, by: str | None = None) -> bool:
        """Whether to take these steps back would have sessions run other programs than now; any thread."""
        steps = [step for step in self._steps.copy() if step.told.number >= number and by in (None, step.told.by)]
        return any(was.hooks != SessionSettings("").hooks for step in steps for was in _settings(step))

    def _show(self) -> None:
        self.shown = tuple(step.told for step in self._steps)[-SHOWN:]


def _settings(step: Step) -> Iterable[SessionSettings]:
    return [*(was.settings for was in step.removed), *(was for _, was in step.changed)]
