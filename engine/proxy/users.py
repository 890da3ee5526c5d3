"""Who may use the proxies, and what a user name asks for behind the user's own name. Holds no clock and no socket.

app                         any session
app-session-home-01         that one
app-tag-blue                one of those with the tag
app-sticky-KEY              always the same one for KEY, while it is up
app-sticky-KEY-ttl-10m      the same, for that long
app-new                     one that has been given a new address
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from enum import StrEnum

from msgspec import Struct

from engine.wire.value import Veiled


class Kind(StrEnum):
    """Which session a user name asks for."""

    ANY = "any"
    SESSION = "session"
    TAG = "tag"
    STICKY = "sticky"
    NEW = "new"


class Choice(Struct, frozen=True):
    """What a user name asks for."""

    kind: Kind = Kind.ANY
    word: str = ""
    """The session's name, the tag or the key."""
    ttl: float | None = None
    """Seconds that a key keeps its session at most; None for as long as that is up."""


class User(Veiled, frozen=True):
    """Somebody who may use the proxies, with what is needed to know their password when it comes."""

    VEILED = ("digest",)

    name: str
    digest: bytes


def digest(salt: bytes, password: bytes) -> bytes:
    """What is kept of a password: nobody can read it off."""
    return hmac.digest(salt, password, hashlib.sha256)


_ASKS = re.compile(r"-(?:(session|tag)-(.+)|sticky-(.+?)(?:-ttl-([0-9]{1,6})([smhd]))?|(new))", re.DOTALL)
_WITH_NAME = re.compile(rf"(?P<own>.*?){_ASKS.pattern}", re.DOTALL)
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Users:
    """All of them. Without any, everybody may use the proxies, by whatever name."""

    def __init__(self, salt: bytes = b"", users: Iterable[User] = ()) -> None:
        self._salt = salt
        self._digests = {user.name: user.digest for user in users}

    @property
    def open_to_all(self) -> bool:
        """Whether nobody needs a name."""
        return not self._digests

    def may(self, said: str, password: bytes | None) -> bool:
        """Whether the user of that name has that password; it takes as long whether there is such a user or not."""
        if self.open_to_all:
            return self.understood(said) is not None
        found = self.understood(said)
        kept = self._digests.get(found[0], b"") if found is not None else b""
        return hmac.compare_digest(kept, digest(self._salt, password or b"")) and password is not None

    def understood(self, said: str) -> tuple[str, Choice] | None:
        """The user's own name, and what the rest asks for; None where that can't be understood."""
        if self.open_to_all:
            match = _WITH_NAME.fullmatch(said)
            return (match["own"], _choice(match)) if match is not None else (said, Choice())
        own = max((name for name in self._named(said) if name in self._digests), key=len, default=None)
        if own is None:
            return None
        rest = said[len(own) :]
        if not rest:
            return own, Choice()
        match = _ASKS.fullmatch(rest)
        return (own, _choice(match)) if match is not None else None

    @staticmethod
    def _named(said: str) -> Iterable[str]:
        """All that may be a user's own name in what was said."""
        yield said
        for at, character in enumerate(said):
            if character == "-":
                yield said[:at]


def _choice(match: re.Match[str]) -> Choice:
    kind, word, key, ttl, unit, new = match.groups()[-6:]
    if new:
        return Choice(Kind.NEW)
    if key is not None:
        return Choice(Kind.STICKY, key, float(ttl) * _UNITS[unit] if ttl else None)
    return Choice(Kind(kind), word)
