"""`souppp-tui exporter`: what an engine does, for Prometheus to fetch.

A process of its own, and a client of the engine's socket as a console is: however often and slowly the page is fetched,
the engine's time isn't spent on it. It goes on without an engine, says so, and has it again when that is back.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from engine.host import service
from engine.host.errors import Trouble
from engine.run.client import PAUSES, Client, Connect
from souppp_tui import __version__
from souppp_tui.commands.errors import EXIT_ENVIRONMENT, EXIT_OK, CannotRunError, complain
from souppp_tui.commands.reaching import client, target_options, way_to
from souppp_tui.commands.scrapes import PATH, Scrapes
from souppp_tui.terminal.leaving import Leaving

if TYPE_CHECKING:
    from prometheus_client import Metric

LISTEN = ("127.0.0.1", 9777)
PERIOD = 1.0
"""Seconds between the engine's pictures: no page is older."""


def parser() -> argparse.ArgumentParser:
    """All options of the command."""
    it = argparse.ArgumentParser(
        prog="souppp-tui exporter",
        description="Show what an engine does to Prometheus, as a page that it fetches.",
    )
    it.add_argument("engine", nargs="?", help="its card, lab, or the path of its socket; not needed where only one is")
    target_options(it)
    it.add_argument(
        "--listen",
        type=_address,
        default=LISTEN,
        metavar="ADDRESS:PORT",
        help=f"where the page is fetched, by anybody who can connect there ({LISTEN[0]}:{LISTEN[1]})",
    )
    it.add_argument("--sessions", action="store_true", help="each session's own numbers too, ten for each")
    return it


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 0xFFFF:
        raise argparse.ArgumentTypeError("must be ADDRESS:PORT, as in 127.0.0.1:9777 or [::1]:9777")
    return host.removeprefix("[").removesuffix("]"), int(port)


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    leaving = Leaving()
    leaving.heed_signals()
    options = parser().parse_args(arguments)
    try:
        listening = _listen(*options.listen)
    except CannotRunError as error:
        complain(f"souppp-tui: {error}")
        return EXIT_ENVIRONMENT
    source = Source(options.engine, options.socket, sessions=options.sessions)
    source.start()
    host, port = listening.getsockname()[:2]
    print(f"http://{f'[{host}]' if ':' in host else host}:{port}{PATH}", flush=True)
    service.notify("READY=1")
    with listening:
        asyncio.run(_serve(Scrapes(source.page), listening, leaving))
    return EXIT_OK


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
            0
        ]
        return socket.create_server(address[:2], family=family, backlog=socket.SOMAXCONN)
    except OSError as error:
        why = error.strerror if isinstance(error, socket.gaierror) or not error.errno else os.strerror(error.errno)
        text = f"{host}:{port} can't be listened on: {why}. Another address: --listen ADDRESS:PORT."
        raise CannotRunError(text) from None


async def _serve(scrapes: Scrapes, listening: socket.socket, leaving: Leaving) -> None:
    until, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_reader(leaving, until.set)
    await scrapes.serve(listening, until)


class Source:
    """The engine, whether it is there or not."""

    def __init__(self, target: str | None, path: Path | None, *, sessions: bool) -> None:
        """See `way_to`; with `sessions` each session's numbers are told too."""
        from prometheus_client import CollectorRegistry

        self._target = target
        self._path = path
        self._sessions = sessions
        self._way: Connect | None = None
        self._client: Client | None = None
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def start(self) -> None:
        """Look for it from now on."""
        threading.Thread(target=self._look, name="souppp-reaching", daemon=True).start()

    def page(self) -> bytes:
        """What is known now, as Prometheus reads it."""
        from prometheus_client import generate_latest

        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """See `prometheus_client.registry.Collector`."""
        from souppp_tui.show import metrics

        engine = self._client
        if engine is None or engine.lost:
            return metrics.lost(__version__)
        return metrics.metrics(
            engine.snapshot(), engine.hello, engine.clients, release=__version__, sessions=self._sessions
        )

    def _look(self) -> None:
        """Reach the engine, which then is reached again whenever it is lost, and tell whether it is there."""
        told, pause = "", threading.Event()
        while True:
            why = self._client.lost if self._client is not None else self._reach()
            if why != told:
                complain(f"souppp-tui: {why or 'The engine is reached.'}")
            told = why
            pause.wait(PAUSES[-1])

    def _reach(self) -> str:
        """Returns why it can't be reached: one line."""
        try:
            self._way = self._way or way_to(self._target, self._path)
            self._client = client(self._way, "exporter", period=PERIOD, events=-1)
        except Trouble as error:
            return str(error)
        return ""
