"""The one interface between a console and an engine.

Reads give immutable values. Commands are values too: they are carried out by the engine one after the other, and each
is answered by a reply. All may be called from any thread, and none waits for the engine. Nothing here knows how the
engine works, so that a console could as well talk to one in another process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Protocol

from engine.api.commands import Command, Reply, ServiceCommand
from engine.api.messages import ClientView
from engine.api.values import Details, Event, Hour, Ledger, Snapshot
from engine.settings.values import SessionSettings


class EngineApi(Protocol):
    """What a console can ask of an engine."""

    @property
    def lost(self) -> str:
        """Why what is read here may be out of date, as an engine elsewhere can't be reached: one line. Else empty."""
        ...

    @property
    def clients(self) -> Sequence[ClientView]:
        """Who is attached to it, where it is elsewhere or has a socket."""
        ...

    @property
    def breaks(self) -> Sequence[int]:
        """How often the connection to each engine was lost, where it is elsewhere."""
        ...

    def submit(self, command: Command | ServiceCommand) -> Future[Reply]:
        """Have a command carried out. The reply comes later, in whatever thread; that of an engine that ends, too."""
        ...

    def snapshot(self) -> Snapshot:
        """The state of things now; costs as much as copying a list of the sessions and reading their counters."""
        ...

    def events_since(self, seq: int) -> tuple[Sequence[Event], int]:
        """The events after number `seq` that are still kept, oldest first, and how many in between were lost."""
        ...

    def details(self, session: int) -> Details | None:
        """One session at full length, kept fresh while it is asked for every few seconds.

        None if there is no such session, and a moment long when it is asked for the first time.
        """
        ...

    def settings(self, session: int) -> SessionSettings | None:
        """The session's settings as they are from its next dial on: an edit starts from the one before.

        Those of an engine elsewhere come without the password and after a moment; None also if it doesn't answer.
        """
        ...

    def all_settings(self) -> Mapping[int, SessionSettings]:
        """The same of all sessions, by key; empty if an engine elsewhere doesn't answer."""
        ...

    def ledgers(self, sessions: Sequence[int] | None = None) -> Mapping[int, Ledger]:
        """What is remembered of these sessions, None for all; without those that an engine elsewhere doesn't tell."""
        ...

    def hours(self) -> Mapping[int, Hour]:
        """What each queue carried in the last hour, by its number, and under `values.ALL` all sessions.

        Empty while it is too early to tell, and if an engine elsewhere doesn't answer.
        """
        ...
