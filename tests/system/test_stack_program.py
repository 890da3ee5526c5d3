"""The stack program by itself, as the engine and the proxies talk to it; a kernel is at each session's far end."""

from __future__ import annotations

import json
import os
import resource
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from engine.host import netns
from engine.host.files import STACK
from engine.proxy.messages import LARGEST
from engine.proxy.stack_protocol import PROTOCOL
from engine.run.stack import BUDGET
from tests.conftest import run
from tests.system.stack_program import PATIENCE, Client, Stack, server, stack

SMALLEST_BUFFER = 4096
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
        ended = client.receive("ended", id=dial)[0]
        assert ended == {
            "type": "ended", "id": dial, "in": len(OCTETS), "out": len(OCTETS) + 5, "why": "closed",
        }  # fmt: skip


@pytest.mark.usefixtures("own_net")
def test_what_a_session_connects() -> None:
    with stack() as program:
        assert program.hello["protocol"] == PROTOCOL
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
            assert client.receive("ended", id=dial)[0] | {"in": 0} == ended(dial, "reset by the client")
            thread.join(30)
            assert not thread.is_alive()
        # The far end resets.
        dial, near, remote = begin()
        reset(remote)
        with near, pytest.raises(ConnectionResetError):
            near.recv(1)
        assert client.receive("ended", id=dial)[0] == ended(dial, "reset by the far end")
        # Nothing was carried for too long.
        dial, near, remote = begin(idle=0.2)
        with near, remote, pytest.raises(ConnectionResetError):
            remote.recv(1)
        assert client.receive("ended", id=dial)[0] == ended(dial, "idle")
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
        assert client.receive("ended", id=dial)[0] == ended(dial, "its address is gone")
        assert client.dial(7, OWN, at(FAR))["error"] == "no address"
        program.send(type="session", key=7, mtu=1492, addresses=[OWN])
        program.settle()
        dial, near, remote = begin()
        program.send(type="gone", key=7)
        with near, remote, pytest.raises(ConnectionResetError):
            near.recv(1)
        assert client.receive("ended", id=dial)[0] == ended(dial, "the session is gone")
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
    """A session's line, in the hand of the test: packets are read and written whole."""

    def __init__(self, program: Stack, key: int, *addresses: str) -> None:
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(30)
        theirs.setblocking(False)
        program.plug(key, theirs.detach(), *addresses)

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
        heard = b""
        while len(heard) < len(b"said"):
            heard += own.hear().data
        assert heard == b"said"
        program.send(type="gone", key=1)
        with near, pytest.raises(ConnectionResetError):
            near.recv(1)
        program.settle()
        while not other.silent():
            assert other.hear().flags & RST
        # A new session with the former's key has none of it.
        again = Line(program, 1, OWN)
        assert program.ask("connections", type="list", id=2, key=1)["connections"] == []
        assert again.silent()
        for line in (own, other, again):
            line.socket.close()


@pytest.mark.usefixtures("own_net")
def test_datagrams_and_what_comes_in() -> None:
    """UDP with a peer and without, IPv4 and IPv6; connections that the engine takes or refuses; refusals."""
    with stack() as program:
        program.session(7, "far0", OWN, OWN6)
        client = program.client()
        for own, far, family in ((OWN, FAR, socket.AF_INET), (OWN6, FAR6, socket.AF_INET6)):
            with server(far, 5353, socket.SOCK_DGRAM) as remote:
                client.send(type="dial", id=1000, key=7, network="udp", source=own, to=at(far, 5353))
                dialled, (descriptor,) = client.receive("dialled", id=1000)
                with socket.socket(fileno=descriptor) as near:
                    near.settimeout(30)
                    near.send(b"question")
                    asked, peer = remote.recvfrom(100)
                    assert (asked, at(*peer[:2])) == (b"question", dialled["local"])
                    remote.sendto(OCTETS[:1400], peer)
                    assert near.recv(2000) == OCTETS[:1400]
                assert client.receive("ended", id=1000)[0] == ended(1000, "closed") | {"in": 1400, "out": 8}
                # Without a peer each message bears one.
                client.send(type="dial", id=1001, key=7, network="udp", source=own, to="")
                _, (descriptor,) = client.receive("dialled", id=1001)
                with socket.socket(fileno=descriptor) as near:
                    near.settimeout(30)
                    head = bytes([4 if family == socket.AF_INET else 6]) + socket.inet_pton(family, far) + b"\x14\xe9"
                    near.send(head + b"to you")
                    asked, peer = remote.recvfrom(100)
                    assert asked == b"to you"
                    remote.sendto(b"to me", peer)
                    assert near.recv(100) == head + b"to me"
                assert client.receive("ended", id=1001)[0]["why"] == "closed"
        # What comes in at a forwarded port is asked about, at any other refused.
        program.send(type="forwards", key=7, forwards=[{"protocol": "tcp", "port": 443, "to": "127.0.0.1:8443"}])
        program.settle()
        for own in (OWN, OWN6):
            with socket.create_connection((own, 443), 30) as remote:
                arrival = program.receive("arrival")[0]
                assert (arrival["key"], arrival["to"]) == (7, "127.0.0.1:8443")
                near = program.take(arrival["id"])
                with near:
                    remote.sendall(b"from outside")
                    assert near.recv(12, socket.MSG_WAITALL) == b"from outside"
                    near.sendall(b"from inside")
                    assert remote.recv(11, socket.MSG_WAITALL) == b"from inside"
            with socket.create_connection((own, 443), 30) as remote:
                program.send(type="refuse", id=program.receive("arrival")[0]["id"])
                with pytest.raises(ConnectionResetError):
                    remote.recv(1)
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((own, 444), 30)
        program.send(type="forwards", key=7, forwards=[])
        program.settle()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((OWN, 443), 30)
        # Why there is no connection.
        with server(FAR):
            for key, source, to, why in (
                (7, OWN, at(FAR, 1), "refused"),
                (8, OWN, at(FAR), "no such session"),
                (7, "100.64.0.9", at(FAR), "no address"),
                (7, OWN, at(FAR6), "unreachable"),
            ):
                assert client.dial(key, source, to)["error"] == why
            run("ip", "route", "add", "blackhole", "192.0.2.99")
            assert client.dial(7, OWN, at("192.0.2.99"), timeout=0.1)["error"] == "timed out"


@pytest.mark.usefixtures("own_net")
def test_that_memory_stays_within_the_budget() -> None:
    """Readers that read nothing; who comes when nothing is left is told so."""
    budget = 1 << 20
    with stack(budget) as program, server(FAR) as listening, ExitStack() as ends:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALLEST_BUFFER)
        program.session(7, "far0", OWN)
        client = program.client()
        for _ in range(budget // (2 * SMALLEST_BUFFER)):
            near = ends.enter_context(client.connect(7, OWN, at(FAR))[1])
            ends.enter_context(accept(listening)[0])
            near.setblocking(False)
            near.send(OCTETS[: 1 << 19])
        assert client.dial(7, OWN, at(FAR))["error"] == "too many"
        while (counted := program.receive("counts")[0])["sessions"]["7"]["connections"] < budget // (
            2 * SMALLEST_BUFFER
        ):
            pass
        # What netstack has taken it holds, or the far end's small buffers do; a client has said thirty times as much.
        assert 0 < counted["sessions"]["7"]["out"] < 4 * budget
        assert counted["memory"] < 16 * budget


@pytest.mark.usefixtures("own_net")
def test_that_who_comes_in_leaves_room_for_who_dials() -> None:
    """Anybody on the Internet can come to a forwarded port, as often as he likes."""
    budget = 1 << 20
    with stack(budget) as program, server(FAR), ExitStack() as ends:
        program.session(7, "far0", OWN)
        program.send(type="forwards", key=7, forwards=[{"protocol": "tcp", "port": 443, "to": "127.0.0.1:8443"}])
        program.settle()
        for _ in range(budget // (4 * SMALLEST_BUFFER)):
            ends.enter_context(socket.create_connection((OWN, 443), 30))
            program.receive("arrival")
        with pytest.raises(ConnectionResetError), socket.create_connection((OWN, 443), 10) as one_more:
            one_more.recv(1)
        client = program.client()
        _, near = client.connect(7, OWN, at(FAR))
        near.close()


@pytest.mark.usefixtures("own_net")
def test_that_counts_of_many_sessions_fit_their_messages() -> None:
    """The engine reads no longer ones, and would end the program as one that makes no sense."""
    many = 3000
    with stack() as program:
        for key in range(many):
            program.send(type="session", key=key, mtu=1492, addresses=[OWN])
        program.settle()
        client = program.client()
        for key in range(many):
            client.send(type="dial", id=key, key=key, network="tcp", source="100.64.0.9", to=at(FAR))
        counted: set[str] = set()
        while len(counted) < many:
            octets = program.socket.recv(1 << 20)
            assert len(octets) < LARGEST
            counted |= {*json.loads(octets)["sessions"]}


NARROW = 1300


def too_big() -> int:
    """How many packets this namespace's kernel has cut, as IPv4's may be where gVisor is older, or refused."""
    lines = (Path("/proc/net/snmp6").read_text() + Path("/proc/net/snmp").read_text()).splitlines()
    refused = next(line.split()[1] for line in lines if line.startswith("Icmp6OutPktTooBigs"))
    names, values = (line.split() for line in lines if line.startswith("Ip: "))
    return int(refused) + sum(int(values[names.index(name)]) for name in ("FragCreates", "FragFails"))


@pytest.mark.usefixtures("own_net")
@pytest.mark.parametrize(
    ("own", "router", "there", "length"),
    [(OWN, "198.51.100.1", "198.51.100.2", 24), (OWN6, "2001:db8:5::1", "2001:db8:5::2", 64)],
    ids=["IPv4", "IPv6"],
)
def test_that_a_narrower_path_is_heeded(own: str, router: str, there: str, length: int) -> None:
    """A router on the way takes less than both ends do: IPv6's says so by ICMP, and an upload goes on with less."""
    with stack() as program, ExitStack() as ends:
        program.session(7, "far0", own)
        for setting in ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"):
            Path(f"/proc/sys/{setting}").write_text("1")
        beyond = netns.new_net()
        ends.callback(os.close, beyond)
        nodad = ["nodad"] if ":" in own else []
        run(
            "ip",
            "link",
            "add",
            "router",
            "type",
            "veth",
            "peer",
            "name",
            "there",
            "netns",
            f"/proc/{os.getpid()}/fd/{beyond}",
        )
        run("ip", "address", "add", f"{router}/{length}", "dev", "router", *nodad)
        run("ip", "link", "set", "router", "up", "mtu", str(NARROW))
        with netns.visiting(beyond):
            run("ip", "address", "add", f"{there}/{length}", "dev", "there", *nodad)
            run("ip", "link", "set", "there", "up")
            run("ip", "route", "add", own, "via", router)
            family = socket.AF_INET6 if ":" in there else socket.AF_INET
            listening = ends.enter_context(socket.create_server((there, 8080), family=family))
            listening.settimeout(30)
        before = too_big()
        _, near = program.client().connect(7, own, at(there))
        remote, _ = accept(listening)
        with near, remote:
            thread = feed(near, OCTETS)
            assert drain(remote) == OCTETS
            thread.join()
        assert too_big() > before, "or else nothing was tried here"


@pytest.mark.usefixtures("own_net")
def test_that_who_reads_slowly_holds_little_and_nobody_up() -> None:
    """The window closes, with a scale: what isn't read stays at the far end, and others' octets pass meanwhile."""
    with stack() as program, server(FAR) as listening:
        program.session(7, "far0", OWN, OWN6)
        client = program.client()
        _, slow = client.connect(7, OWN, at(FAR))
        remote, _ = accept(listening)
        with slow, remote:
            remote.setblocking(False)
            taken = 0
            deadline = time.monotonic() + 2
            while taken <= 1 << 16 or time.monotonic() < deadline:
                try:
                    taken += remote.send(OCTETS[:100_000])
                except BlockingIOError:
                    select.select([], [remote], [], 0.2)
            assert taken < 40 << 20
            both_ways(program, client, OWN6, FAR6)
            remote.setblocking(True)
            remote.shutdown(socket.SHUT_WR)
            assert len(drain(slow)) == taken, "and in the end it has all of it"


@pytest.mark.usefixtures("own_net")
def test_that_many_at_once_have_each_their_own() -> None:
    """Downloads of which each is another piece of the same octets, half of them ended by who reads."""
    many, size = 200, 1 << 20
    with stack() as program, server(FAR) as listening, ExitStack() as ends:
        program.session(7, "far0", OWN)
        client = program.client()
        threads, nears = [], []
        for number in range(many):
            _, near = client.connect(7, OWN, at(FAR))
            nears.append(ends.enter_context(near))
            remote = ends.enter_context(accept(listening)[0])
            threads.append(feed(remote, OCTETS[number : number + size]))
        for near in nears[::2]:
            near.shutdown(socket.SHUT_WR)
        for number, near in enumerate(nears):
            assert drain(near) == OCTETS[number : number + size], number
        for thread in threads:
            thread.join()


HELD = 10_000
ECHO = """
import select, socket, sys
listening, poll, ends = socket.socket(fileno=int(sys.argv[1])), select.epoll(), {}
listening.setblocking(False)
poll.register(listening)
while True:
    for ready, _ in poll.poll():
        if ready == listening.fileno():
            end, _ = listening.accept()
            ends[end.fileno()] = end
            poll.register(end, select.EPOLLIN)
        elif said := ends[ready].recv(4096):
            ends[ready].sendall(said)
        else:
            poll.unregister(ready)
            ends.pop(ready).close()
"""


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """As many as may be had; enough for those that are held and some more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < HELD + 1000:
        pytest.skip(f"needs {HELD + 1000} descriptors, and no more than {hard} may be had")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("own_net", "many_descriptors")
def test_that_ten_thousand_are_held() -> None:
    """Each of them has its own octets back when all are there, and together they stay within the budget."""
    with stack(BUDGET) as program, server(FAR) as listening, ExitStack() as ends:
        echo = subprocess.Popen(
            [sys.executable, "-c", ECHO, str(listening.fileno())],
            pass_fds=[listening.fileno()],
            stderr=subprocess.DEVNULL,
        )
        ends.callback(echo.wait)
        ends.callback(echo.kill)
        program.session(7, "far0", OWN)
        client, nears = program.client(), {}
        for begin in range(0, HELD, 100):
            numbers = range(begin, begin + 100)
            for number in numbers:
                client.send(type="dial", id=number, key=7, network="tcp", source=OWN, to=at(FAR), timeout=PATIENCE)
            for number in numbers:
                assert "error" not in client.receive("dialled", id=number)[0]
                nears[number], theirs = socket.socketpair()  # so many ports of its own take the kernel long
                ends.enter_context(nears[number]).settimeout(PATIENCE)
                with theirs:
                    client.send(theirs.fileno(), type="take", id=number)
        for number, near in nears.items():
            near.sendall(number.to_bytes(4))
        for number, near in nears.items():
            assert int.from_bytes(near.recv(4, socket.MSG_WAITALL)) == number
        while (counted := program.receive("counts")[0])["sessions"]["7"]["in"] < 4 * HELD:
            pass
        assert counted["sessions"]["7"]["connections"] == HELD
        assert counted["memory"] < 2 * BUDGET, "with what the collector leaves lying"


def test_that_an_engine_which_has_ended_already_is_no_error() -> None:
    """So it is when the card can't be taken: a second line would stand above the one that says why."""
    engine, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    engine.close()
    with ours:
        command = ["sh", "-c", 'exec "$0" 3<&0', STACK]
        done = subprocess.run(command, stdin=ours, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
