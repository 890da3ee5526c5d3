"""How fast and how quiet the console is, measured through a real pseudo-terminal.

    make bench-console

The console runs in a process of its own on the scripted engine of its tests, as an operator would see it, and this
process plays the terminal: it counts the bytes, sends keys and reads the CPU time of the console's main thread (the
scripted engine has a thread of its own, so its work does not count). The start of the whole program is measured on the
embedded lab, which needs root.
"""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SCRIPTED = (sys.executable, "-m", "tests.console.scripted")
LAB = (str(Path(sys.executable).with_name("souppp-tui")), "--lab")
TICKS = os.sysconf("SC_CLK_TCK")


class Terminal:
    """A console in a pseudo-terminal of `columns` x `rows`."""

    def __init__(
        self, arguments: Sequence[str], columns: int = 80, rows: int = 24, command: Sequence[str] = SCRIPTED
    ) -> None:
        self.started = time.monotonic()
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(ROOT)
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", "LANG": "C.UTF-8"}
            environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an operator's second start finds everything compiled
            os.execvpe(command[0], [*command, *arguments], environment)

    def read(self, seconds: float) -> bytes:
        """All that is written in this time."""
        end = time.monotonic() + seconds
        parts = []
        while (left := end - time.monotonic()) > 0:
            if select.select([self.fd], [], [], left)[0]:
                parts.append(os.read(self.fd, 65536))
        return b"".join(parts)

    def read_until(self, text: bytes, seconds: float) -> float:
        """How long after the start `text` was written. Raises TimeoutError."""
        seen = b""
        while time.monotonic() - self.started < seconds:
            if select.select([self.fd], [], [], 0.1)[0]:
                seen = seen[-200:] + os.read(self.fd, 65536)
                if text in seen:
                    return time.monotonic() - self.started
        raise TimeoutError(f"the console never wrote {text!r}")

    def key_to_paint(self, key: bytes) -> float:
        """Seconds from a key to the first byte it causes, or to another that happened to come."""
        while select.select([self.fd], [], [], 0)[0]:
            os.read(self.fd, 65536)
        at = time.monotonic()
        os.write(self.fd, key)
        if not select.select([self.fd], [], [], 2)[0]:
            raise TimeoutError("no answer to a key in 2 s")
        return time.monotonic() - at

    def cpu(self) -> float:
        """CPU seconds of the main thread so far."""
        fields = Path(f"/proc/{self.pid}/task/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def spent(self, key: bytes) -> float:
        """Milliseconds of the main thread's processor time for a key, until it does nothing more for a while."""

        def nanoseconds() -> int:
            return int(Path(f"/proc/{self.pid}/task/{self.pid}/schedstat").read_text().split()[0])

        before = now = nanoseconds()
        os.write(self.fd, key)
        quiet, end = 0, time.monotonic() + 5
        while quiet < 3 and time.monotonic() < end:
            self.read(0.03)
            last, now = now, nanoseconds()
            quiet = 0 if now != last or now == before else quiet + 1
        return (now - before) / 1e6

    def memory(self) -> float:
        """Megabytes of memory that are its own or shared, at present."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6

    def close(self) -> None:
        """End it and wait for its end."""
        os.kill(self.pid, signal.SIGTERM)
        while True:
            try:
                self.read(0.05)
            except OSError:
                break
        os.waitpid(self.pid, 0)
        os.close(self.fd)


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of the values does not exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def first_paint(command: Sequence[str], *arguments: str) -> float:
    """Seconds from the start of Python to the first full screen; the middle of several starts but the first."""
    times = []
    for _ in range(6):
        terminal = Terminal(arguments, command=command)
        times.append(terminal.read_until(b"quit", 20))
        terminal.read(0.3)
        terminal.close()
    return statistics.median(times[1:])


ALONE = """
import struct, sys, time
with open(sys.argv[1], "rb", buffering=0) as pipe, open(sys.argv[1] + ".late", "w") as late:
    while moment := pipe.read(8):
        late.write(f"{time.monotonic() - struct.unpack('d', moment)[0]!r}\\n")
"""


def wake_up_jitter() -> tuple[list[float], list[float]]:
    """How late a thread wakes, in seconds, that waits for frames while the screen changes and keys are pressed.

    Then the same for a process that does nothing else, woken in turn with it: what the machine adds. The scripted
    engine's own work is kept small, because the thread it would hold up stands for the engine.
    """
    with tempfile.TemporaryDirectory() as folder:
        beside, alone = Path(folder) / "beside", Path(folder) / "alone"
        os.mkfifo(beside)
        os.mkfifo(alone)
        terminal = Terminal(["--sessions", "10000", "--busy", "100", "--wakeups", str(beside)], 120, 40)
        process = subprocess.Popen([sys.executable, "-c", ALONE, str(alone)])
        with beside.open("wb", buffering=0) as one, alone.open("wb", buffering=0) as other:
            terminal.read(4)
            for number in range(4000):
                (other if number % 2 else one).write(struct.pack("d", time.monotonic()))
                if number % 20 == 0:
                    os.write(terminal.fd, b"j")
                terminal.read(0.005)
        terminal.read(0.5)
        terminal.close()
        process.wait()
        late = [[float(line) for line in Path(f"{pipe}.late").read_text().split()] for pipe in (beside, alone)]
        return late[0], late[1]


def bytes_per_second(busy: int) -> float:
    """What reaches the terminal with this many sessions carrying traffic."""
    terminal = Terminal(["--sessions", "1000", "--busy", str(busy), "--hz", "1"])
    terminal.read(4)
    size = len(terminal.read(10))
    terminal.close()
    return size / 10


def big(engines: int = 1) -> tuple[float, float, list[float], list[float]]:
    """With 10,000 sessions, of one engine or of several.

    CPU share plain and sorted by rate, seconds from key to action and from key to paint.
    """
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "commands"
        arguments = ["--sessions", "10000", "--busy", "10000", "--engines", str(engines), "--commands", str(log)]
        terminal = Terminal(arguments, 120, 40)
        terminal.read(4)
        before, at = terminal.cpu(), time.monotonic()
        terminal.read(10)
        plain = (terminal.cpu() - before) / (time.monotonic() - at)
        paints = []
        for number in range(150):
            paints.append(terminal.key_to_paint(b"j" if number % 2 else b"k"))
            terminal.read(0.037)
        sent = []
        for _ in range(150):  # capture starts and stops without a question, so a key is an action
            sent.append(time.monotonic())
            os.write(terminal.fd, b"c")
            terminal.read(0.071)
        os.write(terminal.fd, b"/rx>1k\r" + b"s" * 9)
        terminal.read(2)
        before, at = terminal.cpu(), time.monotonic()
        terminal.read(10)
        sorting = (terminal.cpu() - before) / (time.monotonic() - at)
        terminal.close()
        done = [float(line) for line in log.read_text().split()]
        return plain, sorting, [b - a for a, b in zip(sent, done, strict=True)], paints


def processor() -> tuple[list[float], list[float], list[float], float]:
    """Processor time, which a busy machine disturbs least, of 10,000 sessions without looks in between.

    Milliseconds for `j`, for each letter of filters, for sorts by columns; and the memory after all that.
    """
    terminal = Terminal(["--sessions", "10000", "--busy", "3000", "--hz", "0.2", "--period", "0"], 120, 40)
    terminal.read(5)
    moves = [terminal.spent(b"j" if number % 20 < 10 else b"k") for number in range(100)]
    letters: list[float] = []
    for text in (b"home-0012", b"100.64.3.17", b"state=up", b"ac:bras-2", b"rx>10M"):
        terminal.spent(b"/")
        letters += [terminal.spent(bytes([letter])) for letter in text]
        terminal.spent(b"\r")
        terminal.spent(b"\x1b")
    sorts = []
    for column in b"nsapcimurtvd6eU":
        terminal.spent(b"b")
        sorts.append(terminal.spent(bytes([column])))
    memory = terminal.memory()
    terminal.close()
    return moves, letters, sorts, memory


def main() -> int:
    """Measure, print, and return 1 if a target is missed."""
    plain, sorting, actions, paints = big()
    plain_of_two, sorting_of_two, actions_of_two, _ = big(engines=2)
    beside, alone = wake_up_jitter()
    moves, letters, sorts, memory = processor()
    rows = (
        ("processor for j, 10,000 sessions, p95", percentile(moves, 0.95), 5.0, "ms"),
        ("the same, median", statistics.median(moves), None, "ms"),
        ("processor for a letter of a filter, p95", percentile(letters, 0.95), 50.0, "ms"),
        ("the same, median", statistics.median(letters), None, "ms"),
        ("processor for a sort, p95", percentile(sorts, 0.95), 100.0, "ms"),
        ("the same, median", statistics.median(sorts), None, "ms"),
        ("memory with 10,000 sessions", memory, 250.0, "MB"),
        ("bytes/s at 80x24, 50 rows changing each second", bytes_per_second(50), 5000.0, "B/s"),
        ("bytes/s at 80x24, idle", bytes_per_second(0), 300.0, "B/s"),
        ("key to action, 10,000 sessions, p95", percentile(actions, 0.95) * 1000, 10.0, "ms"),
        ("key to paint, 10,000 sessions, p95", percentile(paints, 0.95) * 1000, None, "ms"),
        ("CPU with 10,000 sessions at 2 Hz", plain * 100, 5.0, "%"),
        ("the same, filtered and sorted by rate", sorting * 100, None, "%"),
        ("key to action, two engines of 5,000, p95", percentile(actions_of_two, 0.95) * 1000, 10.0, "ms"),
        ("CPU with two engines of 5,000 at 2 Hz", plain_of_two * 100, 8.0, "%"),
        ("the same, filtered and sorted by rate", sorting_of_two * 100, None, "%"),
        ("wake-up jitter beside a busy screen, p99", percentile(beside, 0.99) * 1000, 1.0, "ms"),
        ("the same, p95", percentile(beside, 0.95) * 1000, None, "ms"),
        ("the same in a process by itself, p99", percentile(alone, 0.99) * 1000, None, "ms"),
        ("start to first paint", first_paint(SCRIPTED, "--sessions", "100") * 1000, 500.0, "ms"),
        *((("start to first paint, the lab", first_paint(LAB) * 1000, 1000.0, "ms"),) if os.geteuid() == 0 else ()),
    )
    missed = 0
    for name, value, target, unit in rows:
        verdict = "" if target is None else f"   to reach ≤ {target:g}   {'yes' if value <= target else 'NO'}"
        missed += target is not None and value > target
        print(f"{name:50} {value:8.1f} {unit:4}{verdict}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
