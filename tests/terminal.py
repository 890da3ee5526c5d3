"""Real terminals for the console, in which tests type and read.

`Terminal` is a tmux server of its own with one window: it shows what an operator sees. `Pty` is a bare one: it may say
that it has no columns, be read by nobody, or go away.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from shlex import quote

import pytest

from tests.conftest import ROOT, run
from tests.program import PATIENCE, until

needs_tmux = pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux")


class Terminal:
    """One program in one window."""

    def __init__(self, folder: Path) -> None:
        # A socket for each test: a server that is ending takes no new session, and keeps its socket a while.
        self._server = ("tmux", "-S", str(folder / "tmux"), "-f", "/dev/null")
        self._status = folder / "status"

    def tmux(self, *arguments: str) -> str:
        """The output of a tmux command."""
        return run(*self._server, *arguments)

    def start(self, command: str, columns: int = 80, rows: int = 24) -> None:
        """Start a program by a shell's command line; its exit code is written when it ends."""
        script = f"cd {quote(str(ROOT))}; env LANG=C.UTF-8 {command}; echo $? > {quote(str(self._status))}; sleep 60"
        self.tmux("new-session", "-d", "-x", str(columns), "-y", str(rows), "sh", "-c", script)

    def type(self, *keys: str) -> None:
        """Press keys, by tmux's names."""
        self.tmux("send-keys", *keys)

    def resize(self, columns: int, rows: int) -> None:
        """Make the window larger or smaller."""
        self.tmux("resize-window", "-x", str(columns), "-y", str(rows))

    def screen(self, *options: str) -> str:
        """What the terminal shows; options are those of tmux's capture-pane."""
        return self.tmux("capture-pane", "-p", *options)

    def shows(self, *parts: str) -> str:
        """Wait until the screen shows all this, and return it."""

        def look() -> str | None:
            screen = self.screen()
            return screen if all(part in screen for part in parts) else None

        try:
            return until(look, "it") or ""
        except AssertionError:
            raise AssertionError(f"never saw {parts} but\n{self.screen()}") from None

    @property
    def pid(self) -> int:
        """The program's process."""
        shell = self.tmux("list-panes", "-F", "#{pane_pid}").strip()
        return int(Path(f"/proc/{shell}/task/{shell}/children").read_text().split()[0])

    def ended(self) -> int:
        """Wait for the program's end; its exit code."""
        until(lambda: self._status.exists() and self._status.read_text().strip(), f"its end, but\n{self.screen()}")
        return int(self._status.read_text())

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """The terminal stands still, and reads nothing of what the program writes."""
        server = int(self.tmux("display-message", "-p", "#{pid}"))
        os.kill(server, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(server, signal.SIGCONT)

    def close(self) -> None:
        """End the tmux server and all in it."""
        subprocess.run([*self._server, "kill-server"], check=False, capture_output=True, timeout=10)


def unread(descriptor: int) -> int:
    """How many octets of a pipe or terminal can be read at once."""
    return int.from_bytes(fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)), sys.byteorder)


def at_work(pid: int) -> bool:
    """Whether a thread of a process runs, or would if it were given a processor: then its silence means nothing."""
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        with suppress(OSError):
            if stat.read_text().rpartition(")")[2].split()[0] in "RD":
                return True
    return False


class Pty:
    """One program on a pseudo-terminal; what it writes waits there until it is read."""

    def __init__(
        self, command: Sequence[str], columns: int = 80, rows: int = 24, controls: bool = True, **environment: str
    ) -> None:
        """Start a program; `controls`: it gets SIGHUP when the terminal goes."""
        self._terminal, self._end = pty.openpty()
        self.resize(columns, rows)
        self.written = b""
        """What was read so far."""

        def take() -> None:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        usual = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            command,
            stdin=self._end,
            stdout=self._end,
            stderr=self._end,
            start_new_session=True,
            preexec_fn=take if controls else None,
            cwd=ROOT,
            env={**usual, "TERM": "xterm-256color", "LANG": "C.UTF-8", **environment},
        )

    def resize(self, columns: int, rows: int) -> None:
        """Say another size."""
        fcntl.ioctl(self._end, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, octets: bytes) -> None:
        """Press keys."""
        os.write(self._terminal, octets)

    def read(self, seconds: float = 0.05) -> bytes:
        """What there is to read now, or what comes first within some time."""
        if not select.select([self._terminal], [], [], seconds)[0]:
            return b""
        try:
            octets = os.read(self._terminal, 1 << 16)
        except OSError:  # nobody has the other end any more
            octets = b""
        self.written += octets
        return octets

    def screen(self) -> str:
        """What a terminal shows that was sent this: lines with nothing behind them."""
        rows: dict[int, dict[int, str]] = {}
        y = x = 0
        text = re.sub(r"\x1b\][^\x07]*\x07", "", self.written.decode("utf-8", "replace"))
        for place, _, character in re.findall(r"\x1b\[([\d;]+)H|(\x1b\[[0-9;?<>=$]*[A-Za-z]|\x1b.)|(.)", text):
            if place:
                y, x = (int(part) - 1 for part in place.split(";"))
            elif character:
                rows.setdefault(y, {})[x] = character
                x += 1
        lines = (rows.get(y, {}) for y in range(max(rows, default=-1) + 1))
        return "\n".join("".join(line.get(x, " ") for x in range(max(line, default=-1) + 1)).rstrip() for line in lines)

    @property
    def height(self) -> int:
        """How many rows were written to since `forget`."""
        return self.screen().count("\n") + 1

    def forget(self) -> None:
        """Act as if nothing had been written."""
        self.written = b""

    def shows(self, part: str) -> None:
        """Read until the screen shows this."""
        end = time.monotonic() + PATIENCE
        while part not in self.screen():
            assert time.monotonic() < end, f"never saw {part} but\n{self.screen()}"
            self.read()

    def rests(self, seconds: float = 1.0) -> None:
        """Read until nothing was written for a while by a program that had nothing to do."""
        end = time.monotonic() + PATIENCE
        while self.read(seconds) or at_work(self.process.pid):
            assert time.monotonic() < end, "it never came to rest"

    def fills(self) -> int:
        """Wait, without reading, until nothing more gets in; returns how many octets can be read at once."""

        def takes_more() -> bool:
            return at_work(self.process.pid) or bool(select.select([], [self._end], [], 0)[1])

        until(lambda: not any(takes_more() or time.sleep(0.02) for _ in range(5)), "a terminal that is full")
        return unread(self._terminal)

    def hold(self) -> None:
        """As by Ctrl-S."""
        termios.tcflow(self._end, termios.TCOOFF)

    def go_away(self) -> None:
        """As when the connection breaks."""
        os.close(self._terminal)
        os.close(self._end)
        self._terminal = self._end = -1

    def ended(self, read: bool = True) -> int:
        """Wait for the program's end, reading meanwhile or not; its exit code."""
        until(
            lambda: self.process.poll() is not None or (read and self.read() and False), f"its end but\n{self.screen()}"
        )
        return self.process.wait()

    def close(self) -> None:
        """End the program if it is still there."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for descriptor in (self._terminal, self._end):
            if descriptor >= 0:
                os.close(descriptor)
