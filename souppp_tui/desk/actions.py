"""Every action: its name, keys, word in the footer and sentence in the help.

The one table that key bindings, footer, help and command palette are made from.

`ctrl-r`, `ctrl-d` and backspace are not among the keys: a slip of the finger there must do nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache

from msgspec import Struct

ANY = ("sessions", "details", "card", "events", "summary")
TABLE = ("sessions",)
EITHER = ("sessions", "details")
STEERED = ("sessions", "details", "summary")
"""Pages on which things are done to sessions."""
OTHERS = ("sessions", "details", "card", "events")
LISTS = ("sessions", "details", "events")


class Action(Struct, frozen=True):
    """One action; the page that knows it has a method `do_NAME`."""

    name: str
    keys: str
    """Textual's key names, with commas between."""
    word: str
    """In the footer, if it stands there."""
    help: str
    pages: tuple[str, ...]
    changes: bool = False
    """Not with --read-only."""
    footer: int = 0
    """Whether it stands in the footer; where there is no room those with the highest number go first."""
    group: str = "other"


class Command(Struct, frozen=True):
    """One line of the palette: an action, or something that has no key."""

    name: str
    keys: str
    help: str
    why_not: str
    run: Callable[[], None]
    takes: str = ""
    """What is typed behind its name, in a word; empty where nothing is."""
    run_with: Callable[[str], None] = lambda text: None
    """Run it with that."""


ACTIONS = (
    Action("dial", "d", "dial", "dial the sessions that are down or failed", STEERED, True, 1, "sessions"),
    Action("hang_up", "h", "hang up", "hang up and stay down; asks first", STEERED, True, 1, "sessions"),
    Action("redial", "r", "redial", "hang up and dial again; asks first", STEERED, True, 3, "sessions"),
    Action("rotate", "R", "rotate", "hang up and dial for another address; asks first", STEERED, True, 0, "sessions"),
    Action("mark", "space", "mark", "mark the session, or take the mark away", TABLE, False, 3, "marks"),
    Action("mark_range", "ctrl+@,ctrl+space", "range", "mark from the last mark to here", TABLE, False, 0, "marks"),
    Action("mark_shown", "asterisk", "all", "mark all sessions that are shown", TABLE, False, 0, "marks"),
    Action("unmark", "backslash", "unmark", "take all marks away", TABLE, False, 0, "marks"),
    Action("filter", "slash", "filter", "show only some; esc clears it", ("sessions", "events"), False, 2, "show"),
    Action("details", "enter", "details", "everything about the session", TABLE, False, 2, "show"),
    Action("narrow", "enter", "sessions", "show the group's sessions in the table", ("summary",), False, 2, "show"),
    Action("group_by", "g", "group by", "make the groups by the next thing", ("summary",), False, 2, "show"),
    Action("fields", "enter", "fields", "all fields of the frame", ("details",), False, 2, "show"),
    Action("switch", "tab", "other side", "move in the other part of the screen", ("details",), False, 4, "move"),
    Action("group", "b", "group", "what has one cause together, or each event", ("events",), False, 2, "show"),
    Action(
        "jump",
        "enter",
        "session",
        "go to the session of the event, or narrow the table to the group's",
        ("events",),
        False,
        2,
        "show",
    ),
    Action("ping", "", "", "ask the far end of a session with a stack for an echo", EITHER, True, 0, "sessions"),
    Action("capture", "c", "capture", "write control frames to a file, or stop", STEERED, True, 6, "sessions"),
    Action("add", "a", "add", "add a session", TABLE, True, 0, "sessions"),
    Action("edit", "E", "edit", "change settings, of several at once too", STEERED, True, 0, "sessions"),
    Action("undo", "u", "", "take back what was removed, changed, added, hung up", ANY, True, 0, "sessions"),
    Action("remove", "D", "remove", "hang up and forget; asks first", STEERED, True, 0, "sessions"),
    Action("copy", "y", "copy", "copy the sessions' addresses, or a line", ANY, False, 0, "show"),
    Action("copy_what", "Y", "", "choose what to copy of the sessions", EITHER, False, 0, "show"),
    Action("sort", "s", "sort", "sort by the next column", TABLE, False, 0, "show"),
    Action("sort_by", "b", "sort by", "sort by any column, by its letter; again turns it", TABLE, False, 8, "show"),
    Action("talkers", "t", "talkers", "who carries most: now, in five minutes, in all", TABLE, False, 0, "show"),
    Action("reverse", "S", "reverse", "turn the sort round", TABLE, False, 0, "show"),
    Action("columns", "o", "columns", "choose and order the columns", TABLE, False, 0, "show"),
    Action(
        "summary", "1", "summary", "all sessions in groups: by state, reason, service …", OTHERS, False, 5, "screens"
    ),
    Action(
        "table", "2", "table", "the table of sessions", ("details", "card", "events", "summary"), False, 7, "screens"
    ),
    Action("events", "e,3", "events", "all events", ("sessions", "details", "card", "summary"), False, 4, "screens"),
    Action("actions", "A", "", "what was commanded: by whom, and what came of it", ANY, False, 0, "screens"),
    Action("card", "i", "card", "the card and its queues", ("sessions", "events", "summary"), False, 5, "screens"),
    Action("follow", "f", "follow", "follow the newest event, or stay", ("events",), False, 1, "show"),
    Action("severity", "v", "severity", "show only the more important events", ("events",), False, 1, "show"),
    Action("reset_counters", "C", "", "count what it carries from now on; asks first", STEERED, True, 0, "sessions"),
    Action("export", "w", "export", "table, addresses, details to CSV, JSON, clipboard", LISTS, group="show"),
    Action("stop_all", "H", "", "end all, dial nobody until you take it back; asks", ANY, True, 0, "sessions"),
    Action("pause", "p", "", "dial nobody again by itself; again to go on", ANY, True, 0, "sessions"),
    Action("clear_ghosts", "", "", "end sessions a crashed run left at the concentrator", ANY, True, 0, "sessions"),
    Action("fix_card", "F", "fix", "switch off what the card does in our way; asks first", ("card",), True, 1, "card"),
    Action("reload", "L", "reload", "read the configuration again; shows what changes", TABLE, True, 0, "sessions"),
    Action("mask", "x", "mask", "hide user names and addresses, for screenshots", ANY, False, 0, "show"),
    Action("zero", "z", "zero", "count from now on; again for since the start", ANY, False, 0, "show"),
    Action("times", "T", "", "times as usual, by the clock, or how long ago", ANY, False, 0, "show"),
    Action("freeze", "Z", "freeze", "freeze the display; sessions keep running", ANY, False, 0, "show"),
    Action("theme", "ctrl+t", "theme", "the next theme", ANY, False, 0, "show"),
    Action("redraw", "ctrl+l", "redraw", "draw the whole screen again", ANY, False, 0, "show"),
    Action("commands", "colon", "command", "find a command by its name", ANY, False, 6, "screens"),
    Action("help", "question_mark", "help", "the keys of this screen", ANY, False, 1, "screens"),
    Action("back", "escape", "back", "back; on the sessions: clear filter, then marks", ANY, False, 0, "screens"),
    Action(
        "quit", "q,ctrl+q,ctrl+c", "quit", "leave; asks whether the engine is to end or go on", ANY, False, 1, "screens"
    ),
    Action("end", "Q", "", "end the engine and all its sessions; asks first", ANY, True, 0, "screens"),
    Action("up", "up,k", "", "up", ANY, False, 0, "move"),
    Action("down", "down,j", "", "down", ANY, False, 0, "move"),
    Action("page_up", "pageup,ctrl+b", "", "a page up", ANY, False, 0, "move"),
    Action("page_down", "pagedown,ctrl+f", "", "a page down", ANY, False, 0, "move"),
    Action("top", "g,home", "", "to the first", OTHERS, False, 0, "move"),
    Action("first", "home", "", "to the first", ("summary",), False, 0, "move"),
    Action("bottom", "G,end", "", "to the last", ANY, False, 0, "move"),
)
BY_NAME = {action.name: action for action in ACTIONS}
GROUPS = {
    "move": "Moving",
    "sessions": "Sessions (the marked ones, else the one under the cursor)",
    "marks": "Marks",
    "card": "The card",
    "show": "Display",
    "screens": "Screens",
}

_SIGNS = {
    "space": "space",
    "ctrl+@": "ctrl-space",
    "ctrl+space": "",
    "asterisk": "*",
    "backslash": "\\",
    "slash": "/",
    "colon": ":",
    "question_mark": "?",
    "escape": "esc",
    "up": "↑",
    "down": "↓",
    "pageup": "PgUp",
    "pagedown": "PgDn",
}


@cache
def on_page(page: str) -> tuple[Action, ...]:
    """The actions of a page, in the table's order."""
    return tuple(action for action in ACTIONS if page in action.pages)


def key_names(keys: Mapping[str, str]) -> dict[str, str]:
    """Textual's names for keys as the operator writes them: `ctrl-x f5` is `ctrl+x,f5`; by the actions' names."""
    names = {",": "comma", **{sign: key for key, sign in _SIGNS.items() if sign}}

    def name(sign: str) -> str:
        return names.get(sign) or (sign if len(sign) == 1 else sign.replace("-", "+"))

    return {action: ",".join(map(name, written.split())) for action, written in keys.items()}


def clash(keys: Mapping[str, str], own: Iterable[str] = ()) -> str:
    """What is wrong if actions get these other keys: two on one key of one screen. Empty if nothing is.

    `own` are the keys of the operator's own commands.
    """
    for page in ANY:
        taken: dict[str, str] = {key: "a command of yours" for key in map(signs, own) if page in EITHER}
        for action in on_page(page):
            for key in signs(keys.get(action.name, action.keys)).split():
                if taken.setdefault(key, action.name) != action.name:
                    return f"{key} would be both {taken[key]} and {action.name}; give one of them another key"
    return ""


@cache
def signs(keys: str) -> str:
    """Keys as the operator knows them: `q ctrl-c`."""
    return " ".join(sign for key in keys.split(",") if (sign := _SIGNS.get(key, key.replace("+", "-"))))
