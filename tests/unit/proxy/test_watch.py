"""Sockets that are watched: who is called, and who isn't."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from engine.proxy.watch import Watch


@pytest_asyncio.fixture
async def watch() -> AsyncIterator[Watch]:
    watch = Watch(asyncio.get_running_loop())
    yield watch
    watch.close()


async def test_it_calls_while_it_is_so_and_what_was_set_last(watch: Watch) -> None:
    called: list[str] = []
    ours, theirs = socket.socketpair()
    with ours, theirs:
        watch.writes(ours.fileno(), called.append, "room")
        while called.count("room") < 2:
            await asyncio.sleep(0.01)
        watch.reads(ours.fileno(), lambda: called.append(ours.recv(9).decode()))
        called.clear()
        await asyncio.sleep(0.01)
        assert called == []
        theirs.send(b"octets")
        while not called:
            await asyncio.sleep(0.01)
        assert called == ["octets"]
        theirs.send(b"more")
        watch.forget(ours.fileno())
        watch.forget(ours.fileno())
        await asyncio.sleep(0.01)
        assert called == ["octets"]


async def test_an_event_of_a_descriptor_is_not_the_next_ones_who_has_the_number(watch: Watch) -> None:
    pairs = [socket.socketpair() for _ in range(2)]
    called: list[str] = []

    def take_the_others_place(number: int) -> None:
        other, its_peer = pairs[1 - number]
        taken = other.fileno()
        watch.forget(taken)
        other.close()
        fresh, peer = socket.socketpair()
        assert fresh.fileno() == taken
        watch.reads(taken, called.append, "called for another one's octets")
        watch.forget(pairs[number][0].fileno())
        pairs.append((fresh, peer))
        its_peer.close()

    for number, (ours, theirs) in enumerate(pairs):
        watch.reads(ours.fileno(), take_the_others_place, number)
        theirs.send(b"x")
    await asyncio.sleep(0.02)
    assert called == []
    for pair in pairs:
        for each in pair:
            each.close()


async def test_what_goes_wrong_in_one_call_stops_no_other(watch: Watch) -> None:
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))
    pairs = [socket.socketpair() for _ in range(3)]
    called: list[int] = []

    def call(number: int) -> None:
        called.append(number)
        watch.forget(pairs[number][0].fileno())
        if number == 1:
            raise ValueError(number)

    for number, (ours, theirs) in enumerate(pairs):
        watch.reads(ours.fileno(), call, number)
        theirs.send(b"x")
    while len(called) < 3:
        await asyncio.sleep(0.01)
    assert sorted(called) == [0, 1, 2]
    assert [str(error) for error in told] == ["1"]
    for pair in pairs:
        for each in pair:
            each.close()


async def test_closed_it_watches_nothing(watch: Watch) -> None:
    watch.close()
    watch.close()
    with pytest.raises(ValueError, match="closed"):
        watch.reads(0, print)
