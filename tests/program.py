"""The program as its users run it: a process of its own, whose JSON lines are read as they come."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from tests.conftest import ROOT, run
from tests.stories import telling

COMMAND = (sys.executable, "-m", "souppp_tui.commands.cli")
PATIENCE = 90.0
"""Seconds to wait for what takes a fraction of that on an idle machine."""

_T = TypeVar("_T")
Said = dict[str, Any]


def until(look: Callable[[], _T], what: str, seconds: float = PATIENCE) -> _T:
    """Look again and again until there is something to see; it fails, saying what was missed, if there never is."""
    end = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < end, f"never saw {what}"
        time.sleep(0.02)
    return seen


class Program:
    """One run of souppp-tui without a screen."""

    def __init__(self, *arguments: str | Path, within: Sequence[str | Path] = (), **environment: str) -> None:
        """`within` is the beginning of the command line, as for another namespace; it must exec what follows."""
        self.process = subprocess.Popen(
            [*map(str, within), *COMMAND, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, **environment},
        )
        self.pid = self.process.pid
        self.said: list[Said] = []
        self.complaints: list[str] = []
        """What it wrote to standard error, by lines."""
        self._readers = [threading.Thread(target=read, daemon=True) for read in (self._listen, self._overhear)]
        for reader in self._readers:
            reader.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(json.loads(line))

    def _overhear(self) -> None:
        assert self.process.stderr is not None
        self.complaints += (line.rstrip("\n") for line in self.process.stderr)

    def wait_for(self, wanted: Callable[[Said], bool], since: int = 0, seconds: float = PATIENCE) -> Said:
        """The first JSON object from number `since` on that is wanted, however long ago it was printed."""

        def look() -> Said | None:
            found = next(filter(wanted, self.said[since:]), None)
            assert found or self.process.poll() is None or any(r.is_alive() for r in self._readers), self.story()
            return found

        try:
            return until(look, "it", seconds)  # type: ignore[return-value]
        except AssertionError:
            raise AssertionError(f"it never said so; it said\n{self.story()}") from None

    def event(self, kind: str, session: str | None = None, since: int = 0, seconds: float = PATIENCE) -> Said:
        """The first event of this kind, of one session or any."""

        def wanted(said: Said) -> bool:
            return said.get("event") == kind and session in (None, said["session"])

        return self.wait_for(wanted, since, seconds)

    def sessions(self, count: int) -> dict[str, Said]:
        """The session objects that `--until-up` prints, by name."""
        try:
            until(lambda: len(self._session_objects()) >= count or self.process.poll() is not None, f"{count} sessions")
        except AssertionError:
            raise AssertionError(f"never saw {count} session objects:\n{self.story()}") from None
        self._settle()
        found = {said["name"]: said for said in self._session_objects()}
        assert len(found) == count, self.story()
        return found

    def up(self, count: int) -> dict[str, Said]:
        """The same, once all of them are up."""
        found = self.sessions(count)
        assert all(said["state"] == "up" for said in found.values()), self.story()
        return found

    def ended(self, seconds: float = PATIENCE) -> int:
        """Its exit code, once it has ended by itself; there must be no traceback."""
        code = self.process.wait(seconds)
        for reader in self._readers:
            reader.join(seconds)
        assert not any("Traceback" in line for line in self.complaints), self.story()
        assert not any(said.get("event") == "internal-error" for said in self.said), self.story()
        return code

    def end(self, number: int = signal.SIGTERM) -> int:
        """The same after a signal."""
        self.process.send_signal(number)
        return self.ended()

    def _session_objects(self) -> list[Said]:
        return [said for said in list(self.said) if "event" not in said]

    def _settle(self) -> None:
        if self.process.poll() is not None:
            for reader in self._readers:
                reader.join(5)

    def story(self) -> str:
        """All that it said, and how it ended."""
        return "\n".join([*map(json.dumps, self.said), *self.complaints, f"exit code {self.process.poll()}"])


@contextmanager
def running(*arguments: str | Path, within: Sequence[str | Path] = (), **environment: str) -> Iterator[Program]:
    """A run of the program that ends with the block."""
    program = Program(*arguments, within=within, **environment)
    try:
        with telling(f"the program {' '.join(map(str, arguments))}", program.story):
            yield program
    finally:
        program.process.kill()
        program.process.wait()


def refused(*arguments: str | Path, within: Sequence[str | Path] = (), **environment: str) -> tuple[int, list[str]]:
    """Exit code and complaints of a run that must end by itself."""
    with running(*arguments, within=within, **environment) as program:
        return program.ended(), program.complaints


# What a run leaves behind


def goodbyes(capture: Path) -> int:
    """How many sessions were ended in order: Terminate-Request, Terminate-Ack, PADT; each may have been sent again.

    After the PADT there is nothing but another one, and an answer to a Terminate-Request (RFC 2516 section 5.5).
    """
    frames = run("tcpdump", "-nr", capture).splitlines()
    sessions = {frame.split("[ses ")[1].split("]")[0] for frame in frames if "[ses 0x" in frame and "0x0]" not in frame}
    order = ("Term-Request", "Term-Ack", "PADT")

    def in_order(number: str) -> bool:
        about = [frame for frame in frames if f"[ses {number}]" in frame]
        rest = iter(about)
        if not all(any(word in frame for frame in rest) for word in order):
            return False
        first = next(place for place, frame in enumerate(about) if "PADT" in frame)
        return all("PADT" in frame or "Term-Ack" in frame for frame in about[first:])

    return sum(map(in_order, sessions))


def _process_namespaces() -> dict[int, int]:
    """The number of each process's network namespace, which is given out again as soon as that is gone."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/ns/net"):
        with suppress(OSError):
            found[int(path.parts[2])] = path.stat().st_ino
    return found


def descendants(pid: int) -> set[int]:
    """A process and all that it started, as far as they are its children still."""
    found = {pid}
    for task in Path(f"/proc/{pid}/task").glob("*"):
        with suppress(OSError):
            for child in (task / "children").read_text().split():
                found |= descendants(int(child))
    return found


class Traces:
    """What a running program has, taken down to see later that all of it is gone."""

    def __init__(self, pid: int) -> None:
        self.processes = descendants(pid)
        self.namespaces: set[int] = set()
        for each in self.processes:
            with suppress(OSError):
                # Held, or another test's namespace could get the number, and its processes would be counted.
                held = os.open(f"/proc/{each}/ns/net", os.O_RDONLY)
                weakref.finalize(self, os.close, held)
                self.namespaces.add(os.fstat(held).st_ino)
        self.namespaces.discard(_process_namespaces()[os.getpid()])

    def left(self) -> list[str]:
        """What is still there."""
        running = [f"process {pid}" for pid in self.processes if alive(pid)]
        inside = [f"process {pid} in {ns}" for pid, ns in _process_namespaces().items() if ns in self.namespaces]
        return running + inside


def alive(pid: int) -> bool:
    """Whether a process is there, and not only waiting to be buried."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def noted(state: Path) -> set[str]:
    """What a run has left in its state folder for the next one to clear up."""
    remembered = {".proofs", ".addresses", ".counters", ".compiled"}
    return {path.name for path in state.glob("*") if path.suffix not in remembered}
