"""The engine's end of the stack program (`engine/egress/stack`): which sessions there are, and who dials by it."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Callable

from engine.api.values import Severity
from engine.egress.protocol import Addresses
from engine.host.files import STACK, STACK_REMEDY
from engine.proxy.stack_protocol import (
    PROTOCOL,
    TO_ENGINE,
    Client,
    Connections,
    Count,
    Counts,
    Gone,
    Hello,
    Session,
    encode,
)
from engine.run.child import Child
from engine.settings.values import EgressChoice, Settings

BUDGET = 128 << 20
"""Octets of the buffers of all connections together."""


def asks_for_stack(settings: Settings) -> bool:
    """Whether a configuration does."""
    return any(session.egress is EgressChoice.STACK for session in settings.sessions)


class StackProgram:
    """Implements `engine.egress.bare.Stack`. All calls are the engine's thread's, but `start` before there is one."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        tell: Callable[[Severity, str, str], None],
        begun: Callable[[], None],
    ) -> None:
        """`begun` is called when there is a program, the first one or another: it knows no session yet."""
        self._tell_event = tell
        self._begun = begun
        self._child = Child(
            loop,
            (sys.executable, "-P", "-m", "engine.host.launch", str(STACK)),
            TO_ENGINE,
            encode,
            self._hear,
            self._ended,
            lambda error: tell(Severity.ERROR, "stack", f"The stack program can't be started: {error.strerror}."),
            lambda: not self._refused,
        )
        self._refused = ""
        self._ready = False
        self.counts: dict[int, Count] = {}
        """What goes through sessions with a stack, as told last."""

    def start(self) -> None:
        """See `Child.start`. Raises OSError."""
        if os.access(STACK, os.X_OK):
            self._child.start()

    def open(self) -> None:
        """See `Child.open`."""
        if os.access(STACK, os.X_OK):
            self._child.open()

    def obstacle(self) -> str:
        """See `Stack.obstacle`."""
        if self._refused:
            return self._refused
        return "" if os.access(STACK, os.X_OK) else f"`egress: stack` takes a program of its own: {STACK_REMEDY}."

    def tell(self, key: int, mtu: int, addresses: Addresses, end: int = -1) -> None:
        """See `Stack.tell`; whoever is told `begun` tells all sessions."""
        own = (addresses.ipv4, *addresses.global6)
        told = Session(key, mtu, tuple(str(each) for each in own if each), str(addresses.ipv6 or ""))
        ends = (end,) if end >= 0 else ()
        if self._ready:
            self._child.send(told, *ends)
            return
        for each in ends:
            os.close(each)
        self._child.open()

    def forget(self, key: int) -> None:
        """See `Stack.forget`."""
        self.counts.pop(key, None)
        if self._ready:
            self._child.send(Gone(key))

    def line(self) -> int:
        """A descriptor for another process that dials through the program, the caller's; -1 while there is none."""
        if not self._ready:
            return -1
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._child.send(Client(), theirs.detach())
        return ours.detach()

    def close(self) -> None:
        """End it. A second call does nothing."""
        self._ready = False
        self._child.close()

    def _hear(self, message: object) -> None:
        match message:
            case Hello():
                self._greet(message)
            case Counts():
                self.counts.update((int(key), count) for key, count in message.sessions.items())
            case Connections():
                pass

    def _greet(self, hello: Hello) -> None:
        if hello.protocol != PROTOCOL:
            self._refused = (
                f"The stack program {hello.release} speaks protocol {hello.protocol}, this engine {PROTOCOL}:"
                f" {STACK_REMEDY} of the same release."
            )
            self._tell_event(Severity.ERROR, "stack", self._refused)
            self._child.close()
            return
        self._child.send(Hello(PROTOCOL, budget=BUDGET))
        self._ready = True
        self._begun()

    def _ended(self, how: str) -> None:
        was, self._ready = self._ready, False
        self.counts.clear()
        cut = "all connections through sessions with `egress: stack` are cut. " if was else ""
        self._tell_event(Severity.ERROR, "stack-ended", f"The stack program {how}: {cut}It is started again.")
