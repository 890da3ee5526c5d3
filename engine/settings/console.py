"""What the configuration can say about the console: names only, what they stand for is in the console itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

THEMES = ("auto", "dark", "light", "contrast", "ansi")
COLUMNS = (
    *("name", "state", "address", "prefix", "ac", "sid", "mtu", "uptime", "rx", "tx", "rxp", "txp"),
    *("user", "service", "device", "peer", "dns", "ipv6", "mac", "acmac", "vlan", "rtt", "setup", "flaps"),
    *("tags", "mark", "proxy", "connections", "rxsum", "txsum"),
)
ACTIONS = (
    *("dial", "hang_up", "redial", "rotate", "mark", "mark_range", "mark_shown", "unmark", "filter", "details"),
    *("fields", "switch", "group", "jump", "capture", "add", "edit", "remove", "copy", "sort", "reverse", "columns"),
    *(
        "events",
        "card",
        "follow",
        "severity",
        "write",
        "addresses",
        "reset_counters",
        "clear_ghosts",
        "fix_card",
        "reload",
        "mask",
        "zero",
        "freeze",
        "theme",
    ),
    *("redraw", "commands", "help", "back", "quit", "end", "up", "down", "page_up", "page_down", "top", "bottom"),
)


@dataclass(frozen=True, slots=True)
class ConsoleSettings:
    """How the console looks and is used."""

    theme: str = "auto"
    """One of THEMES; `auto` is dark, but ansi on a terminal with 16 colours or fewer."""
    columns: tuple[str, ...] = ()
    """Of COLUMNS, in the order wanted; empty takes the usual ones."""
    keys: Mapping[str, str] = field(default_factory=dict)
    """Other keys for ACTIONS, as they are written: `f5`, `ctrl-x`, several with blanks between."""
    mouse: bool = True
    confirm_above: int = 10
    """An action on more sessions than this asks first, whatever it does."""
    event_file: Path | None = None
    """Every event is appended here as a line of text."""
