"""What a console, a command line or a test may ask of an engine, and what it answers: values.

A `Request` is a command with a number of its sender's choosing; each is answered by one `Reply` with that number. A
session is named by its key (`SessionView.id`), which goes to another one only when there is no fresh one left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from msgspec import Struct

from engine.api.values import Halt
from engine.settings.reload import Change, Plan
from engine.settings.values import SessionSettings
from engine.wire.value import Likened, Veiled


class Dial(Struct, frozen=True):
    """Dial those that are down or failed."""

    keys: tuple[int, ...]


class HangUp(Struct, frozen=True):
    """End sessions and leave them down; also stops a pending retry."""

    keys: tuple[int, ...]


class Redial(Struct, frozen=True):
    """Hang up where needed, then dial."""

    keys: tuple[int, ...]


class Rotate(Struct, frozen=True):
    """Hang up and dial for another IPv4 address, a few times if need be; an event tells what came of it."""

    keys: tuple[int, ...]


class Add(Struct, frozen=True):
    """Add a session, and dial it if its settings say so."""

    settings: SessionSettings


class Edit(Struct, frozen=True):
    """Replace a session's settings; in force at its next dial."""

    key: int
    settings: SessionSettings


class Amend(Veiled, frozen=True):
    """Change some settings of sessions, each from its own; in force at their next dials."""

    VEILED = ("texts",)

    keys: tuple[int, ...]
    texts: tuple[tuple[str, str], ...]
    """A form's fields and what they are to hold (`engine.settings.forms`); one may be a password."""


class Undo(Struct, frozen=True):
    """Take a step and all after it back, the latest first; see `Snapshot.steps`."""

    number: int
    own: bool = False
    """Only those of whoever asks."""


class Remove(Struct, frozen=True):
    """End sessions at once, with a PADT only, and forget them."""

    keys: tuple[int, ...]


class ClearGhosts(Struct, frozen=True):
    """Send a PADT for every session that an earlier run left open."""


class FixCard(Struct, frozen=True):
    """Switch off what the card does that keeps frames, or XDP, from us; on again at the end. May end sessions."""


class Stop(Struct, frozen=True):
    """Stop something for all sessions until told otherwise; with `Halt.NOTHING` what waits for that is dialled."""

    what: Halt


class StartCapture(Struct, frozen=True):
    """Write these sessions' control frames to a new pcapng file, instead of where they went before."""

    keys: tuple[int, ...]
    path: str


class StopCapture(Struct, frozen=True):
    """Write these sessions' control frames no more."""

    keys: tuple[int, ...]


class ResetCounters(Struct, frozen=True):
    """Count what these sessions carry from now on."""

    keys: tuple[int, ...]


class Ping(Struct, frozen=True):
    """Ask the far ends of sessions without a device for an echo; events tell what came."""

    keys: tuple[int, ...]


class Watch(Struct, frozen=True):
    """Make a session's details and keep them fresh for a while; somebody who looks on asks again and again."""

    key: int


Command = (
    Dial
    | HangUp
    | Redial
    | Rotate
    | Add
    | Edit
    | Amend
    | Undo
    | Remove
    | ClearGhosts
    | FixCard
    | Stop
    | StartCapture
    | StopCapture
    | ResetCounters
    | Ping
    | Watch
)


class Reload(Struct, frozen=True):
    """Read the configuration again and do what is different; only for an engine that is served and has one."""


class Shutdown(Struct, frozen=True):
    """End all sessions, give the card back and end the engine; only for one that is served."""


class Safe(Struct, frozen=True):
    """From now on take back what this client does when its connection goes, or no longer; only for a served engine.

    Said again while it is so, it is a sign of life: who gives none for a while is taken for gone.
    """

    on: bool


class Keep(Struct, frozen=True):
    """Let stay what another client did in safe mode until now, whatever becomes of that; only for a served engine."""

    client: int
    """Its `ClientView.id`."""


ServiceCommand = Reload | Shutdown | Safe | Keep
"""What the process is asked that serves the engine."""


def taking_over(plan: Plan) -> list[Command]:
    """The commands that do what reading a configuration again changes."""
    commands: list[Command] = [Remove(plan.remove)] if plan.remove else []
    commands += [Edit(key, settings) for key, settings in plan.edit]
    return commands + [Add(settings) for settings in plan.add]


def changes_of(
    done: Iterable[int], before: Mapping[int, str], settings: Callable[[int], SessionSettings | None]
) -> list[Change]:
    """What a command that was carried out for these sessions changes in a configuration, by their names before."""
    return [(before.get(key), settings(key)) for key in done]


class Request(Likened, frozen=True):
    """A command with a number of its sender's choosing."""

    APART = ("by",)

    id: int
    command: Command | ServiceCommand
    by: str = ""
    """Who gave it, for the event that tells of it; empty where nobody needs to be told. Never from outside."""


class Refused(Struct, frozen=True):
    """What could not be done to one session, and why."""

    key: int | None
    """None where there is no session yet, as for one that could not be added."""
    reason: str
    """One line, full sentences."""


class Reply(Struct, frozen=True):
    """What became of a request."""

    id: int
    """That of the request."""
    done: tuple[int, ...] = ()
    """The sessions it was done to; for `Add` the new one's key."""
    refused: tuple[Refused, ...] = ()
    ghosts: int = 0
    """For `ClearGhosts`: how many sessions that an earlier run left open get their PADT."""
    remarks: tuple[str, ...] = ()
    """What else came of it that one should know, as that the configuration could not be written; a line each."""
