"""What many sessions cost: up, idle, down; the loop's longest hold; and what the host's other traffic notices of them.

    python -m benchmarks.scale [--sessions 100,1000,4000,16000] [--rounds 3] [--against CHECKOUT] [--path auto|none]
    python -m benchmarks.scale --devices ...

The real program without a screen, against the lab's concentrator on the same machine, each round once for each
checkout, alternately, with IPv6 and without (`--without-ipv6`, `--with-ipv6` for one of them). What it takes is told
from the first PADI on; the program's start stands apart. Seconds on the wall are worth as much as the machine is idle;
those of the processor, in the program and in the kernel on its behalf, tell more. The lab's come besides: it is on the
same processors. Sessions of `--path none` have no device: what they take is the protocol's and the program's alone. A
checkout is a folder with the program and a `.venv`.

With `--devices` only what the host has to do for sessions: their devices, addresses, routes and rules, made and
removed as fast as it goes. That tells something on a busy machine too, where sessions would time out.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime
from itertools import product
from pathlib import Path
from typing import IO, Any

HERE = Path(__file__).resolve().parents[1]
LONG = 0.005
"""Seconds: calls of the loop that are noted."""
IDLE = 5.0
"""Seconds of looking on while all are up."""
PATIENCE = 0.03
"""Seconds for a session to come up, and two minutes for all."""
WAYS = {path: f"datapath: {path}" for path in ("auto", "kernel", "afxdp")} | {"none": "egress: none"}
"""What a session's packets take, and how its entry says so."""
SENDS, BATCHES = 2000, 20
TARGET = ("198.51.100.7", 9)


# In the program's process


def run_watched(report: str, arguments: list[str]) -> int:
    """Run the program, and note which calls of the engine's loop take long, and what all of it cost."""
    import asyncio

    from souppp_tui.commands import cli

    out = os.open(report, os.O_WRONLY)  # it may open no more files later
    held: list[tuple[float, float, float, str]] = []
    run_handle = asyncio.Handle._run

    def timed(handle: asyncio.Handle) -> None:
        begun, worked = time.monotonic(), time.thread_time()
        run_handle(handle)
        took = time.monotonic() - begun
        if took > LONG:
            name = getattr(handle._callback, "__qualname__", None) or repr(handle._callback)  # type: ignore[attr-defined]
            held.append((begun, took, time.thread_time() - worked, name))

    asyncio.Handle._run = timed  # type: ignore[method-assign, assignment]
    if folder := os.environ.get("SCALE_PROFILE"):
        _profile_engine(folder)
    code = cli.main(arguments)
    used = resource.getrusage(resource.RUSAGE_SELF)
    os.write(out, json.dumps({"held": held, "user": used.ru_utime, "system": used.ru_stime}).encode())
    sys.stdout.flush()
    os._exit(code)  # as the program ends: see `souppp_tui.commands.cli.program`


def _profile_engine(path: str) -> None:
    """Write a profile of the engine's thread there when it ends."""
    import cProfile

    from engine.run.thread import Engine

    out, run = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), Engine._run

    def profiled(engine: Engine) -> None:
        profile = cProfile.Profile(time.thread_time)
        profile.runcall(run, engine)
        profile.create_stats()
        import marshal

        with os.fdopen(out, "wb") as file:
            marshal.dump(profile.stats, file)

    Engine._run = profiled  # type: ignore[method-assign, assignment]


def work_on_devices(sessions: int, ipv6: bool) -> int:
    """Make the devices of so many sessions in a namespace and remove them; prints what that took, as an object."""
    from ipaddress import IPv4Address, IPv6Address

    from engine.egress.addresses import Devices
    from engine.egress.protocol import Addresses
    from engine.host import descriptors, netns

    netns.unshare_net()
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    descriptors.raise_limit()
    devices = Devices()
    # A checkout from before that could be said has it on every device.
    extra: dict[str, Any] = {"ipv6": False} if not ipv6 and "ipv6" in (Devices.create.__kwdefaults__ or {}) else {}
    found: dict[str, float] = {}

    def lap(name: str, before: resource.struct_rusage, of: int) -> resource.struct_rusage:
        now = resource.getrusage(resource.RUSAGE_SELF)
        found[name] = (now.ru_utime - before.ru_utime) / of * 1e3
        found[f"{name} kernel"] = (now.ru_stime - before.ru_stime) / of * 1e3
        return now

    tenth = max(sessions // 10, 1)
    begun = at = resource.getrusage(resource.RUSAGE_SELF)
    for key in range(sessions):
        devices.create(key, f"soup{key}", **extra)
        own, peer = IPv4Address("100.64.0.2") + key, IPv4Address("100.64.0.1")
        local = IPv6Address("fe80::1") + key * 7919 if ipv6 else None
        every = (IPv6Address("2001:db8::1") + (key << 64),) if ipv6 else ()
        devices.set_addresses(key, Addresses(own, peer, local, every), 1492)
        if key % 16 == 15:
            devices.look()
        if key == sessions - tenth - 1:
            at = resource.getrusage(resource.RUSAGE_SELF)
    lap("last", at, tenth)
    begun = lap("all", begun, sessions)
    for key in range(sessions):
        devices.remove(key)
    devices.close()
    lap("removed", begun, sessions)
    print(json.dumps(found))
    return 0


# Beside it


@dataclass
class Found:
    """What was measured of some sessions of one checkout, a value a round."""

    values: dict[str, list[float]] = field(default_factory=dict)

    def note(self, **values: float) -> None:
        """One round's."""
        for name, value in values.items():
            self.values.setdefault(name, []).append(value)

    def median(self, name: str) -> float:
        """Of all rounds."""
        return statistics.median(self.values[name])


def _processor(pid: int) -> tuple[float, float]:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    tick = os.sysconf("SC_CLK_TCK")
    return int(fields[11]) / tick, int(fields[12]) / tick


class Program:
    """The program of a checkout, with so many sessions in the lab."""

    def __init__(self, checkout: Path, sessions: int, ipv6: bool, path: str, rate: float, folder: Path) -> None:
        config = folder / "lab.yaml"
        config.touch(mode=0o600)
        one = f'name: "lab-{{n:05}}", count: {sessions}, user: "lab-{{n}}", password: lab, autodial: true'
        one += f", {WAYS[path]}" + ("" if ipv6 else ", ipv6: false")
        config.write_text(f"dial: {{rate: {rate}, max_outstanding: 500}}\nsessions: [{{{one}}}]\n")
        self._report = folder / "report"
        self._report.touch()
        patience = str(120 + PATIENCE * sessions)
        arguments = ("--lab", "--config", config, "--headless", "--until-up", "--hold", "--timeout", patience)
        python = checkout / ".venv" / "bin" / "python"
        environment = os.environ | {"PYTHONPATH": str(checkout)}
        self._process = subprocess.Popen(
            [python, Path(__file__).resolve(), "--watched", self._report, *arguments],
            cwd=checkout,
            env=environment,
            stdout=subprocess.PIPE,
        )
        self.born, self.begun = time.monotonic(), 0.0
        """When it was started, and when its first event came."""
        self.start = self.lab_start = 0.0, 0.0
        """Seconds of processor until then: in the program and in the kernel."""
        self.padi = self.up = 0.0
        """Unix times, of the program's: the first session was dialled, and the last one had its IPv4 address."""
        self.authentications = 0
        """Attempts: more than there are sessions where some had to try again."""
        self.failed = 0
        self._all_up = threading.Event()
        assert self._process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,))
        self._reader.start()

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def _read(self, output: IO[bytes]) -> None:
        for line in output:
            if not self.begun:
                self.begun, self.start, self.lab_start = time.monotonic(), self.processor(), self.lab_processor()
            said = json.loads(line)
            if said.get("event") == "dialling":
                self.padi = self.padi or datetime.fromisoformat(said["time"]).timestamp()
            elif said.get("event") == "ipv4-up" and not self._all_up.is_set():
                self.up = datetime.fromisoformat(said["time"]).timestamp()
            if "state" in said:
                self.failed += said["error"] is not None
                self._all_up.set()
            elif said["event"] in ("dial-failed", "session-down") and not self._all_up.is_set():
                self.authentications += 1
        self._all_up.set()

    def wait_up(self) -> None:
        """Return when all are, or can't be in time."""
        self._all_up.wait()

    def processor(self) -> tuple[float, float]:
        """Seconds so far: in the program, and in the kernel on its behalf."""
        return _processor(self.pid)

    def lab_processor(self) -> tuple[float, float]:
        """The same of the lab's concentrator."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        labs = [pid for pid in map(int, children) if b"engine.lab" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        return _processor(labs[0]) if labs else (0.0, 0.0)

    def memory(self) -> float:
        """Resident, in MB."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    def stop(self) -> tuple[float, dict[str, Any]]:
        """Seconds that it took, and what it tells of itself."""
        begun = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        self._process.wait()
        took = time.monotonic() - begun
        self._reader.join()
        report: dict[str, Any] = json.loads(self._report.read_text() or '{"held": [], "user": 0, "system": 0}')
        return took, report


_SENDER = """
import socket, subprocess, sys, time
subprocess.run(["ip", "link", "add", "host0", "type", "veth", "peer", "name", "host1"], check=True)
subprocess.run(["ip", "link", "set", "host1", "up"], check=True)
subprocess.run(["ip", "addr", "add", "192.0.2.1/24", "dev", "host0"], check=True)
subprocess.run(["ip", "link", "set", "host0", "up"], check=True)
subprocess.run(["ip", "route", "add", "198.51.100.0/24", "via", "192.0.2.2"], check=True)
subprocess.run(["ip", "neigh", "add", "192.0.2.2", "lladdr", "02:00:00:00:00:01", "dev", "host0"], check=True)
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
print("ready", flush=True)
for line in sys.stdin:
    begun = time.thread_time()
    for _ in range({sends}):
        sender.sendto(b"x", {target})
    print((time.thread_time() - begun) / {sends}, flush=True)
"""


class Sender:
    """Sends datagrams of an unconnected socket by a card of the host's that is no session's, in a namespace."""

    def __init__(self, *enter: str) -> None:
        script = _SENDER.replace("{sends}", str(SENDS)).replace("{target}", repr(TARGET))
        self._process = subprocess.Popen(
            [*enter, sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._say()

    def _say(self) -> str:
        assert self._process.stdout is not None
        if not (line := self._process.stdout.readline()):
            raise RuntimeError("The sender has ended.")
        return line

    def send(self) -> float:
        """Seconds of processor for one datagram."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return float(self._say())

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def sends_of(program: Program) -> tuple[float, float]:
    """What one datagram costs in the program's namespace, and in one without sessions, in microseconds."""
    there, elsewhere = Sender("nsenter", "-t", str(program.pid), "-n"), Sender("unshare", "-n")
    costs = [(there.send(), elsewhere.send()) for _ in range(BATCHES)]
    there.close()
    elsewhere.close()
    return min(cost for cost, _ in costs) * 1e6, min(cost for _, cost in costs) * 1e6


def measure(checkout: Path, sessions: int, ipv6: bool, path: str, rate: float, found: Found) -> None:
    """One round."""
    with tempfile.TemporaryDirectory() as folder:
        program = Program(checkout, sessions, ipv6, path, rate, Path(folder))
        program.wait_up()
        (user, system), lab = program.processor(), program.lab_processor()
        time.sleep(1.0)
        memory, before = program.memory(), program.processor()
        time.sleep(IDLE)
        after = program.processor()
        with_them, without = sends_of(program)
        quit_user, quit_system = program.processor()
        took, report = program.stop()
    held = [(wall, cpu, name) for at, wall, cpu, name in report["held"] if at > program.begun]
    found.note(
        start=program.begun - program.born,
        start_user=program.start[0],
        up=program.up - program.padi,
        user=user - program.start[0],
        system=system - program.start[1],
        lab=sum(lab) - sum(program.lab_start),
        failed=program.failed,
        again=program.authentications,
        idle=(sum(after) - sum(before)) / IDLE * 100,
        memory=memory,
        quit=took,
        quit_user=report["user"] - quit_user,
        quit_system=report["system"] - quit_system,
        held=max((wall for wall, _, _ in held), default=0) * 1000,
        held_cpu=max((cpu for _, cpu, _ in held), default=0) * 1000,
        send=with_them,
        send_without=without,
    )
    what = f"{sessions} with IPv6" if ipv6 else f"{sessions} without IPv6"
    print(f"  {checkout.name} {what}:", {name: round(values[-1], 2) for name, values in found.values.items()})
    for wall, cpu, name in sorted(held, key=lambda each: -each[1])[:5]:
        print(f"    held {wall * 1000:.0f} ms, {cpu * 1000:.0f} of processor: {name}")


def measure_devices(checkout: Path, sessions: int, ipv6: bool, found: Found) -> None:
    """One round of device work alone, milliseconds of processor a session."""
    python, words = checkout / ".venv" / "bin" / "python", ("--work", str(sessions), "6" if ipv6 else "")
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    done = subprocess.run(
        [python, Path(__file__).resolve(), *words], cwd=checkout, env=environment, stdout=subprocess.PIPE, check=True
    )
    found.note(**json.loads(done.stdout))
    print(f"  {checkout.name} {sessions}:", {name: round(values[-1], 2) for name, values in found.values.items()})


DEVICE_COLUMNS = {
    "all": "made, ms each",
    "all kernel": "in the kernel",
    "last": "the last tenth",
    "last kernel": "in the kernel",
    "removed": "removed",
    "removed kernel": "in the kernel",
}
COLUMNS = {
    "start": "start, s",
    "start_user": "program, s",
    "up": "PADI to up, s",
    "user": "program, s",
    "system": "kernel, s",
    "lab": "the lab, s",
    "failed": "not up",
    "again": "tried again",
    "quit": "quit, s",
    "quit_user": "program, s",
    "quit_system": "kernel, s",
    "held": "held, ms",
    "held_cpu": "of processor",
    "idle": "idle, % of a core",
    "memory": "MB",
    "send": "a send, us",
    "send_without": "without",
}


def main() -> int:
    """Run it."""
    if sys.argv[1:2] == ["--watched"]:
        return run_watched(sys.argv[2], sys.argv[3:])
    if sys.argv[1:2] == ["--work"]:
        return work_on_devices(int(sys.argv[2]), bool(sys.argv[3]))
    it = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    it.add_argument("--sessions", default="100,1000,4000,16000")
    it.add_argument("--rounds", type=int, default=3)
    it.add_argument("--against", type=Path, action="append", default=[], metavar="CHECKOUT")
    it.add_argument("--path", default="auto", choices=WAYS)
    it.add_argument("--rate", type=float, default=1000)
    it.add_argument("--devices", action="store_true", help="what the host has to do for sessions, alone")
    family = it.add_mutually_exclusive_group()
    family.add_argument("--without-ipv6", action="store_true", help="only sessions that have none")
    family.add_argument("--with-ipv6", action="store_true", help="only such as have it")
    options = it.parse_args()
    families = [ipv6 for ipv6 in (True, False) if not (options.without_ipv6 if ipv6 else options.with_ipv6)]
    found: dict[tuple[int, bool, Path], Found] = {}
    for sessions in map(int, options.sessions.split(",")):
        for _ in range(options.rounds):
            for ipv6, checkout in product(families, (HERE, *(each.resolve() for each in options.against))):
                of_it = found.setdefault((sessions, ipv6, checkout), Found())
                if options.devices:
                    measure_devices(checkout, sessions, ipv6, of_it)
                else:
                    measure(checkout, sessions, ipv6, options.path, options.rate, of_it)
    columns = DEVICE_COLUMNS if options.devices else COLUMNS
    print("\n| sessions | | checkout |", " | ".join(columns.values()), "|")
    for (sessions, ipv6, checkout), it_found in found.items():
        head = f"| {sessions} | {'IPv4 and IPv6' if ipv6 else 'IPv4 alone'} | {checkout.name} |"
        print(head, " | ".join(f"{it_found.median(name):.2f}" for name in columns), "|")
    return 0


if __name__ == "__main__":
    sys.exit(main())
