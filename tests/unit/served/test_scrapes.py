"""The page for a monitoring, over real connections: what is answered, and what those reach who mean harm."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress

import pytest

from souppp_tui.commands import scrapes as module
from souppp_tui.commands.scrapes import CONNECTIONS, REQUEST, Scrapes
from tests.program import until


class Site:
    """A page that is served by a thread."""

    def __init__(self, page: bytes) -> None:
        self.page = page
        self.made = 0
        self.wait = threading.Event()
        self.wait.set()
        self.scrapes = Scrapes(self._make)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._port = self._listening.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._end = asyncio.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _make(self) -> bytes:
        self.made += 1
        self.wait.wait(20)
        return self.page

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self.scrapes.serve(self._listening, self._end))
        self._loop.close()

    def close(self) -> None:
        self.wait.set()
        with suppress(RuntimeError):  # closed already
            self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()

    def connect(self) -> socket.socket:
        it = socket.create_connection(("127.0.0.1", self._port))
        it.settimeout(20)
        return it

    def ask(self, request: str = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n") -> tuple[int, bytes]:
        """Status and body."""
        with closing(self.connect()) as connection:
            connection.sendall(request.encode())
            head, _, body = everything(connection).partition(b"\r\n\r\n")
            return int(head.split()[1]), body


def everything(connection: socket.socket) -> bytes:
    told = bytearray()
    with suppress(ConnectionResetError):
        while chunk := connection.recv(65536):
            told += chunk
    return bytes(told)


@pytest.fixture
def site() -> Iterator[Site]:
    it = Site(b"souppp_up 1\n")
    yield it
    it.close()


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        ("GET /metrics HTTP/1.1", 200),
        ("GET /metrics?name=x HTTP/1.0", 200),
        ("GET / HTTP/1.1", 200),
        ("GET /favicon.ico HTTP/1.1", 404),
        ("GET /../../etc/passwd HTTP/1.1", 404),
        ("POST /metrics HTTP/1.1", 405),
        ("GET /metrics", 400),
        ("GET /metrics HTTP/2", 400),
        ("\0\xff", 400),
        ("", 400),
    ],
)
def test_what_is_answered(site: Site, request_line: str, status: int) -> None:
    assert site.ask(f"{request_line}\r\n\r\n")[0] == status


def test_the_page_comes_whole_with_its_length(site: Site) -> None:
    site.page = os.urandom(10_000_000)
    assert site.ask() == (200, site.page)


def test_head_gives_the_head_alone(site: Site) -> None:
    assert site.ask("HEAD /metrics HTTP/1.1\r\n\r\n") == (200, b"")


def test_who_asks_at_once_gets_the_same_page(site: Site) -> None:
    site.wait.clear()
    with ExitStack() as opened:
        asking = [opened.enter_context(closing(site.connect())) for _ in range(10)]
        for connection in asking:
            connection.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        until(lambda: site.made, "the first")
        asking.pop().close()  # who leaves takes it from nobody else
        site.wait.set()
        assert all(everything(connection).endswith(site.page) for connection in asking)
    assert site.made == 1


def test_a_page_that_can_not_be_made_is_made_again_the_next_time(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = iter([RuntimeError("a bug"), b"well\n"])

    def make() -> bytes:
        if isinstance(page := next(pages), Exception):
            raise page
        return page

    monkeypatch.setattr(module, "FRESH", 0.0)
    monkeypatch.setattr(site.scrapes, "_make", make)
    assert site.ask()[0] == 500
    assert site.ask() == (200, b"well\n")


def test_a_request_without_end_is_cut_off(site: Site) -> None:
    with closing(site.connect()) as connection:
        with suppress(ConnectionError):
            for _ in range(100):
                connection.sendall(b"x" * REQUEST)
        assert everything(connection)[:12] in (b"HTTP/1.1 431", b"")
    assert site.ask()[0] == 200


def test_who_does_not_ask_is_let_go(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ASKING", 0.1)
    with closing(site.connect()) as connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\n")
        assert everything(connection) == b""


def test_who_does_not_read_is_let_go_and_holds_up_nobody(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TAKING", 1.0)
    site.page = bytes(20_000_000)
    with ExitStack() as opened:
        for _ in range(5):
            connection = opened.enter_context(closing(site.connect()))
            connection.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        until(lambda: len(site.scrapes._tasks) == 5, "all of them")
        assert site.ask() == (200, site.page)
        until(lambda: not site.scrapes._tasks, "all gone")
    assert site.made <= 3


def test_a_thousand_connections_leave_room_for_who_asks(site: Site) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        with ExitStack() as opened:
            for _ in range(1000):
                opened.enter_context(closing(site.connect()))
                assert len(site.scrapes._tasks) < 10 * CONNECTIONS
            assert site.ask() == (200, site.page)
            until(lambda: len(site.scrapes._tasks) <= CONNECTIONS, "no more than there is room for")
        until(lambda: not site.scrapes._tasks, "all gone")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_where_all_are_being_answered_more_are_turned_away(site: Site) -> None:
    site.wait.clear()
    with ExitStack() as opened:
        waiting = [opened.enter_context(closing(site.connect())) for _ in range(CONNECTIONS)]
        for connection in waiting:
            connection.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        until(lambda: len(site.scrapes._tasks) == CONNECTIONS and not site.scrapes._asking, "all of them")
        assert site.ask()[0] == 503
        site.wait.set()
        assert all(everything(connection).endswith(site.page) for connection in waiting)
    until(lambda: site.ask()[0] == 200, "room again")


def test_the_end_lets_go_of_all(site: Site) -> None:
    with closing(site.connect()) as connection:
        until(lambda: site.scrapes._tasks, "it")
        site.close()
        assert everything(connection) == b""
