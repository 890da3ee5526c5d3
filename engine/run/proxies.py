"""The process of the proxies as the engine sees it: started where proxies are asked for, told of sessions, heard.

It is started anew when it ends, which an event tells. What it knows it knows from the board: sessions' ends, draining
and coming back need nothing else.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from ipaddress import ip_address

from engine.api.values import Connection, SessionState, SessionView, Severity, Talker
from engine.proxy.channel import Channel
from engine.proxy.messages import (
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
    ToEngine,
    WantsNew,
)
from engine.proxy.messages import Tell as Told
from engine.proxy.users import digest
from engine.settings.limits import MAX_PORT
from engine.settings.own_kinds import join_endpoint
from engine.settings.values import PoolPort, ProxySettings, Settings
from engine.supervisor.board import Board
from engine.supervisor.handed import Proxied

SOON = 0.02
"""Seconds that changes of sessions wait for others to come with them."""
AGAIN = (0.1, 1.0, 5.0)
"""Seconds until it is started anew: the first time, the second, and from then on."""
STABLE = 60.0
"""Seconds after which an end counts as the first again."""
LOOK = 0.02
"""Seconds between looks whether it has ended."""
PATIENCE = 2.0
"""Seconds that it has to end by itself."""


def asks_for_proxies(settings: Settings) -> bool:
    """Whether a configuration does."""
    own = (session.proxy for session in settings.sessions)
    return bool(settings.proxy.sessions or settings.proxy.pool or any(own))


def _of_interest(view: SessionView) -> tuple[object, ...]:
    """What of a view the proxies are told."""
    return (
        *(view.name, view.tags, view.state, view.draining, view.up_since),
        *(view.device, view.ipv4, view.ipv6_addresses, view.dns),
    )


def _kill(process: subprocess.Popen[bytes]) -> None:
    """As far as we may: it runs as another user, and our right to kill that is given up. It ends itself as well."""
    with suppress(PermissionError):
        process.kill()


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
        self._process: subprocess.Popen[bytes] | None = None
        self._ours: socket.socket | None = None
        self._channel: Channel | None = None
        self._version = 0
        """Of the board, as far as the process was told of it."""
        self._edited: set[int] = set()
        """Sessions whose own proxies may be others now, which no view tells."""
        self._told: dict[int, tuple[object, ...]] = {}
        """What of each view it knows: the numbers that it counts come back in views."""
        self._due: asyncio.TimerHandle | None = None
        self._restart: asyncio.TimerHandle | None = None
        self._ends = 0
        self._started = 0.0
        self._closing = False
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
        """Start the process; it waits until it is listened to. Does nothing where it is there. Raises OSError."""
        if self._process is not None:
            return
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        with theirs:
            before = signal.pthread_sigmask(signal.SIG_SETMASK, ())
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "engine.proxy", str(theirs.fileno()), str(os.getpid())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                )
            except BaseException:
                ours.close()
                raise
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self._ours = ours

    def open(self) -> None:
        """Begin, where it is wanted and hasn't begun: the engine's loop runs."""
        if self._channel is None and self._restart is None:
            self._begin()

    def reconfigure(self, settings: ProxySettings) -> None:
        """There are other proxies to be."""
        if settings == self.settings:
            return
        self.settings = settings
        self._tell(Severity.INFO, "proxy", "The proxies are as the configuration says now.", None)
        if self._channel is None:
            self.open()
        else:
            self._tell_all()

    def edited(self, keys: Iterable[int]) -> None:
        """Sessions have other settings, or are new."""
        if self._channel is None:
            self.open()
            return
        self._edited.update(keys)
        if self._due is None:
            self._due = self._loop.call_later(SOON, self._tell_sessions)

    def follow(self, version: int) -> None:
        """The board has this version: what is new goes to the process soon, with what comes meanwhile."""
        if self._channel is not None and version != self._version and self._due is None:
            self._due = self._loop.call_later(SOON, self._tell_sessions)

    def look(self, keys: set[int]) -> None:
        """Whose connections are looked at."""
        wanted = tuple(sorted(keys))
        if wanted != self._looked_at:
            self._looked_at = wanted
            if self._channel is not None:
                self._channel.send(Look(wanted))

    def close(self) -> None:
        """End it. A second call does nothing."""
        self._closing = True
        for timer in (self._due, self._restart):
            if timer is not None:
                timer.cancel()
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self._ours is not None:
            self._ours.close()
            self._ours = None
        self._bury()

    # Its life

    def _begin(self) -> None:
        self._restart = None
        if not self.wanted or self._closing:
            return
        try:
            self.start()
        except OSError as error:
            self._tell(Severity.ERROR, "proxy", f"There are no proxies: {error.strerror}.", None)
            return
        assert self._ours is not None
        self._started = self._loop.time()
        self._channel = Channel(self._loop, self._ours, TO_ENGINE, self._hear, self._ended)
        self._ours = None

    def _ended(self) -> None:
        """It is gone, or is to go: it says what makes no sense, or takes in nothing."""
        self._channel = None
        if self._process is not None:
            _kill(self._process)
            self._see_ended(self._process)

    def _see_ended(self, process: subprocess.Popen[bytes]) -> None:
        """Once it has ended, and with it all connections, tell so, and have it started again."""
        code = process.poll()
        if code is None:
            self._restart = self._loop.call_later(LOOK, self._see_ended, process)
            return
        self._process = None
        now = self._loop.time()
        self._ends = 1 if now - self._started > STABLE else self._ends + 1
        wait = AGAIN[min(self._ends, len(AGAIN)) - 1]
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        text = f"The process of the proxies {how}: all proxied connections are cut. It is started again."
        self._tell(Severity.ERROR, "proxy-ended", text, None)
        for key, proxied in self._now.items():
            self._before[key] = Proxied(opened=proxied.opened, up=proxied.up, down=proxied.down)
        self._note({key: self._before[key] for key in self._now})
        self._now.clear()
        self._restart = self._loop.call_later(wait, self._begin)

    def _bury(self) -> None:
        """See it ended, as it does when its channel is closed; one that stands still ends itself later."""
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(PATIENCE)
            self._process = None

    # What it is told

    def _tell_all(self) -> None:
        """From the beginning: it may know nothing."""
        if self._channel is None:
            return
        it, salt = self.settings, secrets.token_bytes(16)
        users = tuple((user.name, digest(salt, user.password.encode())) for user in it.users)
        pool = it.pool or PoolPort("")
        self._channel.send(Begin(tuple(self._board().settings)))
        self._channel.send(Serve(pool.listen, pool.choose, salt, users, it.limits, it.idle, it.allow_private))
        self._channel.send(Look(self._looked_at))
        self._version = 0
        self._told.clear()
        self._tell_sessions()

    def _tell_sessions(self) -> None:
        self._due = None
        if self._channel is None:
            return
        board = self._board()
        changes = board.changes_since(self._version)
        self._version = changes.version
        changed = [view for view in changes.views if self._told.get(view.id) != _of_interest(view)]
        edited = (board.view(key) for key in self._edited - {view.id for view in changed})
        told = [self._session(view) for view in (*changed, *filter(None, edited))]
        self._edited.clear()
        for at in range(0, len(told), SHARE):
            self._channel.send(Sessions(tuple(told[at : at + SHARE])))
        for key in changes.removed:
            self._told.pop(key, None)
        for at in range(0, len(changes.removed), SHARE):
            self._channel.send(Sessions(gone=changes.removed[at : at + SHARE]))

    def _session(self, view: SessionView) -> Session:
        self._told[view.id] = _of_interest(view)
        settings = self._board().settings.get(view.id)
        listen = self._listen(view.id, settings.proxy if settings is not None else None)
        usable = view.state is SessionState.UP and view.device is not None
        try:
            index = socket.if_nametoindex(view.device) if usable and view.device is not None else 0
        except OSError:
            index = 0
        if not index:
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
                self._tell_all()
            case Counts(counted):
                self._note({each.key: self._counted(each) for each in counted})
            case Told(severity, kind, text, key):
                self._tell(Severity(severity), kind, text, key)
            case Doubts(key):
                self.edited((key,))
            case WantsNew(key, user):
                if (objection := self._renew(key, user)) and self._channel is not None:
                    self._tell(Severity.WARNING, "proxy-new", f"No new address for a proxy user: {objection}", key)
                    self._channel.send(NotNew(key))

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
