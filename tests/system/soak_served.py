"""Consoles come and go, one stands still, others work: nobody is held up, and the engine doesn't grow.

    python -m tests.system.soak_served --sessions 10000 --seconds 3600

An engine in the lab, five consoles in terminals of their own, and short-lived clients, some of which leave in the
middle of their first picture. In each round one console is stopped by SIGSTOP for a minute; meanwhile one is killed,
one left, both come back, and a session is hung up, which all others see. The stopped one sees it when it goes on.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import socket
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from engine.api.codec import encode
from engine.api.commands import Dial, HangUp
from engine.api.hello import Hello, encode_hello, framed
from engine.api.messages import Follow
from engine.api.values import SessionState
from engine.run.client import Client, open_path, wait_for
from souppp_tui import __version__
from tests.program import COMMAND, running, until
from tests.terminal import Terminal

CONSOLES = 5
FLEETING = 20
"""Clients that come and go in each step."""
GROWTH = 8.0
"""MiB that the engine may grow by, whatever its size: the events it keeps, and what an allocator holds on to."""
SHARE = 0.03
"""And so much of what it had."""


class Console(Terminal):
    """`souppp-tui attach` in a terminal."""

    def __init__(self, folder: Path, path: Path) -> None:
        folder.mkdir()
        super().__init__(folder)
        self._path = path
        self.process = 0

    def open(self, up: int) -> None:
        """Attach, and see so many sessions up."""
        self._status.unlink(missing_ok=True)
        self.start(f"{shlex.join(COMMAND)} attach --socket {self._path}", 120, 30)
        self.shows(f"{up:,} up")
        self.process = self.pid

    def leave(self) -> None:
        """As an operator does."""
        self.type("q")
        assert self.ended() == 0
        self.close()

    def die(self) -> None:
        """As when its host is gone."""
        os.kill(self.process, signal.SIGKILL)
        self.close()


def memory(process: int) -> float:
    """MiB that a process holds, without what it shares with files."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def fleeting(path: Path) -> None:
    """A client for a moment, and one that asks for a picture and leaves without it."""
    Client(open_path(path), program="soak", release=__version__).close()
    with socket.socket(socket.AF_UNIX) as rude:
        rude.connect(str(path))
        rude.sendall(framed(encode_hello(Hello(release=__version__, program="rude"))) + framed(encode(Follow(0.05))))
        rude.recv(1)


def configuration(sessions: int, up: int) -> str:
    """That many, so many of which are dialled."""
    some = {"up": (up, "true"), "idle": (sessions - up, "false")}
    lines = [
        f'  - {{name: "{name}-{{n:05}}", user: someone, password: lab, autodial: {dialled}, count: {count}}}'
        for name, (count, dialled) in some.items()
        if count
    ]
    return "\n".join(["dial: {rate: 200}", "sessions:", *lines, ""])


class Soak:
    """An engine with its consoles."""

    def __init__(
        self, folder: Path, sessions: int, up: int, stopped: float, opened: ExitStack, tell: Callable[[str], None]
    ) -> None:
        """`up` of the sessions are dialled; `stopped` is for how many seconds a console stands still in each round."""
        self.up = up
        self.stopped = stopped
        self.tell = tell
        self.path = folder / "lab.sock"
        config = folder / "sessions.yaml"
        config.write_text(configuration(sessions, up))
        config.chmod(0o600)
        self.engine = opened.enter_context(
            running("serve", "--lab", "--config", config, "--socket", self.path, "--state-dir", folder)
        )
        until(lambda: self.path.exists() or self.engine.process.poll() is not None, "its socket")
        self.client = opened.enter_context(Client(open_path(self.path), program="soak", release=__version__))
        self.keys = [view.id for view in self.client.snapshot().sessions if view.autodial]
        self.wait_up(up, 1800.0)
        self.consoles = [Console(folder / f"console-{number}", self.path) for number in range(CONSOLES)]
        for console in self.consoles:
            opened.callback(console.close)
            console.open(up)

    def wait_up(self, count: int, seconds: float = 60.0) -> None:
        """Until so many sessions are up."""

        def so_many() -> bool:
            return sum(view.state is SessionState.UP for view in self.client.snapshot().sessions) == count

        assert wait_for(self.client, lambda _: so_many(), seconds), f"never {count} up, {self.client.lost}"

    def round(self, number: int) -> float:
        """One console stands still while others come, go and work; returns the engine's memory after it, in MiB."""
        still, killed, left, *others = self.consoles[number % CONSOLES :] + self.consoles[: number % CONSOLES]
        key = self.keys[number % len(self.keys)]
        until_then = time.monotonic() + self.stopped
        os.kill(still.process, signal.SIGSTOP)
        try:
            while True:
                killed.die()
                left.leave()
                for _ in range(FLEETING):
                    fleeting(self.path)
                self.client.submit(HangUp((key,))).result(60)
                for console in others:
                    console.shows(f"{self.up - 1:,} up")
                killed.open(self.up - 1)
                left.open(self.up - 1)
                if time.monotonic() >= until_then:
                    break
                self.client.submit(Dial((key,))).result(60)
                self.wait_up(self.up)
        finally:
            os.kill(still.process, signal.SIGCONT)
        for console in self.consoles:
            console.shows(f"{self.up - 1:,} up")
        self.client.submit(Dial((key,))).result(60)
        for console in self.consoles:
            console.shows(f"{self.up:,} up")
        until(lambda: len(self.client.clients) == CONSOLES + 1, "no more clients than there are")
        return memory(self.engine.pid)

    def run(self, seconds: float, rounds: int) -> None:
        """Rounds for so long, and so many at least; the first one is to grow in."""
        end = time.monotonic() + seconds
        held: list[float] = []
        while len(held) < rounds or time.monotonic() < end:
            held.append(self.round(len(held)))
            self.tell(f"round {len(held)}: {held[-1]:.1f} MiB")
        third = max((len(held) - 1) // 3, 1)
        before, after = statistics.median(held[1 : 1 + third]), statistics.median(held[-third:])
        self.tell(f"{before:.1f} MiB at first, {after:.1f} MiB at last")
        assert after <= before * (1 + SHARE) + GROWTH, f"the engine grew from {before:.1f} to {after:.1f} MiB: {held}"
        assert not self.client.lost
        assert self.engine.end() == 0


def soak(
    folder: Path,
    sessions: int,
    up: int,
    seconds: float,
    stopped: float,
    rounds: int,
    tell: Callable[[str], None] = print,
) -> None:
    """All of it; an AssertionError tells what went wrong."""
    with ExitStack() as opened:
        Soak(folder, sessions, up, stopped, opened, tell).run(seconds, rounds)


def main() -> None:
    """From the command line."""
    it = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    it.add_argument("--sessions", type=int, default=10_000)
    it.add_argument("--up", type=int, help="how many of these are dialled (all)")
    it.add_argument("--seconds", type=float, default=3600.0)
    it.add_argument("--stopped", type=float, default=60.0, help="seconds for which a console stands still (60)")
    options = it.parse_args()
    up = options.up or options.sessions

    def tell(line: str) -> None:
        print(line, flush=True)

    with tempfile.TemporaryDirectory() as folder:
        soak(Path(folder), options.sessions, up, options.seconds, options.stopped, rounds=3, tell=tell)


if __name__ == "__main__":
    main()
