"""Which engine a command is for, and the connection to it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
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


def names_of(engines: Sequence[tuple[str, str]]) -> list[str]:
    """What to call engines, each given by how it was asked for and by its card: as short as can be told apart.

    One on another host has the host's name, one on this host its card's; where that is another's too, both or more.
    """
    chosen = [0] * len(engines)
    offers = [_names(target, card) for target, card in engines]
    while True:
        names = [offer[place] for offer, place in zip(offers, chosen, strict=True)]
        longer = [
            place + 1 if names.count(name) > 1 and place + 1 < len(offer) else place
            for name, place, offer in zip(names, chosen, offers, strict=True)
        ]
        if longer == chosen:
            return names
        chosen = longer


def _names(target: str, card: str) -> list[str]:
    """From the shortest to what it was asked for by."""
    if "@" in target:
        host, _, asked = target.rpartition("@")[2].partition(":")
        short = host if host.replace(".", "").isdigit() else host.partition(".")[0]
        return [short, f"{short}:{asked or card}", f"{host}:{asked or card}", target]
    if "/" in target:
        path = Path(target)
        return [card, path.stem, f"{path.parent.name}/{path.stem}", target]
    return [card, target]
