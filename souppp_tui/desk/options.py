"""What the command line can set about the console."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from msgspec import Struct, field

from engine.settings.console import OwnCommand
from engine.settings.reload import Change
from engine.settings.values import SessionSettings

Save = Callable[[Sequence[Change]], None]
"""Writes changes to the configuration file, all or none of them.

Raises OSError or ValueError, whose text is one line for the operator.
"""

SaveFilter = Callable[[str, str | None], None]
"""Writes a filter's name and what it stands for to the configuration file; None forgets it. Raises as Save does."""

Load = Callable[[], tuple[SessionSettings, ...]]
"""Reads the sessions of the configuration file again. Raises OSError or ValueError as above; it may have many lines."""


class ConsoleOptions(Struct, frozen=True):
    """How the console looks and what it may do."""

    read_only: bool = False
    """Show everything, change nothing."""
    theme: str = "auto"
    """A name from `souppp_tui.show.themes.NAMES`, or `auto`: dark, but ansi on a terminal with 16 colours or fewer."""
    mouse: bool = True
    columns: tuple[str, ...] = ()
    """Keys from `souppp_tui.show.columns.COLUMNS`, in the order wanted; empty takes the usual ones."""
    keys: Mapping[str, str] = field(default_factory=dict)
    """Other keys for actions: the action's name to one or more key names with commas between."""
    commands: Mapping[str, OwnCommand] = field(default_factory=dict)
    """Programs of the operator's by the key that runs them."""
    why_not_own: Callable[[OwnCommand, int], str] = lambda own, place: ""
    """Why one of them is not run for a session of the engine at a place; empty where it is."""
    filters: Mapping[str, str] = field(default_factory=dict)
    """Filters that have a name, by that."""
    confirm_above: int = 10
    """An action on more sessions than this asks first, whatever it does."""
    attached: bool = False
    """The engine is elsewhere and goes on when the console is left."""
    may_go_on: bool = False
    """The engine, here, can go on when the console is left."""
    save: Save | None = None
    save_filter: SaveFilter | None = None
    load: Load | None = None
    capture_folder: Path = Path(".")
    period: float = 0.5
    """Seconds between two looks at the engine; 0 looks only when told to (tests)."""
