"""The sessions' numbers, names and views, as other threads see them."""

from __future__ import annotations

from engine.api.values import SessionView

MAX_SESSIONS = 16384


class Roster:
    """Written by the engine thread alone; `views` may be copied by any thread at any time."""

    def __init__(self) -> None:
        self.views: list[SessionView] = []
        """In the order in which sessions were added. Replaced when one comes or goes, changed in place otherwise."""
        self.numbers = 0
        """One more than the highest number ever given out."""
        self._by_name: dict[str, int] = {}
        self._place: dict[int, int] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def number_of(self, name: str) -> int | None:
        """The session with that name."""
        return self._by_name.get(name)

    def free_number(self) -> int | None:
        """A number for another session, None if there is no room.

        A number is not used again while there are fresh ones, so that no reader takes one session for another.
        """
        if self.numbers < MAX_SESSIONS:
            return self.numbers
        return next((number for number in range(MAX_SESSIONS) if number not in self._place), None)

    def add(self, view: SessionView) -> None:
        """A session under a number from `free_number`."""
        self.numbers = max(self.numbers, view.id + 1)
        self._by_name[view.name] = view.id
        self._place[view.id] = len(self.views)
        self.views = [*self.views, view]

    def update(self, view: SessionView) -> None:
        """What has changed of a session, its name included; one that is not here is ignored."""
        place = self._place.get(view.id)
        if place is None:
            return
        before = self.views[place]
        if before.name != view.name:
            del self._by_name[before.name]
            self._by_name[view.name] = view.id
        self.views[place] = view

    def remove(self, number: int) -> None:
        """A session is gone."""
        del self._by_name[self.views[self._place[number]].name]
        self.views = [view for view in self.views if view.id != number]
        self._place = {view.id: place for place, view in enumerate(self.views)}
