"""A restart of the service with many sessions up: connections lost, and seconds without an answer.

    python -m benchmarks.restart [--sessions 1000] [--connections 200] [--rounds 3] [--path kernel|afxdp]

The real program under a service manager's protocol, against the lab's concentrator in namespaces of its own. Through
some of the sessions a connection each is answered all the time.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import statistics
import tempfile
import time
from pathlib import Path

from engine.host import netns
from tests.manager import managed
from tests.provider import CARD, provider
from tests.system.test_handed_over import Talk, echo
from tests.system.test_served import asked, ctl


def measure(sessions: int, connections: int, rounds: int, path: str, folder: Path) -> None:
    """One line for each restart, and one for all."""
    config = folder / "va.yaml"
    one = f'name: "home-{{n:05}}", count: {sessions}, user: someone, password: lab, autodial: true, datapath: {path}'
    config.touch(mode=0o600)
    config.write_text(f"dial: {{rate: 1000, max_outstanding: 200}}\nsessions: [{{{one}}}]\n")
    socket = folder / "va.sock"
    arguments = (CARD, "--config", config, "--state-dir", folder / "state", "--socket", socket)
    with provider() as far, echo(far), managed(folder, *arguments) as manager:
        ctl(socket, "wait", "--timeout", "300")
        before = {each["name"]: each["session_id"] for each in asked(socket, "list")}
        devices = [each["device"] for each in asked(socket, "list")][:: max(sessions // connections, 1)]
        talks = [Talk(device) for device in devices]
        silences = []
        for _ in range(rounds):
            for talk in talks:
                talk.goes_on()
                talk.longest = 0.0
            began = time.monotonic()
            gap = manager.restart(signal.SIGUSR2)
            for talk in talks:
                talk.goes_on()
            silence = [talk.longest for talk in talks]
            silences += silence
            went_on = sum(before[each["name"]] == each["session_id"] for each in asked(socket, "list"))
            print(
                f"{path}: {went_on} of {sessions} sessions went on, {sum(not talk.failure for talk in talks)} of "
                f"{len(talks)} connections; nobody there for {gap:.2f} s, from the signal to ready "
                f"{time.monotonic() - began:.2f} s; without an answer: median {statistics.median(silence):.2f} s, "
                f"longest {max(silence):.2f} s",
                flush=True,
            )
            assert went_on == sessions
            time.sleep(3.0)
        for talk in talks:
            talk.end()
        print(f"{path}: without an answer over {rounds} restarts: median {statistics.median(silences):.2f} s")


def main() -> None:
    """Run it."""
    it = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    it.add_argument("--sessions", type=int, default=1000)
    it.add_argument("--connections", type=int, default=200)
    it.add_argument("--rounds", type=int, default=3)
    it.add_argument("--path", choices=("kernel", "afxdp"), action="append")
    options = it.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    here = netns.open_net()
    for path in options.path or ("afxdp", "kernel"):
        netns.unshare_net()
        with tempfile.TemporaryDirectory() as folder:
            measure(options.sessions, options.connections, options.rounds, path, Path(folder))
        netns.set_net(here)
    os.close(here)


if __name__ == "__main__":
    main()
