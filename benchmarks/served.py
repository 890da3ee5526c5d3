"""What clients on the socket cost, and how soon they know.

    python -m benchmarks.served [sessions]

The engine is a supervisor in virtual time behind the real server; each client is a process of its own. CPU time is that
of the process that serves, medians of several rounds.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.request import urlopen

from engine.api.commands import Dial, Redial, Watch
from engine.host.promptness import never_collect, prompt_interpreter
from engine.run.client import Client, open_path
from engine.run.server import Server
from engine.run.sockets import listen
from souppp_tui import __version__
from tests.unit.served.world_engine import WorldEngine

SESSIONS = 10_000
ROUNDS = 7
CONSOLES = 5
SECONDS = 10.0
RELEASE = __version__


def client(path: Path, what: str) -> None:
    """In a process of its own: print what was measured, in milliseconds."""
    began = time.perf_counter()
    with Client(open_path(path), program=what, release=RELEASE) as engine:
        first = time.perf_counter() - began
        if what == "console":
            while engine.behind:  # the past is told first
                time.sleep(0.01)
            print(flush=True)
            time.sleep(2 * SECONDS)
            return
        replies = []
        for _ in range(200):
            began = time.perf_counter()
            engine.submit(Watch(1)).result()
            replies.append(time.perf_counter() - began)
    print(f"{first * 1000} {statistics.median(replies) * 1000}")


def start(path: Path, what: str) -> subprocess.Popen[str]:
    """A client."""
    command = [sys.executable, "-m", "benchmarks.served", str(path), what]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def scrapes(path: Path, sessions_too: bool) -> tuple[float, int, float, float]:
    """Of an exporter: seconds a page takes, its octets, MiB that the exporter holds, and what it costs this process."""
    command = [sys.executable, "-m", "souppp_tui.commands.cli", "exporter", "--listen", "127.0.0.1:0"]
    options = ["--socket", str(path), *(["--sessions"] if sessions_too else [])]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True) as exporter:
        assert exporter.stdout is not None
        address = exporter.stdout.readline().strip()
        page = b""
        while b"souppp_dials_total" not in page:
            time.sleep(1.1)
            page = urlopen(address).read()
        times = []
        for _ in range(ROUNDS):
            time.sleep(1.1)
            began = time.perf_counter()
            page = urlopen(address).read()
            times.append(time.perf_counter() - began)
        used = cpu_of(SECONDS)
        status = Path(f"/proc/{exporter.pid}/status").read_text().splitlines()
        held = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
        exporter.terminate()
    return statistics.median(times), len(page), held / 1024, used


def cpu_of(seconds: float) -> float:
    """The share of a core that this process uses while it waits."""
    began = time.process_time()
    time.sleep(seconds)
    return (time.process_time() - began) / seconds


def main(sessions: int) -> None:
    """Print the figures."""
    prompt_interpreter()
    never_collect()
    engine = WorldEngine(sessions)
    engine.submit(Dial(tuple(range(sessions))))
    engine.run(60.0)
    up = sum(view.up_since is not None for view in engine.snapshot().sessions)
    inside = []
    for _ in range(200):
        began = time.perf_counter()
        engine.submit(Watch(1)).result()
        inside.append(time.perf_counter() - began)
    with tempfile.TemporaryDirectory() as folder:
        server = Server(engine, listen(Path(folder) / "it.sock"), release=RELEASE, card="bench")
        server.start()
        firsts, replies = [], []
        for _ in range(ROUNDS):
            told = start(server.path, "asking").communicate()[0].split()
            firsts.append(float(told[0]))
            replies.append(float(told[1]))
        print(f"{sessions:,} sessions, {up:,} up")
        print(f"attach to the first picture: {statistics.median(firsts):8.1f} ms (500 wanted)")
        print(
            f"command to reply:            {statistics.median(replies):8.3f} ms, in process "
            f"{statistics.median(inside) * 1000:.3f} ms"
        )
        alone = cpu_of(SECONDS)
        consoles = [start(server.path, "console") for _ in range(CONSOLES)]
        for console in consoles:
            assert console.stdout is not None
            console.stdout.readline()
        used = cpu_of(SECONDS) - alone
        print(f"{CONSOLES} consoles, idle:             {used:8.2%} of a core (0.50 % wanted)")
        for console in consoles:
            console.kill()
            console.wait()
        for sessions_too in (False, True):
            took, octets, held, alone_again = scrapes(server.path, sessions_too)
            what = "with each session" if sessions_too else "totals"
            print(f"a page for Prometheus, {what}: {took * 1000:.0f} ms, {octets:,} octets, exporter {held:.0f} MiB")
            print(f"    beside it this process uses {alone_again:.2%} of a core")
        with Client(open_path(server.path), program="flaps", release=RELEASE) as flaps:
            version = engine.changes_since(0).version
            for number in range(10):
                engine.submit(Redial(tuple(range(number, sessions, 20))))
            began = time.perf_counter()
            last = engine.snapshot().events
            while flaps.snapshot().events < last:
                time.sleep(0.005)
            changes, took = engine.changes_since(0).version - version, time.perf_counter() - began
            print(f"{changes:,} changes are seen after {took:.3f} s")
        server.close()


if __name__ == "__main__":
    if len(sys.argv) > 2:
        client(Path(sys.argv[1]), sys.argv[2])
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else SESSIONS)
