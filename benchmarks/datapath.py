"""How close the data path comes to what this machine can do.

    make bench-datapath           all rows, 5 rounds of 3 seconds: some 15 minutes
    benchmarks/datapath.py --quick
    benchmarks/datapath.py --rows paths         AF_XDP against the in-kernel path, by number of sessions
    benchmarks/datapath.py --order 10000000     looks for reordering instead: some 10 minutes

Both ends are namespaces joined by a veth pair. The far end is the same for all variants: XDP programs that strip and
push PPPoE (`peer.bpf.c`), with the kernel's TCP behind them, so it is neutral. Rounds are interleaved: each measures
every variant once. The last line is JSON with the ratios.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import re
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from engine.card.facts import read_card  # noqa: E402
from engine.card.xdp import HEADERS, Loading, XdpProgram  # noqa: E402
from engine.datapath import Datapath  # noqa: E402
from engine.datapath.own import Own  # noqa: E402
from engine.egress.tun import open_tun  # noqa: E402
from engine.egress.veth import HiddenNet, KernelPath  # noqa: E402
from engine.wire.place import Place  # noqa: E402

LOAD = ROOT / "build" / "load"
QUEUES = 2
MTU = 1492
SERVER = "10.255.0.1"
PORT = "5001"
NUMBERED_PORT = "5002"
PATH_SESSIONS = (1, 2, 4, 16, 200)
PACE = 150_000_000
"""Octets a second of paced TCP, so that the line loses nothing."""
NEEDS = {"cc": "gcc", "ip": "iproute2", "ethtool": "ethtool", "ping": "iputils-ping"}


def run(*command: str, **more: Any) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, **more).stdout


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """This thread in a network namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/thread-self/ns/net") as before, open(f"/run/netns/{namespace}") as there:
        if libc.setns(there.fileno(), 0):
            raise OSError(ctypes.get_errno(), "setns")
        try:
            yield
        finally:
            libc.setns(before.fileno(), 0)


def in_namespace(namespace: str) -> tuple[str, ...]:
    """The beginning of a command line that is carried out there, and no longer than we live."""
    return ("setpriv", "--pdeathsig", "KILL", "ip", "netns", "exec", namespace)


def session_address(number: int) -> str:
    """Its low 16 bits are the session id, which the peer goes by."""
    return f"10.0.{(number + 1) >> 8}.{(number + 1) & 255}"


def napi_threads(device: str) -> list[int]:
    """The kernel threads that poll a device's queues."""
    found = []
    for comm in Path("/proc").glob("[0-9]*/comm"):
        with suppress(OSError):
            if comm.read_text().startswith(f"napi/{device}-"):
                found.append(int(comm.parent.name))
    return found


NETNS = Path("/run/netns")
_NAME = re.compile(r"bench-\w+-(near|far)-(?P<pid>\d+)")


def remove_leftovers() -> None:
    """Remove the namespaces of runs that were killed and could not do it themselves."""
    for namespace in NETNS.glob("bench-*"):
        found = _NAME.fullmatch(namespace.name)
        if found and not runs(int(found["pid"])):
            remove(namespace.name)


def remove(namespace: str) -> None:
    """Remove a namespace, if it is there."""
    subprocess.run(["ip", "netns", "del", namespace], check=False, capture_output=True)


def runs(pid: int) -> bool:
    """Whether a process is this program."""
    with suppress(OSError):
        return Path(__file__).name.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def leave(number: int, _: object) -> None:
    """Undo everything on a signal, and don't be disturbed at it."""
    signal.signal(number, signal.SIG_IGN)
    sys.exit(128 + number)


class Rig:
    """Two namespaces and the wire between them, `va` here and `vb` there; the peer's stack sends by way of `pc`."""

    waits = True
    """What veth has no room for waits in `pc`, as before a card, and isn't lost; but some may then pass others."""

    def __init__(self, stack: ExitStack, name: str, *, pppoe: bool = True) -> None:
        """All of it is there until the stack is closed."""
        self.stack = stack
        self.near, self.far = f"bench-{name}-near-{os.getpid()}", f"bench-{name}-far-{os.getpid()}"
        for each in (self.near, self.far):
            self.stack.callback(remove, each)
            run("ip", "netns", "add", each)
            for setting in (
                "ipv6.conf.default.disable_ipv6=1",
                "ipv4.conf.all.rp_filter=0",
                "ipv4.conf.default.rp_filter=0",
            ):
                run("ip", "netns", "exec", each, "sysctl", "-qw", f"net.{setting}")
            self.ip(each, "link", "set", "lo", "up")
        self.pair(self.near, "va", self.far, "vb")
        if pppoe:
            self.pair(self.far, "pc", self.far, "pd")
            self.ip(self.far, "link", "set", "pc", "arp", "off", "mtu", str(MTU), "txqueuelen", "10000")
            if self.waits:
                run("tc", "-n", self.far, "qdisc", "replace", "dev", "pc", "root", "mq")
            self.no_offload(self.far, "pc")
            self.ip(self.far, "addr", "add", f"{SERVER}/32", "dev", "pc")
            self.ip(self.far, "route", "add", "10.0.0.0/16", "dev", "pc", "src", SERVER)
            self.program(self.far, "vb", "strip", to=self.mac(self.far, "vb"), source=self.mac(self.near, "va"))
            self.keep_flows_on_queues()
            self.program(
                self.far,
                "pd",
                "push",
                to=self.mac(self.near, "va"),
                source=self.mac(self.far, "vb"),
                device="vb",
            )
        self.threaded(self.far, "vb")
        self.server = self.start(self.far, "serve", PORT)

    def ip(self, namespace: str, *words: str) -> None:
        run("ip", "-n", namespace, *words)

    def pair(self, one: str, name: str, other: str, peer: str) -> None:
        queues = ("numrxqueues", str(QUEUES), "numtxqueues", str(QUEUES))
        self.ip(one, "link", "add", name, *queues, "type", "veth", "peer", peer, *queues, "netns", other)
        for namespace, each in ((one, name), (other, peer)):
            self.ip(namespace, "link", "set", each, "mtu", "1528", "up")
            run("ip", "netns", "exec", namespace, "ethtool", "-K", each, "gro", "on")

    def keep_flows_on_queues(self) -> None:
        """A redirected frame arrives on the queue of the CPU that redirects it, so each of pd's queues gets one CPU.

        A card would do that by a hash of the flow; without it this line itself would reorder.
        """
        before = set(napi_threads("pd"))
        self.threaded(self.far, "pd")
        for number, pid in enumerate(sorted(set(napi_threads("pd")) - before)):
            os.sched_setaffinity(pid, {number % (os.cpu_count() or 1)})

    def start_devices(self, sessions: int) -> None:
        """Sets the sessions' devices up, with their addresses."""
        lines = []
        for number in range(sessions):
            lines.append(f"link set soup{number} mtu {MTU} up")
            lines.append(f"addr add {session_address(number)} peer {SERVER} dev soup{number}")
        run("ip", "-n", self.near, "-batch", "-", input="\n".join(lines))

    def threaded(self, namespace: str, *devices: str) -> None:
        """Polls the devices in threads of their own, which see batches, rather than right after each frame sent."""
        for device in devices:
            run("ip", "netns", "exec", namespace, "sh", "-c", f"echo 1 >/sys/class/net/{device}/threaded")

    def no_offload(self, namespace: str, device: str) -> None:
        """What leaves here is as on a wire: segments with finished checksums."""
        run("ip", "netns", "exec", namespace, "ethtool", "-K", device, "tx", "off", "tso", "off")

    def mac(self, namespace: str, device: str) -> bytes:
        with inside(namespace):
            return bytes.fromhex(
                run("ip", "netns", "exec", namespace, "cat", f"/sys/class/net/{device}/address")
                .strip()
                .replace(":", "")
            )

    def program(self, namespace: str, on: str, function: str, *, to: bytes, source: bytes, device: str = "") -> None:
        from bcc import BPF

        os.environ["BCC_KERNEL_SOURCE"] = str(HEADERS)
        bpf = BPF(src_file=str(ROOT / "benchmarks" / "peer.bpf.c"))
        bpf["addresses"][ctypes.c_int(0)] = (ctypes.c_ubyte * 12)(*(to + source))
        with inside(namespace):
            if device:
                bpf["devices"][ctypes.c_int(0)] = ctypes.c_int(socket.if_nametoindex(device))
            bpf.attach_xdp(on, bpf.load_func(function, BPF.XDP), 1 << 2)  # XDP_FLAGS_DRV_MODE
        self.stack.callback(lambda: bpf)  # what is attached stays until the namespace goes

    def start(self, namespace: str, *words: str, **more: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*in_namespace(namespace), str(LOAD), *words], stdout=subprocess.PIPE, text=True, **more
        )
        self.stack.callback(process.wait)
        self.stack.callback(process.kill)
        assert process.stdout
        if words[0] in ("serve", "late"):
            process.stdout.readline()
        return process

    def load(self, namespace: str, *words: str, timeout: float = 60, **more: Any) -> tuple[int, float, float]:
        """Count, seconds and CPU seconds."""
        number, seconds, cpu = run(*in_namespace(namespace), str(LOAD), *words, timeout=timeout, **more).split()
        return int(number), float(seconds), float(cpu)

    def tcp(self, direction: str, seconds: float, connections: int = 1, sessions: int = 1) -> float:
        """Gbit/s."""
        numbers = (str(seconds), str(connections), str(sessions))
        octets, took, _ = self.load(self.near, "tcp", direction, SERVER, PORT, *numbers)
        return octets * 8 / took / 1e9

    def counted(self) -> dict[str, int]:
        """TCP's own counters of both ends."""
        sums: dict[str, int] = defaultdict(int)
        for namespace in (self.near, self.far):
            for path in ("netstat", "snmp"):
                lines = run("ip", "netns", "exec", namespace, "cat", f"/proc/net/{path}").splitlines()
                for names, values in zip(lines[::2], lines[1::2], strict=True):
                    for name, value in zip(names.split()[1:], values.split()[1:], strict=True):
                        sums[name] += int(value)
        return sums

    def ping(self, count: int) -> float:
        """Mean round trip in ms."""
        text = run(
            "ip", "netns", "exec", self.near, "ping", "-I", "soup0", "-q", "-i", "0.005", "-c", str(count), SERVER
        )
        return float(text.rsplit("=", 1)[1].split("/")[1])


class UserSpace(Rig):
    """Sessions of this program: AF_XDP and TUN devices."""

    def __init__(self, stack: ExitStack, name: str, *, offload: bool, sessions: int = 1) -> None:
        super().__init__(stack, name)
        own, peer = self.mac(self.near, "va"), self.mac(self.far, "vb")
        with inside(self.near):
            program = XdpProgram.attach("va", QUEUES)
            self.stack.callback(program.close)
            self.datapath = Datapath("va", QUEUES, program.xsk_map_fd)
            self.stack.callback(self.datapath.close)
            for number in range(sessions):
                fd = open_tun(f"soup{number}", offload=offload)
                self.stack.callback(os.close, fd)
                self.datapath.add_session(number, Place(own, peer, number + 1), fd, MTU, own_of(number))
        self.start_devices(sessions)

    def cpu(self) -> float:
        return sum(queue.cpu for queue in self.datapath.queue_counters())

    def counter(self, name: str) -> int:
        return sum(getattr(queue, name) for queue in self.datapath.queue_counters())

    def drops(self) -> dict[str, int]:
        sums: dict[str, int] = defaultdict(int)
        for queue in self.datapath.queue_counters():
            for reason, number in queue.drops.items():
                if number:
                    sums[reason] += number
        return dict(sums)


class InKernel(Rig):
    """Sessions of this program: its in-kernel data path."""

    def __init__(self, stack: ExitStack, name: str, *, sessions: int = 1) -> None:
        super().__init__(stack, name)
        own, peer = self.mac(self.near, "va"), self.mac(self.far, "vb")
        with inside(self.near):
            program = XdpProgram.attach("va", QUEUES, loading=Loading(kernel_path=True))
            self.stack.callback(program.close)
            hidden = HiddenNet()
            self.stack.callback(hidden.close)
            path = KernelPath(read_card("va"), program, hidden)
            self.stack.callback(path.close)
            for number in range(sessions):
                self.stack.callback(os.close, path.open_device(number, f"soup{number}"))
                path.add_session(number, Place(own, peer, number + 1), MTU, own_of(number))
        self.start_devices(sessions)


class Plain(Rig):
    """The same wire without PPPoE."""

    def __init__(self, stack: ExitStack, name: str) -> None:
        super().__init__(stack, name, pppoe=False)
        self.ip(self.near, "link", "set", "va", "name", "soup0", "mtu", str(MTU))
        self.ip(self.far, "link", "set", "vb", "mtu", str(MTU))
        self.no_offload(self.near, "soup0")
        self.no_offload(self.far, "vb")
        self.ip(self.near, "addr", "add", session_address(0), "peer", SERVER, "dev", "soup0")
        self.ip(self.far, "addr", "add", SERVER, "peer", session_address(0), "dev", "vb")


def own_of(number: int) -> Own:
    """A session's own addresses."""
    return Own(ipv4=IPv4Address(session_address(number)))


def small_packet() -> bytes:
    """64 octets of IPv4 and UDP from the server to the first session's port 9, checksums right."""
    source, destination = socket.inet_aton(SERVER), socket.inet_aton(session_address(0))
    udp = struct.pack("!HHHH", 5000, 5000, 44, 0) + bytes(36)
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 64, 0, 0x4000, 64, 17, 0, source, destination)
    udp = udp[:6] + checksum(source + destination + struct.pack("!HH", 17, 44) + udp) + udp[8:]
    return head[:10] + checksum(head) + head[12:] + udp


def checksum(octets: bytes) -> bytes:
    total = sum(struct.unpack(f"!{len(octets) // 2}H", octets))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~total & 0xFFFF)


def machine_busy() -> float:
    """CPU seconds of the whole machine that were not idle."""
    user, nice, system, _, _, irq, softirq, *_ = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


@dataclass
class Bench:
    seconds: float
    rounds: int
    figures: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def note(self, name: str, value: float) -> None:
        self.figures[name].append(value)

    def median(self, name: str) -> float:
        return statistics.median(self.figures[name])


def tcp_rows(bench: Bench, rigs: dict[str, Rig]) -> None:
    for name, rig in rigs.items():
        for direction in ("up", "down"):
            before, busy = rig.cpu() if isinstance(rig, UserSpace) else 0.0, machine_busy()
            rate = rig.tcp(direction, bench.seconds)
            bench.note(f"tcp {direction} {name} Gbit/s", rate)
            gigabytes = rate * (bench.seconds + 0.5) / 8
            bench.note(f"cpu machine {direction} {name} s/GB", (machine_busy() - busy) / gigabytes)
            if isinstance(rig, UserSpace):
                bench.note(f"cpu worker {direction} {name} s/GB", (rig.cpu() - before) / gigabytes)


def ping_rows(bench: Bench, rigs: dict[str, Rig]) -> None:
    for name, rig in rigs.items():
        bench.note(f"ping {name} ms", rig.ping(int(bench.seconds * 100)))


def small_rows(bench: Bench, rig: UserSpace, bare: Rig) -> None:
    """64-octet packets; the receiving socket is there and never read.

    Sender, line and receiver share the machine's cores, so rates are those of one core's second: packets per CPU second
    of the worker, against packets per CPU second of a process that does nothing but write, or send.
    """
    packet, seconds = small_packet(), str(bench.seconds)
    own, peer = rig.mac(rig.near, "va"), rig.mac(rig.far, "vb")
    header = struct.pack("!HBBHHH", 0x8864, 0x11, 0, 1, len(packet) + 2, 0x21)
    with inside(rig.near), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink:
        sink.bind((session_address(0), 5000))
        for flows in (1, 64):
            before, cpu = rig.counter("rx_data"), rig.cpu()
            rig.load(rig.far, "frames", "vb", seconds, (own + peer + header + packet).hex(), str(flows))
            rate = (rig.counter("rx_data") - before) / (rig.cpu() - cpu)
            bench.note(f"64-octet down, {flows} flows packets/CPU s", rate)
    for segments in (1, 64):
        before, cpu = rig.counter("tx_data"), rig.cpu()
        rig.load(rig.near, "udp", SERVER, "5000", seconds, "36", str(segments))
        rate = (rig.counter("tx_data") - before) / (rig.cpu() - cpu)
        bench.note(f"64-octet up, {segments} a call packets/CPU s", rate)
    with inside(bare.near), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink:
        fd = open_tun("bare", offload=False)
        try:
            run("ip", "-n", bare.near, "link", "set", "bare", "up")
            run("ip", "-n", bare.near, "addr", "add", session_address(0), "dev", "bare")
            sink.bind((session_address(0), 5000))
            os.set_inheritable(fd, True)
            written, _, cpu = bare.load(bare.near, "tun", str(fd), seconds, packet.hex(), pass_fds=[fd])
        finally:
            os.close(fd)
    bench.note("64-octet bare TUN writes packets/CPU s", written / cpu)
    outgoing = bare.mac(bare.far, "vb") + bare.mac(bare.near, "va") + header + packet
    sent, _, cpu = bare.load(bare.near, "xsk", "va", seconds, outgoing.hex())
    bench.note("64-octet bare AF_XDP TX packets/CPU s", sent / cpu)


def many_rows(bench: Bench, many: UserSpace, sessions: int) -> None:
    """Many flows cost TCP itself something, so there is a row with as many in one session."""
    for direction in ("up", "down"):
        for flows, used in ((1, 1), (sessions, 1), (sessions, sessions)):
            rate = many.tcp(direction, bench.seconds, flows, used)
            bench.note(f"tcp {direction} {flows} flows, {used} sessions Gbit/s", rate)


def path_rows(bench: Bench, rigs: dict[int, tuple[Rig, Rig]]) -> None:
    """What `datapath: auto` goes by: both data paths with several numbers of sessions, one flow each."""
    for sessions, pair in rigs.items():
        for path, rig in zip(("AF_XDP", "in-kernel"), pair, strict=True):
            for direction in ("up", "down"):
                rate = rig.tcp(direction, bench.seconds, sessions, sessions)
                bench.note(f"{sessions} sessions {direction}, {path} Gbit/s", rate)


def order_rows(name: str, rig: Rig, segments: int) -> None:
    """Counts what arrives after something sent later: numbered datagrams, and TCP slow enough that nothing is lost.

    Prints a line each; TCP's out-of-order queue tells of reordering only where nothing was sent again.
    """
    for way, near, far, target in (
        ("up", rig.near, rig.far, SERVER),
        ("down", rig.far, rig.near, session_address(0)),
    ):
        for flows, size in ((1, 1), (1, 32), (64, 32)):
            count = str(max(segments // 3, 1))
            receiver = rig.start(far, "late", NUMBERED_PORT)
            rig.load(near, "number", target, NUMBERED_PORT, count, str(flows), str(size), "150000", timeout=600)
            received, late, lost = map(int, receiver.communicate(timeout=30)[0].split())
            print(f"order {way} {name}, {flows} flows, {size} a call: {received} received, {late} late, {lost} lost")
        before = rig.counted()
        took = segments * (MTU - 52) / PACE
        rig.load(rig.near, "tcp", way.upper(), SERVER, PORT, str(took), "1", "1", timeout=60 + 2 * took)
        grown = {name: value - before[name] for name, value in rig.counted().items()}
        told = ", ".join(f"{name} {grown[name]}" for name in ("TCPOFOQueue", "TCPSACKReorder", "RetransSegs"))
        print(f"order {way} {name}, TCP at {PACE * 8 / 1e9:.1f} Gbit/s for {took:.0f} s: {told}")


def ratios(bench: Bench, sessions: int) -> dict[str, float]:
    def over(one: str, other: str) -> float:
        return round(bench.median(one) / bench.median(other), 3)

    found = {}
    for way in ("up", "down"):
        rate = f"tcp {way} {{}} Gbit/s"
        found[f"offload over single, {way}"] = over(rate.format("offload"), rate.format("single"))
        found[f"offload over in-kernel, {way}"] = over(rate.format("offload"), rate.format("in-kernel"))
        found[f"in-kernel over plain veth, {way}"] = over(rate.format("in-kernel"), rate.format("plain"))
        many = f"tcp {way} {sessions} flows, {sessions} sessions Gbit/s"
        found[f"{sessions} sessions over 1, one flow each, {way}"] = over(many, f"tcp {way} 1 flows, 1 sessions Gbit/s")
        found[f"{sessions} sessions over 1, as many flows, {way}"] = over(
            many, f"tcp {way} {sessions} flows, 1 sessions Gbit/s"
        )
        for whose in ("worker", "machine"):
            cpu = f"cpu {whose} {way} {{}} s/GB"
            found[f"CPU per GB of the {whose}, offload over single, {way}"] = over(
                cpu.format("offload"), cpu.format("single")
            )
    for flows in (1, 64):
        found[f"64-octet down over bare TUN, {flows} flows"] = over(
            f"64-octet down, {flows} flows packets/CPU s", "64-octet bare TUN writes packets/CPU s"
        )
        found[f"64-octet up over bare AF_XDP, {flows} a call"] = over(
            f"64-octet up, {flows} a call packets/CPU s", "64-octet bare AF_XDP TX packets/CPU s"
        )
    found["ping offload over in-kernel"] = over("ping offload ms", "ping in-kernel ms")
    return found


def check_needs() -> None:
    for program, package in NEEDS.items():
        if not shutil.which(program):
            sys.exit(f"{program} is missing: run `apt-get install {package}`")
    if os.geteuid():
        sys.exit("needs root: namespaces, XDP, TUN")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2 rounds of 1 second, for development")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--sessions", type=int, default=1000)
    parser.add_argument("--rows", nargs="*", default=["tcp", "ping", "small", "many"])
    parser.add_argument("--order", type=int, metavar="SEGMENTS", help="only look for reordering in so many, each way")
    options = parser.parse_args()
    check_needs()
    remove_leftovers()
    signal.signal(signal.SIGTERM, leave)
    Rig.waits = not options.order
    bench = Bench(options.seconds or (1.0 if options.quick else 3.0), options.rounds or (2 if options.quick else 5))
    run(
        "cc",
        "-O2",
        "-std=c11",
        "-D_GNU_SOURCE",
        f"-DPACE={PACE}",
        f"-I{ROOT}/engine/datapath",
        "-o",
        str(LOAD),
        f"{ROOT}/benchmarks/load.c",
        f"{ROOT}/engine/datapath/port.c",
        "-lxdp",
        "-lbpf",
    )
    with ExitStack() as stack:
        offload = UserSpace(stack, "offload", offload=True)
        rigs: dict[str, Rig] = {
            "offload": offload,
            "single": UserSpace(stack, "single", offload=False),
            "in-kernel": InKernel(stack, "kernel"),
            "plain": Plain(stack, "plain"),
        }
        bare = Rig(stack, "bare")
        many = UserSpace(stack, "many", offload=True, sessions=options.sessions) if "many" in options.rows else None
        paths: dict[int, tuple[Rig, Rig]] = {}
        if "paths" in options.rows:
            for number in PATH_SESSIONS:
                user_space = UserSpace(stack, f"us{number}", offload=True, sessions=number)
                paths[number] = user_space, InKernel(stack, f"ik{number}", sessions=number)
        work: dict[str, Callable[[], None]] = {
            "tcp": lambda: tcp_rows(bench, rigs),
            "ping": lambda: ping_rows(bench, rigs),
            "small": lambda: small_rows(bench, offload, bare),
            "many": lambda: many_rows(bench, many, options.sessions),
            "paths": lambda: path_rows(bench, paths),
        }
        if options.order:
            for name in ("offload", "in-kernel"):
                order_rows(name, rigs[name], options.order)
            return
        for number in range(bench.rounds):
            print(f"round {number + 1} of {bench.rounds}", file=sys.stderr)
            for row in options.rows:
                work[row]()
        print(f"{'':52}{'median':>12}{'min':>12}{'max':>12}")
        for name, values in bench.figures.items():
            print(f"{name:52}{statistics.median(values):12.4g}{min(values):12.4g}{max(values):12.4g}")
        for name, rig in {**rigs, "many": many}.items():
            if rig is not None:
                seen = rig.counted()
                interesting = ("InSegs", "RetransSegs", "TCPOFOQueue", "TCPSACKReorder", "TCPTSReorder", "InCsumErrors")
                print(name, {key: seen[key] for key in interesting}, rig.drops() if isinstance(rig, UserSpace) else "")
        with_all = set(options.rows) >= {"tcp", "ping", "small", "many"}
        print(json.dumps(ratios(bench, options.sessions) if with_all else {}))


if __name__ == "__main__":
    main()
