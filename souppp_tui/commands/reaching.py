"""Which engine a command is for, and the connection to it."""

from __future__ import annotations

import argparse
from pathlib import Path

from engine.run.client import Client, Connect, open_path, over_ssh
from engine.run.sockets import alive, connect, find
from souppp_tui import __version__


def target_options(it: argparse.ArgumentParser) -> None:
    """Options that say which engine."""
    it.add_argument("--socket", type=Path, metavar="FILE", help="the engine's socket; else the only engine's there is")


def way_to(target: str | None, path: Path | None) -> Connect:
    """How to reach an engine: on a card, in the lab (`lab`), at a path, or on another host as USER@HOST[:CARD].

    Raises SocketError where there is none to be found.
    """
    if path is not None:
        return open_path(path)
    if target is not None and "@" in target:
        host, _, card = target.partition(":")
        return over_ssh(host, card or None)
    found = find(target)
    # The lab's socket has another name when it is started anew.
    return lambda: connect(found if alive(found) else find(target))


def client(way: Connect, program: str, *, period: float = 0.5, events: int = 0, again: bool = True) -> Client:
    """An engine to be talked to. Raises Trouble."""
    return Client(way, program=program, release=__version__, period=period, events=events, again=again)
