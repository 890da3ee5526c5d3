"""The engine: a `Loop` in a background thread, behind the interface that consoles know (`EngineApi`).

Other threads read immutable values and submit commands; the engine never waits for them.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from itertools import count

from engine.api.commands import Command, Refused, Reply, Request, ServiceCommand, Watch
from engine.api.messages import ClientView
from engine.api.values import (
    Changes,
    Details,
    Event,
    Hour,
    Ledger,
    SessionState,
    SessionView,
    Severity,
    Snapshot,
    pack_traffic,
)
from engine.card.xdp import Loading
from engine.egress.elsewhere import lent
from engine.host.errors import Trouble
from engine.host.peers import Peer
from engine.host.promptness import prompt_interpreter, prompt_thread
from engine.host.surroundings import NO_THREADS, is_short_of_threads
from engine.record.lacking import not_up
from engine.run.estate import Estate
from engine.run.loop import Loop
from engine.run.usage import try_line, usage
from engine.settings.options import EngineError as EngineError
from engine.settings.options import EngineOptions as EngineOptions
from engine.settings.values import EgressChoice, SessionSettings, Settings

NOT_RUNNING = "The engine is not running."


class Engine:
    """All sessions of one card. Implements `EngineApi`."""

    def __init__(
        self,
        ifname: str,
        settings: Settings,
        options: EngineOptions | None = None,
        loading: Loading | None = None,
    ) -> None:
        """Nothing happens before `start`. `loading` is the XDP program being loaded already, to save time."""
        self.ifname = ifname
        self._options = options or EngineOptions()
        self._loop = asyncio.new_event_loop()
        self._work = Loop(ifname, settings, self._options, self._loop, loading, self._usage)
        self._ids = count(1)
        self._unanswered: dict[int, Future[Reply]] = {}
        """By the requests' ids. Whoever takes a future out answers it: the engine's thread, or the one that submits."""
        self._thread = threading.Thread(target=self._run, name="souppp-engine", daemon=True)
        self._ready = threading.Event()
        self._failure: str | None = None
        self._leaving = asyncio.Event()
        self._store: Callable[[Estate], None] | None = None
        self.attached: Callable[[], Sequence[ClientView]] = tuple
        """Tells who is attached; whoever serves it sets this."""

    # Life

    def inherit(self, estate: Estate) -> None:
        """Before `confine` and `start`: go on with what an earlier process has left."""
        self._work.inherit(estate)

    def make_ready(self, say: Callable[[str], None]) -> None:
        """Before `confine` and `start`: do what takes rights that are given up then, by any engine of the process.

        `say` takes a line that tells why it takes long.
        """
        self._work.make_ready(say)

    def confine(self, confine: Callable[[], None]) -> None:
        """Before `start`: give up rights, by whatever does so for the calling thread and those that it will start."""
        self._work.confine(confine)

    def start(self) -> None:
        """Start the thread; it takes the card while the caller does something else."""
        prompt_interpreter()
        self._thread.start()

    def wait_ready(self, seconds: float | None = None) -> bool:
        """Return when the card is ours and dialling has begun, or with False after so many seconds.

        Raises EngineError if it failed.
        """
        if not self._ready.wait(seconds):
            return False
        if self._failure is not None:
            self._thread.join()
            raise EngineError(self._failure)
        return True

    def stop(self, store: Callable[[Estate], None] | None = None) -> None:
        """End every session and give the card back; returns when nothing of us is left. A second call does nothing.

        With `store`, which raises OSError if it can't keep them, the sessions that are up are left to another process.
        """
        if self._thread.is_alive():
            self._store = store
            with suppress(RuntimeError):  # it has come to its end by itself, a moment ago
                self._loop.call_soon_threadsafe(self._leaving.set)
            self._thread.join()

    def _run(self) -> None:
        prompt_thread()
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._main())
        finally:
            self._loop.close()
            for number in [*self._unanswered]:
                self._refuse(number)

    async def _main(self) -> None:
        try:
            self._open()
            if self._failure is None:
                await self._leaving.wait()
                if self._store is None or not await self._work.hand_over(self._store):
                    await self._work.say_goodbye()
        finally:
            self._work.close()
            await self._loop.shutdown_default_executor()  # which may be writing

    def _open(self) -> None:
        try:
            self._work.open()
        except Trouble as error:
            self._failure = str(error)
        except Exception as error:
            bug = f"Internal error while starting, please report it: {type(error).__name__}: {error}"
            self._failure = NO_THREADS if is_short_of_threads(error) else bug
        finally:
            self._ready.set()

    # EngineApi

    @property
    def lost(self) -> str:
        """See `EngineApi.lost`: it is here."""
        return ""

    @property
    def breaks(self) -> Sequence[int]:
        """See `EngineApi.breaks`: there is no connection."""
        return ()

    @property
    def clients(self) -> Sequence[ClientView]:
        """See `EngineApi.clients`."""
        return self.attached()

    def submit(self, command: Command | ServiceCommand, by: str = "") -> Future[Reply]:
        """See `EngineApi.submit`; an event tells who gave it, where that is said."""
        request = Request(next(self._ids), command, by)
        future = Future[Reply]()
        future.set_running_or_notify_cancel()  # a command that was submitted is carried out, whoever waits for it
        self._unanswered[request.id] = future
        try:
            self._loop.call_soon_threadsafe(self._do, request)
        except RuntimeError:  # the loop is closed, perhaps since a moment ago
            self._refuse(request.id)
        return future

    def _do(self, request: Request) -> None:
        if not self._ready.is_set() or self._leaving.is_set():
            self._refuse(request.id)
            return
        reply = self._work.do(request)
        if future := self._unanswered.pop(request.id, None):
            future.set_result(reply)

    def reconfigure(self, settings: Settings) -> None:
        """Take over what of a configuration that was read again is no session's; any thread."""
        with suppress(RuntimeError):  # it has ended
            self._loop.call_soon_threadsafe(self._reconfigure, settings)

    def _reconfigure(self, settings: Settings) -> None:
        if self._ready.is_set() and self._failure is None and not self._leaving.is_set():
            self._work.reconfigure(settings)

    def tell(self, severity: Severity, kind: str, text: str) -> None:
        """Put an event into the log; any thread, at any time of the engine's life."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._work.tell, severity, kind, text)

    def _refuse(self, number: int) -> None:
        if future := self._unanswered.pop(number, None):
            future.set_result(Reply(number, refused=(Refused(None, NOT_RUNNING),)))

    def snapshot(self) -> Snapshot:
        """See `EngineApi.snapshot`."""
        supervisor = self._work.supervisor
        assert supervisor.card.view is not None
        sessions = supervisor.board.views
        return Snapshot(
            at=supervisor.wall(time.monotonic()),
            card=supervisor.card.view,
            queues=self._work.queues(),
            sessions=sessions,
            traffic=pack_traffic(self._work.traffic()),
            events=supervisor.log.last,
            try_line=try_line(sessions, self._options, self._work.proxies.settings),
            totals=supervisor.totals,
            halted=supervisor.halted,
            steps=supervisor.undoing.shown,
            pace=supervisor.fleet.at_once,
        )

    def events_since(self, seq: int) -> tuple[Sequence[Event], int]:
        """See `EngineApi.events_since`."""
        return self._work.supervisor.log.since(seq)

    def details(self, session: int) -> Details | None:
        """See `EngineApi.details`."""
        self.submit(Watch(session))
        return self._work.supervisor.board.details.get(session)

    def watched(self, session: int) -> Details | None:
        """The details of a session that somebody watches; nobody is taken to look at them now."""
        return self._work.supervisor.board.details.get(session)

    def lend(self, session: int, name: str, namespace: int, rtnl: int) -> Future[Reply]:
        """Have a session's device in a network namespace from now on: see `engine.api.messages.Lend`. Any thread."""
        future = Future[Reply]()

        def do() -> None:
            refused = ""
            try:
                there = lent(namespace, rtnl)
                if (view := self._work.supervisor.board.view(session)) is None:
                    there.close()
                    raise EngineError("There is no such session any more.")
                if not_there := _no_device(view):
                    there.close()
                    raise EngineError(not_there)
                self._work.lend(session, name, there)
            except Trouble as error:
                refused = str(error)
            except Exception as error:
                refused = f"Internal error, please report it: {type(error).__name__}: {error}"
            future.set_result(Reply(0, () if refused else (session,), (Refused(session, refused),) if refused else ()))

        try:
            self._loop.call_soon_threadsafe(do)
        except RuntimeError:
            future.set_result(Reply(0, refused=(Refused(None, NOT_RUNNING),)))
        return future

    def admit(self, session: int, cgroup: int, who: Peer) -> Reply:
        """Let a process run in a session that is up; see `engine.egress.entrance.Entrance.admit`. Any thread."""
        view = self._work.supervisor.board.view(session)
        if view is None or view.state is not SessionState.UP or view.device is None:
            why = "There is no such session any more." if view is None else not_up(view)
            return Reply(0, refused=(Refused(session, _no_device(view) or why),))
        try:
            self._work.admit(session, cgroup, who)
        except OSError as error:
            return Reply(0, refused=(Refused(session, f"No program can run in it: {error.strerror}."),))
        self.tell(Severity.INFO, "program", f"A program runs in {view.name}: process {who.process}, by {who.user}.")
        return Reply(0, (session,))

    def changes_since(self, version: int) -> Changes:
        """See `engine.supervisor.board.Board.changes_since`."""
        return self._work.supervisor.board.changes_since(version)

    def settings(self, session: int) -> SessionSettings | None:
        """See `EngineApi.settings`."""
        return self._work.supervisor.board.settings.get(session)

    def undo_touches_hooks(self, number: int, by: str | None = None) -> bool:
        """See `engine.supervisor.undoing.Undoing.touches_hooks`."""
        return self._work.supervisor.undoing.touches_hooks(number, by)

    def all_settings(self) -> Mapping[int, SessionSettings]:
        """See `EngineApi.all_settings`."""
        return self._work.supervisor.board.settings.copy()

    def ledgers(self, sessions: Sequence[int] | None = None) -> Mapping[int, Ledger]:
        """See `EngineApi.ledgers`."""
        supervisor = self._work.supervisor
        keys = sessions if sessions is not None else [view.id for view in supervisor.board.views]
        views = (view for key in keys if (view := supervisor.board.view(key)) is not None)
        return {view.id: supervisor.ledger(view.id) for view in views}

    def hours(self) -> Mapping[int, Hour]:
        """See `EngineApi.hours`."""
        return self._work.supervisor.lately.others()

    def _usage(self, view: SessionView) -> tuple[tuple[str, str], ...]:
        return usage(view, self._options, self._work.proxies.settings, self.ifname)


def _no_device(view: SessionView | None) -> str:
    """Why a session never has a device, in a sentence; empty if it can have one, or there is no session."""
    if view is None or view.egress == EgressChoice.DEVICE:
        return ""
    return f"{view.name} has no device (`egress: {view.egress}`)."
