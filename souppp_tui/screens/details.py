"""One session at full length: facts, steps and traffic on the left, the ladder of its control frames on the right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal

from engine.api.values import Details, Event, Fact, SessionView
from souppp_tui.actions import bindings
from souppp_tui.model.model import Model
from souppp_tui.model.traffic import GRAPH_STEP, GRAPH_STEPS, Meter
from souppp_tui.screens.listing import ListPage
from souppp_tui.show import eventlines, words
from souppp_tui.show.paint import Span, rule
from souppp_tui.widgets.lines import Lines, Row, Rows

SIDE = 0.55
"""The share of the width for the left part where both parts stand side by side."""
SIDE_MOST = 88
SOON = 0.05
"""Seconds until details that were asked for a moment ago are looked for again."""
NAME = 14
"""The width of a fact's name, where its section has no longer one."""
NAME_MOST = 26
GAP = 2
GRAPH_NOTE = 21
"""The width of what stands before a graph; it has a line for each of the graph's."""
GRAPH_HEIGHT = 3
GRAPH_LEAST = 10_000.0
"""Bits per second that fill the graph's height at least."""
LATEST = 3
"""Events of the session that are shown."""

Line = list[Span]


class DetailsPage(ListPage):
    """The list with the cursor is the ladder; tab lets the keys scroll the other part."""

    PAGE = "details"
    TITLE_WORD = "Details"
    BINDINGS: ClassVar[list[BindingType]] = bindings("details")
    DEFAULT_CSS = """
    DetailsPage > Horizontal { height: 1fr; }
    DetailsPage Rows { width: 1fr; }
    """

    def __init__(self, session: int) -> None:
        super().__init__()
        self.session = session
        self.title_line = Lines()
        self.facts = Rows(self._fact)
        self.facts.can_focus = False
        self.split = Horizontal()
        self.below = Lines()
        self._details: Details | None = None
        self._lines: list[list[Span]] = []
        self._in_facts = False

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
        details = self.console_app.engine.details(self.session)
        if view is not None and details is None:
            # The engine makes them when it is asked for the first time.
            self.set_timer(SOON, self.look)
            details = Details(self.session)
        if view is None or details is None:
            self.console_app.say("This session is gone.", "warning")
            self.app.pop_screen()
            return
        at_end = self._details is None or self.cursor >= len(self._details.ladder) - 1
        self._details = details
        app = self.console_app
        shown = app.mask(view)
        wide = self.size.width >= 110
        self.split.styles.layout = "horizontal" if wide else "vertical"
        side = min(SIDE_MOST, round(self.size.width * SIDE)) if wide else self.size.width
        self._lines = [
            [(app.mask_text(text, self.session), role) for text, role in line]
            for line in self._sections(shown, details, side - 3)
        ]
        if wide:
            self.facts.styles.width, self.facts.styles.height = side, "1fr"
        else:
            self.facts.styles.width, self.facts.styles.height = (
                "1fr",
                max(4, min(len(self._lines), self.size.height // 2)),
            )
        ladder: list[Span] = [("ladder, newest last", "dim")]
        self.below.display = not wide
        self.title_line.show([rule(self._title(shown), ladder if wide else [], self.size.width)])
        self.below.show([rule(ladder, [], self.size.width)])
        self.facts.sync(len(self._lines))
        if at_end:
            self.cursor = len(details.ladder) - 1
        self.look_at_list()

    def _sections(self, view: SessionView, details: Details, width: int) -> list[Line]:
        """The left part, from what matters most while it is up or while it is not."""
        model, up = self.model, view.up_since is not None
        latest = self.console_app.log_of_events.latest(self.session, LATEST)
        minutes = graph_bars(width) * GRAPH_STEP / 60
        zero = ", since zero" if model.baseline is not None else ""
        zeroed = ", since zero" if self.session in model.baseline_counters else ""
        parts = (
            ("session", session_lines(view, model.meter)),
            ("latest events", event_lines(latest, width)),
            (f"traffic, {minutes:.0f} minutes{zero}", traffic_lines(view, model, width) if up else []),
            ("negotiated  (= as agreed)", fact_lines(details.facts, width)),
            ("steps", table([(s.name, words.milliseconds(s.took_ms)) for s in details.steps], right=True)),
            ("use it  (y copies)", usage_lines(details.usage, width)),
            ("timers", table([(name, words.wait(left)) for name, left in details.timers], right=True)),
            (f"counters{zeroed}", table(self._counters(details), right=True)),
        )
        lines: list[Line] = []
        for title, part in parts:
            if part:
                lines += [[], [(f" {title}", "accent")], *part]
        return lines[1:]

    def _counters(self, details: Details) -> list[tuple[str, str]]:
        """Since they were set to zero here, if they were."""
        before = self.model.baseline_counters.get(self.session, {})
        return [(name, words.count(value - before.get(name, 0))) for name, value in details.counters]

    def do_zero(self) -> None:
        """The session's own counters too."""
        super().do_zero()
        if self.model.baseline is not None and self._details is not None:
            self.model.baseline_counters[self.session] = dict(self._details.counters)
            self.look()

    def _title(self, view: SessionView) -> list[Span]:
        spans: list[Span] = [
            (view.name, "strong"),
            ("  ", "text"),
            (f"{words.glyph(view.state)} ", words.role(view.state)),
        ]
        return [*spans, (words.state(view, self.model.meter.now), words.role(view.state))]

    def _fact(self, row: int, width: int) -> Row:
        return self._lines[row], ""

    def count(self) -> int:
        """The frames of the ladder."""
        return len(self._details.ladder) if self._details else 0

    def row(self, row: int, width: int) -> Row:
        """One frame."""
        assert self._details is not None
        entry = self._details.ladder[row]
        summary = self.console_app.mask_text(entry.summary, self.session)
        return [
            (f"{words.fine_clock(entry.at)}  ", "dim"),
            ("→" if entry.sent else "←", "tx" if entry.sent else "rx"),
            (f"  {summary}", "text"),
        ], ""

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

    def do_fields(self) -> None:
        """All fields of the frame under the cursor."""
        if not self._details or not self._details.ladder:
            self.console_app.say("No frame has been seen yet.", "warning")
            return
        from souppp_tui.screens.fields import Fields

        entry = self._details.ladder[self.cursor]
        hide = self.console_app.mask_text
        fields = [(name, hide(value, self.session)) for name, value in entry.fields]
        self.app.push_screen(Fields(hide(entry.summary, self.session), fields))

    def do_copy(self) -> None:
        """Choose one of the session's lines to copy."""
        view = self.model.views[self.session]
        usage = list(self._details.usage) if self._details else []
        if view.ipv4:
            usage.insert(0, ("address", view.ipv4))
        if not usage:
            self.console_app.say("There is nothing to copy until the session is up.", "warning")
            return
        from souppp_tui.screens.fields import Fields

        shown = [(name, self.console_app.mask_text(line, self.session)) for name, line in usage]

        def chosen(place: int | None) -> None:
            if place is not None:
                self.copy(usage[place][1])

        self.app.push_screen(Fields("Copy which line?", shown, choose=True), chosen)


def table(rows: Sequence[tuple[str, str | None]], right: bool = False) -> list[Line]:
    """Names and values, values below each other; rows without a value are left out. `right` is for numbers."""
    known = [(name, value) for name, value in rows if value]
    wide = min(NAME_MOST, max([NAME, *(len(name) for name, _ in known)]))
    most = max((len(value) for _, value in known), default=0) if right else 0
    return [[(f" {words.fit(name, wide)}  ", "dim"), (value.rjust(most), "text")] for name, value in known]


def session_lines(view: SessionView, meter: Meter) -> list[Line]:
    """What the session has now."""
    vlan = f", VLAN {'.'.join(map(str, view.vlans))}" if view.vlans else ""
    mac = f" ({view.ac_mac})" if view.ac_mac else ""
    return table(
        (
            ("user", view.user),
            ("address", view.ipv4 and (view.ipv4 + (f" (far end {view.ipv4_peer})" if view.ipv4_peer else ""))),
            ("name servers", " ".join(view.dns)),
            ("IPv6", " ".join(part for part in (view.ipv6, view.ipv6_prefix) if part)),
            (
                "device",
                view.device
                and f"{view.device}, MTU {view.mtu}{', in the kernel' if view.datapath == 'kernel' else ''}",
            ),
            ("concentrator", view.ac_name and f"{view.ac_name}{mac}{vlan}"),
            ("own MAC", view.local_mac),
            ("session id", None if view.session_id is None else f"{view.session_id:04x}"),
            ("up for", (view.up_since is not None and words.duration(meter.now - view.up_since)) or None),
            ("echo", None if view.rtt_ms is None else words.milliseconds(view.rtt_ms)),
            ("flaps", str(view.flaps) if view.flaps else None),
        )
    )


def event_lines(events: Sequence[Event], width: int) -> list[Line]:
    """Events in full, oldest first."""
    lines: list[Line] = []
    for event in events:
        first, *more = words.wrap(event.text, width - 11)
        lines.append([(f" {words.clock(event.at)}  ", "dim"), (first, eventlines.ROLES[event.severity])])
        lines += [[(" " * 11, "dim"), (line, eventlines.ROLES[event.severity])] for line in more]
    return lines


def graph_bars(width: int) -> int:
    """How many steps of the history fit."""
    return max(12, min(GRAPH_STEPS, width - GRAPH_NOTE))


def traffic_lines(view: SessionView, model: Model, width: int) -> list[Line]:
    """For each direction the rate now, the highest on the graph and the octets in all, beside the graph."""
    bars, rates = graph_bars(width), model.meter.rates(view.id)
    received, sent = model.octets(view.id)
    histories = model.meter.graph(view.id)
    lines: list[Line] = []
    for sign, role, bits, octets, history in (
        ("▼", "rx", rates.rx_bits, received, histories[0]),
        ("▲", "tx", rates.tx_bits, sent, histories[1]),
    ):
        peak = max([bits, *history[-bars:]])
        notes = (words.rate(bits), "now"), (words.rate(peak), "peak"), (words.rate(octets, "B"), "in all")
        graph = words.graph(history, bars, GRAPH_HEIGHT, GRAPH_LEAST)
        for place, ((value, word), bar) in enumerate(zip(notes, graph, strict=True)):
            lines.append(
                [
                    (f" {'' if place else sign:1} ", role),
                    (f"{value:>9} ", "text" if place == 0 else "dim"),
                    (f"{word:{GRAPH_NOTE - 13}}", "dim"),
                    (bar, f"{role}bar"),
                ]
            )
    return lines


def fact_lines(facts: Sequence[Fact], width: int) -> list[Line]:
    """A line for each fact: what was asked, offered and agreed, and what was refused; `=` is as agreed."""
    if not facts:
        return []

    def short(text: str, agreed: str) -> str:
        return "=" if text and text == agreed else text or words.DASH

    rows = [("", "asked", "offered", "agreed")]
    rows += [(f.name, short(f.asked, f.agreed), short(f.offered, f.agreed), f.agreed or words.DASH) for f in facts]
    name, *columns = shares([max(len(row[place]) for row in rows) for place in range(4)], width - 1 - 3 * GAP)
    lines: list[Line] = []
    for row, fact in zip(rows, [None, *facts], strict=True):
        roles = ("dim", "dim", "dim", "strong" if fact and fact.agreed else "dim")
        gap = " " * GAP
        cells = [words.fit(text, wide) + gap for text, wide in zip(row, [name, *columns], strict=True)]
        lines.append([(" ", "dim"), *zip(cells, roles, strict=True)])
        if fact and fact.refused:
            lines.append([(" " * (1 + name + GAP), "dim"), (f"refused: {fact.refused}", "warning")])
    return lines


def shares(needs: Sequence[int], room: int) -> list[int]:
    """Widths that fit into `room`: as needed, the widest made narrower until they do."""
    widths = list(needs)
    while sum(widths) > room and max(widths) > 1:
        widths[widths.index(max(widths))] -= 1
    return widths


def usage_lines(usage: Sequence[tuple[str, str]], width: int) -> list[Line]:
    """What for, and the command line for it in full."""
    lines: list[Line] = []
    for name, command in usage:
        lines.append([(f" {name}", "dim")])
        lines += [[(f"   {line}", "strong")] for line in words.wrap(command, width - 3)]
    return lines
