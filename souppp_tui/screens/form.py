"""The form to add or edit a session. What is wrong is said beside its line while it is typed, and whole at the foot."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import ComposeResult
from textual.containers import Horizontal, VerticalScroll
from textual.events import Key
from textual.screen import ModalScreen
from textual.widgets import Input

from engine.settings.forms import FIELDS, Field, Taken, read, write
from engine.settings.values import SessionSettings
from souppp_tui.show.words import columns, fit
from souppp_tui.widgets.lines import Lines

SEVERAL = "several values"
FOOT = "enter next · ctrl-s save · esc leave"


def escape(title: str) -> str:
    """A title of a box without markup."""
    return title.replace("[", "\\[")


class Form(ModalScreen[SessionSettings | None]):
    """Ends with the settings, or None."""

    DEFAULT_CSS = """
    Form { align: center middle; background: $background 60%; }
    Form > VerticalScroll {
        width: 78; max-width: 98%; height: 21; max-height: 98%;
        background: $surface; border: round $accent; padding: 0 2; scrollbar-size-vertical: 1;
    }
    Form Horizontal { height: 1; }
    Form Horizontal > .label { width: 16; }
    Form Horizontal > .note { width: 1fr; }
    Form Input { width: 24; height: 1; border: none; padding: 0 1; background: $background; }
    Form Input:focus { border: none; background-tint: $foreground 8%; }
    """

    def __init__(self, title: str, base: SessionSettings, taken: Taken, *, new: bool) -> None:
        super().__init__()
        self._title, self._base, self._taken, self._new = title, base, taken, new
        self._fields: tuple[Field, ...] = FIELDS
        self._several: set[str] = set()
        """Fields that are not alike in all sessions."""
        self._inputs: dict[str, Input] = {}
        self._labels = {field.key: Lines("bar") for field in FIELDS}
        self._notes = {field.key: Lines("bar") for field in FIELDS}
        self._touched: set[str] = set()
        self._box = VerticalScroll()

    def compose(self) -> ComposeResult:
        """A line for each field."""
        texts = write(self._base)
        box = self._box
        box.can_focus = False
        box.border_subtitle = FOOT
        with box:
            for field in self._fields:
                several = field.key in self._several
                text, hint = ("", SEVERAL) if several else (texts[field.key], "")
                line = Input(text, hint, password=field.secret, select_on_focus=False)
                line.cursor_blink = False
                self._inputs[field.key] = line
                self._labels[field.key].add_class("label")
                self._notes[field.key].add_class("note")
                with Horizontal():
                    yield self._labels[field.key]
                    yield line
                    yield self._notes[field.key]

    def on_mount(self) -> None:
        """Start with the name."""
        self._inputs[self._fields[0].key].focus()
        self.check()

    def check(self, everything: bool = False) -> SessionSettings | None:
        """Read all lines and say what is wrong; returns the settings if nothing is."""
        settings, errors = read(self._texts(), self._base, self._taken)
        self._box.border_title, self._box.border_subtitle = escape(self._title), FOOT
        for field in self._fields:
            wrong = errors.get(field.key, "") if everything or field.key in self._touched else ""
            hint = "" if self._new and field.secret else field.hint
            if wrong and self._inputs[field.key].has_focus:
                self._box.border_subtitle = f"{field.label} {wrong}"
            note = self._notes[field.key]
            if hint and self._inputs[field.key].has_focus and columns(hint) + 2 > note.size.width > 0:
                self._box.border_title = escape(f"{self._title} · {field.label}: {hint}")
            self._labels[field.key].show([[(fit(field.label, 15), "failed" if wrong else "dim")]])
            note.show([[("  ", "text"), (wrong or hint, "failed" if wrong else "dim")]])
        return None if errors else settings

    def _texts(self) -> dict[str, str]:
        """What the lines say; what is not alike, and was left so, is nobody's mistake."""
        typed = {key: line.value for key, line in self._inputs.items() if key not in self._several - self._touched}
        return {**write(self._base), **typed}

    def on_input_changed(self, event: Input.Changed) -> None:
        """Check again."""
        for key, line in self._inputs.items():
            before = "" if key in self._several else write(self._base)[key]
            if line is event.input and line.value != before:
                self._touched.add(key)
        self.check()

    def on_descendant_focus(self) -> None:
        """Say what is wrong with this line."""
        self.check()

    def save(self) -> None:
        """End with the settings, or go to the first line that is wrong."""
        settings = self.check(everything=True)
        if settings is not None:
            self.dismiss(settings)
            return
        _, errors = read(self._texts(), self._base, self._taken)
        self._touched |= errors.keys()
        self._inputs[next(iter(errors))].focus()

    def on_key(self, event: Key) -> None:
        """From line to line, save, leave."""
        if event.key in ("down", "enter"):
            if event.key == "enter" and self._inputs[self._fields[-1].key].has_focus:
                self.save()
            else:
                self.focus_next(Input)
        elif event.key == "up":
            self.focus_previous(Input)
        elif event.key == "ctrl+s":
            self.save()
        elif event.key in ("escape", "ctrl+c"):
            self.dismiss(None)
        else:
            return
        event.stop()
        event.prevent_default()


class FormOfMany(Form):
    """The same for several sessions at once: what is theirs alone is left out, and `changed` has what was typed."""

    def __init__(self, title: str, sessions: Sequence[SessionSettings]) -> None:
        super().__init__(title, sessions[0], {}, new=False)
        self._fields = tuple(field for field in FIELDS if not field.unique)
        self._several = {field.key for field in self._fields if len({field.write(session) for session in sessions}) > 1}

    @property
    def changed(self) -> dict[str, str]:
        """Fields that were changed, and what they are to hold."""
        before = write(self._base)
        return {
            field.key: self._inputs[field.key].value
            for field in self._fields
            if field.key in self._touched
            and (field.key in self._several or self._inputs[field.key].value != before[field.key])
        }
