"""Widgets that draw lines of spans and repaint only the lines that changed."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from typing import Protocol, cast

from textual.events import Click, MouseDown, MouseMove, MouseScrollDown, MouseScrollUp, MouseUp, Resize
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widget import Widget

from souppp_tui.show.paint import Span, strip
from souppp_tui.show.themes import Palette
from souppp_tui.show.words import clean, columns


class HasPalette(Protocol):
    """What a widget here needs of its app."""

    @property
    def palette(self) -> Palette:
        """The styles in force."""
        ...


class Bare(Widget):
    """Makes its lines whole. Around those Textual looks for borders and colours, for each line and each time.

    It also asks all widgets for all their lines whenever one line is to be drawn: what is as it was is kept.
    """

    _made_of: tuple[object, ...] = ()
    """The lines of the last time, and what else they were made of."""
    _made: Sequence[Strip] = ()
    """The same as they are drawn."""

    def render_lines(self, crop: Region) -> list[Strip]:
        """See `Widget.render_lines`."""
        if crop.x or any(self.styles.gutter):
            return super().render_lines(crop)
        lines, filters = [self.render_line(y) for y in crop.line_range], self.get_line_filters()
        if (made_of := (lines, crop.width, filters)) != self._made_of:
            self._made_of = made_of
            lines = [line.adjust_cell_length(crop.width) for line in lines]
            if filters:
                _, background = self.background_colors
                for each in filters:
                    lines = [line.apply_filter(each, background) for line in lines]
            self._made = lines
        return [*self._made]


class Lines(Bare):
    """A few lines; `show` says what they are."""

    DEFAULT_CSS = "Lines { height: 1; }"

    def __init__(self, over: str = "") -> None:
        super().__init__()
        self.over = over
        """The role laid over all of it."""
        self._spans: list[list[Span]] = []
        self._strips: list[Strip] = []
        self.clicked: Callable[[int, int], None] | None = None
        """Told which line was clicked on, and which of its spans."""

    def on_click(self, event: Click) -> None:
        """Tell the owner what it was."""
        at = event.get_content_offset(self)
        if self.clicked is None or at is None or at.y >= len(self._spans):
            return
        end = 0
        for place, (text, _) in enumerate(self._spans[at.y]):
            end += columns(clean(text))
            if at.x < end:
                self.clicked(at.y, place)
                return

    def show(self, lines: Sequence[list[Span]]) -> None:
        """Show these lines from now on."""
        self._spans = list(lines)
        self.repaint()

    def repaint(self) -> None:
        """Draw again what differs from what was drawn, as after a change of size or theme."""
        width = self.size.width
        if not width:
            return
        before, self._strips = self._strips, self._drawn(width)
        strips = self._strips
        rows = range(max(len(before), len(strips)))
        if changed := [
            Region(0, y, width, 1) for y in rows if y >= len(before) or y >= len(strips) or before[y] != strips[y]
        ]:
            self.refresh(*changed)

    def _drawn(self, width: int) -> list[Strip]:
        palette = cast(HasPalette, self.app).palette
        return [strip(spans, width, palette, self.over) for spans in self._spans]

    def redraw(self) -> None:
        """Draw all of it again: another width, another theme."""
        self._strips = []
        self.repaint()

    def on_resize(self, event: Resize) -> None:
        """Draw to the new width."""
        self.repaint()

    def render_line(self, y: int) -> Strip:
        """The line at y. Asked for before anyone has told us our size, as at the start, it is there all the same."""
        if not self._strips:
            self._strips = self._drawn(self.size.width)
        return self._strips[y] if y < len(self._strips) else self.blank()

    def blank(self) -> Strip:
        """An empty line."""
        return strip([], self.size.width, cast(HasPalette, self.app).palette, self.over)


Row = tuple[list[Span], str]
"""A row's spans and the role laid over it."""


class Rows(Bare, ScrollView, can_focus=True, inherit_bindings=False):
    """Many rows, of which only those on the screen are ever made.

    `source` makes one row; the owner calls `sync` when any may have changed, and only lines that differ are repainted.
    """

    DEFAULT_CSS = """
    Rows { height: 1fr; overflow-x: hidden; overflow-y: scroll; scrollbar-size-vertical: 1; }
    """

    def __init__(self, source: Callable[[int, int], Row], over: str = "") -> None:
        """`source(row, width)` makes a row; `over` is the role laid over rows that name none."""
        super().__init__()
        self.over = over
        self._source = source
        self._strips: dict[int, Strip] = {}
        self._drawn: dict[int, tuple[Row, Strip]] = {}
        """By row: what the visible ones were made of, as most stay as they are when the cursor moves on."""
        self._only: Container[int] | None = None
        self.count = 0
        self.clicked: Callable[[int], None] | None = None
        """Told the row that was clicked on."""
        self.opened: Callable[[int], None] | None = None
        """Told the row that was clicked on twice."""
        self.dragged: Callable[[int, int], None] | None = None
        """Told from which row to which the mouse is drawn with its button down."""
        self._pressed: int | None = None
        """The row on which that began."""

    @property
    def width(self) -> int:
        """The width of a row."""
        return max(0, self.scrollable_content_region.width)

    @property
    def height(self) -> int:
        """How many rows fit."""
        return max(1, self.scrollable_content_region.height)

    @property
    def top(self) -> int:
        """The first row on the screen."""
        return self.scroll_offset.y

    def sync(self, count: int, cursor: int | None = None, only: Container[int] | None = None) -> None:
        """There are `count` rows; scroll so that `cursor` can be seen, and repaint what changed.

        Where nothing but the rows `only` can have changed, the others are not made anew.
        """
        self._only = only
        if count != self.count or self.virtual_size.height != count:
            self.count = count
            self.virtual_size = Size(self.width, count)
        top = self.top
        if cursor is not None:
            top = min(max(top, cursor - self.height + 1), cursor)
        top = max(0, min(top, count - self.height))
        if top != self.top:
            self.scroll_to(y=top, animate=False, force=True)
        self.repaint()
        self._only = None

    def repaint(self) -> None:
        """Draw the visible rows and repaint those that differ."""
        width = self.width
        if not width:
            return
        palette = cast(HasPalette, self.app).palette
        top, height, before = self.top, self.height, self._strips
        self._drawn = {row: drawn for row, drawn in self._drawn.items() if top <= row < top + height}
        self._strips = {y: self._draw(top + y, width, palette) for y in range(height)}
        if changed := [Region(0, y, width, 1) for y, line in self._strips.items() if before.get(y) != line]:
            self.refresh(*changed)

    def _draw(self, row: int, width: int, palette: Palette) -> Strip:
        drawn = self._drawn.get(row)
        if drawn is not None and self._only is not None and row not in self._only:
            return drawn[1]
        made = self._source(row, width) if 0 <= row < self.count else ([], "")
        if drawn is None or drawn[0] != made:
            drawn = self._drawn[row] = made, strip(made[0], width, palette, made[1] or self.over)
        return drawn[1]

    def render_line(self, y: int) -> Strip:
        """The row that is at line y of the widget."""
        line = self._strips.get(y)
        if line is None:
            line = self._strips[y] = self._draw(self.top + y, self.width, cast(HasPalette, self.app).palette)
        return line

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """After scrolling every line is another row."""
        super().watch_scroll_y(old_value, new_value)
        if round(old_value) != round(new_value):
            self.repaint()

    def redraw(self) -> None:
        """Draw all of it again: another size, another theme."""
        self._strips, self._drawn = {}, {}
        self.repaint()

    def on_resize(self, event: Resize) -> None:
        """Draw to the new size."""
        self.redraw()

    def on_click(self, event: Click) -> None:
        """Tell the owner which row it was."""
        row = self.top + event.y
        if not 0 <= row < self.count:
            return
        if event.chain == 2 and self.opened:
            self.opened(row)
        elif self.clicked:
            self.clicked(row)

    def on_mouse_down(self, event: MouseDown) -> None:
        """Here a drag begins, if it becomes one."""
        row = self.top + event.y
        self._pressed = row if self.dragged and event.button == 1 and 0 <= row < self.count else None

    def on_mouse_move(self, event: MouseMove) -> None:
        """Tell of a drag, up and down beyond the edges too."""
        if self._pressed is None or self.dragged is None or event.button != 1:
            return
        row = max(0, min(self.top + max(-1, min(event.y, self.height)), self.count - 1))
        if row != self._pressed or self.app.mouse_captured is self:
            self.capture_mouse()
            self.dragged(self._pressed, row)

    def on_mouse_up(self, event: MouseUp) -> None:
        """The drag has ended."""
        self._pressed = None
        self.release_mouse()

    def on_mouse_scroll_down(self, event: MouseScrollDown) -> None:
        """Three rows at a time, at once."""
        self._wheel(event, 3)

    def on_mouse_scroll_up(self, event: MouseScrollUp) -> None:
        """Three rows at a time, at once."""
        self._wheel(event, -3)

    def _wheel(self, event: MouseScrollDown | MouseScrollUp, rows: int) -> None:
        event.stop()
        event.prevent_default()
        top = max(0, min(self.top + rows, self.count - self.height))
        self.scroll_to(y=top, animate=False, force=True)
