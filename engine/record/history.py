"""Which addresses each session had, and when: kept on disk, so that no restart makes it forget.

The file is text, one record a line behind the first: `+` had it or `-` lost it, the Unix time, the address and the
session's name. Records are appended; one that is torn says nothing. A file that has grown long is replaced, by rename,
by one that says the same in fewer lines. What can't be read is left alone, and told.
"""

from __future__ import annotations

import os
import re
import stat
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from msgspec.structs import replace

from engine.api.values import AddressSpan
from engine.host.errors import Trouble
from engine.host.replacing import replace_file, write_all

SPANS = 100
"""Kept of each session."""
TOTAL = 100_000
"""Of all together, those that are gone among them; sessions that had no new address for longest lose theirs first."""
SAME = 2.0
"""Seconds by which times of one moment may differ, as they are measured at different ones."""
SLACK = 4096
"""Lines that may be superfluous before the file is replaced."""
_PENDING = 20_000
"""Records that wait for a disk that fails; with more, all is written anew when it works again."""
_LONGEST = 64 << 20
_MAGIC = "souppp addresses 1"
_RECORD = re.compile(r"([+-]) (\d+\.\d{3}) ([0-9A-Fa-f.:/]+) (.+)")


class HistoryError(Trouble):
    """The file can't be used or written: one line for the operator."""


def history_of(folder: Path, card: str) -> Path:
    """Where a card's file is."""
    return folder / f"{card}.addresses"


class History:
    """By session's name. One thread writes; any thread may ask for the spans `of` a session."""

    def __init__(self) -> None:
        self._spans: OrderedDict[str, list[AddressSpan]] = OrderedDict()
        self._open: dict[str, dict[str, AddressSpan]] = {}
        """Those that it has now, or that an earlier run has left open, by address."""
        self._inherited: set[tuple[str, str]] = set()
        """The latter: session and address."""
        self._total = 0
        self.pending: list[str] = []
        """Records that are not on the disk."""
        self.moved = False
        """Whether some on the disk are of times that weren't."""

    def set_clock(self, by: float) -> None:
        """The host's clock was set by so many seconds: what a session has now it has had for as long as before."""
        for name, there in self._open.items():
            for address, span in there.items():
                if (name, address) not in self._inherited:
                    there[address] = self._exchange(name, span, replace(span, since=max(span.since + by, 0.0)))
                    self.moved = True

    def of(self, name: str) -> tuple[AddressSpan, ...]:
        """Oldest first."""
        spans = self._spans.get(name)
        return tuple(spans.copy()) if spans is not None else ()

    def look(self, name: str, addresses: Iterable[str], up_since: float | None, now: float) -> None:
        """A session has these addresses now, no others; all times are Unix times."""
        there = self._open.get(name)
        has = dict.fromkeys(addresses)
        if there is None and not has:
            return
        for address, span in [*(there or {}).items()]:
            if up_since is not None and span.since < up_since - SAME:
                self._close(name, span, None if (name, address) in self._inherited else up_since)
            elif address not in has:
                self._close(name, span, None if (name, address) in self._inherited else now)
            self._inherited.discard((name, address))
        for address in has:
            if address not in self._open.get(name, {}):
                self._begin(name, AddressSpan(address, now))

    def _begin(self, name: str, span: AddressSpan, noted: bool = False) -> None:
        spans = self._spans.setdefault(name, [])
        self._spans.move_to_end(name)
        if len(spans) >= SPANS:
            self._drop(name, spans)
        spans.append(span)
        self._total += 1
        while self._total > TOTAL:
            first, oldest = next(iter(self._spans.items()))
            self._spans.move_to_end(first)
            self._drop(first, oldest)
            if not oldest:
                del self._spans[first]
        self._open.setdefault(name, {})[span.address] = span
        if not noted:
            self.pending.append(_record("+", span.since, span.address, name))

    def _drop(self, name: str, spans: list[AddressSpan]) -> None:
        """Forget the oldest that is over."""
        there = self._open.get(name, {})
        over = next((place for place, span in enumerate(spans) if there.get(span.address) is not span), None)
        if over is not None:
            del spans[over]
            self._total -= 1

    def _close(self, name: str, span: AddressSpan, until: float | None, noted: bool = False) -> None:
        """It is over; None where nobody knows since when, as the run that knew was killed."""
        there = self._open[name]
        del there[span.address]
        if not there:
            del self._open[name]
        self._exchange(name, span, replace(span, until=until, known=until is not None))
        if until is not None and not noted:
            self.pending.append(_record("-", until, span.address, name))

    def _exchange(self, name: str, span: AddressSpan, for_: AddressSpan) -> AddressSpan:
        spans = self._spans[name]
        for place in range(len(spans) - 1, -1, -1):
            if spans[place] is span:
                spans[place] = for_
                break
        return for_

    def read(self, lines: Iterable[str]) -> int:
        """Take in what an earlier run has written, but for what says nothing; returns how many lines there were."""
        number = 0
        for line in lines:
            number += 1
            if (found := _RECORD.fullmatch(line)) is None:
                continue
            sign, at, address, name = found[1], float(found[2]), found[3], found[4]
            span = self._open.get(name, {}).get(address)
            if span is not None:
                self._close(name, span, at if sign == "-" else None, noted=True)
            if sign == "+":
                self._begin(name, AddressSpan(address, at), noted=True)
        self._inherited = {(name, address) for name, there in self._open.items() for address in there}
        return number

    def lines(self) -> Iterator[str]:
        """All that is known, as records."""
        for name, spans in self._spans.items():
            for span in spans:
                yield _record("+", span.since, span.address, name)
                if span.until is not None:
                    yield _record("-", span.until, span.address, name)

    def __len__(self) -> int:
        return self._total


def _record(sign: str, at: float, address: str, name: str) -> str:
    return f"{sign} {at:.3f} {address} {name}"


class HistoryFile:
    """The file of one card, for one thread; whoever has the card's journal has it alone."""

    def __init__(self, path: Path) -> None:
        """Nothing is read or written before `load` and `save`."""
        self._path = path
        self._lines = 0
        self._stale = True
        """The file isn't there, or may lack something: the next record replaces it."""
        self._failing = False

    def load(self) -> History:
        """What earlier runs knew. Raises HistoryError if there is a file that is none of ours, or can't be read."""
        history = History()
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with open(fd, encoding="utf-8", errors="replace", newline="\n") as file:
                status = os.fstat(fd)
                if not stat.S_ISREG(status.st_mode) or status.st_size > _LONGEST:
                    raise ValueError("not a file of ours")
                if file.readline().rstrip("\n") != _MAGIC:
                    raise ValueError("not a file of ours")
                self._lines = history.read(line.removesuffix("\n") for line in file)
        except FileNotFoundError:
            return history
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise HistoryError(
                f"{self._path}: {reason}. The addresses of earlier runs are not known: move it away."
            ) from None
        return history

    def rename(self, card: str) -> None:
        """The card has this name now: the file goes to where the next start looks, unless another card's is there."""
        new = history_of(self._path.parent, card)
        if new != self._path and not os.path.lexists(new):
            with suppress(OSError):  # then it is written there with the next change
                self._path.rename(new)
            self._path, self._stale = new, True

    def save(self, history: History) -> None:
        """Write what is not on the disk. Raises HistoryError when the disk begins to fail; later calls try again."""
        if not (history.pending or history.moved):
            return
        new, history.pending = history.pending, []
        try:
            if self._stale or history.moved or self._lines + len(new) > 2 * len(history) + SLACK:
                lines = [_MAGIC, *history.lines(), ""]
                replace_file(self._path, "\n".join(lines).encode(errors="replace"))
                self._lines = len(lines)
            else:
                self._append("".join(f"{line}\n" for line in new).encode(errors="replace"))
                self._lines += len(new)
            self._stale = self._failing = history.moved = False
        except OSError as error:
            self._stale = True
            history.pending = new[-_PENDING:]
            if not self._failing:
                self._failing = True
                raise HistoryError(
                    f"{self._path}: {error.strerror}. The next start may not know which addresses sessions had."
                ) from None

    def _append(self, octets: bytes) -> None:
        fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            write_all(fd, octets)
        finally:
            os.close(fd)
