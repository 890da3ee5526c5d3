"""A session that is up, as values: with this another process goes on with it."""

from __future__ import annotations

from msgspec import Struct

from engine.ipv6.settled import SettledIpv6
from engine.ppp.settled import SettledLink
from engine.wire.place import Place


class SettledSession(Struct, frozen=True):
    """Where it is and what was agreed on there. It holds no secret."""

    user: str
    service: str
    """Those it was dialled with: with other settings it is another session."""
    place: Place
    ac_name: str
    link: SettledLink
    facts: tuple[tuple[str, tuple[str, str, str, str]], ...] = ()
    """What was negotiated, for people; see `engine.ppp.facts`."""
    steps: tuple[tuple[str, float, float | None], ...] = ()
    """The steps of its set-up: name, beginning and end, by time.monotonic()."""
    ipv6: SettledIpv6 | None = None


class KeptMember(Struct, frozen=True):
    """What a fleet knows of one of its sessions, up or not; times are by time.monotonic()."""

    key: int
    name: str
    wanted: bool
    """Whether it is to be up."""
    failures: int = 0
    losses: int = 0
    flaps: int = 0
    since: float = 0.0
    up_since: float | None = None
    session: SettledSession | None = None
    """None for one that is not up: it is dialled anew, if it is wanted."""
