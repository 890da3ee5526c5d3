"""The board: the one thing of an engine that other threads and processes see.

Its values are immutable and replaced when something changes; each change of a session has a number, the version, which
the session's view carries. A reader keeps the version it has seen and asks for what came after. Only the engine's
thread writes. Readers need no lock: they copy what there is in one step of the interpreter and work on the copy.
"""

from __future__ import annotations

from collections import deque
from itertools import takewhile

from engine.api.values import Changes, Details, SessionView
from engine.settings.limits import MAX_SESSIONS
from engine.settings.values import SessionSettings

REMEMBERED = 4096
"""Removed sessions that readers can still be told of; one who asks later has to read everything."""


class Board:
    """Sessions by key, name and version, with the settings of their next dial and the details somebody looks at."""

    def __init__(self) -> None:
        self.version = 0
        self.keys = 0
        """One more than the highest key ever given out."""
        self.settings: dict[int, SessionSettings] = {}
        """As they are from the session's next dial on."""
        self.details: dict[int, Details] = {}
        """Of the sessions that somebody watches."""
        self._views: dict[int, SessionView] = {}
        self._latest: dict[int, SessionView] = {}
        """The same in the order of their versions: who asks for what has changed looks at no other."""
        self._by_name: dict[str, int] = {}
        self._removed: deque[tuple[int, int]] = deque(maxlen=REMEMBERED)
        """(version, key), oldest first."""

    # Any thread

    @property
    def views(self) -> tuple[SessionView, ...]:
        """All sessions, in the order in which they were added."""
        return tuple(self._views.copy().values())

    def view(self, key: int) -> SessionView | None:
        """One session, None if there is no such."""
        return self._views.get(key)

    def changes_since(self, version: int) -> Changes:
        """What came after a version; 0 asks for everything."""
        # In this order: what happens meanwhile is told now or the next time, or twice, but never not at all.
        if version == self.version != 0:
            return Changes(version, ())
        latest, views, removed = self.version, self._latest.copy(), self._removed.copy()
        forgotten = len(removed) == REMEMBERED and removed[0][0] > version
        if version == 0 or version > latest or forgotten:
            return Changes(latest, self.views, whole=True)
        changed = [*takewhile(lambda view: view.version > version, reversed(views.values()))]
        return Changes(latest, tuple(reversed(changed)), tuple(key for at, key in removed if at > version))

    # The engine's thread

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def key_of(self, name: str) -> int | None:
        """The key of the session with that name, None if there is none."""
        return self._by_name.get(name)

    def free_key(self) -> int | None:
        """A key for another session, None if there is no room.

        A key is not used again while there are fresh ones, so that no reader takes one session for another. There are
        MAX_SESSIONS of them, as a key is also a session's index in the tables of both data paths.
        """
        if self.keys < MAX_SESSIONS:
            return self.keys
        return next((key for key in range(MAX_SESSIONS) if key not in self._views), None)

    @property
    def next_version(self) -> int:
        """What the next view that is added or updated has to carry."""
        return self.version + 1

    def add(self, view: SessionView) -> None:
        """A session under a key from `free_key`."""
        self.keys = max(self.keys, view.id + 1)
        self._by_name[view.name] = view.id
        self._views[view.id] = self._latest[view.id] = view
        self.version = view.version  # last: a reader who sees the version must see the view

    def update(self, view: SessionView) -> None:
        """What has changed of a session, its name included; one that is not here, or is just the same, is ignored."""
        before = self._views.get(view.id)
        if before is None or before == view:
            return
        if before.name != view.name:
            del self._by_name[before.name]
            self._by_name[view.name] = view.id
        self.renew(view)

    def renew(self, view: SessionView) -> None:
        """The same of one that is here, has its name, and is known to differ: to find that out takes longest."""
        self._views[view.id] = view
        del self._latest[view.id]
        self._latest[view.id] = view
        self.version = view.version

    def remove(self, key: int) -> None:
        """A session is gone. Raises KeyError if it wasn't here."""
        del self._by_name[self._views.pop(key).name], self._latest[key]
        self.settings.pop(key, None)
        self.details.pop(key, None)
        self._removed.append((self.version + 1, key))
        self.version += 1
