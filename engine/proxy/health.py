"""Health checks: pages that are fetched through sessions, in a process of its own that may do nothing else.

What a server sends is read here, and its certificate by OpenSSL, so none of it comes near the engine: the process has
no capability and no descriptor but a socket to the engine. That tells what is to be checked, and hears what came of it.
The engine's end is `engine.run.health`. This process ends when that closes its end.

    python -P -m engine.proxy.health CHANNEL PARENT     as `engine.proxy`
"""

from __future__ import annotations

import asyncio
import encodings.idna  # all that is imported late must be here before files are out of reach
import random
import re
import socket
import ssl
from collections import OrderedDict
from functools import partial
from urllib.parse import urlsplit

from engine.proxy.channel import Channel
from engine.proxy.checks import TO_PROCESS, Check, Finding, Order
from engine.proxy.dialling import DialError, DialKind, Dialler
from engine.proxy.exits import Exit
from engine.proxy.messages import Ready, StackLine
from engine.proxy.names import Names
from engine.proxy.stack import Connection
from engine.proxy.unprivileged import beat, begin, give_up_rights

AT_ONCE = 64
"""Checks that are under way at the same time."""
PATIENCE = 10.0
"""Seconds that a check may take; no longer than from one to the next."""
FIRST = 5.0
"""Seconds within which the first check of a session is made, at random: thousands come up together."""
AGENT = "souppp-tui"
HEAD = 1 << 14
"""Octets of an answer that are read at most."""
assert encodings.idna
_STATUS = re.compile(rb"HTTP/1\.[0-9] ([0-9]{3})(?: [^\r\n]*)?\r?\n")


def status_of(octets: bytes) -> int | None:
    """The status of an HTTP answer, None while it isn't there whole. Raises ValueError for what is no such answer.

    Interim answers (RFC 9110 section 15.2) are passed over.
    """
    while True:
        found = _STATUS.match(octets)
        if found is None:
            whole_line = b"\n" in octets or len(octets) >= HEAD
            if whole_line or not b"HTTP/1.".startswith(octets[:7]):
                raise ValueError("no HTTP answer")
            return None
        status = int(found[1])
        if not 100 <= status < 200:
            return status
        end = re.search(rb"\r?\n\r?\n", octets)
        if end is None:
            if len(octets) >= HEAD:
                raise ValueError("an endless answer")
            return None
        octets = octets[end.end() :]


class _Answer(asyncio.Protocol):
    """Asks for a page, and reads no more of it than its status."""

    def __init__(self, request: bytes, done: asyncio.Future[int]) -> None:
        self._request = request
        self._done = done
        self._octets = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask."""
        assert isinstance(transport, asyncio.Transport)
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Read on until the status is there."""
        if self._done.done():
            return
        self._octets = (self._octets + data)[:HEAD]
        try:
            status = status_of(self._octets)
        except ValueError as error:
            self._done.set_exception(error)
        else:
            if status is not None:
                self._done.set_result(status)

    def connection_lost(self, exc: Exception | None) -> None:
        """That came too early."""
        if not self._done.done():
            self._done.set_exception(exc or ValueError("the server closed the connection without an answer"))


async def fetch(dialler: Dialler, exit_: Exit, url: str, context: ssl.SSLContext, timeout: float) -> str | None:
    """Fetch a page through a session; returns what is wrong, empty if the page came with a status below 400.

    None where nothing can be said of it: the stack program is away, or has yet to be told of the session.
    """
    parts = urlsplit(url)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    connected: asyncio.Future[socket.socket | DialError] = loop.create_future()

    def done(what: socket.socket | Connection | DialError) -> None:
        if connected.cancelled():
            if not isinstance(what, DialError):
                what.close()
            return
        connected.set_result(what.as_socket() if isinstance(what, Connection) else what)

    port = parts.port or (443 if parts.scheme == "https" else 80)
    dialler.connect(exit_, parts.hostname or "", port, deadline, done)
    made = await connected
    if isinstance(made, DialError):
        return None if exit_.stack and made.kind is DialKind.SESSION_GONE else str(made)
    return await ask(made, url, context, deadline)


async def ask(connected: socket.socket, url: str, context: ssl.SSLContext, deadline: float) -> str:
    """Ask for a page on a connection until the loop's time is `deadline`; returns as `fetch`. Closes the connection."""
    parts = urlsplit(url)
    loop = asyncio.get_running_loop()
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    head = (f"GET {path} HTTP/1.1", f"Host: {parts.netloc}", f"User-Agent: {AGENT}", "Accept: */*", "Connection: close")
    answered: asyncio.Future[int] = loop.create_future()
    answer = _Answer("\r\n".join((*head, "", "")).encode("ascii"), answered)
    tls = parts.scheme == "https"
    transport: asyncio.Transport | None = None
    try:
        async with asyncio.timeout_at(deadline):
            transport, _ = await loop.create_connection(
                lambda: answer,
                sock=connected,
                ssl=context if tls else None,
                server_hostname=parts.hostname if tls else None,
            )
            status = await answered
    except TimeoutError:
        return "no answer in time"
    except ssl.SSLCertVerificationError as error:
        return f"its certificate is not to be believed: {error.verify_message}"
    except (OSError, ValueError) as error:
        return str(error) or type(error).__name__
    finally:
        if answered.done() and not answered.cancelled():
            answered.exception()  # it was told
        if transport is not None:
            transport.abort()
        connected.close()
    return "" if status < 400 else f"HTTP status {status}"


class Checker:
    """All checks of the process."""

    def __init__(self, engine: socket.socket, loop: asyncio.AbstractEventLoop, context: ssl.SSLContext) -> None:
        """`context` says which certificates are believed. The loop is stopped when the engine is gone."""
        self._loop = loop
        self._names = Names(loop)
        self._dialler = Dialler(self._names, loop, allow_private=True)  # the operator says where to
        self._context = context
        self._checks: dict[int, Check] = {}
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._waiting: OrderedDict[int, None] = OrderedDict()
        self._under_way: dict[int, asyncio.Task[None]] = {}
        self._engine = Channel(loop, engine, TO_PROCESS, self._heed, loop.stop)
        self._engine.send(Ready())

    def _heed(self, order: Order | StackLine) -> None:
        if isinstance(order, StackLine):
            self._names.stack.begin(self._engine.descriptors.pop())
            return
        key = order.key
        if (timer := self._timers.pop(key, None)) is not None:
            timer.cancel()
        if (task := self._under_way.pop(key, None)) is not None:
            task.cancel()
        self._waiting.pop(key, None)
        self._checks.pop(key, None)
        self._dialler.drop(key)
        if order.check is not None:
            self._checks[key] = order.check
            self._plan(key, random.uniform(0, min(FIRST, order.check.every)))
        self._begin()

    def _plan(self, key: int, seconds: float) -> None:
        self._timers[key] = self._loop.call_later(seconds, self._is_due, key)

    def _is_due(self, key: int) -> None:
        self._timers.pop(key, None)
        self._waiting[key] = None
        self._begin()

    def _begin(self) -> None:
        while self._waiting and len(self._under_way) < AT_ONCE:
            key, _ = self._waiting.popitem(last=False)
            task = self._under_way[key] = self._loop.create_task(self._carry_out(key, self._checks[key]))
            task.add_done_callback(partial(self._over, key))

    async def _carry_out(self, key: int, check: Check) -> None:
        began = self._loop.time()
        try:
            timeout = min(PATIENCE, check.every)
            problem = await fetch(self._dialler, check.exit(key), check.url, self._context, timeout)
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
        if problem is not None:
            self._engine.send(Finding(key, check.serial, problem[:300]))
        self._plan(key, max(0.0, began + check.every - self._loop.time()))

    def _over(self, key: int, task: asyncio.Task[None]) -> None:
        if self._under_way.get(key) is task:
            del self._under_way[key]
        self._begin()


def main() -> None:
    """Check until the engine closes its end."""
    engine = begin()
    context = ssl.create_default_context()  # which reads files
    loop = asyncio.new_event_loop()
    give_up_rights()
    beat(loop)
    Checker(engine, loop, context)
    loop.run_forever()


if __name__ == "__main__":
    main()
