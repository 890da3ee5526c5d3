"""The stack program by itself, as the engine and the proxies talk to it; a kernel is at each session's far end."""

from __future__ import annotations

import socket
import threading

import pytest

from tests.system.stack_program import Client, Stack, server, stack

OWN, FAR, OWN6, FAR6 = "100.64.0.2", "192.0.2.1", "2001:db8::2", "2001:db8::1"


def at(address: str, port: int = 8080) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def accept(listening: socket.socket) -> tuple[socket.socket, str]:
    connection, peer = listening.accept()
    connection.settimeout(30)
    return connection, peer[0]


def feed(into: socket.socket, octets: bytes) -> threading.Thread:
    def run() -> None:
        into.sendall(octets)
        into.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def drain(out: socket.socket) -> bytes:
    parts = []
    while part := out.recv(1 << 20):
        parts.append(part)
    return b"".join(parts)


OCTETS = bytes(range(251)) * 40_000
"""10 MB whose order can be told."""


def both_ways(program: Stack, client: Client, own: str, far: str) -> None:
    """A connection there and back: first octets, a download, then an upload after the half-close."""
    with server(far) as listening:
        dial, near = client.connect(7, own, at(far), first="aGVsbG8=")
        remote, peer = accept(listening)
        with near, remote:
            assert peer == own
            assert remote.recv(5, socket.MSG_WAITALL) == b"hello"
            for source, sink in ((remote, near), (near, remote)):
                thread = feed(source, OCTETS)
                assert drain(sink) == OCTETS
                thread.join()
        ended = client.receive("ended")[0]
        assert ended == {
            "type": "ended", "id": dial, "in": len(OCTETS), "out": len(OCTETS) + 5, "why": "closed",
        }  # fmt: skip


@pytest.mark.usefixtures("own_net")
def test_what_a_session_connects() -> None:
    with stack() as program:
        assert program.hello["protocol"] == 1
        program.session(7, "far0", OWN, OWN6)
        client = program.client()
        both_ways(program, client, OWN, FAR)
        both_ways(program, client, OWN6, FAR6)
        for far in (FAR, FAR6):
            pong = program.ask("pong", type="ping", id=3, key=7, to=far, size=56)
            assert pong["id"] == 3
            assert pong["ms"] > 0
        counts = program.receive("counts")[0]
        assert counts["sessions"]["7"]["opened"] >= 1
