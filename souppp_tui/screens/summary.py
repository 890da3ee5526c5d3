"""All sessions in groups: how many of each are in which state, what they carry; enter shows one in the table."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType

from engine.api.plural import plural
from engine.api.spans import wait
from engine.api.values import SessionView
from souppp_tui.desk.actions import BY_NAME
from souppp_tui.desk.desk import Desk
from souppp_tui.model.groups import GROUPINGS, NOTHING, Group, common, groups
from souppp_tui.screens.bindings import bindings
from souppp_tui.screens.listing import ListPage
from souppp_tui.show import grouplines, words
from souppp_tui.show.grouplines import GroupLine, Layout
from souppp_tui.show.paint import Line, rule, width_of
from souppp_tui.widgets.lines import Lines, Row

TALL = 18
"""From so many lines of the screen on there are three for the group under the cursor, else one."""
SAME_MOMENT = 1.0
"""Seconds by which an event may be older than what came of it."""
FRESH = 2.0
"""Seconds after which groups are made anew where the numbers of sessions in each state are the same."""
NOBODY = {
    "service": "any",
    "concentrator": "none known",
    "vlan": "untagged",
    "user": "none",
    "tag": "untagged by words",
}
"""What is said where sessions have nothing of what the groups are made by."""


class SummaryPage(ListPage):
    """The list is of groups; actions are for all sessions of the one under the cursor."""

    PAGE = "summary"
    TITLE_WORD = "Summary"
    BINDINGS: ClassVar[list[BindingType]] = bindings("summary")

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self.status = Lines()
        self.header = Lines()
        self.divider = Lines()
        self.below = Lines()
        self._by = GROUPINGS[desk.model.grouping]
        self._groups: list[Group] = []
        self._largest = 1
        self._layout: Layout = grouplines.layout(80)
        self._made_at = 0.0
        self._made_of: object = None
        self._carried_at = 0.0
        self._carried: dict[str, tuple[float, float]] = {}

    def compose(self) -> ComposeResult:
        """From top to bottom."""
        yield self.overview
        yield self.status
        yield self.header
        yield self.list
        yield self.divider
        yield self.below
        yield self.footer

    # -- drawing

    def look(self) -> None:
        """Show the groups as they are now; the cursor stays on its group."""
        self._group()
        super().look()
        width = self.size.width
        if not width:
            return
        self._layout = grouplines.layout(max(1, width - 3), len(self.model.views))
        here = plural(len(self.model.views), "session")
        title: Line = [(f"{here} by {self._by.name}", "text")]
        keys = self.desk.keys_of(BY_NAME["group_by"]).split()
        choice = grouplines.choice([*GROUPINGS], self._by.name, keys[0] if keys else "g")
        if width_of(title) + width_of(choice) + 8 > width:
            choice = [*choice[:1], (f"{len(GROUPINGS)} ways", "dim")]
        self.status.show([rule(title, choice, width)])
        self.header.show([[(" ", "dim"), *grouplines.header(self._layout, "GROUP")]])
        self.look_at_list()

    def look_at_list(self) -> None:
        """Show the list, and more of the group under the cursor."""
        super().look_at_list()
        self.divider.show([rule([], [], self.size.width)])
        self._set_bar(self.below, 3 if self.size.height >= TALL else 1)
        self.below.show(self._below())

    def _group(self) -> None:
        """Make the groups anew if sessions have changed, or some time has passed."""
        model = self.model
        made_of = (self._by.name, len(model.views), tuple(sorted(model.lives.items())))
        if made_of == self._made_of and model.meter.now - self._made_at < FRESH:
            return
        here = self._here
        self._made_of, self._made_at = made_of, model.meter.now
        self._groups = groups(model.views.values(), self._by)
        self._carried = {}
        self._largest = max((len(group.sessions) for group in self._groups), default=1)
        values = [group.value for group in self._groups]
        if here is not None and here.value in values:
            self.cursor = values.index(here.value)
        elif here is not None:  # it stays until the cursor leaves it: the next key must not be for another one
            self.cursor = min(self.cursor, len(values))
            self._groups.insert(self.cursor, Group(here.value, here.by, oldest=here.oldest))

    @property
    def _here(self) -> Group | None:
        return self._groups[self.cursor] if self.cursor < len(self._groups) else None

    def _label(self, group: Group) -> str:
        """What a group is called, as it may be shown."""
        if group.value == NOTHING:
            return NOBODY.get(self._by.name, words.DASH)
        view = self.model.views.get(group.sessions[0]) if group.sessions else None
        if view is not None and self.desk.masked and self._by.name in ("user", "reason"):
            shown = self.desk.mask(view)
            return shown.user if self._by.name == "user" else self.desk.mask_text(group.value, view.id)
        return group.value

    def _below(self) -> list[Line]:
        """What the group's sessions have in common, when the next of them is dialled, and the latest about them."""
        group = self._here
        if group is None:
            return []
        views = [self.desk.mask(view) for view in self.targets()]
        parts = [self._label(group), plural(len(group.sessions), "session")]
        retries = [view.retry_at for view in views if view.retry_at is not None]
        if retries:
            parts.append(f"next try in {wait(min(retries) - self.model.meter.now)}")
        told = (group.value, f"{self._by.name} {group.value}")
        parts += [part for part in common(views) if part.casefold() not in map(str.casefold, told)]
        text, latest = " · ".join(parts), self._latest(group)
        if self.size.height < TALL:
            return [[(f" {text}", "strong"), (f" · {latest}" if latest else "", "dim")]]
        room = self.size.width - 2
        lines = [(line, "strong") for line in words.wrap(text, room)]
        lines += [(line, "dim") for line in words.wrap(latest, room)]
        return [[(f" {line}", role)] for line, role in lines]

    def _latest(self, group: Group) -> str:
        """The latest warning or error about one of a group's sessions, since it is as it is."""
        views, members = self.model.views, set(group.sessions)
        for event in reversed(self.desk.log_of_events.grave):
            if event.session in members:
                view = views.get(event.session)
                if view is not None and event.at >= view.since - SAME_MOMENT:
                    return f"{words.clock(event.at)} {self.desk.mask_event(event).text}"
        return ""

    def count(self) -> int:
        """The groups."""
        return len(self._groups)

    def row(self, row: int, width: int) -> Row:
        """One group."""
        group = self._groups[row]
        most = group.lives.most_common(1)
        role = words.LIVES[most[0][0]][1] if most and self._by.name in ("state", "reason") else "strong"
        shown = GroupLine(
            self._label(group),
            len(group.sessions),
            self._largest,
            group.lives,
            group.rtt,
            *self._bits(group),
            group.oldest,
            role,
        )
        return grouplines.line(shown, self._layout, self.model.meter.now), ""

    def _bits(self, group: Group) -> tuple[float, float]:
        """Bits per second received and sent, of the header's moment; added up once for each group that is seen."""
        meter = self.model.meter
        if self._carried_at != meter.now:
            self._carried_at, self._carried = meter.now, {}
        if group.value not in self._carried:
            self._carried[group.value] = meter.together(group.sessions)
        return self._carried[group.value]

    # -- acting

    def targets(self) -> list[SessionView]:
        """The sessions of the group under the cursor, whatever is marked elsewhere."""
        group, views = self._here, self.model.views
        return [views[session] for session in group.sessions if session in views] if group else []

    def move_to(self, row: int) -> None:
        """A group that has lost its sessions goes when the cursor leaves it."""
        empty = self.cursor if self._here and not self._here.sessions else None
        row = max(0, min(row, self.count() - 1))
        if empty is not None and row != empty:
            del self._groups[empty]
            row -= row > empty
        super().move_to(row)

    def do_group_by(self) -> None:
        """Make the groups by the next thing."""
        names = [*GROUPINGS]
        self._by = GROUPINGS[names[(names.index(self._by.name) + 1) % len(names)]]
        self.model.grouping = self._by.name
        self.cursor, self._groups = 0, []
        self.look()

    def do_narrow(self) -> None:
        """Show the group's sessions in the table."""
        group, model = self._here, self.model
        if group is None:
            self.desk.say("There is no session here.", "warning")
            return
        if group.filter:
            model.filter(group.filter)
            model.remember(group.filter)
        else:  # no filter can say it
            model.unmark()
            model.marks |= set(group.sessions)
            model.filter("is:marked")
        self.desk.back_to_sessions()

    def do_first(self) -> None:
        """To the first group."""
        self.move_to(0)
