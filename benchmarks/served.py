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

from engine.api.commands import Dial, Redial, Watch
from engine.host.promptness import never_collect, prompt_interpreter
from engine.run.client import Client, open_path
from engine.run.server import Server
from engine.run.sockets import listen
from tests.unit.served.world_engine import WorldEngine

SESSIONS = 10_000
ROUNDS = 7
CONSOLES = 5
SECONDS = 10.0
RELEASE = "bench"


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
