"""The process of the proxies as the engine sees it: started where proxies are asked for, told of sessions, heard.

It is started anew when it ends, which an event tells. What it knows it knows from the board: sessions' ends, draining
and coming back need nothing else.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import sys
from collections.abc import Callable, Iterable, Mapping
from ipaddress import ip_address

from engine.api.values import Connection, SessionState, SessionView, Severity, Talker
from engine.proxy.messages import (
    ENCODER,
    SHARE,
    TO_ENGINE,
    Begin,
    Counted,
    Counts,
    Doubts,
    Look,
    NotNew,
    Ready,
    Serve,
    Session,
    Sessions,
    StackLine,
    ToEngine,
    WantsNew,
)
from engine.proxy.messages import Tell as Told
from engine.proxy.users import digest
from engine.run.child import Child
from engine.settings.limits import MAX_PORT
from engine.settings.own_kinds import join_endpoint
from engine.settings.values import EgressChoice, PoolPort, ProxySettings, Settings
from engine.supervisor.board import Board
from engine.supervisor.handed import Proxied

SOON = 0.02
"""Seconds that changes of sessions wait for others to come with them."""


def asks_for_proxies(settings: Settings) -> bool:
    """Whether a configuration does."""
    own = (session.proxy for session in settings.sessions)
    return bool(settings.proxy.sessions or settings.proxy.pool or any(own))


def _of_interest(view: SessionView) -> tuple[object, ...]:
    """What of a view the proxies are told."""
    return (
        *(view.name, view.tags, view.state, view.draining, view.up_since, view.egress),
        *(view.device, view.ipv4, view.ipv6_addresses, view.dns),
    )


class Proxies:
    """All calls are the engine's thread's, but `start` before there is one."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        settings: ProxySettings,
        tell: Callable[[Severity, str, str, int | None], None],
        board: Callable[[], Board],
        wall: Callable[[float], float],
        note: Callable[[Mapping[int, Proxied]], None],
        renew: Callable[[int, str], str],
    ) -> None:
        """`note` takes what goes through sessions; `renew` has one rotated for a user, and tells what is against it.

        Nobody asks for the `board` before `open`.
        """
        self._loop = loop
        self.settings = settings
        """As they were read last."""
        self._tell = tell
        self._board = board
        self._wall = wall
        self._note = note
        self._renew = renew
        self._child = Child(
            loop,
            (sys.executable, "-P", "-m", "engine.proxy"),
            TO_ENGINE,
            ENCODER.encode,
            self._hear,
            self._ended,
            lambda error: tell(Severity.ERROR, "proxy", f"There are no proxies: {error.strerror}.", None),
            lambda: self.wanted,
        )
        self.stack_line: Callable[[], int] = lambda: -1
        """Gives a descriptor to dial by through the stack program, -1 while there is none."""
        self._version = 0
        """Of the board, as far as the process was told of it."""
        self._edited: set[int] = set()
        """Sessions whose own proxies may be others now, which no view tells."""
        self._told: dict[int, tuple[object, ...]] = {}
        """What of each view it knows: the numbers that it counts come back in views."""
        self._due: asyncio.TimerHandle | None = None
        self._before: dict[int, Proxied] = {}
        """What processes counted that have ended."""
        self._now: dict[int, Proxied] = {}
        self._looked_at: tuple[int, ...] = ()

    @property
    def wanted(self) -> bool:
        """Whether there is to be any proxy."""
        own = (settings.proxy for settings in self._board().settings.values())
        return bool(self.settings.sessions or self.settings.pool or any(own))

    def start(self) -> None:
        """See `Child.start`. Raises OSError."""
        self._child.start()

    def open(self) -> None:
        """See `Child.open`."""
        self._child.open()

    def join_stack(self) -> None:
        """There is a stack program, or a process that is to dial by it."""
        if self._child.is_there and (line := self.stack_line()) >= 0:
            self._child.send(StackLine(), line)

    def reconfigure(self, settings: ProxySettings) -> None:
        """There are other proxies to be."""
        if settings == self.settings:
            return
        self.settings = settings
        self._tell(Severity.INFO, "proxy", "The proxies are as the configuration says now.", None)
        if not self._child.is_there:
            self.open()
        else:
            self._tell_all()

    def edited(self, keys: Iterable[int]) -> None:
        """Sessions have other settings, or are new."""
        if not self._child.is_there:
            self.open()
            return
        self._edited.update(keys)
        if self._due is None:
            self._due = self._loop.call_later(SOON, self._tell_sessions)

    def follow(self, version: int) -> None:
        """The board has this version: what is new goes to the process soon, with what comes meanwhile."""
        if self._child.is_there and version != self._version and self._due is None:
            self._due = self._loop.call_later(SOON, self._tell_sessions)

    def look(self, keys: set[int]) -> None:
        """Whose connections are looked at."""
        wanted = tuple(sorted(keys))
        if wanted != self._looked_at:
            self._looked_at = wanted
            self._child.send(Look(wanted))

    def close(self) -> None:
        """End it. A second call does nothing."""
        if self._due is not None:
            self._due.cancel()
        self._child.close()

    def _ended(self, how: str) -> None:
        text = f"The process of the proxies {how}: all proxied connections are cut. It is started again."
        self._tell(Severity.ERROR, "proxy-ended", text, None)
        for key, proxied in self._now.items():
            self._before[key] = Proxied(opened=proxied.opened, up=proxied.up, down=proxied.down)
        self._note({key: self._before[key] for key in self._now})
        self._now.clear()

    # What it is told

    def _tell_all(self) -> None:
        """From the beginning: it may know nothing."""
        if not self._child.is_there:
            return
        it, salt = self.settings, secrets.token_bytes(16)
        users = tuple((user.name, digest(salt, user.password.encode())) for user in it.users)
        pool = it.pool or PoolPort("")
        self._child.send(Begin(tuple(self._board().settings)))
        self._child.send(Serve(pool.listen, pool.choose, salt, users, it.limits, it.idle, it.allow_private))
        self._child.send(Look(self._looked_at))
        self._version = 0
        self._told.clear()
        self._tell_sessions()

    def _tell_sessions(self) -> None:
        self._due = None
        if not self._child.is_there:
            return
        board = self._board()
        changes = board.changes_since(self._version)
        self._version = changes.version
        changed = [view for view in changes.views if self._told.get(view.id) != _of_interest(view)]
        edited = (board.view(key) for key in self._edited - {view.id for view in changed})
        told = [self._session(view) for view in (*changed, *filter(None, edited))]
        self._edited.clear()
        for at in range(0, len(told), SHARE):
            self._child.send(Sessions(tuple(told[at : at + SHARE])))
        if changes.removed or changes.whole:  # a key may be another session's one day
            for known in (self._told, self._before, self._now):
                for key in known.keys() - board.settings.keys():
                    del known[key]
        for at in range(0, len(changes.removed), SHARE):
            self._child.send(Sessions(gone=changes.removed[at : at + SHARE]))

    def _session(self, view: SessionView) -> Session:
        self._told[view.id] = _of_interest(view)
        settings = self._board().settings.get(view.id)
        listen = "" if view.egress == EgressChoice.NONE else self._listen(view.id, settings.proxy if settings else None)
        stacked = view.egress == EgressChoice.STACK
        usable = view.state is SessionState.UP and view.device is not None
        try:
            index = socket.if_nametoindex(view.device) if usable and view.device is not None else 0
        except OSError:
            index = 0
        if not (index or (stacked and view.state is SessionState.UP)):
            return Session(view.id, view.name, view.tags, listen, up=False)
        return Session(
            view.id,
            view.name,
            view.tags,
            listen,
            up=True,
            draining=view.draining,
            since=view.up_since or 0.0,
            device=view.device or "",
            index=index,
            ipv4=view.ipv4 or "",
            ipv6=view.ipv6_addresses[0] if view.ipv6_addresses else "",
            dns=view.dns,
            stack=stacked,
        )

    def _listen(self, key: int, own: str | None) -> str:
        ports = self.settings.sessions
        if own is not None or ports is None:
            return own or ""
        port = ports.first_port + key
        return join_endpoint(ip_address(ports.listen), port) if port <= MAX_PORT else ""

    # What it tells

    def _hear(self, message: ToEngine) -> None:
        match message:
            case Ready():
                self.join_stack()
                self._tell_all()
            case Counts(counted):
                there = self._board().settings
                self._note({each.key: self._counted(each) for each in counted if each.key in there})
            case Told(severity, kind, text, key):
                self._tell(Severity(severity), kind, text, key)
            case Doubts(key):
                self.edited((key,))
            case WantsNew(key, user):
                if objection := self._renew(key, user):
                    self._tell(Severity.WARNING, "proxy-new", f"No new address for a proxy user: {objection}", key)
                    self._child.send(NotNew(key))

    def _counted(self, counted: Counted) -> Proxied:
        now = self._loop.time()
        passing = tuple(
            Connection(self._wall(now - it.age), it.source, it.target, it.how, it.user, it.up, it.down)
            for it in counted.through
        )
        had = self._before.get(counted.key, Proxied())
        proxied = Proxied(
            listens=counted.listens or None,
            connections=counted.connections,
            opened=had.opened + counted.opened,
            up=had.up + counted.up,
            down=had.down + counted.down,
            open=passing,
            talkers=tuple(Talker(*each) for each in counted.talkers),
        )
        self._now[counted.key] = proxied
        return proxied
