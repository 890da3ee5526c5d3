"""What a proxy over a session costs, against a direct socket, microsocks, dante and a plain C splice relay.

    make bench-proxy                      # as root; microsocks and dante (dante-server) where they are installed
    python -m benchmarks.proxies --rounds 2 --rows bulk rate

Two hosts with a cable between them, the session's device at the near end. All go from 127.0.0.1 through it to the same
server: octets over one and 64 connections, both ways; new connections, each with an octet there and back; a thousand
that are silent. Medians of interleaved rounds. Names are looked up through the session, from a server in C. At last
10,000 connections are held through four sessions of the lab, with an Echo-Request a second each.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, suppress
from ipaddress import IPv4Address
from pathlib import Path
from tempfile import TemporaryDirectory

from engine.host import netns
from engine.proxy.channel import Channel
from engine.proxy.exits import Exit
from engine.proxy.messages import TO_ENGINE, Begin, Ready, Serve, Session, Sessions
from engine.proxy.names import Failure, Names, Result
from engine.proxy.questions import Kind
from engine.settings.values import Choose, ProxyLimits
from tests.program import descendants, running
from tests.system.test_served import ctl

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = ROOT / "build" / "proxies"
OWN, SERVER, NAMES = "198.51.100.7", "203.0.113.80", "192.0.2.53"
LAB = "100.64.0.1"
PORT = "8000"
PORTS = {"souppp": "1080", "splice": "1081", "microsocks": "1082", "dante": "1083"}
IDLE, LIMIT = 1000, 100_000
HELD = min(10_000, (resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 300) // 2)
"""Two descriptors each, of as many as a process may have."""
HELD_SECONDS, SESSIONS = 15, 4
ATTEMPTS = 10_000
"""A second."""
PATIENCE = 30.0
AT_ONCE = 64
DEVICE = "soup0"
DANTE = f"""
internal: 127.0.0.1 port = {PORTS["dante"]}
external: {OWN}
clientmethod: none
socksmethod: none
user.privileged: root
user.unprivileged: nobody
client pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}
socks pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}
"""


def ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True)


def go_first() -> None:
    """Others use the machine too; the kernel shares it among groups, and a new session is a group."""
    with suppress(OSError):
        os.setsid()
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text("-15")


class Cable:
    """The near host, which this thread is in, and the far one."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self.far = netns.new_net()
        netns.unshare_net()
        ip("link set lo up")
        ip(f"link add {DEVICE} type veth peer name line netns /proc/{os.getpid()}/fd/{self.far}")
        ip(f"address add {OWN}/32 dev {DEVICE}")
        ip(f"link set {DEVICE} up")
        ip(f"route add default dev {DEVICE} table 1001")
        ip(f"rule add from {OWN} lookup 1001")
        for name, value in (("tcp_tw_reuse", "1"), ("ip_local_port_range", "2000 65000")):
            Path(f"/proc/sys/net/ipv4/{name}").write_text(value)
        with netns.visiting(self.far):
            ip("link set lo up")
            ip("link set line up")
            ip(f"route add {OWN} dev line")
            for address in (SERVER, NAMES):
                ip(f"address add {address}/32 dev lo")

    def start(self, *command: str | Path, far: bool = False) -> subprocess.Popen[bytes]:
        """A program that ends with the benchmark."""
        if far:
            with netns.visiting(self.far):
                return self._start(command)
        return self._start(command)

    def _start(self, command: tuple[str | Path, ...]) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._stack.callback(end, process)
        return process


def end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_for(port: str, within: Sequence[str] = ()) -> None:
    """Until somebody listens there."""
    until = time.monotonic() + PATIENCE
    while f":{port} " not in subprocess.run([*within, "ss", "-Hltn"], capture_output=True, text=True).stdout:
        if time.monotonic() > until:
            sys.exit(f"nobody listens on port {port}")
        time.sleep(0.05)


def session(index: int) -> Session:
    return Session(1, "home-01", (), "", up=True, device=DEVICE, index=index, ipv4=OWN, dns=(NAMES,))


def our_proxies(stack: ExitStack) -> subprocess.Popen[bytes]:
    """The process of the proxies, told of one session as the engine tells it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "engine.proxy", str(theirs.fileno()), str(os.getpid())],
            pass_fds=[theirs.fileno()],
            stdout=subprocess.DEVNULL,
        )
    stack.callback(end, process)
    loop = stack.enter_context(closing(asyncio.new_event_loop()))

    def hear(message: object) -> None:
        if isinstance(message, Ready):
            limits = ProxyLimits(LIMIT, LIMIT, LIMIT)
            channel.send(Begin((1,)))
            channel.send(Serve(f"127.0.0.1:{PORTS['souppp']}", Choose.LEAST, b"salt", (), limits, 600.0, False))
            channel.send(Sessions((session(socket.if_nametoindex(DEVICE)),)))
            loop.call_later(0.2, loop.stop)

    channel = Channel(loop, ours, TO_ENGINE, hear, loop.stop)
    stack.callback(channel.close)
    loop.run_forever()
    return process


class Bench:
    """What was measured."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.figures: defaultdict[str, list[float]] = defaultdict(list)

    def load(self, what: str, who: str, number: int) -> None:
        how = {"direct": "direct", "splice": "relay"}.get(who, "socks")
        words = [what, how, "127.0.0.1", PORTS.get(who, "1"), OWN, SERVER, PORT, str(number), str(self.seconds)]
        done = subprocess.run([PROGRAM, "load", *words], stdout=subprocess.PIPE, text=True, check=False, timeout=120)
        if done.returncode == 0:
            self.figures[f"{what} {number} {who}"].append(float(done.stdout))
        else:
            print(f"{what} {number} {who}: failed", file=sys.stderr)

    def loads(self, whats: tuple[str, ...], names: list[str], number: int) -> None:
        """Each of them with all, who take turns in another order every time."""
        for what in whats:
            for who in random.sample(names, len(names)):
                self.load(what, who, number)

    def median(self, name: str) -> float:
        return statistics.median(self.figures[name]) if self.figures[name] else float("nan")


def resident(process: subprocess.Popen[bytes]) -> int:
    """Octets of memory that are the process's own share (PSS), its children's with it."""
    children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True).stdout
    total = 0
    for pid in (str(process.pid), *children.split()):
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        total += int(next(line for line in text.splitlines() if line.startswith("Pss:")).split()[1]) * 1024
    return total


def hold(bench: Bench, who: str, process: subprocess.Popen[bytes], number: int) -> None:
    """What so many silent connections take, and whether all still answer."""
    before = resident(process)
    how = "relay" if who == "splice" else "socks"
    words = ["hold", how, "127.0.0.1", PORTS[who], OWN, SERVER, PORT, str(number), "0"]
    with subprocess.Popen([PROGRAM, "load", *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as load:
        assert load.stdin is not None
        assert load.stdout is not None
        if load.stdout.readline() != "held\n":
            print(f"hold {number} {who}: failed", file=sys.stderr)
            return
        time.sleep(0.5)
        bench.figures[f"hold {number} {who}"].append((resident(process) - before) / 1e6)
        load.stdin.close()
        held, alive = map(int, load.stdout.read().split())
        if alive != held:
            print(f"hold {number} {who}: {alive} of {held} still answer", file=sys.stderr)


def hold_all(bench: Bench, there: dict[str, subprocess.Popen[bytes]]) -> None:
    for who, process in there.items():
        hold(bench, who, process, IDLE)


async def look_up(bench: Bench, index: int) -> None:
    """Names a second, each one new."""
    names = Names(asyncio.get_running_loop())
    exit_ = Exit(1, "home-01", DEVICE, index, IPv4Address(OWN), None, (IPv4Address(NAMES),))
    until, found, lost, at_once = time.monotonic() + bench.seconds, 0, 0, asyncio.Semaphore(AT_ONCE)

    async def one() -> None:
        nonlocal found, lost
        told: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        names.lookup(exit_, f"n{random.getrandbits(60)}.example", Kind.A, told.set_result)
        result = await told
        at_once.release()
        if isinstance(result, Failure):
            lost += 1
        else:
            found += 1

    tasks = set()
    while time.monotonic() < until:
        await at_once.acquire()
        task = asyncio.create_task(one())
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    if lost:
        print(f"names: {lost} without an answer", file=sys.stderr)
    bench.figures["names souppp"].append(found / bench.seconds)


CONFIG = f"""
proxy: {{pool: {{listen: "127.0.0.1:{PORTS["souppp"]}", choose: round-robin}}, allow_private: true}}
defaults: {{user: anyone, password: lab, autodial: true, keepalive: {{interval: 1, failures: 4}}}}
sessions: [{{name: "home-{{n}}", count: {SESSIONS}}}]
"""


class Lab:
    """The program with the lab's sessions, all up, and a server on their far side."""

    def __init__(self, stack: ExitStack) -> None:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        self._socket = folder / "socket"
        (folder / "config.yaml").write_text(CONFIG)
        files = ("--config", folder / "config.yaml", "--socket", self._socket)
        program = stack.enter_context(running("--lab", *files, "--headless", "--until-up", "--hold"))
        program.up(SESSIONS)
        found = {words[3]: pid for pid in descendants(program.pid) if len(words := command_of(pid)) > 3}
        provider, self.proxies = found[b"engine.lab"], found[b"engine.proxy"]
        stack.callback(end, subprocess.Popen([*within(provider), PROGRAM, "serve", LAB, PORT]))
        wait_for(PORT, within(provider))
        wait_for(PORTS["souppp"], within(program.pid))
        self._stack = stack
        self._load = [*within(program.pid), PROGRAM, "load"]

    def load(self, what: str, number: int, seconds: int = 0) -> subprocess.Popen[str]:
        """Clients of the pool."""
        words = [what, "socks", "127.0.0.1", PORTS["souppp"], OWN, LAB, PORT, str(number), str(seconds)]
        process = subprocess.Popen([*self._load, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._stack.callback(end, process)
        return process

    def hold(self, number: int) -> subprocess.Popen[str]:
        """So many connections through the sessions."""
        holding = self.load("hold", number)
        assert holding.stdout is not None
        if holding.stdout.readline() != "held\n":
            sys.exit(f"{number} connections: failed")
        return holding

    def missed(self, goes_on: Callable[[], bool]) -> tuple[int, int]:
        """How often a session was seen with an echo missed meanwhile, and the most octets the proxies had."""
        missed = most = 0
        while goes_on():
            missed += sum(each["silent_since"] is not None for each in json.loads(ctl(self._socket, "--json", "list")))
            most = max(most, memory(self.proxies))
        return missed, most


def still_answer(holding: subprocess.Popen[str]) -> str:
    assert holding.stdin is not None
    assert holding.stdout is not None
    holding.stdin.close()
    number, alive = map(int, holding.stdout.read().split())
    return f"{alive} of {number} connections still answer"


def memory(pid: int) -> int:
    """Octets of its own."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) << 10


def held() -> None:
    """10,000 connections through the lab's sessions: whether all still answer, and whether an echo was missed."""
    with ExitStack() as stack:
        lab = Lab(stack)
        holding, until = lab.hold(HELD), time.monotonic() + HELD_SECONDS
        missed, _ = lab.missed(lambda: time.monotonic() < until)
        print(f"held for {HELD_SECONDS} s: {still_answer(holding)}, {missed} times an echo was missed")


def attempts() -> None:
    """10,000 attempts a second, all refused: what becomes of sessions, memory and connections that are there."""
    with ExitStack() as stack:
        lab = Lab(stack)
        holding, before = lab.hold(AT_ONCE), memory(lab.proxies)
        flood = lab.load("attempts", ATTEMPTS, HELD_SECONDS)
        missed, most = lab.missed(lambda: flood.poll() is None)
        assert flood.stdout is not None
        rate, refused, otherwise, given_up = map(int, flood.stdout.read().split())
        grown = (most - before) / 1e6
        print(
            f"{rate} attempts a second for {HELD_SECONDS} s: {refused} refused, {given_up} given up, {otherwise} ended "
            f"otherwise; the proxies grew by {grown:.1f} MB, {missed} times an echo was missed, {still_answer(holding)}"
        )


def within(pid: int) -> tuple[str, ...]:
    """What runs a program in a process's network namespace."""
    return "nsenter", "-t", str(pid), "-n"


def command_of(pid: int) -> list[bytes]:
    return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")


def table(bench: Bench) -> None:
    """The medians, and what is promised of them."""
    print(f"{'':34}{'median':>12}{'min':>12}{'max':>12}")
    for name, values in bench.figures.items():
        print(f"{name:34}{statistics.median(values):12.5g}{min(values):12.5g}{max(values):12.5g}")
    print()
    for what in ("down 1", "up 1", f"down {AT_ONCE}", f"up {AT_ONCE}"):
        ratio = bench.median(f"{what} souppp") / bench.median(f"{what} splice")
        print(f"{what}: {ratio:.2f} of the plain splice relay (0.95 wanted)")
    ratio = bench.median(f"rate {AT_ONCE} souppp") / bench.median(f"rate {AT_ONCE} microsocks")
    print(f"new connections: {ratio:.2f} of microsocks (0.9 wanted)")
    print(f"{IDLE} idle connections: {bench.median(f'hold {IDLE} souppp'):.1f} MB (5 wanted at most)")
    print(f"names: {bench.median('names souppp'):.0f} a second (2000 wanted)")


def contenders(cable: Cable, stack: ExitStack, folder: Path) -> dict[str, subprocess.Popen[bytes]]:
    """Those that can be had, by name."""
    found = {
        "souppp": our_proxies(stack),
        "splice": cable.start(PROGRAM, "splice", PORTS["splice"], OWN, SERVER, PORT),
    }
    if shutil.which("microsocks"):
        found["microsocks"] = cable.start("microsocks", "-i", "127.0.0.1", "-p", PORTS["microsocks"], "-b", OWN)
    if shutil.which("danted"):
        (folder / "danted.conf").write_text(DANTE)
        found["dante"] = cable.start("danted", "-f", str(folder / "danted.conf"), "-p", str(folder / "danted.pid"))
    for name in found:
        wait_for(PORTS[name])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each figure of a round")
    parser.add_argument("--rows", nargs="*", default=["bulk", "many", "rate", "hold", "names", "held", "attempts"])
    options = parser.parse_args()
    if os.geteuid():
        sys.exit("needs root: namespaces")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    go_first()
    PROGRAM.parent.mkdir(exist_ok=True)
    source = str(ROOT / "benchmarks" / "proxies.c")
    flags = ["-O2", "-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(["cc", *flags, "-o", PROGRAM, source], check=True)
    bench = Bench(options.seconds)
    with ExitStack() as stack:
        cable = Cable(stack)
        cable.start(PROGRAM, "serve", SERVER, PORT, far=True)
        cable.start(PROGRAM, "names", NAMES, "53", far=True)
        there = contenders(cable, stack, Path(stack.enter_context(TemporaryDirectory())))
        names = ["direct", *there]
        work: dict[str, Callable[[], None]] = {
            "bulk": lambda: bench.loads(("down", "up"), names, 1),
            "many": lambda: bench.loads(("down", "up"), names, AT_ONCE),
            "rate": lambda: bench.loads(("rate",), names, AT_ONCE),
            "hold": lambda: hold_all(bench, there),
            "names": lambda: asyncio.run(look_up(bench, socket.if_nametoindex(DEVICE))),
        }
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
            for row in options.rows:
                if row in work:
                    work[row]()
    table(bench)
    for name, measure in {"held": held, "attempts": attempts}.items():
        if name in options.rows:
            measure()


if __name__ == "__main__":
    main()
