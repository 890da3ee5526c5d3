"""What the engine and the proxies tell each other: whole however large it is, and never more than a message may be."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

import msgspec
import pytest

from engine.proxy import stack_protocol
from engine.proxy.channel import AT_ONCE, Channel
from engine.proxy.messages import (
    ENCODER,
    LARGEST,
    SHARE,
    TO_ENGINE,
    TO_PROCESS,
    Begin,
    Counted,
    Counts,
    Message,
    Ready,
    Serve,
    Session,
    Sessions,
    Tell,
    Through,
)
from engine.proxy.tally import MOST_SHOWN, MOST_TALKERS
from engine.settings import limits
from engine.settings.values import Choose, ProxyLimits

BIG = 2**53 - 1
HOST, USER, ADDRESS = "a" * 260, "\N{SNOWMAN}" * 85, "[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535"
NAME = "\N{SNOWMAN}" * (limits.MAX_NAME // 3)
SESSION = Session(
    limits.MAX_SESSIONS,
    NAME,
    ("t" * limits.MAX_TAG,) * limits.MAX_TAGS,
    ADDRESS,
    up=True,
    device="d" * limits.MAX_DEVICE,
    index=BIG,
    ipv4=ADDRESS,
    ipv6=ADDRESS,
    dns=(ADDRESS,) * 8,
)
THROUGH = Through(0.5, ADDRESS, HOST, "connect", USER, BIG, BIG)
KEY = limits.MAX_SESSIONS - 1
COUNTED = Counted(KEY, ADDRESS, BIG, BIG, BIG, BIG)
LARGE: dict[str, Message] = {
    "keys": Begin(tuple(range(limits.MAX_SESSIONS))),
    "users": Serve(
        ADDRESS,
        Choose.ROUND_ROBIN,
        bytes(16),
        ((NAME, bytes(32)),) * limits.MAX_PROXY_USERS,
        ProxyLimits(),
        0.0,
        allow_private=True,
    ),
    "sessions": Sessions((SESSION,) * SHARE),
    "counts": Counts((COUNTED,) * SHARE),
    "connections": Counts(
        (
            Counted(
                *(KEY, ADDRESS, BIG, BIG, BIG, BIG),
                through=(THROUGH,) * MOST_SHOWN,
                talkers=((HOST, BIG, BIG, BIG),) * MOST_TALKERS,
            ),
        )
    ),
}


@pytest.mark.parametrize("what", LARGE)
async def test_the_largest_message_of_each_kind_comes_through(what: str) -> None:
    """As large as what an operator can set, and what a client can say, make it."""
    sent = LARGE[what]
    decoder = TO_PROCESS if isinstance(sent, Begin | Serve | Sessions) else TO_ENGINE
    assert len(ENCODER.encode(sent)) < LARGEST
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    heard: asyncio.Queue[Message] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    near = Channel(loop, ours, decoder, heard.put_nowait, lambda: None)
    far = Channel(loop, theirs, decoder, heard.put_nowait, lambda: None)
    for _ in range(5):  # more than the socket holds at once
        near.send(sent)
    for _ in range(5):
        assert await asyncio.wait_for(heard.get(), 20) == sent
    near.close()
    far.close()


async def test_a_side_that_is_gone_or_makes_no_sense_is_noticed_once() -> None:
    loop = asyncio.get_running_loop()
    for last in (b"", b"\xc1", ENCODER.encode(Ready()) + b"more"):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ended: asyncio.Queue[bool] = asyncio.Queue()
        heard: list[Message] = []
        near = Channel(loop, ours, TO_ENGINE, heard.append, lambda ended=ended: ended.put_nowait(True))
        theirs.send(ENCODER.encode(Tell(1, "proxy", "x")))
        if last:
            theirs.send(last)
        else:
            theirs.close()
        assert await asyncio.wait_for(ended.get(), 20)
        assert heard == [Tell(1, "proxy", "x")]
        near.send(Tell(1, "proxy", "nobody hears it"))
        near.close()
        assert ended.empty()
        theirs.close()


NONSENSE: dict[str, Message] = {
    "a number that no console can be told": Counts((Counted(1, "", 2**63, 0, 0, 0),)),
    "less than nothing": Counts((Counted(1, "", -1, 0, 0, 0),)),
    "a session that there can't be": Counts((Counted(limits.MAX_SESSIONS, "", 0, 0, 0, 0),)),
    "no time at all": Counts((Counted(1, "", 0, 0, 0, 0, (Through(float("nan"), "", "", "", "", 0, 0),)),)),
    "an event of no severity": Tell(9, "proxy", "x"),
    "an event of another's kind": Tell(1, "command", "x"),
    "an event without end": Tell(1, "proxy", "x" * 5000),
}


@pytest.mark.parametrize("what", NONSENSE)
async def test_what_no_process_of_ours_says_makes_no_sense(what: str) -> None:
    """Whoever has taken it over must not spoil what consoles, files and the journal are told."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    heard, ended = list[Message](), asyncio.Event()
    Channel(asyncio.get_running_loop(), ours, TO_ENGINE, heard.append, ended.set)
    with theirs:
        theirs.send(ENCODER.encode(NONSENSE[what]))
        await asyncio.wait_for(ended.wait(), 20)
    assert not heard


@pytest.mark.parametrize(
    "said",
    [
        {"type": "counts", "sessions": {"one": {}}},
        {"type": "counts", "sessions": {"1": {"in": 2**80}}},
        {"type": "connections", "id": 1, "connections": [{"protocol": "tcp", "local": "x", "remote": ""}]},
        {
            "type": "connections",
            "id": 1,
            "connections": [{"protocol": "", "local": ":1", "remote": "", "since": 1e300}],
        },
        {"type": "pong", "id": -1},
        {"type": "pong", "id": 1, "ms": -1},
        {"type": "arrival", "id": 1, "key": 10**9, "to": "", "from": ""},
    ],
)
def test_what_the_stack_program_never_says_makes_no_sense(said: object) -> None:
    with pytest.raises(msgspec.ValidationError):
        stack_protocol.TO_ENGINE.decode(msgspec.json.encode(said))


async def test_who_says_more_than_can_be_heard_leaves_others_their_turn() -> None:
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    heard, turns = list[Message](), list[int]()
    with theirs:
        for _ in range(3 * AT_ONCE):
            theirs.send(ENCODER.encode(Ready()))

        def hear(message: Message) -> None:
            heard.append(message)
            if len(heard) == 1:
                loop.call_soon(lambda: turns.append(len(heard)))

        near = Channel(loop, ours, TO_ENGINE, hear, lambda: None)
        while len(heard) < 3 * AT_ONCE:
            await asyncio.sleep(0)
        near.close()
    assert turns == [AT_ONCE]


async def test_descriptors_that_nobody_takes_are_closed_even_if_hearing_fails() -> None:
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    failures: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    loop.set_exception_handler(lambda _, context: failures.put_nowait(context))

    def hear(message: Message) -> None:
        raise ValueError(message)

    near = Channel(loop, ours, TO_ENGINE, hear, lambda: None)
    reading, writing = os.pipe()
    with theirs, open(reading, "rb", buffering=0) as pipe:
        socket.send_fds(theirs, [ENCODER.encode(Ready())], [writing])
        os.close(writing)
        await asyncio.wait_for(failures.get(), 20)
        os.set_blocking(pipe.fileno(), False)
        assert pipe.read() == b""  # nobody can write to it any more
    near.close()
