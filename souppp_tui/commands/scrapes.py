"""The page that a monitoring fetches, over HTTP, and as much of HTTP as that takes.

Whoever can connect may fetch it, so all is bounded: connections, octets and seconds of a request, the seconds that an
answer may take, and the work: who asks within a second of each other gets the same page.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus

from souppp_tui.commands.errors import complain

PATH = "/metrics"
TYPE = "text/plain; version=0.0.4; charset=utf-8"
START = f'<!doctype html><title>souppp-tui</title><a href="{PATH}">{PATH}</a>\n'.encode()
CONNECTIONS = 32
REQUEST = 8192
"""Octets that the head of a request may have."""
ASKING, TAKING = 5.0, 10.0
"""Seconds that a request, and an answer, may take."""
FRESH = 1.0
"""Seconds for which a page is as good as new."""
CHUNK = 1 << 16
"""Octets of an answer that wait in our memory for one who reads slowly; the page itself is everybody's."""


class Scrapes:
    """Answers on one socket."""

    def __init__(self, page: Callable[[], bytes]) -> None:
        """`page` makes it anew; it is called in a thread of its own, one call at a time."""
        self._make = page
        self._page: asyncio.Future[bytes] | None = None
        self._made = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        """One for each connection."""
        self._asking: dict[asyncio.StreamWriter, None] = {}
        """Those whose request isn't complete, oldest first."""

    async def serve(self, listening: socket.socket, until: asyncio.Event) -> None:
        """Answer until that is set."""
        server = await asyncio.start_server(self._connected, sock=listening, limit=REQUEST)
        await until.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        writer.transport.set_write_buffer_limits(high=CHUNK)
        try:
            if len(self._tasks) <= CONNECTIONS or self._make_room():
                await self._converse(reader, writer)
            else:
                await self._answer(writer, HTTPStatus.SERVICE_UNAVAILABLE)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # gone, too slow, or we are to end
        finally:
            self._tasks.discard(task)
            self._asking.pop(writer, None)
            writer.transport.abort() if writer.transport.get_write_buffer_size() else writer.close()

    def _make_room(self) -> bool:
        """Let the one go who has been connected for longest without having asked; False where there is none."""
        oldest = next(iter(self._asking), None)
        if oldest is None:
            return False
        del self._asking[oldest]
        oldest.transport.abort()
        return True

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._asking[writer] = None
        try:
            async with asyncio.timeout(ASKING):
                head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            await self._answer(writer, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            return
        self._asking.pop(writer, None)
        method, _, rest = head.partition(b"\r\n")[0].partition(b" ")
        target, _, version = rest.partition(b" ")
        path = target.partition(b"?")[0].decode("latin-1")
        if not version.startswith(b"HTTP/1."):
            await self._answer(writer, HTTPStatus.BAD_REQUEST)
        elif method not in (b"GET", b"HEAD"):
            await self._answer(writer, HTTPStatus.METHOD_NOT_ALLOWED)
        elif path == PATH:
            try:
                page = await self._fresh()
            except Exception as error:
                complain(f"souppp-tui: Internal error, please report it: {type(error).__name__}: {error}")
                await self._answer(writer, HTTPStatus.INTERNAL_SERVER_ERROR)
            else:
                await self._answer(writer, HTTPStatus.OK, page, TYPE, head=method == b"HEAD")
        elif path == "/":
            await self._answer(writer, HTTPStatus.OK, START, "text/html", head=method == b"HEAD")
        else:
            await self._answer(writer, HTTPStatus.NOT_FOUND)

    async def _fresh(self) -> bytes:
        now = time.monotonic()
        if self._page is None or (self._page.done() and now - self._made > FRESH):
            self._made = now
            self._page = asyncio.ensure_future(asyncio.to_thread(self._make))
        return await asyncio.shield(self._page)  # who leaves takes it from nobody else

    async def _answer(
        self,
        writer: asyncio.StreamWriter,
        status: HTTPStatus,
        body: bytes = b"",
        kind: str = "text/plain",
        head: bool = False,
    ) -> None:
        body = body or f"{status.phrase}\n".encode()
        lines = [
            f"HTTP/1.1 {status.value} {status.phrase}",
            f"Content-Type: {kind}",
            f"Content-Length: {len(body)}",
            "Allow: GET, HEAD",
            "Connection: close",
        ]
        rest = memoryview(b"" if head else body)
        async with asyncio.timeout(TAKING):
            writer.write("\r\n".join([*lines, "", ""]).encode())
            for start in range(0, len(rest), CHUNK):
                writer.write(rest[start : start + CHUNK])
                await writer.drain()
            writer.transport.set_write_buffer_limits(high=0)
            with suppress(ConnectionError):
                await writer.drain()
