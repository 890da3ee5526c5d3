"""What goes wrong again and again at the proxies, told to the operator once a minute of each kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from engine.proxy.messages import Tell

QUIET = 60.0
"""Seconds from one to the next of a kind."""
WARNING = 2
_PASSWORD = "proxy-password"


class Complaints:
    """All kinds of them."""

    def __init__(self, clock: Callable[[], float], send: Callable[[Tell], None]) -> None:
        self._clock = clock
        self._send = send
        self._quiet: dict[str, float] = {}
        """Until when a kind is not told again."""
        self._strangers = Counter[str]()
        """Wrong names and passwords, by source, since that was told."""

    def tell(self, kind: str, text: str) -> None:
        """Unless there was one of the kind just now."""
        now = self._clock()
        if now >= self._quiet.get(kind, 0.0):
            self._quiet[kind] = now + QUIET
            self._send(Tell(WARNING, kind, text))

    def note_stranger(self, source: str) -> None:
        """A client from there gave a wrong user name or password."""
        self._strangers[source] += 1

    def sweep(self) -> None:
        """Tell of strangers, if that is due."""
        if not self._strangers or self._clock() < self._quiet.get(_PASSWORD, 0.0):
            return
        many, sources = sum(self._strangers.values()), [source for source, _ in self._strangers.most_common(3)]
        more = "" if len(self._strangers) <= len(sources) else f" and {len(self._strangers) - len(sources)} others"
        attempts = "One attempt" if many == 1 else f"{many} attempts"
        text = f"{attempts} at the proxies with a wrong user name or password, from {', '.join(sources)}{more}."
        self.tell(_PASSWORD, text)
        self._strangers.clear()
