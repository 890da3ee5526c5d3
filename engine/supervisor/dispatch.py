"""Which command does what, and to whom it can't be done: one table."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from engine.api.commands import (
    Add,
    Amend,
    ClearGhosts,
    Command,
    Dial,
    Edit,
    FixCard,
    HangUp,
    Ping,
    Redial,
    Refused,
    Remove,
    Reply,
    Request,
    ResetCounters,
    Rotate,
    ServiceCommand,
    StartCapture,
    Stop,
    StopCapture,
    Undo,
    Watch,
)
from engine.api.plural import plural
from engine.api.values import COMMAND, Halt, SessionState, Severity
from engine.host.errors import Trouble
from engine.record.lacking import not_up
from engine.sessions.fleet import Fleet
from engine.settings import forms
from engine.settings.fields import check
from engine.settings.values import EgressChoice, SessionSettings, kept
from engine.supervisor.supervisor import Supervisor

GONE = "There is no such session any more."
STOPPED = "All is stopped: nobody is dialled until you take that back (H, or `souppp-tui ctl go-on`)."
LOGGED_KEYS = 500
"""Sessions that the log of commands names; of more it tells the number."""
OF_THE_SERVICE = "This engine belongs to a console: leave that one, or use `souppp-tui serve`."
FAULT = "Internal error: see the events."


class _Outcome(Struct):
    by: str = ""
    """Who asks."""
    done: list[int] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    ghosts: int = 0
    whole: bool = False
    """Whether the command was carried out to its end, without a fault of our own."""


def do(supervisor: Supervisor, request: Request, now: float) -> Reply:
    """Carry a command out. What can't be done is in the reply and never raised.

    What the world refuses only later (a dial that fails, a device) is told by events.
    """
    outcome = _Outcome(request.by)

    def carry_out() -> None:
        command = request.command
        asked, only = _asked(supervisor, command), _only(supervisor, command)
        before = supervisor.undoing.look(command)
        _TABLE.get(type(command), _elsewhere)(supervisor, command, outcome)
        outcome.whole = True
        supervisor.undoing.note(command, before, outcome.done, _words(command), supervisor.wall(now), request.by)
        if not isinstance(command, Watch):
            _log(supervisor, asked, only, outcome)

    supervisor.run(carry_out, now)
    if not outcome.whole:
        outcome.refused.append(Refused(None, FAULT))
    return Reply(request.id, tuple(outcome.done), tuple(outcome.refused), outcome.ghosts)


def _elsewhere(supervisor: Supervisor, command: ServiceCommand, outcome: _Outcome) -> None:
    outcome.refused.append(Refused(None, OF_THE_SERVICE))


def _asked(supervisor: Supervisor, command: Command | ServiceCommand) -> str:
    """What a command asks for, in words: who looks at the events later can't know it from their effects alone."""
    words = _words(command)
    keys = getattr(command, "keys", None) or ((command.key,) if isinstance(command, Edit) else ())
    if isinstance(command, Stop):
        return "Go on" if command.what is Halt.NOTHING else f"{words}: {command.what}"
    if isinstance(command, Add):
        return f"{words}: {command.settings.name}"
    if not keys:
        return words
    known = supervisor.board.view(keys[0]) if len(keys) == 1 else None
    return f"{words}: {known.name if known is not None else plural(len(keys), 'session')}"


def _only(supervisor: Supervisor, command: Command | ServiceCommand) -> int | None:
    """The session that a command is about, if it is about one that is there."""
    keys: tuple[int, ...] = getattr(command, "keys", None) or ((command.key,) if isinstance(command, Edit) else ())
    return keys[0] if len(keys) == 1 and keys[0] in supervisor.fleet.members else None


def _log(supervisor: Supervisor, asked: str, only: int | None, outcome: _Outcome) -> None:
    """Who did what to which sessions, and what came of it: of its own kind, and kept apart from all that follows."""
    done, refused = len(outcome.done), outcome.refused
    came = [f"done to {plural(done, 'session')}"] if done > 1 else []
    if came and not refused and asked.endswith(f": {plural(done, 'session')}"):
        came = ["done"]  # to all of them, whose number stands there
    if refused:
        to = f" to {plural(len(refused), 'session')}" if done else ""
        came.append(f"not done{to}: {refused[0].reason.rstrip('.')}")
    told = f"{asked}, by {outcome.by or 'the console here'}{': ' if came else ''}{'; '.join(came)}."
    facts: tuple[tuple[str, str | int | float], ...] = (("done", done), ("refused", len(refused)))
    if outcome.by:
        facts += (("by", outcome.by),)
    if 0 < done <= LOGGED_KEYS:
        facts += (("keys", " ".join(map(str, outcome.done))),)
    severity = Severity.INFO if outcome.by else Severity.DEBUG
    about = only if only in supervisor.fleet.members else None
    supervisor.tell(severity, COMMAND, told, about, facts)


def _words(command: Command | ServiceCommand) -> str:
    """A command's name as words: `Hang up`; to change some fields of many is to edit them too."""
    return (
        "Edit" if isinstance(command, Amend) else re.sub(r"(?<!^)(?=[A-Z])", " ", type(command).__name__).capitalize()
    )


def _there(supervisor: Supervisor, keys: Iterable[int], outcome: _Outcome) -> list[int]:
    """Those of the sessions that exist; the others are refused."""
    members, leaving = supervisor.fleet.members, supervisor.leaving
    found = [key for key in keys if key in members and key not in leaving]
    outcome.refused += [Refused(key, GONE) for key in keys if key not in members or key in leaving]
    return found


def _fleet(action: Callable[[Fleet, int, float], None]) -> Callable[[Supervisor, Any, _Outcome], None]:
    """The same done to each session by the fleet."""

    def carry_out(supervisor: Supervisor, command: Any, outcome: _Outcome) -> None:
        found = _there(supervisor, command.keys, outcome)
        supervisor.each(lambda key, now: action(supervisor.fleet, key, now), found)
        outcome.done += found

    return carry_out


def _unless_stopped(
    carry_out: Callable[[Supervisor, Any, _Outcome], None],
) -> Callable[[Supervisor, Any, _Outcome], None]:
    """What dials is refused while all is stopped, so that nobody waits for it."""

    def unless_stopped(supervisor: Supervisor, command: Any, outcome: _Outcome) -> None:
        if supervisor.halted.what is Halt.ALL:
            outcome.refused += [Refused(key, STOPPED) for key in command.keys]
        else:
            carry_out(supervisor, command, outcome)

    return unless_stopped


def _stop(supervisor: Supervisor, command: Stop, outcome: _Outcome) -> None:
    supervisor.stop_all(command.what, outcome.by)


def _rotate(supervisor: Supervisor, command: Rotate, outcome: _Outcome) -> None:
    found = _there(supervisor, command.keys, outcome)
    objections = {key: why for key in found if (why := supervisor.may_not_rotate(key))}
    outcome.refused += [Refused(key, why) for key, why in objections.items()]
    may = [key for key in found if key not in objections]
    supervisor.each(supervisor.rotate, may)
    outcome.done += may


def _sound(supervisor: Supervisor, settings: SessionSettings, key: int | None) -> SessionSettings:
    """Settings that hold to the rules a file has to hold to; raises Trouble."""
    try:
        settings = check(settings)
    except ValueError as error:
        raise Trouble("; ".join(str(error).splitlines())) from None
    supervisor.make_way(settings)
    taken = [of for other, of in supervisor.board.settings.items() if other != key]
    if settings.device is not None and any(other.device == settings.device for other in taken):
        raise Trouble(f"There is already a session with the device {settings.device}.")
    if settings.mark is not None and any(other.mark == settings.mark for other in taken):
        raise Trouble(f"There is already a session with the mark {settings.mark:#x}.")
    if settings.mark is not None and supervisor.marks is not None and settings.mark in supervisor.marks:
        raise Trouble(f"The marks {supervisor.marks} are given out: take another one.")
    return settings


def _add(supervisor: Supervisor, command: Add, outcome: _Outcome) -> None:
    try:
        key = supervisor.add(_sound(supervisor, command.settings, None))
    except Trouble as error:
        outcome.refused.append(Refused(None, str(error)))
        supervisor.tell(Severity.ERROR, "not-added", str(error))
        return
    outcome.done.append(key)
    if command.settings.autodial:
        supervisor.each(supervisor.fleet.dial, [key])


def _edit(supervisor: Supervisor, command: Edit, outcome: _Outcome) -> None:
    for key in _there(supervisor, [command.key], outcome):
        try:
            settings = kept(command.settings, supervisor.board.settings[key])
            supervisor.edit(key, _sound(supervisor, settings, key))
        except Trouble as error:
            outcome.refused.append(Refused(key, str(error)))
            supervisor.tell(Severity.ERROR, "not-changed", str(error), key)
        else:
            outcome.done.append(key)


def _amend(supervisor: Supervisor, command: Amend, outcome: _Outcome) -> None:
    texts = dict(command.texts)
    for key in _there(supervisor, command.keys, outcome):
        before = supervisor.board.settings[key]
        settings, errors = forms.read({**forms.write(before), **texts}, before, {})
        if errors:
            outcome.refused.append(Refused(key, "; ".join(f"{field} {why}" for field, why in errors.items())))
        else:
            _edit(supervisor, Edit(key, settings), outcome)


def _undo(supervisor: Supervisor, command: Undo, outcome: _Outcome) -> None:
    """Step by step; what can't be taken back any more is refused, and the rest is."""
    board, fleet = supervisor.board, supervisor.fleet
    for step in supervisor.undoing.take(command.number, outcome.by if command.own else None):
        keys = {settings.name: key for key, settings in board.settings.items() if key not in supervisor.leaving}
        gone = [keys[name] for name in step.added if name in keys]
        for key in gone:
            supervisor.remove(key)
        outcome.done += gone
        dialled: list[int] = []
        for was in step.removed:
            try:
                key_new = supervisor.add(_sound(supervisor, was.settings, None))
            except Trouble as error:
                outcome.refused.append(Refused(None, f"{was.settings.name}: {error}"))
                continue
            outcome.done.append(key_new)
            dialled += [key_new] * was.wanted
        for name, settings in step.changed:
            if name in keys:
                _edit(supervisor, Edit(keys[name], settings), outcome)
            else:
                outcome.refused.append(Refused(None, f"{name}: {GONE}"))
        found = [keys[name] for name in step.hung_up if name in keys]
        outcome.done += found
        supervisor.each(fleet.dial, dialled + found)
        whom = step.told.name or plural(step.told.sessions, "session")
        supervisor.tell(Severity.INFO, "undone", f"Taken back: {step.told.what.lower()}, {whom}.")


def _remove(supervisor: Supervisor, command: Remove, outcome: _Outcome) -> None:
    found = _there(supervisor, command.keys, outcome)
    supervisor.remove_all(found)
    outcome.done += found


def _clear_ghosts(supervisor: Supervisor, command: ClearGhosts, outcome: _Outcome) -> None:
    outcome.ghosts = supervisor.clear_ghosts()


def _fix_card(supervisor: Supervisor, command: FixCard, outcome: _Outcome) -> None:
    try:
        supervisor.fix_card()
    except Trouble as error:
        outcome.refused.append(Refused(None, str(error)))
        supervisor.tell(Severity.ERROR, "not-fixed", str(error))


def _start_capture(supervisor: Supervisor, command: StartCapture, outcome: _Outcome) -> None:
    found = _there(supervisor, command.keys, outcome)
    try:
        supervisor.captures.start([(key, supervisor.fleet.members[key].session) for key in found], Path(command.path))
    except Trouble as error:
        outcome.refused += [Refused(key, str(error)) for key in found]
        supervisor.tell(Severity.ERROR, "capture", str(error))
        return
    supervisor.changed(found)
    supervisor.tell(
        Severity.INFO, "capture", f"Control frames of {plural(len(found), 'session')} go to {command.path}."
    )
    outcome.done += found


def _stop_capture(supervisor: Supervisor, command: StopCapture, outcome: _Outcome) -> None:
    found = _there(supervisor, command.keys, outcome)
    supervisor.captures.stop([(key, supervisor.fleet.members[key].session) for key in found])
    supervisor.changed(found)
    supervisor.tell(Severity.INFO, "capture", "Capture stopped.")
    outcome.done += found


def _reset_counters(supervisor: Supervisor, command: ResetCounters, outcome: _Outcome) -> None:
    found = _there(supervisor, command.keys, outcome)
    supervisor.reset_counters(found)
    outcome.done += found


def _ping(supervisor: Supervisor, command: Ping, outcome: _Outcome) -> None:
    for key in _there(supervisor, command.keys, outcome):
        view = supervisor.board.view(key)
        assert view is not None
        if view.state is not SessionState.UP:
            outcome.refused.append(Refused(key, not_up(view)))
        elif view.egress != EgressChoice.STACK:
            told = f"ping -I {view.device} {view.ipv4_peer or ''}".rstrip()
            why = f"has a device: `{told}`." if view.device else f"has nothing to ask with (`egress: {view.egress}`)."
            outcome.refused.append(Refused(key, f"{view.name} {why}"))
        elif view.ipv4_peer is None:
            outcome.refused.append(Refused(key, f"The concentrator of {view.name} has told no address of its own."))
        else:
            supervisor.pings[key] = view.ipv4_peer
            outcome.done.append(key)


def _watch(supervisor: Supervisor, command: Watch, outcome: _Outcome) -> None:
    for key in _there(supervisor, [command.key], outcome):
        supervisor.watch(key)
        outcome.done.append(key)


_TABLE: dict[type, Callable[[Supervisor, Any, _Outcome], None]] = {
    Dial: _unless_stopped(_fleet(Fleet.dial)),
    HangUp: _fleet(Fleet.hang_up),
    Redial: _unless_stopped(_fleet(Fleet.redial)),
    Rotate: _unless_stopped(_rotate),
    Add: _add,
    Edit: _edit,
    Amend: _amend,
    Undo: _undo,
    Remove: _remove,
    ClearGhosts: _clear_ghosts,
    FixCard: _fix_card,
    Stop: _stop,
    StartCapture: _start_capture,
    StopCapture: _stop_capture,
    ResetCounters: _reset_counters,
    Ping: _ping,
    Watch: _watch,
}
