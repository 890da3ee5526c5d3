"""What goes over an engine's socket beside commands and their replies: values.

A client asks to `Follow`; from then on it gets pictures, each of what is new since the one before, and `Mirror`
(`engine.api.mirror`) makes snapshots of them. docs/PROTOCOL.md describes the whole conversation.
"""

from __future__ import annotations

from msgspec import Struct

from engine.api.values import CardView, Changes, Details, Event, Halted, Hour, Ledger, QueueView, Totals, UndoStep
from engine.settings.values import SessionSettings


class Follow(Struct, frozen=True):
    """From a client: send pictures from now on, the first at once and whole. The latest one counts."""

    period: float
    """Seconds from one picture to the next; 0 for a single one."""
    events: int = 0
    """The first picture begins with the event after this number; -1 for none of those that are past."""


class ClientView(Struct, frozen=True):
    """Somebody who is attached to the engine."""

    id: int
    user: str
    """Name of the user, or the number where it has none."""
    process: int
    program: str
    """What it calls itself: `console`, `ctl` …"""
    since: float
    writes: bool
    """Whether it may give commands."""
    safe: bool = False
    """Whether what it does is taken back when it goes."""

    @property
    def who(self) -> str:
        """As events and steps name it."""
        return f"{self.user} ({self.program} {self.process})"


class Picture(Struct, frozen=True):
    """What is new since the picture before; the first one after a `Follow` is whole."""

    at: float
    card: CardView
    queues: tuple[QueueView, ...]
    changes: Changes
    traffic: bytes
    """As in `Snapshot`; empty where it is as it was."""
    events: tuple[Event, ...]
    """Oldest first; there may be more than one picture holds, up to `last_event`."""
    lost: int
    """Events before these that are no longer kept."""
    last_event: int
    details: tuple[Details, ...]
    """Of watched sessions, where they are new."""
    try_line: str
    totals: Totals
    clients: tuple[ClientView, ...]
    halted: Halted
    steps: tuple[UndoStep, ...]
    pace: int


class AskSettings(Struct, frozen=True):
    """From a client: settings as they are from these sessions' next dial on. Answered by `SettingsOf`."""

    id: int
    keys: tuple[int, ...] | None = None
    """None for all."""


class SettingsOf(Struct, frozen=True):
    """The answer to `AskSettings`, with its number; sessions that are not there are left out. Without passwords."""

    id: int
    settings: tuple[tuple[int, SessionSettings], ...]


class AskLedgers(Struct, frozen=True):
    """From a client: what is remembered of these sessions. Answered by `LedgersOf`."""

    id: int
    keys: tuple[int, ...] | None = None
    """None for all."""


class LedgersOf(Struct, frozen=True):
    """The answer to `AskLedgers`, with its number; sessions that are not there are left out."""

    id: int
    ledgers: tuple[tuple[int, Ledger], ...]


class AskHours(Struct, frozen=True):
    """From a client: what the queues and the whole card carried in the last hour. Answered by `HoursOf`."""

    id: int


class HoursOf(Struct, frozen=True):
    """The answer to `AskHours`, with its number: by queue, and under `values.ALL` of all sessions."""

    id: int
    hours: tuple[tuple[int, Hour], ...]


class Enter(Struct, frozen=True):
    """From a client, with the descriptor of a cgroup: let it run in a session. Answered by a `Reply`.

    The cgroup is its user's own, made for that, and the client enters it after the reply; or it is the one that the
    client is in, if that is another user's: then it has been moved to one below that when the reply comes.
    """

    id: int
    session: int


class Lend(Struct, frozen=True):
    """From root, with descriptors of a network namespace and of a route netlink socket in it: answered by a `Reply`.

    The session's device is there from now on, as long as the engine runs.
    """

    id: int
    session: int
    name: str
    """Of the namespace, as below /run/netns."""


class Farewell(Struct, frozen=True):
    """The last message before the engine closes a connection."""

    reason: str
    """One line, full sentences."""
