"""The relay's binding; what its thread does is tried in tests/c/test_relay.c."""

from __future__ import annotations

import ctypes
import errno
import os
import select
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from engine.proxy import relay as binding
from engine.proxy.relay import Ended, Relay, RelayError, Why

DEADLINE = 30.0


def pair() -> tuple[socket.socket, int]:
    """A TCP connection's end for the test, and a descriptor of the other one for the relay."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname(), timeout=DEADLINE)
        theirs, _ = server.accept()
    return ours, theirs.detach()


def ended(relay: Relay, how_many: int = 1) -> list[Ended]:
    found: list[Ended] = []
    while len(found) < how_many:
        assert select.select([relay], [], [], DEADLINE)[0]
        found += relay.ended()
    return found


def until(true: Callable[[], bool]) -> None:
    """Counted is what was passed on, just after it was."""
    end = time.monotonic() + DEADLINE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.001)


@pytest.fixture
def relay() -> Iterator[Relay]:
    with Relay(2) as relay:
        yield relay


def test_what_was_read_before_goes_first_and_all_is_counted(relay: Relay) -> None:
    client, client_fd = pair()
    server, server_fd = pair()
    with client, server:
        one = relay.add(client_fd, server_fd, 70_001, b"GET ", b"HTTP", idle=60.0, answer=b"all is well; ")
        client.sendall(b"/")
        client.shutdown(socket.SHUT_WR)
        assert server.makefile("rb").read() == b"GET /"
        assert client.recv(17, socket.MSG_WAITALL) == b"all is well; HTTP"
        until(lambda: relay.traffic(one) == (5, 4))
        until(lambda: relay.counters(70_001) == (5, 4, 1))
        server.sendall(b"/1.1")
        server.close()
        assert client.makefile("rb").read() == b"/1.1"
    assert ended(relay) == [Ended(one, 70_001, 5, 8, Why.DONE)]
    assert relay.counters(70_001) == (5, 8, 0)
    with pytest.raises(KeyError):
        relay.traffic(one)


def test_a_tag_is_cut_and_its_counters_stay_until_it_is_forgotten(relay: Relay) -> None:
    talks = [(pair(), pair(), tag) for tag in (1, 1, 2)]
    ids = [relay.add(client[1], server[1], tag, b"12") for client, server, tag in talks]
    relay.cut(1)
    relay.cut(3)
    relay.forget(1)
    assert {(one.id, one.why) for one in ended(relay, 2)} == {(ids[0], Why.CUT), (ids[1], Why.CUT)}
    for client, server, _ in talks[:2]:
        for side in (client[0], server[0]):
            with side, pytest.raises(ConnectionResetError):
                side.makefile("rb").read()
    assert relay.counters(1) == (0, 0, 0)
    _, (server, _), _ = talks[2]
    assert server.recv(2) == b"12"
    until(lambda: relay.counters(2) == (2, 0, 1))
    client, client_fd = pair()
    other, other_fd = pair()
    relay.add(client_fd, other_fd, 4)
    assert relay.counters(4) == (0, 0, 1)
    for side in (client, other, server, talks[2][0][0]):
        side.close()


def test_a_client_whose_server_cannot_be_connected_is_given_back(relay: Relay) -> None:
    client, client_fd = pair()
    with socket.socket() as nobody, client:
        nobody.bind(("127.0.0.1", 0))
        server = socket.socket()
        server.setblocking(False)
        assert server.connect_ex(nobody.getsockname()) == errno.EINPROGRESS
        one = relay.add(client_fd, server.detach(), 1, answer=b"granted", patience=60.0)
        (told,) = ended(relay)
        assert told == Ended(one, 1, 0, 0, Why.UNCONNECTED, client_fd, errno.ECONNREFUSED)
        assert relay.connecting == 0
        with socket.socket(fileno=told.client) as again:
            again.sendall(b"refused")
        assert client.makefile("rb").read() == b"refused"


def test_what_cannot_be_relayed_is_closed(relay: Relay) -> None:
    ours, theirs = pair()
    gone = os.dup(theirs)
    os.close(gone)
    with ours, pytest.raises(RelayError, match=os.strerror(errno.EBADF)):
        relay.add(theirs, gone, 1)
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        os.fstat(theirs)
    assert relay.counters(1) == (0, 0, 0)
    (one, one_fd), (two, two_fd) = pair(), pair()
    for tag in (1, 2):
        relay._slot(tag)
    with one, two, pytest.raises(RelayError, match="2 sessions"):
        relay.add(one_fd, two_fd, 3)


def test_a_helper_with_another_struct_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    binding._library.cache_clear()
    monkeypatch.setitem(binding._LAYOUT, "souppp_ended", {"": (0, 16), "id": (0, ctypes.sizeof(ctypes.c_uint64))})
    with pytest.raises(RelayError, match=r"is not the one that belongs .*souppp_ended: "):
        Relay()
    binding._library.cache_clear()
