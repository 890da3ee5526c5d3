"""The engine: a `Core` in a background thread, behind the interface that consoles know (`engine.api.values.EngineApi`).

Other threads read immutable values and post commands; the engine never waits for them.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Sequence

from engine.api.values import Details, Event, SessionState, SessionView, Snapshot
from engine.card.xdp import Loading
from engine.host.promptness import prompt_interpreter, prompt_thread
from engine.settings.options import EngineError as EngineError
from engine.settings.options import EngineOptions as EngineOptions
from engine.settings.values import SessionSettings, Settings
from engine.supervisor import views
from engine.supervisor.supervisor import ENVIRONMENT_ERRORS, Core

USUAL_URL = "http://example.com/"


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
        self._options = options or EngineOptions()
        self._loop = asyncio.new_event_loop()
        self._core = Core(ifname, settings, self._options, self._loop, loading)
        self._thread = threading.Thread(target=self._run, name="souppp-engine", daemon=True)
        self._ready = threading.Event()
        self._failure: str | None = None
        self._leaving = asyncio.Event()

    # Life

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

    def stop(self) -> None:
        """End every session and give the card back; returns when nothing of us is left. A second call does nothing."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._leaving.set)
            self._thread.join()

    def _run(self) -> None:
        prompt_thread()
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._main())
        finally:
            self._loop.close()

    async def _main(self) -> None:
        try:
            self._open()
            if self._failure is None:
                await self._leaving.wait()
                await self._core.say_goodbye()
        finally:
            self._core.close()

    def _open(self) -> None:
        try:
            self._core.open()
        except ENVIRONMENT_ERRORS as error:
            self._failure = str(error)
        except Exception as error:
            self._failure = f"Internal error while starting, please report it: {type(error).__name__}: {error}"
        finally:
            self._ready.set()

    # EngineApi: reads

    def snapshot(self) -> Snapshot:
        """See `EngineApi.snapshot`."""
        core = self._core
        assert core.card is not None
        sessions = tuple(core.roster.views)
        up = next((view for view in sessions if view.state is SessionState.UP and view.device), None)
        return Snapshot(
            at=time.monotonic(),
            card=core.card,
            queues=core.queues(),
            sessions=sessions,
            traffic=core.traffic(),
            events=core.log.last,
            try_line=self._try_line(up) if up is not None else "",
        )

    def events_since(self, seq: int) -> tuple[Sequence[Event], int]:
        """See `EngineApi.events_since`."""
        return self._core.log.since(seq)

    def details(self, session: int) -> Details | None:
        """See `EngineApi.details`."""
        member = self._core.fleet.members.get(session)
        view = next((view for view in self._core.roster.views if view.id == session), None)
        if member is None or view is None:
            return None
        return views.details(session, member, time.monotonic(), self._core.wall, self._usage(view))

    def settings(self, session: int) -> SessionSettings | None:
        """See `EngineApi.settings`."""
        member = self._core.fleet.members.get(session)
        return member.session.next_settings if member is not None else None

    def _try_line(self, view: SessionView) -> str:
        return f"{self._options.command_prefix}curl --interface {view.device} {self._options.try_url or USUAL_URL}"

    def _usage(self, view: SessionView) -> tuple[tuple[str, str], ...]:
        if view.device is None or view.ipv4 is None:
            return ()
        prefix = self._options.command_prefix
        return (
            ("fetch a page through it", self._try_line(view)),
            ("bind to its address", f"{prefix}curl --interface {view.ipv4} {self._options.try_url or USUAL_URL}"),
            ("ping through it", f"{prefix}ping -I {view.device} {view.ipv4_peer or view.ipv4}"),
            ("route a network through it", f"{prefix}ip route add NETWORK dev {view.device}"),
            ("watch its packets", f"{prefix}tcpdump -ni {view.device}"),
        )

    # EngineApi: commands

    def _post(self, work: Callable[..., None], *arguments: object) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._core.guarded, work, *arguments)

    def dial(self, sessions: Iterable[int]) -> None:
        """See `EngineApi.dial`."""
        self._post(self._core.each, self._core.fleet.dial, list(sessions))

    def hang_up(self, sessions: Iterable[int]) -> None:
        """See `EngineApi.hang_up`."""
        self._post(self._core.each, self._core.fleet.hang_up, list(sessions))

    def redial(self, sessions: Iterable[int]) -> None:
        """See `EngineApi.redial`."""
        self._post(self._core.each, self._core.fleet.redial, list(sessions))

    def rotate(self, sessions: Iterable[int]) -> None:
        """See `EngineApi.rotate`."""
        self._post(self._core.each, self._core.rotate, list(sessions))

    def add(self, settings: SessionSettings) -> None:
        """See `EngineApi.add`."""
        self._post(self._core.add, settings)

    def edit(self, session: int, settings: SessionSettings) -> None:
        """See `EngineApi.edit`."""
        self._post(self._core.edit, session, settings)

    def remove(self, sessions: Iterable[int]) -> None:
        """See `EngineApi.remove`."""
        for number in list(sessions):
            self._post(self._core.remove, number)

    def clear_ghosts(self) -> None:
        """See `EngineApi.clear_ghosts`."""
        self._post(self._core.clear_ghosts)

    def capture(self, sessions: Iterable[int], path: str | None) -> None:
        """See `EngineApi.capture`."""
        self._post(self._core.capture, list(sessions), path)
