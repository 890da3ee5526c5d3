"""The question before anything that ends a live session. No is the default; for many sessions their number is typed."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct
from textual.app import ComposeResult
from textual.events import Key
from textual.screen import ModalScreen

from souppp_tui.show.paint import Span, width_of
from souppp_tui.show.words import count, wrap
from souppp_tui.widgets.lines import Lines

MANY = 20
"""More sessions than this and a `y` is not enough."""


class Other(Struct, frozen=True):
    """What may be wanted in place of a yes or a no."""

    key: str
    word: str
    run: Callable[[], None]


class Confirm(ModalScreen[bool]):
    """Ends with True only if the operator said yes."""

    DEFAULT_CSS = """
    Confirm { align: center middle; background: $background 60%; }
    Confirm > Lines { width: auto; padding: 1 3; background: $surface; border: round $accent; }
    """

    def __init__(self, question: str, facts: list[str], yes: str, number: int = 0, other: Other | None = None) -> None:
        """`yes` is what will be done; a `number` above 20 must be typed. `other` counts as a no, and is run then."""
        super().__init__()
        self._question, self._facts, self._yes = question, facts, yes
        self._number = number if number > MANY else 0
        self._other = other
        self.typed = ""
        self.box = Lines("bar")

    def compose(self) -> ComposeResult:
        """One box."""
        yield self.box

    def on_resize(self) -> None:
        """Ask."""
        self._show()

    def _lines(self, room: int) -> list[list[Span]]:
        lines: list[list[Span]] = [[(line, "strong")] for line in wrap(self._question, room)]
        lines += [[(line, "text")] for fact in self._facts for line in wrap(fact, room)]
        lines.append([])
        if self._other is not None:
            first, *rest = wrap(self._other.word, room - 4)
            lines += [[(self._other.key, "key"), (f"  {first}", "dim")], *([(f"   {line}", "dim")] for line in rest)]
        if self._number:
            digits = len(str(self._number))
            *prompt, last = wrap(f"Type {self._number} and press enter to {self._yes}:", room - digits - 3)
            lines += [[(line, "text")] for line in prompt]
            lines.append([(f"{last}  ", "text"), (self.typed + "▁", "key")])
            lines.append([("esc", "key"), (" no", "dim")])
        else:
            lines.append([("y", "key"), (f" {self._yes}    ", "dim"), ("n  esc  enter", "key"), (" no", "dim")])
        return lines

    def _show(self) -> None:
        room = max(10, self.app.size.width - 8)
        lines = self._lines(room)
        width = min(room, max(width_of(line) for line in lines) + len(str(self._number)))
        self.box.styles.width, self.box.styles.height = width + 8, len(lines) + 4
        self.box.show(lines)

    def on_key(self, event: Key) -> None:
        """Yes only by the key that is shown for it; whatever leaves a page elsewhere is a no."""
        event.stop()
        event.prevent_default()
        if event.key in ("escape", "n", "N", "q", "ctrl+c", "ctrl+q"):
            self.dismiss(False)
        elif self._other is not None and event.key == self._other.key:
            self.dismiss(False)
            self._other.run()
        elif self._number:
            self._type(event)
        elif event.key in ("y", "Y"):
            self.dismiss(True)
        elif event.key == "enter":
            self.dismiss(False)

    def _type(self, event: Key) -> None:
        if event.key == "enter":
            if self.typed == str(self._number):
                self.dismiss(True)
            else:
                self.typed = ""
                self._facts = [*self._facts[:2], f"That was not {count(self._number)}."]
        elif event.key == "backspace":
            self.typed = self.typed[:-1]
        elif event.character and event.character.isdecimal() and len(self.typed) < 9:
            self.typed += event.character
        self._show()
