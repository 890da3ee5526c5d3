"""When a message that wasn't answered is sent again (RFC 8415 section 15; for Router Solicitations RFC 7559)."""

from __future__ import annotations

from collections.abc import Callable
from math import inf


class Retransmission:
    """The timer of one exchange. Times are in seconds."""

    def __init__(
        self,
        entropy: Callable[[int], bytes],
        first: float,
        longest: float,
        now: float,
        *,
        times: float = inf,
        until: float = inf,
        never_early: bool = False,
        delay: float = 0.0,
    ) -> None:
        """The message is due at once, or after a `delay`. It is sent so many `times` at most, and not after `until`.

        With `never_early` the first pause is at least `first` (section 18.2.1).
        """
        self.began = now + delay
        self.at = now + delay
        """When the message is due."""
        self.sent = 0
        self.longest = longest
        self._entropy = entropy
        self._first = first
        self._times, self._until = times, until
        self._never_early = never_early
        self._pause = 0.0

    def over(self, now: float) -> bool:
        """Whether it is due, and has been sent often enough or for long enough."""
        return now >= self.at and (self.sent >= self._times or now >= self._until)

    def note_sent(self, now: float) -> None:
        """It was sent: when is it due again?"""
        chance = (self._entropy(1)[0] - 127.5) / 1275  # -0.1 to 0.1
        if not self.sent:
            chance = abs(chance) if self._never_early else chance
            self._pause = self._first + chance * self._first
        else:
            self._pause = 2 * self._pause + chance * self._pause
        if self._pause > self.longest:
            self._pause = self.longest + chance * self.longest
        self.sent += 1
        self.at = min(now + self._pause, max(self._until, now))
