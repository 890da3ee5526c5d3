"""What an earlier process had: which session gets its key back, and who is dialled. Without I/O."""

from __future__ import annotations

from collections.abc import Iterable

from engine.api.plural import plural
from engine.sessions.fleet import Member
from engine.sessions.settled import KeptMember
from engine.sessions.states import IDLE


class Inherited:
    """The sessions of an earlier process, by name; of a first process there are none."""

    def __init__(self, kept: Iterable[KeptMember], limit: int) -> None:
        """Keys from `limit` on don't count."""
        self._by_name = {each.name: each for each in kept if 0 <= each.key < limit}
        self.keys = 1 + max((each.key for each in self._by_name.values()), default=-1)
        """One more than the highest key that any has."""
        self.up = sum(each.session is not None for each in self._by_name.values())
        """How many were up."""
        self.gone_on = 0
        """How many of those go on; whoever sees to it counts."""

    def member(self, name: str) -> KeptMember | None:
        """The session of this name, if there was one."""
        return self._by_name.get(name)

    def key(self, name: str) -> int | None:
        """The key that it had: devices and tables are named and numbered by it."""
        kept = self._by_name.get(name)
        return kept.key if kept is not None else None

    def dials(self, member: Member) -> bool:
        """Whether a session is to be dialled at the start: one that was there, if it was wanted."""
        kept = self._by_name.get(member.session.settings.name)
        wanted = member.session.settings.autodial if kept is None else kept.wanted
        return wanted and member.session.state in IDLE

    @property
    def told(self) -> str:
        """What became of it, in a sentence; empty for a first process."""
        if not self._by_name:
            return ""
        return f"{self.gone_on:,} of {plural(self.up, 'session')} that the process before had up go on."
