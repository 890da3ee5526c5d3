"""Which of a session's hooks is to run when, and what it is told. Without I/O.

A hook is told of states, not of steps: while one runs, however slow it is, nothing piles up, and the next is told of
what is so by then. A session that went down and came up again meanwhile gets both its hooks, `down` first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Protocol

from msgspec import Struct

from engine.api.ending import End
from engine.api.values import SessionState, SessionView, Severity
from engine.settings.own_kinds import MARK
from engine.settings.values import HookSettings
from engine.supervisor.reporting import Reporter
from engine.wire.value import Likened

AT_ONCE = 8
"""Hooks that run at the same time, over all sessions."""
MAX_VALUE = 512
"""Characters of a variable."""
TOLD = 400
"""Characters of its output that an event tells."""


class HookRun(Struct, frozen=True):
    """One run of a program."""

    key: int
    event: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    timeout: float
    """Seconds."""


class HookResult(Struct, frozen=True):
    """What became of it."""

    key: int
    failure: str = ""
    """Why it didn't end well, as the end of a sentence that begins with the program; empty if it did."""
    output: str = ""
    """The beginning of what it wrote, as it came."""


class HookRunner(Protocol):
    """Runs programs somewhere else, see `engine.run.hooks`."""

    def start(self, run: HookRun) -> None:
        """Begin; the result comes to `Supervisor.note_hook`, in any case."""


class NoHooks:
    """Where no program is run."""

    def start(self, run: HookRun) -> None:
        """It is never asked to: see `Hooks`."""


class _Facts(Likened, frozen=True):
    """What hooks are told of a session that is up."""

    APART = ("variables",)

    since: float
    """When it came up: another time is another session."""
    settled: tuple[object, ...]
    """What changes when `changed` is run."""
    variables: tuple[tuple[str, str], ...]


class _Watched(Struct):
    """A session that has hooks, or had."""

    settings: HookSettings
    variables: tuple[tuple[str, str], ...] = ()
    """Of the session, up or not."""
    now: _Facts | None = None
    told: _Facts | None = None
    """What the hooks that have run know, None where that is down."""
    reason: str = ""
    """Why it went down last."""
    running: HookRun | None = None
    gone: bool = False


class Hooks:
    """Those of all sessions."""

    def __init__(self, runner: HookRunner, reporter: Reporter) -> None:
        self._runner = runner
        self._reporter = reporter
        self._watched: dict[int, _Watched] = {}
        self._waiting: OrderedDict[int, None] = OrderedDict()
        self._running: set[int] = set()
        self._assumed: set[int] = set()

    @property
    def busy(self) -> bool:
        """Whether any runs, or waits for its turn."""
        return bool(self._running or self._waiting)

    def assume(self, key: int) -> None:
        """This session was up in the process before: its hooks have been told."""
        self._assumed.add(key)

    def ended(self, key: int, end: End) -> None:
        """Why a session goes down, before `look` shows that it has."""
        if (watched := self._watched.get(key)) is not None:
            watched.reason = end.text

    def look(self, key: int, view: SessionView | None, settings: HookSettings) -> None:
        """A session may have changed; None for a view if it is gone."""
        watched = self._watched.get(key)
        if watched is None:
            if view is None or settings == HookSettings():
                self._assumed.discard(key)
                return
            watched = self._watched[key] = _Watched(settings)
        watched.settings, watched.gone = settings, view is None
        if view is None:
            watched.reason, watched.now = "Removed.", None
        elif view.state is not SessionState.HANGING_UP:
            watched.variables = variables(view)
            is_up = view.state is SessionState.UP and view.up_since is not None
            settled = view.ipv4, view.ipv6_addresses, view.ipv6_prefixes, view.dns
            watched.now = _Facts(view.up_since or 0.0, settled, watched.variables) if is_up else None
        if watched.now is not None and key in self._assumed:
            self._assumed.discard(key)
            watched.told = watched.now
        self._go_on(key, watched)

    def finished(self, result: HookResult) -> None:
        """One has come to its end."""
        self._running.discard(result.key)
        watched = self._watched.get(result.key)
        if watched is not None and (run := watched.running) is not None:
            watched.running = None
            self._tell(run, result)
            self._go_on(result.key, watched)
        while self._waiting and len(self._running) < AT_ONCE:
            key, _ = self._waiting.popitem(last=False)
            self._go_on(key, self._watched[key])

    def _tell(self, run: HookRun, result: HookResult) -> None:
        said = clean(result.output, TOLD)
        if result.failure:
            text = f"The hook {run.event} ({run.arguments[0]}) {result.failure}" + (f": {said}" if said else ".")
            self._reporter.tell(Severity.WARNING, "hook-failed", text, run.key)
        elif said:
            self._reporter.tell(Severity.INFO, "hook", f"The hook {run.event} says: {said}", run.key)

    def _go_on(self, key: int, watched: _Watched) -> None:
        """Run what is to be run next, if anything is."""
        if watched.running is not None:
            return
        while watched.told != watched.now:
            told, now = watched.told, watched.now
            goes = told is not None and (now is None or now.since != told.since)
            event = "down" if goes else "up" if told is None else "changed"
            about, after = (told, None) if goes else (now, now)
            assert about is not None
            program: tuple[str, ...] = getattr(watched.settings, event)
            if program and len(self._running) >= AT_ONCE:
                self._waiting[key] = None
                return
            watched.told = after
            if program:
                told_before = dict(told.variables) if told is not None else {}
                environment = {
                    "SOUPPP_EVENT": event,
                    **dict(about.variables),
                    "SOUPPP_IPV4_BEFORE": told_before.get("SOUPPP_IPV4", "") if event == "changed" else "",
                    "SOUPPP_REASON": clean(watched.reason, MAX_VALUE) if event == "down" else "",
                }
                watched.running = HookRun(key, event, program, environment, watched.settings.timeout)
                self._running.add(key)
                self._waiting.pop(key, None)
                self._runner.start(watched.running)
                return
        self._waiting.pop(key, None)
        if watched.gone or (watched.now is None and watched.settings == HookSettings()):
            self._watched.pop(key, None)


def variables(view: SessionView) -> tuple[tuple[str, str], ...]:
    """What a hook is told of a session, by the names of environment variables; all of them are always there."""
    told = {
        "SOUPPP_SESSION": view.name,
        "SOUPPP_DEVICE": view.device,
        "SOUPPP_NETNS": view.netns,
        "SOUPPP_IPV4": view.ipv4,
        "SOUPPP_PEER": view.ipv4_peer,
        "SOUPPP_IPV6": " ".join(view.ipv6_addresses),
        "SOUPPP_PREFIX": " ".join(view.ipv6_prefixes),
        "SOUPPP_DNS": " ".join(view.dns),
        "SOUPPP_MTU": str(view.mtu or ""),
        "SOUPPP_MARK": MARK.show(view.mark),
        "SOUPPP_CONCENTRATOR": view.ac_name,
    }
    return tuple((name, clean(value or "", MAX_VALUE)) for name, value in told.items())


def clean(text: str, most: int) -> str:
    """Text from elsewhere on one line: what can't be printed is a blank, and several of these are one."""
    return " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * most]).split())[:most]
