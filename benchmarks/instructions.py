"""How many instructions a session's set-up takes, in this checkout and in others: a figure that no busy machine blurs.

    python benchmarks/instructions.py [CHECKOUT ...]

A concentrator's answers are recorded once and played back to 60 sessions and to 20 under valgrind, which counts; the
difference is what a session costs, without the concentrator and without Python's start. Each checkout runs its own
`benchmarks/control.py`.
"""

from __future__ import annotations

import os
import pickle
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

METHODS = ("mschapv2", "chap", "pap")
FEW, MANY = 20, 60


class _Recorder:
    """A concentrator whose answers are kept."""

    def __init__(self, concentrator: Any) -> None:
        self._concentrator = concentrator
        self.answers: list[list[bytes]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._concentrator, name)

    def frames_to_send(self, *now: float) -> list[bytes]:
        self.answers.append(list(self._concentrator.frames_to_send(*now)))
        return self.answers[-1]


class _Player:
    """What it said, once more."""

    def __init__(self, answers: list[list[bytes]]) -> None:
        self._answers = iter(answers)

    def receive(self, frame: bytes, now: float) -> None:
        pass

    receive_frame = receive  # as it was called once

    def frames_to_send(self, *now: float) -> list[bytes]:
        return next(self._answers)

    def next_event(self) -> None:
        return None


def play(method: str, sessions: int, path: Path) -> None:
    """Bring sessions up against the answers in a file, which is recorded where there is none."""
    import control  # of the checkout that stands first on the path

    # With chance of its own: what the sessions draw must not depend on whether there is a concentrator.
    chance, concentrator = random.Random(3).randbytes, control.Concentrator
    control.Concentrator = lambda lab, mac, _: concentrator(lab, mac, chance)  # type: ignore[misc, assignment]
    bench: Any = control.Bench(sessions, control.AuthMethod(method))
    recorder = None
    if path.exists():
        bench.concentrator = _Player(pickle.loads(path.read_bytes()))
    else:
        bench.concentrator = recorder = _Recorder(bench.concentrator)
    bench.come_up()
    if recorder is not None:
        path.write_bytes(pickle.dumps(recorder.answers))


def instructions(checkout: Path, method: str, sessions: int) -> int:
    """How many it takes to bring so many sessions up, all else included."""
    with tempfile.TemporaryDirectory() as folder:
        work = [sys.executable, __file__, "--play", method, str(sessions), f"{folder}/answers"]
        path = os.pathsep.join(map(str, (checkout / "benchmarks", checkout)))
        environment = os.environ | {"PYTHONHASHSEED": "0", "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
        subprocess.run(work, env=environment, check=True)
        counting = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out"]
        told = subprocess.run([*counting, *work], env=environment, check=True, capture_output=True, text=True).stderr
    found = re.search(r"Collected : (\d+)", told)
    assert found is not None, told
    return int(found[1])


def main() -> None:
    """Print, for each method, what a session costs in each checkout."""
    here = Path(__file__).resolve().parents[1]
    checkouts = [*map(Path, sys.argv[1:]), here]
    for method in METHODS:
        for checkout in checkouts:
            more = instructions(checkout.resolve(), method, MANY) - instructions(checkout.resolve(), method, FEW)
            print(f"set-up, {method:<9} {more // (MANY - FEW):>10,} instructions a session in {checkout}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--play"]:
        play(sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
    else:
        main()
