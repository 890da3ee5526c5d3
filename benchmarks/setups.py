"""What a session's set-up takes of the engine, without the host and the line: calls of functions and instructions.

    python benchmarks/setups.py [--ipv4] [--by-file] [CHECKOUT ...]

The supervisor runs whole, in virtual time, against the lab's concentrator, and gets frames as few at a time as the
engine's loop gives it. 60 sessions come up, and 20, and the difference is taken: the same figures whatever else the
machine does. Calls are the engine's alone, by room or by file; instructions (under valgrind) are of both sides.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

FEW, MANY = 20, 60
AT_ONCE = 8
"""Frames, as in the engine's loop."""
SECONDS = 4.0
"""For what comes behind the address: IPv6."""


def come_up(sessions: int, ipv6: bool, watch: Callable[[Callable[[], Any]], Any]) -> None:
    """Bring so many sessions up; `watch` carries out each of the engine's steps."""
    import loop  # of the checkout that stands first on the path

    from tests.unit.supervisor.world import World, session

    vars(loop)["BATCH_FRAMES"] = AT_ONCE
    bench: Any = loop.Bench(sessions)
    if not ipv6:
        bench.world = World([session(f"s{number}", ipv6=False) for number in range(sessions)], loop.FAST)
        bench.supervisor = bench.world.supervisor
    bench.step("open", bench.supervisor.open, bench.world.now)
    step = bench.step
    bench.step = lambda *what: watch(lambda: step(*what))
    bench.run(600.0, bench.up)
    bench.run(SECONDS)
    assert bench.up()


def calls(sessions: int, ipv6: bool) -> dict[str, int]:
    """How many it takes, by file; those of Python's own are their callers'."""
    profile = cProfile.Profile()
    come_up(sessions, ipv6, profile.runcall)
    found: Counter[str] = Counter()
    for entry in profile.getstats():
        mine = _file(entry.code)
        found[mine] += entry.callcount if mine else 0
        for called in entry.calls or ():
            if not _file(called.code):
                found[mine] += called.callcount
    del found["benchmarks/loop.py"], found["benchmarks/setups.py"], found[""]
    return dict(found)


def _file(code: Any) -> str:
    """Of ours, relative to the checkout; an empty one of what is Python's."""
    if isinstance(code, str):
        return ""
    found = re.search(r"(engine|tests|benchmarks)/.*$", code.co_filename)
    return found[0] if found else "the library"


def _run(checkout: Path, *words: str, under: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(map(str, (checkout / "benchmarks", checkout)))
    environment = os.environ | {"PYTHONHASHSEED": "0", "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
    command = [*under, sys.executable, __file__, *words]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True)


def instructions(checkout: Path, sessions: int, kind: str) -> int:
    """How many it takes to bring so many sessions up, all else included."""
    with tempfile.TemporaryDirectory() as folder:
        counting = ("valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out")
        told = _run(checkout, "--work", kind, str(sessions), under=counting).stderr
    found = re.search(r"Collected : (\d+)", told)
    assert found is not None, told
    return int(found[1])


def main() -> None:
    """Print what a session costs, in each checkout."""
    if sys.argv[1:2] == ["--work"]:
        come_up(int(sys.argv[3]), sys.argv[2] == "both", lambda work: work())
        return
    if sys.argv[1:2] == ["--calls"]:
        print(json.dumps(calls(int(sys.argv[3]), sys.argv[2] == "both")))
        return
    it = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    it.add_argument("--ipv4", action="store_true", help="sessions without IPv6")
    it.add_argument("--by-file", action="store_true", help="calls of each file")
    it.add_argument("--instructions", action="store_true", help="count these too, which takes minutes")
    it.add_argument("checkouts", type=Path, nargs="*", metavar="CHECKOUT")
    options = it.parse_args()
    kind = "ipv4" if options.ipv4 else "both"
    for checkout in (*options.checkouts, Path(__file__).resolve().parents[1]):
        few, many = (json.loads(_run(checkout.resolve(), "--calls", kind, str(each)).stdout) for each in (FEW, MANY))
        found: Counter[str] = Counter()
        for name, number in many.items():
            found[name if options.by_file else "/".join(name.split("/")[:2])] += number - few.get(name, 0)
        print(f"{sum(found.values()) / (MANY - FEW):10,.1f} calls a session in {checkout}")
        for name, number in found.most_common():
            print(f"{number / (MANY - FEW):10,.1f}   {name}")
        if options.instructions:
            more = instructions(checkout.resolve(), MANY, kind) - instructions(checkout.resolve(), FEW, kind)
            print(f"{more // (MANY - FEW):10,} instructions a session in {checkout}", flush=True)


if __name__ == "__main__":
    main()
