"""The stack program with a far host: each session is bridged to a TUN device; the kernel behind it answers."""

from __future__ import annotations

import itertools
import json
import os
import select
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from shlex import quote
from typing import Any

import pytest

from engine.egress.tun import open_tun
from engine.proxy.stack_protocol import PROTOCOL
from tests.conftest import ROOT, run
from tests.system.duct import START, Duct

PROGRAM = ROOT / "build" / "souppp-stack"
PATIENCE = 30.0
BUDGET = 64 << 20
LARGEST = 70_000
RING = 4 << 20


def needs_program() -> None:
    if not PROGRAM.exists():
        pytest.skip("needs build/souppp-stack: golang-go and golang-gvisor-gvisor-dev aren't installed (make stack)")


class Messages:
    """One end of a socket that speaks JSON objects."""

    def __init__(self, end: socket.socket) -> None:
        self.socket = end
        end.settimeout(PATIENCE)
        self._passed_over: list[dict[str, Any]] = []

    def send(self, *descriptors: int, **message: object) -> None:
        socket.send_fds(self.socket, [json.dumps(message).encode()], descriptors)

    def receive(self, wanted: str, **values: object) -> tuple[dict[str, Any], list[int]]:
        """The next message of a type with these values, and what came with it; others are kept for later."""
        for message in self._passed_over:
            if message["type"] == wanted and message.items() >= values.items():
                self._passed_over.remove(message)
                return message, []
        while True:
            octets, descriptors, _, _ = socket.recv_fds(self.socket, 1 << 18, 16)
            assert octets, "the program has closed the socket"
            message = json.loads(octets)
            if message["type"] == wanted and message.items() >= values.items():
                return message, descriptors
            assert not descriptors
            self._passed_over.append(message)

    def ask(self, answer: str, *descriptors: int, **message: object) -> dict[str, Any]:
        self.send(*descriptors, **message)
        return self.receive(answer)[0]

    def take(self, number: int, **more: object) -> socket.socket:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            ours = socket.create_connection(listening.getsockname(), PATIENCE)
            theirs, _ = listening.accept()
        with theirs:
            self.send(theirs.fileno(), type="take", id=number, **more)
        return ours


class Bridges:
    """The data path's end of what it shares with the program, and the devices behind it."""

    def __init__(self) -> None:
        self.memory = os.memfd_create("duct")
        os.ftruncate(self.memory, START + 2 * RING)
        self._duct = Duct(self.memory)
        self.bell, self.other = socket.socketpair()
        self.bell.setblocking(False)
        self._by_key: dict[int, Bridge] = {}
        self._all: list[Bridge] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def add(self, key: int, bridge: Bridge) -> None:
        self._all.append(bridge)
        self._by_key = self._by_key | {key: bridge}

    def _run(self) -> None:
        while not self._stopped.is_set():
            by_key = self._by_key
            by_device = {bridge.tun: key for key, bridge in by_key.items()}
            self._duct.sleep()
            for key, packet in self._duct.take():
                if key in by_key:
                    by_key[key].passed += 1
                    with suppress(OSError):  # as a device that is down
                        os.write(by_key[key].tun, packet)
            for ready in select.select([self.bell, *by_device], [], [], 0.05)[0]:
                with suppress(OSError):  # it is full, or closed
                    if ready is self.bell:
                        self.bell.recv(64)
                    elif packet := os.read(ready, LARGEST):
                        self._duct.put(by_device[ready], packet)
                        self.bell.send(b"x")

    def close(self) -> None:
        self._stopped.set()
        self._thread.join()
        for bridge in self._all:
            os.close(bridge.tun)
        os.close(self.memory)
        self.bell.close()
        self.other.close()
        self._duct.close()


class Bridge:
    """A session and a TUN device: what comes from one goes to the other. `passed`: the program's packets."""

    def __init__(self, tun: int) -> None:
        self.tun = tun
        self.passed = 0


class Stack(Messages):
    """The program, seen from the engine."""

    def __init__(self, budget: int) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            moved = f"exec 3<&{theirs.fileno()}; exec {quote(str(PROGRAM))}"
            self.process = subprocess.Popen(["bash", "-c", moved], pass_fds=[theirs.fileno()], stderr=subprocess.PIPE)
        super().__init__(ours)
        self.hello = self.receive("hello")[0]
        self.send(type="hello", protocol=PROTOCOL, budget=budget)
        self._bridges = Bridges()
        self.send(self._bridges.memory, self._bridges.other.fileno(), type="duct", id=0)
        self._clients: list[Client] = []

    def session(self, key: int, device: str, *addresses: str, mtu: int = 1492) -> Bridge:
        """A session whose packets go to a device of that name, with a route to each of its addresses."""
        tun = open_tun(device)
        run("ip", "link", "set", device, "up", "mtu", str(mtu))
        for address in addresses:
            run("ip", "route", "add", address, "dev", device)
        return self.plug(key, tun, *addresses, mtu=mtu)

    def plug(self, key: int, descriptor: int, *addresses: str, mtu: int = 1492) -> Bridge:
        """A session whose packets go to what speaks as a TUN device does; it is closed in the end."""
        bridge = Bridge(descriptor)
        self._bridges.add(key, bridge)
        self.send(type="session", key=key, mtu=mtu, addresses=addresses, link_local="fe80::1")
        return bridge

    def settle(self) -> None:
        """Until it has done all that it was told: clients come by other sockets."""
        self.ask("connections", type="list", id=0, key=0)

    def client(self) -> Client:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.send(theirs.fileno(), type="client")
        self._clients.append(Client(ours))
        return self._clients[-1]

    def close(self) -> None:
        for client in self._clients:
            client.socket.close()
        self.socket.close()
        try:
            code = self.process.wait(PATIENCE)
        finally:
            self.process.kill()
            self._bridges.close()
        assert self.process.stderr is not None
        with self.process.stderr as pipe:
            said = pipe.read().decode()
        assert (code, said) == (0, ""), f"the program ended with {code} and said: {said}"


class Client(Messages):
    """The proxies' process, seen from the program."""

    _ids = itertools.count(1)

    def dial(self, key: int, source: str, to: str, network: str = "tcp", timeout: float = PATIENCE) -> dict[str, Any]:
        return self.ask(
            "dialled", type="dial", id=next(self._ids), key=key, network=network, source=source, to=to, timeout=timeout
        )

    def connect(self, key: int, source: str, to: str, **more: object) -> tuple[int, socket.socket]:
        """The dial's number and our end of what is connected."""
        dialled = self.dial(key, source, to)
        assert "error" not in dialled, dialled
        return dialled["id"], self.take(dialled["id"], **more)


@contextmanager
def stack(budget: int = BUDGET) -> Iterator[Stack]:
    """The program in the calling thread's namespace, which only the bridges' devices are of. It must end well."""
    needs_program()
    run("ip", "link", "set", "lo", "up")
    program = Stack(budget)
    try:
        yield program
    finally:
        program.close()


@contextmanager
def server(address: str, port: int = 8080, kind: socket.SocketKind = socket.SOCK_STREAM) -> Iterator[socket.socket]:
    """A socket of the far host; the address becomes its own."""
    run("ip", "address", "replace", address, "dev", "lo", *(["nodad"] if ":" in address else []))
    until = time.monotonic() + PATIENCE
    while f"local {address} " not in run("ip", "-6" if ":" in address else "-4", "route", "show", "table", "local"):
        assert time.monotonic() < until, f"the kernel never came to know {address}"  # IPv6 takes its time
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.settimeout(PATIENCE)
        listening.bind((address, port))
        if kind is socket.SOCK_STREAM:
            listening.listen(1024)
        yield listening
