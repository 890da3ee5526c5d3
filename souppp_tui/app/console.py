"""The console: looks at the engine twice a second, shows it, and hands over what the operator wants.

    run(engine, ConsoleOptions(...))

Thin on purpose: what is known is in `model`, how it is shown in `show`, the pages in `screens`, what reaches the
terminal in `terminal`. It is the `Desk` of its pages, and alone knows which there are.
"""

from __future__ import annotations

import asyncio
import gc
import os
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, ClassVar, cast

import textual
from rich.console import RenderableType
from textual._compositor import CompositorUpdate
from textual.app import App
from textual.await_complete import AwaitComplete
from textual.binding import Binding, BindingType
from textual.dom import DOMNode
from textual.errors import NoWidget
from textual.events import Event as TextualEvent
from textual.events import Key, MouseDown, MouseEvent, MouseScrollDown, MouseScrollUp, MouseUp, Paste
from textual.screen import Screen
from textual.widgets import Input

from engine.api.commands import Command, Reply, ServiceCommand, Undo, changes_of
from engine.api.engine import EngineApi
from engine.api.values import Event, SessionView
from engine.settings.reload import Change
from souppp_tui.app.eventfile import EventFile
from souppp_tui.desk.actions import BY_NAME, Action, clash, signs
from souppp_tui.desk.options import ConsoleOptions
from souppp_tui.model.doing import Doing
from souppp_tui.model.model import LIVE, EventLog, Model
from souppp_tui.model.several import Several
from souppp_tui.screens.page import Page
from souppp_tui.screens.sessions import SessionsPage
from souppp_tui.show import masking, themes, words
from souppp_tui.show.columns import COLUMNS
from souppp_tui.show.paint import Span
from souppp_tui.terminal.driver import Driver, Shadow
from souppp_tui.terminal.farewell import Farewell
from souppp_tui.terminal.keyboard import standing, worked_off
from souppp_tui.terminal.leaving import Leaving
from souppp_tui.widgets.lines import Lines, Rows

IN_TURN = (Key, Paste, MouseDown, MouseUp, MouseScrollDown, MouseScrollUp)
"""What waits until all before it is worked off."""
MESSAGE_LOOKS = 12
RANKS = ("accent", "warning", "failed")
"""What is said, from what matters least."""
"""For how many looks at the engine a message stays, if no key is pressed."""
TAKING_BACK = 10.0
"""Seconds that the engine has for what was done in safe mode, when the terminal has gone."""
PAGES_TO_COLLECT = 100
"""Pages and questions that are left from one search for their garbage to the next, see `engine.host.promptness`."""


USUAL = ConsoleOptions()


class ConsoleError(Exception):
    """The console cannot run here; the text is one line for the operator."""


class Console(App[bool], inherit_bindings=False):
    """The app; it returns whether the engine is to go on without it."""

    CSS = "Page { background: $background; color: $foreground; }"
    ENABLE_COMMAND_PALETTE = False
    ESCAPE_TO_MINIMIZE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+q,ctrl+c", "leave", show=False),
    ]

    def __init__(
        self,
        engine: EngineApi,
        options: ConsoleOptions = USUAL,
        leaving: Leaving | None = None,
        events: EventFile | None = None,
    ) -> None:
        """It ends when `leaving` is set, keeps `events` up to date. Raises ConsoleError where options make no sense."""
        _check(options)
        colourless = bool(os.environ.get("NO_COLOR"))
        super().__init__(driver_class=Driver, ansi_color=True if colourless else None)
        self.engine = engine
        self._leaving = leaving
        self._left = 0
        """Pages and questions that were."""
        self.options: ConsoleOptions = options
        self.columns = options.columns
        self.model = Model()
        self.model.filters.update(options.filters)
        self.log_of_events = EventLog()
        self.masked = False
        self.times = words.Times.USUAL
        self.frozen = False
        self._event_file = events
        self.message: Span | None = None
        self.shadow = Shadow()
        self._message_looks = 0
        self.doing: Doing | None = None
        self.safe: dict[int | None, int] | None = None
        self.breaks: Sequence[int] = ()
        self._grey = False
        """Whether all is shown in grey, as it may be out of date."""
        self._typed: deque[Key | Paste | MouseEvent] = deque()
        self._typing: asyncio.Task[None] | None = None
        for name in themes.NAMES:
            self.register_theme(themes.theme(name))
        poor = self.console.color_system in (None, "standard") and not self.is_web
        chosen = options.theme if options.theme != "auto" else "ansi" if poor else "dark"
        self.theme = "ansi" if colourless else chosen
        self.set_keymap(dict(options.keys))

    # -- looking at the engine

    def get_default_screen(self) -> Screen[None]:
        """The sessions."""
        self.pull()
        return SessionsPage(self)

    def on_mount(self) -> None:
        """Start looking, and leave in order when told to."""
        if self.options.period:
            self.set_interval(self.options.period, self.tick)
        if not self.is_headless:
            gc.freeze()  # what is there stays: looking through it again and again would hold up the engine's thread
        if self._leaving is not None:
            asyncio.get_running_loop().add_reader(self._leaving, self._leave, self._leaving)

    def _leave(self, leaving: Leaving) -> None:
        asyncio.get_running_loop().remove_reader(leaving)
        self.exit()

    def on_driver_gone(self) -> None:
        """Without a terminal, as when SSH breaks off, nobody can be asked."""
        self.exit()

    def on_driver_caught_up(self) -> None:
        """Draw what the terminal had no room for."""
        if self.screen_stack:
            self.screen.refresh()

    async def on_event(self, event: TextualEvent) -> None:
        """Keys, pasted text and the mouse's buttons wait until those before them are worked off; all else goes its way.

        Else a key behind a click would be for another row than that.
        """
        waits = isinstance(event, IN_TURN) or (isinstance(event, MouseEvent) and bool(self._typed))
        if not waits or event.is_forwarded:
            await super().on_event(event)
            return
        self._typed.append(cast(Key | Paste | MouseEvent, event))
        if self._typing is None or self._typing.done():
            self._typing = asyncio.create_task(self._hand_on())

    async def _hand_on(self) -> None:
        try:
            while self._typed and self._running:
                typed = self._typed.popleft()
                way, stood = self._way(typed), standing(self)
                if await self._acts(typed):
                    way = []
                else:
                    await super().on_event(typed)
                await worked_off(self, way, stood)
        except Exception as error:  # a fault in a task of our own would never be heard of
            self._handle_exception(error)

    def _way(self, typed: Key | Paste | MouseEvent) -> list[DOMNode]:
        """Whom it passes: from what has the focus, or stands under the mouse, to the app."""
        first: DOMNode = self.focused or self.screen
        if isinstance(typed, MouseEvent):
            with suppress(NoWidget):
                first, _ = self.get_widget_at(typed.x, typed.y)
        return list(first.ancestors_with_self)

    async def _acts(self, typed: Key | Paste | MouseEvent) -> bool:
        """Do what a key is bound to, if it is; not where it may be text, or the answer to a question.

        On a page no widget takes keys for itself: it would pass through the queues of all from the table to the app.
        """
        page = self.page
        if not isinstance(typed, Key) or page is None or self.screen is not page or isinstance(self.focused, Input):
            return False
        return page.is_mounted and self.app_focus and await self._check_bindings(typed.key)

    def on_resize(self) -> None:
        """A terminal that changes its size may show anything."""
        self.shadow.forget()
        self.screen.refresh()

    def tick(self) -> None:
        """What happens twice a second."""
        if self.message:
            self._message_looks -= 1
            if self._message_looks <= 0:
                self.message = None
        self.write_events()
        if bool(self.engine.lost) != self._grey:
            self._grey = bool(self.engine.lost)
            self._repaint()
        self.pull()
        self._follow()
        self._look_whether_safe()
        self.look()

    def _look_whether_safe(self) -> None:
        """Safe mode ends with the connection, also with one that is there again: the engine sees to what was done."""
        if self.safe is None or self.breaks == (now := self.engine.breaks):
            return
        for place in [*self.safe]:
            if self.breaks[place or 0] != now[place or 0]:
                del self.safe[place]
        self.safe, self.breaks = self.safe or None, now
        why = "Safe mode ended with the connection: the engine takes back what you did, unless it has ended itself."
        self.say(why, "warning")

    def _follow(self) -> None:
        """See how far what was begun has come; where it ends is said as it came out."""
        doing, now = self.doing, self.model.meter.now
        if doing is not None and not doing.look(self.model.views, now):
            self.doing = None
            if len(doing.before) > 1:
                self.say(doing.line(now, "", self.size.width - 1))

    def pull(self) -> None:
        """Take the engine's latest snapshot and events."""
        if self.frozen:
            return
        snapshot = self.engine.snapshot()
        self.model.take(snapshot)
        if snapshot.events > self.log_of_events.seq:
            events, lost = self.engine.events_since(self.log_of_events.seq)
            self.log_of_events.take(events, lost)

    def write_events(self) -> None:
        """Bring the event file up to date, if there is one."""
        if self._event_file is not None and (news := self._event_file.write()):
            self.say(news, "failed" if self._event_file.failing else "accent")

    @property
    def page(self) -> Page | None:
        """The page on the screen, also when a question lies over it."""
        return next((screen for screen in reversed(self.screen_stack) if isinstance(screen, Page)), None)

    def look(self) -> None:
        """Show what is known."""
        page = self.page
        if page is not None and page.is_mounted:
            page.look()

    def open(self, page: str, session: int | None = None) -> None:
        """Open a page on top; one of the same kind, and what lies on it, is left first: pages do not pile up."""
        made = self._make(page, session)
        kinds = [type(screen) for screen in self.screen_stack]
        if type(made) in kinds:
            for _ in range(len(kinds) - kinds.index(type(made))):
                self.pop_screen()
        self.push_screen(made)

    def pop_screen(self) -> AwaitComplete:
        """See `App.pop_screen`."""
        self._left += 1
        if self._left % PAGES_TO_COLLECT == 0:
            gc.collect()
        return super().pop_screen()

    def _make(self, page: str, session: int | None) -> Page:
        """A page by its word. They are imported when they are wanted: the first one must not wait for them."""
        if page == "details" and session is not None:
            from souppp_tui.screens.details import DetailsPage

            return DetailsPage(self, session)
        if page == "card":
            from souppp_tui.screens.card import CardPage

            return CardPage(self)
        if page == "summary":
            from souppp_tui.screens.summary import SummaryPage

            return SummaryPage(self)
        if page == "events":
            from souppp_tui.screens.events import EventsPage

            return EventsPage(self)
        if page == "actions":
            from souppp_tui.screens.actionlog import ActionsPage

            return ActionsPage(self)
        raise ValueError(f"there is no page {page}")

    def back_to_sessions(self) -> None:
        """Leave all pages but the first."""
        while len(self.screen_stack) > 1:
            self.pop_screen()
        self.look()

    # -- for the pages

    @property
    def palette(self) -> themes.Palette:
        """The styles in force."""
        return themes.greyed(self.theme) if self._grey else themes.palette(self.theme)

    def set_theme(self, name: str) -> None:
        """Change all colours."""
        self.theme = name
        self._repaint()

    def _repaint(self) -> None:
        for screen in self.screen_stack:
            for widget in screen.query("Lines, Rows").results(Lines | Rows):  # type: ignore[arg-type]
                widget.refresh()
                widget.redraw()

    def next_theme(self) -> str:
        """Change all colours to those of the next theme; returns its name."""
        names = themes.NAMES
        self.set_theme(names[(names.index(self.theme) + 1) % len(names)])
        return self.theme

    def keys_of(self, action: Action) -> str:
        """The keys of an action as the operator knows them."""
        return signs(self.options.keys.get(action.name, action.keys))

    def say(self, text: str, role: str = "accent") -> None:
        """Show a message in place of the keys, until the next key; an empty text takes it away.

        What went wrong is not pushed aside by what went well before anyone could read it.
        """
        if text and self.message and RANKS.index(role) < RANKS.index(self.message[1]):
            return
        if not (text or self.message):
            return
        self.message = (text, role) if text else None
        self._message_looks = MESSAGE_LOOKS
        if self.page is not None and self.page.is_mounted:
            self.page.show_footer()

    def submit(
        self, command: Command | ServiceCommand, told: Callable[[Reply], None], place: int | None = None
    ) -> None:
        """See `Desk.submit`; `told` is called when keys pressed before are done."""
        engine = self.engine
        reply = engine.submit(command, place) if isinstance(engine, Several) else engine.submit(command)
        reply.add_done_callback(lambda future: self.call_later(told, future.result()))

    def mask(self, view: SessionView) -> SessionView:
        """The session as it may be shown."""
        return masking.view(view) if self.masked else view

    def mask_event(self, event: Event) -> Event:
        """The event as it may be shown."""
        return masking.event(event, self.model.views) if self.masked else event

    def mask_text(self, text: str, session: int | None) -> str:
        """A text about a session as it may be shown."""
        return (
            masking.text(text, self.model.views.get(session) if session is not None else None) if self.masked else text
        )

    def save(self, changes: Sequence[Change]) -> None:
        """Write changes to the configuration file, if there is one."""
        if self.options.save is None or not changes:
            return
        try:
            self.options.save(changes)
        except (OSError, ValueError) as error:
            self.say(f"Not written to the configuration: {error}", "failed")

    def name_filter(self, name: str, written: str | None) -> None:
        """See `Desk.name_filter`."""
        filters, save = self.model.filters, self.options.save_filter
        if written is None:
            filters.pop(name, None)
            self.say(f"@{name} is forgotten.")
        else:
            filters[name] = written
            where = "also in the configuration" if save else "until you leave: there is no configuration file"
            self.say(f"@{name} stands for this filter, {where}.")
        if save is not None:
            try:
                save(name, written)
            except (OSError, ValueError) as error:
                self.say(f"Not written to the configuration: {error}", "failed")

    def take_back(self) -> None:
        """Undo what was done in safe mode, as the terminal has gone; nobody is told but the event log.

        Engines elsewhere do it themselves.
        """
        if self.safe is None or self.options.attached:
            return
        steps, self.safe = self.safe, None
        engine, before = self.engine, {key: it.name for key, it in self.engine.all_settings().items()}
        for place, number in steps.items():
            undo = Undo(number, own=True)
            with suppress(TimeoutError):
                future = engine.submit(undo, place) if isinstance(engine, Several) else engine.submit(undo)
                self.save(changes_of(future.result(TAKING_BACK).done, before, engine.settings))

    def action_leave(self) -> None:
        """From anywhere."""
        page = self.page
        if page is not None and self.screen is page:
            page.do_quit()

    # -- the terminal

    def redraw(self) -> None:
        """Write the whole screen, whatever the terminal shows."""
        self.shadow.forget()
        self.screen.refresh(layout=True)
        if self._driver is not None and not self.is_headless:
            self._driver.write("\x1b[2J")

    def _fatal_error(self) -> None:
        """A crash shows where it was, but never the values at hand: one may be a password (replaces Textual's own)."""
        from rich.traceback import Traceback

        self._exit_renderables.append(Traceback(show_locals=False, width=None, suppress=[textual]))
        self._close_messages_no_wait()

    def _display(self, screen: Screen[Any], renderable: RenderableType | None) -> None:
        """Write only what differs from what the terminal shows (replaces Textual's own)."""
        if self.is_headless or not isinstance(renderable, CompositorUpdate):
            super()._display(screen, renderable)
            return
        if not self._running or self._closed or self._batch_count or not isinstance(self._driver, Driver):
            return
        if not self._driver.keeps_up():
            return
        text = self.shadow.update(renderable, self.console)
        if text:
            self._begin_update()
            self._driver.write(text)
            self._end_update()
            self._driver.flush()
        self.post_display_hook()


def _check(options: ConsoleOptions) -> None:
    if options.theme not in (*themes.NAMES, "auto"):
        raise ConsoleError(f"There is no theme `{options.theme}`; there are {', '.join(themes.NAMES)}.")
    for key in options.columns:
        if key not in COLUMNS:
            raise ConsoleError(f"There is no column `{key}`; there are {', '.join(COLUMNS)}.")
    for name in options.keys:
        if name not in BY_NAME:
            raise ConsoleError(f"There is no action `{name}` to give a key to; there are {', '.join(BY_NAME)}.")
    if wrong := clash(options.keys, options.commands):
        raise ConsoleError(f"{wrong}.")


def run(
    engine: EngineApi,
    options: ConsoleOptions = USUAL,
    stop: Callable[[], None] = lambda: None,
    leaving: Leaving | None = None,
    events: EventFile | None = None,
) -> bool:
    """Show the console until the operator leaves, the terminal goes or `leaving` is set; then `stop` the engine.

    Returns whether the operator wants it to go on, in which case it was not stopped; not after a fault. A signal sets
    `leaving`, also one that comes before there is a console. Raises ConsoleError.
    """
    if os.environ.get("TERM", "dumb") in ("", "dumb", "unknown"):
        raise ConsoleError("This terminal cannot place text on its screen (TERM is dumb). Set TERM, or use --headless.")
    app = Console(engine, options, leaving, events)
    goes_on = app.run(mouse=options.mouse)
    app.take_back()
    if goes_on and not (leaving and leaving.is_set()):
        return True
    ends = not options.attached
    with Farewell(lambda: sum(view.state in LIVE for view in engine.snapshot().sessions) if ends else 0):
        stop()
    app.write_events()
    if app.return_code:
        raise ConsoleError("The console stopped because of a fault of its own, which stands above.")
    return False
