"""What a page may ask of the app.

Pages know this and no more, and call each other by a word (`souppp_tui.desk.actions.ANY`): the app alone knows them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from engine.api.commands import Command, Reply, ServiceCommand
from engine.api.engine import EngineApi
from engine.api.values import Event, SessionView
from engine.settings.reload import Change
from souppp_tui.desk.actions import Action
from souppp_tui.desk.options import ConsoleOptions
from souppp_tui.model.doing import Doing
from souppp_tui.model.model import EventLog, Model
from souppp_tui.show.paint import Span
from souppp_tui.show.words import Times


class Desk(Protocol):
    """The app, as its pages see it."""

    columns: tuple[str, ...]
    """Keys of the table's columns as the operator wants them; empty takes the usual ones."""
    masked: bool
    """Whether names and addresses are hidden; who changes it, looks."""
    times: Times
    """How times are shown; who changes it, looks."""
    frozen: bool
    """Whether the display stands still; who changes it, pulls and looks."""
    message: Span | None
    """What is said in place of the keys."""
    breaks: Sequence[int]
    """As `EngineApi.breaks` was when safe mode began."""
    safe: dict[int | None, int] | None
    """In safe mode: by the engines' places, the first step that is taken back when the terminal goes."""
    doing: Doing | None
    """What was begun with several sessions and is under way."""

    @property
    def engine(self) -> EngineApi:
        """What is looked at; commands go through `submit`."""
        ...

    @property
    def options(self) -> ConsoleOptions:
        """What the command line and the configuration say."""
        ...

    @property
    def model(self) -> Model:
        """What the console knows of the sessions."""
        ...

    @property
    def log_of_events(self) -> EventLog:
        """What it knows of events."""
        ...

    # -- what is shown

    def pull(self) -> None:
        """Take the engine's latest snapshot and events."""
        ...

    def look(self) -> None:
        """Show what is known."""
        ...

    def redraw(self) -> None:
        """Write the whole screen, whatever the terminal shows."""
        ...

    def set_theme(self, name: str) -> None:
        """Change all colours."""
        ...

    def next_theme(self) -> str:
        """The same with the theme after this one; returns its name."""
        ...

    def mask(self, view: SessionView) -> SessionView:
        """The session as it may be shown."""
        ...

    def mask_event(self, event: Event) -> Event:
        """The event as it may be shown."""
        ...

    def mask_text(self, text: str, session: int | None) -> str:
        """A text about a session as it may be shown."""
        ...

    def keys_of(self, action: Action) -> str:
        """The keys of an action as the operator knows them."""
        ...

    # -- what is done

    def submit(
        self, command: Command | ServiceCommand, told: Callable[[Reply], None], place: int | None = None
    ) -> None:
        """Have the engine carry a command out; `told` is called with its reply, on the app's own thread.

        Of several engines the one at `place` is asked, or with None those that the command is about.
        """
        ...

    def say(self, text: str, role: str = "accent") -> None:
        """Show a message in place of the keys, until the next key; an empty text takes it away."""
        ...

    def open(self, page: str, session: int | None = None) -> None:
        """Open a page on top, for a session if it is about one; one that is open already is left first."""
        ...

    def back_to_sessions(self) -> None:
        """Leave all pages but the first."""
        ...

    def name_filter(self, name: str, written: str | None) -> None:
        """Give a filter a name, or forget the one that has it, here and in the configuration file if there is one."""
        ...

    def save(self, changes: Sequence[Change]) -> None:
        """Write changes to the configuration file, if there is one."""
        ...
