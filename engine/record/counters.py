"""What each session has carried, on disk beside the journal: so that no restart makes it forget.

The file is text: a line that says what it is, then a JSON object for each session. It is replaced as a whole, now and
then and at the end. What can't be read is left alone, and told.
"""

from __future__ import annotations

import math
import os
import stat
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from engine.api.values import TRAFFIC_FIELDS, BusyMonth
from engine.host.errors import Trouble
from engine.host.replacing import replace_file
from engine.settings.limits import MAX_SESSIONS

RESOLUTION = 1.01
"""A rate is known to be in a class whose end is so many times its beginning."""
CLASSES = 4000
"""Of them; the last begins at 1e17 bits per second."""
PERCENT = 95
_MAGIC = b"souppp counters 1"
_LONGEST = 512 << 20
_LOG = math.log(RESOLUTION)


class CountersError(Trouble):
    """The file can't be used or written: one line for the operator."""


class Month(msgspec.Struct):
    """How fast a session was in the 5-minute samples of a month: how many samples are in which class of rates.

    A month takes a few KB at most, and mostly far less: only classes that occurred are there.
    """

    month: str
    """Of UTC, as in `2026-11`."""
    rx: dict[int, int] = {}
    tx: dict[int, int] = {}

    def add(self, rx: float, tx: float) -> None:
        """A sample, in bits per second."""
        for counts, rate in ((self.rx, rx), (self.tx, tx)):
            place = class_of(rate)
            counts[place] = counts.get(place, 0) + 1

    @property
    def busy(self) -> BusyMonth:
        """What is shown of it."""
        return BusyMonth(self.month, sum(self.rx.values()), percentile(self.rx), percentile(self.tx))


def class_of(rate: float) -> int:
    """The class of a rate in bits per second; below 1 is the first."""
    return 0 if rate < 1 else min(CLASSES - 1, 1 + int(math.log(rate) / _LOG))


def percentile(counts: dict[int, int]) -> float:
    """The rate that PERCENT of the samples didn't exceed: the end of the class that it is in, 0 where there is none."""
    needed = math.ceil(sum(counts.values()) * PERCENT / 100)
    for place in sorted(counts):
        needed -= counts[place]
        if needed <= 0:
            return float(RESOLUTION**place) if place else 0.0
    return 0.0


class Account(msgspec.Struct):
    """One session's."""

    name: str
    since: float
    """Unix time."""
    totals: tuple[int, int, int, int] = (0, 0, 0, 0)
    """As `TRAFFIC_FIELDS`, since then."""
    proxied: tuple[int, int, int] = (0, 0, 0)
    """As `Ledger.proxied`."""
    months: list[Month] = []
    """The month before, and this one."""

    @property
    def tells_anything(self) -> bool:
        """Whether it has carried anything, ever."""
        return any(self.totals) or any(self.proxied) or any(any(month.rx) or any(month.tx) for month in self.months)

    def line(self) -> bytes:
        """As it stands in the file."""
        return msgspec.json.encode(self)


assert len(TRAFFIC_FIELDS) == 4


def counters_of(folder: Path, card: str) -> Path:
    """Where a card's file is."""
    return folder / f"{card}.counters"


class CountersFile:
    """The file of one card; whoever has the card's journal has it alone. Any thread may save."""

    def __init__(self, path: Path) -> None:
        """Nothing is read or written before `load` and `save`."""
        self._path = path
        self._lock = threading.Lock()
        self._failing = False

    def load(self) -> dict[str, Account]:
        """By name. Raises CountersError if there is a file that is none of ours, or can't be read."""
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with open(fd, "rb") as file:
                status = os.fstat(fd)
                if not stat.S_ISREG(status.st_mode) or status.st_size > _LONGEST:
                    raise ValueError("not a file of ours")
                if file.readline(64).rstrip(b"\n") != _MAGIC:
                    raise ValueError("not a file of ours")
                return dict(_accounts(file))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise CountersError(f"{self._path}: {reason}. Sessions are counted from nothing: move it away.") from None

    def rename(self, card: str) -> None:
        """The card has this name now: the file goes to where the next start looks, unless another card's is there."""
        new = counters_of(self._path.parent, card)
        with self._lock:
            if new != self._path and not os.path.lexists(new):
                with suppress(OSError):  # then it is written there the next time
                    self._path.rename(new)
                self._path = new

    def save(self, lines: Sequence[bytes]) -> str:
        """Write these, see `Account.line`; returns what to tell when the disk begins to fail, mostly nothing.

        Without any there is no file.
        """
        with self._lock:
            try:
                if lines:
                    replace_file(self._path, b"\n".join([_MAGIC, *lines, b""]))
                else:
                    self._path.unlink(missing_ok=True)
            except OSError as error:
                was, self._failing = self._failing, True
                told = f"{self._path}: {error.strerror}. The next start may not know what sessions have carried."
                return "" if was else told
            self._failing = False
            return ""


def _accounts(lines: Iterable[bytes]) -> Iterable[tuple[str, Account]]:
    """Those that can be read."""
    decoder = msgspec.json.Decoder(Account)
    for number, line in enumerate(lines):
        if number >= MAX_SESSIONS:
            return
        with suppress(msgspec.MsgspecError, ValueError):
            account = decoder.decode(line)
            yield account.name, account
