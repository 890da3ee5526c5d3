"""The command palette: all that a page can do, by name. Type a part, press enter."""

from __future__ import annotations

from functools import partial

from msgspec.structs import replace
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.events import Key
from textual.screen import ModalScreen
from textual.widgets import Input

from souppp_tui.desk.actions import Command
from souppp_tui.show.paint import Span
from souppp_tui.show.words import fit, wrap
from souppp_tui.widgets.lines import Lines, Row, Rows

MOST, BESIDES = 18, 9
"""Commands that are shown at most, and lines of the screen besides them: the box's other ones, above it and below."""


def matching(text: str, among: list[Command]) -> list[Command]:
    """The commands that hold all words of the text; those whose name starts with it come first."""
    if given := _with_text(text, among):
        return [given]
    words = text.casefold().split()
    found = [c for c in among if all(word in f"{c.name} {c.help}".casefold() for word in words)]
    start = " ".join(words)
    return sorted(found, key=lambda c: (not c.name.startswith(start), start not in c.name))


def _title(command: Command) -> str:
    """Its name, and what is to be typed behind it."""
    return f"{command.name} {command.takes}".rstrip()


def _says(command: Command) -> Span:
    """What it does, or why it can't be done now."""
    return (command.why_not, "warning") if command.why_not else (command.help, "dim")


def _with_text(text: str, among: list[Command]) -> Command | None:
    """The command that takes a text, if its name is typed and a text behind it."""
    for command in among:
        given = text.lstrip()[len(command.name) + 1 :].strip()
        if command.takes and given and text.lstrip().casefold().startswith(f"{command.name} "):
            run = partial(command.run_with, given)
            return replace(command, name=f"{command.name} {given}", takes="", why_not=command.why_not, run=run)
    return None


class Palette(ModalScreen[Command | None]):
    """Ends with the command chosen, or None."""

    DEFAULT_CSS = """
    Palette { align: center top; background: $background 60%; }
    Palette > Vertical {
        margin-top: 2; width: 96%; max-width: 110; height: auto;
        background: $surface; border: round $accent; padding: 0 1;
    }
    Palette Input { height: 1; border: none; padding: 0; background: $surface; }
    Palette Input:focus { border: none; background-tint: $foreground 0%; }
    Palette Rows { height: 14; margin-top: 1; }
    Palette Lines { height: 2; }
    """

    def __init__(self, commands: list[Command]) -> None:
        super().__init__()
        self._all = commands
        self.found = self._all
        self.cursor = 0
        self.input = Input(placeholder="type a part of a command's name")
        self.input.cursor_blink = False
        self.list = Rows(self._row, "bar")
        self.list.can_focus = False
        self.about = Lines("bar")
        """What the command under the cursor does, of which its row may have no room for all."""

    def compose(self) -> ComposeResult:
        """The line to type in, and what it finds."""
        with Vertical():
            yield self.input
            yield self.list
            yield self.about

    def on_mount(self) -> None:
        """Show everything first."""
        self.input.focus()

    def on_resize(self) -> None:
        """As high as there is room."""
        self.list.styles.height = max(3, min(MOST, self.app.size.height - BESIDES))
        self.call_after_refresh(self._sync)

    def _sync(self) -> None:
        self.cursor = max(0, min(self.cursor, len(self.found) - 1))
        self.list.sync(len(self.found), self.cursor if self.found else None)
        text, role = _says(self.found[self.cursor]) if self.found else ("No command is called so.", "warning")
        self.about.show([[("  ", "dim"), (line, role)] for line in wrap(text, self.about.size.width - 2)])

    def _row(self, row: int, width: int) -> Row:
        command = self.found[row]
        name = "down" if command.why_not else "strong"
        here = row == self.cursor
        mark = ("▸ " if here else "  ", "accent")
        return [
            mark,
            (fit(_title(command), 20), name),
            (fit(command.keys.partition(" ")[0], 12), "key"),
            _says(command),
        ], "cursor" if here else ""

    def on_input_changed(self, event: Input.Changed) -> None:
        """Show what matches."""
        self.found = matching(event.value, self._all)
        self.cursor = 0
        self._sync()

    def on_key(self, event: Key) -> None:
        """Move, choose, leave."""
        steps = {"down": 1, "ctrl+n": 1, "up": -1, "ctrl+p": -1, "pagedown": 10, "pageup": -10}
        if event.key in steps:
            self.cursor += steps[event.key]
            self._sync()
        elif event.key in ("escape", "ctrl+c"):
            self.dismiss(None)
        elif event.key == "enter":
            self.dismiss(self.found[self.cursor] if self.found else None)
        else:
            return
        event.stop()
        event.prevent_default()
