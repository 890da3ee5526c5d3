"""One session at full length: facts, steps and traffic on the left, the ladder of its control frames on the right."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal

from engine.api import Details, SessionView
from souppp_tui import words
from souppp_tui.actions import bindings
from souppp_tui.paint import Span, rule
from souppp_tui.screens.listing import ListPage
from souppp_tui.traffic import Meter
from souppp_tui.widgets.lines import Lines, Row, Rows

SIDE = 0.55
"""The share of the width for the left part where both parts stand side by side."""
SIDE_MOST = 88
NAME = 19
"""The width of a fact's name."""
GRAPH_HEIGHT = 3


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
            for line in fact_lines(shown, details, self.model.meter, side - 3)
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

        self.app.push_screen(Fields("Copy which line?", usage, choose=True), self._copied)

    def _copied(self, text: str | None) -> None:
        if text:
            self.copy(text)


def fact_lines(view: SessionView, details: Details, meter: Meter, width: int) -> list[list[Span]]:
    """The left part, section by section."""
    lines: list[list[Span]] = []

    def section(title: str) -> None:
        if lines:
            lines.append([])
        lines.append([(f" {title}", "accent")])

    section("negotiated")
    lines.pop()
    wide = max(10, (width - NAME - 2) // 3 - 2)
    names = ("asked", "offered", "agreed")
    lines.append(
        [(" " + words.fit("negotiated", NAME) + " ", "accent"), *((words.fit(n, wide) + "  ", "dim") for n in names)]
    )
    for fact in details.facts:
        cells = (fact.asked, fact.offered, fact.agreed)
        spans: list[Span] = [(" " + words.fit(fact.name, NAME) + " ", "dim")]
        roles = ("dim", "dim", "strong")
        spans += [
            (words.fit(c or words.DASH, wide) + "  ", r if c else "dim") for c, r in zip(cells, roles, strict=True)
        ]
        lines.append(spans)
        if fact.refused:
            lines.append([(" " * (NAME + 2), "dim"), (f"refused: {fact.refused}", "warning")])

    section("session")
    up = words.DASH if view.up_since is None else words.duration(meter.now - view.up_since)
    vlan = f", VLAN {'.'.join(map(str, view.vlans))}" if view.vlans else ""
    known = (
        ("user", view.user),
        ("address", view.ipv4 and (view.ipv4 + (f" (far end {view.ipv4_peer})" if view.ipv4_peer else ""))),
        ("name servers", " ".join(view.dns)),
        ("IPv6", " ".join(part for part in (view.ipv6, view.ipv6_prefix) if part)),
        ("device", view.device and f"{view.device}, MTU {view.mtu}"),
        ("concentrator", view.ac_name and f"{view.ac_name} ({view.ac_mac}){vlan}"),
        ("own MAC", view.local_mac),
        ("session id", None if view.session_id is None else f"{view.session_id:04x}"),
        ("up for", up),
        ("echo", None if view.rtt_ms is None else words.milliseconds(view.rtt_ms)),
        ("flaps", str(view.flaps) if view.flaps else ""),
    )
    lines += [[(" " + words.fit(name, NAME) + " ", "dim"), (value, "text")] for name, value in known if value]

    if details.usage:
        section("use it (y copies)")
        for name, line in details.usage:
            lines += [[(f" {name}", "dim")], [(f"   {line}", "strong")]]

    section("steps")
    for step in details.steps:
        role = "busy" if step.took_ms is None else "text"
        lines.append(
            [(" " + words.fit(step.name, NAME) + " ", "dim"), (f"{words.milliseconds(step.took_ms):>8}", role)]
        )

    received, sent = meter.graph(view.id)
    section("traffic, the last 5 minutes")
    rates = meter.rates(view.id)
    bars = max(10, min(60, width - 18))
    for sign, role, bits, history in (("▼", "rx", rates.rx_bits, received), ("▲", "tx", rates.tx_bits, sent)):
        *above, last = words.graph(history, bars, GRAPH_HEIGHT)
        lines += [[(" " * 17, "dim"), (part, f"{role}bar")] for part in above]
        lines.append([(f" {sign} ", role), (f"{words.rate(bits):>11}   ", "text"), (last, f"{role}bar")])

    if details.timers:
        section("timers")
        lines += [[(" " + words.fit(n, 26), "dim"), (f"{words.wait(left):>8}", "text")] for n, left in details.timers]
    if details.counters:
        section("counters")
        lines += [
            [(" " + words.fit(n, 26), "dim"), (f"{words.count(value):>8}", "text")] for n, value in details.counters
        ]
    return lines
