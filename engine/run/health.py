"""The engine's end of the health checks (`engine.proxy.health`): starts their process, orders, hears.

It is started when there is something to check. What it is to check it is told from the beginning when it is ready.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable, Mapping

from engine.proxy.checks import ENCODER, TO_ENGINE, Check, Finding, Order, ToEngine
from engine.proxy.messages import Ready, StackLine
from engine.run.child import Child
from engine.settings.limits import MAX_SESSIONS
from engine.supervisor.health import Target

COMMAND = (sys.executable, "-P", "-m", "engine.proxy.health")
MOST_WAITING = 2 * MAX_SESSIONS
"""Orders that it hasn't taken: as many as can come at once, and again."""


class HealthChecks:
    """For the loop's thread."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        targets: Callable[[], Mapping[int, Target]],
        found: Callable[[Finding], None],
        ended: Callable[[str], None],
        stack_line: Callable[[], int],
    ) -> None:
        """`targets` are all that there are; `found` takes what came of a check, `ended` why the process had to end.

        `stack_line` gives a descriptor to connect by through the stack program, -1 while there is none.
        """
        self._stack_line = stack_line
        self._targets = targets
        self._found = found
        self._ready = False
        self._told_end = ended
        self._child = Child(
            loop,
            COMMAND,
            TO_ENGINE,
            ENCODER.encode,
            self._hear,
            self._ended,
            lambda error: ended(f"can't be started ({error.strerror})"),
            lambda: bool(targets()),
            MOST_WAITING,
        )

    def order(self, orders: dict[int, Target | None]) -> None:
        """Have these checked from now on, and those no more that are None; what is here is taken out."""
        if not orders:
            return
        if self._ready:
            self._send(orders)
        else:
            self._child.open()
        orders.clear()

    def join_stack(self) -> None:
        """There is a stack program, or a process that is to connect by it."""
        if self._ready and (line := self._stack_line()) >= 0:
            self._child.send(StackLine(), line)

    def close(self) -> None:
        """End the process."""
        self._child.close()

    def _hear(self, message: ToEngine) -> None:
        match message:
            case Ready():
                self._ready = True
                self.join_stack()
                self._send(self._targets())
            case Finding():
                self._found(message)

    def _send(self, orders: Mapping[int, Target | None]) -> None:
        for key, target in orders.items():
            self._child.send(Order(key, _check(target) if target is not None else None))

    def _ended(self, how: str) -> None:
        self._ready = False
        self._told_end(f"{how}, and is started again")


def _check(target: Target) -> Check | None:
    """None where the device is gone already: then there is another target soon."""
    try:
        index = 0 if target.stack else socket.if_nametoindex(target.device)
    except OSError:
        return None
    of = target
    return Check(of.name, of.device, index, of.ipv4, of.ipv6, of.dns, of.serial, of.url, of.every, of.stack)
