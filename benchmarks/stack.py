"""What a session without a device costs: the stack program, against a TUN device and the plain splice relay.

    make bench-stack                      # as root
    python -m benchmarks.stack --rounds 2 --rows bulk rate

A session's packets are carried to a far host by the same bridge in C, which stands for the data path's worker: in one
case from a TUN device with offload, through which the kernel connects and a relay splices; in the other from the
memory that it shares with the stack program. The same load, of clients at 127.0.0.1, goes through both by turns:
octets over one and 64 connections, both ways; 200 downloads of 10 MB at once, until all have ended; new connections,
each with an octet there and back; a thousand sessions with an upload each. Medians of interleaved rounds; memory is the
process's own share (PSS). Where others use the machine, speeds tell little: the processor's time that server, bridge
and relay or program had for a GB says more.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import select
import selectors
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from ipaddress import IPv4Address
from pathlib import Path
from shlex import quote

from benchmarks.proxies import AT_ONCE, ROOT, Bench, end, go_first, ip, resident, wait_for
from engine.egress.tun import open_tun
from engine.host import netns
from engine.proxy.stack_protocol import PROTOCOL
from engine.run.stack import BUDGET

LOAD, BRIDGE, PROGRAM = (ROOT / "build" / name for name in ("proxies", "bridge", "souppp-stack"))
SERVER, PORT, OWN = "203.0.113.80", "8000", IPv4Address("100.64.0.0")
MTU = 1492
MANY = 1000
TRANSFERS, TRANSFER = 200, 10_000_000
DUCT, DUCT_START = 16 << 20, 4096
CONNECT_TIMEOUT, SETTLE = 20.0, 30.0


class Front:
    """Listens, and has the stack program connect and copy: what the proxies' process does, without a word of SOCKS."""

    def __init__(self, port: str, client: socket.socket, sessions: int) -> None:
        self._listening = socket.create_server(("127.0.0.1", int(port)), backlog=4096)
        self._listening.setblocking(False)
        self._client, self._sessions = client, sessions
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        waiting: dict[int, socket.socket] = {}
        number = 0
        while True:
            for ready in select.select([self._listening, self._client], [], [])[0]:
                if ready is self._listening:
                    with suppress(BlockingIOError):
                        while True:
                            client, _ = self._listening.accept()
                            key = number % self._sessions
                            number += 1
                            waiting[number] = client
                            dial = {
                                "type": "dial",
                                "id": number,
                                "key": key,
                                "network": "tcp",
                                "timeout": CONNECT_TIMEOUT,
                            }
                            self._send(dial | {"source": str(OWN + key), "to": f"{SERVER}:{PORT}"})
                    continue
                octets = self._client.recv(1 << 16)
                if not octets:
                    return
                answer = json.loads(octets)
                if answer["type"] == "dialled":
                    with waiting.pop(answer["id"]) as client:
                        if "error" in answer:
                            print(f"dial: {answer['error']}", file=sys.stderr)
                        else:
                            self._send({"type": "take", "id": answer["id"]}, client.fileno())

    def _send(self, message: object, *descriptors: int) -> None:
        socket.send_fds(self._client, [json.dumps(message).encode()], descriptors)


class Cable:
    """A near host, which this thread is in, and a far one, for so many sessions of either kind."""

    def __init__(self, stack: ExitStack, kind: str, count: int, port: str) -> None:
        self.port, self.kind, self.count = port, kind, count
        self.idle = 0.0
        self._started: list[subprocess.Popen[bytes]] = []
        netns.unshare_net()
        self.near = netns.open_net()
        ip("link set lo up")
        with netns.visiting(netns.new_net()):
            far = open_tun("far")
            ip("link set lo up")
            ip(f"link set far up mtu {MTU} txqueuelen 5000")
            ip(f"address add {SERVER}/32 dev lo")
            ip("route add 100.64.0.0/16 dev far")
            set_sysctl(
                "tcp_congestion_control", "reno"
            )  # as the stack program has it, whatever this machine's default is
            self._start(stack, LOAD, "serve", SERVER, PORT)
        for setting in (
            ("tcp_congestion_control", "reno"),
            ("tcp_tw_reuse", "1"),
            ("ip_local_port_range", "2000 65000"),
        ):
            set_sysctl(*setting)
        self.process, near = getattr(self, f"_{kind}")(stack)
        ways = map(str, near) if kind == "tun" else ("duct", *map(str, near), str(DUCT), str(count))
        self._start(stack, BRIDGE, str(far), str(OWN), *ways, keep=[far, *near])
        for descriptor in [far, *near]:
            os.close(descriptor)
        wait_for(port)

    def _start(self, stack: ExitStack, *command: str | Path, keep: Sequence[int] = ()) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(command, pass_fds=keep, stdout=subprocess.DEVNULL)
        stack.callback(end, process)
        self._started.append(process)
        return process

    def carried(self, what: str) -> int:
        """Octets that the far device has had from sessions (up) or for them (down)."""
        lines = Path(f"/proc/{self._started[0].pid}/net/dev").read_text().splitlines()
        (figures,) = (line.split()[1:] for line in lines if line.split()[0] == "far:")
        return int(figures[0 if what == "up" else 8])

    def settle(self) -> None:
        """Until what buffers held has gone its way, so that it costs the next figure nothing."""
        until, before = time.monotonic() + SETTLE, -1
        while (now := self.carried("up") + self.carried("down")) != before and time.monotonic() < until:
            before = now
            time.sleep(0.2)

    def worked(self) -> float:
        """Seconds of a processor that server, bridge and relay or program have had."""
        ticks = 0
        for process in self._started:
            words = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(words[11]) + int(words[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def _tun(self, stack: ExitStack) -> tuple[subprocess.Popen[bytes], list[int]]:
        near = [open_tun(f"near{n}") for n in range(self.count)]
        lines = (
            f"link set near{n} up mtu {MTU}\naddress add {OWN + n}/32 dev near{n}\n"
            f"route add default dev near{n} metric {n + 1}\n"
            for n in range(self.count)
        )
        subprocess.run(["ip", "-batch", "-"], input="".join(lines), text=True, check=True)
        relay = self._start(stack, LOAD, "splice", self.port, str(OWN), SERVER, PORT, str(self.count))
        return relay, near

    def _stack(self, stack: ExitStack) -> tuple[subprocess.Popen[bytes], list[int]]:
        control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            moved = f"exec 3<&{theirs.fileno()}; exec {quote(str(PROGRAM))}"
            process = self._start(stack, "bash", "-c", moved, keep=[theirs.fileno()])
        stack.callback(control.close)
        control.recv(1 << 16)
        send(control, type="hello", protocol=PROTOCOL, budget=BUDGET)
        threading.Thread(target=drain, args=(control,), daemon=True).start()
        time.sleep(0.3)
        before = resident(process)
        memory = os.memfd_create("duct")
        os.ftruncate(memory, DUCT_START + 2 * DUCT)
        bell, other = socket.socketpair()
        with other:
            send(control, memory, other.fileno(), type="duct", id=0)
        for n in range(self.count):
            send(control, type="session", key=n, mtu=MTU, addresses=[str(OWN + n)])
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            send(control, theirs.fileno(), type="client")
        if self.count > 1:
            time.sleep(2)
            self.idle = (resident(process) - before) / self.count
        Front(self.port, ours, self.count)
        return process, [memory, bell.detach()]


def set_sysctl(name: str, value: str) -> None:
    """Of this thread's network namespace."""
    Path(f"/proc/sys/net/ipv4/{name}").write_text(value)


def send(control: socket.socket, *descriptors: int, **message: object) -> None:
    socket.send_fds(control, [json.dumps(message).encode()], descriptors)


def drain(control: socket.socket) -> None:
    with suppress(OSError):
        while control.recv(1 << 18):
            pass


def load(bench: Bench, cable: Cable, what: str, number: int) -> None:
    """One figure. Octets are counted at the far device: what a client has said may still be in somebody's buffer."""
    netns.set_net(cable.near)
    warm_up = 0.5 + number / 500
    seconds = bench.seconds + (0 if what == "rate" else warm_up + 1)
    ends = ("127.0.0.1", cable.port)
    words = [what, "relay", *ends, "127.0.0.1", *ends, str(number), str(seconds)]
    with subprocess.Popen([LOAD, "load", *words], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        if what == "rate":
            said = process.stdout.read()
            if process.wait() == 0:
                bench.figures[f"rate {number} {cable.kind}"].append(float(said))
            return
        time.sleep(warm_up)
        begun, carried, worked, memory = time.monotonic(), cable.carried(what), cable.worked(), 0
        while time.monotonic() < begun + bench.seconds and process.poll() is None:
            time.sleep(0.05)
            if number >= MANY:
                memory = max(memory, resident(cable.process))
        carried, worked, took = cable.carried(what) - carried, cable.worked() - worked, time.monotonic() - begun
        if process.poll() is not None:
            print(f"{what} {number} {cable.kind}: failed", file=sys.stderr)
        process.kill()
    bench.figures[f"{what} {number} {cable.kind}"].append(carried / took)
    bench.figures[f"seconds a GB {what} {number} {cable.kind}"].append(worked / carried * 1e9)
    if memory:
        bench.figures[f"memory {number} {cable.kind}"].append(memory / 1e6)
    cable.settle()


def transfer(bench: Bench, cable: Cable) -> None:
    """So many downloads of a size at once, each of which ends: the time until all have."""
    netns.set_net(cable.near)
    discarded, left = bytearray(1 << 18), dict[socket.socket, int]()
    begun = time.monotonic()
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        for _ in range(TRANSFERS):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", int(cable.port))))
            client.sendall(b"D")
            client.setblocking(False)
            selector.register(client, selectors.EVENT_READ, client)
            left[client] = TRANSFER
        while left:
            for key, _ in selector.select():
                client = key.data
                octets = client.recv_into(discarded, 0, socket.MSG_TRUNC)
                if not octets:
                    sys.exit("a transfer ended early")
                left[client] -= octets
                if left[client] <= 0:
                    del left[client]
                    selector.unregister(client)
                    client.close()
    bench.figures[f"seconds of {TRANSFERS} transfers {cable.kind}"].append(time.monotonic() - begun)
    cable.settle()


WANTED = {("down", 1): 0.85, ("up", 1): 0.8, ("down", AT_ONCE): 0.85, ("up", AT_ONCE): 0.8, ("up", MANY): 0.6}


def table(bench: Bench) -> None:
    print(f"{'':34}{'median':>12}{'min':>12}{'max':>12}")
    for name, values in bench.figures.items():
        print(f"{name:34}{statistics.median(values):12.5g}{min(values):12.5g}{max(values):12.5g}")
    print()
    for (what, number), wanted in WANTED.items():
        if bench.figures[f"{what} {number} stack"]:
            ratio = bench.median(f"{what} {number} stack") / bench.median(f"{what} {number} tun")
            print(f"{what} {number}: {ratio:.2f} of a TUN device and the splice relay ({wanted} wanted)")
            cost = bench.median(f"seconds a GB {what} {number} tun") / bench.median(
                f"seconds a GB {what} {number} stack"
            )
            print(f"{what} {number}: {cost:.2f} by the processor's time that all but the load had for an octet")
    if bench.figures[f"rate {AT_ONCE} stack"]:
        print(f"new connections: {bench.median(f'rate {AT_ONCE} stack'):.0f} a second (1000 wanted)")
    if bench.figures["idle stack"]:
        print(f"an idle session: {bench.median('idle stack'):.1f} KB (30 wanted at most)")
        print(f"{MANY} uploads: {bench.median(f'memory {MANY} stack'):.0f} MB (200 wanted at most)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each figure of a round")
    parser.add_argument("--rows", nargs="*", default=["bulk", "many", "transfers", "rate", "sessions"])
    options = parser.parse_args()
    if os.geteuid():
        sys.exit("needs root: namespaces")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    go_first()
    LOAD.parent.mkdir(exist_ok=True)
    flags = ["-O2", "-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror"]
    for source, program in (("proxies.c", LOAD), ("stack.c", BRIDGE)):
        subprocess.run(["cc", *flags, "-o", program, str(ROOT / "benchmarks" / source)], check=True)
    bench = Bench(options.seconds)
    rows = {"bulk": (("down", "up"), 1), "many": (("down", "up"), AT_ONCE), "rate": (("rate",), AT_ONCE)}
    with ExitStack() as stack:
        cables = [Cable(stack, kind, 1, port) for kind, port in (("tun", "1081"), ("stack", "1082"))]
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
            for row in options.rows:
                for cable in random.sample(cables, len(cables)) if row == "transfers" else ():
                    transfer(bench, cable)
                whats, connections = rows.get(row, ((), 0))
                for what in whats:
                    for cable in random.sample(cables, len(cables)):
                        load(bench, cable, what, connections)
    if "sessions" in options.rows:
        with ExitStack() as stack:
            cables = [Cable(stack, kind, MANY, port) for kind, port in (("tun", "1083"), ("stack", "1084"))]
            bench.figures["idle stack"].append(cables[1].idle / 1000)
            for _ in range(options.rounds):
                for cable in random.sample(cables, len(cables)):
                    load(bench, cable, "up", MANY)
    table(bench)


if __name__ == "__main__":
    main()
