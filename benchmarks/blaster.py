"""The same sessions in BNG Blaster, which opens them as a tester's tool does: no device, no address on the host.

    python -m benchmarks.blaster BNGBLASTER [--sessions 100,1000,4000,16000] [--rounds 3]

Its client on one end of a cable, its A10NSP side, which takes every session, on the other; both in one process, in a
namespace of their own. So what it takes of the processor is for both sides.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PATIENCE = 120.0
"""Seconds for all to come up, or to go."""
RATE = 20_000
"""Sessions a second that it may begin and end, so that no pace of its own counts."""
SERVER, CLIENT = "blaster0", "blaster1"


def settings(sessions: int) -> dict[str, Any]:
    """Its configuration: IPv4 alone, no keepalives, no redial."""
    access = {"interface": CLIENT, "type": "pppoe", "vlan-mode": "N:1", "a10nsp-interface": SERVER}
    return {
        "interfaces": {"a10nsp": [{"interface": SERVER, "mac": "02:00:00:ff:ff:01"}], "access": [access]},
        "sessions": {"count": sessions, "max-outstanding": 500, "start-rate": RATE, "stop-rate": RATE},
        "pppoe": {"reconnect": False},
        "ppp": {
            "authentication": {"username": "lab", "password": "lab"},
            "lcp": {"keepalive-interval": 0},
            "ip6cp": {"enable": False},
        },
        "dhcpv6": {"enable": False},
    }


def _processor(pid: int) -> tuple[float, float]:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    tick = os.sysconf("SC_CLK_TCK")
    return int(fields[11]) / tick, int(fields[12]) / tick


def _established(control: Path) -> int:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.connect(str(control))
        asking.sendall(b'{"command": "session-counters"}')
        answer = b""
        while more := asking.recv(1 << 16):
            answer += more
    return int(json.loads(answer)["session-counters"]["sessions-established"])


def measure(program: Path, sessions: int) -> dict[str, float]:
    """Seconds from the start until all are up, and from the signal until all have ended; of the processor too."""
    with tempfile.TemporaryDirectory() as folder:
        config, control, report = (Path(folder) / name for name in ("config.json", "control", "report.json"))
        config.write_text(json.dumps(settings(sessions)))
        ends = (f"ip link set {end} up" for end in (SERVER, CLIENT))
        cable = " && ".join([f"ip link add {SERVER} type veth peer name {CLIENT}", *ends])
        command = f'{cable} && exec "$@"'
        arguments = map(str, (program, "-C", config, "-S", control, "-J", report))
        quiet = subprocess.DEVNULL
        process = subprocess.Popen(["unshare", "-n", "sh", "-c", command, "sh", *arguments], stdout=quiet, stderr=quiet)
        try:
            end = time.monotonic() + PATIENCE
            while not control.exists() or _established(control) < sessions:
                if time.monotonic() > end or process.poll() is not None:
                    raise RuntimeError(f"{sessions} sessions of {program} never came up.")
                time.sleep(0.05)
            up = _processor(process.pid)
            begun = time.monotonic()
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE)
            took = time.monotonic() - begun
        finally:
            process.kill()
            process.wait()
        told = json.loads(report.read_text())["report"]
    return {"up": told["setup-time-ms"] / 1000, "user": up[0], "system": up[1], "quit": took}


def main(arguments: Sequence[str]) -> int:
    """Run it."""
    it = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    it.add_argument("program", type=Path, metavar="BNGBLASTER")
    it.add_argument("--sessions", default="100,1000,4000,16000")
    it.add_argument("--rounds", type=int, default=3)
    options = it.parse_args(arguments)
    print("\n| sessions | BNG Blaster, up, s | both sides, s | kernel, s | quit, s |\n| --- | --- | --- | --- | --- |")
    for sessions in map(int, options.sessions.split(",")):
        rounds = [measure(options.program.resolve(), sessions) for _ in range(options.rounds)]
        medians = (statistics.median(each[name] for each in rounds) for name in rounds[0])
        print(f"| {sessions} |", " | ".join(f"{value:.2f}" for value in medians), "|", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
