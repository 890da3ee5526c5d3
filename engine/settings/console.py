"""What the configuration can say about the console: names only, what they stand for is in the console itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct, field

THEMES = ("auto", "dark", "light", "contrast", "ansi")
COLUMNS = (
    *("name", "state", "address", "prefix", "ac", "sid", "mtu", "uptime", "rx", "tx", "rxp", "txp"),
    *("user", "service", "device", "peer", "dns", "ipv6", "mac", "acmac", "vlan", "rtt", "setup", "flaps"),
    *("tags", "mark", "proxy", "connections", "rxsum", "txsum", "both", "recent", "sum", "n", "reason", "since"),
)
ACTIONS = (
    *("dial", "hang_up", "redial", "rotate", "mark", "mark_range", "mark_shown", "unmark", "filter", "details"),
    *("fields", "switch", "group", "jump", "capture", "add", "edit", "remove", "copy", "sort", "reverse", "columns"),
    *(
        "events",
        "card",
        "follow",
        "severity",
        "export",
        "copy_what",
        "reset_counters",
        "ping",
        "clear_ghosts",
        "fix_card",
        "undo",
        "actions",
        "stop_all",
        "pause",
        "reload",
        "mask",
        "zero",
        "freeze",
        "times",
        "theme",
    ),
    *("talkers", "sort_by", "summary", "table", "narrow", "group_by", "first"),
    *("redraw", "commands", "help", "back", "quit", "end", "up", "down", "page_up", "page_down", "top", "bottom"),
)


PLACEHOLDERS = (
    *("name", "user", "service", "device", "address", "peer", "ipv6", "prefix"),
    *("session_id", "mac", "ac_mac", "vlan", "mark", "netns", "proxy"),
)
"""What stands in braces in a command of the operator's is a value of the session: none of them is text that a
concentrator chose, which could look like an option."""


class OwnCommand(Struct, frozen=True):
    """A program of the operator's that a key of the console runs for a session."""

    run: tuple[str, ...]
    """It and its arguments, with PLACEHOLDERS in braces."""
    title: str = ""
    pane: bool = False
    """What it says is shown in a box; else it has the terminal until it ends."""


class ConsoleSettings(Struct, frozen=True):
    """How the console looks and is used."""

    theme: str = "auto"
    """One of THEMES; `auto` is dark, but ansi on a terminal with 16 colours or fewer."""
    columns: tuple[str, ...] = ()
    """Of COLUMNS, in the order wanted; empty takes the usual ones."""
    keys: Mapping[str, str] = field(default_factory=dict)
    """Other keys for ACTIONS, as they are written: `f5`, `ctrl-x`, several with blanks between."""
    filters: Mapping[str, str] = field(default_factory=dict)
    """Filters that have a name, by that."""
    mouse: bool = True
    confirm_above: int = 10
    """An action on more sessions than this asks first, whatever it does."""
    event_file: Path | None = None
    """Every event is appended here as a line of text."""
    commands: Mapping[str, OwnCommand] = field(default_factory=dict)
    """Programs by the key that runs them, written as in `keys`."""
