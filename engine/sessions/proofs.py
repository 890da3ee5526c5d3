"""How accounts have proven themselves to concentrators: what those may not ask for less than. Without I/O.

A concentrator is known by its MAC address and AC-Name, an account by its user name; of all three only a digest is kept,
so that neither a long AC-Name nor whoever reads the file (`engine.record.proofs`) gets anything out of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from engine.ppp import strength
from engine.settings.values import AuthMethod

MAX_PROOFS = 65_536
"""Accounts at concentrators that are remembered; the one that was seen longest ago makes room."""
MAX_CONCENTRATORS = 1_024
"""Concentrators of which is remembered what was told of them."""

Pair = tuple[bytes, str]
"""A concentrator: MAC address and AC-Name."""


class Proofs:
    """All sessions of one card share it."""

    def __init__(self, known: Mapping[bytes, AuthMethod] | None = None) -> None:
        """`known` is `strongest` of an earlier run."""
        self.strongest: dict[bytes, AuthMethod] = dict(known or {})
        """The strongest method by the account's digest, that of whoever was seen last behind all others."""
        self.changes = 0
        """How often `strongest` came to say something else."""
        self._content: dict[Pair, None] = {}
        self._in_clear: dict[Pair, None] = {}

    def done_before(self, concentrator: Pair, user: str) -> AuthMethod | None:
        """The strongest method by which a user has proven itself there."""
        return self.strongest.get(_digest(concentrator, user))

    def note(self, concentrator: Pair, user: str, method: AuthMethod) -> None:
        """A user has proven itself there."""
        digest = _digest(concentrator, user)
        before = self.strongest.pop(digest, None)
        now = self.strongest[digest] = strength.stronger(method, before)
        self.changes += now is not before
        while len(self.strongest) > MAX_PROOFS:
            del self.strongest[next(iter(self.strongest))]

    def takes_suggestions(self, concentrator: Pair) -> bool:
        """Whether it may be asked for a better method than its own."""
        return concentrator not in self._content

    def gave_up(self, concentrator: Pair) -> None:
        """It was asked for a better method, and left."""
        _remember(self._content, concentrator)

    def first_in_clear(self, concentrator: Pair) -> bool:
        """A password goes there in clear; whether that is the first one of this run."""
        is_new = concentrator not in self._in_clear
        _remember(self._in_clear, concentrator)
        return is_new


def _remember(concentrators: dict[Pair, None], concentrator: Pair) -> None:
    concentrators[concentrator] = None
    while len(concentrators) > MAX_CONCENTRATORS:
        del concentrators[next(iter(concentrators))]


def _digest(concentrator: Pair, user: str) -> bytes:
    mac, ac_name = concentrator
    parts = (mac, ac_name.encode(errors="surrogateescape"), user.encode(errors="surrogateescape"))
    return hashlib.blake2b(b"".join(len(part).to_bytes(4, "big") + part for part in parts), digest_size=16).digest()
