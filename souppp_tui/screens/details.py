"""One session at full length: facts, steps and traffic on the left, the ladder of its control frames on the right."""

from __future__ import annotations

from typing import ClassVar

from msgspec.structs import astuple, replace
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal

from engine.api.values import Details, Fact, SessionView
from souppp_tui.desk.desk import Desk
from souppp_tui.screens.bindings import bindings
from souppp_tui.screens.listing import ListPage
from souppp_tui.show import detaillines
from souppp_tui.show.detaillines import Shown
from souppp_tui.show.paint import Line, rule
from souppp_tui.show.why import Why, why
from souppp_tui.widgets.lines import Lines, Row, Rows

WIDE = 110
"""Columns from which on both parts stand side by side."""
SIDE = 0.55
"""The share of the width that the left part then gets."""
SIDE_MOST = 88
SOON = 0.05
"""Seconds until details that were asked for a moment ago are looked for again."""
LOOKED_THROUGH = 20
"""Events of the session that its last try is looked for in."""
LATEST = 3
"""Events of the session that are shown."""


class DetailsPage(ListPage):
    """The list with the cursor is the ladder; tab lets the keys scroll the other part."""

    PAGE = "details"
    TITLE_WORD = "Details"
    BINDINGS: ClassVar[list[BindingType]] = bindings("details")
    DEFAULT_CSS = """
    DetailsPage > Horizontal { height: 1fr; }
    DetailsPage Rows { width: 1fr; }
    """

    def __init__(self, desk: Desk, session: int) -> None:
        super().__init__(desk)
        self.session = session
        self.title_line = Lines()
        self.facts = Rows(self._fact)
        self.facts.can_focus = False
        self.split = Horizontal()
        self.below = Lines()
        self._details: Details | None = None
        self._lines: list[Line] = []
        self._in_facts = False
        self._why: Why | None = None

    def compose(self) -> ComposeResult:
        """From top to bottom."""
        yield self.overview
        yield self.title_line
        with self.split:
            yield self.facts
            yield self.below
            yield self.list
        yield self.footer

    # -- drawing

    def look(self) -> None:
        """Show the session as it is now."""
        super().look()
        view = self.model.views.get(self.session)
        if view is None:
            self.desk.say("This session is gone.", "warning")
            self.app.pop_screen()
            return
        details = self.desk.engine.details(self.session)
        if details is None:
            # The engine makes them when it is asked for the first time.
            self.set_timer(SOON, self.look)
            details = Details(self.session)
        at_end = self._details is None or self.cursor >= len(self._details.ladder) - 1
        self._details = details
        self._why = self._ask_why(view, details)
        shown, hide = self.desk.mask(view), self.desk.mask_text
        if self.desk.masked:
            # Where others go is nobody's business; and what is broken into lines is no address any more.
            facts = tuple(Fact(*(hide(text, self.session) for text in astuple(fact))) for fact in details.facts)
            details = replace(details, connections=(), talkers=(), facts=facts)
        readings = self.model.readings(self.session)
        wide = self.size.width >= WIDE
        side = min(SIDE_MOST, round(self.size.width * SIDE)) if wide else self.size.width
        self._lines = [
            [(hide(text, self.session), role) for text, role in line]
            for line in detaillines.sections(self._shown(shown, details), readings, side - 3)
        ]
        title = detaillines.title(shown, readings.now, self.size.width)
        if self.model.place(self.session) in self.model.lost:
            title.append(("  as last seen: its engine can't be reached", "failed"))
        self._arrange(title, side if wide else None)
        self.facts.sync(len(self._lines))
        if at_end:
            self.cursor = len(details.ladder) - 1
        self.look_at_list()

    def _arrange(self, title: Line, side: int | None) -> None:
        """Both parts side by side, with so many columns for the facts, or one below the other."""
        ladder: Line = [("ladder, newest last", "dim")]
        self.split.styles.layout = "vertical" if side is None else "horizontal"
        self.facts.styles.width = "1fr" if side is None else side
        most = max(4, min(len(self._lines), self.size.height // 2))
        self.facts.styles.height = most if side is None else "1fr"
        self.title_line.show([rule(title, ladder if side is not None else [], self.size.width)])
        self.below.display = side is None
        self.below.show([rule(ladder, [], self.size.width)])

    def _shown(self, view: SessionView, details: Details) -> Shown:
        """What there is to say of it."""
        model, why = self.model, self._why
        if why is not None:
            why = replace(why, said=self.desk.mask_text(why.said, self.session))
        return Shown(
            view,
            details,
            [self.desk.mask_event(event) for event in self.desk.log_of_events.latest(self.session, LATEST)],
            model.octets(self.session),
            model.baseline_counters.get(self.session),
            why,
            model.baseline is not None,
        )

    def _ask_why(self, view: SessionView, details: Details) -> Why | None:
        """Why it is not up, and what others like it do."""
        if view.up_since is not None:
            return None
        events = self.desk.log_of_events.latest(self.session, LOOKED_THROUGH)
        return why(view, details.ladder, events, self.model.views.values())

    def do_zero(self) -> None:
        """The session's own counters too."""
        super().do_zero()
        if self.model.baseline is not None and self._details is not None:
            self.model.baseline_counters[self.session] = dict(self._details.counters)
            self.look()

    def _fact(self, row: int, width: int) -> Row:
        return self._lines[row], ""

    def count(self) -> int:
        """The frames of the ladder."""
        return len(self._details.ladder) if self._details else 0

    def row(self, row: int, width: int) -> Row:
        """One frame."""
        assert self._details is not None
        entry = self._details.ladder[row]
        marked = self._why is not None and row in self._why.frames
        return detaillines.frame(entry, self.desk.mask_text(entry.summary, self.session), marked), ""

    def _draw(self, row: int, width: int) -> Row:
        return self.row(row, width) if self._in_facts else super()._draw(row, width)

    def move_to(self, row: int) -> None:
        """Move the cursor in the ladder, or scroll the facts."""
        if self._in_facts:
            top = max(0, min(self.facts.top + row - self.cursor, len(self._lines) - self.facts.height))
            self.facts.scroll_to(y=top, animate=False, force=True)
        else:
            super().move_to(row)

    def do_top(self) -> None:
        """To the first line."""
        self.move_to(self.cursor - len(self._lines) if self._in_facts else 0)

    def do_bottom(self) -> None:
        """To the last line."""
        self.move_to(self.cursor + len(self._lines) if self._in_facts else self.count() - 1)

    def do_switch(self) -> None:
        """From the ladder to the facts, or back."""
        self._in_facts = not self._in_facts
        self.look_at_list()

    # -- acting

    def targets(self) -> list[SessionView]:
        """This session, whatever is marked elsewhere."""
        view = self.model.views.get(self.session)
        return [view] if view else []

    def _exported(self) -> list[SessionView]:
        return self.targets()

    def do_fields(self) -> None:
        """All fields of the frame under the cursor."""
        if not self._details or not self._details.ladder:
            none = "No frame has been seen yet." if self._details else "The engine has not told of its frames yet."
            self.desk.say(none, "warning")
            return
        from souppp_tui.screens.fields import Fields

        entry = self._details.ladder[self.cursor]
        hide = self.desk.mask_text
        fields = [(name, hide(value, self.session)) for name, value in entry.fields]
        self.app.push_screen(Fields(hide(entry.summary, self.session), fields))

    def do_copy(self) -> None:
        """Choose one of the session's lines to copy."""
        view = self.model.views[self.session]
        usage = list(self._details.usage) if self._details else []
        if view.ipv4:
            usage.insert(0, ("address", view.ipv4))
        if not usage:
            self.desk.say("There is nothing to copy until the session is up.", "warning")
            return
        from souppp_tui.screens.fields import Fields

        shown = [(name, self.desk.mask_text(line, self.session)) for name, line in usage]

        def chosen(place: int | None) -> None:
            if place is not None:
                self.copy(usage[place][1])

        self.app.push_screen(Fields("Copy which line?", shown, "copies"), chosen)
