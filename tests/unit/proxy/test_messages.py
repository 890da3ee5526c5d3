"""What the engine and the proxies tell each other: whole however large it is, and never more than a message may be."""

from __future__ import annotations

import asyncio
import socket

import pytest

from engine.proxy.channel import Channel
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
from engine.proxy.serving import MOST_SHOWN, MOST_TALKERS
from engine.settings import limits
from engine.settings.values import Choose, ProxyLimits

BIG = 2**63
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
COUNTED = Counted(BIG, ADDRESS, BIG, BIG, BIG, BIG)
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
                *(BIG, ADDRESS, BIG, BIG, BIG, BIG),
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
