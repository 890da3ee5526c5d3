"""The line a filter is typed in."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from textual.binding import Binding
from textual.suggester import Suggester
from textual.widgets import Input


class Completing(Suggester):
    """Shows what a text may become, which the right arrow takes over."""

    def __init__(self, complete: Callable[[str], str]) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._complete = complete

    async def get_suggestion(self, value: str) -> str | None:
        """What `complete` makes of the text."""
        return self._complete(value) or None


class FilterLine(Input):
    """Tells `changed` each text as it is typed; enter keeps the filter, escape clears it.

    Up and down go through those that were typed before, tab takes over what is offered.
    """

    DEFAULT_CSS = """
    FilterLine { height: 1; border: none; padding: 0 1; background: $surface; color: $foreground; }
    FilterLine:focus { border: none; background-tint: $foreground 0%; }
    """
    BINDINGS = [  # noqa: RUF012
        Binding("escape", "clear", show=False),
        Binding("enter", "keep", show=False),
        Binding("up", "before(-1)", show=False),
        Binding("down", "before(1)", show=False),
        Binding("tab", "take", show=False),
    ]

    def __init__(
        self,
        text: str,
        changed: Callable[[str], None],
        hint: str,
        complete: Callable[[str], str] | None = None,
        history: Sequence[str] = (),
        kept: Callable[[str], None] = lambda text: None,
    ) -> None:
        """`history` are texts typed before, the latest last; `kept` is told the one that enter was pressed on."""
        suggester = Completing(complete) if complete is not None else None
        super().__init__(text, placeholder=hint, suggester=suggester, select_on_focus=False)
        self._changed = changed
        self._kept = kept
        self._history = [*history]
        self._place = len(self._history)
        self._typed = text
        """What was typed before going through the history."""
        self.cursor_blink = False

    @property
    def keys(self) -> list[tuple[str, str]]:
        """The keys that do something here, and what."""
        keys = [("enter", "keep"), ("esc", "clear")]
        keys += [("tab", "take over")] if self.suggester is not None else []
        return keys + ([("↑ ↓", "typed before")] if self._history else [])

    def on_mount(self) -> None:
        """Type here."""
        self.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Show what matches so far."""
        event.stop()
        self._changed(event.value)

    def action_clear(self) -> None:
        """Show everything again."""
        self._changed("")
        self.remove()

    def action_keep(self) -> None:
        """Go on with what is typed."""
        self._changed(self.value)
        self._kept(self.value)
        self.remove()

    def action_before(self, step: int) -> None:
        """The text typed before this one, or after it; behind the latest comes what was begun."""
        if self._place == len(self._history):
            self._typed = self.value
        there = max(0, min(self._place + step, len(self._history)))
        if there != self._place:
            self._place = there
            self.value = self._history[there] if there < len(self._history) else self._typed
            self.cursor_position = len(self.value)

    def action_take(self) -> None:
        """Take over what is offered."""
        self.cursor_position = len(self.value)
        self.action_cursor_right()

    def on_blur(self) -> None:
        """Never stay open behind one's back."""
        if self.is_attached:
            self.remove()
