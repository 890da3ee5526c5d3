"""What 10,000 sessions' addresses cost the host's other traffic, against none: both ways at once, alternately.

    make bench-bystanders

Hosts, alike but for the rules, tables and sets of so many sessions, each with a neighbour on a cable. Measured are
a bulk transfer and questions and answers, both by TCP, and the worst case: datagrams of an unconnected socket to where
nobody listens, each of which is routed anew. All by time of processor, which tells more on a machine that others use.
The last also on hosts with the least of what the two layers take: one rule, two empty chains, both.
"""

from __future__ import annotations

import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from ipaddress import IPv4Address
from pathlib import Path

from engine.egress.confinement import Confinement
from engine.egress.instances import Instance
from engine.egress.marks import Mark
from engine.host import netns
from engine.host.nft import Message, Nft, field, message, nest
from engine.host.rtnl import Rtnl

ROUNDS, SECONDS, DATAGRAM_SECONDS = 30, 0.3, 30
NEIGHBOUR, TARGET = "192.0.2.2", "198.51.100.7"


def _ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True)


class Host:
    """A host, its neighbour, and a connection between them."""

    def __init__(self, sessions: int = 0, *, marks: bool = False, rule: bool = False, chains: bool = False) -> None:
        self._near, far = netns.new_net(), netns.new_net()
        with netns.visiting(self._near):
            _ip("link set lo up")
            _ip(f"link add lan type veth peer name lan netns /proc/{os.getpid()}/fd/{far}")
            _ip("addr add 192.0.2.1/24 dev lan")
            _ip("link set lan up")
        with netns.visiting(far):
            _ip(f"addr add {NEIGHBOUR}/24 dev lan")
            _ip("link set lan up")
            listener = socket.create_server((NEIGHBOUR, 0))
        with netns.visiting(self._near):
            _ip("route add default dev lan")
            _ip(f"neigh add {TARGET} lladdr 02:00:00:00:00:01 dev lan")
            self._client = socket.create_connection(listener.getsockname())
            self._confine(sessions, marks)
            if rule:
                _ip("rule add pref 10000 from 100.64.0.2 lookup 5000")
            if chains:
                _add_empty_chains()
        self._server, _ = listener.accept()
        for each in (self._client, self._server):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _confine(self, sessions: int, marks: bool) -> None:
        if sessions:
            instance = Instance()
            rtnl = Rtnl()
            confinement = Confinement(rtnl, instance, time.monotonic())
            device = socket.if_nametoindex("lo")
            begun = time.process_time()
            for number in range(sessions):
                rtnl.do(confinement.open([IPv4Address("100.64.0.2") + number], instance.table(number), device))
                if marks:
                    confinement.claim(Mark(0x5000 + number), instance.table(number))
                    confinement.open_mark(Mark(0x5000 + number), device)
            took = (time.process_time() - begun) / sessions
            print(f"{sessions} addresses took {took * 1e6:.0f} us of processor each. {confinement.obstacle}")

    @property
    def namespace(self) -> str:
        """As a path, for others."""
        return f"/proc/{os.getpid()}/fd/{self._near}"

    def bulk(self) -> float:
        """Octets a second, both ends together."""
        data, begun, worked = bytes(1 << 18), time.perf_counter(), time.process_time()
        received = 0

        def receive() -> None:
            nonlocal received
            buffer = bytearray(1 << 18)
            while received < sent or not done:
                received += self._server.recv_into(buffer)

        sent, done = len(data), False
        reader = threading.Thread(target=receive)
        reader.start()
        self._client.sendall(data)
        while time.perf_counter() < begun + SECONDS:
            sent += len(data)
            self._client.sendall(data)
        sent, done = sent + 1, True
        self._client.sendall(b"x")
        reader.join()
        return sent / (time.process_time() - worked)

    def answers(self) -> float:
        """Questions and answers a second, both ends together."""
        begun, worked, asked = time.perf_counter(), time.process_time(), 0
        while time.perf_counter() < begun + SECONDS:
            self._client.send(b"x")
            self._server.send(self._server.recv(1))
            self._client.recv(1)
            asked += 1
        return asked / (time.process_time() - worked)


def _add_empty_chains() -> None:
    """Where ours are."""
    nft, table = Nft(), field(1, "empty")
    hooks = [nest(4, field(1, 4), field(2, priority & 0xFFFFFFFF)) for priority in (-300, 300)]
    chains = [
        message(Message.NEWCHAIN, table, field(3, name), hook, field(7, "filter"))
        for name, hook in zip("ab", hooks, strict=True)
    ]
    nft.commit([message(Message.NEWTABLE, table), *chains])
    nft.close()


def _send_datagrams(hosts: dict[str, Host]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "bystanders"
        subprocess.run(["cc", "-O2", "-o", program, Path(__file__).with_suffix(".c")], check=True)
        command = [str(program), TARGET, str(DATAGRAM_SECONDS), *(host.namespace for host in hosts.values())]
        found = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    for name, taken in zip(hosts, map(float, found), strict=True):
        print(f"datagrams, {name}: {taken:.0f} ns ({100 * (taken / float(found[0]) - 1):+.1f} %)")


def main() -> None:
    """Print the medians."""
    sessions = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    hosts = {f"{number} sessions": Host(number) for number in (0, 1, sessions)}
    for what in (Host.bulk, Host.answers):
        found: dict[str, list[float]] = {name: [] for name in hosts}
        for _ in range(ROUNDS):
            for name, host in random.sample([*hosts.items()], len(hosts)):
                found[name].append(what(host))
        none = statistics.median(found["0 sessions"])
        for name, rates in found.items():
            median = statistics.median(rates)
            print(f"{what.__name__}, {name}: {median:.5g} ({100 * (median / none - 1):+.1f} %)")
    bare = {
        "1 session with a mark": Host(1, marks=True),
        f"{sessions} sessions with marks": Host(sessions, marks=True),
        "one rule": Host(rule=True),
        "two empty chains": Host(chains=True),
        "one rule and two empty chains": Host(rule=True, chains=True),
    }
    _send_datagrams({**hosts, **bare})


if __name__ == "__main__":
    main()
