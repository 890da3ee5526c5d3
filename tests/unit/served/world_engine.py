"""An engine to be served: a supervisor with its world, in virtual time, behind what `Server` asks of an engine."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future

from engine.api.commands import Command, Reply, Request, ServiceCommand
from engine.api.values import Changes, Details, Event, Hour, Ledger, QueueView, Severity, Snapshot
from engine.settings.values import SessionSettings
from engine.supervisor import dispatch
from tests.unit.supervisor.world import World, session


class WorldEngine:
    """Implements `Served`. A lock in place of the engine's loop."""

    def __init__(self, sessions: int = 3, autodial: bool = False) -> None:
        self.world = World([session(f"s{number}", autodial=autodial) for number in range(sessions)]).open()
        self.lock = threading.Lock()
        self.traffic = b"\0" * 32 * sessions
        self.commands: list[tuple[Command | ServiceCommand, str]] = []

    def run(self, seconds: float) -> None:
        """Let time go by."""
        with self.lock:
            self.world.run(seconds)

    def submit(self, command: Command | ServiceCommand, by: str = "") -> Future[Reply]:
        """See `Served.submit`."""
        with self.lock:
            self.commands.append((command, by))
            reply = dispatch.do(self.world.supervisor, Request(1, command, by), self.world.now)
            self.world.run(0.0)
        future = Future[Reply]()
        future.set_result(reply)
        return future

    def snapshot(self) -> Snapshot:
        """See `Served.snapshot`."""
        supervisor = self.world.supervisor
        assert supervisor.card.view is not None
        queue = QueueView(0, 1, 2, 3, 4)
        return Snapshot(
            supervisor.wall(self.world.now),
            supervisor.card.view,
            (queue,),
            supervisor.board.views,
            self.traffic,
            supervisor.log.last,
            "curl",
            supervisor.totals,
            steps=supervisor.undoing.shown,
            pace=supervisor.fleet.at_once,
        )

    def events_since(self, seq: int) -> tuple[Sequence[Event], int]:
        """See `Served.events_since`."""
        return self.world.supervisor.log.since(seq)

    def changes_since(self, version: int) -> Changes:
        """See `Served.changes_since`."""
        return self.world.supervisor.board.changes_since(version)

    def watched(self, session: int) -> Details | None:
        """See `Served.watched`."""
        return self.world.supervisor.board.details.get(session)

    def settings(self, session: int) -> SessionSettings | None:
        """See `Served.settings`."""
        return self.world.supervisor.board.settings.get(session)

    def all_settings(self) -> Mapping[int, SessionSettings]:
        """All of them."""
        return self.world.supervisor.board.settings

    def undo_touches_hooks(self, number: int, by: str | None = None) -> bool:
        """See `Served.undo_touches_hooks`."""
        return self.world.supervisor.undoing.touches_hooks(number, by)

    def tell(self, severity: Severity, kind: str, text: str) -> None:
        """See `Served.tell`."""
        self.world.supervisor.tell(severity, kind, text)

    def hours(self) -> Mapping[int, Hour]:
        """See `Served.hours`."""
        return self.world.supervisor.lately.others()

    def ledgers(self, sessions: Sequence[int] | None = None) -> Mapping[int, Ledger]:
        """See `Served.ledgers`."""
        supervisor = self.world.supervisor
        views = [view for view in supervisor.board.views if sessions is None or view.id in sessions]
        return {view.id: supervisor.ledger(view.id) for view in views}
