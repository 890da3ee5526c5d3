"""The process of the proxies: whom a hostile client talks to, and so apart from the engine, with next to no rights.

    python -m engine.proxy CHANNEL PARENT

CHANNEL is the descriptor of its socket to the engine, PARENT the engine's process. It ends when that does.
"""

from __future__ import annotations

import asyncio
import encodings.idna  # all that is imported late must be here before files are out of reach
import gc
import random
import socket
import sys

from engine.host import descriptors
from engine.host.errors import Trouble
from engine.proxy.channel import Channel
from engine.proxy.dialling import Dialler
from engine.proxy.messages import (
    ENCODER,
    TO_PROCESS,
    Begin,
    Look,
    NotNew,
    Ready,
    Serve,
    Sessions,
    StackLine,
    Tell,
    ToProcess,
)
from engine.proxy.names import Names
from engine.proxy.own import OwnAddresses
from engine.proxy.relay import Relay, load
from engine.proxy.serving import Serving
from engine.proxy.unprivileged import beat, begin, give_up_rights

ERROR = 3
FAILED = 1
assert encodings.idna


def main() -> int:
    """Run until the engine ends; returns the exit code."""
    channel = begin()
    descriptors.raise_limit()
    try:
        load()
    except Trouble as error:
        return _fail(channel, error)
    own = OwnAddresses()
    loop = asyncio.new_event_loop()
    give_up_rights()
    try:
        relay = Relay()
    except Trouble as error:
        return _fail(channel, error)
    gc.freeze()
    gc.set_threshold(50_000)  # what is made for a client goes with it, but for little
    _run(loop, channel, relay, own)
    return 0


def _run(loop: asyncio.AbstractEventLoop, ours: socket.socket, relay: Relay, own: OwnAddresses) -> None:
    told = False

    def hear(message: ToProcess) -> None:
        nonlocal told
        if isinstance(message, Begin):
            told = True
        if not told and not isinstance(message, StackLine):
            return  # it was meant for a process before this one
        match message:
            case Begin():
                serving.begin(message)
            case Serve():
                serving.serve(message)
            case Sessions():
                serving.note_sessions(message)
            case Look():
                serving.look(message)
            case StackLine():
                names.stack.begin(channel.descriptors.pop())
            case NotNew():
                serving.not_new(message)

    channel = Channel(loop, ours, TO_PROCESS, hear, loop.stop)
    names = Names(loop)
    dialler = Dialler(names, loop, own=own)
    serving = Serving(loop, dialler, relay, random.SystemRandom().random, channel.send)
    channel.send(Ready())
    beat(loop)
    try:
        loop.run_forever()
    finally:
        serving.close()
        names.close()
        relay.close()
        channel.close()


def _fail(channel: socket.socket, error: Trouble) -> int:
    channel.send(ENCODER.encode(Tell(ERROR, "proxy", f"There are no proxies: {error}.")))
    return FAILED


if __name__ == "__main__":
    sys.exit(main())
