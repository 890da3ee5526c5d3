"""`souppp-tui relay`: hands an engine's socket on over standard input and output, for `attach` from another host."""

from __future__ import annotations

import argparse
import os
import select
import socket
from collections.abc import Sequence
from contextlib import suppress

from engine.host.errors import Trouble
from engine.run.sockets import connect, find
from souppp_tui.commands.errors import EXIT_ENVIRONMENT, EXIT_OK, complain
from souppp_tui.commands.reaching import target_options

CHUNK = 1 << 16


def parser() -> argparse.ArgumentParser:
    """All options of the command."""
    it = argparse.ArgumentParser(
        prog="souppp-tui relay",
        description="Hand an engine's socket on over standard input and output; souppp-tui attach runs it over ssh.",
    )
    it.add_argument("engine", nargs="?", help="its card, lab, or the path of its socket")
    target_options(it)
    return it


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    options = parser().parse_args(arguments)
    try:
        with connect(options.socket or find(options.engine)) as engine, suppress(OSError):
            _pump(engine)
    except Trouble as error:
        complain(f"souppp-tui: {error}")
        return EXIT_ENVIRONMENT
    return EXIT_OK


def _pump(engine: socket.socket) -> None:
    """Until either side ends. Raises OSError."""
    poll = select.poll()
    poll.register(0, select.POLLIN)
    poll.register(engine, select.POLLIN)
    while True:
        for descriptor, _ in poll.poll():
            octets = os.read(descriptor, CHUNK)
            if not octets:
                return
            if descriptor == 0:
                engine.sendall(octets)
            else:
                left = memoryview(octets)
                while left:
                    left = left[os.write(1, left) :]
