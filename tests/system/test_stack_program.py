"""The stack program by itself, as the engine and the proxies talk to it; a kernel is at each session's far end."""

from __future__ import annotations

import select
import socket
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass

import pytest

from tests.system.stack_program import Client, Stack, seqpacket_pair, server, stack

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


@pytest.mark.usefixtures("own_net")
def test_how_connections_end() -> None:
    """Resets of either side reach the other; a client that goes away, an address or a session too."""
    with stack() as program, server(FAR) as listening:
        program.session(7, "far0", OWN)
        client = program.client()

        def begin(of: Client = client, **more: object) -> tuple[int, socket.socket, socket.socket]:
            dial, near = of.connect(7, OWN, at(FAR), **more)
            return dial, near, accept(listening)[0]

        # The client goes away in the midst of a download.
        dial, near, remote = begin()
        with remote:
            thread = threading.Thread(target=send_until_reset, args=(remote,))
            thread.start()
            assert near.recv(1)
            near.close()
            assert client.receive("ended")[0] | {"in": 0} == ended(dial, "reset by the client")
            thread.join(30)
            assert not thread.is_alive()
        # The far end resets.
        dial, near, remote = begin()
        reset(remote)
        with near, pytest.raises(ConnectionResetError):
            near.recv(1)
        assert client.receive("ended")[0] == ended(dial, "reset by the far end")
        # Nothing was carried for too long.
        dial, near, remote = begin(idle=0.2)
        with near, remote, pytest.raises(ConnectionResetError):
            remote.recv(1)
        assert client.receive("ended")[0] == ended(dial, "idle")
        # Told to drop it; never taken, too.
        dial, near, remote = begin()
        client.send(type="drop", id=dial)
        with near, remote, pytest.raises(ConnectionResetError):
            remote.recv(1)
        dialled = client.dial(7, OWN, at(FAR))
        client.send(type="drop", id=dialled["id"])
        with accept(listening)[0] as remote, pytest.raises(ConnectionResetError):
            remote.recv(1)
        # The client's socket is closed.
        other = program.client()
        dial, near, remote = begin(other)
        other.socket.close()
        with near, remote, pytest.raises(ConnectionResetError):
            remote.recv(1)
        # Its address goes, then the session.
        dial, near, remote = begin()
        program.send(type="session", key=7, mtu=1492, addresses=["100.64.0.3"])
        with near, remote, pytest.raises(ConnectionResetError):
            near.recv(1)
        assert client.receive("ended")[0] == ended(dial, "its address is gone")
        assert client.dial(7, OWN, at(FAR))["error"] == "no address"
        program.send(type="session", key=7, mtu=1492, addresses=[OWN])
        dial, near, remote = begin()
        program.send(type="gone", key=7)
        with near, remote, pytest.raises(ConnectionResetError):
            near.recv(1)
        assert client.receive("ended")[0] == ended(dial, "the session is gone")
        assert client.dial(7, OWN, at(FAR))["error"] == "no such session"


def ended(dial: int, why: str) -> dict[str, object]:
    return {"type": "ended", "id": dial, "in": 0, "out": 0, "why": why}


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def send_until_reset(connection: socket.socket) -> None:
    with suppress(ConnectionResetError, BrokenPipeError):
        while True:
            connection.sendall(OCTETS)


class Line:
    """A session's socket, in the hand of the test: packets are read and written whole."""

    def __init__(self, program: Stack, key: int, *addresses: str) -> None:
        self.socket, theirs = seqpacket_pair()
        self.socket.settimeout(30)
        with theirs:
            program.send(theirs.fileno(), type="session", key=key, mtu=1492, addresses=addresses)

    def hear(self) -> Segment:
        return Segment.of(self.socket.recv(70_000)[VNET:])

    def say(self, segment: Segment) -> None:
        self.socket.send(VALID + segment.packet())

    def silent(self) -> bool:
        """Whether nothing has come."""
        return not select.select([self.socket], [], [], 0)[0]


VNET = 10
VALID = bytes([2]) + bytes(VNET - 1)
"""Nothing left to be done, checksums are right: so none need be made."""
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16


@dataclass(frozen=True)
class Segment:
    """A TCP segment in an IPv4 packet, without options."""

    source: str
    source_port: int
    destination: str
    destination_port: int
    sequence: int
    acknowledged: int
    flags: int
    data: bytes = b""

    @classmethod
    def of(cls, packet: bytes) -> Segment:
        assert packet[0] == 0x45
        assert packet[9] == socket.IPPROTO_TCP
        near, far = (socket.inet_ntoa(packet[n : n + 4]) for n in (12, 16))
        near_port, far_port, sequence, acknowledged, offset, flags = struct.unpack_from("!HHIIBB", packet, 20)
        return cls(near, near_port, far, far_port, sequence, acknowledged, flags, packet[20 + (offset >> 4) * 4 :])

    def packet(self) -> bytes:
        ports = self.source_port, self.destination_port
        tcp = struct.pack("!HHIIBBHHH", *ports, self.sequence, self.acknowledged, 5 << 4, self.flags, 65535, 0, 0)
        ends = socket.inet_aton(self.source), socket.inet_aton(self.destination)
        length = 20 + len(tcp) + len(self.data)
        return struct.pack("!BBHHHBBH4s4s", 0x45, 0, length, 0, 0, 64, 6, 0, *ends) + tcp + self.data

    def answer(self, sequence: int, flags: int, data: bytes = b"") -> Segment:
        """What the other end says to it."""
        said = len(self.data) + bool(self.flags & (SYN | FIN))
        ends = self.destination, self.destination_port, self.source, self.source_port
        return Segment(*ends, sequence, (self.sequence + said) & 0xFFFFFFFF, flags, data)


@pytest.mark.usefixtures("own_net")
def test_that_a_connection_has_its_session_or_none() -> None:
    """Two sessions have the same address, so all but the NIC is equal; the other one must neither see nor feed it."""
    with stack() as program:
        own, other = Line(program, 1, OWN), Line(program, 2, OWN)
        client = program.client()
        client.send(type="dial", id=1, key=1, network="tcp", source=OWN, to=at(FAR), timeout=30)
        syn = own.hear()
        assert (syn.flags & (SYN | ACK), syn.source, syn.destination) == (SYN, OWN, FAR)
        assert other.silent()
        # The answer from the wrong side is nobody's: it is refused there, and nothing is connected.
        other.say(syn.answer(1000, SYN | ACK))
        assert other.hear().flags & RST
        other.say(syn.answer(0, RST | ACK))
        own.say(syn.answer(5000, SYN | ACK))
        dialled = client.receive("dialled")[0]
        assert "error" not in dialled
        near = client.take(1)
        established = own.hear()
        assert established.acknowledged == 5001
        # Nor are octets, a FIN or a reset from there.
        for flags, data in ((PSH | ACK, b"evil"), (FIN | ACK, b""), (RST | ACK, b"")):
            other.say(established.answer(5001, flags, data))
        own.say(established.answer(5001, PSH | ACK, b"good"))
        assert near.recv(100) == b"good"
        # What is said goes there alone, also when the session is gone.
        near.sendall(b"said")
        while not (heard := own.hear()).data:
            pass
        assert heard.data == b"said"
        program.send(type="gone", key=1)
        with near, pytest.raises(ConnectionResetError):
            near.recv(1)
        program.ask("connections", type="list", id=1, key=2)
        while not other.silent():
            assert other.hear().flags & RST
        # A new session with the former's key has none of it.
        again = Line(program, 1, OWN)
        assert program.ask("connections", type="list", id=2, key=1)["connections"] == []
        assert again.silent()
        for line in (own, other, again):
            line.socket.close()
