"""The engine without a screen: events and results as JSON, one object a line."""

from __future__ import annotations

import codecs
import json
import os
import select
import stat
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from msgspec import Struct

from engine.api.engine import EngineApi
from engine.api.values import FACTS, Changes, Event, SessionState, SessionView, Severity
from souppp_tui.app.eventfile import EventFile
from souppp_tui.commands.errors import EXIT_NOT_DONE, EXIT_OK, complain
from souppp_tui.show import words
from souppp_tui.terminal.leaving import Leaving
from souppp_tui.terminal.outlet import AGAIN, Outlet

LISTS = ("dns", "ipv6_addresses", "ipv6_prefixes")
LOOK, REST = 0.02, 0.1
"""Seconds between looks at the engine's events, and where nothing has happened for CALM seconds: to look fifty times a
second takes more of the processor than a hundred sessions that are up."""
CALM = 1.0
STDOUT = 1
LAG = 65536
"""Octets that nobody has read yet: with more, later events stay with the engine until they have been."""
FAREWELL = 2.0
"""Seconds for the last lines to be read after a signal."""
NOT_READ, NOT_WRITTEN = "nobody read them", "they could not be written"


class HeadlessOptions(Struct, frozen=True):
    """When to end."""

    until_up: bool = False
    """End when every session that is dialled at the start is up, or can't be in time."""
    timeout: float = 60.0
    """Seconds for that."""
    hold: bool = False
    """Then keep the sessions until a signal comes."""
    event_file: Path | None = None
    """Every event is appended to this file, whoever reads standard output."""


class EngineHere(EngineApi, Protocol):
    """One of this process, which can be asked often."""

    def changes_since(self, version: int) -> Changes:
        """See `engine.supervisor.board.Board.changes_since`."""


def event_object(event: Event) -> dict[str, Any]:
    """An event as it is printed."""
    return {
        "type": "event",
        "event": event.kind,
        "time": words.iso(event.at),
        "severity": event.severity.name.lower(),
        "session": event.name or None,
        "text": event.text,
        **{name: _fact(name, value) for name, value in event.facts if name in FACTS},
    }


def _fact(name: str, value: str | int | float) -> Any:
    if name in LISTS:
        return str(value).split()
    return words.iso(float(value)) if name == "retry_at" else value


def session_object(view: SessionView, at: float, trouble: str | None = None) -> dict[str, Any]:
    """A session as it is printed at the end of `--until-up`; `trouble` is what its latest failure was."""
    return {
        "type": "session",
        "time": words.iso(at),
        "name": view.name,
        "state": str(view.state),
        "ipv4": view.ipv4,
        "ipv6": view.ipv6,
        "ipv6_addresses": list(view.ipv6_addresses),
        "ipv6_prefixes": list(view.ipv6_prefixes),
        "dns": list(view.dns),
        "device": view.device,
        "session_id": view.session_id,
        "ac_name": view.ac_name,
        "ac_mac": view.ac_mac,
        "local_mac": view.local_mac,
        "mtu": view.mtu,
        "setup_ms": round(view.setup_ms, 3) if view.setup_ms is not None else None,
        "retry_at": words.iso(view.retry_at) if view.retry_at is not None else None,
        "error": None if _is_up(view) else view.reason or _too_late(view, trouble),
    }


def _is_up(view: SessionView) -> bool:
    """One without IPv4 is not."""
    return view.state is SessionState.UP and view.ipv4 is not None


def _too_late(view: SessionView, trouble: str | None) -> str:
    still = f"not up in time: still {view.state}"
    return still if trouble is None else f"{still}; before that: {trouble}"


def run(engine: EngineHere, options: HeadlessOptions, leaving: Leaving, stop: Callable[[], None]) -> int:
    """Print until there is nothing more to wait for or `leaving` is set, then what happens while `stop` ends it all.

    Returns the exit code. A reader that goes away wishes the end, as with `| head`. Where nothing can be written for
    another reason, that is said on standard error, and all else goes on: sessions don't hang on a full disk. What has
    happened meanwhile is printed when it works again, as far as the engine still has it.
    """
    told = _Telling(engine, leaving, options.event_file)
    code = _watch(engine, told, options, leaving)
    stopping = threading.Thread(target=stop, name="stop")
    stopping.start()
    while stopping.is_alive():
        told.go_on()
        stopping.join(LOOK)
    told.finish()
    return code if told.failure is None else EXIT_NOT_DONE


class _Telling:
    """Prints the engine's events, each of them once, as far as the engine still has them when they are read."""

    def __init__(self, engine: EngineApi, leaving: Leaving, event_file: Path | None = None) -> None:
        self.failure: OSError | None = None
        """Why nothing can be printed, at present or for good."""
        self.troubles: dict[int | None, str] = {}
        """The latest failure of each session."""
        self._engine = engine
        self._leaving = leaving
        self._seen = 0
        self.news_at = time.monotonic()
        """When there was something to tell last."""
        self._file = EventFile(event_file, engine) if event_file is not None else None
        self._outlet = Outlet(STDOUT, again=AGAIN)
        self._why_missing = NOT_READ
        encoding = sys.stdout.encoding if sys.stdout else "ascii"
        # JSON has an escape for each character that other encodings may not have.
        self._json = json.JSONEncoder(ensure_ascii=codecs.lookup(encoding).name != "utf-8")
        self._pipe = select.poll()
        if sys.stdout is None:
            complain("souppp-tui: standard output is closed: nothing of what happens is told, and all else goes on.")
        elif stat.S_ISFIFO(os.fstat(STDOUT).st_mode):
            self._pipe.register(STDOUT, 0)

    def go_on(self, everything: bool = False) -> None:
        """Print what happened since the last call, but while the reader lags behind only if it is to be everything."""
        if self._file is not None and (news := self._file.write(at_once=everything)):
            self._say("event-log", news)
        self._check()
        if self._outlet.waiting > LAG and not everything:
            return
        events, lost = self._engine.events_since(self._seen)
        if lost:
            self._say("lost", f"The {lost} events before this are missing: {self._why_missing} in time.")
        if self.failure is None:
            self._why_missing = NOT_READ
        self.print(*map(event_object, events))
        if events:
            self.news_at = time.monotonic()
        for event in events:
            self._seen = event.seq
            if event.kind in ("dial-failed", "session-down"):
                self.troubles[event.session] = event.text

    def look_for_reader(self) -> None:
        """Wish the end where the reader of a pipe is gone: as long as nothing is written, nothing else tells."""
        if self.failure is None and self._pipe.poll(0):
            self.failure = BrokenPipeError()
            self._leaving.set()

    def _say(self, kind: str, text: str) -> None:
        """What is no event of the engine's, as if it were one."""
        self.print(event_object(Event(0, time.time(), Severity.WARNING, kind, text)))

    def print(self, *things: dict[str, Any]) -> None:
        """Each on a line of its own; all at once, as whoever writes them is woken by each call."""
        if lines := "".join(f"{self._json.encode(thing)}\n" for thing in things):
            self._outlet.write(lines.encode(errors="backslashreplace"))

    def finish(self) -> None:
        """Print what is left, however slowly it is read; once `leaving` is set only as long as a farewell may take."""
        self.go_on(everything=True)
        while self._outlet.waiting and self._outlet.failure is None and not self._leaving.wait(LOOK):
            pass
        self._outlet.finish(FAREWELL)
        self._check()

    def _check(self) -> None:
        """Take note of an output that fails, or works again."""
        before, now = self.failure, self._outlet.failure
        if (before is None) == (now is None) or isinstance(before, BrokenPipeError):
            return
        self.failure = now
        if now is None:
            complain("souppp-tui: standard output can be written again: it goes on with what could not be told.")
        elif isinstance(now, BrokenPipeError):
            self._leaving.set()
        else:
            self._why_missing = NOT_WRITTEN
            why = f"can't write to standard output: {now.strerror}"
            complain(f"souppp-tui: {why}: what happens is told when that works again, and all else goes on.")


class _Wanted:
    """The sessions that are dialled at the start: who of them is up, by what has changed since the last look."""

    def __init__(self, engine: EngineHere) -> None:
        self.views: dict[int, SessionView] = {}
        self._engine = engine
        self._version = 0
        self._missing: set[int] = set()

    def all_up(self) -> bool:
        """Look again."""
        changes = self._engine.changes_since(self._version)
        self._version = changes.version
        gone = self.views.keys() - {view.id for view in changes.views} if changes.whole else changes.removed
        for key in [*gone, *(view.id for view in changes.views if not view.autodial)]:
            self.views.pop(key, None)
            self._missing.discard(key)
        for view in changes.views:
            if view.autodial:
                self.views[view.id] = view
                (self._missing.discard if _is_up(view) else self._missing.add)(view.id)
        return not self._missing


def _watch(engine: EngineHere, told: _Telling, options: HeadlessOptions, leaving: Leaving) -> int:
    waiting, wanted = options.until_up, _Wanted(engine)
    deadline = time.monotonic() + options.timeout
    while True:
        told.go_on()
        told.look_for_reader()
        if waiting:
            all_up = wanted.all_up()
            if all_up or time.monotonic() >= deadline:
                views = wanted.views.values()
                told.print(*(session_object(view, time.time(), told.troubles.get(view.id)) for view in views))
                if not (all_up and options.hold):
                    return EXIT_OK if all_up else EXIT_NOT_DONE
                waiting = False
        is_calm = not waiting and time.monotonic() >= told.news_at + CALM
        if leaving.wait(REST if is_calm else LOOK):
            return EXIT_NOT_DONE if waiting else EXIT_OK
