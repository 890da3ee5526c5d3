"""What was commanded: who, when, to which sessions, what came of it, and what those sessions do now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sized

from engine.api.values import Event
from souppp_tui.screens.events import EventsPage
from souppp_tui.show import words
from souppp_tui.show.paint import Span


class ActionsPage(EventsPage):
    """The events that tell of commands."""

    TITLE_WORD = "Actions"
    NONE = "Nothing has been commanded yet, here or elsewhere."
    TOGETHER = "kinds of actions"

    def see(self) -> None:
        """They are on the other page."""

    def everything(self) -> Sized:
        """All commands that are kept."""
        return self.desk.log_of_events.commands

    def gone(self) -> int:
        """Commands outlive the events that are lost."""
        return 0

    def matching(self) -> list[Event]:
        """Of all consoles and scripts, oldest first."""
        needle = self.text.casefold()
        commands = (each for each in self.desk.log_of_events.commands if each.severity >= self.severity)
        return [event for event in commands if needle in f"{event.text} {event.name}".casefold()]

    def look_at_list(self) -> None:
        """With what the sessions of the one under the cursor do now."""
        super().look_at_list()
        there = self._there()
        if there:
            lives = Counter(words.life(self.model.views[key]) for key in there)
            now = " · ".join(f"{words.count(lives[word])} {word}" for word in words.LIVES if lives[word])
            lines: list[list[Span]] = [*self._detail(), [(f" now: {now}", "accent")]]
            self.detail.show(lines)

    def _there(self) -> list[int]:
        """The sessions of the one under the cursor that still are."""
        if not self._events:
            return []
        event = self._events[self.cursor]
        own = [int(key) for key in str(dict(event.facts).get("keys", "")).split()]
        names = [engine.name for engine in self.model.engines()] if self.model.several else []
        if names and event.engine in names:
            own = [key * len(names) + names.index(event.engine) for key in own]
        return [key for key in own if key in self.model.views]

    def do_jump(self) -> None:
        """To its sessions in the table, marked."""
        there = self._there()
        if not there:
            self.desk.say("This is not about sessions that still exist.", "warning")
            return
        self.model.unmark()
        self.model.marks |= set(there)
        self.model.filter("is:marked")
        self.desk.back_to_sessions()
