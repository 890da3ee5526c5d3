"""What keeps a session from being dialled, found out before anything of it is on the line."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from engine.sessions.session import Session

SOON = 0.05
"""Seconds until a passing obstacle is looked at again."""


class Obstacle(Struct, frozen=True):
    """One obstacle."""

    text: str
    """A sentence for the operator: what is in the way, and what to do."""
    passing: bool = False
    """Whether it will be gone soon, by itself. The session waits for that; else it fails, and isn't dialled again."""
    for_all: bool = False
    """Whether it is in everybody's way: nobody is dialled as long as it passes."""


Obstacles = Callable[[int, Session], Obstacle | None]
"""What is in the way of the session with this key, if anything is. Raises Trouble if it is something of the host's that
may change, as a device or a namespace that comes with its boot: that is looked at again, ever more seldom."""


def none(key: int, session: Session) -> None:
    """Nothing ever is."""
