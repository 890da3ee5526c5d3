"""How many connections there are at once of a user, through a session, from an address; and how many there may be."""

from __future__ import annotations

from collections import Counter

from engine.settings.values import ProxyLimits


class Limits:
    """Counts who is let in and who leaves."""

    def __init__(self) -> None:
        self.most = ProxyLimits()
        self._there: dict[str, Counter[str | int]] = {"user": Counter(), "session": Counter(), "source": Counter()}

    def take(self, user: str, session: int, source: str) -> bool:
        """Let one more in, unless that is too many of anything; whether it is in."""
        whose: dict[str, str | int] = {"user": user, "session": session, "source": source}
        for what, who in whose.items():
            most = getattr(self.most, what)
            if most and self._there[what][who] >= most:
                return False
        for what, who in whose.items():
            self._there[what][who] += 1
        return True

    def give_back(self, user: str, session: int, source: str) -> None:
        """One that was let in leaves."""
        for what, who in (("user", user), ("session", session), ("source", source)):
            counts = self._there[what]
            counts[who] -= 1
            if counts[who] <= 0:
                del counts[who]
