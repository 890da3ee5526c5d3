"""What all pages have in common: the overview on top, the keys at the bottom, and actions that say why they can't."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import ClassVar

from textual.app import SuspendNotSupported
from textual.binding import BindingType

from engine.api.ending import EndKind
from engine.api.values import Halt, SessionView
from engine.settings.console import OwnCommand
from souppp_tui.desk.actions import BY_NAME, EITHER, GROUPS, STEERED, Action, Command, on_page, signs
from souppp_tui.desk.desk import Desk
from souppp_tui.model.model import LIVE
from souppp_tui.screens.quitting import Quitting
from souppp_tui.show import words
from souppp_tui.show.engines import in_the_way, troubles
from souppp_tui.show.filling import MissingValueError, filled
from souppp_tui.show.overview import alarm_line, overview
from souppp_tui.show.paint import Line, Span, width_of
from souppp_tui.show.themes import NAMES
from souppp_tui.terminal.lending import lend
from souppp_tui.widgets.filter import FilterLine
from souppp_tui.widgets.lines import Lines

UNLISTED = ("commands", "up", "down", "page_up", "page_down", "back")
"""Not worth a line in the palette: they are how one gets around, there too."""
LINES_OF_MESSAGE = 5
"""A message at the bottom takes one of so many lines of the screen at most."""
Targets = Sequence[SessionView]


class Page(Quitting):
    """A whole screen of the console."""

    BLANK = True  # its parts cover it: nothing of its own is to be looked for under each line

    PAGE: ClassVar[str] = ""
    """Its name in the table of actions."""
    TITLE_WORD: ClassVar[str] = ""
    """Its name for the operator."""
    DEFAULT_CSS = "Page { layout: vertical; overflow: hidden; } Page > .bar { height: 1; }"
    BINDINGS: ClassVar[list[BindingType]] = []

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        if self.PAGE in EITHER:
            for key in desk.options.commands:
                self._bindings.bind(key, f"own({key!r})", show=False)
        self.overview = Lines("bar")
        self.footer = Lines("bar")
        self.footer.clicked, self.overview.clicked = self._footer_clicked, self._overview_clicked
        self._in_footer: list[str] = []
        """The actions that stand there."""

    def on_mount(self) -> None:
        """Show what there is at once."""
        self.look()

    def on_screen_resume(self) -> None:
        """Back on top: show what happened meanwhile."""
        self.look()

    def on_screen_suspend(self) -> None:
        """Something is on top of it, which has the keys."""
        self.show_footer()

    def on_descendant_focus(self) -> None:
        """A line to type in has the keys."""
        self.show_footer()

    def on_descendant_blur(self) -> None:
        """They are the page's again."""
        self.call_after_refresh(self.show_footer)

    def on_resize(self) -> None:
        """Other things fit now."""
        self.call_after_refresh(self.look)

    # -- drawing

    def look(self) -> None:
        """Show the latest snapshot. Pages add their own parts."""
        model, desk = self.model, self.desk
        wrong = troubles(self.engines()) if model.several else []
        modes = {"read-only": desk.options.read_only, "safe mode": desk.safe is not None}
        signs = [span for word, so in modes.items() if so for span in (("  ", "text"), (f" {word} ", "chip"))]
        line = overview(model.snapshot, model.totals(), desk.frozen, self.size.width, desk.engine.lost, wrong, signs)
        alarm = alarm_line(desk.log_of_events.alarms, model.meter.now, self.size.width, desk.mask_event)
        self._set_bar(self.overview, 2 if alarm else 1)
        self.overview.show([line, alarm] if alarm else [line])
        self.show_footer()

    @staticmethod
    def _set_bar(bar: Lines, height: int) -> bool:
        """Whether that changes anything."""
        wanted = bar.styles.height
        if wanted is not None and wanted.value == height:
            return False
        bar.styles.height = height
        return True

    def show_footer(self) -> None:
        """The message there is, in as many lines as it takes, else the keys that do something now."""
        self._in_footer = []
        message: list[Line] = []
        if self.desk.message:
            text, role = self.desk.message
            lines = words.wrap(text, self.size.width - 1)
            most = max(1, self.size.height // LINES_OF_MESSAGE)
            if len(lines) > most:
                lines = [*lines[: most - 1], " ".join(lines[most - 1 :])]  # which is cut, with a sign of that
            message = [[(" ", "text"), (line, role)] for line in lines]
        if self._set_bar(self.footer, len(message) or 1):
            self.call_after_refresh(self.look)  # what has the cursor has other lines now
        if message:
            self.footer.show(message)
            return
        if isinstance(self.focused, FilterLine):
            self.footer.show([[(" ", "text"), *_as_keys(self.focused.keys)]])
            return
        if self.desk.doing:
            stop = self.desk.keys_of(BY_NAME["back"]).split() if self.PAGE == "sessions" and self._has_keys else []
            line = self.desk.doing.line(self.model.meter.now, stop[0] if stop else "", self.size.width - 1)
            self.footer.show([[(" ", "text"), (line, "accent")]])
            return
        self.footer.show([self._keys(self.size.width) if self._has_keys else []])

    @property
    def _has_keys(self) -> bool:
        """Whether keys are for this page: nothing is on top of it."""
        return self.app.screen is self

    def _footer_clicked(self, line: int, place: int) -> None:
        """Do what the key under the mouse does."""
        if place > 0 and (place - 1) // 2 < len(self._in_footer):
            self.action_do(self._in_footer[(place - 1) // 2])

    def _overview_clicked(self, line: int, place: int) -> None:
        """An alarm leads to the events."""
        if line > 0:
            self.desk.open("events")

    def _keys(self, width: int) -> list[Span]:
        urgent, targets = _URGENT.get(self.halted, ""), self.targets()
        actions = [
            action
            for action in on_page(self.PAGE)
            if (action.footer or action.name == urgent) and not self.why_not(action, targets)
        ]
        while actions:
            spans: list[Span] = [(" ", "text")]
            self._in_footer = [action.name for action in actions if self.desk.keys_of(action)]
            for action in actions:
                keys = self.desk.keys_of(action).split()
                if keys:
                    spans += _as_keys([(keys[0], self.word(action))])
            if width_of(spans) <= width + 2:
                return spans
            actions.remove(max(reversed(actions), key=lambda action: action.footer))
        return []

    def word(self, action: Action) -> str:
        """The action's word in the footer, as things are now."""
        return "go on" if action.name == _URGENT.get(self.halted) else action.word

    # -- acting

    def why_not(self, action: Action, targets: Targets) -> str:
        """Why the action would do nothing with these targets now; empty if it would do something."""
        if action.changes and self.desk.options.read_only:
            return "The console is read-only."
        steers = action.changes and action.pages in (EITHER, STEERED)
        if steers and self.model.several and (why := self._may_look(targets)):
            return why
        check = _WHY_NOT.get(action.name)
        return check(self, targets) if check else ""

    def _may_look(self, targets: Targets) -> str:
        """Why nothing can be done to the targets, where none of their engines takes commands."""
        names = {place: engine.name for place, engine in enumerate(self.engines()) if not engine.writes}
        asked = {self.model.place(view.id) for view in targets} if names else set()
        if not asked or asked - names.keys():
            return ""
        return f"You may look at {' and '.join(names[place] for place in names if place in asked)}, not command."

    def action_do(self, name: str) -> None:
        """Do an action of the table, or say why that is not possible now."""
        self.desk.say("")
        why = self.why_not(BY_NAME[name], self.targets())
        if why:
            self.desk.say(why, "warning")
        else:
            getattr(self, f"do_{name}")()

    def action_own(self, key: str) -> None:
        """Run a command of the operator's, or say why not."""
        self.desk.say("")
        own = self.desk.options.commands[key]
        if why := self._why_not_own(own):
            self.desk.say(why, "warning")
            return
        view = self.targets()[0]
        try:
            arguments = filled(own.run, view)
        except MissingValueError as error:
            self.desk.say(self.desk.mask_text(str(error), view.id), "warning")
            return
        if own.pane:
            from souppp_tui.screens.output import Output

            self.app.push_screen(Output(f"{own.title or own.run[0]}: {self.desk.mask(view).name}", arguments))
        else:
            self._lend(arguments)

    def _why_not_own(self, own: OwnCommand) -> str:
        if self.desk.options.read_only:
            return "The console is read-only."
        targets = self.targets()
        if len(targets) == 1:
            return self.desk.options.why_not_own(own, self.model.place(targets[0].id) or 0)
        return f"It is for one session, and {len(targets)} are marked." if targets else "There is no session here."

    def _lend(self, arguments: Sequence[str]) -> None:
        try:
            with self.app.suspend():
                status = lend(arguments)
        except SuspendNotSupported:
            self.desk.say("This terminal can't be handed over; `pane: yes` shows it in a box.", "warning")
        except OSError as error:
            self.desk.say(f"{arguments[0]} can't be run: {error.strerror}.", "failed")
        else:
            self.desk.say(f"{arguments[0]} ended with status {status}." if status else "", "warning")
        self.desk.redraw()

    def do_back(self) -> None:
        """To the page before."""
        self.app.pop_screen()

    # -- what can be done here

    def do_help(self) -> None:
        """The keys of this page."""
        from souppp_tui.screens.help import Help

        self.app.push_screen(Help(f"{self.TITLE_WORD}: keys", self.help_lines()))

    def help_lines(self) -> list[Line]:
        """The keys and what they do, in groups; what can't be done with this console is dim."""
        lines: list[Line] = []
        targets = self.targets()
        wide = 2 + max(12, *(len(self.desk.keys_of(action)) for action in on_page(self.PAGE)))
        for group, title in GROUPS.items():
            actions = [a for a in on_page(self.PAGE) if a.group == group and self.desk.keys_of(a)]
            if actions:
                lines += [[], [(title, "accent")]] if lines else [[(title, "accent")]]
            for action in actions:
                why = self.why_not(action, targets) if action.changes else ""
                keys = words.fit(self.desk.keys_of(action), wide)
                lines.append([(keys, "key"), (action.help, "dim" if why else "text")])
        if self.PAGE in EITHER and self.desk.options.commands:
            lines += [[], [("Your own commands", "accent")]]
            for key, own in self.desk.options.commands.items():
                lines.append([(words.fit(signs(key), wide), "key"), (own.title or " ".join(own.run), "text")])
        return lines

    def do_commands(self) -> None:
        """All that can be done here, by name; what is chosen is done when the list has gone."""
        from souppp_tui.screens.palette import Palette

        self.app.push_screen(Palette(list(self.commands())), lambda command: command.run() if command else None)

    def commands(self) -> Iterator[Command]:
        """All that can be done here, and what can't be done now with the reason."""
        targets = self.targets()
        for action in on_page(self.PAGE):
            if action.name not in UNLISTED:
                keys, why = self.desk.keys_of(action), self.why_not(action, targets)
                name = action.name.replace("_", " ")
                yield Command(name, keys, action.help, why, partial(self.action_do, action.name))
        if self.PAGE in EITHER:
            for key, own in self.desk.options.commands.items():
                title, why = own.title or own.run[0], self._why_not_own(own)
                yield Command(title, signs(key), " ".join(own.run), why, partial(self.action_own, key))
        yield from self.safe_commands()
        yield from self.more_commands()
        for name in NAMES:
            yield Command(f"theme {name}", "", "colours", "", partial(self.desk.set_theme, name))

    def more_commands(self) -> Iterator[Command]:
        """What has no key of its own."""
        yield from ()


def _as_keys(pairs: Sequence[tuple[str, str]]) -> list[Span]:
    """Keys and what they do; two spans each."""
    return [span for key, word in pairs for span in ((key, "key"), (f" {word}  ", "dim"))]


_URGENT = {Halt.ALL: "stop_all", Halt.REDIALS: "pause"}
"""What takes back that something is stopped: it stands in the footer meanwhile."""
WAITING = frozenset({str(EndKind.CARD_DOWN), str(EndKind.ALL_STOPPED)})
"""Reasons for which a session is down until they are over."""
_NOBODY = "There is no session here."


def _any(page: Page, targets: Targets) -> str:
    return "" if targets else _NOBODY


def _hang_up(page: Page, targets: Targets) -> str:
    if any(view.state in LIVE or _comes_up(view) for view in targets):
        return ""
    return f"Nothing to hang up: {_they(page, targets)} down." if targets else _NOBODY


def _comes_up(view: SessionView) -> bool:
    """Whether one at rest is dialled by itself: at its time, in its turn, or when what stops it is over."""
    return view.retry_at is not None or view.queued or view.reason in WAITING


def _dial(page: Page, targets: Targets) -> str:
    if any(view.state not in LIVE for view in targets):
        return ""
    return f"Nothing to dial: {_they(page, targets)} not down." if targets else _NOBODY


def _they(page: Page, targets: Targets) -> str:
    if len(targets) == 1:
        return f"{page.desk.mask(targets[0]).name} is"
    return f"all {words.count(len(targets))} sessions are"


def _here(page: Page, targets: Targets) -> str:
    return "" if page.model.cursor is not None else _NOBODY


_WHY_NOT: dict[str, Callable[[Page, Targets], str]] = {
    "dial": _dial,
    "hang_up": _hang_up,
    **dict.fromkeys(("redial", "rotate", "capture", "edit", "remove"), _any),
    **dict.fromkeys(("details", "mark"), _here),
    "unmark": lambda page, _: "" if page.model.marks else "Nothing is marked.",
    "pause": lambda page, _: "All is stopped, redials too: take that back first." if page.halted is Halt.ALL else "",
    "fix_card": lambda page, _: (
        ""
        if any(in_the_way(it.snapshot) for it in page.model.engines())
        else "The card does nothing that is in our way."
    ),
    "reload": lambda page, _: (
        "" if page.desk.options.load or page.desk.options.attached else "There is no configuration file to read again."
    ),
}
