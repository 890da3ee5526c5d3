"""What `engine.sessions.proofs` knows, on disk beside the journal: so that no restart makes it forget.

The file is text, one record a line behind the first: the digest of concentrator and account in hexadecimal, then the
method's word. It holds no password, no user name and no address, and is replaced as a whole. What can't be read is left
alone, and told; the program goes on with what it learns itself.
"""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from pathlib import Path

from engine.host.errors import Trouble
from engine.host.replacing import replace_file
from engine.ppp.lcp import AUTH_VALUES
from engine.sessions.proofs import MAX_PROOFS, Proofs
from engine.settings.values import AuthMethod

_MAGIC = "souppp proofs 1"
_RECORD = re.compile(r"([0-9a-f]{32}) ([a-z0-9]+)")
_WORDS = frozenset(map(str, AUTH_VALUES))
_LONGEST = (MAX_PROOFS + 1) * 48
"""Octets of a file that is ours."""


class ProofsError(Trouble):
    """The file can't be used or written: one line for the operator."""


def proofs_of(folder: Path, card: str) -> Path:
    """Where a card's file is."""
    return folder / f"{card}.proofs"


class ProofsFile:
    """The file of one card, for one thread; whoever has the card's journal has it alone."""

    def __init__(self, path: Path) -> None:
        """Nothing is read or written before `load` and `save`."""
        self._path = path
        self._saved = 0
        """`Proofs.changes` at the time of what is on the disk."""
        self._failing = False

    def load(self) -> Proofs:
        """What an earlier run knew. Raises ProofsError if there is a file that is none of ours, or can't be read."""
        try:
            return Proofs(_parse(self._read()))
        except FileNotFoundError:
            return Proofs()
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise ProofsError(
                f"{self._path}: {reason}. It isn't known which concentrators have done better than PAP: move it away."
            ) from None

    def rename(self, card: str) -> None:
        """The card has this name now: the file goes to where the next start looks, unless another card's is there."""
        new = proofs_of(self._path.parent, card)
        if new != self._path and not os.path.lexists(new):
            with suppress(OSError):  # then it is written there with the next change
                self._path.rename(new)
            self._path = new

    def save(self, proofs: Proofs) -> None:
        """Write what changed since it was written last, if anything has; on the disk when this returns.

        Raises ProofsError when the disk begins to fail; later calls try again.
        """
        if self._saved == proofs.changes:
            return
        lines = (f"{digest.hex()} {method}" for digest, method in proofs.strongest.items())
        try:
            replace_file(self._path, "\n".join([_MAGIC, *lines, ""]).encode())
        except OSError as error:
            if not self._failing:
                self._failing = True
                reason = f"{self._path}: {error.strerror}."
                raise ProofsError(f"{reason} At the next start a concentrator may get away with less.") from None
        else:
            self._saved, self._failing = proofs.changes, False

    def _read(self) -> str:
        fd = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode) or status.st_size > _LONGEST:
                raise ValueError("not a file of ours")
            return file.read(_LONGEST).decode("ascii")


def _parse(text: str) -> dict[bytes, AuthMethod]:
    """A line that says nothing is passed over. Raises ValueError if the first one isn't ours."""
    first, *lines = text.split("\n")
    if first != _MAGIC:
        raise ValueError("not a file of ours")
    records = filter(None, map(_RECORD.fullmatch, lines))
    return {bytes.fromhex(it[1]): AuthMethod(it[2]) for it in records if it[2] in _WORDS}
